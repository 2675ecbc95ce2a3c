"""`logmel`: librosa's log-mel of the waveform, for the small CNN of table 1 (F15, settled 10), trained with the head.

A cell's features are its 50 rows of 64 bins flattened, row after row: 3200 numbers, so that nothing that a CNN could
learn from is lost and a half second still is one step like any other encoder's. Pooled rows would be smaller, but
would leave the CNN two pictures a second to see time in. 64 bins and not 128: a 10 s window takes 128 kB as it is
(AST's: 31 kB), and with rows of 25 ms a filter below 1 kHz would be narrower than the frequencies it can tell apart.
"""

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from va.data.timeline import CELL_S, cells_in
from va.extract.config import ExtractConfig
from va.extract.decode import SAMPLE_RATE_HZ
from va.extract.encoders import Encoder, make_identity
from va.extract.spectrum import HOP_SAMPLES, ROW_SAMPLES, ROWS_PER_S, count_rows

BINS: Final = 64
ROWS_PER_CELL: Final = round(CELL_S * ROWS_PER_S)
_FFT: Final = 512
_FLOOR: Final = 1e-10
"""-100 dB: what is quieter counts as silence."""


def build(config: ExtractConfig) -> Encoder:
    """Make the encoder: 3200 numbers per cell, in dB relative to full scale.

    A cell's last rows reach up to 15 ms into the next one. A row that is not there, because the sound or the window
    ends, is silence (-100 dB); a cell is valid if it has a row.
    """
    steps = cells_in(config.window_s, name="window")
    dim = ROWS_PER_CELL * BINS

    def transform(rows: NDArray[Any]) -> NDArray[np.float32]:
        padded = np.full((steps * ROWS_PER_CELL, BINS), 10 * np.log10(_FLOOR), np.float32)
        padded[: len(rows)] = rows[: len(padded)]
        return padded.reshape(steps, dim)

    def encode(inputs: Tensor, num_rows: Tensor) -> Tensor:
        return inputs

    def valid_steps(num_rows: int) -> NDArray[np.bool_]:
        return np.arange(steps) * ROWS_PER_CELL < num_rows

    preprocessing = {
        "spectrum": f"librosa mel power, {BINS} bins, 25 ms Hann, 10 ms hop, FFT {_FFT}, 16 kHz, not centred",
        "scale": f"dB, floor {_FLOOR:g}",
        "layout": f"{ROWS_PER_CELL} rows x {BINS} bins of each cell, row by row",
    }
    return Encoder(
        name="logmel",
        kind="audio",
        identity=make_identity(
            "logmel", kind="audio", dim=dim, weights="none", preprocessing=preprocessing, config=config
        ),
        dim=dim,
        transform=transform,
        encode=encode,
        spectrum=mel_db,
        valid_steps=valid_steps,
    )


def mel_db(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute mel power in dB by librosa's filters, with the rows of `spectrum.log_mel`.

    Args:
        waveform: float32 [samples], 16 kHz mono in [-1, 1].

    Returns:
        float32 [rows, 64], at least -100 dB.
    """
    if not count_rows(len(waveform)):
        return np.zeros((0, BINS), np.float32)
    window, filters = _filters()
    frames = np.lib.stride_tricks.sliding_window_view(waveform, ROW_SAMPLES)[::HOP_SAMPLES]
    # The window stands at the row's start, not in the middle of the FFT as in librosa: power is the same wherever it
    # stands, and a row depends on its own 25 ms only, so that blocks join without a seam.
    power = np.abs(np.fft.rfft(frames * window, n=_FFT)) ** 2
    # einsum, not a matrix product: BLAS may add in another order for another number of rows.
    mel = np.einsum("rf,bf->rb", power, filters, optimize=False)
    return np.asarray(10 * np.log10(np.maximum(mel, _FLOOR)), dtype=np.float32)


@cache
def _filters() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    import librosa.filters as librosa_filters

    window = librosa_filters.get_window("hann", ROW_SAMPLES, fftbins=True)
    filters = librosa_filters.mel(sr=SAMPLE_RATE_HZ, n_fft=_FFT, n_mels=BINS, dtype=np.float64)
    return np.asarray(window, np.float64), np.asarray(filters, np.float64)
