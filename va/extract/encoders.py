"""An encoder is a frozen value: a name, an identity, and three functions. The registry builds them by name.

Adding one takes a file like `clip.py` and a line in `build`.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from va.data.features import SCHEMA, Kind
from va.data.texttower import TowerContent
from va.data.timeline import CELL_S
from va.errors import VAError
from va.extract import pictures
from va.extract.config import BASELINES, HUGGING_FACE, OPEN_CLIP, RUN, ExtractConfig
from va.extract.decode import SAMPLE_RATE_HZ
from va.extract.pictures import Sees
from va.extract.spectrum import Spectrum

NAMES: Final = (
    "clip-vit-b-16",
    "clip-vit-b-32",
    "ast",
    "logmel",
    "tiny-clip",
    "tiny-ast",
    "pixels",
    "loudness",
    "face-box",
)


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What turns media into features, ready to run.

    `transform` and `spectrum` run in other processes, which get them by pickle: each is a function at the top of a
    module, or a `functools.partial` of one. Those of the built-in encoders need no torch.

    Args:
        name: Name in options and folder names.
        kind: `frames` (one value per cell) or `audio` (steps per window).
        identity: Everything that values depend on, as plain JSON: weights, preprocessing, sampling, dtype.
        dim: Length of an embedding.
        transform: frames: uint8 [H, W, 3] RGB -> model input. audio: rows of one window, float32 [rows, bins], at
            least one and fewer where the sound ends -> model input. An encoder's model inputs have one shape and one
            dtype, uint8 or float32.
        encode: frames: model inputs [B, ...] -> float32 [B, dim]. audio: inputs [B, ...] and `num_rows` int64 [B], on
            the CPU -> float32 [B, steps, dim]. Runs on the inputs' device.
        spectrum: audio only: waveform -> rows, computed once per clip.
        valid_steps: audio only: number of real rows -> bool [steps].
        prototypes: CLIP only: texts and templates -> float32 [texts, dim] (paper section 3.3); always computed in
            float32.
        text_tower: CLIP only: texts -> the text tower with their words, for `va train --context`.
        tower: The network inside `encode`, which `--compile` compiles; None for an encoder without weights.
        sees: frames only: what `transform` is given, the picture or, for `box`, where in the frame it was cut out
            (`pictures.Picture`), float32 [5].
        save: Folder -> the weights as they are now, in files that the encoder's builder reads; None for an encoder
            without weights.
        folder: Where the files of a fine-tuned encoder are (`tuned.py`); None for any other.
    """

    name: str
    kind: Kind
    identity: dict[str, Any]
    dim: int
    transform: Callable[[NDArray[Any]], NDArray[Any]]
    encode: Callable[..., Tensor]
    spectrum: Spectrum | None = None
    valid_steps: Callable[[int], NDArray[np.bool_]] | None = None
    prototypes: Callable[[Sequence[str], Sequence[str]], NDArray[np.float32]] | None = None
    text_tower: Callable[[Sequence[str]], TowerContent] | None = None
    tower: nn.Module | None = None
    sees: Sees = "picture"
    save: Callable[[Path], None] | None = None
    folder: Path | None = None


def make_identity(
    name: str, *, kind: Kind, dim: int, weights: str, preprocessing: Mapping[str, Any], config: ExtractConfig
) -> dict[str, Any]:
    """Write down everything that an encoder's values depend on (`docs/feature-format.md`).

    Args:
        name: Encoder name.
        kind: `frames` or `audio`.
        dim: Length of an embedding.
        weights: Hash of the weights, or `none`.
        preprocessing: Whatever the transform depends on, as plain JSON.
        config: Gives window and stride, which belong to an audio identity only.
    """
    sampling: dict[str, Any] = {
        "cell_s": CELL_S,
        "frame": "last presented at or before the cell's centre",
        "faces": pictures.identity(config),
    }
    if kind == "audio":
        sampling = {"cell_s": CELL_S, "window_s": float(config.window_s), "stride_s": float(config.stride_s)}
    return {
        "schema": SCHEMA,
        "encoder": name,
        "kind": kind,
        "dim": dim,
        "weights": weights,
        "preprocessing": dict(preprocessing),
        "sampling": sampling,
        "compute_dtype": "float32",
        "demo": name.startswith("tiny-"),
        "baseline": name in BASELINES,
    }


def has_text_tower(name: str) -> bool:
    """Say whether an encoder embeds texts too, by its name: loading it may take a download."""
    return name in ("clip-vit-b-16", "clip-vit-b-32", "tiny-clip") or name.startswith(OPEN_CLIP)


def build_all(names: Sequence[str], *, config: ExtractConfig, device: torch.device) -> list[Encoder]:
    """Load encoders as `--encoders` names them: `run:DIR` stands for the two of a fine-tuned run.

    Raises:
        VAError: As in `build`; or a run has no encoders of its own.
    """
    found: list[Encoder] = []
    for name in names:
        if name.startswith(RUN):
            from va.extract import tuned

            found += tuned.load(tuned.directory_of(name), config=config, device=device)
        else:
            found.append(build(name, config=config, device=device))
    return found


