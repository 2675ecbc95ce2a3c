"""Both protocols: hand-computed cases, a perfect predictor at real frame rates, and coverage."""

import math

import numpy as np
import pytest

from va.evaluate import metrics, protocol
from va.evaluate.protocol import ClipFrames, ClipWindows

NAN = float("nan")
CELL_S = 0.5
WINDOW_CELLS, STRIDE_CELLS = 20, 6


def cell_centers_s(num_cells: int) -> np.ndarray:
    return 0.25 + CELL_S * np.arange(num_cells)


def window_cells(num_cells: int) -> np.ndarray:
    """Cells [W, 20] of every window; the last one reaches over the end and is padded with -1."""
    starts = np.arange(0, max(num_cells - WINDOW_CELLS, 0) + STRIDE_CELLS, STRIDE_CELLS)
    cells = starts[:, None] + np.arange(WINDOW_CELLS)
    return np.where(cells < num_cells, cells, -1)


def frame_times_s(rate: float | str, duration_s: float) -> np.ndarray:
    """Frame times at a constant rate, or at gaps between 20 and 60 ms."""
    if rate == "variable":
        gaps = np.random.default_rng(3).uniform(0.02, 0.06, int(duration_s / 0.02))
        times = np.concatenate([[0.0], gaps.cumsum()])
    else:
        times = np.arange(int(duration_s * float(rate)) + 1) / float(rate)
    return times[times < duration_s]


def band_limited(time_s: np.ndarray, seed: int) -> np.ndarray:
    """A smooth (valence, arousal) track with nothing above 0.15 Hz, in [-1, 1]."""
    rng = np.random.default_rng(seed)
    track = np.zeros((len(time_s), 2))
    for _ in range(6):
        rate_hz, phase = rng.uniform(0.01, 0.15, 2), rng.uniform(0, 2 * np.pi, 2)
        track += np.sin(2 * np.pi * rate_hz * time_s[:, None] + phase) / 6
    return track


def perfect_clip(name: str, rate: float | str, duration_s: float, seed: int) -> ClipFrames:
    """Truth seen at each cell centre, sent through windows, averaging and interpolation."""
    times_s = frame_times_s(rate, duration_s)
    target = band_limited(times_s, seed)
    num_cells = math.ceil(duration_s / CELL_S)
    centers_s = cell_centers_s(num_cells)
    # A model sees the last frame whose time is <= the centre, so that is the truth it can know.
    seen = target[np.searchsorted(times_s, centers_s, side="right") - 1]
    cells = window_cells(num_cells)
    windows = np.where((cells >= 0)[..., None], seen[cells], NAN)
    values, covered = protocol.average_windows(windows, cells, num_cells)
    assert covered.all()
    prediction, has_prediction = protocol.cells_to_frames(values, covered, centers_s, times_s)
    valid = np.random.default_rng(seed).random(len(times_s)) < 0.97
    target = np.where(valid[:, None], target, -5.0)
    return ClipFrames(name, times_s, prediction, target, valid, has_prediction, np.zeros_like(valid))


@pytest.mark.parametrize("rate", [24, 25, 30000 / 1001, 30, "variable"])
def test_perfect_predictor_scores_almost_one(rate: float | str) -> None:
    clips = [perfect_clip(f"clip{seed}", rate, 41.3 + 7 * seed, seed) for seed in range(4)]
    score = protocol.score_abaw(clips, resamples=100, seed=0)
    for name in ("ccc_valence", "ccc_arousal", "ccc_mean"):
        assert 0.999 <= score[name]["low"] <= score[name]["value"] <= score[name]["high"] <= 1.0
    assert score["coverage"] == 1.0
    assert score["num_clips"] == 4
    assert score["num_frames"] == sum(int(clip.valid.sum()) for clip in clips)


def test_a_clip_shorter_than_a_window_and_one_of_a_single_cell() -> None:
    for duration_s in (3.2, 0.4):
        clip = perfect_clip("short", 30, duration_s, 1)
        assert clip.covered.all()
        assert np.isfinite(clip.prediction).all()


def test_overlapping_windows_are_averaged_by_hand() -> None:
    values = np.array([[[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]], [[4.0, 40.0], [5.0, 50.0], [NAN, math.inf]]])
    cells = np.array([[0, 1, 2], [2, 4, -1]])
    means, covered = protocol.average_windows(values, cells, 6)
    expected = np.array([[1, 10], [2, 20], [3.5, 35], [NAN, NAN], [5, 50], [NAN, NAN]])
    np.testing.assert_array_equal(means, expected)
    assert covered.tolist() == [True, True, True, False, True, False]


