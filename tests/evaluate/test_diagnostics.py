"""Calibration, error over time, density, smoothness and lag, each against NumPy, SciPy or a formula."""

import math

import numpy as np
import pytest
import scipy.stats

from va.data.corpus import Truth
from va.evaluate import diagnostics
from va.evaluate.assemble import ClipSeries
from va.evaluate.protocol import ClipFrames

NAN = float("nan")


def series_of(values: np.ndarray, covered: np.ndarray | None = None) -> ClipSeries:
    cover = np.ones(len(values), dtype=bool) if covered is None else covered
    return ClipSeries(
        id="clip",
        time_s=0.25 + 0.5 * np.arange(len(values)),
        values=np.where(cover[:, None], values, np.nan),
        covered=cover,
    )


def frames_of(seed: int, duration_s: float) -> ClipFrames:
    rng = np.random.default_rng(seed)
    time_s = np.sort(rng.uniform(0, duration_s, int(20 * duration_s)))
    count = len(time_s)
    valid, covered = rng.random(count) < 0.8, rng.random(count) < 0.9
    prediction = np.where(covered[:, None], rng.normal(0, 0.5, (count, 2)), NAN)
    target = np.where(valid[:, None], rng.uniform(-1, 1, (count, 2)), -5.0)
    return ClipFrames("clip", time_s, prediction, target, valid, covered, np.zeros(count, dtype=bool))


# --- calibration


def test_calibration_is_scipys_binned_statistic() -> None:
    rng = np.random.default_rng(0)
    prediction = rng.uniform(-1, 0.4, 5000)
    target = 0.5 * prediction + rng.normal(0, 0.1, 5000)
    found = diagnostics.calibration(prediction, target, bins=10)

    def binned(values: np.ndarray, statistic: object) -> np.ndarray:
        return scipy.stats.binned_statistic(prediction, values, statistic, bins=10, range=(-1, 1)).statistic

    assert len(found["count"]) == 7  # the three bins from .4 up hold nothing
    np.testing.assert_array_equal(found["count"], binned(target, "count")[:7])
    np.testing.assert_allclose(found["predicted"], binned(prediction, "mean")[:7])
    np.testing.assert_allclose(found["annotated"], binned(target, "mean")[:7])
    np.testing.assert_allclose(found["low"], binned(target, lambda held: np.percentile(held, 25))[:7])
    np.testing.assert_allclose(found["high"], binned(target, lambda held: np.percentile(held, 75))[:7])


def test_a_perfect_prediction_lies_on_the_diagonal_and_far_ones_in_the_outer_bins() -> None:
    values = np.array([-7.0, -1.0, -0.9, 0.0, 1.0, 3.0])
    found = diagnostics.calibration(values, values, bins=4)
    np.testing.assert_array_equal(found["predicted"], found["annotated"])
    assert found["count"].tolist() == [3, 1, 2]
    np.testing.assert_allclose(found["predicted"], [-8.9 / 3, 0.0, 2.0])


def test_nothing_to_calibrate() -> None:
    found = diagnostics.calibration(np.zeros(0), np.zeros(0), bins=5)
    assert all(len(found[name]) == 0 for name in ("predicted", "annotated", "low", "high", "count"))
    with pytest.raises(ValueError, match="NaN or infinite"):
        diagnostics.calibration(np.array([NAN]), np.zeros(1), bins=5)
    with pytest.raises(ValueError, match="two arrays"):
        diagnostics.calibration(np.zeros(2), np.zeros(3), bins=5)
    with pytest.raises(ValueError, match="at least one bin"):
        diagnostics.calibration(np.zeros(2), np.zeros(2), bins=0)


# --- error over time


def test_error_over_time_is_a_mean_per_bin() -> None:
    clips = [frames_of(1, 31.0), frames_of(2, 8.0), frames_of(3, 55.0)]
    found = diagnostics.error_over_time(clips, bin_s=10.0)
    assert found is not None
    assert found["time_s"].tolist() == [5.0, 15.0, 25.0, 35.0, 45.0, 55.0]
    for row, start in enumerate(range(0, 60, 10)):
        errors = np.concatenate(
            [
                np.abs(clip.prediction - clip.target)[
                    clip.valid & clip.covered & (clip.time_s >= start) & (clip.time_s < start + 10)
                ]
                for clip in clips
            ]
        )
        assert found["count"][row] == len(errors)
        assert found["mae_valence"][row] == pytest.approx(errors[:, 0].mean())
        assert found["mae_arousal"][row] == pytest.approx(errors[:, 1].mean())


