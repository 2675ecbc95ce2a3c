"""Audio models of transformers whose tokens follow time: wav2vec 2.0 and its kin on waveforms, Whisper's encoder.

The pipeline cuts windows out of rows of 25 ms every 10 ms. Here a row is the waveform under it, and a window's rows
are joined to its waveform again (998 rows: 9.995 s of 10 s), so that such a model needs no path of its own.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoFeatureExtractor

from va.data.timeline import CELL_S, cells_in
from va.errors import VAError
from va.extract.config import ExtractConfig
from va.extract.decode import SAMPLE_RATE_HZ
from va.extract.encoders import Encoder, average_tokens, make_identity, onto
from va.extract.spectrum import HOP_SAMPLES, ROW_SAMPLES, count_rows

_WAVEFORM: Final = "input_values"


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Where a model's tokens lie on the waveform, in samples.

    Args:
        first: First sample under token 0; negative where the model pads the start.
        hop: From one token to the next.
        length: Samples under a token.
        count: Tokens of an input of full length.
    """

    first: int
    hop: int
    length: int
    count: int


def wrap(
    model: Any, folder: Path, *, name: str, weights_digest: str, settings: dict[str, str], config: ExtractConfig
) -> Encoder:
    """Wrap a loaded model: last hidden state, averaged in the cell that holds the token's centre.

    Args:
        model: In evaluation mode, on its device; of an encoder-decoder, the encoder.
        folder: Where its feature extractor's settings are.
        name: Encoder name.
        weights_digest: Goes into the identity.
        settings: Hashes of the checkpoint's settings; go into the identity.
        config: The stage's settings.

    Raises:
        VAError: Its tokens do not follow time, it wants another sample rate, or the window is too long.
    """
    kind = model.main_input_name
    extractor = _extractor(folder, name)
    wanted = num_samples(count_rows(round(config.window_s * SAMPLE_RATE_HZ)))
    longest = int(extractor.n_samples) if model.config.model_type == "whisper" else wanted
    if wanted > longest:
        raise VAError(
            f"--window-s: {config.window_s:g} s does not fit the {longest / SAMPLE_RATE_HZ:g} s that '{name}' takes",
            f"Use at most {longest / SAMPLE_RATE_HZ:g} s.",
        )
    tokens = tokens_of(model, longest, name=name)
    steps = cells_in(config.window_s, name="window")
    masked = kind == _WAVEFORM and bool(extractor.return_attention_mask)

    def encode(inputs: Tensor, num_rows: Tensor) -> Tensor:
        heard = [num_samples(int(rows)) for rows in num_rows]
        given = {kind: inputs}
        if masked:
            position = torch.arange(longest, device=inputs.device)
            given["attention_mask"] = (position < onto(inputs.device, torch.tensor(heard))[:, None]).long()
        hidden = model(**given).last_hidden_state
        pool = np.stack([cell_weights(samples, steps=steps, tokens=tokens) for samples in heard])
        return average_tokens(hidden, pool)

    def valid_steps(num_rows: int) -> NDArray[np.bool_]:
        return np.asarray(cell_weights(num_samples(num_rows), steps=steps, tokens=tokens).any(axis=1))

    preprocessing = {
        **settings,
        "padding": f"to {longest} samples" + (", masked" if masked else ""),
        "output": "last hidden state, mean over the tokens centred in each cell, padding left out",
    }
    dim = int(model.config.hidden_size)
    return Encoder(
        name=name,
        kind="audio",
        identity=make_identity(
            name, kind="audio", dim=dim, weights=weights_digest, preprocessing=preprocessing, config=config
        ),
        dim=dim,
        transform=partial(extract, extractor=extractor, samples=longest, kind=kind),
        encode=encode,
        spectrum=split_rows,
        valid_steps=valid_steps,
        tower=model,
    )


