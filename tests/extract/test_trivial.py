"""Pixels and loudness against plain loops."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import make_video

from va.data import corpus
from va.data.corpus import Clip, Truth
from va.data.features import FeatureStore
from va.errors import VAError
from va.extract import pipeline, spectrum, trivial
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder


def save_corpus(root: Path, media: list[Path], seconds: float) -> Path:
    truth = Truth(time_s=np.zeros(1), va=np.zeros((1, 2), np.float32), valid=np.ones(1, np.bool_))
    clips = [
        Clip(id=path.stem, media=path, split="train", identity=path.stem, num_frames=1, duration_s=seconds)
        for path in media
    ]
    entries = [(clip, truth) for clip in clips]
    return corpus.save(root, name="m", synthetic=True, media_root=media[0].parent, entries=entries).path


def config(**changes: Any) -> ExtractConfig:
    return ExtractConfig(corpus=Path("c"), out=Path("o"), **changes)


def see(rgb: np.ndarray) -> np.ndarray:
    encoder = trivial.pixels(config())
    return encoder.encode(torch.from_numpy(encoder.transform(rgb)[None])).numpy()[0]


def hear(encoder: Encoder, *windows: np.ndarray) -> np.ndarray:
    inputs = torch.from_numpy(np.stack([encoder.transform(rows) for rows in windows]))
    return encoder.encode(inputs, torch.tensor([len(rows) for rows in windows])).numpy()


@pytest.mark.parametrize(("height", "width"), [(128, 128), (64, 160), (16, 16)])
def test_pixels_against_a_loop(height: int, width: int) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    found = see(rgb)
    assert found.shape == (256,) and found.dtype == np.float32
    tall, wide = height // 16, width // 16
    for row in range(16):
        for column in range(16):
            block = rgb[row * tall : (row + 1) * tall, column * wide : (column + 1) * wide].reshape(-1, 3)
            grey = [0.299 * float(r) + 0.587 * float(g) + 0.114 * float(b) for r, g, b in block]
            # Grey values and their mean are each rounded to a whole number.
            assert found[row * 16 + column] * 255 == pytest.approx(sum(grey) / len(grey), abs=1.01)


@pytest.mark.parametrize(("value", "expected"), [(0, 0.0), (255, 1.0), (51, 0.2)])
def test_pixels_are_between_0_and_1(value: int, expected: float) -> None:
    assert see(np.full((90, 70, 3), value, np.uint8)).tolist() == pytest.approx([expected] * 256, abs=1e-6)


@pytest.mark.parametrize("samples", [0, 400, 7000, 16_000, 32_000])
def test_loudness_against_a_loop(samples: int) -> None:
    encoder = trivial.loudness(config(window_s=2.0, stride_s=1.0))
    assert encoder.spectrum is not None and encoder.valid_steps is not None
    wave = (np.random.default_rng(0).normal(size=samples) * 0.1).astype(np.float32)
    rows = encoder.spectrum(wave)
    found, valid = hear(encoder, rows)[0], encoder.valid_steps(len(rows))
    assert found.shape == (4, 1) and valid.shape == (4,)
    for cell in range(4):
        powers = []
        for row in range(cell * 50, (cell + 1) * 50):
            piece = wave[row * 160 : row * 160 + 400].astype(np.float64)
            if len(piece) == 400:
                powers.append(float((piece**2).sum() / 400))
        assert bool(valid[cell]) is bool(powers)
        if powers:
            assert found[cell, 0] == pytest.approx(10 * math.log10(sum(powers) / len(powers)), abs=1e-3)


def test_silence_has_a_floor() -> None:
    encoder = trivial.loudness(config(window_s=1.0, stride_s=1.0))
    assert hear(encoder, np.zeros((98, 1), np.float32)).ravel().tolist() == pytest.approx([-80, -80])


def test_a_full_scale_sine_is_minus_three_decibels() -> None:
    encoder = trivial.loudness(config(window_s=1.0, stride_s=1.0))
    wave = np.sin(2 * np.pi * 1000 * np.arange(16_000) / 16_000).astype(np.float32)
    assert hear(encoder, spectrum.energy(wave)).ravel().tolist() == pytest.approx([-3.0103, -3.0103], abs=1e-3)


def test_loudness_of_a_window_does_not_depend_on_its_neighbours() -> None:
    encoder = trivial.loudness(config(window_s=2.0, stride_s=1.0))
    rng = np.random.default_rng(0)
    windows = [rng.random((count, 1)).astype(np.float32) for count in (198, 30, 120)]
    together = hear(encoder, *windows)
    for index, rows in enumerate(windows):
        assert hear(encoder, rows)[0].tobytes() == together[index].tobytes()


def test_identities_say_what_values_depend_on() -> None:
    def identities(**changes: Any) -> list[dict[str, Any]]:
        return [make(config(**changes)).identity for make in (trivial.pixels, trivial.loudness)]

    pixels, loudness = identities()
    assert (pixels["encoder"], pixels["kind"], pixels["dim"]) == ("pixels", "frames", 256)
    assert (loudness["encoder"], loudness["kind"], loudness["dim"]) == ("loudness", "audio", 1)
    assert pixels["baseline"] and loudness["baseline"] and pixels["weights"] == "none"
    other_pixels, other_loudness = identities(window_s=4.0, stride_s=2.0)
    assert other_pixels == pixels  # frames do not depend on windows
    assert other_loudness != loudness
    assert identities(frame_batch=1, audio_batch=1, device="cpu") == [pixels, loudness]
    assert identities(window_s=10, stride_s=3) == [pixels, loudness]


def test_the_box_is_passed_on() -> None:
    encoder = trivial.face_box(config(faces="detect"))
    box = np.array([-0.125, 0.25, 1.0625, 0.5, 0.0], np.float32)
    assert encoder.sees == "box" and encoder.dim == 5
    found = encoder.encode(torch.from_numpy(np.stack([encoder.transform(box)] * 2))).numpy()
    assert found.tolist() == [box.tolist()] * 2
    assert encoder.identity["baseline"] and encoder.identity["sampling"]["faces"]["mode"] == "detect"


@pytest.mark.parametrize("faces", ["none", "crops"])
def test_a_box_needs_a_detector(faces: str) -> None:
    with pytest.raises(VAError, match=r"face-box.*--faces detect"):
        trivial.face_box(config(faces=faces))


def test_a_box_beside_features_changes_nothing_about_them(tmp_path: Path) -> None:
    """Same folder, same bytes; the box's cells are those that have a face."""
    root = tmp_path / "media"
    root.mkdir()
    make_video(root / "a.mp4", rate=10, seconds=2.0)
    made = save_corpus(tmp_path / "corpus", [root / "a.mp4"], 2.0)
    stores = {}
    for names in (("pixels",), ("face-box", "pixels")):
        summary = pipeline.run(
            ExtractConfig(corpus=made, out=tmp_path / str(len(names)), encoders=names, faces="detect", device="cpu"),
            progress=lambda *_: None,
        )
        assert not summary.failed
        stores[names] = {store.name: FeatureStore(store).read("a") for store in summary.stores}
    alone, beside = stores[("pixels",)], stores[("face-box", "pixels")]
    (name,) = alone
    for part in ("values", "time_s", "valid"):
        assert getattr(alone[name], part).tobytes() == getattr(beside[name], part).tobytes()
    (box,) = (features for store, features in beside.items() if store.startswith("face-box"))
    assert box.valid.tolist() == alone[name].valid.tolist() == [False] * 4  # nobody is on it
