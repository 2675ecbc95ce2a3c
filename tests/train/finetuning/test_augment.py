"""Augmentation against PIL and NumPy, and what it must not depend on."""

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from va.errors import VAError
from va.train.finetuning.augment import AugmentSettings, augment, check, draw
from va.train.finetuning.inputs import InputStore
from va.train.finetuning.window_inputs import WindowInputs

CELLS, SIDE, ROWS, BINS = 3, 24, 50, 16
ALL = AugmentSettings(
    flip=0.5, crop=0.6, stretch=0.5, brightness=0.4, contrast=0.4, saturation=0.4, mel_mask=0.4, time_mask=0.4
)
SEEDS = range(1, 41)


def windows(count: int = 4, *, rows: Sequence[int] | None = None, seed: int = 0) -> WindowInputs:
    """Windows of smooth pictures, the last of each not seen, and of noise."""
    rng = np.random.default_rng(seed)
    waves = np.sin(np.arange(SIDE)[:, None, None] * rng.normal(size=(count, CELLS, 1, 1, 3)) / 3 + np.arange(3))
    waves = waves + np.cos(np.arange(SIDE)[:, None] * rng.normal(size=(count, CELLS, 1, 1, 3)) / 3)
    pictures = ((waves + 2) / 4 * 255).astype(np.uint8)
    pictures[:, -1] = 0
    seen = np.ones((count, CELLS), np.bool_)
    seen[:, -1] = False
    real = torch.tensor(rows or [ROWS] * count)
    spectra = rng.normal(size=(count, ROWS, BINS)).astype(np.float32)
    return WindowInputs(torch.from_numpy(pictures), torch.from_numpy(seen), torch.from_numpy(spectra), real)


def only(**strengths: float) -> AugmentSettings:
    return AugmentSettings(**strengths)


def assert_equal(found: WindowInputs, expected: WindowInputs) -> None:
    for left, right in zip(found, expected, strict=True):
        assert left.dtype == right.dtype and torch.equal(left, right)


def test_nothing_asked_for_gives_the_very_same_tensors() -> None:
    given = windows()
    assert all(
        left is right for left, right in zip(augment(given, seeds=range(4), settings=only()), given, strict=True)
    )
    seen = augment(given, seeds=range(4), settings=only(time_mask=0.5))
    assert seen.pictures is given.pictures and seen.spectra is not given.spectra
    heard = augment(given, seeds=range(4), settings=only(flip=1))
    assert heard.spectra is given.spectra and heard.pictures is not given.pictures


def test_what_is_given_is_not_changed() -> None:
    given, same = windows(), windows()
    changed = augment(given, seeds=range(4), settings=ALL)
    assert_equal(given, same)
    assert changed.pictures.dtype == torch.uint8 and changed.pictures.shape == given.pictures.shape
    assert not torch.equal(changed.pictures, given.pictures) and not torch.equal(changed.spectra, given.spectra)


def test_a_window_is_changed_by_its_seed_alone() -> None:
    """Neither by the order of the batch, nor by its size, nor by who else is in it."""
    given, seeds = windows(6), [3, 1, 4, 1, 5, 9]
    whole = augment(given, seeds=seeds, settings=ALL)
    order = [5, 2, 0, 4, 1, 3]
    mixed = augment(WindowInputs(*(each[order] for each in given)), seeds=[seeds[at] for at in order], settings=ALL)
    assert_equal(mixed, WindowInputs(*(each[order] for each in whole)))
    for at, seed in enumerate(seeds):
        alone = augment(WindowInputs(*(each[at : at + 1] for each in given)), seeds=[seed], settings=ALL)
        assert_equal(alone, WindowInputs(*(each[at : at + 1] for each in whole)))
    torch.manual_seed(7)
    assert_equal(augment(given, seeds=seeds, settings=ALL), whole)
    twice = WindowInputs(*(torch.cat([each[:1], each[:1]]) for each in given))
    first, second = augment(twice, seeds=[3, 1], settings=ALL).pictures
    assert not torch.equal(first, second)


