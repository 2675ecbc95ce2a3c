"""Smoothing against SciPy in the interior, by hand at edges and holes, and the choice of a width."""

import math

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

from va.data.corpus import Truth
from va.evaluate import assemble, metrics, smoothing
from va.evaluate.assemble import ClipSeries

SMOOTHERS = [kernel for kernel in smoothing.KERNELS if kernel != "none"]


def series_of(values: np.ndarray, covered: np.ndarray | None = None) -> ClipSeries:
    cover = np.ones(len(values), dtype=bool) if covered is None else covered
    return ClipSeries(
        id="clip",
        time_s=0.25 + 0.5 * np.arange(len(values)),
        values=np.where(cover[:, None], values, np.nan),
        covered=cover,
    )


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 2))


@pytest.mark.parametrize(("width_s", "cells"), [(0.5, 1), (1.0, 3), (1.9, 3), (3.0, 7), (8.0, 17)])
def test_median_is_scipys(width_s: float, cells: int) -> None:
    values = noise(60)
    found = smoothing.smooth(series_of(values), kernel="median", width_s=width_s).values
    inner = slice(cells // 2, 60 - cells // 2)
    np.testing.assert_array_equal(found[inner], scipy.ndimage.median_filter(values, size=(cells, 1))[inner])


@pytest.mark.parametrize(("width_s", "cells"), [(1.0, 3), (3.0, 7), (8.0, 17)])
def test_hamming_is_scipys(width_s: float, cells: int) -> None:
    """For widths of whole cells SciPy's symmetric window ends where ours does."""
    window = scipy.signal.get_window("hamming", cells, fftbins=False)
    expected = scipy.ndimage.convolve1d(noise(60), window / window.sum(), axis=0)
    found = smoothing.smooth(series_of(noise(60)), kernel="hamming", width_s=width_s).values
    inner = slice(cells // 2, 60 - cells // 2)
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-12)


@pytest.mark.parametrize("width_s", [0.7, 1.0, 2.0, 5.0])
def test_gaussian_is_scipys(width_s: float) -> None:
    deviation = width_s / (2 * math.sqrt(2 * math.log(2))) / 0.5
    radius = math.floor(4 * deviation)
    expected = scipy.ndimage.gaussian_filter1d(noise(90), deviation, axis=0, radius=radius)
    found = smoothing.smooth(series_of(noise(90)), kernel="gaussian", width_s=width_s).values
    np.testing.assert_allclose(found[radius : 90 - radius], expected[radius : 90 - radius], atol=1e-12)


def test_widths_are_what_they_say() -> None:
    """The answer to one peak is the kernel: half as high at half the Gaussian's width, over at the others'."""
    peak = np.zeros((201, 2))
    peak[100] = 1.0
    gaussian = smoothing.smooth(series_of(peak), kernel="gaussian", width_s=6.0).values[:, 0]
    assert gaussian[106] / gaussian[100] == pytest.approx(0.5)
    assert (gaussian[100 + 21 :] == 0).all() and gaussian[100 + 20] > 0  # 4 deviations are 10.19 s
    hamming = smoothing.smooth(series_of(peak), kernel="hamming", width_s=6.0).values[:, 0]
    assert hamming[106] / hamming[100] == pytest.approx(0.08) and hamming[107] == 0.0
    step = np.zeros((201, 2))
    step[100:107] = 1.0  # seven cells outlast a median of 13, six do not
    assert smoothing.smooth(series_of(step), kernel="median", width_s=6.0).values[103, 0] == 1.0
    step[106] = 0.0
    assert not smoothing.smooth(series_of(step), kernel="median", width_s=6.0).values.any()


def test_none_is_the_series_itself() -> None:
    series = series_of(noise(5))
    assert smoothing.smooth(series, kernel="none", width_s=0.0) is series


@pytest.mark.parametrize("kernel", SMOOTHERS)
@pytest.mark.parametrize("width_s", [0.1, 1.0, 5.0, 1000.0])
def test_a_constant_stays_and_holes_stay(kernel: smoothing.Kernel, width_s: float) -> None:
    covered = np.random.default_rng(1).random(40) < 0.5
    found = smoothing.smooth(series_of(np.full((40, 2), 0.3), covered), kernel=kernel, width_s=width_s)
    np.testing.assert_array_equal(found.covered, covered)
    np.testing.assert_allclose(found.values[covered], 0.3, atol=1e-15)
    assert np.isnan(found.values[~covered]).all()


@pytest.mark.parametrize("kernel", SMOOTHERS)
def test_a_width_below_two_cells_changes_nothing(kernel: smoothing.Kernel) -> None:
    values = noise(20)
    found = smoothing.smooth(series_of(values), kernel=kernel, width_s=0.2)
    np.testing.assert_allclose(found.values, values, atol=1e-15)


@pytest.mark.parametrize("kernel", SMOOTHERS)
@pytest.mark.parametrize("share", [1.0, 0.6, 0.1])
def test_edges_and_holes_by_hand(kernel: smoothing.Kernel, share: float) -> None:
    """Cell by cell, from what is there within reach, weighted by the formula in the docstring."""
    width_s = 3.3
    values, covered = noise(50, 3), np.random.default_rng(4).random(50) < share
    found = smoothing.smooth(series_of(values, covered), kernel=kernel, width_s=width_s).values
    deviation_s = width_s / math.sqrt(8 * math.log(2))
    reach_s = 4 * deviation_s if kernel == "gaussian" else width_s / 2
    for cell in np.flatnonzero(covered):
        near = [other for other in np.flatnonzero(covered) if abs(other - cell) * 0.5 <= reach_s]
        if kernel == "median":
            expected = np.median(values[near], axis=0)
        else:
            apart_s = (np.array(near) - cell) * 0.5
            weights = (
                np.exp(-(apart_s**2) / (2 * deviation_s**2))
                if kernel == "gaussian"
                else 0.54 + 0.46 * np.cos(2 * np.pi * apart_s / width_s)
            )
            expected = weights @ values[near] / weights.sum()
        np.testing.assert_allclose(found[cell], expected, atol=1e-12)


@pytest.mark.parametrize("kernel", SMOOTHERS)
def test_what_lies_under_a_hole_never_leaks(kernel: smoothing.Kernel) -> None:
    values, covered = noise(30, 5), np.arange(30) % 4 != 1
    expected = smoothing.smooth(series_of(values, covered), kernel=kernel, width_s=3.0).values
    dirty = ClipSeries(
        id="clip",
        time_s=series_of(values).time_s,
        values=np.where(covered[:, None], values, 1e9),
        covered=covered,
    )
    np.testing.assert_array_equal(smoothing.smooth(dirty, kernel=kernel, width_s=3.0).values, expected)


@pytest.mark.parametrize("kernel", SMOOTHERS)
def test_window_ends_are_smoothed_on_the_grid(kernel: smoothing.Kernel) -> None:
    ends = ClipSeries(id="clip", time_s=10.0 + 3.0 * np.arange(9), values=noise(9), covered=np.ones(9, dtype=bool))
    found = smoothing.smooth(ends, kernel=kernel, width_s=4.0)
    np.testing.assert_allclose(found.time_s, np.arange(10.25, 34.0, 0.5))
    expected = smoothing.smooth(assemble.on_grid(ends), kernel=kernel, width_s=4.0)
    np.testing.assert_array_equal(found.values, expected.values)


@pytest.mark.parametrize("kernel", SMOOTHERS)
def test_nothing_to_smooth(kernel: smoothing.Kernel) -> None:
    nothing = series_of(noise(3), np.zeros(3, dtype=bool))
    assert np.isnan(smoothing.smooth(nothing, kernel=kernel, width_s=1.0).values).all()
    assert len(smoothing.smooth(series_of(np.zeros((0, 2))), kernel=kernel, width_s=1.0).values) == 0
    one = smoothing.smooth(series_of(np.array([[0.1, 0.2]])), kernel=kernel, width_s=9.0)
    np.testing.assert_allclose(one.values, [[0.1, 0.2]])


def test_wrong_kernels_and_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="kernel must be"):
        smoothing.smooth(series_of(noise(3)), kernel="boxcar", width_s=1.0)
    for width_s in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="positive and finite"):
            smoothing.smooth(series_of(noise(3)), kernel="median", width_s=width_s)


