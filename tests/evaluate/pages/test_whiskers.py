"""The drawn intervals beside numbers: where values lie, and what is left out."""

import re

import pytest

from va.evaluate.pages import table_parts, whiskers
from va.evaluate.protocol import Figure

NAN = float("nan")


def figure(value: float, low: float, high: float) -> Figure:
    return Figure(value=value, low=low, high=high)


def test_scores_reach_from_zero_or_below_to_one() -> None:
    axis = whiskers.scores([figure(0.5, 0.4, 0.6), figure(0.2, -0.25, 0.6)])
    assert (axis.low, axis.high) == (-0.25, 1.0)
    assert axis.at(-0.25) == 8.0 and axis.at(1.0) == 162.0
    assert axis.at(0.375) == 85.0
    drawn = axis.draw(figure(0.375, -0.25, 1.0))
    assert '<circle cx="85.0"' in drawn and '<line class="range" x1="8.0" x2="162.0"' in drawn
    assert whiskers.scores([figure(NAN, NAN, NAN)]).low == 0.0


def test_differences_have_zero_in_the_middle() -> None:
    axis = whiskers.differences([figure(0.1, 0.051, 0.153), figure(-0.02, -0.05, 0.0)])
    assert (axis.low, axis.high) == (-0.16, 0.16)
    assert axis.at(0.0) == 85.0
    assert re.findall(r">([^<]+)<", axis.labels()) == ["\u22120.16", "0.00", "+0.16"]
    assert '<line class="zero" x1="85.0"' in axis.draw(figure(0.1, 0.05, 0.15))


def test_what_is_not_defined_is_not_drawn() -> None:
    axis = whiskers.differences([])
    assert (axis.low, axis.high) == (-0.01, 0.01)
    assert "circle" not in axis.draw(figure(NAN, NAN, NAN)) and "range" not in axis.draw(figure(NAN, NAN, NAN))
    assert "circle" in axis.draw(figure(0.0, NAN, NAN))


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.1234, "+0.123"), (-0.1, "\u22120.100"), (0.0, "0.000"), (0.0001, "0.000"), (-0.0001, "0.000"), (NAN, "n/a")],
)
def test_differences_carry_their_sign(value: float, written: str) -> None:
    assert whiskers.signed(value) == written


def test_tables_of_runs_write_differences_alike() -> None:
    found = {"value": 0.0001, "over_seeds": (-0.0002, 0.0004), "over_clips": None}
    one = {"difference": found, "by_seed": {"0": 0.0002}}
    written = table_parts.difference_cells(one, table_parts.Axis([found], centred=True))
    assert "+0.000" not in written and written.count("0.000") == 4
