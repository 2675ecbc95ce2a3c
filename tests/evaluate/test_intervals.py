"""Pooled statistics against the direct computation, and intervals against what they claim to cover."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from va.evaluate import intervals, metrics
from va.evaluate.pages import sentences

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


def percentiles(num_clips: int) -> np.ndarray:
    """Where the expanded percentile interval ends, in per cent, by SciPy."""
    deviations = math.sqrt(num_clips / (num_clips - 1)) * scipy.stats.t.ppf(0.975, num_clips - 1)
    return 100 * scipy.stats.norm.cdf([-deviations, deviations])


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


def test_bootstrap_is_the_expanded_percentiles_of_direct_resampling() -> None:
    clips = make_clips(6, 0.0)
    statistics = intervals.clip_statistics(predictions=clips[0], targets=clips[1], masks=clips[2])
    measured = intervals.bootstrap_ccc(statistics, resamples=300, seed=9)
    used = [index for index, mask in enumerate(clips[2]) if mask.any()]
    assert len(used) < len(clips[2])
    kept = tuple([side[index] for index in used] for side in clips)
    values = np.array(
        [direct_ccc(kept, counts) for counts in intervals.resample_counts(num_clips=len(used), resamples=300, seed=9)]
    )
    expected = np.nanpercentile(np.column_stack([values, values.mean(axis=1)]), percentiles(len(used)), axis=0).T
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


def test_undefined_resamples_are_ignored_and_one_clip_has_no_interval() -> None:
    values = np.array([0.1, NAN, 0.3, 0.2, NAN])
    assert intervals.interval(values, num_clips=2) == (0.1, 0.3)
    assert np.isnan(intervals.interval(values, num_clips=1)).all()
    assert np.isnan(intervals.interval(np.full(4, NAN), num_clips=9)).all()
    many = np.random.default_rng(0).normal(size=5000)
    for num_clips in (5, 20, 76, 100_000):
        low, high = np.percentile(many, percentiles(num_clips))
        assert intervals.interval(many, num_clips=num_clips) == pytest.approx((low, high), abs=1e-9)


# --- differences, and seeds


def statistics_of(seed: int, *, worse: float) -> np.ndarray:
    predictions, targets, masks = make_clips(seed, 0.0)
    noise = np.random.default_rng(seed + 1)
    predictions = [prediction + worse * noise.normal(size=prediction.shape) for prediction in predictions]
    return intervals.clip_statistics(predictions=predictions, targets=targets, masks=masks)


def test_a_paired_difference_is_the_percentiles_of_differences_on_the_same_resamples() -> None:
    first, second = statistics_of(3, worse=0.0), statistics_of(3, worse=0.2)
    measured = intervals.paired_difference(first, second, resamples=400, seed=2)
    used = first[:, 0, 0] > 0
    counts = intervals.resample_counts(num_clips=int(used.sum()), resamples=400, seed=2)
    drawn = [
        [intervals.pooled_ccc(np.tensordot(row, side[used], axes=1)) for row in counts] for side in (first, second)
    ]
    apart = np.subtract(*np.array(drawn))
    apart = np.column_stack([apart, apart.mean(axis=1)])
    expected = np.nanpercentile(apart, percentiles(int(used.sum())), axis=0).T
    np.testing.assert_allclose(measured[:, 1:], expected, atol=1e-12)
    point = intervals.pooled_ccc(first.sum(axis=0)) - intervals.pooled_ccc(second.sum(axis=0))
    np.testing.assert_allclose(measured[:, 0], [*point, point.mean()], atol=1e-12)
    reverse = intervals.paired_difference(second, first, resamples=400, seed=2)
    np.testing.assert_allclose(reverse, -measured[:, [0, 2, 1]], atol=1e-12)


def test_a_model_minus_itself_is_nothing() -> None:
    same = statistics_of(3, worse=0.1)
    assert (intervals.paired_difference(same, same, resamples=50, seed=0) == 0).all()


def test_differences_of_other_points_are_refused() -> None:
    clips = make_clips(3, 0.0)
    first = intervals.clip_statistics(predictions=clips[0], targets=clips[1], masks=clips[2])
    fewer = [mask & (np.arange(len(mask)) != 5) for mask in clips[2]]
    moved = [target + 0.01 * (np.arange(len(target)) == 7)[:, None] for target in clips[1]]
    for targets, masks in ((clips[1], fewer), (moved, clips[2])):
        other = intervals.clip_statistics(predictions=clips[0], targets=targets, masks=masks)
        with pytest.raises(ValueError, match="same points"):
            intervals.paired_difference(first, other, resamples=10, seed=0)
        with pytest.raises(ValueError, match="same points"):
            intervals.over_seeds_and_clips(np.stack([first, other]), resamples=10, seed=0)
    with pytest.raises(ValueError, match="alike"):
        intervals.paired_difference(first, first[:-1], resamples=10, seed=0)
    with pytest.raises(ValueError, match="seeds"):
        intervals.over_seeds_and_clips(first, resamples=10, seed=0)


def test_one_seed_has_the_interval_over_clips() -> None:
    only = statistics_of(3, worse=0.1)
    measured = intervals.over_seeds_and_clips(only[None], resamples=200, seed=4)
    np.testing.assert_array_equal(measured[:, 1:], intervals.bootstrap_ccc(only, resamples=200, seed=4))
    np.testing.assert_array_equal(measured[:2, 0], intervals.pooled_ccc(only.sum(axis=0)))


def test_both_variances_are_added_by_hand() -> None:
    seeds = np.stack([statistics_of(3, worse=worse) for worse in (0.0, 0.15, 0.3)])
    measured = intervals.over_seeds_and_clips(seeds, resamples=300, seed=4)
    values = intervals.pooled_ccc(seeds.sum(axis=1)).mean(axis=1)
    draws = np.mean([intervals.resampled_ccc(one, resamples=300, seed=4)[:, 2] for one in seeds], axis=0)
    clips = int((seeds[0, :, 0, 0] > 0).sum())
    parts = np.array([np.nanvar(draws) * clips / (clips - 1), np.var(values, ddof=1) / 3])
    freedom = parts.sum() ** 2 / (parts[0] ** 2 / (clips - 1) + parts[1] ** 2 / 2)
    half = scipy.stats.t.ppf(0.975, freedom) * math.sqrt(parts.sum())
    assert measured[2] == pytest.approx([values.mean(), values.mean() - half, values.mean() + half], abs=1e-9)
    # Wider than either alone.
    assert np.ptp(measured[2, 1:]) > 2 * 1.96 * np.sqrt(parts).max()


def test_equal_perfect_seeds_have_no_width_and_undefined_ones_no_figure() -> None:
    _, targets, masks = make_clips(7, 0.0)
    perfect = intervals.clip_statistics(predictions=targets, targets=targets, masks=masks)
    np.testing.assert_allclose(intervals.over_seeds_and_clips(np.stack([perfect] * 3), resamples=50, seed=0), 1.0)
    assert np.isnan(intervals.over_seeds_and_clips(np.zeros((2, 5, 2, 6)), resamples=50, seed=0)).all()
    assert np.isnan(intervals.over_seeds_and_clips(np.zeros((2, 0, 2, 6)), resamples=50, seed=0)).all()


# --- coverage: how often a 95% interval holds the truth, on worlds with a known one

SPREAD, WITHIN = 0.6, 0.5  # deviations of a clip's level and of what happens in it
MOMENTS = 8  # of a clip that differ; its frames repeat them


def world(
    rng: np.random.Generator, slopes: np.ndarray, *, clips: int, own: float, shared: float, tails: bool = False
) -> np.ndarray:
    """Statistics [models, clips, MOMENTS, 2, 6] of predictions that are slope * target + errors.

    `shared` is the deviation of the error that all models make throughout a clip, `own` that of each model's,
    throughout a clip and once more in every moment. With `tails` the clips' levels are Student's with 4 degrees of
    freedom instead of normal, of the same deviation.
    """
    frames = np.repeat(rng.integers(25, 250, size=clips), MOMENTS).reshape(clips, MOMENTS, 1)
    level = rng.standard_t(4, size=(clips, 1, 2)) / math.sqrt(2) if tails else rng.normal(size=(clips, 1, 2))
    target = SPREAD * level + WITHIN * rng.normal(size=(clips, MOMENTS, 2))
    prediction = slopes[:, None, None, None] * target + shared * rng.normal(size=(clips, 1, 2))
    prediction = prediction + own * rng.normal(size=(len(slopes), clips, 1, 2))
    prediction = prediction + own * rng.normal(size=prediction.shape)
    targets = np.broadcast_to(target, prediction.shape)
    means = (np.ones_like(targets), prediction, targets, prediction**2, targets**2, prediction * targets)
    return np.stack([frames * mean for mean in means], axis=-1)


def true_ccc(slopes: np.ndarray, *, own: float, shared: float) -> np.ndarray:
    """Of an endless number of clips: 2 cov / (var + var), all means being 0."""
    variance = SPREAD**2 + WITHIN**2
    return 2 * slopes * variance / (slopes**2 * variance + shared**2 + 2 * own**2 + variance)


Method = Callable[[np.ndarray, int], np.ndarray]


def share_covering(
    method: Method, slopes: np.ndarray, truth: float, *, clips: int, worlds: int, **errors: float
) -> float:
    """How often the bounds [2] that `method` gives of a world hold the truth."""
    rng = np.random.default_rng(20)
    found = [method(world(rng, slopes, clips=clips, **errors), index) for index in range(worlds)]
    return float(np.mean([low <= truth <= high for low, high in found]))


def over_clips(statistics: np.ndarray, seed: int) -> np.ndarray:
    return intervals.bootstrap_ccc(statistics[0].sum(axis=1), resamples=400, seed=seed)[0]


def over_frames(statistics: np.ndarray, seed: int) -> np.ndarray:
    """The wrong one: frames are drawn, as if each told something new."""
    moments = statistics[0].reshape(-1, 2, 6)
    frames = moments[:, 0, 0]
    # All frames of a moment are alike, so drawing frames is drawing how many of each moment there are.
    drawn = np.random.default_rng(seed).multinomial(int(frames.sum()), frames / frames.sum(), size=100)
    values = intervals.pooled_ccc(np.tensordot(drawn / frames, moments, axes=1))
    return np.percentile(values[:, 0], (2.5, 97.5))


def paired(statistics: np.ndarray, seed: int) -> np.ndarray:
    ours, theirs = statistics.sum(axis=2)
    return intervals.paired_difference(ours, theirs, resamples=400, seed=seed)[0, 1:]


def unpaired(statistics: np.ndarray, seed: int) -> np.ndarray:
    """The wrong one: each model with resamples of its own."""
    draws = [
        intervals.resampled_ccc(side, resamples=400, seed=2 * seed + index)
        for index, side in enumerate(statistics.sum(axis=2))
    ]
    return np.percentile((draws[0] - draws[1])[:, 0], (2.5, 97.5))


def over_seeds(statistics: np.ndarray, seed: int) -> np.ndarray:
    return intervals.over_seeds_and_clips(statistics.sum(axis=2), resamples=400, seed=seed)[0, 1:]


def seeds_only(statistics: np.ndarray, seed: int) -> np.ndarray:
    """A wrong one: the clips are taken for all there are."""
    values = intervals.pooled_ccc(statistics.sum(axis=(1, 2)))[:, 0]
    half = scipy.stats.t.ppf(0.975, len(values) - 1) * scipy.stats.sem(values)
    return np.array([values.mean() - half, values.mean() + half])


ERRORS = {"own": 0.25, "shared": 0.35}
ONE = np.array([0.6])


@pytest.mark.parametrize(("clips", "least"), [(20, 0.89), (76, 0.91)])
def test_the_interval_over_clips_covers(clips: int, least: float) -> None:
    truth = float(true_ccc(ONE, **ERRORS)[0])
    assert least <= share_covering(over_clips, ONE, truth, clips=clips, worlds=400, **ERRORS) <= 0.98
    # Frames instead of clips: a confident wrong answer.
    assert share_covering(over_frames, ONE, truth, clips=clips, worlds=60, **ERRORS) < 0.4


@pytest.mark.parametrize("clips", [20, 76])
def test_the_paired_difference_covers_and_the_unpaired_is_far_too_wide(clips: int) -> None:
    """Errors that both models make are what pairing is for. Too wide covers too often, and hides what is better."""
    slopes, errors = np.array([0.6, 0.45]), {"own": 0.1, "shared": 0.45}
    truth = float(np.subtract(*true_ccc(slopes, **errors)))
    assert 0.90 <= share_covering(paired, slopes, truth, clips=clips, worlds=400, **errors) <= 0.98
    assert share_covering(unpaired, slopes, truth, clips=clips, worlds=200, **errors) > 0.985
    # In how many worlds the better model cannot be told from the other.
    assert share_covering(paired, slopes, 0.0, clips=clips, worlds=100, **errors) < 0.2
    assert share_covering(unpaired, slopes, 0.0, clips=clips, worlds=100, **errors) > (0.8 if clips == 20 else 0.25)


def share_covering_seeds(method: Method, *, spread: float, clips: int, seeds: int, worlds: int) -> float:
    """How often bounds hold the mean CCC of endless seeds, each with a slope of its own, on endless clips."""
    rng = np.random.default_rng(21)
    truth = float(true_ccc(0.6 + spread * np.random.default_rng(0).normal(size=400_000), **ERRORS).mean())
    found = [
        method(world(rng, 0.6 + spread * rng.normal(size=seeds), clips=clips, **ERRORS), index)
        for index in range(worlds)
    ]
    return float(np.mean([low <= truth <= high for low, high in found]))


def test_the_interval_over_seeds_and_clips_covers_and_half_of_it_does_not() -> None:
    """Four seeds on 76 clips, with a variance between seeds that is about that over clips."""
    sizes = {"spread": 0.08, "clips": 76, "seeds": 4}
    assert 0.90 <= share_covering_seeds(over_seeds, worlds=300, **sizes) <= 0.99
    assert share_covering_seeds(over_clips, worlds=300, **sizes) < 0.86  # the first seed, taken for all
    assert share_covering_seeds(seeds_only, worlds=300, **sizes) < 0.88


def plain_percentiles(statistics: np.ndarray, seed: int) -> np.ndarray:
    drawn = intervals.resampled_ccc(statistics[0].sum(axis=1), resamples=400, seed=seed)
    return np.percentile(drawn[:, 0], (2.5, 97.5))


@pytest.mark.parametrize(("clips", "held"), sorted(sentences._HELD.items()))
def test_what_pages_say_of_few_clips_is_what_is_measured(clips: int, held: int) -> None:
    truth = float(true_ccc(ONE, **ERRORS)[0])
    measured = share_covering(over_clips, ONE, truth, clips=clips, worlds=800, **ERRORS)
    assert abs(measured - held / 100) < 0.05
    if clips + 1 == sentences.FEWEST_CLIPS:
        assert share_covering(over_clips, ONE, truth, clips=clips + 1, worlds=800, **ERRORS) > 0.89


@pytest.mark.slow
@pytest.mark.parametrize(("clips", "least"), [(8, 0.87), (20, 0.90), (76, 0.915)])
@pytest.mark.parametrize(("slope", "tails"), [(0.2, False), (0.6, False), (0.9, False), (0.6, True)])
def test_the_interval_over_clips_covers_many_worlds(clips: int, least: float, slope: float, tails: bool) -> None:
    """The figures of docs/method.md, "Intervals", come from here (-s shows them)."""
    slopes = np.array([slope])
    truth = float(true_ccc(slopes, **ERRORS)[0])
    covered, plain = (
        share_covering(method, slopes, truth, clips=clips, worlds=3000, tails=tails, **ERRORS)
        for method in (over_clips, plain_percentiles)
    )
    print(f"clips {clips}, CCC {truth:.2f}, tails {tails}: {covered:.3f}, plain percentiles {plain:.3f}")
    assert least <= covered <= 0.965
    assert plain < covered


@pytest.mark.slow
@pytest.mark.parametrize("clips", [20, 76])
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("spread", [0.01, 0.06, 0.15])
def test_the_interval_over_seeds_and_clips_covers_many_worlds(clips: int, seeds: int, spread: float) -> None:
    covered = share_covering_seeds(over_seeds, spread=spread, clips=clips, seeds=seeds, worlds=2000)
    print(f"clips {clips}, seeds {seeds}, spread {spread}: {covered:.3f}")
    # Two seeds far apart are the worst there is: one degree of freedom, and Satterthwaite does not know it.
    assert (0.86 if seeds == 2 and spread > 0.1 else 0.90) <= covered <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize("clips", [20, 76])
def test_the_paired_difference_covers_many_worlds(clips: int) -> None:
    slopes, errors = np.array([0.6, 0.45]), {"own": 0.1, "shared": 0.45}
    truth = float(np.subtract(*true_ccc(slopes, **errors)))
    covered = share_covering(paired, slopes, truth, clips=clips, worlds=4000, **errors)
    print(f"clips {clips}: {covered:.3f}")
    assert 0.915 <= covered <= 0.965


# --- Student's quantile


@pytest.mark.parametrize("freedom", [1, 1.01, 1.5, 2, 2.7, 3, 4, 5, 8, 9, 19.3, 29, 30, 101, 1e4, 1e6])
def test_the_quantile_is_scipys(freedom: float) -> None:
    assert intervals.student_quantile(freedom) == pytest.approx(scipy.stats.t.ppf(0.975, freedom), rel=1e-8)


def test_the_quantile_of_endless_freedom_is_the_normal_one() -> None:
    assert intervals.student_quantile(math.inf) == pytest.approx(scipy.stats.norm.ppf(0.975), rel=1e-5)
    with pytest.raises(ValueError, match="at least one degree"):
        intervals.student_quantile(NAN)
