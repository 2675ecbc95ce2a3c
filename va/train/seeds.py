"""What several seeds say together: a mean and its interval, without SciPy."""

import math
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from va.evaluate.intervals import student_quantile


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
