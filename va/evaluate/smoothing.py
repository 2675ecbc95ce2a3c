"""A series smoothed over time, and the width chosen on clips that nothing is reported on (settled 6 and 7).

All kernels are functions of the time between two cells, taken at half-second steps and only where there is something
to smooth: cells without a value and cells beyond the clip have no weight, and what is left is normalised to 1. So a
window shrinks at the clip's ends and at gaps, and no value is invented. A leaf in NumPy, because `choose` looks at
many candidates and training may want to as well.
"""

import math
from collections.abc import Sequence
from typing import Final, Literal, get_args

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from va.data import timeline
from va.data.corpus import Truth
from va.evaluate import assemble, metrics
from va.evaluate.assemble import ClipSeries, Fill
from va.evaluate.metrics import FloatArray

Kernel = Literal["none", "median", "gaussian", "hamming"]
KERNELS: Final[tuple[Kernel, ...]] = get_args(Kernel)

WIDTHS_S: Final = (1.0, 2.0, 3.0, 5.0, 8.0, 12.0)
"""Widths that are tried unless told otherwise, in seconds."""

_CUT: Final = 4.0  # deviations at which the Gaussian ends, as in SciPy
_DEVIATIONS_PER_FWHM: Final = 1 / (2 * math.sqrt(2 * math.log(2)))
_TIE: Final = 1e-9  # of a CCC: less is rounding, and less smoothing wins


def smooth(series: ClipSeries, *, kernel: Kernel, width_s: float) -> ClipSeries:
    """Smooth a series on the half-second grid.

    With W the width in seconds and d the time between two cell centres:

    * `median`: of the cells with |d| <= W / 2; of an even number the mean of the middle two;
    * `hamming`: weights 0.54 + 0.46 cos(2 pi d / W) for |d| <= W / 2, so W is the full width;
    * `gaussian`: weights exp(-d^2 / (2 s^2)) with s = W / 2.3548, so W is the full width at half maximum; cut where
      |d| > 4 s;
    * `none`: the series itself, as it is.

    Args:
        series: At cell centres, or at window ends: those are first read off on the grid (`assemble.on_grid`), so that
            the cells between two ends count as covered afterwards.
        kernel: One of `KERNELS`.
        width_s: W, > 0; not looked at for `none`.

    Returns:
        The smoothed series at cell centres; a cell without a value stays without.

    Raises:
        ValueError: No such kernel, or a width that is not positive and finite.
    """
    if kernel not in KERNELS:
        raise ValueError(f"kernel must be one of {KERNELS}, not {kernel!r}")
    if kernel == "none":
        return series
    if not (math.isfinite(width_s) and width_s > 0):
        raise ValueError(f"the smoothing width must be positive and finite, not {width_s}")
    grid = assemble.on_grid(series)
    if not grid.covered.any():
        return grid
    # NaN where there is nothing: a value left under a hole must not leak in.
    values = np.where(grid.covered[:, None], grid.values, np.nan)
    reach = min(_reach(kernel, width_s), len(values) - 1)
    smoothed = _medians(values, reach) if kernel == "median" else _means(values, _weights(kernel, width_s, reach))
    smoothed[~grid.covered] = np.nan
    return ClipSeries(id=grid.id, time_s=grid.time_s, values=smoothed, covered=grid.covered)


def choose(
    series: Sequence[ClipSeries],
    truths: Sequence[Truth],
    *,
    kernels: Sequence[Kernel],
    widths_s: Sequence[float],
    fill: Fill,
    label_shift_s: float,
) -> tuple[Kernel, float, list[tuple[str, float, float]]]:
    """Choose the kernel and width with the best mean CCC over all frames of some clips (`abaw`).

    The clips must be those of the selection split: a width chosen on what is reported flatters it (settled 7).

    Args:
        series: One per clip, raw.
        truths: The same clips' annotations.
        kernels: Kernels to try; `none` is always tried.
        widths_s: Widths to try with each, > 0, in seconds.
        fill: As in `assemble.frames_from_series`.
        label_shift_s: As there.

    Returns:
        The kernel; its width, 0.0 for `none`; and every candidate (kernel, width, mean CCC), `none` first and then by
        width. Undefined figures (NaN) are never chosen; of figures within 1e-9 the one listed first wins, which smooths
        less.

    Raises:
        ValueError: A kernel or width that `smooth` refuses, or not as many truths as series.
    """
    tried: list[tuple[Kernel, float]] = [("none", 0.0)]
    tried += [(kernel, width_s) for width_s in sorted(widths_s) for kernel in kernels if kernel != "none"]
    found: list[tuple[str, float, float]] = []
    best, best_ccc = 0, -math.inf
    for index, (kernel, width_s) in enumerate(tried):
        clips = [
            assemble.frames_from_series(
                smooth(one, kernel=kernel, width_s=width_s), truth, fill=fill, label_shift_s=label_shift_s
            )
            for one, truth in zip(series, truths, strict=True)
        ]
        _, _, ccc = metrics.ccc_over_clips(
            predictions=[clip.prediction for clip in clips],
            targets=[clip.target for clip in clips],
            masks=[clip.valid & clip.covered for clip in clips],
        )
        found.append((kernel, width_s, ccc))
        if ccc > best_ccc + _TIE:
            best, best_ccc = index, ccc
    return *tried[best], found


def _reach(kernel: Kernel, width_s: float) -> int:
    """Cells on either side that a kernel looks at."""
    half_s = _CUT * _DEVIATIONS_PER_FWHM * width_s if kernel == "gaussian" else width_s / 2
    return math.floor(half_s / timeline.CELL_S + 1e-9)


def _weights(kernel: Kernel, width_s: float, reach: int) -> FloatArray:
    """Weights of a kernel, float64 [2 reach + 1], at least one of them positive."""
    distance_s = np.arange(-reach, reach + 1) * timeline.CELL_S
    if kernel == "hamming":
        return np.asarray(0.54 + 0.46 * np.cos(2 * np.pi * distance_s / width_s))
    return np.asarray(np.exp(-0.5 * (distance_s / (_DEVIATIONS_PER_FWHM * width_s)) ** 2))


def _means(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Weighted means of what is there, [N, K]; NaN marks what is not."""
    there = ~np.isnan(values)
    smoothed = np.empty_like(values)
    for column in range(values.shape[1]):
        total = np.convolve(np.where(there[:, column], values[:, column], 0.0), weights, mode="full")
        share = np.convolve(there[:, column].astype(np.float64), weights, mode="full")
        reach = len(weights) // 2
        inner = slice(reach, reach + len(values))
        with np.errstate(invalid="ignore"):  # 0 / 0 where nothing is in reach
            smoothed[:, column] = total[inner] / share[inner]
    return smoothed


def _medians(values: FloatArray, reach: int) -> FloatArray:
    """Medians of what is there, [N, K]; NaN marks what is not."""
    padded = np.pad(values, ((reach, reach), (0, 0)), constant_values=np.nan)
    # NaN sorts last, so the first `count` of each window are its values.
    ordered = np.sort(sliding_window_view(padded, 2 * reach + 1, axis=0), axis=-1)
    count = np.sum(~np.isnan(ordered), axis=-1, keepdims=True)
    middle = [np.take_along_axis(ordered, np.maximum(index, 0), axis=-1) for index in ((count - 1) // 2, count // 2)]
    found = (middle[0] + middle[1]) / 2
    return np.asarray(found[..., 0])
