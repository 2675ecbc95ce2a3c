"""A run's encoders, loaded again to encode what it was not trained on: new videos, streams, arrays.

`run.json` holds the whole identity of both encoders, so a run needs neither its corpus nor its features here. What is
loaded must have the same identity, down to the hash of the weights: other embeddings would give numbers that look right
and mean nothing.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from va.data.tuned import KINDS, Kind
from va.errors import VAError
from va.extract import tuned
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder
from va.train.checkpoint import Run

Faces = Literal["auto", "none", "detect"]


class Pair(NamedTuple):
    """A run's encoders, in its precision, on a device."""

    face: Encoder
    voice: Encoder


def settings_for(
    run: Run,
    *,
    corpus: Path,
    out: Path,
    faces: Faces,
    clip_weights: Path | None,
    ast_weights: Path | None,
    face_weights: Path | None,
    device: str,
) -> ExtractConfig:
    """Give the settings of stage one that make features like those a run was trained on.

    Args:
        run: The run.
        corpus: What is to be extracted.
        out: Where to.
        faces: `auto` does as the run's features did, and detects faces where those came from the corpus's own crops.
        clip_weights: As in `va extract`.
        ast_weights: As in `va extract`.
        face_weights: As in `va extract`.
        device: As in `va extract`.

    Raises:
        VAError: The run's features were imported, so that no encoder is known that could make them.
    """
    face, voice = run.info["encoders"]["face"], run.info["encoders"]["voice"]
    for identity in (face, voice):
        if identity.get("imported"):
            raise VAError(
                f"{run.directory}: was trained on imported features ('{identity['encoder']}'), which no encoder makes",
                "Import the features of the new video too, and use 'va evaluate'.",
            )
    seen: dict[str, Any] = face["sampling"].get("faces", {"mode": "none"})
    mode = faces
    if mode == "auto":
        mode = "none" if seen["mode"] == "none" else "detect"
    margin = {"face_margin": seen["margin"]} if "margin" in seen else {}
    return ExtractConfig(
        corpus=corpus,
        out=out,
        encoders=(face["encoder"], voice["encoder"]),
        clip_weights=clip_weights,
        ast_weights=ast_weights,
        face_weights=face_weights,
        faces=mode,
        window_s=voice["sampling"]["window_s"],
        stride_s=voice["sampling"]["stride_s"],
        # An encoder without weights is float32 and not compiled, whatever the settings: the other one tells them.
        precision=face["compute_dtype"] if face["compute_dtype"] != "float32" else voice["compute_dtype"],
        compile=bool(face.get("compiled", False) or voice.get("compiled", False)),
        device=device,
        **margin,
    )


def load(run: Run, config: ExtractConfig, *, device: torch.device) -> Pair:
    """Load a run's encoders and check that they are the ones it was trained with.

    Args:
        run: The run.
        config: From `settings_for`.
        device: Where to.

    Raises:
        VAError: Weights are missing, or the encoder is another one; says what differs.
    """
    return Pair(*(_load(run, kind, config, device) for kind in KINDS))


def _load(run: Run, kind: Kind, config: ExtractConfig, device: torch.device) -> Encoder:
    wanted = run.info["encoders"][kind]
    encoder = tuned.load_one(run.directory, run.info, kind=kind, config=config, device=device)
    found = encoder.identity
    # Which pictures it sees may differ on purpose (`settings_for`); the caller says so.
    differing = [name for name in sorted({*wanted, *found} - {"sampling"}) if wanted.get(name) != found.get(name)]
    if differing:
        raise VAError(
            f"{run.directory}: was trained with another '{wanted['encoder']}' (its {', '.join(differing)} differ)",
            "Give the weights that made the run's features (--clip-weights, --ast-weights), or train again.",
        )
    return encoder


def pictures_differ(run: Run, config: ExtractConfig) -> str | None:
    """Say in a sentence how a new video's pictures differ from those the run learned from; None where they do not.

    Args:
        run: The run.
        config: From `settings_for`.
    """
    seen = run.info["encoders"]["face"]["sampling"].get("faces", {"mode": "none"})["mode"]
    if seen == config.faces:
        return None
    words = {"none": "whole frames", "detect": "detected faces", "crops": "the corpus's own face crops"}
    return f"The run learned from {words[seen]} and sees {words[config.faces]} here, which can change its answers."
