"""Encoders that `va finetune` made: kept in its run's directory, and loaded again as `run:DIR`.

`DIR/encoders/face/` and `DIR/encoders/voice/` hold weights in the format that the base encoder's own builder reads, so
a fine-tuned encoder is its base with other weights and another name. The identities in `run.json` have a hash of every
file; nothing is read that does not have it.
"""

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch

from va import bounded, files
from va.data import tuned
from va.data.texttower import TowerContent
from va.data.tuned import FOLDER, KINDS, Kind
from va.errors import VAError
from va.extract import encoders
from va.extract.config import RUN, ExtractConfig
from va.extract.encoders import Encoder

__all__ = ["FOLDER", "KINDS", "Kind", "check", "directory_of", "given", "keep", "load", "load_from", "load_one", "read"]

_FREE: Final = ("sampling", "compute_dtype", "compiled")
"""What the settings of an extraction decide, not the weights."""


def keep(directory: Path, encoder: Encoder, *, kind: Kind) -> dict[str, Any]:
    """Write an encoder's weights, as they are now, into a run's directory; whole or absent.

    Args:
        directory: The run's; its name becomes part of the encoder's.
        encoder: What was fine-tuned, or a fine-tuned encoder that was trained further.
        kind: Which of the two it is.

    Returns:
        The identity of the fine-tuned encoder, for `run.json`.

    Raises:
        VAError: It has no weights that could be written, or the disk cannot be written.
    """
    if encoder.save is None:
        raise VAError(f"'{encoder.name}' has no weights to keep", "Fine-tune an encoder with weights, or freeze it.")
    target = directory / FOLDER / kind
    with _replacing(target) as temporary:
        encoder.save(temporary)
    base = encoder.identity.get("tuned", {})
    about = {
        "run": run_name(directory),
        "base": base.get("base", encoder.identity["encoder"]),
        "base_weights": base.get("base_weights", encoder.identity["weights"]),
        "files": {file.name: files.hash_file(file) for file in sorted(target.iterdir())},
    }
    (weights,) = (digest for name, digest in about["files"].items() if name.endswith(".safetensors"))
    return {**encoder.identity, "encoder": f"{about['base']}@{about['run']}", "weights": weights, "tuned": about}


def run_name(directory: Path) -> str:
    """Name a run in its encoders' names: its folder's name, in portable letters without a comma."""
    return files.safe_name(directory.resolve().name)


def directory_of(name: str) -> Path:
    """Give the directory that `run:DIR` names.

    Raises:
        VAError: It names none.
    """
    given = name.removeprefix(RUN)
    if not given:
        raise VAError("--encoders: 'run:' names no run", "Write run: and the directory of a run of 'va finetune'.")
    return Path(given).expanduser()


def load(directory: Path, *, config: ExtractConfig, device: torch.device) -> tuple[Encoder, Encoder]:
    """Load both encoders of a fine-tuned run; the one that stayed frozen is its base encoder.

    Args:
        directory: The run's.
        config: The stage's settings; its weights options serve an encoder that stayed frozen.
        device: Where the encoders go.

    Returns:
        The face's and the voice's.

    Raises:
        VAError: No such run, it was not fine-tuned, or files are missing, damaged or another run's.
    """
    info = read(directory)
    face, voice = (load_one(directory, info, kind=kind, config=config, device=device) for kind in KINDS)
    check(face, info["encoders"]["face"], whose=directory)
    check(voice, info["encoders"]["voice"], whose=directory)
    return face, voice


def read(directory: Path) -> dict[str, Any]:
    """Read the `run.json` of a run that has encoders of its own.

    Raises:
        VAError: No such run, or it was not fine-tuned.
    """
    if not directory.is_dir():
        raise VAError(
            f"--encoders: run:{directory}: there is no such directory",
            "Write run: and the directory that 'va finetune' printed; one with a comma in it needs a --config file.",
        )
    hint = "Write run: and the directory of a finished run of 'va finetune'."
    info = bounded.read_json(directory / "run.json", what="a finished run", hint=hint)
    identities = {kind: _identity(info, kind, directory) for kind in KINDS}
    if not any("tuned" in identity for identity in identities.values()):
        names = ",".join(str(identity["encoder"]) for identity in identities.values())
        raise VAError(
            f"--encoders: run:{directory}: was not fine-tuned, so it has no encoders of its own",
            f"Name those that it was trained on: --encoders {names}.",
        )
    return info