def test_bins_without_a_frame_are_left_out() -> None:
    clip = frames_of(4, 30.0)
    clip.valid[(clip.time_s >= 10) & (clip.time_s < 20)] = False
    found = diagnostics.error_over_time([clip], bin_s=10.0)
    assert found is not None and found["time_s"].tolist() == [5.0, 25.0]
    clip.valid[:] = False
    assert diagnostics.error_over_time([clip], bin_s=10.0) is None
    assert diagnostics.error_over_time([], bin_s=10.0) is None
    with pytest.raises(ValueError, match="positive and finite"):
        diagnostics.error_over_time([clip], bin_s=0.0)


# --- density


def test_density_is_numpys_histogram() -> None:
    points = np.random.default_rng(5).uniform(-1, 1, (3000, 2))
    points[:3] = [[-1.0, 1.0], [1.0, -1.0], [0.0, 0.0]]
    edges = np.linspace(-1, 1, 9)
    expected, _, _ = np.histogram2d(points[:, 1], points[:, 0], bins=[edges, edges])
    found = diagnostics.density(points, edges)
    np.testing.assert_allclose(found, expected / 3000)
    assert found.sum() == pytest.approx(1.0)


def test_density_puts_arousal_in_rows_and_keeps_points_beyond_the_edges() -> None:
    edges = np.array([-1.0, 0.0, 1.0])
    found = diagnostics.density(np.array([[0.5, -0.5], [9.0, -9.0], [-0.5, 0.5], [0.5, 0.5]]), edges)
    assert found.tolist() == [[0.0, 0.5], [0.25, 0.25]]
    assert not diagnostics.density(np.zeros((0, 2)), edges).any()
    with pytest.raises(ValueError, match="finite points"):
        diagnostics.density(np.array([[NAN, 0.0]]), edges)
    with pytest.raises(ValueError, match="increasing edges"):
        diagnostics.density(np.zeros((1, 2)), edges[::-1])


# --- smoothness


def test_smoothness_of_polynomials() -> None:
    """A line of slope a has total variation |a| per second and no jerk; the cube of t has jerk 6 everywhere."""
    time_s = 0.25 + 0.5 * np.arange(30)
    found = diagnostics.smoothness([series_of(np.stack([-0.3 * time_s, time_s**3 / 600], axis=1))])
    rise = np.diff(time_s**3 / 600).sum() / 14.5
    assert found == pytest.approx((0.3, rise, 0.0, 0.01), abs=1e-9)


def test_smoothness_never_bridges_a_gap_and_pools_clips() -> None:
    rng = np.random.default_rng(6)
    values, covered = rng.normal(size=(40, 2)), rng.random(40) < 0.7
    other = rng.normal(size=(9, 2))
    steps, jerks = [], []
    for track, cover in ((values, covered), (other, np.ones(9, dtype=bool))):
        for cell in range(len(track)):
            if cover[cell : cell + 2].all() and cell + 1 < len(track):
                steps.append(np.abs(track[cell + 1] - track[cell]) / 0.5)
            if cover[cell : cell + 4].all() and cell + 3 < len(track):
                third = track[cell + 3] - 3 * track[cell + 2] + 3 * track[cell + 1] - track[cell]
                jerks.append(np.abs(third) / 0.5**3)
    expected = (*np.mean(steps, axis=0), *np.mean(jerks, axis=0))
    # What lies under a gap is never looked at.
    series = series_of(values, covered)
    series.values[~covered] = 1e6
    assert diagnostics.smoothness([series, series_of(other)]) == pytest.approx(expected)


def test_smoothness_of_a_constant_and_of_too_little() -> None:
    assert diagnostics.smoothness([series_of(np.full((9, 2), 0.3))]) == (0.0, 0.0, 0.0, 0.0)
    tv_valence, _, jerk_valence, jerk_arousal = diagnostics.smoothness([series_of(np.eye(2))])
    assert tv_valence == 2.0 and math.isnan(jerk_valence) and math.isnan(jerk_arousal)
    assert all(math.isnan(value) for value in diagnostics.smoothness([]))
    holes = series_of(np.zeros((8, 2)), np.arange(8) % 2 == 0)
    assert all(math.isnan(value) for value in diagnostics.smoothness([holes]))


