"""Seconds, frames, cells and windows, against tables worked out by hand and against plain loops."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from va.data import timeline

durations = st.floats(0.001, 400, allow_nan=False)
halves = st.integers(1, 60).map(lambda count: count * 0.5)


@pytest.mark.parametrize(
    ("duration_s", "cells"),
    [(0.001, 1), (0.5, 1), (0.5000001, 1), (0.51, 2), (1.0, 2), (9.99, 20), (10.0, 20), (10.04, 21), (32.0, 64)],
)
def test_cells_by_hand(duration_s: float, cells: int) -> None:
    assert timeline.num_cells(duration_s) == cells


def test_rounding_of_a_sum_of_frames_adds_no_cell() -> None:
    total = sum([1001 / 30000] * 300)  # 10.01 s in floating point: 21 cells, as of 10.01
    assert timeline.num_cells(total) == 21
    total = sum([0.1] * 5)  # 0.5 exactly or one ulp off
    assert timeline.num_cells(total) == 1


@pytest.mark.parametrize("duration_s", [0.0, -1.0, math.nan, math.inf])
def test_a_duration_must_be_positive_and_finite(duration_s: float) -> None:
    with pytest.raises(ValueError, match="duration must be positive and finite"):
        timeline.num_cells(duration_s)


def test_centers() -> None:
    assert timeline.cell_centers(4).tolist() == [0.25, 0.75, 1.25, 1.75]
    assert timeline.cell_centers(0).tolist() == []


@pytest.mark.parametrize(
    ("duration_s", "window_s", "stride_s", "expected"),
    [
        # shorter than a window
        (0.7, 2.0, 1.0, [[0, 1, -1, -1]]),
        # as long as one
        (2.0, 2.0, 1.0, [[0, 1, 2, 3]]),
        # one cell longer
        (2.1, 2.0, 1.0, [[0, 1, 2, 3], [2, 3, 4, -1]]),
        # the last window ends with the clip
        (3.0, 2.0, 1.0, [[0, 1, 2, 3], [2, 3, 4, 5]]),
        # windows side by side
        (3.5, 1.0, 1.0, [[0, 1], [2, 3], [4, 5], [6, -1]]),
        # windows of one cell
        (1.5, 0.5, 0.5, [[0], [1], [2]]),
    ],
)
def test_windows_by_hand(duration_s: float, window_s: float, stride_s: float, expected: list[list[int]]) -> None:
    cells = timeline.window_cells(duration_s, window_s=window_s, stride_s=stride_s)
    assert cells.dtype == np.int64
    assert cells.tolist() == expected
    starts_s = timeline.window_starts(duration_s, window_s=window_s, stride_s=stride_s)
    assert starts_s.tolist() == [index * stride_s for index in range(len(expected))]


def test_the_papers_windows() -> None:
    cells = timeline.window_cells(32.0, window_s=10.0, stride_s=3.0)
    assert cells.shape == (9, 20)
    assert cells[1].tolist() == list(range(6, 26))
    assert cells[8].tolist() == [*range(48, 64), -1, -1, -1, -1]


@given(durations, halves, st.data())
def test_windows_equal_a_loop_and_cover_every_cell(duration_s: float, window_s: float, data: st.DataObject) -> None:
    stride_s = data.draw(st.integers(1, round(window_s * 2))) * 0.5
    count = timeline.num_cells(duration_s)
    window, stride = round(window_s * 2), round(stride_s * 2)
    expected = []
    start = 0
    while True:
        expected.append([cell if cell < count else -1 for cell in range(start, start + window)])
        if start + window >= count:
            break
        start += stride
    cells = timeline.window_cells(duration_s, window_s=window_s, stride_s=stride_s)
    assert cells.tolist() == expected
    assert timeline.num_windows(duration_s, window_s=window_s, stride_s=stride_s) == len(expected)
    assert set(cells[cells >= 0].tolist()) == set(range(count))
    for index, row in enumerate(cells):
        padding = row == -1
        assert not padding[0]
        assert not padding.any() or index == len(cells) - 1
        assert not (padding[:-1] & ~padding[1:]).any()  # only at the end


@given(durations)
def test_cells_reach_the_end_and_no_further(duration_s: float) -> None:
    count = timeline.num_cells(duration_s)
    assert (count - 1) * 0.5 < duration_s or count == 1
    assert duration_s <= count * 0.5 + 1e-5


@pytest.mark.parametrize("length_s", [0.0, 0.3, -0.5, 0.75, math.nan])
def test_a_window_is_a_multiple_of_half_a_second(length_s: float) -> None:
    with pytest.raises(ValueError, match=r"stride must be a positive multiple of 0.5 s|cannot convert float NaN"):
        timeline.cells_in(length_s, name="stride")


def test_cells_in() -> None:
    assert [timeline.cells_in(length_s, name="x") for length_s in (0.5, 3.0, 10.0)] == [1, 6, 20]


@given(
    st.lists(st.integers(0, 900_000), min_size=1, max_size=60, unique=True).map(sorted),
    st.lists(st.integers(-9000, 990_000), max_size=30),
)
def test_the_frame_on_screen_against_a_loop(frame_ticks: list[int], ticks: list[int]) -> None:
    expected = []
    for tick in ticks:
        shown = -1
        for index, frame_tick in enumerate(frame_ticks):
            if frame_tick <= tick:
                shown = index
        expected.append(shown)
    found = timeline.frame_at(np.array(frame_ticks) / 90_000, np.array(ticks) / 90_000)
    assert found.dtype == np.int64
    assert found.tolist() == expected


@given(st.integers(0, 900_000), st.integers(0, 900_000))
def test_is_presented_is_the_same_rule(frame_tick: int, tick: int) -> None:
    frame_time_s, time_s = frame_tick / 90_000, tick / 90_000
    shown = timeline.frame_at(np.array([frame_time_s]), np.array([time_s]))[0] == 0
    assert timeline.is_presented(frame_time_s, time_s) is bool(shown)
    assert shown == (frame_tick <= tick)
