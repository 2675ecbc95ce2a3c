"""How sure a CCC is: 95% intervals over clips, of differences, and over seeds (settled 6).

Clips and not frames are what is drawn anew, because frames of one clip are nearly copies of each other.

Pure NumPy, a leaf like `metrics.py`: training, the final score and ablations take their intervals from here.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from va.evaluate import metrics
from va.evaluate.metrics import BoolArray, FloatArray

LEVEL: Final = 0.95
"""Share of repetitions in which an interval is to hold the truth."""

ROUNDING: Final = 1e-13
"""A sum of squares this much smaller than the squares it came from is rounding, not variation."""

_OF_TARGETS: Final = [0, 2, 4]  # n, sum t and sum t^2 of `clip_statistics`
_WIDEST_T: Final = 13.0  # Student's quantile at one degree of freedom is 12.71
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)


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
        predicted, annotated, valid = metrics.validate(prediction, target, mask, columns=(2,))
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


def interval(values: FloatArray, *, num_clips: int) -> tuple[float, float]:
    """Bounds of the 95% interval of a figure from its resamples: the expanded percentile interval.

    The plain percentiles 2.5 and 97.5 cover too seldom when there are few clips, as a normal interval without Student's
    quantile and with a population's variance does. So the percentiles are moved out to where both are made good:
    1.6 and 98.4 for 20 clips, 2.2 and 97.8 for 76 (measured in `docs/method.md`, "Intervals").

    Args:
        values: float64 [resamples]; undefined ones (NaN) are ignored.
        num_clips: Clips that were drawn from.

    Returns:
        Low and high; NaN where no value is defined, and with fewer than two clips.

    Source: Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69(4), 2015.
    """
    defined = values[~np.isnan(values)]
    if not len(defined) or num_clips < 2:
        return float("nan"), float("nan")
    deviations = math.sqrt(num_clips / (num_clips - 1)) * student_quantile(num_clips - 1)
    outside = 50.0 * math.erfc(deviations / math.sqrt(2.0))  # per cent, beyond each end
    low, high = np.percentile(defined, (outside, 100.0 - outside))
    return float(low), float(high)


def bootstrap_ccc(statistics: FloatArray, *, resamples: int, seed: int) -> FloatArray:
    """95% interval of the pooled CCC when the clips are resampled with replacement (settled 6).

    Args:
        statistics: float64 [clips, 2, 6] from `clip_statistics`.
        resamples: How many resamples; >= 1.
        seed: Of the resampling; valence, arousal and mean share the same resamples.

    Returns:
        float64 [3, 2]: (low, high) of valence, arousal and their mean; NaN with fewer than two clips.
    """
    return _intervals(resampled_ccc(statistics, resamples=resamples, seed=seed), num_clips=_num_used(statistics))


def paired_difference(first: FloatArray, second: FloatArray, *, resamples: int, seed: int) -> FloatArray:
    """CCC of one model minus that of another on the same points, with its 95% interval over clips.

    Both are measured on the same resamples, so what makes a clip easy or hard for both cancels.

    Args:
        first: float64 [clips, 2, 6] from `clip_statistics`.
        second: The other model's, of the same clips in the same order.
        resamples: How many resamples; >= 1.
        seed: Of the resampling.

    Returns:
        float64 [3, 3]: by row valence, arousal and their mean; by column value, low and high. NaN where undefined.

    Raises:
        ValueError: The two were not measured on the same clips and points.
    """
    _check_same_points(first, second)
    value = _with_mean(pooled_ccc(first.sum(axis=0)) - pooled_ccc(second.sum(axis=0)))
    ours, theirs = (resampled_ccc(side, resamples=resamples, seed=seed) for side in (first, second))
    return np.column_stack([value, _intervals(ours - theirs, num_clips=_num_used(first))])


def over_seeds_and_clips(statistics: FloatArray, *, resamples: int, seed: int) -> FloatArray:
    """Mean CCC over seeds with one 95% interval that holds the variance of the seeds and that of the clips.

    The variance of the mean over seeds is that over resampled clips, which all seeds share, plus that between seeds
    divided by their number; the interval is Student's, with Satterthwaite's degrees of freedom. What a seed does better
    on some clips than on others is in both, so it errs to the wide side. With one seed it is the interval over clips
    (`bootstrap_ccc`) and says nothing of what another seed would give.

    Args:
        statistics: float64 [seeds, clips, 2, 6]: each seed's `clip_statistics` of the same clips and points.
        resamples: How many resamples; >= 1.
        seed: Of the resampling.

    Returns:
        float64 [3, 3]: by row valence, arousal and their mean; by column value, low and high. NaN where undefined, and
        the bounds with fewer than two clips.

    Raises:
        ValueError: No seed, or the seeds were not measured on the same clips and points.
    """
    if statistics.ndim != 4 or not len(statistics):
        raise ValueError(f"expected statistics [seeds, clips, 2, 6], got {statistics.shape}")
    for other in statistics[1:]:
        _check_same_points(statistics[0], other)
    values = _with_mean(pooled_ccc(statistics.sum(axis=1)))
    if len(statistics) == 1:
        return np.column_stack([values[0], bootstrap_ccc(statistics[0], resamples=resamples, seed=seed)])
    num_seeds, num_clips = len(statistics), _num_used(statistics[0])
    draws = np.mean([resampled_ccc(one, resamples=resamples, seed=seed) for one in statistics], axis=0)
    answer = np.full((3, 3), np.nan)
    for row, value, drawn in zip(answer, values.T, draws.T, strict=True):
        defined = drawn[~np.isnan(drawn)]
        if np.isnan(value).any() or len(defined) < 2:
            continue
        # The bootstrap's variance is that of a population of the clips drawn from: (n - 1) / n of the sample's.
        of_clips = float(np.var(defined)) * num_clips / (num_clips - 1)
        of_seeds = float(np.var(value, ddof=1)) / num_seeds
        half = _half_width(((of_clips, num_clips - 1), (of_seeds, num_seeds - 1)))
        row[:] = value.mean(), max(value.mean() - half, -1.0), min(value.mean() + half, 1.0)
    return answer


def _num_used(statistics: FloatArray) -> int:
    """Count the clips [clips, 2, 6] with a point that counts."""
    return int((statistics[:, 0, 0] > 0).sum())


def _intervals(draws: FloatArray, *, num_clips: int) -> FloatArray:
    """Interval of each column of draws: float64 [resamples, K] -> [K, 2]."""
    return np.array([interval(column, num_clips=num_clips) for column in draws.T])


def _half_width(parts: Sequence[tuple[float, int]]) -> float:
    """Half a 95% interval of a value whose variance is a sum of independent estimates: (variance, freedom) each.

    Source: Satterthwaite, 1946.
    """
    total = math.fsum(variance for variance, _ in parts)
    if total == 0.0:
        return 0.0
    freedom = total**2 / math.fsum(variance**2 / degrees for variance, degrees in parts)
    return student_quantile(freedom) * math.sqrt(total)


def _with_mean(values: FloatArray) -> FloatArray:
    """Append the mean of valence and arousal: float64 [..., 2] -> [..., 3]."""
    return np.concatenate([values, values.mean(axis=-1, keepdims=True)], axis=-1)


def _check_same_points(first: FloatArray, second: FloatArray) -> None:
    """Check that two models' statistics have the same counts and targets."""
    if first.shape != second.shape or first.shape[1:] != (2, 6):
        raise ValueError(f"expected two arrays [clips, 2, 6] alike, got {first.shape} and {second.shape}")
    ours, theirs = first[..., _OF_TARGETS], second[..., _OF_TARGETS]
    if not np.allclose(ours, theirs, rtol=1e-9, atol=1e-9):
        raise ValueError("the two were not measured on the same points: their counts or targets differ")


def student_quantile(freedom: float) -> float:
    """Give t so that Student's variable with `freedom` degrees of freedom lies within [-t, t] at 95%.

    Args:
        freedom: >= 1, whole or not (Satterthwaite's are not); above a million it changes nothing.

    Raises:
        ValueError: Fewer than one degree of freedom.

    Source: Student's density is that of sqrt(freedom) * tan(angle) for an angle whose density is proportional to
    cos(angle)^(freedom - 1); integrated by Gauss and Legendre, inverted by bisection.
    """
    if not freedom >= 1:
        raise ValueError(f"expected at least one degree of freedom, got {freedom}")
    freedom = min(float(freedom), 1e6)
    total = math.sqrt(math.pi) * math.exp(math.lgamma(freedom / 2) - math.lgamma((freedom + 1) / 2)) / 2
    low, high = 0.0, math.atan(_WIDEST_T / math.sqrt(freedom))
    for _ in range(60):  # a double has 53 bits
        middle = (low + high) / 2
        share = middle / 2 * float(_WEIGHTS @ np.cos(middle / 2 * (_NODES + 1)) ** (freedom - 1)) / total
        low, high = (middle, high) if share < LEVEL else (low, middle)
    return math.sqrt(freedom) * math.tan(low)