def build(name: str, *, config: ExtractConfig, device: torch.device, folder: Path | None = None) -> Encoder:
    """Load an encoder by name, weights included, onto a device, in the precision that the settings ask for.

    Encoders without weights stay in float32 and are not compiled, whatever the settings.

    Args:
        name: Its name.
        config: The stage's settings.
        device: Where it goes.
        folder: What its `save` wrote, to be loaded instead of its own weights.

    Raises:
        VAError: No such encoder, its weights are missing, or the device cannot do what the settings ask for.
    """
    encoder = _load(name, config=config, device=device, folder=folder)
    if encoder.tower is None or (config.precision == "float32" and not config.compile):
        return encoder
    identity = {**encoder.identity, "compute_dtype": config.precision}
    if config.precision != "float32":
        encoder = dataclasses.replace(encoder, encode=_autocast(encoder.encode, config.precision, device))
    if config.compile:
        identity["compiled"] = True
        encoder = _compile(encoder, config=config, device=device)
    return dataclasses.replace(encoder, identity=identity)


def average_tokens(tokens: Tensor, weights: NDArray[np.float32]) -> Tensor:
    """Average a model's tokens into cells, in float32 whatever the precision of the model.

    Args:
        tokens: [B, tokens, dim].
        weights: float32 [B, steps, tokens], e.g. of `ast.cell_weights`.

    Returns:
        float32 [B, steps, dim].
    """
    with torch.autocast(tokens.device.type, enabled=False):
        return torch.bmm(onto(tokens.device, torch.from_numpy(weights)), tokens.float())


def onto(device: torch.device, values: Tensor) -> Tensor:
    """Bring values of the CPU to a device without waiting for what it is computing.

    A copy from ordinary memory would wait for the batch that has just been launched, and the next one would not be
    filled meanwhile; from pinned memory it takes its turn (PyTorch's allocator keeps that memory until it has).

    Args:
        device: Where to.
        values: Any; on the CPU.

    Returns:
        The same values there.
    """
    pinned = values.pin_memory() if device.type == "cuda" else values
    return pinned.to(device, non_blocking=True)


def _autocast(encode: Callable[..., Tensor], precision: str, device: torch.device) -> Callable[..., Tensor]:
    dtype = getattr(torch, precision)
    try:
        torch.autocast(device.type, dtype)
    except RuntimeError as error:  # an older GPU without bfloat16
        raise VAError(f"--precision {precision}: {device} cannot compute in it ({error})", "Use float32.") from None

    def encode_in_precision(*inputs: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype):
            return encode(*inputs).float()

    return encode_in_precision


def _compile(encoder: Encoder, *, config: ExtractConfig, device: torch.device) -> Encoder:
    """Compile an encoder's tower, and run a batch at once, so that failing costs no clip."""
    assert encoder.tower is not None
    encoder.tower.compile(dynamic=False)  # batches have one size
    plain = encoder.encode

    def encode(*inputs: Tensor) -> Tensor:
        # torch would compile again for a caller in another mode, or for a tensor made in another mode.
        with torch.inference_mode():
            return plain(*(each.clone() for each in inputs))

    extras: tuple[Tensor, ...] = ()
    if encoder.spectrum is None:
        batch = config.frame_batch
        example = encoder.transform(np.zeros((64, 64, 3), np.uint8))
    else:
        batch = config.audio_batch
        rows = encoder.spectrum(np.zeros(round(config.window_s * SAMPLE_RATE_HZ), np.float32))
        example = encoder.transform(rows)
        extras = (torch.full((batch,), len(rows)),)
    try:
        encode(torch.from_numpy(np.stack([example] * batch)).to(device), *extras)
    except Exception as error:  # torch raises many types, e.g. where it finds no compiler
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise VAError(
            f"--compile: torch cannot compile '{encoder.name}' ({reason})",
            "Leave --compile out; or, if a compilation was killed before, remove its cache (torchinductor_* in /tmp).",
        ) from None
    return dataclasses.replace(encoder, encode=encode)


def _load(name: str, *, config: ExtractConfig, device: torch.device, folder: Path | None) -> Encoder:
    # Imported here: transformers and open_clip take seconds, and most runs need one of them.
    if name in ("clip-vit-b-16", "clip-vit-b-32", "tiny-clip"):
        from va.extract import clip

        return clip.build(name, config=config, device=device, folder=folder)
    if name in ("ast", "tiny-ast"):
        from va.extract import ast

        return ast.build(name, config=config, device=device, folder=folder)
    if name.startswith(OPEN_CLIP):
        from va.extract import openclip

        return openclip.build(name, config=config, device=device, folder=folder)
    if name.startswith(HUGGING_FACE):
        from va.extract import hf

        return hf.build(name, config=config, device=device, folder=folder)
    if name == "logmel":
        from va.extract import logmel

        return logmel.build(config)
    if name in ("pixels", "loudness", "face-box"):
        from va.extract import trivial

        make = {"pixels": trivial.pixels, "loudness": trivial.loudness, "face-box": trivial.face_box}
        return make[name](config)
    hint = f"Choose from {', '.join(NAMES)}, open_clip:MODEL/TAG, hf:MODEL, run:DIR."
    if "@" in name:
        hint = f"A fine-tuned encoder is named by its run's directory: run:{name.partition('@')[2] or 'DIR'}"
    raise VAError(f"--encoders: there is no encoder '{name}'", hint)
