"""The only place where clocks are aligned: seconds <-> frame <-> cell <-> window.

Time 0 is the start of the medium's presentation (`media.py`). The grid is global: cell i covers
[0.5 i, 0.5 (i + 1)) seconds and is represented by its centre, so that windows that overlap share their
cells and a frame is encoded once however many windows see it (`docs/method.md`, settled 1). All functions
work on NumPy arrays and know nothing of media or models.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

CELL_S: Final = 0.5
"""Length of a cell in seconds: 20 cells in the paper's 10 s window (F4)."""

_SLACK_S: Final = 1e-6
"""Durations come from integer clocks; this much rounding must not add a cell."""


def num_cells(duration_s: float) -> int:
    """Count the cells that a clip of `duration_s` seconds touches; at least 1 for a positive duration.

    Raises:
        ValueError: The duration is not positive and finite.
    """
    if not (math.isfinite(duration_s) and duration_s > 0):
        raise ValueError(f"duration must be positive and finite, not {duration_s}")
    return max(1, math.ceil((duration_s - _SLACK_S) / CELL_S))


def cell_centers(count: int) -> NDArray[np.float64]:
    """Give the centres of the first `count` cells, in seconds: 0.25, 0.75, ..."""
    return (np.arange(count, dtype=np.float64) + 0.5) * CELL_S


def is_presented(frame_time_s: float, time_s: float) -> bool:
    """Say whether a frame presented at `frame_time_s` has appeared by `time_s`, both in seconds."""
    # The slack keeps a frame whose time was rounded up in the last digit of an integer clock.
    return frame_time_s <= time_s + _SLACK_S


def frame_at(frame_time_s: NDArray[np.float64], time_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Find the frame that is on screen at each time: the last that `is_presented` by then (settled 1).

    Args:
        frame_time_s: float64 [frames], presentation times in seconds, ascending.
        time_s: float64 [times], seconds.

    Returns:
        int64 [times], index of the frame; -1 before the first frame.
    """
    return np.searchsorted(frame_time_s, time_s + _SLACK_S, side="right").astype(np.int64) - 1


def times_after(last_s: float, later: NDArray[np.int64], *, step_s: float) -> NDArray[np.float64]:
    """Give the times of frames that a medium does not have, `later` frames after its last one, all in seconds.

    Annotations and sample files may list more frames than a video has; they keep their place on its clock.
    """
    return last_s + step_s * later.astype(np.float64)


def cells_in(length_s: float, *, name: str) -> int:
    """Convert a window or stride in seconds to whole cells.

    Raises:
        ValueError: It is not a positive multiple of half a second; `name` says which.
    """
    count = round(length_s / CELL_S)
    if count < 1 or abs(count * CELL_S - length_s) > _SLACK_S:
        raise ValueError(f"{name} must be a positive multiple of {CELL_S} s, not {length_s}")
    return count


def num_windows(duration_s: float, *, window_s: float, stride_s: float) -> int:
    """Count the windows, starting at 0, stride, 2 stride, ..., needed until one reaches the clip's end."""
    window, stride = cells_in(window_s, name="window"), cells_in(stride_s, name="stride")
    return max(0, math.ceil((num_cells(duration_s) - window) / stride)) + 1


def window_starts(duration_s: float, *, window_s: float, stride_s: float) -> NDArray[np.float64]:
    """Give the start of every window in seconds, float64 [windows]; together they cover every cell."""
    count = num_windows(duration_s, window_s=window_s, stride_s=stride_s)
    return np.arange(count, dtype=np.float64) * stride_s


def window_cells(duration_s: float, *, window_s: float, stride_s: float) -> NDArray[np.int64]:
    """Give the cells of every window, int64 [windows, steps]; -1 pads beyond the clip's end."""
    window, stride = cells_in(window_s, name="window"), cells_in(stride_s, name="stride")
    starts = np.arange(num_windows(duration_s, window_s=window_s, stride_s=stride_s)) * stride
    cells = starts[:, None] + np.arange(window)
    return np.where(cells < num_cells(duration_s), cells, -1).astype(np.int64)


def cells_of_steps(valid: NDArray[np.bool_], cells: NDArray[np.int64], *, count: int) -> NDArray[np.bool_]:
    """Say of each cell of a clip whether any window has a valid step there: the cell that holds the step's middle.

    Args:
        valid: bool [W, S], the steps of each window; S need not be the window's number of cells.
        cells: int64 [W, T], cells of each window; those outside [0, count) are padding.
        count: Cells of the clip.

    Returns:
        bool [count].
    """
    steps = valid.shape[1]
    at = cells[:, ((np.arange(steps) + 0.5) * cells.shape[1] / max(steps, 1)).astype(np.int64)]
    found = np.zeros(count, np.bool_)
    found[at[valid & (at >= 0) & (at < count)]] = True
    return found