def test_the_truth_on_the_grid_is_the_label_on_screen() -> None:
    truth = Truth(
        time_s=np.array([0.1, 0.2, 0.7, 0.8, 1.9, 2.6]),
        va=np.linspace(-0.5, 0.5, 12, dtype=np.float32).reshape(6, 2),
        valid=np.array([True, True, False, True, True, True]),
    )
    found = diagnostics.truth_series("c", truth)
    # .75 shows an invalid label, 1.25 one of .8, 1.75 one that is .95 s old, 2.25 that of 1.9; 2.75 is past the last.
    assert found.time_s.tolist() == [0.25, 0.75, 1.25, 1.75, 2.25, 2.75]
    assert found.covered.tolist() == [True, False, True, False, True, True]
    np.testing.assert_array_equal(found.values[found.covered], truth.va[[1, 3, 4, 5]].astype(np.float64))
    assert np.isnan(found.values[~found.covered]).all()
    single = Truth(time_s=np.zeros(1), va=np.full((1, 2), 0.5, np.float32), valid=np.ones(1, dtype=bool))
    assert diagnostics.truth_series("c", single).values.tolist() == [[0.5, 0.5]]


# --- lag


def lagging(lag_s: float, *, duration_s: float = 200.0) -> tuple[ClipSeries, Truth]:
    """A predictor that is right about t, and labels that come `lag_s` later; labelled for whole periods inside."""

    def track(at_s: np.ndarray) -> np.ndarray:
        rates = 2 * np.pi / np.array([[40.0, 25.0], [10.0, 8.0]])
        return 0.4 * np.sin(rates[0] * at_s[:, None]) + 0.4 * np.sin(rates[1] * at_s[:, None])

    time_s = np.arange(int(duration_s * 25)) / 25
    va = track(time_s - lag_s).astype(np.float32)
    centers_s = 0.25 + 0.5 * np.arange(int(duration_s * 2))
    valid = (time_s >= 0.1 * duration_s) & (time_s < 0.9 * duration_s)
    return series_of(track(centers_s)), Truth(time_s=time_s, va=va, valid=valid)


@pytest.mark.parametrize("lag_s", [0.0, 2.0, -1.0])
def test_lag_is_found_with_its_sign(lag_s: float) -> None:
    series, truth = lagging(lag_s)
    shifts_s = [-2.0, -1.0, 0.0, 1.0, 2.0, 3.0]
    found = diagnostics.lag([series], [truth], shifts_s=shifts_s, fill="interpolate")
    assert found["best_s"] == lag_s
    assert found["shift_s"].tolist() == shifts_s
    assert found["ccc_mean"][shifts_s.index(lag_s)] > 0.999
    np.testing.assert_allclose(found["ccc_mean"], (found["ccc_valence"] + found["ccc_arousal"]) / 2)
    # A stationary track d seconds off agrees as its autocorrelation at d, but for what is lost between cell centres.
    apart = lag_s - np.array(shifts_s)
    valence = (np.cos(2 * np.pi * apart / 40) + np.cos(2 * np.pi * apart / 10)) / 2
    np.testing.assert_allclose(found["ccc_valence"], valence, atol=4e-3)


def test_lag_ties_go_to_no_shift_and_nothing_has_none() -> None:
    series, truth = lagging(0.0, duration_s=20.0)
    flat = series_of(np.full((40, 2), 0.1))
    assert diagnostics.lag([flat], [truth], shifts_s=[-1.0, 1.0, 0.0, 2.0], fill="interpolate")["best_s"] == 0.0
    nothing = series_of(np.zeros((40, 2)), np.zeros(40, dtype=bool))
    empty = diagnostics.lag([nothing], [truth], shifts_s=[0.0, 1.0], fill="interpolate")
    assert math.isnan(empty["best_s"]) and np.isnan(empty["ccc_mean"]).all()
    assert math.isnan(diagnostics.lag([series], [truth], shifts_s=[], fill="nearest")["best_s"])
    with pytest.raises(ValueError, match="zip"):
        diagnostics.lag([series], [], shifts_s=[0.0], fill="nearest")
