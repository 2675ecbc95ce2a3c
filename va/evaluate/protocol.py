"""From predictions on windows to the two figures that are always reported side by side (settled 6).

`abaw` is the official score: a prediction for every annotated frame. Overlapping windows are averaged per cell
(`average_windows`) and read off at every frame's time (`cells_to_frames`). `paper` is the release's: one prediction
per full window, at its end frame (R2). Both pool all clips before the CCC and resample clips for the interval.

Pure NumPy, because validation in training uses the same functions as the final score. Without any valid
label the figures are NaN and the counts zero: only the caller knows whether that is a mistake.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from va.evaluate import intervals, metrics
from va.evaluate.metrics import BoolArray, FloatArray

IntArray = npt.NDArray[np.int64]


class Figure(TypedDict):
    """A figure and its 95% interval (bootstrap over clips); NaN where undefined."""

    value: float
    low: float
    high: float


class Score(TypedDict):
    """What both protocols answer.

    `num_frames` counts the points that entered the CCC (frames under `abaw`, window ends under `paper`),
    `num_clips` the clips that have one. `coverage`, in [0, 1] or NaN, is under `abaw` the share of validly
    labelled frames that have a prediction, and under `paper` the share of full windows whose end frame has
    a valid label. `filled`, in [0, 1] or NaN, is the share of validly labelled frames whose prediction is not of
    their own but filled in (`assemble.frames_from_series`); 0 under `paper`, which fills nothing.
    """

    ccc_valence: Figure
    ccc_arousal: Figure
    ccc_mean: Figure
    coverage: float
    filled: float
    num_frames: int
    num_clips: int


@dataclass(frozen=True, eq=False)
class ClipFrames:
    """One clip, frame by frame, for the `abaw` protocol; ValueError where shapes do not fit each other.

    Args:
        id: The clip's name.
        time_s: Presentation time of each annotated frame, float64 [F].
        prediction: (valence, arousal), float64 [F, 2]; anything where not covered.
        target: (valence, arousal), float64 [F, 2]; anything where not valid.
        valid: The label is one (not -5), bool [F].
        covered: There is a prediction, bool [F].
        filled: There is one, but a filled one and not the frame's own, bool [F]; never where not covered.
    """

    id: str
    time_s: FloatArray
    prediction: FloatArray
    target: FloatArray
    valid: BoolArray
    covered: BoolArray
    filled: BoolArray

    def __post_init__(self) -> None:
        _check_steps(self.id, self.time_s, self.prediction, self.target, self.valid, self.covered, self.filled)
        if (self.filled & ~self.covered).any():
            raise ValueError(f"{self.id}: a frame without a prediction cannot be a filled one")


@dataclass(frozen=True, eq=False)
class ClipWindows:
    """One clip's full windows, for the `paper` protocol; ValueError where shapes do not fit each other.

    Args:
        id: The clip's name.
        end_time_s: Time of each full window's end frame, float64 [W].
        prediction: (valence, arousal) at that frame, float64 [W, 2].
        target: Its label, float64 [W, 2]; anything where not valid.
        valid: The label is one (not -5), bool [W].
    """

    id: str
    end_time_s: FloatArray
    prediction: FloatArray
    target: FloatArray
    valid: BoolArray

    def __post_init__(self) -> None:
        _check_steps(self.id, self.end_time_s, self.prediction, self.target, self.valid)


def average_windows(values: FloatArray, cells: IntArray, num_cells: int) -> tuple[FloatArray, BoolArray]:
    """Average what overlapping windows say about the same cell.

    Args:
        values: Predictions per window and step, float [W, T, K].
        cells: The cell of each step, integer [W, T] in [-1, num_cells); -1 is padding, whose values are
            never looked at.
        num_cells: Cells of the clip (C).

    Returns:
        The means, float64 [C, K] (NaN where no window reaches), and whether any window does, bool [C].

    Raises:
        ValueError: The shapes do not fit, or a cell is out of range.

    Source: settled 6.
    """
    values, cells = np.asarray(values, dtype=np.float64), np.asarray(cells)
    if values.ndim != 3 or cells.shape != values.shape[:2]:
        raise ValueError(f"expected values [W, T, K] and cells [W, T], got {values.shape} and {cells.shape}")
    if cells.size and (cells.min() < -1 or cells.max() >= num_cells):
        raise ValueError(f"a cell is outside [-1, {num_cells}): {cells.min()} to {cells.max()}")
    reached = cells >= 0
    means = np.zeros((num_cells, values.shape[2]))
    np.add.at(means, cells[reached], values[reached])
    counts = np.bincount(cells[reached], minlength=num_cells)
    covered = counts > 0
    means[covered] /= counts[covered, None]
    means[~covered] = np.nan
    return means, covered


def cells_to_frames(
    cell_values: FloatArray, covered: BoolArray, centers_s: FloatArray, frame_time_s: FloatArray
) -> tuple[FloatArray, BoolArray]:
    """Read per-cell values off at every frame's time, linearly between covered cell centres.

    Before the first and after the last covered centre the nearest one's value is held; a gap between two
    covered cells is bridged. So either every frame is covered or, without any covered cell, none is.

    Args:
        cell_values: Values per cell, float [C, K]; never looked at where not covered.
        covered: Cells that have a value, bool [C].
        centers_s: Increasing cell centres in seconds, float [C].
        frame_time_s: Frame times in seconds, float [F], evenly spaced or not.

    Returns:
        Values per frame, float64 [F, K] (NaN where not covered), and whether covered, bool [F].

    Raises:
        ValueError: The shapes do not fit, the centres do not increase, or a frame time is not finite.

    Source: settled 6.
    """
    values, covered = _check_cells(cell_values, covered)
    centers_s, frame_time_s = np.asarray(centers_s, dtype=np.float64), np.asarray(frame_time_s, dtype=np.float64)
    if centers_s.shape != covered.shape or (np.diff(centers_s) <= 0).any():
        raise ValueError(f"expected {len(covered)} increasing cell centres, got {centers_s.shape}")
    if frame_time_s.ndim != 1 or not np.isfinite(frame_time_s).all():
        raise ValueError("expected finite frame times [F]")
    frames = np.full((len(frame_time_s), values.shape[1]), np.nan)
    if covered.any():
        for column in range(values.shape[1]):
            frames[:, column] = np.interp(frame_time_s, centers_s[covered], values[covered, column])
    return frames, np.full(len(frame_time_s), covered.any())


def score_abaw(clips: Sequence[ClipFrames], *, resamples: int, seed: int) -> Score:
    """Score every validly labelled and covered frame of all clips, concatenated.

    Valid frames without a prediction are left out of the CCC and lower `coverage`: a figure with coverage
    below 1 is not the official score, and a report must say so.

    Args:
        clips: One per annotated clip of the split.
        resamples: Bootstrap resamples of clips for the interval; >= 1.
        seed: Of the resampling.

    Returns:
        The score; NaN figures where nothing can be scored.

    Raises:
        ValueError: A prediction or target that counts is not finite.

    Source: settled 6.
    """
    return _score(
        [clip.prediction for clip in clips],
        [clip.target for clip in clips],
        [clip.valid & clip.covered for clip in clips],
        num_expected=sum(int(clip.valid.sum()) for clip in clips),
        num_filled=sum(int((clip.valid & clip.filled).sum()) for clip in clips),
        resamples=resamples,
        seed=seed,
    )


def score_paper(clips: Sequence[ClipWindows], *, resamples: int, seed: int) -> Score:
    """Score one prediction per full window, at its end frame, over all clips.

    Args:
        clips: One per annotated clip of the split; one shorter than a window has zero rows.
        resamples: Bootstrap resamples of clips for the interval; >= 1.
        seed: Of the resampling.

    Returns:
        The score; NaN figures where nothing can be scored.

    Raises:
        ValueError: A prediction or target that counts is not finite.

    Source: R2, settled 6.
    """
    return _score(
        [clip.prediction for clip in clips],
        [clip.target for clip in clips],
        [clip.valid for clip in clips],
        num_expected=sum(len(clip.valid) for clip in clips),
        num_filled=0,
        resamples=resamples,
        seed=seed,
    )


def _score(
    predictions: list[FloatArray],
    targets: list[FloatArray],
    scored: list[BoolArray],
    *,
    num_expected: int,
    num_filled: int,
    resamples: int,
    seed: int,
) -> Score:
    """Pool the scored points of all clips; coverage is their share of `num_expected`, as is that of the filled."""
    sums = intervals.clip_statistics(predictions=predictions, targets=targets, masks=scored)
    bounds = intervals.bootstrap_ccc(sums, resamples=resamples, seed=seed)
    # The point figures come from the plain metric; the sums only serve the resamples.
    values = metrics.ccc_over_clips(predictions=predictions, targets=targets, masks=scored)
    num_points = sum(int(mask.sum()) for mask in scored)
    valence, arousal, mean = (
        Figure(value=value, low=float(low), high=float(high)) for value, (low, high) in zip(values, bounds, strict=True)
    )
    return Score(
        ccc_valence=valence,
        ccc_arousal=arousal,
        ccc_mean=mean,
        coverage=num_points / num_expected if num_expected else float("nan"),
        filled=num_filled / num_expected if num_expected else float("nan"),
        num_frames=num_points,
        num_clips=sum(bool(mask.any()) for mask in scored),
    )


def _check_cells(cell_values: FloatArray, covered: BoolArray) -> tuple[FloatArray, BoolArray]:
    """Check values [C, K] and their boolean cover [C]."""
    values, cover = np.asarray(cell_values, dtype=np.float64), np.asarray(covered)
    if values.ndim != 2 or cover.dtype != np.bool_ or cover.shape != values.shape[:1]:
        raise ValueError(f"expected values [C, K] and bool [C], got {values.shape}, {cover.dtype} {cover.shape}")
    return values, cover


def _check_steps(name: str, time_s: FloatArray, prediction: FloatArray, target: FloatArray, *masks: BoolArray) -> None:
    """Check that a clip's arrays describe the same steps."""
    steps = np.shape(time_s)
    if len(steps) != 1 or not (prediction.shape == target.shape == (*steps, 2)):
        raise ValueError(f"{name}: times {steps}, predictions {prediction.shape}, targets {target.shape}")
    if not all(mask.dtype == np.bool_ and mask.shape == steps for mask in masks):
        raise ValueError(f"{name}: expected boolean masks of shape {steps}, got {[mask.shape for mask in masks]}")
