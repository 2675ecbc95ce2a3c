"""Windows and cells laid on annotated frames, against loops written by hand."""

import numpy as np
import pytest

from va.data.corpus import Truth
from va.evaluate import assemble, metrics, protocol
from va.evaluate.assemble import ClipSeries


def truth_of(time_s: list[float], valid: list[bool] | None = None) -> Truth:
    count = len(time_s)
    return Truth(
        time_s=np.array(time_s),
        va=np.linspace(-0.5, 0.5, 2 * count, dtype=np.float32).reshape(count, 2),
        valid=np.array(valid if valid is not None else [True] * count),
    )


def test_overlapping_windows_are_averaged_and_interpolated_to_frames() -> None:
    cells = np.array([[0, 1], [1, 2], [2, -1]])
    values = np.array([[[0.0, 0.0], [0.2, 0.4]], [[0.4, 0.0], [0.6, 0.2]], [[0.8, 0.4], [9.0, 9.0]]])
    frames = assemble.frames_from_windows(
        "clip", values=values, cells=cells, num_cells=3, end_time_s=np.zeros(3), truth=truth_of([0.0, 0.5, 1.0, 1.4])
    )
    # Cells at 0.25, 0.75 and 1.25 s hold (0, 0), the mean (0.3, 0.2) and the mean (0.7, 0.3).
    expected = [[0.0, 0.0], [0.15, 0.1], [0.5, 0.25], [0.7, 0.3]]
    np.testing.assert_allclose(frames.prediction, expected, atol=1e-12)
    assert frames.covered.all()


def test_window_ends_stand_at_their_times() -> None:
    values = np.array([[[0.0, 0.2]], [[0.4, 0.6]], [[0.5, 0.5]]])
    frames = assemble.frames_from_windows(
        "clip",
        values=values,
        cells=np.full((3, 20), -1),
        num_cells=26,
        # The second and third window both end at the clip's end: the first of them counts.
        end_time_s=np.array([10.0, 12.0, 12.0]),
        truth=truth_of([0.0, 10.0, 11.0, 12.5]),
    )
    np.testing.assert_allclose(frames.prediction, [[0.0, 0.2], [0.0, 0.2], [0.2, 0.4], [0.4, 0.6]], atol=1e-12)


def test_paper_protocol_takes_the_end_frame_of_full_windows() -> None:
    truth = truth_of([0.0, 9.97, 10.0, 12.99, 13.02], [True, True, False, True, True])
    values = np.arange(12, dtype=float).reshape(3, 2, 2)
    ends = assemble.ends_from_windows(
        "clip",
        values=values,
        full=np.array([True, True, False]),
        end_time_s=np.array([10.0, 13.0, 14.0]),
        truth=truth,
        label_shift_s=0.0,
    )
    np.testing.assert_array_equal(ends.prediction, values[:2, 1])
    # The frame on screen at 10 s is the third, at 13 s the fourth.
    np.testing.assert_allclose(ends.target, truth.va[[2, 3]].astype(float))
    assert ends.valid.tolist() == [False, True]


def test_a_clip_shorter_than_a_window_has_no_window_end() -> None:
    ends = assemble.ends_from_windows(
        "clip",
        values=np.zeros((1, 4, 2)),
        full=np.array([False]),
        end_time_s=np.array([1.0]),
        truth=truth_of([0.0, 0.5]),
        label_shift_s=0.0,
    )
    assert ends.prediction.shape == (0, 2)


@pytest.mark.parametrize("covered", [[True, False, True], [False, False, True]])
def test_gaps_between_cells_are_bridged(covered: list[bool]) -> None:
    values = np.array([[0.0, 1.0], [np.nan, np.nan], [1.0, 0.0]])
    series = ClipSeries(id="clip", time_s=np.array([0.25, 0.75, 1.25]), values=values, covered=np.array(covered))
    frames = assemble.frames_from_series(series, truth_of([0.75]), fill="interpolate", label_shift_s=0.0)
    expected = [0.5, 0.5] if covered[0] else [1.0, 0.0]
    np.testing.assert_allclose(frames.prediction[0], expected)


# --- series, and how frames are filled


def series_of(time_s: list[float], values: list[float], covered: list[bool] | None = None) -> ClipSeries:
    """A series whose arousal is its valence, negated."""
    cover = np.array(covered if covered is not None else [True] * len(time_s), dtype=bool)
    pairs = np.outer(values, [1.0, -1.0])
    return ClipSeries(id="clip", time_s=np.array(time_s), values=np.where(cover[:, None], pairs, np.nan), covered=cover)


# Cells 1, 2 and 5 have a value; frames on both sides of every border, half a cell apart from nothing.
GAPPY = ([0.75, 1.25, 1.75, 2.25, 2.75], [0.1, 0.3, 0.0, 0.0, 0.9], [True, True, False, False, True])
READ_S = [0.0, 0.49, 0.5, 0.75, 1.0, 1.49, 1.5, 1.9, 2.0, 2.1, 2.49, 2.5, 2.99, 3.0, 9.0]
OWN = [False, False, True, True, True, True, False, False, False, False, False, True, True, False, False]


