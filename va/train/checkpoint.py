"""A run directory: safetensors for weights, JSON for everything else; nothing in it can execute when loaded.

`<name>-<8 hex>/` holds `run.json` (config, versions, seed, corpus, features, selection, and the encoders' identities,
so that a run can be used without them), `model.safetensors` (the selected epoch), `log.jsonl` (one line per epoch),
and, until it is finished, `state.safetensors` (`va/train/state.py`).
The digest covers the settings that change results and the identities of corpus and features, so a finished directory is
reused instead of trained again. An ensemble is a run as well: its weights have a leading axis over its members.
"""

import functools
import platform
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from va import bounded, files
from va.data import texttower
from va.errors import VAError
from va.model import layers
from va.model.head import TCNShape, VAHead
from va.train.config import TrainConfig
from va.version import __version__

SCHEMA: Final = 3
_HINT: Final = "Give a run directory that 'va train' printed."
_AGAIN: Final = "Remove that run's folder and train it again."
_HASHED: Final = ("model.safetensors", "log.jsonl")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A loaded run.

    Args:
        directory: Where it lies.
        info: `run.json`.
        config: The settings it was trained with.
        head: The trained head, in evaluation mode, on the CPU; an ensemble's is stacked (`va/model/layers.py`).
        members: Heads whose mean an ensemble's prediction is; 0 for a run of one head.
    """

    directory: Path
    info: dict[str, Any]
    config: TrainConfig
    head: VAHead
    members: int

    @property
    def has_regions(self) -> bool:
        """Whether the region term trained the head; without it its region probabilities are those of chance."""
        return self.config.region_weight > 0


def make_head(config: TrainConfig, shape: Mapping[str, Any], *, prototypes: torch.Tensor) -> VAHead:
    """Build the head that a config describes; weights come from torch's current seed.

    Args:
        config: Architecture settings.
        shape: What the data decides, as `run.json` keeps it: lengths of a frame's and of an audio step's embedding
            ("frame_dim", "audio_dim"), whether the latter is a log-mel picture ("audio_cnn") and, with --context, the
            length of a context vector ("context_width").
        prototypes: float32 [regions, text dim].

    Raises:
        KeyError: The shape lacks one.
    """
    tcn = TCNShape(
        levels=config.tcn_levels, kernel=config.tcn_kernel, dropout=config.tcn_dropout, causal=config.tcn_causal
    )
    head = VAHead(
        frame_dim=shape["frame_dim"],
        audio_dim=shape["audio_dim"],
        audio_cnn=shape["audio_cnn"],
        prototypes=prototypes,
        width=config.width,
        num_heads=config.num_heads,
        modalities=config.modalities,
        target=config.target,
        tcn=tcn if config.temporal == "tcn" else None,
        fusion=config.fusion,
        init_scale=config.region_scale,
        standardise=config.standardise,
    )
    if config.context:
        head.region_head.add_context(count=config.context, width=shape["context_width"])
    return head


def versions() -> dict[str, str]:
    """Name the versions that a result may depend on."""
    packages = ("torch", "numpy", "transformers", "open_clip_torch", "h5py", "av", "librosa")
    return {"va": __version__, "python": platform.python_version()} | {name: _installed(name) for name in packages}


@functools.cache
def _installed(package: str) -> str:
    """Find a package's version once: its metadata are read whole for it, some ten milliseconds for each run."""
    return metadata.version(package)


def hashes(directory: Path) -> dict[str, str]:
    """Hash the files that `run.json` stands for, by name, so that a wrong bit in them is noticed.

    Raises:
        VAError: One cannot be read.
    """
    return {name: _hash(directory / name) for name in _HASHED if (directory / name).is_file()}


def _hash(file: Path) -> str:
    try:
        return files.hash_file(file)
    except OSError as error:
        hint = "Check its permissions; if it is gone, remove that run's folder and train it again."
        raise VAError(f"{file}: cannot be read ({error.strerror})", hint) from None