# --- the choice


def noisy_clips(noise_size: float, count: int = 4) -> tuple[list[ClipSeries], list[Truth]]:
    """Slow truths at 30 frames a second, and what a noisy predictor says of each cell."""
    series, truths = [], []
    for index in range(count):
        time_s = np.arange(1800) / 30

        def track(at_s: np.ndarray, index: int = index) -> np.ndarray:
            return 0.6 * np.sin(np.stack([0.2 * at_s + index, 0.17 * at_s - index], axis=1))

        centers_s = 0.25 + 0.5 * np.arange(120)
        truths.append(Truth(time_s=time_s, va=track(time_s).astype(np.float32), valid=np.ones(len(time_s), dtype=bool)))
        series.append(series_of(track(centers_s) + noise_size * noise(120, index)))
    return series, truths


def test_noise_is_smoothed_and_truth_is_not() -> None:
    settings = {
        "kernels": smoothing.KERNELS,
        "widths_s": smoothing.WIDTHS_S,
        "fill": "interpolate",
        "label_shift_s": 0.0,
    }
    kernel, width_s, candidates = smoothing.choose(*noisy_clips(0.5), **settings)
    assert kernel != "none" and width_s >= 3.0
    assert len(candidates) == 1 + 3 * len(smoothing.WIDTHS_S)
    assert candidates[0][:2] == ("none", 0.0)
    best = max(candidates, key=lambda candidate: candidate[2])
    assert (kernel, width_s) == best[:2]
    assert smoothing.choose(*noisy_clips(0.0), **settings)[:2] == ("none", 0.0)


