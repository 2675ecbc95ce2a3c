"""A run directory: safetensors for weights, JSON for everything else; nothing in it can execute when loaded.

`<name>-<8 hex>/` holds `run.json` (config, versions, seed, corpus, features, selection), `model.safetensors` (the
selected epoch), `log.jsonl` (one line per epoch). The digest covers the settings that change results and the
identities of corpus and features, so a finished directory is reused instead of trained again.
"""

import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from va import files
from va.errors import VAError
from va.model.head import VAHead
from va.train.config import TrainConfig
from va.version import __version__

SCHEMA: Final = 1
_HINT: Final = "Give a run directory that 'va train' printed."


@dataclass(frozen=True, kw_only=True)
class Run:
    """A loaded run.

    Args:
        directory: Where it lies.
        info: `run.json`.
        config: The settings it was trained with.
        head: The trained head, in evaluation mode, on the CPU.
    """

    directory: Path
    info: dict[str, Any]
    config: TrainConfig
    head: VAHead


def make_head(config: TrainConfig, *, frame_dim: int, audio_dim: int, prototypes: torch.Tensor) -> VAHead:
    """Build the head that a config describes; weights come from torch's current seed.

    Args:
        config: Architecture settings.
        frame_dim: Length of a frame embedding.
        audio_dim: Length of an audio embedding.
        prototypes: float32 [regions, text dim].
    """
    return VAHead(
        frame_dim=frame_dim,
        audio_dim=audio_dim,
        prototypes=prototypes,
        width=config.width,
        num_heads=config.num_heads,
        modalities=config.modalities,
        target=config.target,
        temporal="gru",
        fusion="hierarchical",
        init_scale=config.region_scale,
    )


def versions() -> dict[str, str]:
    """Name the versions that a result may depend on."""
    packages = ("torch", "numpy", "transformers", "open_clip_torch", "h5py", "av", "librosa")
    return {"va": __version__, "python": platform.python_version()} | {
        name: metadata.version(name) for name in packages
    }


def is_finished(directory: Path) -> bool:
    """Say whether a run directory holds a finished run: `run.json` is written last."""
    return (directory / "run.json").is_file()


def save_head(directory: Path, head: VAHead) -> None:
    """Write the weights, whole or not at all."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in head.state_dict().items()}
    with files.replacing(directory / "model.safetensors") as temporary:
        save_file(state, temporary)


def load_run(directory: Path) -> Run:
    """Load a finished run.

    Raises:
        VAError: Not a run directory, unfinished, of another version, or with weights that do not fit.
    """
    info = files.read_json(directory / "run.json", what="a finished run", hint=_HINT)
    if info.get("schema") != SCHEMA:
        raise VAError(f"{directory}: has schema {info.get('schema')!r}, this version reads {SCHEMA}", _HINT)
    try:
        config = config_from(info["config"])
        shape = info["shape"]
        head = make_head(
            config,
            frame_dim=shape["frame_dim"],
            audio_dim=shape["audio_dim"],
            prototypes=torch.zeros(shape["num_regions"], shape["text_dim"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise VAError(f"{directory / 'run.json'}: is malformed ({error!r})", _HINT) from None
    file = directory / "model.safetensors"
    try:
        head.load_state_dict(load_file(file), strict=True)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise VAError(f"{file}: does not hold this run's weights ({str(error).splitlines()[0]})", _HINT) from None
    return Run(directory=directory, info=info, config=config, head=head.eval())


def config_from(values: dict[str, Any]) -> TrainConfig:
    """Rebuild a config from `run.json`.

    Raises:
        VAError: A value is out of range.
        TypeError: A setting is unknown or missing.
    """
    paths = {name: Path(values[name]) for name in ("corpus", "features", "out")}
    return TrainConfig(**{**values, **paths, "centers": tuple(values["centers"])})
