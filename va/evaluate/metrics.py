"""Agreement between predicted and annotated valence or arousal, with an interval (settled 6 and 8).

Pure NumPy and without state, because training's validation and the final score must be the same code.
Every function runs in three steps: validate, measure, answer. What is defined where a formula is not:

* Fewer than two points kept by the mask: NaN, for every metric.
* A constant prediction against a varying target (or the reverse): CCC 0.0, PCC NaN.
* Both constant and different: CCC 0.0. Both constant and equal: CCC NaN (0/0: no variation to agree on).
* A NaN or infinity where the mask keeps it, shapes that differ, a mask that is not boolean: ValueError.
  Whatever stands where the mask drops it can never change a result.

Variances are those of a population (divided by n), over all points given (`docs/method.md`, settled 8).
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

DIMENSIONS: Final = ("valence", "arousal")
"""What the columns of every [N, 2] array are."""

INTERVAL_PERCENT: Final = (2.5, 97.5)
"""Percentiles that bound the 95% interval."""

ROUNDING: Final = 1e-13
"""A sum of squares this much smaller than the squares it came from is rounding, not variation."""


def ccc(prediction: npt.ArrayLike, target: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> float:
    """Concordance correlation coefficient, 2 cov / (var_p + var_t + (mean_p - mean_t)^2).

    Args:
        prediction: Predicted values, float [N].
        target: Annotated values, float [N].
        mask: Points that count, bool [N]; None for all.

    Returns:
        A value in [-1, 1]; NaN or 0.0 as the module docstring defines.

    Raises:
        ValueError: The input is not as the module docstring asks.

    Source: the first term of paper eq. 6; population variance by settled 8.
    """
    kept_prediction, kept_target = _kept(prediction, target, mask)
    if len(kept_prediction) < 2:
        return float("nan")
    variance_p, variance_t, covariance, offset = _moments(kept_prediction, kept_target)
    return _bounded(2.0 * covariance, variance_p + variance_t + offset**2)


def pcc(prediction: npt.ArrayLike, target: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> float:
    """Pearson correlation coefficient, cov / (std_p std_t).

    Arguments and errors are those of `ccc`.

    Returns:
        A value in [-1, 1]; NaN where either side is constant or fewer than two points count.
    """
    kept_prediction, kept_target = _kept(prediction, target, mask)
    if len(kept_prediction) < 2:
        return float("nan")
    variance_p, variance_t, covariance, _ = _moments(kept_prediction, kept_target)
    return _bounded(covariance, math.sqrt(variance_p) * math.sqrt(variance_t))


def rmse(prediction: npt.ArrayLike, target: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> float:
    """Root of the mean squared error, in valence/arousal units.

    Arguments and errors are those of `ccc`.

    Returns:
        A value >= 0; NaN where fewer than two points count.
    """
    kept_prediction, kept_target = _kept(prediction, target, mask)
    if len(kept_prediction) < 2:
        return float("nan")
    return float(np.sqrt(np.mean((kept_prediction - kept_target) ** 2)))


def mae(prediction: npt.ArrayLike, target: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> float:
    """Mean absolute error, in valence/arousal units.

    Arguments and errors are those of `ccc`.

    Returns:
        A value >= 0; NaN where fewer than two points count.
    """
    kept_prediction, kept_target = _kept(prediction, target, mask)
    if len(kept_prediction) < 2:
        return float("nan")
    return float(np.mean(np.abs(kept_prediction - kept_target)))


def sagr(prediction: npt.ArrayLike, target: npt.ArrayLike, mask: npt.ArrayLike | None = None) -> float:
    """Sign agreement: the share of points whose two signs are equal; zero agrees with zero only.

    Arguments and errors are those of `ccc`.

    Returns:
        A share in [0, 1]; NaN where fewer than two points count.
    """
    kept_prediction, kept_target = _kept(prediction, target, mask)
    if len(kept_prediction) < 2:
        return float("nan")
    return float(np.mean(np.sign(kept_prediction) == np.sign(kept_target)))


METRICS: Final = {"ccc": ccc, "pcc": pcc, "rmse": rmse, "mae": mae, "sagr": sagr}
"""Every metric by the name it has in `evaluate`'s answer."""


