"""Changing what a window looks and sounds like, in training only: the same picture is never learned twice.

What is drawn depends on a window's seed alone, and each window is changed by itself: the order of a batch, its size and
the number of devices change nothing, so that a run that is resumed or runs in parallel sees the same pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as change

from va.errors import VAError
from va.train.finetuning.inputs import InputStore
from va.train.finetuning.window_inputs import WindowInputs

_WHITE: Final = 255


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """How strongly windows are changed; 0 is not at all.

    Args:
        flip: Probability of a window's pictures being mirrored, 0 to 1.
        crop: Largest part of a picture's area that is cut away before it is enlarged again, 0 to below 1.
        stretch: How much wider or narrower than the picture a crop may be, at least 0: 1/3 allows aspects from 3/4 to
            4/3 of the picture's. Has a meaning with `crop` only.
        brightness: Pictures are multiplied by a factor from 1 - brightness to 1 + brightness, 0 to 1.
        contrast: Factor of the distance from the mean grey, likewise.
        saturation: Factor of the distance from grey, likewise.
        mel_mask: Widest band of a spectrum that is masked, as a part of its bins, 0 to below 1.
        time_mask: Longest stretch that is masked, as a part of a window's rows, 0 to below 1.
    """

    flip: float = 0.0
    crop: float = 0.0
    stretch: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    mel_mask: float = 0.0
    time_mask: float = 0.0

    def __post_init__(self) -> None:
        """Check ranges.

        Raises:
            ValueError: One is outside.
        """
        for field in fields(self):
            value, name = getattr(self, field.name), field.name
            below_one = name in ("crop", "mel_mask", "time_mask")
            if not 0 <= value <= 1 or (below_one and value == 1):
                raise ValueError(f"{name} must be from 0 to {'below ' if below_one else ''}1, not {value}")

    @property
    def sees(self) -> bool:
        """Whether pictures are changed."""
        return any((self.flip, self.crop, self.brightness, self.contrast, self.saturation))

    @property
    def hears(self) -> bool:
        """Whether spectra are changed."""
        return bool(self.mel_mask or self.time_mask)


class Drawn(NamedTuple):
    """What is done to one window.

    Attributes:
        flip: Whether pictures are mirrored.
        crop: Top, left, height and width of what is kept, as parts of the picture.
        brightness: Factor.
        contrast: Factor.
        saturation: Factor.
        mel_mask: Width and place of the band, uniform in [0, 1).
        time_mask: Length and place of the stretch, uniform in [0, 1).
    """

    flip: bool
    crop: tuple[float, float, float, float]
    brightness: float
    contrast: float
    saturation: float
    mel_mask: tuple[float, float]
    time_mask: tuple[float, float]


def draw(seed: int, settings: AugmentSettings) -> Drawn:
    """Draw what is done to a window; what one setting gives does not depend on the others.

    A crop keeps a part of the area that is uniform in [1 - crop, 1]. The logarithm of its aspect is uniform too, as in
    torchvision's RandomResizedCrop, but within what fits into the picture, so that nothing is drawn in vain.

    Args:
        seed: At least 0.
        settings: How strongly.
    """
    uniform = np.random.default_rng(seed).random(12).tolist()
    area = 1 - settings.crop * uniform[1]
    widest = np.log(min(1 + settings.stretch, 1 / area))
    aspect = float(np.exp(widest * (2 * uniform[2] - 1)))
    height, width = min(1.0, float(np.sqrt(area / aspect))), min(1.0, float(np.sqrt(area * aspect)))
    return Drawn(
        flip=uniform[0] < settings.flip,
        crop=((1 - height) * uniform[3], (1 - width) * uniform[4], height, width),
        brightness=1 + settings.brightness * (2 * uniform[5] - 1),
        contrast=1 + settings.contrast * (2 * uniform[6] - 1),
        saturation=1 + settings.saturation * (2 * uniform[7] - 1),
        mel_mask=(uniform[8], uniform[9]),
        time_mask=(uniform[10], uniform[11]),
    )


def check(settings: AugmentSettings, inputs: InputStore) -> None:
    """Check, before anything is decoded, that what is asked for has a meaning for the encoders.

    Raises:
        VAError: The frame encoder takes no pictures (but boxes, or what a processor made of them), or the audio encoder
            no spectrum of the rows that are kept (but waveforms, or Whisper's bins by rows).
    """
    if settings.sees:
        _check_pictures(inputs.face.shape, inputs.face.dtype.name)
    if settings.hears:
        _check_spectra(inputs.spectrum, fits=inputs.spectrum[1:] == inputs.voice.shape)


def augment(inputs: WindowInputs, *, seeds: Sequence[int], settings: AugmentSettings) -> WindowInputs:
    """Change windows, on the device where they lie.

    Pictures: crop, mirror, brightness, contrast, saturation, in this order and alike for all pictures of a window;
    rounded after the crop and at the end. Pictures that are not seen stay 0. Spectra: SpecAugment's masks (Park et al.,
    2019, section 2), one band of bins and one stretch of time, inside the rows that are there.

    Args:
        inputs: Of B windows; not changed.
        seeds: One per window, at least 0.
        settings: How strongly.

    Returns:
        New tensors, but the very same ones where nothing is to be changed.

    Raises:
        VAError: As `check`, as far as the tensors tell.
    """
    drawn = [draw(seed, settings) for seed in seeds]
    if settings.sees:
        _check_pictures(tuple(inputs.pictures.shape[2:]), str(inputs.pictures.dtype).removeprefix("torch."))
        changed = [_look(pictures, each, settings) for pictures, each in zip(inputs.pictures, drawn, strict=True)]
        inputs = inputs._replace(pictures=torch.stack(changed))
    if settings.hears:
        shape = tuple(inputs.spectra.shape[1:])
        _check_spectra(shape, fits=len(shape) == 2 and int(inputs.rows.max()) <= shape[0])
        spectra = inputs.spectra.clone()
        for spectrum, rows, each in zip(spectra, inputs.rows.tolist(), drawn, strict=True):
            _mask(spectrum[:rows], each, settings)
        inputs = inputs._replace(spectra=spectra)
    return inputs


def _look(pictures: Tensor, drawn: Drawn, settings: AugmentSettings) -> Tensor:
    """Change a window's pictures, uint8 [T, H, W, 3]."""
    images = pictures.permute(0, 3, 1, 2)
    if settings.crop:
        size = list(images.shape[-2:])
        # Bicubic, as CLIP's own preprocessing.
        kernel = InterpolationMode.BICUBIC
        images = change.resized_crop(images, *_pixels(drawn.crop, *size), size, kernel, antialias=True)
    if drawn.flip:
        images = change.horizontal_flip(images)
    if settings.brightness or settings.contrast or settings.saturation:
        # torchvision rounds down after each change of a uint8 picture, so that a window would become darker.
        images = images.contiguous().to(torch.float32).div_(_WHITE)
        if settings.brightness:
            images = change.adjust_brightness(images, drawn.brightness)
        if settings.contrast:
            images = change.adjust_contrast(images, drawn.contrast)
        if settings.saturation:
            images = change.adjust_saturation(images, drawn.saturation)
        images = images.mul(_WHITE).round_().to(torch.uint8)
    return images.permute(0, 2, 3, 1)


