"""Pooled statistics against the direct computation, and intervals against what they claim to cover."""

import math

import numpy as np
import pytest
import scipy.stats

from va.evaluate import intervals, metrics

NAN = float("nan")


def make_clips(seed: int, offset: float) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Clips of very different length and level, some without a label, one point that counts in another."""
    rng = np.random.default_rng(seed)
    predictions, targets, masks = [], [], []
    for length in (400, 3, 1, 57, 0, 200, 12, 90):
        target = offset + rng.normal(rng.uniform(-0.5, 0.5, 2), 0.2, (length, 2))
        predictions.append(target + rng.normal(0.1, 0.3, (length, 2)))
        targets.append(target)
        masks.append(rng.random(length) < (0.0 if length == 12 else 0.8))
    return predictions, targets, masks


def direct_ccc(clips: tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]], counts: np.ndarray) -> list[float]:
    """CCC of valence and of arousal with each clip repeated, from the points themselves."""
    order = np.repeat(np.arange(len(counts)), counts.astype(int))
    prediction, target, mask = (np.concatenate([side[index] for index in order]) for side in clips)
    return [metrics.ccc(prediction[:, column], target[:, column], mask) for column in range(2)]


@pytest.mark.parametrize("offset", [0.0, -3.0, 1e5])
def test_pooled_statistics_are_the_direct_ccc(offset: float) -> None:
    clips = make_clips(3, offset)
    statistics = intervals.clip_statistics(predictions=clips[0], targets=clips[1], masks=clips[2])
    assert statistics.shape == (8, 2, 6)
    for counts in intervals.resample_counts(num_clips=8, resamples=25, seed=0):
        pooled = intervals.pooled_ccc(np.tensordot(counts, statistics, axes=1))
        np.testing.assert_allclose(pooled, direct_ccc(clips, counts), atol=1e-9, rtol=0)


def test_pooled_statistics_of_constant_series() -> None:
    varying = np.linspace(-1, 1, 14).reshape(7, 2)
    constant, other = np.full((7, 2), 0.1), np.full((7, 2), 0.3)
    every = np.ones(7, dtype=bool)
    for prediction, target, expected in [
        (constant, constant, NAN),
        (constant, other, 0.0),
        (constant, varying, 0.0),
        (varying, constant, 0.0),
        (varying, varying, 1.0),
    ]:
        statistics = intervals.clip_statistics(predictions=[prediction], targets=[target], masks=[every])
        np.testing.assert_allclose(intervals.pooled_ccc(statistics[0]), expected, atol=1e-12)


@pytest.mark.parametrize("level", [0.1, 0.3, 0.7, -0.35])
def test_a_resample_of_one_constant_clip_is_undefined(level: float) -> None:
    # The other clip moves the shift off the level, so that only rounding is left of the first one's variation.
    constant, other = np.full((7, 2), level), np.random.default_rng(0).uniform(-1, 1, (100, 2))
    masks = [np.ones(7, dtype=bool), np.ones(100, dtype=bool)]
    statistics = intervals.clip_statistics(predictions=[constant, other], targets=[constant, other], masks=masks)
    for times in range(1, 8):
        assert np.isnan(intervals.pooled_ccc(times * statistics[0])).all()


def test_a_resample_of_one_point_is_undefined() -> None:
    statistics = intervals.clip_statistics(
        predictions=[np.array([[0.1, 0.2]])], targets=[np.array([[0.4, 0.3]])], masks=[np.ones(1, dtype=bool)]
    )
    assert np.isnan(intervals.pooled_ccc(statistics[0])).all()


def test_resamples_draw_with_replacement_and_by_seed() -> None:
    counts = intervals.resample_counts(num_clips=30, resamples=400, seed=4)
    assert (counts.sum(axis=1) == 30).all()
    # P(a clip is not drawn) = (1 - 1/30)^30 = .362; sampling without replacement would never leave one out
    assert np.mean(counts == 0) == pytest.approx((1 - 1 / 30) ** 30, abs=0.01)
    np.testing.assert_array_equal(counts, intervals.resample_counts(num_clips=30, resamples=400, seed=4))
    assert (counts != intervals.resample_counts(num_clips=30, resamples=400, seed=5)).any()


def test_bootstrap_is_the_percentiles_of_direct_resampling() -> None:
    clips = make_clips(6, 0.0)
    statistics = intervals.clip_statistics(predictions=clips[0], targets=clips[1], masks=clips[2])
    measured = intervals.bootstrap_ccc(statistics, resamples=300, seed=9)
    used = [index for index, mask in enumerate(clips[2]) if mask.any()]
    assert len(used) < len(clips[2])
    kept = tuple([side[index] for index in used] for side in clips)
    values = np.array(
        [direct_ccc(kept, counts) for counts in intervals.resample_counts(num_clips=len(used), resamples=300, seed=9)]
    )
    expected = np.nanpercentile(np.column_stack([values, values.mean(axis=1)]), (2.5, 97.5), axis=0).T
    np.testing.assert_allclose(measured, expected, atol=1e-9)
    point = intervals.pooled_ccc(statistics.sum(axis=0))
    assert (measured[:2, 0] < point).all() and (point < measured[:2, 1]).all()


def test_bootstrap_of_a_perfect_prediction_has_no_width() -> None:
    _, targets, masks = make_clips(7, 0.0)
    statistics = intervals.clip_statistics(predictions=targets, targets=targets, masks=masks)
    np.testing.assert_allclose(intervals.bootstrap_ccc(statistics, resamples=50, seed=0), 1.0, atol=1e-12)


def test_bootstrap_needs_two_clips_that_count() -> None:
    predictions, targets, masks = make_clips(8, 0.0)
    only_first = [mask & (index == 0) for index, mask in enumerate(masks)]
    statistics = intervals.clip_statistics(predictions=predictions, targets=targets, masks=only_first)
    assert np.isnan(intervals.bootstrap_ccc(statistics, resamples=20, seed=0)).all()
    nothing = intervals.clip_statistics(predictions=[], targets=[], masks=[])
    assert np.isnan(intervals.bootstrap_ccc(nothing, resamples=20, seed=0)).all()
    with pytest.raises(ValueError, match="zip"):
        intervals.clip_statistics(predictions=predictions, targets=targets, masks=masks[:-1])


# --- Student's quantile


@pytest.mark.parametrize("freedom", [1, 1.01, 1.5, 2, 2.7, 3, 4, 5, 8, 9, 19.3, 29, 30, 101, 1e4, 1e6])
def test_the_quantile_is_scipys(freedom: float) -> None:
    assert intervals.student_quantile(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=1e-8)


def test_the_quantile_of_endless_freedom_is_the_normal_one() -> None:
    assert intervals.student_quantile(math.inf) == pytest.approx(scipy.stats.norm.ppf(0.975), rel=1e-5)
    with pytest.raises(ValueError, match="at least one degree"):
        intervals.student_quantile(NAN)
