"""Agreement metrics against audmetric, SciPy, scikit-learn, torchmetrics and exact fractions."""

import math
from collections.abc import Callable
from fractions import Fraction

import audmetric
import numpy as np
import pytest
import scipy.stats
import torch
import torchmetrics
from hypothesis import given, settings
from hypothesis import strategies as st

from va.evaluate import metrics

NAN = float("nan")
STEPS = st.integers(-1000, 1000).map(lambda step: step / 1000)
"""Values as annotation files hold them: three decimals, so ties and constant series are common."""


def series(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that are easy to get wrong."""
    rng = np.random.default_rng(5)
    target = rng.uniform(-1, 1, 4001)
    noise = rng.normal(0, 0.2, 4001)
    return {
        "plain": (0.5 * target + noise, target),
        "offset": (target + noise + 1e4, target + 1e4),
        "opposite": (-target, target),
        "tiny": (1e-7 * (target + noise), 1e-7 * target),
        "two points": (np.array([0.1, 0.3]), np.array([0.2, -0.4])),
        "one outlier": (np.where(np.arange(4001) == 7, 1e6, target), target),
        "constant prediction": (np.full(4001, 0.1), target),
        "constant target": (target, np.full(4001, 0.1)),
        "float32": (target.astype(np.float32), (target + noise).astype(np.float32)),
        "far apart": (target + noise, target - 5.0),
    }[name]


CASES = (
    "plain",
    "offset",
    "opposite",
    "tiny",
    "two points",
    "one outlier",
    "constant prediction",
    "constant target",
    "float32",
    "far apart",
)


@pytest.mark.parametrize("case", CASES)
def test_ccc_is_audmetrics(case: str) -> None:
    prediction, target = series(case)
    expected = audmetric.concordance_cc(target.astype(np.float64), prediction.astype(np.float64))
    assert metrics.ccc(prediction, target) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(STEPS, STEPS), min_size=2, max_size=12))
def test_ccc_is_audmetrics_on_annotation_steps(points: list[tuple[float, float]]) -> None:
    prediction, target = (np.array(side) for side in zip(*points, strict=True))
    measured = metrics.ccc(prediction, target)
    if np.ptp(prediction) == 0 and np.ptp(target) == 0:
        assert measured == 0.0 or (math.isnan(measured) and prediction[0] == target[0])
    else:
        assert measured == pytest.approx(audmetric.concordance_cc(target, prediction), abs=1e-9)
        assert -1.0 <= measured <= 1.0
        assert measured == metrics.ccc(target, prediction)


@pytest.mark.parametrize("case", [name for name in CASES if "constant" not in name])
def test_pcc_is_scipys(case: str) -> None:
    prediction, target = series(case)
    expected = scipy.stats.pearsonr(prediction.astype(np.float64), target.astype(np.float64)).statistic
    assert metrics.pcc(prediction, target) == pytest.approx(expected, abs=1e-9)


def test_errors_and_signs_by_hand() -> None:
    prediction, target = [0.5, -0.5, 0.0, 0.2], [0.1, 0.5, 0.0, 0.0]
    assert metrics.rmse(prediction, target) == pytest.approx(math.sqrt((0.16 + 1.0 + 0.0 + 0.04) / 4))
    assert metrics.mae(prediction, target) == pytest.approx((0.4 + 1.0 + 0.0 + 0.2) / 4)
    assert metrics.sagr(prediction, target) == 0.5  # the first and the third: zero is a sign of its own


def test_identity_is_perfect() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 1000)
    measured = [metric(values, values) for metric in metrics.METRICS.values()]
    assert measured == [1.0, 1.0, 0.0, 0.0, 1.0]


def test_offset_and_scale_cost_ccc_but_not_pcc() -> None:
    target = np.array([-1.0, 0.0, 1.0])
    # var 2/3 both, covariance 2/3, means 0.5 apart: 2 * 2/3 / (4/3 + 1/4)
    assert metrics.ccc(target + 0.5, target) == pytest.approx((4 / 3) / (4 / 3 + 0.25))
    assert metrics.pcc(target + 0.5, target) == pytest.approx(1.0)


@pytest.mark.parametrize("metric", metrics.METRICS.values())
@pytest.mark.parametrize("mask", [[False, False, False], [False, True, False]])
def test_fewer_than_two_points_are_undefined(metric: Callable[..., float], mask: list[bool]) -> None:
    assert math.isnan(metric([0.1, 0.2, 0.3], [0.3, 0.1, 0.2], mask))
    assert math.isnan(metric([], []))


@pytest.mark.parametrize(
    ("prediction", "target", "expected_ccc"),
    [
        ([0.1] * 7, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], 0.0),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7], [0.1] * 7, 0.0),
        ([0.1] * 7, [0.3] * 7, 0.0),
        ([0.1] * 7, [0.1] * 7, NAN),
    ],
)
def test_constant_series(prediction: list[float], target: list[float], expected_ccc: float) -> None:
    assert metrics.ccc(prediction, target) == pytest.approx(expected_ccc, nan_ok=True, abs=0)
    assert math.isnan(metrics.pcc(prediction, target))


@pytest.mark.parametrize("metric", metrics.METRICS.values())
def test_masked_values_change_nothing(metric: Callable[..., float]) -> None:
    rng = np.random.default_rng(1)
    prediction, target, mask = rng.normal(size=50), rng.normal(size=50), rng.random(50) < 0.6
    expected = metric(prediction[mask], target[mask])
    for junk in (NAN, math.inf, -5.0, 1e300):
        assert metric(np.where(mask, prediction, junk), np.where(mask, target, junk), mask) == expected


@pytest.mark.parametrize("metric", metrics.METRICS.values())
def test_wrong_input_is_refused(metric: Callable[..., float]) -> None:
    good = np.linspace(0, 1, 4)
    for bad in (NAN, math.inf):
        with pytest.raises(ValueError, match="NaN or infinite"):
            metric(np.where(good > 0.9, bad, good), good)
        with pytest.raises(ValueError, match="NaN or infinite"):
            metric(good, np.where(good > 0.9, bad, good), np.ones(4, dtype=bool))
    with pytest.raises(ValueError, match="two arrays"):
        metric(good, good[:3])
    with pytest.raises(ValueError, match="two arrays"):
        metric(good.reshape(2, 2), good.reshape(2, 2))
    with pytest.raises(ValueError, match="mask"):
        metric(good, good, np.ones(3, dtype=bool))
    with pytest.raises(ValueError, match="mask"):  # an index array would silently select other points
        metric(good, good, np.array([0, 1, 1, 0]))


def test_evaluate_is_each_metric_per_dimension_and_mean() -> None:
    rng = np.random.default_rng(2)
    prediction, target, mask = rng.normal(size=(90, 2)), rng.normal(size=(90, 2)), rng.random(90) < 0.7
    prediction[~mask] = NAN
    answer = metrics.evaluate(prediction, target, mask)
    assert len(answer) == 3 * len(metrics.METRICS)
    for name, metric in metrics.METRICS.items():
        valence = metric(prediction[mask, 0], target[mask, 0])
        arousal = metric(prediction[mask, 1], target[mask, 1])
        assert answer[f"{name}_valence"] == valence
        assert answer[f"{name}_arousal"] == arousal
        assert answer[f"{name}_mean"] == pytest.approx((valence + arousal) / 2)
    with pytest.raises(ValueError, match="two arrays"):
        metrics.evaluate(prediction[:, :1], target[:, :1], mask)


# --- oracles for all metrics, on input that breaks naive formulas


def exact(prediction: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """All metrics in exact fractions of the very numbers given; only the last step is rounded."""
    p = [Fraction(float(value)) for value in prediction]
    t = [Fraction(float(value)) for value in target]
    n = len(p)
    mean_p, mean_t = sum(p) / n, sum(t) / n
    var_p = sum((value - mean_p) ** 2 for value in p) / n
    var_t = sum((value - mean_t) ** 2 for value in t) / n
    covariance = sum((a - mean_p) * (b - mean_t) for a, b in zip(p, t, strict=True)) / n
    product = var_p * var_t
    square = covariance**2 / product if product else Fraction(0)
    denominator = var_p + var_t + (mean_p - mean_t) ** 2
    return {
        "ccc": float(2 * covariance / denominator) if denominator else NAN,
        "pcc": math.copysign(math.sqrt(square), covariance) if product else NAN,
        "rmse": math.sqrt(sum((a - b) ** 2 for a, b in zip(p, t, strict=True)) / n),
        "mae": float(sum(abs(a - b) for a, b in zip(p, t, strict=True)) / n),
        "sagr": sum((a > 0) - (a < 0) == (b > 0) - (b < 0) for a, b in zip(p, t, strict=True)) / n,
    }


def adversarial(name: str) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    target, noise = rng.uniform(-1, 1, 301), rng.normal(0, 0.3, 301)
    return {
        "random": (target + noise, target),
        "offset 1e6": (target + noise + 1e6, target + 1e6),
        "offset 1e9, one side": (target + 1e9, target),
        "variation 1e-12": (0.5 + 1e-12 * (target + noise), 0.5 + 1e-12 * target),
        "variation 1e-12 of one side": (0.5 + 1e-12 * noise, target),
        "variation 1e-150": (1e-150 * (target + noise), 1e-150 * target),
        "constant prediction": (np.full(301, 0.1), target),
        "constant target": (target, np.full(301, 0.1)),
        "anti-correlated": (-target, target),
        "two points": (np.array([0.1, -0.3]), np.array([0.2, 0.2 + 1e-9])),
        "float32": ((target + noise).astype(np.float32), target.astype(np.float32)),
        "zeros": (np.zeros(301), np.where(np.arange(301) % 3 == 0, 0.0, target)),
    }[name]


ADVERSARIAL = (
    "random",
    "offset 1e6",
    "offset 1e9, one side",
    "variation 1e-12",
    "variation 1e-12 of one side",
    "variation 1e-150",
    "constant prediction",
    "constant target",
    "anti-correlated",
    "two points",
    "float32",
    "zeros",
)


@pytest.mark.parametrize("name", metrics.METRICS)
@pytest.mark.parametrize("case", ADVERSARIAL)
def test_every_metric_is_the_exact_one(case: str, name: str) -> None:
    prediction, target = adversarial(case)
    expected = exact(prediction, target)[name]
    # Errors of 1e9 have 17 digits as well: there the tolerance is relative.
    assert metrics.METRICS[name](prediction, target) == pytest.approx(expected, abs=1e-9, rel=1e-12, nan_ok=True)


def test_every_metric_of_a_million_points_behind_a_mask() -> None:
    rng = np.random.default_rng(12)
    target = rng.uniform(-1, 1, 1_000_000)
    prediction, mask = 0.7 * target + rng.normal(0.1, 0.2, len(target)), rng.random(len(target)) < 0.9
    p, t = prediction[mask], target[mask]
    prediction[~mask] = NAN
    assert metrics.ccc(prediction, target, mask) == pytest.approx(audmetric.concordance_cc(t, p), abs=1e-9)
    assert metrics.pcc(prediction, target, mask) == pytest.approx(audmetric.pearson_cc(t, p), abs=1e-9)
    assert metrics.pcc(prediction, target, mask) == pytest.approx(scipy.stats.pearsonr(p, t).statistic, abs=1e-9)
    assert metrics.rmse(prediction, target, mask) ** 2 == pytest.approx(audmetric.mean_squared_error(t, p), abs=1e-9)
    assert metrics.mae(prediction, target, mask) == pytest.approx(audmetric.mean_absolute_error(t, p), abs=1e-9)
    assert metrics.sagr(prediction, target, mask) == np.count_nonzero((p > 0) == (t > 0)) / len(p)


def test_errors_are_scikit_learns() -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    prediction, target = adversarial("random")
    assert metrics.rmse(prediction, target) == pytest.approx(
        sklearn_metrics.root_mean_squared_error(target, prediction), abs=1e-12
    )
    assert metrics.mae(prediction, target) == pytest.approx(
        sklearn_metrics.mean_absolute_error(target, prediction), abs=1e-12
    )


@pytest.mark.parametrize("count", [2, 5, 200])
def test_torchmetrics_divides_by_one_less(count: int) -> None:
    """Its variances are a sample's, so the means' distance weighs (n - 1) / n of what it does here (settled 8)."""
    rng = np.random.default_rng(count)
    target = rng.uniform(-1, 1, count)
    prediction = 0.5 * target + rng.normal(0.4, 0.2, count)
    theirs = torchmetrics.functional.concordance_corrcoef(torch.from_numpy(prediction), torch.from_numpy(target))
    covariance = np.cov(prediction, target, ddof=0)
    apart = (prediction.mean() - target.mean()) ** 2
    spread = covariance[0, 0] + covariance[1, 1]
    ours = metrics.ccc(prediction, target)
    assert float(theirs) == pytest.approx(2 * covariance[0, 1] / (spread + (count - 1) / count * apart), abs=1e-9)
    assert float(theirs) == pytest.approx(ours * (spread + apart) / (spread + (count - 1) / count * apart), abs=1e-9)
    assert abs(float(theirs)) > abs(ours)


# --- clips


def test_ccc_over_clips_is_that_of_all_points_together() -> None:
    rng = np.random.default_rng(13)
    sizes = (30, 0, 1, 200)
    targets = [rng.uniform(-1, 1, (size, 2)) for size in sizes]
    predictions = [target + rng.normal(0.1, 0.4, target.shape) for target in targets]
    masks = [rng.random(size) < 0.8 for size in sizes]
    predictions[0][~masks[0]] = NAN
    p, t = (
        np.concatenate([values[mask] for values, mask in zip(side, masks, strict=True)])
        for side in (predictions, targets)
    )
    valence, arousal, mean = metrics.ccc_over_clips(predictions=predictions, targets=targets, masks=masks)
    assert (valence, arousal) == (metrics.ccc(p[:, 0], t[:, 0]), metrics.ccc(p[:, 1], t[:, 1]))
    assert mean == (valence + arousal) / 2
    assert all(math.isnan(value) for value in metrics.ccc_over_clips(predictions=[], targets=[], masks=[]))
    with pytest.raises(ValueError, match="zip"):
        metrics.ccc_over_clips(predictions=predictions, targets=targets, masks=masks[:-1])


def test_means_over_clips_leave_out_and_count_what_is_undefined() -> None:
    rng = np.random.default_rng(14)
    varying = rng.uniform(-1, 1, (40, 2))
    constant = np.full((40, 2), 0.25)
    half = np.column_stack([varying[:, 0], constant[:, 0]])
    every, nothing = np.ones(40, dtype=bool), np.zeros(40, dtype=bool)
    found = metrics.per_clip(
        predictions=[varying + 0.3, constant, half, varying],
        targets=[varying, constant, half, varying],
        masks=[every, every, every, nothing],
    )
    assert [set(clip) for clip in found] == [set(found[0])] * 4
    assert found[0] == metrics.evaluate(varying + 0.3, varying, every)
    means = metrics.mean_over_clips(found)
    assert set(means) == set(found[0]) | {f"undefined_{name}" for name in found[0]}
    # Valence is constant in one clip, arousal in two; the last has no point at all.
    assert means["ccc_valence"] == pytest.approx((found[0]["ccc_valence"] + 1.0) / 2)
    assert (means["undefined_ccc_valence"], means["undefined_ccc_arousal"], means["undefined_ccc_mean"]) == (2, 3, 3)
    assert means["ccc_arousal"] == found[0]["ccc_arousal"]
    assert means["mae_mean"] == pytest.approx(0.1)
    assert means["undefined_mae_mean"] == 1
    with pytest.raises(ValueError, match="zip"):
        metrics.per_clip(predictions=[varying], targets=[varying, varying], masks=[every])


def test_means_over_no_clip_are_undefined() -> None:
    means = metrics.mean_over_clips([])
    assert math.isnan(means["ccc_mean"]) and means["undefined_ccc_mean"] == 0
