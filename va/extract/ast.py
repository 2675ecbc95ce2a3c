"""Audio Spectrogram Transformers through transformers: one row of features per half-second cell of a window.

Patch tokens (frequency x time) are averaged over frequency and kept in time order, then averaged inside the cell
that holds the token's centre (settled 2). The CLS and distillation tokens are not used.
"""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor
from transformers import ASTModel
from transformers.utils.logging import disable_progress_bar

from va import bounded, files, weights
from va.data.timeline import CELL_S, cells_in
from va.errors import VAError
from va.extract import inputs
from va.extract.config import ExtractConfig
from va.extract.decode import SAMPLE_RATE_HZ
from va.extract.digests import digest_of
from va.extract.encoders import Encoder, average_tokens, make_identity
from va.extract.spectrum import MEL_BINS, ROWS_PER_S, log_mel

AUDIOSET: Final = (-4.2677393, 4.5689974)
"""Mean and std of the published checkpoint, as in transformers' ASTFeatureExtractor: (x - mean) / (2 std)."""

_SETTINGS: Final = "preprocessor_config.json"
_BESIDE: Final = ("config.json", _SETTINGS)


def build(name: str, *, config: ExtractConfig, device: torch.device, folder: Path | None = None) -> Encoder:
    """Load an AST encoder: the AudioSet checkpoint (F2, R7), any other in a folder, or the tiny DEMO encoder.

    Any patch size, strides and input length will do. A checkpoint trained on other sounds brings their mean and std
    in preprocessor_config.json; without that file they are AudioSet's.

    Args:
        name: Its name.
        config: The stage's settings.
        device: Where the model goes.
        folder: What `save` wrote, to be loaded instead of the published weights.

    Raises:
        VAError: The weights are missing, unreadable or do not fit, or the window is longer than the model's input.
    """
    if folder is not None:
        weights.find(weights.AST, local=folder)
    elif name == "tiny-ast":
        folder = weights.DEMO / "tiny-ast"
    else:
        file = weights.find(weights.AST, local=config.ast_weights)
        if file.name != weights.AST.filename:  # transformers loads by folder, so it would take another file
            raise VAError(
                f"{weights.AST.option}: {file} is not named {weights.AST.filename}",
                f"Give the folder that holds config.json and {weights.AST.filename}.",
            )
        folder = file.parent
        if config.ast_weights is None:
            weights.find(dataclasses.replace(weights.AST, filename="config.json"), local=None)
    digest = digest_of(folder / weights.AST.filename)  # before loading, as in clip.py
    model = _load(folder).to(device).eval().requires_grad_(False)
    encoder = from_model(model, name=name, weights_digest=digest, normalisation=_normalisation(folder), config=config)
    beside = {file: (folder / file).read_bytes() for file in _BESIDE if (folder / file).is_file()}
    return dataclasses.replace(encoder, save=partial(_save, model, beside))


def from_model(
    model: ASTModel, *, name: str, weights_digest: str, normalisation: tuple[float, float], config: ExtractConfig
) -> Encoder:
    """Wrap a loaded AST.

    Args:
        model: In evaluation mode, on its device.
        name: Encoder name.
        weights_digest: Goes into the identity.
        normalisation: Mean and std of the log-mel that it was trained on.
        config: The stage's settings.

    Raises:
        VAError: The window does not fit the model's input length, or the model takes another spectrum.
    """
    shape = model.config
    if shape.num_mel_bins != MEL_BINS:
        raise VAError(f"'{name}' takes {shape.num_mel_bins} mel bins, not {MEL_BINS}", "Use another AST checkpoint.")
    input_rows = int(shape.max_length)
    if config.window_s * ROWS_PER_S > input_rows:
        raise VAError(
            f"--window-s: {config.window_s:g} s does not fit the {input_rows} rows that '{name}' takes",
            f"Use at most {input_rows / ROWS_PER_S:.1f} s.",
        )
    steps = cells_in(config.window_s, name="window")
    bands = (MEL_BINS - shape.patch_size) // shape.frequency_stride + 1
    mean, std = normalisation

    def pooling(num_rows: int) -> NDArray[np.float32]:
        return cell_weights(
            num_rows, steps=steps, input_rows=input_rows, patch=shape.patch_size, stride=shape.time_stride
        )

    def encode(spectra: Tensor, num_rows: Tensor) -> Tensor:
        tokens = model(spectra).last_hidden_state[:, 2:].float()
        in_time_order = tokens.unflatten(1, (bands, -1)).mean(dim=1)
        return average_tokens(in_time_order, np.stack([pooling(int(count)) for count in num_rows]))

    def valid_steps(num_rows: int) -> NDArray[np.bool_]:
        return np.asarray(pooling(num_rows).any(axis=1))

    preprocessing = {
        "spectrum": "Kaldi log-mel, 128 bins, 25 ms Hann, 10 ms hop, 16 kHz (transformers, NumPy path)",
        "mean": mean,
        "std": std,
        "padding": f"zero rows to {input_rows} before normalisation",
        "pooling": "mean over frequency, then over the tokens centred in each cell, padding left out",
    }
    dim = int(shape.hidden_size)
    identity = make_identity(
        name, kind="audio", dim=dim, weights=weights_digest, preprocessing=preprocessing, config=config
    )
    return Encoder(
        name=name,
        kind="audio",
        identity=identity,
        dim=dim,
        transform=partial(inputs.ast_rows, length=input_rows, bins=MEL_BINS, mean=mean, std=std),
        encode=encode,
        spectrum=log_mel,
        valid_steps=valid_steps,
        tower=model,
    )


