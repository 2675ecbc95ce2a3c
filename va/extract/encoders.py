"""An encoder is a frozen value: a name, an identity, and three functions. The registry builds them by name.

Adding one takes a file like `clip.py` and a line in `build`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from va.data.features import SCHEMA, Kind
from va.data.timeline import CELL_S
from va.errors import VAError
from va.extract import pictures
from va.extract.config import BASELINES, HUGGING_FACE, OPEN_CLIP, ExtractConfig
from va.extract.spectrum import Spectrum

NAMES: Final = ("clip-vit-b-16", "clip-vit-b-32", "ast", "logmel", "tiny-clip", "tiny-ast", "pixels", "loudness")


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """What turns media into features, ready to run.

    Args:
        name: Name in options and folder names.
        kind: `frames` (one value per cell) or `audio` (steps per window).
        identity: Everything that values depend on, as plain JSON: weights, preprocessing, sampling, dtype.
        dim: Length of an embedding.
        transform: frames: uint8 [H, W, 3] RGB -> float32 model input. audio: rows of one window, float32
            [rows, bins], fewer where the sound ends -> float32 model input of one fixed shape.
        encode: frames: model inputs [B, ...] -> float32 [B, dim]. audio: inputs [B, ...] and `num_rows` int64 [B]
            -> float32 [B, steps, dim]. Runs on the inputs' device.
        spectrum: audio only: waveform -> rows, computed once per clip.
        valid_steps: audio only: number of real rows -> bool [steps].
        prototypes: CLIP only: texts and templates -> float32 [texts, dim] (paper section 3.3).
    """

    name: str
    kind: Kind
    identity: dict[str, Any]
    dim: int
    transform: Callable[[NDArray[Any]], NDArray[np.float32]]
    encode: Callable[..., Tensor]
    spectrum: Spectrum | None = None
    valid_steps: Callable[[int], NDArray[np.bool_]] | None = None
    prototypes: Callable[[Sequence[str], Sequence[str]], NDArray[np.float32]] | None = None


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


def build(name: str, *, config: ExtractConfig, device: torch.device) -> Encoder:
    """Load an encoder by name, weights included, onto a device.

    Raises:
        VAError: No such encoder, or its weights are missing.
    """
    # Imported here: transformers and open_clip take seconds, and most runs need one of them.
    if name in ("clip-vit-b-16", "clip-vit-b-32", "tiny-clip"):
        from va.extract import clip

        return clip.build(name, config=config, device=device)
    if name in ("ast", "tiny-ast"):
        from va.extract import ast

        return ast.build(name, config=config, device=device)
    if name.startswith(OPEN_CLIP):
        from va.extract import openclip

        return openclip.build(name, config=config, device=device)
    if name.startswith(HUGGING_FACE):
        from va.extract import hf

        return hf.build(name, config=config, device=device)
    if name == "logmel":
        from va.extract import logmel

        return logmel.build(config)
    if name in ("pixels", "loudness"):
        from va.extract import trivial

        return trivial.pixels(config) if name == "pixels" else trivial.loudness(config)
    raise VAError(
        f"--encoders: there is no encoder '{name}'", f"Choose from {', '.join(NAMES)}, open_clip:MODEL/TAG, hf:MODEL."
    )