def evaluate(prediction: npt.ArrayLike, target: npt.ArrayLike, mask: npt.ArrayLike) -> dict[str, float]:
    """Measure every metric for valence, for arousal, and as the mean of the two.

    Args:
        prediction: Predicted (valence, arousal), float [N, 2].
        target: Annotated (valence, arousal), float [N, 2].
        mask: Points that count, bool [N].

    Returns:
        `<metric>_valence`, `<metric>_arousal` and `<metric>_mean` for each of `METRICS`; the mean is NaN
        where either is.

    Raises:
        ValueError: The input is not as the module docstring asks.
    """
    predicted, annotated, kept = validate(prediction, target, mask, columns=(2,))
    answer: dict[str, float] = {}
    for name, metric in METRICS.items():
        values = [metric(predicted[:, column], annotated[:, column], kept) for column in range(2)]
        answer |= {f"{name}_{dimension}": value for dimension, value in zip(DIMENSIONS, values, strict=True)}
        answer[f"{name}_mean"] = sum(values) / 2.0
    return answer


def clip_statistics(
    *, predictions: Sequence[FloatArray], targets: Sequence[FloatArray], masks: Sequence[BoolArray]
) -> FloatArray:
    """Reduce each clip to the sums from which the CCC of any pooling of clips follows.

    The sums are taken after subtracting one value, the median of all targets that count, from both sides:
    it lies within one standard deviation of their mean, so that nothing cancels that the CCC can see.

    Args:
        predictions: One float [N, 2] per clip.
        targets: One float [N, 2] per clip.
        masks: One bool [N] per clip: the points that count.

    Returns:
        float64 [clips, 2, 6]: for valence and arousal n, sum p, sum t, sum p^2, sum t^2, sum p t.

    Raises:
        ValueError: A clip's input is not as the module docstring asks, or the three differ in length.
    """
    kept: list[tuple[FloatArray, FloatArray]] = []
    for prediction, target, mask in zip(predictions, targets, masks, strict=True):
        predicted, annotated, valid = validate(prediction, target, mask, columns=(2,))
        kept.append((predicted[valid], annotated[valid]))
    statistics = np.zeros((len(kept), 2, 6))
    if not any(len(annotated) for _, annotated in kept):
        return statistics
    pooled_target = np.concatenate([annotated for _, annotated in kept])
    # The lower median is one of the values, so that a constant target becomes exactly zero.
    shift = np.quantile(pooled_target, 0.5, axis=0, method="lower")
    for row, (predicted, annotated) in zip(statistics, kept, strict=True):
        p, t = predicted - shift, annotated - shift
        sums = [value.sum(axis=0) for value in (p, t, p * p, t * t, p * t)]
        row[:] = np.stack([np.full(2, float(len(p))), *sums], axis=-1)
    return statistics