def test_averaging_ignores_padding_and_the_order_of_windows() -> None:
    rng = np.random.default_rng(0)
    cells = window_cells(47)
    values = rng.normal(size=(*cells.shape, 2))
    means, covered = protocol.average_windows(values, cells, 47)
    padded_values = np.concatenate([values, np.full((3, 20, 2), NAN)])[::-1]
    padded_cells = np.concatenate([cells, np.full((3, 20), -1)])[::-1]
    again, covered_again = protocol.average_windows(padded_values, padded_cells, 47)
    np.testing.assert_allclose(again, means, rtol=1e-14)
    np.testing.assert_array_equal(covered_again, covered)


def test_averaging_nothing() -> None:
    means, covered = protocol.average_windows(np.zeros((0, 20, 2)), np.zeros((0, 20), dtype=int), 3)
    assert np.isnan(means).all() and means.shape == (3, 2) and not covered.any()


def test_averaging_refuses_cells_out_of_range() -> None:
    with pytest.raises(ValueError, match="outside"):
        protocol.average_windows(np.zeros((1, 2, 2)), np.array([[0, 3]]), 3)
    with pytest.raises(ValueError, match="outside"):
        protocol.average_windows(np.zeros((1, 2, 2)), np.array([[0, -2]]), 3)
    with pytest.raises(ValueError, match="expected values"):
        protocol.average_windows(np.zeros((2, 2)), np.zeros((2, 2), dtype=int), 3)


def test_frames_are_interpolated_by_hand() -> None:
    cells = np.array([[NAN, NAN], [0.0, 1.0], [NAN, NAN], [1.0, 0.0]])
    covered = np.array([False, True, False, True])
    times_s = np.array([0.0, 0.75, 1.25, 1.5, 1.75, 99.0])
    values, has_value = protocol.cells_to_frames(cells, covered, cell_centers_s(4), times_s)
    # centres .75 and 1.75 are covered: held before and after, linear in between, the gap at 1.25 bridged
    np.testing.assert_allclose(values[:, 0], [0.0, 0.0, 0.5, 0.75, 1.0, 1.0])
    np.testing.assert_allclose(values[:, 1], [1.0, 1.0, 0.5, 0.25, 0.0, 0.0])
    assert has_value.all()


def test_frames_of_a_clip_without_any_prediction() -> None:
    values, covered = protocol.cells_to_frames(
        np.full((3, 2), NAN), np.zeros(3, dtype=bool), cell_centers_s(3), np.array([0.0, 1.0])
    )
    assert np.isnan(values).all() and values.shape == (2, 2) and covered.tolist() == [False, False]


def test_interpolation_refuses_broken_clocks() -> None:
    cells, covered = np.zeros((2, 2)), np.ones(2, dtype=bool)
    with pytest.raises(ValueError, match="increasing"):
        protocol.cells_to_frames(cells, covered, np.array([0.75, 0.25]), np.zeros(1))
    with pytest.raises(ValueError, match="finite frame times"):
        protocol.cells_to_frames(cells, covered, cell_centers_s(2), np.array([NAN]))
    with pytest.raises(ValueError, match=r"bool \[C\]"):
        protocol.cells_to_frames(cells, np.ones(2), cell_centers_s(2), np.zeros(1))


def make_frames(seed: int, num_frames: int, covered: np.ndarray | None = None) -> ClipFrames:
    rng = np.random.default_rng(seed)
    target = rng.uniform(-1, 1, (num_frames, 2))
    valid = rng.random(num_frames) < 0.8
    return ClipFrames(
        id=f"clip{seed}",
        time_s=np.arange(num_frames) / 30,
        prediction=target + rng.normal(0.2, 0.3, (num_frames, 2)),
        target=np.where(valid[:, None], target, -5.0),
        valid=valid,
        covered=np.ones(num_frames, dtype=bool) if covered is None else covered,
        filled=np.zeros(num_frames, dtype=bool),
    )


