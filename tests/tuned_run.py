"""A fine-tuned run by hand: `tiny_run.py`'s, whose towers were nudged and kept as `va finetune` keeps them."""

import json
from pathlib import Path
from typing import Any

import tiny_run
import torch

from va import files, settings
from va.data.tuned import KINDS, Kind
from va.extract import encoders, tuned
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder

NAMES = {"face": "tiny-clip", "voice": "tiny-ast"}


def make_run(directory: Path, *, kinds: tuple[Kind, ...] = KINDS, seed: int = 0, **changes: Any) -> Path:
    """Write a run directory.

    Args:
        directory: Where.
        kinds: The encoders that were fine-tuned; the others stay what they are.
        seed: Of what is added to the weights.
        changes: As in `tiny_run.make_run`.
    """
    tiny_run.make_run(directory, **changes)
    info = json.loads((directory / "run.json").read_text())
    for kind in kinds:
        info["encoders"][kind] = tuned.keep(directory, nudged(NAMES[kind], seed=seed), kind=kind)
        info["identity"][kind] = settings.digest(info["encoders"][kind])
    files.write_json(directory / "run.json", info)
    return directory


def nudged(name: str, *, seed: int = 0) -> Encoder:
    """Give a demo encoder whose image or sound tower is another one: each weight by a tenth of their spread."""
    config = ExtractConfig(corpus=Path("c"), out=Path("o"))
    encoder = encoders.build(name, config=config, device=torch.device("cpu"))
    assert encoder.tower is not None
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in encoder.tower.parameters():
            spread = parameter.std() if parameter.numel() > 1 else 1.0
            parameter.add_(0.1 * spread * torch.randn(parameter.shape, generator=generator))
    return encoder
