"""Waveform -> rows of a spectrum, once per clip; windows are slices of the rows. A leaf.

A row covers 25 ms of sound and follows the previous one by 10 ms, and depends on no other sample (DC removal and
pre-emphasis act inside it), so that rows computed block by block equal those of one pass, bit for bit, and a
window that starts on a multiple of 10 ms equals the spectrum of that window alone (settled 2).
"""

import warnings
from collections.abc import Callable, Iterator
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from va.extract.decode import SAMPLE_RATE_HZ

ROW_SAMPLES: Final = 400
"""Samples under one row: 25 ms at 16 kHz."""

HOP_SAMPLES: Final = 160
"""Samples from one row to the next: 10 ms at 16 kHz."""

ROWS_PER_S: Final = SAMPLE_RATE_HZ // HOP_SAMPLES
MEL_BINS: Final = 128
_FFT: Final = 512
_PREEMPHASIS: Final = 0.97
_MEL_FLOOR: Final = 1.192092955078125e-07
_BLOCK_ROWS: Final = 1000
_CACHED_ROWS: Final = 100
"""Rows that stay in the processor's cache while they are prepared, which halves the time of all at once."""

Spectrum = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""float32 [samples] -> float32 [rows, bins], with `count_rows(samples)` rows."""


def count_rows(samples: int) -> int:
    """Count the rows that fit whole into `samples` samples."""
    return max(0, (samples - ROW_SAMPLES) // HOP_SAMPLES + 1)


def log_mel(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute Kaldi-style log-mel rows, bit for bit those of transformers' AST feature extractor (its NumPy path).

    The same operations in the same order, on many rows at once where transformers takes one after the other in Python.
    Never its torchaudio path: installing that package must not change features (settled 2).

    Args:
        waveform: float32 [samples], 16 kHz mono in [-1, 1].

    Returns:
        float32 [rows, 128], natural logarithm of mel energies, not normalised.
    """
    if not count_rows(len(waveform)):
        return np.zeros((0, MEL_BINS), np.float32)
    window, filters = _kaldi_filters()
    frames = np.lib.stride_tricks.sliding_window_view(waveform, ROW_SAMPLES)[::HOP_SAMPLES]
    power = np.empty((len(frames), len(filters)))
    for begin in range(0, len(frames), _CACHED_ROWS):
        group = slice(begin, begin + _CACHED_ROWS)
        padded = np.zeros((len(frames[group]), _FFT))
        rows = padded[:, :ROW_SAMPLES]
        rows[:] = frames[group]
        rows -= rows.mean(axis=1, keepdims=True)
        rows[:, 1:] -= _PREEMPHASIS * rows[:, :-1]
        rows[:, 0] *= 1 - _PREEMPHASIS
        rows *= window
        power[group] = np.abs(np.fft.rfft(padded).astype(np.complex64), dtype=np.float64) ** 2.0
    # In one product: BLAS may add in another order for another number of rows.
    mel = np.maximum(_MEL_FLOOR, np.dot(filters.T, power.T))
    return np.ascontiguousarray(np.log(mel).T, dtype=np.float32)


def energy(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the mean square of each row, float32 [rows, 1]."""
    if not count_rows(len(waveform)):
        return np.zeros((0, 1), np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64), ROW_SAMPLES)[::HOP_SAMPLES]
    power: NDArray[np.float64] = (frames**2).mean(axis=1, keepdims=True)
    return power.astype(np.float32)


def row_blocks(blocks: Iterator[NDArray[np.float32]], spectrum: Spectrum) -> Iterator[NDArray[np.float32]]:
    """Turn waveform blocks of any sizes into blocks of rows, in bounded memory.

    Args:
        blocks: Consecutive float32 [samples].
        spectrum: `log_mel` or another function of the same geometry.

    Yields:
        float32 [at most 1000 rows, bins], consecutive.
    """
    pending = np.zeros(0, np.float32)
    for block in blocks:
        pending = np.concatenate([pending, block])
        while count_rows(len(pending)) >= _BLOCK_ROWS:
            yield spectrum(pending[: (_BLOCK_ROWS - 1) * HOP_SAMPLES + ROW_SAMPLES])
            pending = pending[_BLOCK_ROWS * HOP_SAMPLES :]
    if count_rows(len(pending)):
        yield spectrum(pending)


def windows(
    row_groups: Iterator[NDArray[np.float32]], *, starts_s: NDArray[np.float64], window_s: float
) -> Iterator[NDArray[np.float32]]:
    """Cut rows into windows, keeping only the rows that windows still need.

    Args:
        row_groups: Consecutive float32 [rows, bins] from the clip's start.
        starts_s: float64 [windows], ascending, multiples of 10 ms.
        window_s: Window length in seconds.

    Yields:
        float32 [rows, bins] per window: 998 rows for 10 s, fewer (or 0) where the sound ends earlier.
    """
    length = count_rows(round(window_s * SAMPLE_RATE_HZ))
    kept: NDArray[np.float32] | None = None
    first, ended = 0, False
    for start in np.round(starts_s * ROWS_PER_S).astype(int):
        while not ended and (kept is None or first + len(kept) < start + length):
            group = next(row_groups, None)
            if group is None:
                ended = True
            else:
                kept = group if kept is None else np.concatenate([kept, group])
        if kept is None:
            kept = np.zeros((0, 1), np.float32)
        drop = min(max(0, start - first), len(kept))
        kept, first = kept[drop:], first + drop
        yield kept[:length]  # nothing where the sound ends before the window starts


@cache
def _kaldi_filters() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from transformers import audio_utils

    with warnings.catch_warnings():
        # The lowest filters are narrower than a frequency bin and stay empty, in AST's own extractor too.
        warnings.filterwarnings("ignore", message="At least one mel filter has all zero values")
        filters = audio_utils.mel_filter_bank(
            num_frequency_bins=_FFT // 2 + 1,
            num_mel_filters=MEL_BINS,
            min_frequency=20,
            max_frequency=SAMPLE_RATE_HZ // 2,
            sampling_rate=SAMPLE_RATE_HZ,
            norm=None,
            mel_scale="kaldi",
            triangularize_in_mel_space=True,
        )
    return audio_utils.window_function(ROW_SAMPLES, "hann", periodic=False), filters