def extract(rows: NDArray[Any], *, extractor: Any, samples: int, kind: str) -> NDArray[np.float32]:
    """Join rows to a waveform and make the model's input of it by its own feature extractor.

    Args:
        rows: float32 [rows, 400], at least one.
        extractor: transformers' feature extractor.
        samples: Length that the waveform is padded to.
        kind: Name of the model's input.
    """
    made = extractor(
        join_rows(rows), sampling_rate=SAMPLE_RATE_HZ, padding="max_length", max_length=samples, return_tensors="np"
    )
    return np.asarray(made[kind][0], dtype=np.float32)


def tokens_of(model: Any, samples: int, *, name: str) -> Tokens:
    """Say where a model's tokens lie, from its configuration.

    Args:
        model: The model.
        samples: Length of its input.
        name: Encoder name, for the error.

    Raises:
        VAError: It is of a kind whose tokens are not known to follow time.
    """
    shape = model.config
    if shape.model_type == "whisper":
        # Mel rows every 160 samples, centred; a convolution of 3 rows, then one of 3 with stride 2.
        return Tokens(first=-(2 * 160 + 200), hop=320, length=4 * 160 + 400, count=int(shape.max_source_positions))
    if model.main_input_name == _WAVEFORM and hasattr(shape, "conv_stride") and not getattr(shape, "add_adapter", 0):
        hop, length = 1, 1
        for kernel, stride in zip(shape.conv_kernel, shape.conv_stride, strict=True):
            length += (kernel - 1) * hop
            hop *= stride
        return Tokens(first=0, hop=hop, length=length, count=(samples - length) // hop + 1)
    raise VAError(
        f"--encoders: '{name}' ({shape.model_type}) is no vision model, nor an audio model whose tokens follow time",
        "Use a vision model, a wav2vec 2.0, HuBERT or WavLM, or a Whisper.",
    )


def cell_weights(samples: int, *, steps: int, tokens: Tokens) -> NDArray[np.float32]:
    """Give the matrix that averages tokens into cells.

    Args:
        samples: Real samples in the window; tokens that reach beyond them count nowhere.
        steps: Cells in the window.
        tokens: Where the tokens lie.

    Returns:
        float32 [steps, tokens]; each row sums to 1, or is 0 for a cell without a token.
    """
    first = tokens.first + tokens.hop * np.arange(tokens.count)
    cell = np.floor((first + tokens.length / 2) / (SAMPLE_RATE_HZ * CELL_S))
    belongs = (cell[None, :] == np.arange(steps)[:, None]) & (first + tokens.length <= samples)
    return np.asarray(belongs / np.maximum(belongs.sum(axis=1, keepdims=True), 1), dtype=np.float32)


def num_samples(rows: int) -> int:
    """Count the samples under `rows` rows."""
    return (rows - 1) * HOP_SAMPLES + ROW_SAMPLES if rows else 0


def split_rows(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut a waveform, float32 [samples], into the samples under each row, float32 [rows, 400]."""
    if not count_rows(len(waveform)):
        return np.zeros((0, ROW_SAMPLES), np.float32)
    return np.lib.stride_tricks.sliding_window_view(waveform, ROW_SAMPLES)[::HOP_SAMPLES]


def join_rows(rows: NDArray[Any]) -> NDArray[np.float32]:
    """Join overlapping rows, [rows, 400] with at least one, to the waveform they were cut from."""
    return np.concatenate([rows[:, :HOP_SAMPLES].ravel(), rows[-1, HOP_SAMPLES:]]).astype(np.float32, copy=False)


def _extractor(folder: Path, name: str) -> Any:
    try:
        extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises many types for a folder that does not fit
        reason = str(error).splitlines()[0]
        raise VAError(f"{folder}: has no feature extractor ({reason})", "Bring its preprocessor_config.json.") from None
    rate = getattr(extractor, "sampling_rate", None)
    if rate != SAMPLE_RATE_HZ:
        raise VAError(f"--encoders: '{name}' wants sound at {rate} Hz, not {SAMPLE_RATE_HZ}", "Use a model for 16 kHz.")
    return extractor