def test_candidates_are_the_score_of_the_smoothed_clips() -> None:
    series, truths = noisy_clips(0.3)
    _, _, candidates = smoothing.choose(
        series, truths, kernels=("gaussian",), widths_s=(3.0, 1.0), fill="nearest", label_shift_s=0.5
    )
    assert [candidate[:2] for candidate in candidates] == [("none", 0.0), ("gaussian", 1.0), ("gaussian", 3.0)]
    for kernel, width_s, value in candidates:
        clips = [
            assemble.frames_from_series(
                smoothing.smooth(one, kernel=kernel, width_s=width_s), truth, fill="nearest", label_shift_s=0.5
            )
            for one, truth in zip(series, truths, strict=True)
        ]
        prediction = np.concatenate([clip.prediction for clip in clips])
        target = np.concatenate([clip.target for clip in clips])
        expected = np.mean([metrics.ccc(prediction[:, column], target[:, column]) for column in range(2)])
        assert value == pytest.approx(expected, abs=1e-12)


def test_ties_and_undefined_figures_smooth_less() -> None:
    series, truths = noisy_clips(0.0, count=1)
    settings = {"kernels": smoothing.KERNELS, "widths_s": (1.0, 2.0), "fill": "interpolate", "label_shift_s": 0.0}
    constant = [series_of(np.full((120, 2), 0.3))]
    kernel, width_s, candidates = smoothing.choose(constant, truths, **settings)
    assert (kernel, width_s) == ("none", 0.0)
    assert all(abs(candidate[2]) < 1e-9 for candidate in candidates)
    nothing = [series_of(noise(120), np.zeros(120, dtype=bool))]
    kernel, width_s, candidates = smoothing.choose(nothing, truths, **settings)
    assert (kernel, width_s) == ("none", 0.0) and all(math.isnan(candidate[2]) for candidate in candidates)
    assert smoothing.choose([], [], **settings)[:2] == ("none", 0.0)
    with pytest.raises(ValueError, match="zip"):
        smoothing.choose(series, [], **settings)
