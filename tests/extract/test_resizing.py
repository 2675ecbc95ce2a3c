"""`resizing.py` beside Pillow itself: equal bytes, whatever the picture, its size and what is kept of it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from va.extract import inputs, resizing
from va.extract.resizing import Kernel

Rgb = NDArray[np.uint8]
Case = tuple[Rgb, tuple[int, int], tuple[int, int, int, int], Kernel]


def by_pillow(rgb: Rgb, size: tuple[int, int], kept: tuple[int, int, int, int], kernel: Kernel) -> Rgb:
    """Resize the whole picture to (height, width), then cut (top, left, height, width) out."""
    top, left, height, width = kept
    whole = Image.fromarray(rgb).resize(size[::-1], Image.Resampling[kernel.upper()])
    return np.array(whole.crop((left, top, left + width, top + height)))


def given_to(
    function: Callable[..., Rgb], rgb: Rgb, size: tuple[int, int], kept: tuple[int, int, int, int], kernel: Kernel
) -> Rgb:
    top, left, height, width = kept
    return function(rgb, tall=size[0], wide=size[1], top=top, left=left, height=height, width=width, kernel=kernel)


def picture(seed: int, rows: int, columns: int, style: str) -> Rgb:
    """Draw noise, noise of black and white (which overshoots most), or a slope whose sums lie close together."""
    rng = np.random.default_rng(seed)
    if style == "slope":
        slope = np.add.outer(np.arange(rows), np.arange(columns))[:, :, None] + np.array([0, 85, 170])
        return np.asarray(slope % 256, np.uint8)
    noise = rng.integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    return noise if style == "noise" else np.where(noise > 127, np.uint8(255), np.uint8(0))


@st.composite
def cases(draw: Any) -> Case:
    rows, columns = draw(st.integers(1, 120)), draw(st.integers(1, 120))
    tall, wide = draw(st.integers(1, 90)), draw(st.integers(1, 90))
    top, left = draw(st.integers(0, tall - 1)), draw(st.integers(0, wide - 1))
    height, width = draw(st.integers(1, tall - top)), draw(st.integers(1, wide - left))
    rgb = picture(draw(st.integers(0, 99)), rows, columns, draw(st.sampled_from(["noise", "black", "slope"])))
    return rgb, (tall, wide), (top, left, height, width), draw(st.sampled_from(["bicubic", "bilinear"]))


def rows_last(rgb: Rgb, size: tuple[int, int]) -> bool:
    return bool(rgb.shape[0] - size[0] > max(0, 2 * (rgb.shape[1] - size[1])))


@settings(deadline=None, max_examples=200)
@given(cases())
def test_any_part_of_any_resized_picture_is_pillows(case: Case) -> None:
    rgb, size, kept, kernel = case
    expected = by_pillow(rgb, size, kept, kernel)
    assert np.array_equal(given_to(resizing.resize, rgb, size, kept, kernel), expected)
    if not rows_last(rgb, size):
        assert np.array_equal(given_to(resizing.cut, rgb, size, kept, kernel), expected)


@pytest.mark.parametrize("style", ["noise", "slope"])
@pytest.mark.parametrize(
    ("rows", "columns"),
    [(720, 1280), (1080, 1920), (480, 640), (481, 853), (448, 448), (1280, 720), (1001, 503), (900, 440), (40, 4000)],
)
def test_large_pictures_are_cut_as_pillow_cuts_them(rows: int, columns: int, style: str) -> None:
    """In the sizes of videos, lying and standing; the last but one is what Pillow may take columns first."""
    rgb = picture(1, rows, columns, style)
    kernels: dict[int, Kernel] = {224: "bicubic", 64: "bicubic", 32: "bilinear"}
    for side, kernel in kernels.items():
        size = (side, int(side * columns / rows)) if rows <= columns else (int(side * rows / columns), side)
        kept = (round((size[0] - side) / 2), round((size[1] - side) / 2), side, side)
        assert np.array_equal(given_to(resizing.resize, rgb, size, kept, kernel), by_pillow(rgb, size, kept, kernel))


@pytest.mark.parametrize("level", [0, 1, 127, 128, 254, 255])
def test_one_colour_stays_one_colour(level: int) -> None:
    flat = np.full((400, 700, 3), level, np.uint8)
    assert (given_to(resizing.cut, flat, (64, 112), (0, 24, 64, 64), "bicubic") == level).all()


def test_sums_close_to_a_half_are_computed_again() -> None:
    """Two pixels of neighbouring levels halved: every sum is a half exactly, and Pillow rounds it up."""
    pair = np.tile(np.array([[[10, 201, 0], [11, 200, 1]]], np.uint8), (4, 300, 1))
    expected = by_pillow(pair, (4, 300), (0, 0, 4, 300), "bilinear")
    assert np.array_equal(given_to(resizing.cut, pair, (4, 300), (0, 0, 4, 300), "bilinear"), expected)
    axis = resizing._axis(600, 300, 0, 300, "bilinear")
    bare = dataclasses.replace(axis, slack=-1.0)
    sums = np.concatenate([pair[:, :, colour] for colour in range(3)]).astype(np.float32)
    assert (resizing._along(sums, bare) != resizing._along(sums, axis)).any()


@pytest.mark.parametrize(
    ("size", "result"), [(1280, 398), (720, 224), (1280, 113), (97, 224), (1, 7), (5000, 3), (64, 64)]
)
@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
def test_weights_are_pillows_to_the_last_of_30_bits(size: int, result: int, kernel: Kernel) -> None:
    """Pillow's 32-bit pictures round sums of unrounded weights, so that one bright pixel gives away its own weight."""
    axis = resizing._axis(size, result, 0, result, kernel)
    ours = np.zeros((result, size))
    np.add.at(ours, (np.arange(result)[:, None], axis.places + axis.start), axis.weights)
    step = max(1, size // 200)
    for pixel in [*range(0, size, step), size - 1]:
        bright = np.zeros((1, size), np.int32)
        bright[0, pixel] = 1 << 30
        theirs = np.array(Image.fromarray(bright).resize((result, 1), Image.Resampling[kernel.upper()]))[0] / (1 << 8)
        assert (np.abs(ours[:, pixel] - theirs) <= 0.5 + 1 / (1 << 9)).all()


def test_sums_are_off_by_less_than_the_slack() -> None:
    """The bound behind it all, beside sums in float64, which hold these numbers exactly."""
    rng = np.random.default_rng(2)
    for size, result in ((1280, 398), (1920, 113), (4000, 20)):
        axis = resizing._axis(size, result, 0, result, "bicubic")
        lines = rng.integers(0, 256, (40, size)).astype(np.float32)
        for _, source, weights in axis.bands:
            exact = lines[:, source].astype(np.float64) @ weights.astype(np.float64)
            assert np.abs(lines[:, source] @ weights - exact).max() < axis.slack
        assert axis.slack < 0.05


def test_weights_of_float32_are_whole_multiples_too() -> None:
    axis = resizing._axis(1280, 398, 87, 224, "bicubic")
    for _, _, weights in axis.bands:
        scaled = weights.astype(np.float64) * (1 << 22)
        assert np.array_equal(scaled, np.rint(scaled))
    assert np.array_equal(axis.weights, np.rint(axis.weights))
    assert (axis.start, axis.stop) != (0, 1280)  # no more columns than are needed


def test_pictures_that_are_parts_of_others_are_read_where_they_lie() -> None:
    frame = picture(3, 800, 900, "noise")
    part, mirrored = frame[50:700, 33:811], frame[::-1, ::-1]
    for rgb in (part, mirrored):
        arguments: dict[str, Any] = {"side": 64, "resize_mode": "shortest", "interpolation": "bicubic", "fill_color": 0}
        whole = inputs.clip_picture(np.ascontiguousarray(rgb), **arguments)
        assert np.array_equal(inputs.clip_picture(rgb, **arguments), whole)
