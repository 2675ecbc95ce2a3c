"""Predictions of one clip's windows, or cells, laid on its annotated frames: what `protocol.py` scores. NumPy only.

Two steps: what was predicted becomes a series in time (`series_from_windows` -> `ClipSeries`), which can be smoothed
or looked at, and a series is read off at the frames (`frames_from_series`), which says of every frame whether its
prediction is its own. Like `metrics.py` and `protocol.py` it is a leaf that training imports too, so that validation
in each epoch is the same code as the final score.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from va.data import timeline
from va.data.corpus import Truth
from va.evaluate import protocol
from va.evaluate.protocol import ClipFrames, ClipWindows

Fill = Literal["nearest", "interpolate", "none"]
FILLS: Final[tuple[Fill, ...]] = get_args(Fill)
"""How a frame without a prediction of its own gets one (`frames_from_series`)."""

_SLACK_S: Final = 1e-6  # of times that were rounded in the last digit of an integer clock


@dataclass(frozen=True, eq=False)
class ClipSeries:
    """What is said about one clip at some times; ValueError where shapes do not fit or times do not increase.

    Args:
        id: The clip's name.
        time_s: float64 [N], increasing, seconds: cell centres or, for the target `end`, window ends.
        values: float64 [N, K]; NaN where not covered. K = 2, valence and arousal, wherever frames are made of it.
        covered: bool [N], there is a value.
    """

    id: str
    time_s: NDArray[np.float64]
    values: NDArray[np.float64]
    covered: NDArray[np.bool_]

    def __post_init__(self) -> None:
        steps = self.time_s.shape
        if len(steps) != 1 or self.values.ndim != 2 or self.values.shape[:1] != steps:
            raise ValueError(f"{self.id}: expected times [N] and values [N, K], got {steps} and {self.values.shape}")
        if self.covered.dtype != np.bool_ or self.covered.shape != steps:
            raise ValueError(f"{self.id}: expected bool {steps}, got {self.covered.dtype} {self.covered.shape}")
        if not np.isfinite(self.time_s).all() or (np.diff(self.time_s) <= 0).any():
            raise ValueError(f"{self.id}: times must be finite and increase")


def series_from_windows(
    clip_id: str,
    *,
    values: NDArray[np.float64],
    cells: NDArray[np.int64],
    num_cells: int,
    end_time_s: NDArray[np.float64],
) -> ClipSeries:
    """Average what overlapping windows say about a cell, or take what they say at their ends (settled 4 and 6).

    Args:
        clip_id: The clip.
        values: float64 [W, T, K]; T = 1 for the target `end`, whose values stand at the window ends.
        cells: int64 [W, T], cell of each value, -1 for padding; not used when T = 1.
        num_cells: Cells of the clip.
        end_time_s: float64 [W], ascending; used when T = 1.
    """
    if values.shape[1] == 1:
        # Two padded windows can end together, at the clip's end; interpolation needs distinct times.
        time_s, first = np.unique(end_time_s, return_index=True)
        said = values[first, 0].astype(np.float64)
        return ClipSeries(id=clip_id, time_s=time_s, values=said, covered=np.ones(len(first), np.bool_))
    means, covered = protocol.average_windows(values, cells, num_cells)
    return ClipSeries(id=clip_id, time_s=timeline.cell_centers(num_cells), values=means, covered=covered)


def on_grid(series: ClipSeries) -> ClipSeries:
    """Lay a series on the half-second grid: the cell centres between its first and its last time.

    One that stands at cell centres keeps its values, and cells it skips are without one. Any other (window ends) is
    read off linearly between covered times at the centres of its covered span; where that holds no centre, at the
    one nearest to its middle. Without any covered time there is nothing to lay, and the grid is empty.
    """
    cells = series.time_s / timeline.CELL_S - 0.5
    index = np.round(cells).astype(np.int64)
    if (np.abs(cells - index) * timeline.CELL_S <= _SLACK_S).all():
        if not len(index) or len(index) == index[-1] - index[0] + 1:
            return series
        count = int(index[-1] - index[0]) + 1
        values, covered = np.full((count, series.values.shape[1]), np.nan), np.zeros(count, np.bool_)
        values[index - index[0]], covered[index - index[0]] = series.values, series.covered
        return ClipSeries(
            id=series.id, time_s=(index[0] + np.arange(count) + 0.5) * timeline.CELL_S, values=values, covered=covered
        )
    if not series.covered.any():
        return ClipSeries(id=series.id, time_s=np.zeros(0), values=series.values[:0], covered=series.covered[:0])
    first_s, last_s = series.time_s[series.covered][[0, -1]]
    first, last = math.ceil(first_s / timeline.CELL_S - 0.5), math.floor(last_s / timeline.CELL_S - 0.5)
    if last < first:
        first = last = math.floor((first_s + last_s) / 2 / timeline.CELL_S)
    time_s = (np.arange(first, last + 1) + 0.5) * timeline.CELL_S
    values, covered = protocol.cells_to_frames(series.values, series.covered, series.time_s, time_s)
    return ClipSeries(id=series.id, time_s=time_s, values=values, covered=covered)


def frames_from_series(series: ClipSeries, truth: Truth, *, fill: Fill, label_shift_s: float) -> ClipFrames:
    """Read a series off at every annotated frame and say which predictions are the frames' own (settled 6).

    The frame at time t is read at r = t - `label_shift_s`. It has a prediction of its own when r lies within half a
    cell of a covered time c of the series, c - 0.25 s <= r < c + 0.25 s: for cell centres, in a cell that has a value;
    for window ends, in the half second around one. All others are filled:

    * `interpolate`: linearly between the covered times on both sides, held before the first and after the last;
    * `nearest`: with the value of the nearest covered time, the later of two at the same distance;
    * `none`: not at all. They have no prediction, so coverage falls and the figure is not the official score.

    A frame's own prediction does not depend on `fill`: it is read off linearly between covered times, held at the
    first and last.

    Args:
        series: K = 2, valence and arousal.
        truth: The clip's annotation.
        fill: One of `FILLS`.
        label_shift_s: How much later than what it is about a label comes, in seconds: annotators lag. 0 for the
            official score.

    Raises:
        ValueError: `fill` is none of these, or the shift is not finite.
    """
    if fill not in FILLS:
        raise ValueError(f"fill must be one of {FILLS}, not {fill!r}")
    read_s = truth.time_s - label_shift_s
    prediction, covered = protocol.cells_to_frames(series.values, series.covered, series.time_s, read_s)
    filled = np.zeros(len(read_s), np.bool_)
    if series.covered.any():
        time_s = series.time_s[series.covered]
        nearest = _nearest(time_s, read_s)
        distance = read_s - time_s[nearest]
        filled = (distance < -timeline.CELL_S / 2 - _SLACK_S) | (distance >= timeline.CELL_S / 2 - _SLACK_S)
        if fill == "nearest":
            prediction[filled] = series.values[series.covered][nearest[filled]]
        elif fill == "none":
            prediction[filled] = np.nan
            covered, filled = ~filled, np.zeros(len(read_s), np.bool_)
    return ClipFrames(
        id=series.id,
        time_s=truth.time_s,
        prediction=prediction,
        target=truth.va.astype(np.float64),
        valid=truth.valid,
        covered=covered,
        filled=filled,
    )


def _nearest(time_s: NDArray[np.float64], read_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index of the nearest of some increasing times; the later of two at the same distance."""
    between = (time_s[1:] + time_s[:-1]) / 2
    return np.searchsorted(between, read_s + _SLACK_S, side="right").astype(np.int64)


