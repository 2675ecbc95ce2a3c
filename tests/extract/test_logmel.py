"""The log-mel of table 1's CNN against librosa's own pipeline, and its cells."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from va.extract import logmel, spectrum
from va.extract.config import ExtractConfig

MEL_DB = logmel.mel_db()


def noise(samples: int, seed: int = 0) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(seed).normal(size=samples)).astype(np.float32)


def config(**changes: float) -> ExtractConfig:
    return ExtractConfig(corpus=Path("c"), out=Path("o"), **changes)  # type: ignore[arg-type]


def as_written(*arguments: Any, **settings: Any) -> Any:
    """Stands for a decorator of numba's, with arguments or without, and leaves the function as it is."""
    return arguments[0] if callable(next(iter(arguments), None)) else lambda function: function


@pytest.fixture
def librosas(monkeypatch: pytest.MonkeyPatch) -> Callable[..., NDArray[np.float32]]:
    """Its log-mel. Importing it compiles a dozen functions that are not called here: 16 s in a new environment."""
    with monkeypatch.context() as during:
        for name in ("jit", "guvectorize", "vectorize", "stencil"):
            during.setattr(numba, name, as_written)
        from librosa.core import power_to_db
        from librosa.feature import melspectrogram

    def log_mel(waveform: NDArray[np.float32], **settings: Any) -> NDArray[np.float32]:
        return np.asarray(power_to_db(melspectrogram(y=waveform, **settings), ref=1.0, amin=1e-10, top_db=None).T)

    return log_mel


def test_rows_are_librosas(librosas: Callable[..., NDArray[np.float32]]) -> None:
    """librosa centres the window in its FFT, so that its frame begins (512 - 400) / 2 samples before ours."""
    waveform = noise(16_000)
    shifted = np.concatenate([np.zeros(56, np.float32), waveform, np.zeros(56, np.float32)])
    expected = librosas(
        shifted, sr=16_000, n_fft=512, win_length=400, hop_length=160, window="hann", center=False, n_mels=64
    )
    found = MEL_DB(waveform)
    assert found.shape == expected.shape == (98, 64)
    np.testing.assert_allclose(found, expected, atol=2e-3)  # librosa computes in float32


def test_no_filter_is_empty() -> None:
    assert (MEL_DB(noise(16_000)) > -60).all()


@pytest.mark.parametrize("sizes", [[16_000] * 25, [399_999, 1], [7, 123_456, 276_537]])
def test_blocks_equal_one_pass_bit_for_bit(sizes: list[int]) -> None:
    waveform = noise(400_000)
    blocks = iter(np.split(waveform, np.cumsum(sizes)[:-1]))
    rows = np.concatenate(list(spectrum.row_blocks(blocks, MEL_DB)))
    np.testing.assert_array_equal(rows, MEL_DB(waveform))


@pytest.mark.parametrize("samples", [0, 399])
def test_too_short_for_a_row(samples: int) -> None:
    assert MEL_DB(noise(samples)).shape == (0, 64)


def test_silence_is_the_floor() -> None:
    np.testing.assert_array_equal(MEL_DB(np.zeros(560, np.float32)), np.full((2, 64), -100, np.float32))


def test_a_cell_holds_its_fifty_rows_in_time_order() -> None:
    encoder = logmel.build(config(window_s=2.0, stride_s=1.0))
    rows = MEL_DB(noise(32_000))
    encoded = encoder.encode(torch.from_numpy(encoder.transform(rows))[None], torch.tensor([len(rows)]))
    cells = encoded[0].numpy()
    assert encoder.dim == 3200
    assert cells.shape == (4, 3200)
    np.testing.assert_array_equal(cells[1].reshape(50, 64), rows[50:100])
    np.testing.assert_array_equal(cells[3].reshape(50, 64)[:48], rows[150:])
    np.testing.assert_array_equal(cells[3].reshape(50, 64)[48:], np.float32(-100))


@pytest.mark.parametrize(("rows", "valid"), [(0, 0), (1, 1), (50, 1), (51, 2), (198, 4)])
def test_a_cell_is_valid_if_it_has_a_row(rows: int, valid: int) -> None:
    encoder = logmel.build(config(window_s=2.0, stride_s=1.0))
    assert encoder.valid_steps is not None
    assert encoder.valid_steps(rows).tolist() == [True] * valid + [False] * (4 - valid)


def test_window_and_stride_are_part_of_the_identity() -> None:
    assert logmel.build(config()).identity["sampling"] == {"cell_s": 0.5, "window_s": 10.0, "stride_s": 3.0}
    assert logmel.build(config()).identity != logmel.build(config(stride_s=2.0)).identity


def test_table_1_is_a_preset() -> None:
    assert config().preset == "paper"
    made = ExtractConfig(corpus=Path("c"), out=Path("o"), preset="table1")
    assert made.chosen == ("clip-vit-b-32", "logmel", "pixels", "loudness")  # F15, and what is reported beside