def pooled_ccc(statistics: FloatArray) -> FloatArray:
    """CCC from (sums of) clip statistics; agrees with `ccc` on the concatenated points to rounding.

    Args:
        statistics: float64 [..., 6] as `clip_statistics` orders them, summed over the pooled clips.

    Returns:
        float64 [...]: values in [-1, 1], NaN where `ccc` would be.
    """
    count, sum_p, sum_t, sum_pp, sum_tt, sum_pt = np.moveaxis(statistics, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_p, mean_t = sum_p / count, sum_t / count
        squares = (sum_pp + sum_tt) / count
        # var_p + var_t + (mean_p - mean_t)^2 with the squares of the means already cancelled
        denominator = squares - 2.0 * mean_p * mean_t
        value = 2.0 * (sum_pt / count - mean_p * mean_t) / denominator
    defined = (count >= 2) & (denominator > ROUNDING * squares)
    return np.where(defined, np.clip(value, -1.0, 1.0), np.nan)


def resample_counts(*, num_clips: int, resamples: int, seed: int) -> FloatArray:
    """Draw bootstrap resamples: how often each clip is in each.

    Args:
        num_clips: Clips drawn from, and drawn with replacement per resample; >= 1.
        resamples: How many resamples; >= 1.
        seed: Of the generator; the same seed draws the same clips.

    Returns:
        float64 [resamples, num_clips] of whole numbers; every row sums to `num_clips`.
    """
    drawn = np.random.default_rng(seed).integers(num_clips, size=(resamples, num_clips))
    flat = (drawn + num_clips * np.arange(resamples)[:, None]).ravel()
    counts = np.bincount(flat, minlength=resamples * num_clips).reshape(resamples, num_clips)
    return counts.astype(np.float64)


def resampled_ccc(statistics: FloatArray, *, resamples: int, seed: int) -> FloatArray:
    """Pooled CCC of each bootstrap resample of the clips (settled 6).

    Clips and not frames are resampled, because frames of one clip are nearly copies of each other. Clips
    without a point that counts are left out.

    Args:
        statistics: float64 [clips, 2, 6] from `clip_statistics`.
        resamples: How many resamples; >= 1.
        seed: Of the resampling; models scored on the same clips with the same seed get the same resamples.

    Returns:
        float64 [resamples, 3]: valence, arousal and their mean; NaN where undefined, and with fewer than two clips.
    """
    used = statistics[statistics[:, 0, 0] > 0]
    if len(used) < 2:
        return np.full((resamples, 3), np.nan)
    counts = resample_counts(num_clips=len(used), resamples=resamples, seed=seed)
    values = pooled_ccc((counts @ used.reshape(len(used), -1)).reshape(resamples, 2, 6))
    return np.column_stack([values, values.mean(axis=1)])


def interval(values: FloatArray) -> tuple[float, float]:
    """Bounds of the percentile 95% interval.

    Args:
        values: float64 [resamples]; undefined ones (NaN) are ignored.

    Returns:
        Low and high; NaN where no value is defined.
    """
    defined = values[~np.isnan(values)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.percentile(defined, INTERVAL_PERCENT)
    return float(low), float(high)


def bootstrap_ccc(statistics: FloatArray, *, resamples: int, seed: int) -> FloatArray:
    """Percentile 95% interval of the pooled CCC when the clips are resampled with replacement (settled 6).

    Args:
        statistics: float64 [clips, 2, 6] from `clip_statistics`.
        resamples: How many resamples; >= 1.
        seed: Of the resampling; valence, arousal and mean share the same resamples.

    Returns:
        float64 [3, 2]: (low, high) of valence, arousal and their mean; NaN with fewer than two clips.
    """
    return np.array([interval(column) for column in resampled_ccc(statistics, resamples=resamples, seed=seed).T])


def validate(
    prediction: npt.ArrayLike, target: npt.ArrayLike, mask: npt.ArrayLike, *, columns: tuple[int, ...]
) -> tuple[FloatArray, FloatArray, BoolArray]:
    """Check predictions, targets and their mask, and convert them to float64 and bool.

    Args:
        prediction: float [N, *columns].
        target: float [N, *columns].
        mask: bool [N].
        columns: The shape of one point: () for one dimension, (2,) for valence and arousal.

    Returns:
        The three as arrays.

    Raises:
        ValueError: A shape or the mask's type is wrong, or a kept value is not finite.
    """
    predicted, annotated = np.asarray(prediction, dtype=np.float64), np.asarray(target, dtype=np.float64)
    kept = np.asarray(mask)
    if predicted.shape != annotated.shape or predicted.ndim == 0 or predicted.shape[1:] != columns:
        raise ValueError(f"expected two arrays {['N', *columns]}, got {predicted.shape}, {annotated.shape}")
    if kept.dtype != np.bool_ or kept.shape != predicted.shape[:1]:
        raise ValueError(f"expected a bool mask {predicted.shape[:1]}, got {kept.dtype} {kept.shape}")
    if not (np.isfinite(predicted[kept]).all() and np.isfinite(annotated[kept]).all()):
        raise ValueError("a value that the mask keeps is NaN or infinite")
    return predicted, annotated, kept


def _kept(
    prediction: npt.ArrayLike, target: npt.ArrayLike, mask: npt.ArrayLike | None
) -> tuple[FloatArray, FloatArray]:
    """Check two series; answer the values that count."""
    every = np.ones(np.shape(prediction)[:1], dtype=bool) if mask is None else mask
    predicted, annotated, kept = validate(prediction, target, every, columns=())
    return predicted[kept], annotated[kept]


def _moments(prediction: FloatArray, target: FloatArray) -> tuple[float, float, float, float]:
    """Variance of each of two checked series, their covariance, and the distance between their means."""
    # Relative to the first value a constant series is exactly zero, so that no rounding looks like variation.
    p, t = prediction - prediction[0], target - target[0]
    mean_p, mean_t = p.mean(), t.mean()
    p, t, offset = p - mean_p, t - mean_t, (prediction[0] - target[0]) + (mean_p - mean_t)
    return float(np.mean(p * p)), float(np.mean(t * t)), float(np.mean(p * t)), float(offset)


def _bounded(numerator: float, denominator: float) -> float:
    """Divide, giving NaN for 0/0 and cutting what rounding puts outside [-1, 1]."""
    return float(np.clip(numerator / denominator, -1.0, 1.0)) if denominator > 0.0 else float("nan")