def _pixels(crop: tuple[float, float, float, float], height: int, width: int) -> tuple[int, int, int, int]:
    """Turn top, left, height and width from parts of a picture into pixels that lie inside it."""
    kept_height, kept_width = max(1, round(crop[2] * height)), max(1, round(crop[3] * width))
    top, left = round(crop[0] * height), round(crop[1] * width)
    return min(top, height - kept_height), min(left, width - kept_width), kept_height, kept_width


def _mask(spectrum: Tensor, drawn: Drawn, settings: AugmentSettings) -> None:
    """Mask a window's real rows, float32 [rows, bins], in place."""
    rows, bins = spectrum.shape
    if not rows:
        return
    # SpecAugment fills with the mean. The window's own is the mean whatever an encoder normalises by; silence, and the
    # value of padding, are levels that an encoder takes for something heard.
    mean = spectrum.mean()
    first, end = _span(drawn.mel_mask, settings.mel_mask, bins)
    spectrum[:, first:end] = mean
    first, end = _span(drawn.time_mask, settings.time_mask, rows)
    spectrum[first:end] = mean


def _span(drawn: tuple[float, float], part: float, length: int) -> tuple[int, int]:
    """Choose a width from 0 to a part of the length, and a place for it, both uniform over whole numbers."""
    width = int(drawn[0] * (int(part * length) + 1))
    first = int(drawn[1] * (length - width + 1))
    return first, first + width


def _check_pictures(shape: tuple[int, ...], dtype: str) -> None:
    if dtype != "uint8" or len(shape) != 3 or shape[2] != 3:
        raise VAError(
            f"--flip, --crop, --colour: need pictures, uint8 [height, width, 3], and the frame encoder takes "
            f"{dtype} {list(shape)}",
            "Set them to 0 for this encoder.",
        )


def _check_spectra(shape: tuple[int, ...], *, fits: bool) -> None:
    if not fits:
        raise VAError(
            f"--time-mask, --mel-mask: need a spectrum of rows and bins, and the audio encoder takes float32 "
            f"{list(shape)}, which is something else",
            "Set them to 0 for this encoder.",
        )