def load_one(
    directory: Path, info: Mapping[str, Any], *, kind: Kind, config: ExtractConfig, device: torch.device
) -> Encoder:
    """Load one encoder of a run; whether one that was not fine-tuned is the run's is for the caller to check.

    Args:
        directory: The run's.
        info: Its `run.json`.
        kind: Which.
        config: The stage's settings.
        device: Where it goes.

    Raises:
        VAError: Weights are missing or, of a fine-tuned one, others than the run's.
    """
    identity = _identity(info, kind, directory)
    if "tuned" not in identity:
        return encoders.build(identity["encoder"], config=config, device=device)
    places = tuned.places_of(directory, info, kind=kind, given=given(config, kind))
    return load_from(places, identity, kind=kind, whose=directory, config=config, device=device)


def load_from(
    places: Sequence[Path | str | None],
    identity: Mapping[str, Any],
    *,
    kind: Kind,
    whose: Path,
    config: ExtractConfig,
    device: torch.device,
) -> Encoder:
    """Load a fine-tuned encoder from the first of some folders that is there.

    Args:
        places: Folders, or None.
        identity: What it must have.
        kind: Which encoder of its run it is.
        whose: Whose identity that is, for errors: a run's directory or a feature store's.
        config: The stage's settings.
        device: Where it goes.

    Raises:
        VAError: None is there; or its files are not those of the identity.
    """
    about = tuned.read_about(identity, whose=whose)
    folder = tuned.find(places, identity, kind=kind, whose=whose)
    encoder = encoders.build(about["base"], config=config, device=device, folder=folder)
    name, plain = str(identity["encoder"]), encoder.text_tower
    encoder = dataclasses.replace(
        encoder,
        name=name,
        identity={**encoder.identity, "encoder": name, "tuned": dict(about)},
        text_tower=_renamed(plain, name) if plain is not None else None,
        folder=folder,
    )
    check(encoder, identity, whose=whose)
    return encoder


def given(config: ExtractConfig, kind: Kind) -> Path | None:
    """Give the folder that the option for an encoder's weights names: its own, or that of the file."""
    path = config.clip_weights if kind == "face" else config.ast_weights
    return path.parent if path is not None and path.suffix == ".safetensors" else path


def check(encoder: Encoder, identity: Mapping[str, Any], *, whose: Path) -> None:
    """Check that an encoder is the one of an identity, whatever is extracted with it.

    Raises:
        VAError: It is another.
    """
    found = encoder.identity
    differing = [key for key in sorted({*identity, *found} - {*_FREE}) if identity.get(key) != found.get(key)]
    if differing:
        raise VAError(
            f"{whose}: was made with another '{identity['encoder']}' (its {', '.join(differing)} differ)",
            "Give the weights that made it (--clip-weights, --ast-weights).",
        )


def _identity(info: Mapping[str, Any], kind: Kind, directory: Path) -> dict[str, Any]:
    try:
        identity = info["encoders"][kind]
        if not isinstance(identity["encoder"], str):
            raise TypeError("no name")
    except (KeyError, TypeError) as error:
        raise VAError(
            f"{directory / 'run.json'}: does not name its {kind} encoder ({error!r})", "Give a run of 'va finetune'."
        ) from None
    return dict(identity)


def _renamed(tower: Callable[[Sequence[str]], TowerContent], name: str) -> Callable[[Sequence[str]], TowerContent]:
    def text_tower(texts: Sequence[str]) -> TowerContent:
        made = tower(texts)
        return made._replace(about=dataclasses.replace(made.about, encoder=name))

    return text_tower


@contextmanager
def _replacing(target: Path) -> Iterator[Path]:
    """Give an empty folder that becomes `target`, instead of one that is there; what was killed half-way goes."""
    try:
        for left in target.parent.glob(f".{target.name}.*.tmp"):
            shutil.rmtree(left)
        temporary = files.temporary_beside(target)
        temporary.mkdir()
        try:
            yield temporary
            files.sync(temporary)
            if target.exists():
                target.rename(files.temporary_beside(target))
            temporary.rename(target)
            files.sync(target.parent)
        finally:
            for left in target.parent.glob(f".{target.name}.*.tmp"):
                shutil.rmtree(left)
    except OSError as error:
        raise files.cannot_write(target, error) from error
