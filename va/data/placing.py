"""From an annotation's numbers to labels on the clock of their medium: scales, two axes as one, and times."""

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from va.data import timeline
from va.data.corpus import Truth
from va.data.media import MediaInfo
from va.errors import VAError

Labels: TypeAlias = Callable[[MediaInfo], Truth]
"""Lays an annotation on the clock of its medium; may raise VAError."""


def by_frame(va: NDArray[np.float32], valid: NDArray[np.bool_]) -> Labels:
    """Label i belongs to frame i; surplus ones keep their place on the clock, at the mean distance of frames.

    So every annotated frame can be scored, although annotations are some frames longer or shorter than videos.

    Args:
        va: float32 [frames, 2].
        valid: bool [frames].
    """

    def labels(info: MediaInfo) -> Truth:
        time_s = info.frame_time_s
        surplus = len(va) - len(time_s)
        if surplus > 0:
            step_s = (info.duration_s - time_s[0]) / len(time_s)
            later = timeline.times_after(time_s[-1], np.arange(1, surplus + 1), step_s=step_s)
            time_s = np.concatenate([time_s, later])
        return Truth(time_s=time_s[: len(va)], va=va, valid=valid)

    return labels


def by_time(time_s: NDArray[np.float64], va: NDArray[np.float32], valid: NDArray[np.bool_]) -> Labels:
    """Labels stand at times of their own, and stay there: nothing is resampled.

    The `abaw` protocol scores a prediction for each annotated time, whatever their distance; a value between two of
    them would be a label that nobody gave. The `paper` protocol and training take for a cell the last label of the half
    second before it, so labels at 2 Hz or more reach every cell.

    Args:
        time_s: float64 [labels], increasing, in seconds from the start of the video. Most must be before its end, or
            they are in another unit or about another video.
        va: float32 [labels, 2].
        valid: bool [labels].
    """

    def labels(info: MediaInfo) -> Truth:
        if np.median(time_s) > info.duration_s:
            raise VAError(
                f"its labels reach to {time_s[-1]:g} s and the video ends at {info.duration_s:g} s",
                "Times are in seconds from the start of the video.",
            )
        return Truth(time_s=time_s, va=va, valid=valid)

    return labels


def constant(va: NDArray[np.float32], valid: bool) -> Labels:
    """One label for the whole clip: each frame of the video has it.

    Args:
        va: float32 [2].
        valid: Whether it is one.
    """

    def labels(info: MediaInfo) -> Truth:
        frames = len(info.frame_time_s)
        return Truth(
            time_s=info.frame_time_s,
            va=np.tile(va if valid else np.zeros(2, np.float32), (frames, 1)),
            valid=np.full(frames, valid),
        )

    return labels


UNLABELLED: Final = constant(np.zeros(2, np.float32), False)
"""A test clip, whose annotation nobody holds."""


def on_scale(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Map a scale linearly to [-1, 1]: `low` to -1, `high` to 1; NaN stays NaN.

    Raises:
        VAError: A value is off the scale; its position, from 1, is named.
    """
    off = np.flatnonzero((values < low) | (values > high))
    if len(off):
        raise VAError(
            f"value {off[0] + 1} is {values[off[0]]:g}, off the scale {low:g}..{high:g}",
            "Correct it, or give the scale that the labels are on.",
        )
    return values if (low, high) == (-1, 1) else (values - low) * (2 / (high - low)) - 1


def arrays(valence: NDArray[np.float64], arousal: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Join two axes: float32 [labels, 2], 0 where either is NaN, and bool [labels], False there."""
    both = np.stack([valence, arousal], axis=-1)
    valid = np.asarray(np.isfinite(both).all(axis=-1), np.bool_)
    return np.where(valid[..., None], both, 0).astype(np.float32), valid


def one(value: float) -> NDArray[np.float64]:
    """Give a single value as float64 [1]."""
    return np.array([value], np.float64)
