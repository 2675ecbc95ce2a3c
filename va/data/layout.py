"""Where windows lie over clips, and what is to be said in them, before any feature is read. NumPy only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from va.data import timeline
from va.data.corpus import Clip, Corpus, Truth


@dataclass(frozen=True, kw_only=True)
class ClipSpan:
    """Where a clip lies among all windows and cells.

    Args:
        clip: The clip.
        cells: Number of its cells.
        windows: Slice of its windows.
        end_time_s: Time of each window's end, float64 tuple; the clip's end for a padded window.
        full: Whether each window lies wholly inside the clip.
    """

    clip: Clip
    cells: int
    windows: slice
    end_time_s: tuple[float, ...]
    full: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Windows and labels of some clips, without features.

    Args:
        spans: One per clip, in order.
        cells: int64 [windows, T], cells counted through all clips, -1 for padding.
        local_cells: int64 [windows, T], counted from their clip's start, -1 for padding.
        target: float32 [cells or windows, 2].
        target_valid: bool, same rows as `target`.
        at_end: Whether targets are window ends instead of cells (settled 4).
    """

    spans: tuple[ClipSpan, ...]
    cells: NDArray[np.int64]
    local_cells: NDArray[np.int64]
    target: NDArray[np.float32]
    target_valid: NDArray[np.bool_]
    at_end: bool


def lay_out(corpus: Corpus, clips: Sequence[Clip], *, window_s: float, stride_s: float, at_end: bool) -> Layout:
    """Lay windows over clips and read their labels.

    Args:
        corpus: Gives the labels.
        clips: At least one.
        window_s: Window length in seconds.
        stride_s: Window distance in seconds.
        at_end: One target per window, at its end, instead of one per cell (settled 4).

    Raises:
        VAError: A clip's labels cannot be read.
    """
    rest: list[tuple[NDArray[Any], ...]] = []
    spans: list[ClipSpan] = []
    first_cell = first_window = 0
    for clip in clips:
        cells = timeline.window_cells(clip.duration_s, window_s=window_s, stride_s=stride_s)
        centers = timeline.cell_centers(timeline.num_cells(clip.duration_s))
        starts = timeline.window_starts(clip.duration_s, window_s=window_s, stride_s=stride_s)
        ends = np.minimum(starts + window_s, clip.duration_s)
        spans.append(
            ClipSpan(
                clip=clip,
                cells=len(centers),
                windows=slice(first_window, first_window + len(cells)),
                end_time_s=tuple(ends.tolist()),
                full=tuple((cells[:, -1] >= 0).tolist()),
            )
        )
        rows = np.where(cells < 0, -1, cells + first_cell)
        rest.append((*_targets(corpus.truth(clip), ends if at_end else centers), rows, cells))
        first_cell, first_window = first_cell + len(centers), first_window + len(cells)
    target, target_valid, rows, local_cells = map(np.concatenate, zip(*rest, strict=True))
    return Layout(
        spans=tuple(spans),
        cells=rows,
        local_cells=local_cells,
        target=target,
        target_valid=target_valid,
        at_end=at_end,
    )


def _targets(truth: Truth, time_s: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read the annotation at some times: the label of the frame on screen; invalid beyond the annotation."""
    index = timeline.frame_at(truth.time_s, time_s)
    there = (index >= 0) & (time_s - truth.time_s[index] < timeline.CELL_S)
    valid = there & truth.valid[index]
    return np.where(valid[:, None], truth.va[index], np.float32(0)), valid