def test_abaw_concatenates_all_clips() -> None:
    clips = [make_frames(seed, 50 * seed) for seed in range(1, 6)]
    score = protocol.score_abaw(clips, resamples=200, seed=1)
    keep = np.concatenate([clip.valid for clip in clips])
    prediction = np.concatenate([clip.prediction for clip in clips])[keep]
    target = np.concatenate([clip.target for clip in clips])[keep]
    figures = [metrics.ccc(prediction[:, column], target[:, column]) for column in range(2)]
    assert score["ccc_valence"]["value"] == figures[0]
    assert score["ccc_arousal"]["value"] == figures[1]
    assert score["ccc_mean"]["value"] == pytest.approx(sum(figures) / 2)
    assert score["num_frames"] == keep.sum()
    assert score == protocol.score_abaw(clips, resamples=200, seed=1)
    assert score["ccc_mean"]["low"] != protocol.score_abaw(clips, resamples=200, seed=2)["ccc_mean"]["low"]


def test_uncovered_frames_lower_coverage_and_not_the_figures() -> None:
    covered = np.arange(100) >= 30
    clip = make_frames(1, 100, covered)
    clip.prediction[~covered] = NAN
    nowhere = make_frames(2, 40, np.zeros(40, dtype=bool))
    score = protocol.score_abaw([clip, nowhere], resamples=10, seed=0)
    scored = clip.valid & covered
    assert score["num_frames"] == scored.sum()
    assert score["num_clips"] == 1
    assert score["coverage"] == pytest.approx(scored.sum() / (clip.valid.sum() + nowhere.valid.sum()))
    assert score["ccc_valence"]["value"] == metrics.ccc(clip.prediction[scored, 0], clip.target[scored, 0])


@pytest.mark.parametrize("clips", [[], [make_frames(3, 0)]])
def test_nothing_to_score_is_undefined_and_no_error(clips: list[ClipFrames]) -> None:
    score = protocol.score_abaw(clips, resamples=10, seed=0)
    assert all(math.isnan(number) for name in ("ccc_valence", "ccc_mean") for number in score[name].values())
    assert math.isnan(score["coverage"])
    assert (score["num_frames"], score["num_clips"]) == (0, 0)


def test_no_valid_label_is_undefined_and_no_error() -> None:
    frames = make_frames(4, 60)
    frames.valid[:] = False
    assert math.isnan(protocol.score_abaw([frames], resamples=10, seed=0)["ccc_mean"]["value"])
    windows = ClipWindows("w", np.arange(3.0), np.zeros((3, 2)), np.full((3, 2), -5.0), np.zeros(3, dtype=bool))
    score = protocol.score_paper([windows], resamples=10, seed=0)
    assert math.isnan(score["ccc_mean"]["value"])
    assert (score["coverage"], score["num_frames"]) == (0.0, 0)


def test_a_prediction_that_is_not_finite_is_refused() -> None:
    clip = make_frames(5, 20)
    clip.prediction[np.flatnonzero(clip.valid)[0], 1] = NAN
    with pytest.raises(ValueError, match="NaN or infinite"):
        protocol.score_abaw([clip], resamples=10, seed=0)


def test_paper_scores_one_prediction_per_window() -> None:
    rng = np.random.default_rng(6)
    clips = []
    for num_windows in (7, 0, 12):
        target = rng.uniform(-1, 1, (num_windows, 2))
        valid = np.arange(num_windows) % 4 != 1
        ends_s = 10.0 + 3.0 * np.arange(num_windows)
        clips.append(ClipWindows(f"c{num_windows}", ends_s, 0.5 * target, target, valid))
    score = protocol.score_paper(clips, resamples=50, seed=0)
    kept = np.concatenate([clip.target[clip.valid] for clip in clips])
    assert score["ccc_arousal"]["value"] == pytest.approx(metrics.ccc(0.5 * kept[:, 1], kept[:, 1]))
    assert (score["num_frames"], score["num_clips"]) == (14, 2)
    assert score["coverage"] == pytest.approx(14 / 19)
    assert score["ccc_mean"]["low"] <= score["ccc_mean"]["value"] <= score["ccc_mean"]["high"]


def test_clips_whose_arrays_do_not_fit_are_refused() -> None:
    two, every = np.zeros((3, 2)), np.ones(3, dtype=bool)
    with pytest.raises(ValueError, match="odd one: times"):
        ClipFrames("odd one", np.arange(3.0), two, two[:2], every, every, ~every)
    with pytest.raises(ValueError, match="boolean masks"):
        ClipFrames("odd one", np.arange(3.0), two, two, np.ones(3), every, ~every)
    with pytest.raises(ValueError, match="cannot be a filled one"):
        ClipFrames("odd one", np.arange(3.0), two, two, every, ~every, every)
    with pytest.raises(ValueError, match="boolean masks"):
        ClipWindows("odd one", np.arange(3.0), two, two, every[:2])