def frames_from_windows(
    clip_id: str,
    *,
    values: NDArray[np.float64],
    cells: NDArray[np.int64],
    num_cells: int,
    end_time_s: NDArray[np.float64],
    truth: Truth,
) -> ClipFrames:
    """Lay windows on the annotated frames as the official score has it: `series_from_windows`, interpolated.

    Args:
        clip_id: The clip.
        values: float64 [W, T, 2].
        cells: int64 [W, T].
        num_cells: Cells of the clip.
        end_time_s: float64 [W], ascending.
        truth: The clip's annotation.
    """
    series = series_from_windows(clip_id, values=values, cells=cells, num_cells=num_cells, end_time_s=end_time_s)
    return frames_from_series(series, truth, fill="interpolate", label_shift_s=0.0)


def ends_from_windows(
    clip_id: str,
    *,
    values: NDArray[np.float64],
    full: NDArray[np.bool_],
    end_time_s: NDArray[np.float64],
    truth: Truth,
    label_shift_s: float,
) -> ClipWindows:
    """Take each full window's last value and the label of its end frame (R2, `paper`).

    With a shift, the label `label_shift_s` after the window's end; none where that is past the last annotated frame.

    Args:
        clip_id: The clip.
        values: float64 [W, T, 2].
        full: bool [W], whether the window lies wholly inside the clip.
        end_time_s: float64 [W], seconds.
        truth: The clip's annotation.
        label_shift_s: As in `frames_from_series`.
    """
    ends = end_time_s[full]
    labelled_s = ends + label_shift_s
    index = timeline.frame_at(truth.time_s, labelled_s)
    reached = (index >= 0) & (labelled_s <= np.maximum(ends, truth.time_s[-1] + _SLACK_S))
    return ClipWindows(
        id=clip_id,
        end_time_s=ends,
        prediction=values[full, -1],
        target=truth.va[index].astype(np.float64),
        valid=truth.valid[index] & reached,
    )