def test_the_pictures_of_a_window_are_changed_alike() -> None:
    given = windows(1)
    given.pictures[0, 1] = given.pictures[0, 0]
    for seed in SEEDS:
        found = augment(given, seeds=[seed], settings=ALL).pictures[0]
        assert torch.equal(found[0], found[1])


def test_pictures_that_are_not_seen_stay_0_and_change_nothing() -> None:
    given = windows(1)
    for seed in SEEDS:
        found = augment(given, seeds=[seed], settings=ALL).pictures[0]
        assert not found[-1].any()
        emptier = given._replace(pictures=given.pictures.clone())
        emptier.pictures[0, 1] = 0
        assert torch.equal(augment(emptier, seeds=[seed], settings=ALL).pictures[0, 0], found[0])


def test_one_setting_does_not_change_what_another_gives() -> None:
    for name in ("flip", "crop", "brightness", "contrast", "saturation", "mel_mask", "time_mask"):
        for seed in SEEDS:
            alone = draw(seed, only(**{name: getattr(ALL, name)}, **({"stretch": 0.5} if name == "crop" else {})))
            assert getattr(alone, name) == getattr(draw(seed, ALL), name)


# --- pictures


def test_flip() -> None:
    given = windows()
    always = augment(given, seeds=range(4), settings=only(flip=1)).pictures
    assert np.array_equal(always.numpy(), given.pictures.numpy()[:, :, :, ::-1])
    flipped = [draw(seed, only(flip=0.25)).flip for seed in range(2000)]
    assert np.mean(flipped) == pytest.approx(0.25, abs=0.03)


def test_a_crop_is_the_one_that_pil_makes() -> None:
    given, settings = windows(1), only(crop=0.8, stretch=0.5)
    for seed in SEEDS:
        top, left, height, width = draw(seed, settings).crop
        tall, wide = max(1, round(height * SIDE)), max(1, round(width * SIDE))
        left, top = min(round(left * SIDE), SIDE - wide), min(round(top * SIDE), SIDE - tall)
        found = augment(given, seeds=[seed], settings=settings).pictures[0]
        for picture, changed in zip(given.pictures[0], found, strict=True):
            box = (left, top, left + wide, top + tall)
            expected = Image.fromarray(picture.numpy()).crop(box).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            error = np.abs(np.array(expected, int) - changed.numpy())
            assert error.max() <= 2 and error.mean() < 0.1  # both round between two passes, with other weights


def test_crops_are_what_was_asked_for() -> None:
    drawn = np.array([draw(seed, only(crop=0.6, stretch=0.5)).crop for seed in range(3000)])
    top, left, height, width = drawn.T
    area, aspect = height * width, width / height
    assert (drawn >= 0).all() and (top + height <= 1 + 1e-12).all() and (left + width <= 1 + 1e-12).all()
    assert (area >= 0.4 - 1e-12).all() and (aspect <= 1.5 + 1e-12).all() and (aspect >= 1 / 1.5 - 1e-12).all()
    assert np.quantile(area, [0.25, 0.5, 0.75]) == pytest.approx([0.55, 0.7, 0.85], abs=0.02)
    assert np.median(aspect) == pytest.approx(1, abs=0.02)
    assert np.median(top / (1 - height)) == pytest.approx(0.5, abs=0.03)
    whole = [draw(seed, only(crop=0.6)).crop for seed in range(100)]
    assert all(height == width for _, _, height, width in whole)  # no stretch, no other aspect


