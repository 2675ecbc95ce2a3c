"""A finished run with the tiny demo encoders and a head of random weights: it answers, and knows nothing."""

from pathlib import Path
from typing import Any

import torch

from va import files, settings
from va.data.regions import REGION_TEXTS
from va.extract import encoders
from va.extract.config import ExtractConfig
from va.model import layers
from va.train import checkpoint
from va.train.config import TrainConfig


def make_run(
    directory: Path, *, members: int = 0, faces: str = "none", voice: str = "tiny-ast", seed: int = 0, **changes: Any
) -> Path:
    """Write a run directory.

    Args:
        directory: Where.
        members: Heads of an ensemble, or 0.
        faces: Which pictures its features are said to come from.
        voice: The audio encoder.
        seed: Of the weights.
        changes: Settings of `TrainConfig`.
    """
    config = TrainConfig(
        corpus=Path("nowhere"),
        features=Path("nowhere"),
        out=Path("nowhere"),
        **{"width": 16, "num_heads": 2, **changes},
    )
    asked = ExtractConfig(corpus=Path("c"), out=Path("o"), faces=faces)  # type: ignore[arg-type]
    pair = [encoders.build(name, config=asked, device=torch.device("cpu")) for name in ("tiny-clip", voice)]
    sizes = {"frame_dim": pair[0].dim, "audio_dim": pair[1].dim, "audio_cnn": False}
    heads = []
    for member in range(max(1, members)):
        torch.manual_seed(seed + member)
        heads.append(checkpoint.make_head(config, sizes, prototypes=torch.randn(9, 8)))
    checkpoint.save_weights(directory, (layers.stack(heads) if members else heads[0]).state_dict())
    identities = {kind: each.identity for kind, each in zip(("face", "voice"), pair, strict=True)}
    info = {
        "schema": checkpoint.SCHEMA,
        "config": settings.as_dict(config),
        "identity": {kind: settings.digest(identity) for kind, identity in identities.items()},
        "shape": {**sizes, "num_regions": 9, "text_dim": 8},
        "members": [f"member-{number}" for number in range(members)],
        "corpus": {"name": "nobody", "path": "nowhere", "synthetic": True},
        "features": {kind: f"nowhere/{kind}" for kind in identities},
        "encoders": identities,
        "demo_encoders": True,
        "region_texts": list(REGION_TEXTS),
        "versions": checkpoint.versions(),
    }
    files.write_json(directory / "run.json", info)
    return directory
