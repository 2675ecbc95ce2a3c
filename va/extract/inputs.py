"""What encoders take in: pictures and rows of a spectrum, made ready with NumPy, PIL and OpenCV. A leaf without torch.

Reader processes run these functions and get them by pickle, that is, by the name of this module. Importing it must
therefore stay cheap: no torch, no open_clip, no model. An encoder fixes the settings with `functools.partial`.
"""

from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from va.extract.resizing import Kernel, resize
from va.extract.spectrum import HOP_SAMPLES, ROW_SAMPLES, count_rows

FFT: Final = 512
MEL_FLOOR: Final = 1e-10
"""-100 dB: what is quieter counts as silence."""


def clip_picture(
    rgb: NDArray[Any], *, side: int, resize_mode: str, interpolation: str, fill_color: int
) -> NDArray[np.uint8]:
    """Resize and crop a picture exactly as open_clip's `image_transform` and torchvision do.

    Args:
        rgb: uint8 [H, W, 3].
        side: Of the model's square input, in pixels.
        resize_mode: `shortest` (its side fits, the middle is cut out), `longest` (its side fits, the rest is filled)
            or `squash` (both sides fit, at the cost of the aspect).
        interpolation: `bilinear`, else bicubic, as in open_clip.
        fill_color: 0 to 255, for `longest`.

    Returns:
        uint8 [side, side, 3], not scaled and not normalised: a quarter of the bytes of float32.
    """
    height, width = rgb.shape[:2]
    kernel: Kernel = "bilinear" if interpolation == "bilinear" else "bicubic"
    tall, wide = _resized(height, width, side=side, resize_mode=resize_mode)
    if resize_mode == "longest":
        framed = np.full((side, side, 3), fill_color, np.uint8)
        top, left = (side - tall) // 2, (side - wide) // 2
        framed[top : top + tall, left : left + wide] = resize(
            rgb, tall=tall, wide=wide, top=0, left=0, height=tall, width=wide, kernel=kernel
        )
        return framed
    # round() goes to the even neighbour at a half: torchvision's rule, kept.
    top, left = round((tall - side) / 2), round((wide - side) / 2)
    return resize(rgb, tall=tall, wide=wide, top=top, left=left, height=side, width=side, kernel=kernel)


def grey_picture(rgb: NDArray[Any], *, side: int) -> NDArray[np.float32]:
    """Shrink a picture, uint8 [H, W, 3], to grey float32 [side, side] in [0, 1]."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    small = np.asarray(cv2.resize(grey, (side, side), interpolation=cv2.INTER_AREA), dtype=np.float32)
    return small / np.float32(255)


def box_row(box: NDArray[Any]) -> NDArray[np.float32]:
    """Pass a face's box on as it is, float32 [5]."""
    return np.asarray(box, np.float32)


def pad_rows(rows: NDArray[Any], *, length: int, bins: int, value: float) -> NDArray[np.float32]:
    """Bring a window's rows to one length.

    Args:
        rows: float32 [any number of rows, bins]; those beyond `length` are left out.
        length: Rows of the result.
        bins: Numbers per row.
        value: What rows that are not there hold.

    Returns:
        float32 [length, bins].
    """
    padded = np.full((length, bins), value, np.float32)
    padded[: len(rows)] = rows[:length]
    return padded


def ast_rows(rows: NDArray[Any], *, length: int, bins: int, mean: float, std: float) -> NDArray[np.float32]:
    """Pad a window's log-mel rows with zeros, then normalise them by transformers' own expression, to the last bit.

    Args:
        rows: float32 [at most `length` rows, bins].
        length: Rows that the model takes.
        bins: Mel bins.
        mean: Of the training data.
        std: Of the training data; AST divides by twice of it.

    Returns:
        float32 [length, bins].
    """
    normalised: NDArray[np.float32] = (pad_rows(rows, length=length, bins=bins, value=0.0) - mean) / (std * 2)
    return normalised


def mel_db(
    waveform: NDArray[np.float32], *, window: NDArray[np.float64], filters: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Compute mel power in dB, with the rows of `spectrum.log_mel`.

    Args:
        waveform: float32 [samples], 16 kHz mono in [-1, 1].
        window: float64 [400], one row's.
        filters: float64 [bins, FFT // 2 + 1]; given, because the library that makes them takes 130 MB.

    Returns:
        float32 [rows, bins], at least -100 dB.
    """
    if not count_rows(len(waveform)):
        return np.zeros((0, len(filters)), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(waveform, ROW_SAMPLES)[::HOP_SAMPLES]
    # The window stands at the row's start, not in the middle of the FFT as in librosa: power is the same wherever it
    # stands, and a row depends on its own 25 ms only, so that blocks join without a seam.
    power = np.abs(np.fft.rfft(frames * window, n=FFT)) ** 2
    # einsum, not a matrix product: BLAS may add in another order for another number of rows.
    mel = np.einsum("rf,bf->rb", power, filters, optimize=False)
    return np.asarray(10 * np.log10(np.maximum(mel, MEL_FLOOR)), dtype=np.float32)


def _resized(height: int, width: int, *, side: int, resize_mode: str) -> tuple[int, int]:
    """Give height and width after resizing, with the rounding of torchvision and open_clip."""
    if resize_mode == "squash":
        return side, side
    if resize_mode == "longest":
        ratio = max(height, width) / side
        return max(1, round(height / ratio)), max(1, round(width / ratio))
    if width <= height:
        return int(side * height / width), side
    return side, int(side * width / height)
