"""Agreement metrics against audmetric and SciPy, and pooled statistics against the direct computation."""

import math
from collections.abc import Callable

import audmetric
import numpy as np
import pytest
import scipy.stats
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
