"""Pillow's resizing of pictures, to the last bit, of no more pixels than are kept: a third of its time. A leaf.

Pillow resizes along rows, then along columns, each time with weights that are whole multiples of 2^-22 and with sums of
whole numbers, rounded to uint8. Such sums do not depend on their order, so any way to compute them gives the same
bytes. Here they are products of matrices in float32, whose error has a bound; the few sums that lie closer than that to
where rounding changes are computed again without error. Pillow cannot be asked for a part of its result: the edges of
`Image.resize(..., box=)` are float32, which moves the weights by some units of 2^-22.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Kernel: TypeAlias = Literal["bilinear", "bicubic"]

_ONE: Final = 1 << 22
"""A weight of 1, as Pillow counts: PRECISION_BITS in its Resample.c."""

_SUPPORT: Final[dict[Kernel, float]] = {"bilinear": 1.0, "bicubic": 2.0}
_BLOCK: Final = 8
"""Pixels of the result per product. Few: their weights are a band, and the rest of a block is zeros."""

_STRIP_BYTES: Final = 1 << 20
"""Rows are taken in strips that stay in the processor's cache."""

_FEW: Final = 1 << 17
"""Pixels of a picture that Pillow resizes as quickly; faces are cut out in many sizes, each with weights of its own."""


def resize(
    rgb: NDArray[np.uint8], *, tall: int, wide: int, top: int, left: int, height: int, width: int, kernel: Kernel
) -> NDArray[np.uint8]:
    """Do what `Image.resize((wide, tall), kernel)` and `crop` do, the quicker way.

    Args:
        rgb: uint8 [rows, columns, 3].
        tall: Height of the whole result, at least 1.
        wide: Its width.
        top: First row that is kept, in [0, tall).
        left: First column that is kept.
        height: Rows that are kept; `top + height` is at most `tall`.
        width: Columns that are kept.
        kernel: Which of Pillow's filters.

    Returns:
        uint8 [height, width, 3].
    """
    rows, columns = rgb.shape[:2]
    # Of a picture that shrinks much more in height, Pillow 13 resizes the columns first and older ones the rows.
    rows_last = rows - tall > max(0, 2 * (columns - wide))
    if rows_last or rows * columns < _FEW:
        whole = Image.fromarray(rgb).resize((wide, tall), Image.Resampling[kernel.upper()])
        return np.array(whole.crop((left, top, left + width, top + height)))
    return cut(rgb, tall=tall, wide=wide, top=top, left=left, height=height, width=width, kernel=kernel)


def cut(
    rgb: NDArray[np.uint8], *, tall: int, wide: int, top: int, left: int, height: int, width: int, kernel: Kernel
) -> NDArray[np.uint8]:
    """Do the same without Pillow, along rows first."""
    down = _axis(rgb.shape[0], tall, top, height, kernel)
    across = _axis(rgb.shape[1], wide, left, width, kernel)
    needed = rgb[down.start : down.stop, across.start : across.stop]
    narrow = np.empty((3, width, len(needed)), np.float32)
    step = max(1, _STRIP_BYTES // (3 * 4 * needed.shape[1]))
    for begin in range(0, len(needed), step):
        colours = cv2.split(np.ascontiguousarray(needed[begin : begin + step]))
        made = _along(np.concatenate(colours, dtype=np.float32), across)
        narrow[:, :, begin : begin + step] = made.reshape(3, -1, width).swapaxes(1, 2)
    made = _along(narrow.reshape(3 * width, -1), down)
    return np.ascontiguousarray(made.reshape(3, width, height).transpose(2, 1, 0)).astype(np.uint8)


@dataclass(frozen=True)
class _Axis:
    """How pixels of the result are made of pixels of the source, along rows or along columns.

    Attributes:
        start: First pixel of the source that counts.
        stop: One after the last.
        places: For each pixel of the result, those that it is made of, counted from `start`, int64 [n, taps].
        weights: What they count, in units of 2^-22: whole numbers, float64 [n, taps].
        bands: The same in blocks: pixels of the result, of the source, and float32 [source, result] of weights.
        slack: How far a sum in float32 may be off, in levels.
    """

    start: int
    stop: int
    places: NDArray[np.int64]
    weights: NDArray[np.float64]
    bands: tuple[tuple[slice, slice, NDArray[np.float32]], ...]
    slack: float


def _along(lines: NDArray[np.float32], axis: _Axis) -> NDArray[np.float32]:
    """Resize lines of levels, 0 to 255: float32 [lines, source] -> [lines, result], whole numbers both."""
    sums = np.empty((len(lines), len(axis.weights)), np.float32)
    for result, source, weights in axis.bands:
        np.matmul(lines[:, source], weights, out=sums[:, result])
    levels = np.rint(sums)
    sums -= levels
    close = np.flatnonzero(np.abs(sums, out=sums) > np.float32(0.5 - axis.slack))
    if len(close):
        line, pixel = np.divmod(close, len(axis.weights))
        taken = lines.ravel()[(line * lines.shape[1])[:, None] + axis.places[pixel]]
        exact = np.einsum("ij,ij->i", taken, axis.weights[pixel])  # whole numbers far below 2^53, in float64
        levels.ravel()[close] = np.floor((exact + _ONE // 2) / _ONE)
    return np.clip(levels, 0, 255, out=levels)


@lru_cache(maxsize=64)
def _axis(size: int, result: int, begin: int, count: int, kernel: Kernel) -> _Axis:
    """Compute the weights of Pillow's `precompute_coeffs`, with its operations in its order.

    Args:
        size: Pixels of the source.
        result: Of the whole result.
        begin: First that is kept.
        count: How many are.
        kernel: Its filter.
    """
    scale = size / result
    stretch = max(scale, 1.0)
    support = _SUPPORT[kernel] * stretch
    center = (np.arange(begin, begin + count) + 0.5) * scale
    first = np.maximum(np.trunc(center - support + 0.5), 0.0)
    stop = np.minimum(np.trunc(center + support + 0.5), size)
    places = first[:, None] + np.arange(int((stop - first).max()))
    values = _FILTERS[kernel]((places - center[:, None] + 0.5) * (1.0 / stretch))
    values = np.where(places < stop[:, None], values, 0.0)
    values = values / np.cumsum(values, axis=1)[:, -1:]  # added one after the other, as a loop does
    weights = np.trunc(values * _ONE + np.where(values < 0, -0.5, 0.5))
    start, end = int(first.min()), int(stop.max())
    places = np.minimum(places, end - 1).astype(np.int64) - start
    bands = []
    for block in range(0, count, _BLOCK):
        made = slice(block, min(block + _BLOCK, count))
        low, high = int(places[made].min()), int(places[made].max()) + 1
        band = np.zeros((high - low, len(places[made])))
        np.add.at(band, (places[made] - low, np.arange(band.shape[1])[:, None]), weights[made] / _ONE)
        bands.append((made, slice(low, high), band.astype(np.float32)))
    # Each of n products is off by n roundings at most, of 2^-24 of itself, in whatever order they are added.
    largest = 255 * float(np.abs(weights).sum(axis=1).max()) / _ONE
    return _Axis(start, end, places, weights, tuple(bands), 1.01 * weights.shape[1] * 2.0**-24 * largest)


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    return np.where(x < 1.0, 1.0 - x, 0.0)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x, a = np.abs(x), -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


_FILTERS: Final = {"bilinear": _triangle, "bicubic": _cubic}
