"""Predictions of one clip's windows, or cells, laid on its annotated frames: what `protocol.py` scores. NumPy only.

Like `metrics.py` and `protocol.py` it is a leaf that training imports too, so that validation in each epoch is the
same code as the final score.
"""

import numpy as np
from numpy.typing import NDArray

from va.data import timeline
from va.data.corpus import Truth
from va.evaluate import protocol
from va.evaluate.protocol import ClipFrames, ClipWindows


def frames_from_cells(
    clip_id: str, *, values: NDArray[np.float64], covered: NDArray[np.bool_], time_s: NDArray[np.float64], truth: Truth
) -> ClipFrames:
    """Interpolate values at some times to every annotated frame.

    Args:
        clip_id: The clip.
        values: float64 [times, 2], valence and arousal; NaN where not covered.
        covered: bool [times].
        time_s: float64 [times], ascending, seconds: cell centres or window ends.
        truth: The clip's annotation.
    """
    prediction, reached = protocol.cells_to_frames(values, covered, time_s, truth.time_s)
    return ClipFrames(
        id=clip_id,
        time_s=truth.time_s,
        prediction=prediction,
        target=truth.va.astype(np.float64),
        valid=truth.valid,
        covered=reached,
    )


def frames_from_windows(
    clip_id: str,
    *,
    values: NDArray[np.float64],
    cells: NDArray[np.int64],
    num_cells: int,
    end_time_s: NDArray[np.float64],
    truth: Truth,
) -> ClipFrames:
    """Average overlapping windows and interpolate to every annotated frame (settled 6, `abaw`).

    Args:
        clip_id: The clip.
        values: float64 [W, T, 2]; T = 1 for the target `end`, whose values stand at the window ends.
        cells: int64 [W, T], cell of each value, -1 for padding; not used when T = 1.
        num_cells: Cells of the clip.
        end_time_s: float64 [W], ascending; used when T = 1.
        truth: The clip's annotation.
    """
    if values.shape[1] == 1:
        # Two padded windows can end together, at the clip's end; interpolation needs distinct times.
        time_s, first = np.unique(end_time_s, return_index=True)
        means, covered = values[first, 0], np.ones(len(first), np.bool_)
    else:
        time_s = timeline.cell_centers(num_cells)
        means, covered = protocol.average_windows(values, cells, num_cells)
    return frames_from_cells(clip_id, values=means, covered=covered, time_s=time_s, truth=truth)


def ends_from_windows(
    clip_id: str,
    *,
    values: NDArray[np.float64],
    full: NDArray[np.bool_],
    end_time_s: NDArray[np.float64],
    truth: Truth,
) -> ClipWindows:
    """Take each full window's last value and the label of its end frame (R2, `paper`).

    Args:
        clip_id: The clip.
        values: float64 [W, T, 2].
        full: bool [W], whether the window lies wholly inside the clip.
        end_time_s: float64 [W], seconds.
        truth: The clip's annotation.
    """
    ends = end_time_s[full]
    index = timeline.frame_at(truth.time_s, ends)
    return ClipWindows(
        id=clip_id,
        end_time_s=ends,
        prediction=values[full, -1],
        target=truth.va[index].astype(np.float64),
        valid=truth.valid[index] & (index >= 0),
    )
