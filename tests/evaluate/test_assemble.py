"""Windows and cells laid on annotated frames, against loops written by hand."""

import numpy as np
import pytest

from va.data.corpus import Truth
from va.evaluate import assemble


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
    frames = assemble.frames_from_cells(
        "clip",
        values=values,
        covered=np.array(covered),
        time_s=np.array([0.25, 0.75, 1.25]),
        truth=truth_of([0.75]),
    )
    expected = [0.5, 0.5] if covered[0] else [1.0, 0.0]
    np.testing.assert_allclose(frames.prediction[0], expected)