@pytest.mark.parametrize("size", [(24, 40), (1, 7), (5, 5)])
def test_a_crop_lies_inside_a_picture_of_any_size(size: tuple[int, int]) -> None:
    pictures = torch.randint(0, 256, (40, 2, *size, 3), dtype=torch.uint8)
    given = WindowInputs(pictures, torch.ones(40, 2, dtype=torch.bool), torch.zeros(40, 1, 1), torch.zeros(40).long())
    assert augment(given, seeds=range(40), settings=only(crop=0.95, stretch=1)).pictures.shape == pictures.shape


ENHANCE = {"brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast, "saturation": ImageEnhance.Color}


@pytest.mark.parametrize("name", sorted(ENHANCE))
def test_a_colour_is_the_one_that_pil_makes(name: str) -> None:
    given, settings = windows(1), only(**{name: 0.5})
    for seed in SEEDS:
        factor = getattr(draw(seed, settings), name)
        assert 0.5 <= factor <= 1.5
        found = augment(given, seeds=[seed], settings=settings).pictures[0]
        for picture, changed in zip(given.pictures[0], found, strict=True):
            expected = np.array(ENHANCE[name](Image.fromarray(picture.numpy())).enhance(factor), int)
            assert np.abs(expected - changed.numpy()).max() <= 1  # PIL rounds greys and their mean


def oracle(picture: NDArray[np.uint8], *, brightness: float, contrast: float, saturation: float) -> NDArray[Any]:
    """The three changes one after the other, in float64."""
    weights = np.array([0.2989, 0.587, 0.114])
    image = np.clip(picture / 255 * brightness, 0, 1)
    image = np.clip(contrast * image + (1 - contrast) * (image @ weights).mean(), 0, 1)
    image = np.clip(saturation * image + (1 - saturation) * (image @ weights)[..., None], 0, 1)
    return np.asarray(image * 255)


def test_colours_are_rounded_once() -> None:
    given = windows(1)
    settings = only(brightness=0.4, contrast=0.4, saturation=0.4)
    for seed in SEEDS:
        drawn = draw(seed, settings)
        found = augment(given, seeds=[seed], settings=settings).pictures[0]
        for picture, changed in zip(given.pictures[0], found, strict=True):
            expected = oracle(
                picture.numpy(), brightness=drawn.brightness, contrast=drawn.contrast, saturation=drawn.saturation
            )
            assert np.abs(expected - changed.numpy()).max() <= 0.5 + 1e-3
    hardly = augment(given, seeds=[1], settings=only(brightness=1e-4, contrast=1e-4, saturation=1e-4))
    assert torch.equal(hardly.pictures, given.pictures)


# --- spectra


def masked(before: NDArray[Any], after: NDArray[Any]) -> tuple[list[int], list[int]]:
    """List the bins and the rows that were changed as a whole."""
    changed = before != after
    return np.flatnonzero(changed.all(axis=0)).tolist(), np.flatnonzero(changed.all(axis=1)).tolist()


def assert_run(found: list[int]) -> None:
    assert found == list(range(found[0], found[0] + len(found))) if found else True


def test_masks_are_a_band_and_a_stretch_filled_with_the_mean() -> None:
    rows = 37
    given = windows(len(SEEDS), rows=[rows] * len(SEEDS))
    found = augment(given, seeds=list(SEEDS), settings=only(mel_mask=0.5, time_mask=0.3)).spectra.numpy()
    widths: list[tuple[int, int]] = []
    for before, after in zip(given.spectra.numpy(), found, strict=True):
        assert np.array_equal(before[rows:], after[rows:]), "padding is not touched"
        bins, times = masked(before[:rows], after[:rows])
        assert_run(bins)
        assert_run(times)
        outside = np.ones((rows, BINS), np.bool_)
        outside[times] = outside[:, bins] = False
        assert np.array_equal(before[:rows][outside], after[:rows][outside])
        assert after[:rows][~outside] == pytest.approx(before[:rows].mean(dtype=np.float64), abs=1e-6)
        widths.append((len(bins), len(times)))
    # From nothing to the widest, 8 of 16 bins and 11 of 37 rows.
    assert np.min(widths, axis=0).tolist() == [0, 0] and np.max(widths, axis=0).tolist() == [8, 11]


def test_masks_reach_everywhere() -> None:
    count = 400
    given = windows(count)
    found = augment(given, seeds=range(count), settings=only(mel_mask=0.3, time_mask=0.3)).spectra.numpy()
    pairs = [masked(before, after) for before, after in zip(given.spectra.numpy(), found, strict=True)]
    assert {bin_ for bins, _ in pairs for bin_ in bins} == set(range(BINS))
    assert {row for _, rows in pairs for row in rows} == set(range(ROWS))


def test_a_window_without_sound_stays_as_it_is_and_padding_changes_nothing() -> None:
    given = windows(3, rows=[0, 1, 30])
    found = augment(given, seeds=[1, 2, 3], settings=ALL).spectra
    assert torch.equal(found[0], given.spectra[0])
    padded = given._replace(spectra=torch.cat([given.spectra, torch.full((3, 9, BINS), 5.0)], dim=1))
    longer = augment(padded, seeds=[1, 2, 3], settings=ALL).spectra
    assert torch.equal(longer[:, :ROWS], found) and (longer[:, ROWS:] == 5).all()


# --- what has no meaning


def test_inputs_that_are_no_pictures_or_no_spectra_are_refused() -> None:
    given = windows(2)
    boxes = given._replace(pictures=torch.rand(2, CELLS, 5))
    with pytest.raises(VAError, match=r"need pictures, uint8 .*takes float32 \[5\]"):
        augment(boxes, seeds=[1, 2], settings=only(flip=0.5))
    with pytest.raises(VAError, match=r"takes uint8 \[24, 24, 1\]"):
        augment(given._replace(pictures=given.pictures[..., :1]), seeds=[1, 2], settings=only(crop=0.5))
    waves = given._replace(spectra=torch.rand(2, 400))
    with pytest.raises(VAError, match=r"--time-mask, --mel-mask: .*takes float32 \[400\]"):
        augment(waves, seeds=[1, 2], settings=only(mel_mask=0.5))
    with pytest.raises(VAError, match=r"takes float32 \[16, 50\], which is something else"):
        augment(given._replace(spectra=given.spectra.transpose(1, 2)), seeds=[1, 2], settings=only(time_mask=0.5))
    found = augment(waves, seeds=[1, 2], settings=only(flip=1))
    assert found.spectra is waves.spectra  # what has a meaning is done


def store(picture: tuple[int, ...], dtype: Any, spectrum: tuple[int, ...], row: tuple[int, ...]) -> InputStore:
    inputs: Any = SimpleNamespace(
        face=SimpleNamespace(shape=picture, dtype=np.dtype(dtype)),
        voice=SimpleNamespace(shape=row),
        spectrum=spectrum,
    )
    return inputs  # type: ignore[no-any-return]


def test_encoders_are_checked_before_anything_is_decoded() -> None:
    check(ALL, store((224, 224, 3), np.uint8, (1024, 128), (128,)))  # CLIP and AST
    with pytest.raises(VAError, match=r"takes float32 \[5\]"):
        check(only(flip=0.5), store((5,), np.float32, (1024, 128), (128,)))
    for spectrum in ((159_920,), (80, 3000)):  # wav2vec 2.0, and Whisper, which has bins by rows
        other = store((224, 224, 3), np.uint8, spectrum, (400,))
        check(only(flip=0.5), other)
        with pytest.raises(VAError, match="something else"):
            check(only(time_mask=0.1), other)
    check(only(), store((5,), np.float32, (3,), (400,)))


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(AugmentSettings)])
def test_strengths_out_of_range(name: str) -> None:
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=name):
            AugmentSettings(**{name: value})
    if name in ("crop", "mel_mask", "time_mask"):
        with pytest.raises(ValueError, match="below 1"):
            AugmentSettings(**{name: 1.0})