def test_a_frame_in_a_cell_with_a_value_has_its_own_prediction() -> None:
    truth = truth_of(READ_S)
    for fill in assemble.FILLS:
        frames = assemble.frames_from_series(series_of(*GAPPY), truth, fill=fill, label_shift_s=0.0)
        assert (frames.covered & ~frames.filled).tolist() == OWN
        assert frames.covered.tolist() == (OWN if fill == "none" else [True] * len(OWN))
        # Linear between the covered centres .75, 1.25 and 2.75, whatever the fill.
        expected = np.interp(np.array(READ_S)[OWN], [0.75, 1.25, 2.75], [0.1, 0.3, 0.9])
        np.testing.assert_allclose(frames.prediction[OWN, 0], expected, atol=1e-12)
        np.testing.assert_allclose(frames.prediction[OWN, 1], -expected, atol=1e-12)


def test_other_frames_are_filled_by_hand() -> None:
    truth, others = truth_of(READ_S), ~np.array(OWN)
    filled = {
        fill: assemble.frames_from_series(series_of(*GAPPY), truth, fill=fill, label_shift_s=0.0).prediction[others, 0]
        for fill in assemble.FILLS
    }
    # at 0, .49, 1.5, 1.9, 2.0 (as near to 1.25 as to 2.75), 2.1, 2.49, 3 and 9 s
    np.testing.assert_allclose(filled["interpolate"], [0.1, 0.1, 0.4, 0.56, 0.6, 0.64, 0.796, 0.9, 0.9], atol=1e-12)
    np.testing.assert_allclose(filled["nearest"], [0.1, 0.1, 0.3, 0.3, 0.9, 0.9, 0.9, 0.9, 0.9], atol=1e-12)
    assert np.isnan(filled["none"]).all()


def test_around_window_ends_half_a_cell_is_their_own() -> None:
    truth = truth_of([9.74, 9.75, 10.0, 10.24, 10.25, 12.9, 13.3])
    frames = assemble.frames_from_series(series_of([10.0, 13.0], [0.0, 0.3]), truth, fill="nearest", label_shift_s=0.0)
    assert frames.filled.tolist() == [True, False, False, False, True, False, True]
    np.testing.assert_allclose(frames.prediction[:, 0], [0.0, 0.0, 0.0, 0.024, 0.0, 0.29, 0.3], atol=1e-12)


def test_a_rounded_clock_does_not_move_a_frame_into_the_cell_before() -> None:
    truth = truth_of([0.4999999, 1.4999999])
    frames = assemble.frames_from_series(series_of([0.75, 1.25], [0, 1]), truth, fill="none", label_shift_s=0.0)
    assert frames.covered.tolist() == [True, False]


@pytest.mark.parametrize("shift_s", [1.0, -0.7])
def test_a_label_shift_reads_earlier(shift_s: float) -> None:
    times_s = np.linspace(0.0, 5.0, 61)
    series = series_of([0.25 + 0.5 * cell for cell in range(10)], list(np.linspace(-1, 1, 10)))
    shifted = assemble.frames_from_series(series, truth_of(list(times_s)), fill="interpolate", label_shift_s=shift_s)
    expected = np.interp(times_s - shift_s, series.time_s, series.values[:, 0])
    np.testing.assert_allclose(shifted.prediction[:, 0], expected, atol=1e-12)
    # What would be read before the first cell or after the last is filled.
    read_s = times_s - shift_s
    assert shifted.filled.tolist() == ((read_s < -1e-9) | (read_s >= 5.0 - 1e-9)).tolist()


def test_nothing_predicted_fills_nothing() -> None:
    empty = series_of([0.25, 0.75], [0.0, 0.0], [False, False])
    for fill in assemble.FILLS:
        frames = assemble.frames_from_series(empty, truth_of([0.0, 0.5]), fill=fill, label_shift_s=0.0)
        assert not frames.covered.any() and not frames.filled.any() and np.isnan(frames.prediction).all()


def test_a_score_says_what_share_was_filled() -> None:
    truth = truth_of(READ_S, [True] * 6 + [False] * 2 + [True] * 7)
    counted = np.array(OWN)[truth.valid]
    scores = {
        fill: protocol.score_abaw(
            [assemble.frames_from_series(series_of(*GAPPY), truth, fill=fill, label_shift_s=0.0)], resamples=5, seed=0
        )
        for fill in assemble.FILLS
    }
    assert scores["interpolate"]["filled"] == scores["nearest"]["filled"] == np.mean(~counted)
    assert scores["interpolate"]["coverage"] == scores["nearest"]["coverage"] == 1.0
    assert (scores["none"]["filled"], scores["none"]["coverage"]) == (0.0, np.mean(counted))
    assert scores["none"]["num_frames"] == counted.sum()


