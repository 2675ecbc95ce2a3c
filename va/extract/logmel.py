"""`logmel`: librosa's log-mel of the waveform, for the small CNN of table 1 (F15, settled 10), trained with the head.

A cell's features are its 50 rows of 64 bins flattened, row after row: 3200 numbers, so that nothing that a CNN could
learn from is lost and a half second still is one step like any other encoder's. Pooled rows would be smaller, but
would leave the CNN two pictures a second to see time in. 64 bins and not 128: a 10 s window takes 128 kB as it is
(AST's: 31 kB), and with rows of 25 ms a filter below 1 kHz would be narrower than the frequencies it can tell apart.
"""

from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from va.data.timeline import CELL_S, cells_in
from va.extract import inputs
from va.extract.config import ExtractConfig
from va.extract.decode import SAMPLE_RATE_HZ
from va.extract.encoders import Encoder, make_identity
from va.extract.inputs import FFT, MEL_FLOOR
from va.extract.spectrum import ROW_SAMPLES, ROWS_PER_S, Spectrum

BINS: Final = 64
ROWS_PER_CELL: Final = round(CELL_S * ROWS_PER_S)


def build(config: ExtractConfig) -> Encoder:
    """Make the encoder: 3200 numbers per cell, in dB relative to full scale.

    A cell's last rows reach up to 15 ms into the next one. A row that is not there, because the sound or the window
    ends, is silence (-100 dB); a cell is valid if it has a row.
    """
    steps = cells_in(config.window_s, name="window")
    dim = ROWS_PER_CELL * BINS

    def encode(rows: Tensor, num_rows: Tensor) -> Tensor:
        return rows.reshape(len(rows), steps, dim)

    def valid_steps(num_rows: int) -> NDArray[np.bool_]:
        return np.arange(steps) * ROWS_PER_CELL < num_rows

    preprocessing = {
        "spectrum": f"librosa mel power, {BINS} bins, 25 ms Hann, 10 ms hop, FFT {FFT}, 16 kHz, not centred",
        "scale": f"dB, floor {MEL_FLOOR:g}",
        "layout": f"{ROWS_PER_CELL} rows x {BINS} bins of each cell, row by row",
    }
    return Encoder(
        name="logmel",
        kind="audio",
        identity=make_identity(
            "logmel", kind="audio", dim=dim, weights="none", preprocessing=preprocessing, config=config
        ),
        dim=dim,
        transform=partial(
            inputs.pad_rows, length=steps * ROWS_PER_CELL, bins=BINS, value=float(10 * np.log10(MEL_FLOOR))
        ),
        encode=encode,
        spectrum=mel_db(),
        valid_steps=valid_steps,
    )


def mel_db() -> Spectrum:
    """Give `inputs.mel_db` with librosa's window and filters (Slaney's), 64 bins."""
    import librosa.filters as librosa_filters

    window = librosa_filters.get_window("hann", ROW_SAMPLES, fftbins=True)
    filters = librosa_filters.mel(sr=SAMPLE_RATE_HZ, n_fft=FFT, n_mels=BINS, dtype=np.float64)
    return partial(inputs.mel_db, window=np.asarray(window, np.float64), filters=np.asarray(filters, np.float64))
