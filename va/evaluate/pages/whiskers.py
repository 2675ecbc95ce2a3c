"""The small drawn intervals beside numbers in tables: inline SVG, because a chart per cell would be no chart at all.

They repeat what the numbers beside them say, so they are hidden from assistive technology.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from va.evaluate.pages.markup import number
from va.evaluate.protocol import Figure

_DRAWN: Final = (8.0, 162.0)
"""Ends of a drawn axis inside its viewBox, whose width is 170."""


def svg(content: str) -> str:
    """Frame a drawing.

    Args:
        content: Final SVG in a viewBox of 170 by 22.
    """
    return f'<svg class="whisker" viewBox="0 0 170 22" aria-hidden="true">{content}</svg>'


def signed(value: float | None, decimals: int = 3) -> str:
    """Write a difference with its sign.

    Args:
        value: As for `number`.
        decimals: Digits after the point.
    """
    written = number(value, decimals)
    return f"+{written}" if value is not None and float(f"{value:.{decimals}f}") > 0 else written


@dataclass(frozen=True)
class Axis:
    """A small axis on which figures and their intervals are drawn.

    Args:
        low: Value of its left end.
        high: Of its right end; above `low`.
        ticks: Marked and labelled values inside it.
        decimals: Of the labels.
        differences: Labels carry signs, and 0 is dashed.
    """

    low: float
    high: float
    ticks: tuple[float, ...]
    decimals: int
    differences: bool

    def at(self, value: float) -> float:
        """Where a value lies in the viewBox."""
        first, last = _DRAWN
        return round(first + (last - first) * (value - self.low) / (self.high - self.low), 1)

    def labels(self) -> str:
        """The values of its ticks, for the head of the column."""
        form = signed if self.differences else number
        # Signed labels are wide: those at the ends grow inwards.
        anchors = {self.low: "start", self.high: "end"} if self.differences else {}
        return svg(
            "".join(
                f'<text x="{self.at(tick)}" y="18" style="text-anchor: {anchors.get(tick, "middle")}">'
                f"{form(tick, self.decimals)}</text>"
                for tick in self.ticks
            )
        )

    def draw(self, figure: Figure) -> str:
        """A figure as a point and its interval as a line; whatever is not finite is left out."""
        drawn = f'<line class="grid" x1="{self.at(self.low)}" x2="{self.at(self.high)}" y1="11" y2="11"/>'
        for tick in self.ticks:
            kind = "zero" if self.differences and tick == 0 else "grid"
            drawn += f'<line class="{kind}" x1="{self.at(tick)}" x2="{self.at(tick)}" y1="0" y2="22"/>'
        if math.isfinite(figure["low"]) and math.isfinite(figure["high"]):
            low, high = self.at(figure["low"]), self.at(figure["high"])
            drawn += f'<line class="range" x1="{low}" x2="{high}" y1="11" y2="11"/>'
        if math.isfinite(figure["value"]):
            drawn += f'<circle cx="{self.at(figure["value"])}" cy="11" r="4.5"/>'
        return svg(drawn)


def scores(figures: Iterable[Figure]) -> Axis:
    """An axis for CCC: from 0, or the lowest value there is, to 1.

    Args:
        figures: All that it must hold.
    """
    return Axis(low=min([0.0, *_ends(figures)]), high=1.0, ticks=(0.0, 0.5, 1.0), decimals=1, differences=False)


def differences(figures: Iterable[Figure]) -> Axis:
    """An axis for differences, with 0 in its middle.

    Args:
        figures: All that it must hold.
    """
    reach = math.ceil(100 * max([0.01, *map(abs, _ends(figures))])) / 100
    return Axis(low=-reach, high=reach, ticks=(-reach, 0.0, reach), decimals=2, differences=True)


def _ends(figures: Iterable[Figure]) -> list[float]:
    values = [value for figure in figures for value in (figure["low"], figure["value"], figure["high"])]
    return [value for value in values if math.isfinite(value)]