def test_the_default_fill_is_bit_for_bit_plain_interpolation() -> None:
    """Averages of windows, `np.interp`, one CCC over all frames: the score as it was before there was a choice."""
    rng = np.random.default_rng(0)
    clips, predictions, targets = [], [], []
    for index, width in enumerate((4, 1, 4, 1)):
        starts = np.arange(12) * 3
        cells = np.where(starts[:, None] + np.arange(width) < 30, starts[:, None] + np.arange(width), -1)
        values = rng.normal(size=(12, width, 2)).astype(np.float32).astype(np.float64)
        times_s = np.sort(rng.uniform(0, 17, 400))
        truth = Truth(time_s=times_s, va=rng.uniform(-1, 1, (400, 2)).astype(np.float32), valid=rng.random(400) < 0.9)
        ends_s = starts * 0.5 + 2.0
        frames = assemble.frames_from_windows(
            f"c{index}", values=values, cells=cells, num_cells=30, end_time_s=ends_s, truth=truth
        )
        if width == 1:
            known_s, known = ends_s, values[:, 0]
        else:
            means, covered = protocol.average_windows(values, cells, 30)
            known_s, known = (0.25 + 0.5 * np.arange(30))[covered], means[covered]
        plain = np.stack([np.interp(times_s, known_s, known[:, column]) for column in range(2)], axis=1)
        np.testing.assert_array_equal(frames.prediction, plain)
        clips.append(frames)
        predictions.append(plain[truth.valid])
        targets.append(truth.va.astype(np.float64)[truth.valid])
    score = protocol.score_abaw(clips, resamples=5, seed=0)
    prediction, target = np.concatenate(predictions), np.concatenate(targets)
    assert score["ccc_valence"]["value"] == metrics.ccc(prediction[:, 0], target[:, 0])
    assert score["ccc_arousal"]["value"] == metrics.ccc(prediction[:, 1], target[:, 1])


def test_a_shifted_label_past_the_annotation_is_no_label() -> None:
    truth = truth_of([0.0, 9.97, 10.0, 12.99, 13.02])
    values = np.arange(8, dtype=float).reshape(2, 2, 2)
    settings = {"full": np.array([True, True]), "end_time_s": np.array([10.0, 13.02]), "truth": truth}
    ends = assemble.ends_from_windows("clip", values=values, label_shift_s=3.0, **settings)
    np.testing.assert_allclose(ends.target[0], truth.va[3].astype(float))
    assert ends.valid.tolist() == [True, False]
    # And before the first frame there is none either.
    assert assemble.ends_from_windows("clip", values=values, label_shift_s=-11.0, **settings).valid.tolist() == [
        False,
        True,
    ]


# --- the grid


def test_cells_stay_on_the_grid_and_skipped_ones_are_holes() -> None:
    whole = series_of([0.25, 0.75, 1.25], [1, 2, 3])
    assert assemble.on_grid(whole) is whole
    skipped = assemble.on_grid(series_of([0.75, 2.25], [1, 3]))
    assert skipped.time_s.tolist() == [0.75, 1.25, 1.75, 2.25]
    assert skipped.covered.tolist() == [True, False, False, True]
    np.testing.assert_array_equal(skipped.values[:, 0], [1, np.nan, np.nan, 3])


def test_window_ends_are_read_off_at_cell_centres() -> None:
    grid = assemble.on_grid(series_of([10.0, 11.0, 11.3], [0.0, 1.0, 4.0]))
    assert grid.time_s.tolist() == [10.25, 10.75, 11.25]
    np.testing.assert_allclose(grid.values[:, 0], [0.25, 0.75, 3.5])
    assert grid.covered.all()


def test_a_span_without_a_centre_is_one_cell_and_nothing_is_nothing() -> None:
    one = assemble.on_grid(series_of([10.0], [0.4]))
    assert (one.time_s.tolist(), one.values[0, 0]) == ([10.25], 0.4)
    assert not len(assemble.on_grid(series_of([10.0], [0.4], [False])).time_s)
    assert not len(assemble.on_grid(series_of([], [])).time_s)


def test_broken_series_are_refused() -> None:
    with pytest.raises(ValueError, match="increase"):
        series_of([0.25, 0.25], [0, 0])
    with pytest.raises(ValueError, match="finite"):
        series_of([0.25, np.inf], [0, 0])
    with pytest.raises(ValueError, match="expected times"):
        ClipSeries(id="c", time_s=np.zeros(2), values=np.zeros((3, 2)), covered=np.ones(2, dtype=bool))
    with pytest.raises(ValueError, match="expected bool"):
        ClipSeries(id="c", time_s=np.arange(2.0), values=np.zeros((2, 2)), covered=np.ones(2))
    with pytest.raises(ValueError, match="fill must be"):
        assemble.frames_from_series(series_of([0.25], [0]), truth_of([0.0]), fill="zero", label_shift_s=0.0)
    with pytest.raises(ValueError, match="finite frame times"):
        assemble.frames_from_series(series_of([0.25], [0]), truth_of([0.0]), fill="none", label_shift_s=np.nan)
