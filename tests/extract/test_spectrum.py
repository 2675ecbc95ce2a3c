"""Rows by blocks equal rows in one pass, and a window equals what transformers computes for that window alone."""

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from transformers import ASTFeatureExtractor
from transformers.models.audio_spectrogram_transformer import feature_extraction_audio_spectrogram_transformer

from va.extract import spectrum

RATE_HZ = 16_000


@pytest.fixture(autouse=True)
def numpy_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make transformers' extractor ignore torchaudio, as it must here, wherever that package is installed."""
    monkeypatch.setattr(feature_extraction_audio_spectrogram_transformer, "is_speech_available", lambda: False)


def noise(samples: int, *, seed: int = 0) -> np.ndarray:
    """Noise whose level rises and falls, with silence in between."""
    rng = np.random.default_rng(seed)
    level = np.maximum(0, np.sin(np.arange(samples) / 5000))
    return (rng.normal(size=samples) * 0.3 * level).clip(-1, 1).astype(np.float32)


def cut(wave: np.ndarray, *, seed: int, largest: int) -> Iterator[np.ndarray]:
    """Cut into blocks of random sizes, empty ones included."""
    rng = np.random.default_rng(seed)
    start = 0
    while start < len(wave):
        size = int(rng.integers(0, largest))
        yield wave[start : start + size]
        start += size


def reference(wave: np.ndarray) -> np.ndarray:
    """What transformers gives for a waveform alone, normalised and padded to 1024 rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        extractor = ASTFeatureExtractor()
        inputs = extractor(wave, sampling_rate=RATE_HZ, return_tensors="np")["input_values"][0]
    return np.asarray(inputs, np.float32)


@pytest.mark.parametrize(
    ("samples", "rows"), [(0, 0), (399, 0), (400, 1), (559, 1), (560, 2), (16_000, 98), (160_000, 998)]
)
def test_rows_are_those_that_fit_whole(samples: int, rows: int) -> None:
    assert spectrum.count_rows(samples) == rows
    wave = noise(samples)
    assert spectrum.log_mel(wave).shape == (rows, 128)
    assert spectrum.energy(wave).shape == (rows, 1)
    assert spectrum.log_mel(wave).dtype == spectrum.energy(wave).dtype == np.float32


def test_energy_against_a_loop() -> None:
    wave = noise(4000)
    found = spectrum.energy(wave)
    for row in range(len(found)):
        piece = [float(sample) for sample in wave[row * 160 : row * 160 + 400]]
        assert found[row, 0] == pytest.approx(sum(sample * sample for sample in piece) / 400, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("function", [spectrum.log_mel, spectrum.energy])
@pytest.mark.parametrize("largest", [300, 5000, 400_000])
def test_blocks_equal_one_pass_bit_for_bit(function: Any, largest: int) -> None:
    wave = noise(25 * RATE_HZ + 123)
    blocks = list(spectrum.row_blocks(cut(wave, seed=largest, largest=largest), function))
    whole = function(wave)
    assert [len(block) for block in blocks[:2]] == [1000, 1000] and len(blocks) == 3
    found = np.concatenate(blocks)
    assert found.shape == whole.shape
    assert found.tobytes() == whole.tobytes()


@pytest.mark.parametrize("samples", [0, 100, 399])
def test_too_little_sound_gives_no_rows(samples: int) -> None:
    assert list(spectrum.row_blocks(iter([noise(samples)]), spectrum.log_mel)) == []
    assert list(spectrum.row_blocks(iter([]), spectrum.log_mel)) == []


def test_row_blocks_do_not_read_ahead() -> None:
    read = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield np.zeros(RATE_HZ, np.float32)

    next(spectrum.row_blocks(blocks(), spectrum.energy))
    assert read == 11  # 10 s and the 15 ms that the last row reaches beyond


@pytest.mark.parametrize("start_s", [0, 3, 6, 12])
def test_a_window_equals_transformers_on_that_window_alone(start_s: int) -> None:
    wave = noise(25 * RATE_HZ)
    rows = np.concatenate(list(spectrum.row_blocks(cut(wave, seed=1, largest=9000), spectrum.log_mel)))
    (window,) = spectrum.windows(iter([rows[:]]), starts_s=np.array([float(start_s)]), window_s=10.0)
    alone = wave[start_s * RATE_HZ : (start_s + 10) * RATE_HZ]
    assert window.shape == (998, 128)
    assert window.tobytes() == spectrum.log_mel(alone).tobytes()
    padded = np.zeros((1024, 128), np.float32)
    padded[:998] = window
    assert ((padded - -4.2677393) / (4.5689974 * 2)).tobytes() == reference(alone).tobytes()


@pytest.mark.parametrize("samples", [560, 16_000, 47_777])
def test_a_short_window_equals_transformers_on_it_alone(samples: int) -> None:
    wave = noise(samples, seed=3)
    padded = np.zeros((1024, 128), np.float32)
    rows = spectrum.log_mel(wave)
    padded[: len(rows)] = rows
    assert ((padded - -4.2677393) / (4.5689974 * 2)).tobytes() == reference(wave).tobytes()


# --- windows


def numbered(count: int) -> np.ndarray:
    """Rows that say which they are."""
    return np.arange(count, dtype=np.float32)[:, None]


@pytest.mark.parametrize("seed", range(25))
def test_windows_equal_slices_whatever_the_blocks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 900))
    window_s = float(rng.integers(1, 8)) / 2
    stride_s = float(rng.integers(1, round(window_s * 2) + 3)) / 2  # larger than the window, too
    starts_s = np.arange(rng.integers(1, 8)) * stride_s
    rows = numbered(count)
    blocks = list(cut(rows, seed=seed, largest=int(rng.integers(2, 300))))
    found = list(spectrum.windows(iter(blocks), starts_s=starts_s, window_s=window_s))
    length = round(window_s * 100) - 2  # a row of 25 ms must end inside the window
    assert len(found) == len(starts_s)
    for start_s, window in zip(starts_s, found, strict=True):
        first = round(start_s * 100)
        assert window[:, 0].tolist() == rows[first : first + length, 0].tolist()


def test_windows_without_any_sound_are_empty() -> None:
    found = list(spectrum.windows(iter([]), starts_s=np.arange(3) * 3.0, window_s=10.0))
    assert [len(window) for window in found] == [0, 0, 0]


def test_windows_keep_only_what_they_need() -> None:
    read = 0

    def groups() -> Iterator[np.ndarray]:
        nonlocal read
        for number in range(100):
            read += 1
            yield np.full((1000, 1), number, np.float32)

    windows = spectrum.windows(groups(), starts_s=np.arange(50) * 3.0, window_s=10.0)
    for number, window in enumerate(windows):
        assert read == -(-(number * 300 + 998) // 1000)
        base = window if window.base is None else window.base
        assert len(base) < 4000  # not everything that was read
