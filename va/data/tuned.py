"""What an identity says of a fine-tuned encoder, and where its files are: for all who hold features or runs of it.

`va/extract/tuned.py` writes and loads them. Where they are stays outside identities, which must not depend on a
machine: `tuned.json` beside features, and `encoder_folders` in the `run.json` of a run that was trained on these.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final, Literal

from va import bounded, files
from va.errors import VAError

Kind = Literal["face", "voice"]
KINDS: Final[tuple[Kind, ...]] = ("face", "voice")
FOLDER: Final = "encoders"
"""Folder in a run's directory that holds a folder of each kind that was fine-tuned."""

NAME: Final = "tuned.json"
"""The file's name in a feature store's folder."""

RECIPE: Final = ("backbone_rate", "layer_decay", "thaw_face", "thaw_voice", "ema", "augment")
"""Settings of `va finetune` that a report and a model card state beside those of the head."""

_OPTIONS: Final[Mapping[Kind, str]] = {"face": "--clip-weights", "voice": "--ast-weights"}


def base_name(identity: Mapping[str, Any]) -> str:
    """Name the encoder that is behind an identity: what a fine-tuned one was made from, else itself."""
    about = identity.get("tuned")
    return str(about["base"] if isinstance(about, Mapping) and "base" in about else identity["encoder"])


def describe(identity: Mapping[str, Any]) -> str:
    """Say in a few words what an encoder was fine-tuned from; "" for one that was not."""
    about = identity.get("tuned")
    return f"fine-tuned from {about.get('base')} in {about.get('run')}" if isinstance(about, Mapping) else ""


def notes_on(identity: Mapping[str, Any]) -> list[str]:
    """Say what a reader of figures must know about an encoder: what it was fine-tuned from, whether for show only."""
    return [said for said in (describe(identity), "demo encoder" if identity.get("demo") else "") if said]


def read_about(identity: Mapping[str, Any], *, whose: Path) -> dict[str, Any]:
    """Read what stands under `tuned`, which may come from anywhere: names, and hashes by plain file names.

    Args:
        identity: Of a fine-tuned encoder.
        whose: Where it stands, for errors: a run's directory or a feature store's.

    Raises:
        VAError: It is malformed.
    """
    about = identity["tuned"]
    try:
        named = all(isinstance(about[key], str) for key in ("run", "base", "base_weights"))
        plain = all(
            re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", name) and isinstance(digest, str)
            for name, digest in about["files"].items()
        )
    except (KeyError, TypeError, AttributeError):
        named = plain = False
    if not (named and plain and about["files"]):
        raise VAError(
            f"{whose}: does not say what '{identity['encoder']}' was fine-tuned from", "Take it as it was written."
        )
    return dict(about)


def find(places: Iterable[Path | str | None], identity: Mapping[str, Any], *, kind: Kind, whose: Path) -> Path:
    """Find the files of a fine-tuned encoder in the first of some folders that is there, and check every one.

    Args:
        places: Folders, or None.
        identity: The encoder's.
        kind: Which encoder of its run it is.
        whose: As in `read_about`.

    Raises:
        VAError: No folder is there; or files are missing, damaged or another encoder's.
    """
    about = read_about(identity, whose=whose)
    again = f"Give {FOLDER}/{kind} in the directory of its run, '{about['run']}', to {_OPTIONS[kind]}."
    folder = next((Path(place) for place in places if place is not None and Path(place).is_dir()), None)
    if folder is None:
        raise VAError(f"{whose}: the files of its encoder '{identity['encoder']}' are not there", again)
    for name, digest in about["files"].items():
        if not (folder / name).is_file():
            raise VAError(f"{folder}: {name} of '{identity['encoder']}' is missing", again)
        try:
            found = files.hash_file(folder / name)
        except OSError as error:
            raise VAError(f"{folder / name}: cannot be read ({error.strerror})", again) from None
        if found != digest:
            raise VAError(
                f"{folder / name}: is damaged, or not the file of '{identity['encoder']}' (its hash differs)", again
            )
    return folder.resolve()


def places_of(run: Path, info: Mapping[str, Any], *, kind: Kind, given: Path | None) -> list[Path | str | None]:
    """List where the files of a run's fine-tuned encoder may be, its own directory first.

    Args:
        run: The run's directory.
        info: Its `run.json`.
        kind: Which encoder.
        given: What the user named, or None.
    """
    noted = info.get("encoder_folders")
    return [run / FOLDER / kind, given, noted.get(kind) if isinstance(noted, Mapping) else None]


def write_folder(store: Path, folder: Path) -> None:
    """Note beside features where the files of their fine-tuned encoder are."""
    if read_folder(store) != folder:
        files.write_json(store / NAME, {"folder": str(folder)})


def read_folder(store: Path) -> Path | None:
    """Give what `write_folder` noted, or None; it may not be there any more.

    Raises:
        VAError: The note is damaged.
    """
    if not (store / NAME).is_file():
        return None
    hint = "Remove it; 'va extract --encoders run:DIR' writes it again."
    found = bounded.read_json(store / NAME, what="a note of an encoder's folder", hint=hint).get("folder")
    return Path(found) if isinstance(found, str) else None
