"""What several seeds say together: a mean and its interval, without SciPy."""

import math
from collections.abc import Sequence
from typing import Final, TypedDict

import numpy as np

_LEVEL: Final = 0.95


class Figure(TypedDict):
    """A mean over seeds and its 95% interval, which one seed alone does not have."""

    value: float
    low: float | None
    high: float | None


def mean_with_interval(values: Sequence[float], *, limit: float) -> Figure:
    """Average over seeds, with Student's 95% interval.

    Student's, because a bootstrap of two or three values covers far too seldom.

    Args:
        values: One per seed, at least one, finite, in [-limit, limit].
        limit: Where the interval is cut: 1 for a CCC, 2 for a difference of two.
    """
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Figure(value=mean, low=None, high=None)
    deviation = float(np.std(np.asarray(values, dtype=np.float64), ddof=1))
    half = student_quantile(len(values) - 1) * deviation / math.sqrt(len(values))
    return Figure(value=mean, low=max(mean - half, -limit), high=min(mean + half, limit))


def student_quantile(freedom: int) -> float:
    """Give t so that Student's variable with `freedom` >= 1 degrees of freedom lies within [-t, t] at 95%.

    Source: Abramowitz and Stegun 26.7.3 and 26.7.4 (closed forms for whole degrees), inverted by bisection.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # a double has 53 bits
        middle = (low + high) / 2
        low, high = (middle, high) if _share_within(middle, freedom) < _LEVEL else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


def _share_within(angle: float, freedom: int) -> float:
    """Share of Student's distribution within [-t, t] for t = sqrt(freedom) * tan(angle)."""
    is_odd = freedom % 2 == 1
    term, total = (math.cos(angle) if is_odd else 1.0), 0.0
    for k in range(1 + is_odd, freedom, 2):
        total += term
        term *= k / (k + 1) * math.cos(angle) ** 2
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if is_odd else total
