"""Settings -> the runs that they stand for: what each reads, where it lies, and which can be trained together."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from va import settings
from va.device import be_deterministic, choose_device
from va.errors import VAError
from va.train import events
from va.train.config import TrainConfig
from va.train.data import Data, Division, check, divide, identity_of, open_data

_OWN: Final = (
    "seed",
    "fold",
    "sigma",
    "centers",
    "centers_arousal",
    "region_weight",
    "region_scale",
    "learning_rate",
    "weight_decay",
    "schedule",
    "warmup_steps",
    "clip_norm",
    "epochs",
    "patience",
)
"""Settings that trials of one stack may differ in: none of them shapes the head or a batch."""

_PLACES: Final = ("corpus", "features", "face_encoder", "voice_encoder", "prototypes_from")
"""Settings that say what trials read."""


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A run that is wanted.

    Args:
        config: Its settings.
        directory: Where it lies, or will.
        data: What it reads.
        division: Its clips.
        identity: What its weights depend on.
    """

    config: TrainConfig
    directory: Path
    data: Data
    division: Division
    identity: dict[str, Any]


def expand(config: TrainConfig) -> list[TrainConfig]:
    """List the single runs that settings stand for: one, or one per fold and seed."""
    seeds = config.seeds or (config.seed,)
    folds = range(config.folds) if config.folds and config.fold < 0 else (config.fold,)
    return [replace(config, seed=seed, fold=fold, seeds=(), ensemble=False) for fold in folds for seed in seeds]


def plan(configs: Sequence[TrainConfig]) -> list[Planned]:
    """Open what runs need, check that it fits, and name their directories.

    Raises:
        VAError: Corpus or features are missing or do not fit together.
    """
    opened: dict[tuple[Any, ...], Data] = {}
    divided: dict[tuple[Any, ...], Division] = {}
    planned = []
    for config in configs:
        # Whether texts may be missing depends on the term, and stand-ins for them on the number of regions.
        texts = (config.region_weight > 0, *map(len, config.axes))
        source = (*(getattr(config, name) for name in _PLACES), *texts, config.context > 0)
        if source not in opened:
            opened[source] = open_data(config)
        data = opened[source]
        check(config, data)
        chosen = (*source, config.select_on, config.folds, config.fold, config.dev_fraction, config.seed)
        if chosen not in divided:
            divided[chosen] = divide(config, data.corpus)
        division = divided[chosen]
        identity = identity_of(config, data, division)
        directory = config.out / f"{config.name or describe(config)}-{settings.digest(identity)}"
        planned.append(Planned(config=config, directory=directory, data=data, division=division, identity=identity))
    return planned


def describe(config: TrainConfig) -> str:
    """Name an architecture, e.g. `gru-hierarchical` or `tcn-face`."""
    return f"{config.temporal}-{config.fusion if config.modalities == 'both' else config.modalities}"


def check_machine(config: TrainConfig) -> None:
    """Check that a run can be trained on this machine, and set torch up for it.

    Raises:
        VAError: TensorBoard or the device is not there, or it cannot do what the settings ask for.
    """
    if config.tensorboard:
        events.require()
    device = choose_device(config.device)
    if config.precision != "float32" and device.type != "cuda":
        raise VAError(f"--precision {config.precision}: needs a GPU", "Leave it out to train in float32.")
    if config.deterministic:
        be_deterministic(device)


def groups(planned: Iterable[Planned]) -> list[list[Planned]]:
    """Put runs together that can be one stack."""
    found: dict[str, list[Planned]] = {}
    for one in planned:
        common = {name: value for name, value in one.identity["config"].items() if name not in _OWN}
        places = {name: getattr(one.config, name) for name in _PLACES}
        key = json.dumps([common, places, one.config.device], sort_keys=True, default=str)
        found.setdefault(key, []).append(one)
    return list(found.values())