def cell_weights(num_rows: int, *, steps: int, input_rows: int, patch: int, stride: int) -> NDArray[np.float32]:
    """Give the matrix that averages time tokens into cells.

    Args:
        num_rows: Real spectrum rows in the window; tokens that touch padding count nowhere.
        steps: Cells in the window.
        input_rows: Rows that the model takes, padding included.
        patch: Rows under a token.
        stride: Rows from token to token; token j is centred at 0.1 j + 0.08 s for patch 16 and stride 10.

    Returns:
        float32 [steps, tokens]; each row sums to 1, or is 0 for a cell without a token.
    """
    token = np.arange((input_rows - patch) // stride + 1)
    center_s = (token * stride + patch / 2) / ROWS_PER_S
    whole = token * stride + patch <= num_rows
    belongs = (np.floor(center_s / CELL_S)[None, :] == np.arange(steps)[:, None]) & whole
    count = np.maximum(belongs.sum(axis=1, keepdims=True), 1)
    return np.asarray(belongs / count, dtype=np.float32)


def _load(folder: Path) -> ASTModel:
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise VAError(
                f"{weights.AST.option}: {folder / name} does not exist",
                f"Bring config.json and model.safetensors of {weights.AST.repository} into one folder.",
            )
    disable_progress_bar()  # of transformers: one of ours is on screen already
    try:
        model, info = ASTModel.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
        )
    except Exception as error:  # transformers raises several types for a folder that does not fit
        reason = str(error).splitlines()[0]
        raise VAError(f"{folder}: is not an AST checkpoint ({reason})", f"Bring {weights.AST.repository}.") from None
    # transformers only warns and leaves such weights at random: features would be noise that looks like features.
    if info["missing_keys"] or info["mismatched_keys"]:
        raise VAError(
            f"{folder}: {len(info['missing_keys'])} weights of the AST are missing from model.safetensors",
            f"Bring config.json and model.safetensors of {weights.AST.repository}.",
        )
    return model


def _save(model: ASTModel, beside: dict[str, bytes], folder: Path) -> None:
    """Write the weights, with the files of settings that they were loaded with."""
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    files.write_bytes(folder / weights.AST.filename, save(state, metadata={"format": "pt"}))
    for name, content in beside.items():
        files.write_bytes(folder / name, content)


def _normalisation(folder: Path) -> tuple[float, float]:
    """Read mean and std of a checkpoint's training data, if it brings them."""
    file = folder / _SETTINGS
    if not file.is_file():
        return AUDIOSET
    try:
        settings = bounded.parse_json(bounded.read_text(file, largest=bounded.LARGEST_JSON))
        rate, bins = settings.get("sampling_rate", SAMPLE_RATE_HZ), settings.get("num_mel_bins", MEL_BINS)
        mean, std = float(settings.get("mean", AUDIOSET[0])), float(settings.get("std", AUDIOSET[1]))
        scaled = bool(settings.get("do_normalize", True))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise VAError(f"{file}: cannot be read ({error})", "Bring the one that belongs to the weights.") from None
    if (rate, bins) != (SAMPLE_RATE_HZ, MEL_BINS) or not std > 0:
        raise VAError(
            f"{file}: asks for {rate} Hz, {bins} mel bins and a std of {std:g}",
            f"Use an AST checkpoint for {SAMPLE_RATE_HZ} Hz and {MEL_BINS} mel bins.",
        )
    return (mean, std) if scaled else (0.0, 0.5)  # (x - 0) / (2 * 0.5) is x