def require_whole(directory: Path) -> None:
    """Check the files of a finished run against the hashes in its `run.json`; runs of earlier versions have none.

    Raises:
        VAError: One is missing or damaged, or `run.json` is.
    """
    kept = bounded.read_json(directory / "run.json", what="a finished run", hint=_AGAIN).get("files", {})
    for name in _HASHED:
        if not isinstance(kept, dict) or name not in kept:
            continue
        file = directory / name
        if _hash(file) != kept[name]:
            raise VAError(f"{file}: is damaged (its bytes are not those that run.json names)", _AGAIN)


def is_finished(directory: Path) -> bool:
    """Say whether a run directory holds a finished run: `run.json` is written last."""
    return (directory / "run.json").is_file()


def save_weights(directory: Path, weights: Mapping[str, torch.Tensor]) -> None:
    """Write a head's state dict and its checksum, whole or not at all."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    about = {"blake2b": texttower.checksum(state)}
    with files.replacing(directory / "model.safetensors") as temporary:
        # Not by the library's own writer: only the owner could read its files, whatever the umask says.
        temporary.write_bytes(save(state, metadata=about))


def load_run(directory: Path) -> Run:
    """Load a finished run.

    Raises:
        VAError: Not a run directory, unfinished, of another version, or with weights that do not fit or are damaged.
    """
    info = bounded.read_json(directory / "run.json", what="a finished run", hint=_HINT)
    if info.get("schema") != SCHEMA:
        raise VAError(f"{directory}: has schema {info.get('schema')!r}, this version reads {SCHEMA}", _HINT)
    try:
        config = config_from(info["config"])
        _check_regions(config, info)
        # On "meta" nothing is allocated: sizes in a file from elsewhere are believed only once the weights have them.
        with torch.device("meta"):
            head = _head_of(config, info)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise VAError(f"{directory / 'run.json'}: is malformed ({error!r})", _HINT) from None
    members = len(info["members"])
    file = directory / "model.safetensors"
    try:
        head.load_state_dict(_weights(file), strict=True, assign=True)
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
        raise VAError(f"{file}: does not hold this run's weights ({str(error).splitlines()[0]})", _HINT) from None
    return Run(directory=directory, info=info, config=config, head=head.eval(), members=members)


def _weights(file: Path) -> dict[str, torch.Tensor]:
    """Read weights and check that they are those that were written.

    Raises:
        ValueError: They are not.
        KeyError: The file does not say.
    """
    tensors = load_file(file)
    with safe_open(file, framework="pt") as opened:
        about = opened.metadata()
    if about is None:  # written before there were checksums; nothing else writes such a file
        warnings.warn(f"{file}: has no checksum, an older va wrote it; damage would go unnoticed", stacklevel=3)
    elif about["blake2b"] != texttower.checksum(tensors):
        raise ValueError("their checksum is another: the file is damaged")
    return tensors


def _check_regions(config: TrainConfig, info: dict[str, Any]) -> None:
    """Check what the weights' sizes do not tell: grid, texts and encoders.

    Raises:
        ValueError: They do not fit each other.
        KeyError: One is missing.
    """
    valence, arousal = config.axes
    counts = {len(valence) * len(arousal), info["shape"]["num_regions"], len(info["region_texts"])}
    if len(counts) > 1:
        raise ValueError(f"grid, texts and weights have different numbers of regions: {sorted(counts)}")
    for kind in ("face", "voice"):
        if not isinstance(info["encoders"][kind]["encoder"], str):
            raise ValueError(f"the {kind} encoder has no name")


def _head_of(config: TrainConfig, info: dict[str, Any]) -> VAHead:
    shape, members = info["shape"], len(info["members"])
    head = make_head(config, shape, prototypes=torch.zeros(shape["num_regions"], shape["text_dim"]))
    return layers.stack([head] * members) if members else head


def config_from(values: dict[str, Any]) -> TrainConfig:
    """Rebuild a config from `run.json`; one that was shared has no paths, and nothing that loads it needs them.

    Raises:
        VAError: A value is out of range.
        TypeError: A setting is unknown or missing.
    """
    paths = {name: Path(values.get(name, name)) for name in ("corpus", "features", "out")}
    lists = {name: tuple(values[name]) for name in ("centers", "centers_arousal", "seeds")}
    return TrainConfig(**{**values, **paths, **lists})
