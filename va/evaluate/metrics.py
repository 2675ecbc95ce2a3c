"""Agreement between predicted and annotated valence or arousal (settled 8); how sure it is: `intervals.py`.

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
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

DIMENSIONS: Final = ("valence", "arousal")
"""What the columns of every [N, 2] array are."""


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


def ccc_over_clips(
    *, predictions: Sequence[FloatArray], targets: Sequence[FloatArray], masks: Sequence[BoolArray]
) -> tuple[float, float, float]:
    """CCC of valence, of arousal, and their mean over the points of all clips, concatenated.

    Args:
        predictions: One float [N, 2] per clip.
        targets: One float [N, 2] per clip.
        masks: One bool [N] per clip: the points that count.

    Returns:
        Values in [-1, 1]; NaN or 0.0 as the module docstring defines, the mean NaN where either is.

    Raises:
        ValueError: A clip's input is not as the module docstring asks, or the three differ in length.
    """
    kept = [np.zeros((0, 2, 2))]
    for prediction, target, mask in zip(predictions, targets, masks, strict=True):
        predicted, annotated, valid = validate(prediction, target, mask, columns=(2,))
        kept.append(np.stack([predicted[valid], annotated[valid]]).transpose(1, 0, 2))
    points = np.concatenate(kept)
    valence, arousal = (ccc(points[:, 0, column], points[:, 1, column]) for column in range(2))
    return valence, arousal, (valence + arousal) / 2.0


def per_clip(
    *, predictions: Sequence[FloatArray], targets: Sequence[FloatArray], masks: Sequence[BoolArray]
) -> list[dict[str, float]]:
    """Measure every metric of each clip alone.

    Args:
        predictions: One float [N, 2] per clip.
        targets: One float [N, 2] per clip.
        masks: One bool [N] per clip: the points that count.

    Returns:
        The answer of `evaluate` for each clip.

    Raises:
        ValueError: A clip's input is not as the module docstring asks, or the three differ in length.
    """
    return [evaluate(*clip) for clip in zip(predictions, targets, masks, strict=True)]


def mean_over_clips(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Average each metric over the clips that have it.

    A clip whose annotation and prediction are constant has no CCC of its own, so the means of two metrics may be
    over different clips: the counts say so.

    Args:
        found: The answer of `evaluate` for each clip.

    Returns:
        Every key of `evaluate` with the mean of the defined values (NaN where no clip has one), and the same key
        after `undefined_` with how many clips were left out.
    """
    answer: dict[str, float] = {}
    for name in (f"{metric}_{axis}" for metric in METRICS for axis in (*DIMENSIONS, "mean")):
        defined = [clip[name] for clip in found if not math.isnan(clip[name])]
        answer[name] = math.fsum(defined) / len(defined) if defined else float("nan")
        answer[f"undefined_{name}"] = float(len(found) - len(defined))
    return answer


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
