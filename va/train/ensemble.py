"""Several finished runs as one whose prediction is their mean: `va train --folds 5 --seeds 0,1,2 --ensemble`.

The members are trained as one stack and stay one: the ensemble's weights are theirs with a leading axis, so that it is
loaded, evaluated and used like any other run.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import torch

from va import files, settings
from va.model import layers
from va.train import checkpoint
from va.train.config import TrainConfig
from va.train.planning import describe

_TAKEN: Final = (
    "shape",
    "corpus",
    "features",
    "encoders",
    "encoder_folders",
    "demo_encoders",
    "region_texts",
    "prototypes",
)
"""What an ensemble's `run.json` has from its first member."""


def join(config: TrainConfig, members: list[Path]) -> Path:
    """Write the ensemble of finished runs of one architecture, or find that it is there.

    Args:
        config: The settings that the members were expanded from.
        members: Their directories, at least two.

    Returns:
        The ensemble's directory, beside the members.

    Raises:
        VAError: A member cannot be loaded.
    """
    names = [member.name for member in members]
    directory = config.out / f"{config.name or describe(config)}-ensemble-{settings.digest({'members': names})}"
    if checkpoint.is_finished(directory):
        checkpoint.require_whole(directory)
        return directory
    loaded = [checkpoint.load_run(member) for member in members]
    first = loaded[0]
    checkpoint.save_weights(directory, layers.stack([run.head for run in loaded]).state_dict())
    scores = [run.info["selection"]["ccc_mean"] for run in loaded]
    trained = [run.info["train_clips"] for run in loaded]
    selected = [run.info["selection"]["clips"] for run in loaded]
    splits = {run.info["selection"]["split"] for run in loaded}
    identity = {"members": [run.info["identity"] for run in loaded]}
    taken: dict[str, Any] = {name: first.info[name] for name in _TAKEN if name in first.info}
    info = {
        "schema": checkpoint.SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": settings.as_dict(config),
        "identity": {**identity, "face": first.info["identity"]["face"], "voice": first.info["identity"]["voice"]},
        **taken,
        "members": names,
        # All that any member learned from: what one has seen, the mean has seen.
        "train_clips": _union(trained),
        "train_by_member": trained,
        "selection": {
            "split": splits.pop() if len(splits) == 1 else "each member's own fold",
            "clips": _union(selected),
            "by_member": selected,
            "epoch": [run.info["selection"]["epoch"] for run in loaded],
            "ccc_mean": float(torch.tensor(scores, dtype=torch.float64).mean()),
        },
        "files": checkpoint.hashes(directory),
        "versions": checkpoint.versions(),
    }
    files.write_json(directory / "run.json", info)
    return directory


def _union(lists: list[list[str]]) -> list[str]:
    """Every name once, in the order of first mention."""
    return list(dict.fromkeys(name for names in lists for name in names))
