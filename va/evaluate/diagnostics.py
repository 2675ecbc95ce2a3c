"""What else a report shows of predictions: calibration, error over time, density, smoothness and lag.

NumPy only, without files or models; the answers are those of `figures.py`. Frames without a valid label or without a
prediction never count. Nothing here is scored: the figures of record are those of `protocol.py`.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from va.data import timeline
from va.data.corpus import Truth
from va.evaluate import assemble, metrics
from va.evaluate.assemble import ClipSeries, Fill
from va.evaluate.figures import Calibration, Lag, OverTime
from va.evaluate.metrics import FloatArray
from va.evaluate.protocol import ClipFrames

QUARTILES_PERCENT = (25.0, 75.0)


def calibration(prediction: FloatArray, target: FloatArray, *, bins: int) -> Calibration:
    """Compare mean annotation and mean prediction in bins of the prediction.

    Args:
        prediction: Predictions that count, of one dimension, finite float [N].
        target: Their annotations, finite float [N].
        bins: Bins of equal width over [-1, 1]; what lies beyond falls into the outer ones; >= 1.

    Returns:
        Per bin that holds anything, by ascending prediction: both means, the annotation's quartiles (its spread in the
        bin, not how sure its mean is: frames of a clip depend on each other) and how many frames.

    Raises:
        ValueError: The two differ in shape, a value is not finite, or there are no bins.
    """
    predicted, annotated, _ = metrics.validate(prediction, target, np.ones(len(prediction), np.bool_), columns=())
    if bins < 1:
        raise ValueError(f"expected at least one bin, got {bins}")
    place = np.clip(np.floor((predicted + 1.0) / 2.0 * bins), 0, bins - 1).astype(np.int64)
    held = np.unique(place)
    members = [place == index for index in held]
    low, high = (
        np.array([np.percentile(annotated[member], percent) for member in members]) for percent in QUARTILES_PERCENT
    )
    return Calibration(
        predicted=np.array([predicted[member].mean() for member in members]),
        annotated=np.array([annotated[member].mean() for member in members]),
        low=low,
        high=high,
        count=np.bincount(place, minlength=bins)[held].astype(np.int64),
    )


def error_over_time(clips: Sequence[ClipFrames], *, bin_s: float) -> OverTime | None:
    """Average the absolute error of all clips in bins of time into the clip.

    Args:
        clips: The split's clips.
        bin_s: Width of a bin in seconds, > 0; bin b holds [b * bin_s, (b + 1) * bin_s).

    Returns:
        The bins that hold a frame with a valid label and a prediction; None where none does.

    Raises:
        ValueError: The width is not positive and finite, or a value that counts is not finite.
    """
    if not (math.isfinite(bin_s) and bin_s > 0):
        raise ValueError(f"the width of a bin must be positive and finite, not {bin_s}")
    count, errors = np.zeros(0, np.int64), np.zeros((0, 2))
    for clip in clips:
        predicted, annotated, scored = metrics.validate(
            clip.prediction, clip.target, clip.valid & clip.covered, columns=(2,)
        )
        if not scored.any():
            continue
        place = np.floor(np.maximum(clip.time_s[scored], 0.0) / bin_s).astype(np.int64)
        longer = max(0, int(place.max()) + 1 - len(count))
        count, errors = np.pad(count, (0, longer)), np.pad(errors, ((0, longer), (0, 0)))
        count += np.bincount(place, minlength=len(count))
        for column in range(2):
            error = np.abs(predicted[scored, column] - annotated[scored, column])
            errors[:, column] += np.bincount(place, weights=error, minlength=len(count))
    held = np.flatnonzero(count)
    if not len(held):
        return None
    means = errors[held] / count[held, None]
    centers_s = (held.astype(np.float64) + 0.5) * bin_s
    return OverTime(time_s=centers_s, mae_valence=means[:, 0], mae_arousal=means[:, 1], count=count[held])


def density(points: FloatArray, edges: FloatArray) -> FloatArray:
    """Count points of the VA plane in squares, as shares of all.

    Args:
        points: (valence, arousal), finite float [N, 2]; what lies beyond the edges falls into the outer squares.
        edges: Increasing, float [B + 1], shared by both axes.

    Returns:
        float64 [B, B], arousal by row from low to high, valence by column; the sum is 1, or 0 without points.

    Raises:
        ValueError: A shape is wrong, a point is not finite, or the edges do not increase.
    """
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError(f"expected finite points [N, 2], got {points.shape}")
    if edges.ndim != 1 or len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise ValueError("expected at least two increasing edges")
    squares = len(edges) - 1
    valence, arousal = np.clip(np.searchsorted(edges, points, side="right") - 1, 0, squares - 1).T
    found = np.bincount(arousal * squares + valence, minlength=squares**2).reshape(squares, squares)
    return found / max(1, len(points))


def truth_series(clip_id: str, truth: Truth) -> ClipSeries:
    """Read the annotation off at cell centres, as training does: the label of the frame on screen (settled 1).

    Args:
        clip_id: The clip.
        truth: Its annotation.

    Returns:
        The cells from the clip's start to its last annotated frame; one without a valid label, or whose frame has been
        on screen for half a second or more, is not covered.
    """
    time_s = timeline.cell_centers(max(1, math.ceil(float(truth.time_s[-1]) / timeline.CELL_S)))
    index = timeline.frame_at(truth.time_s, time_s)
    covered = (index >= 0) & (time_s - truth.time_s[index] < timeline.CELL_S) & truth.valid[index]
    values = np.where(covered[:, None], truth.va[index].astype(np.float64), np.nan)
    return ClipSeries(id=clip_id, time_s=time_s, values=values, covered=covered)


def smoothness(series: Sequence[ClipSeries]) -> tuple[float, float, float, float]:
    """Measure how much series move on the half-second grid (F21), gaps never bridged.

    Total variation is the mean |x[i + 1] - x[i]| / 0.5 s over all pairs of neighbouring covered cells of all clips;
    jerk the mean |x[i + 3] - 3 x[i + 2] + 3 x[i + 1] - x[i]| / (0.5 s)^3 over all four in a row. Window ends are read
    off on the grid first (`assemble.on_grid`), which makes them look smoother than they would be every half second:
    compare only series that were made alike.

    Args:
        series: One per clip, K = 2.

    Returns:
        Total variation of valence and of arousal per second, jerk of both per second cubed; NaN where there are not
        enough cells in a row.
    """
    answer: list[float] = []
    for order in (1, 3):
        total, count = np.zeros(2), 0
        for one in map(assemble.on_grid, series):
            steps = np.abs(np.diff(np.where(one.covered[:, None], one.values, np.nan), n=order, axis=0))
            there = ~np.isnan(steps).any(axis=1)
            total += steps[there].sum(axis=0)
            count += int(there.sum())
        answer += (total / count / timeline.CELL_S**order).tolist() if count else [float("nan")] * 2
    valence_tv, arousal_tv, valence_jerk, arousal_jerk = answer
    return valence_tv, arousal_tv, valence_jerk, arousal_jerk


def lag(series: Sequence[ClipSeries], truths: Sequence[Truth], *, shifts_s: Sequence[float], fill: Fill) -> Lag:
    """Score every shift of the labels against the predictions, over all frames of all clips (`abaw`).

    Args:
        series: One per clip.
        truths: The same clips' annotations.
        shifts_s: Shifts to try, in seconds, as `label_shift_s` of `assemble.frames_from_series`.
        fill: As there.

    Returns:
        The CCC of each shift, in the order given, and the shift with the best mean: of equals the nearest to 0, NaN
        where no mean is defined.

    Raises:
        ValueError: Not as many truths as series, or a shift that is not finite.
    """
    values: NDArray[np.float64] = np.full((len(shifts_s), 3), np.nan)
    for row, shift_s in zip(values, shifts_s, strict=True):
        clips = [
            assemble.frames_from_series(one, truth, fill=fill, label_shift_s=shift_s)
            for one, truth in zip(series, truths, strict=True)
        ]
        row[:] = metrics.ccc_over_clips(
            predictions=[clip.prediction for clip in clips],
            targets=[clip.target for clip in clips],
            masks=[clip.valid & clip.covered for clip in clips],
        )
    defined = [index for index in range(len(shifts_s)) if not math.isnan(values[index, 2])]
    best = max(defined, key=lambda index: (values[index, 2], -abs(shifts_s[index])), default=None)
    return Lag(
        shift_s=np.array(shifts_s, dtype=np.float64),
        ccc_valence=values[:, 0],
        ccc_arousal=values[:, 1],
        ccc_mean=values[:, 2],
        best_s=float("nan") if best is None else float(shifts_s[best]),
    )
