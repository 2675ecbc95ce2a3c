"""What an identity says of a fine-tuned encoder, and where its files are: for all who hold features or runs of it.

`va/extract/tuned.py` writes and loads the files themselves. Where they are stays outside identities, which must not
depend on a machine: `tuned.json` beside features and `encoder_folders` in a run trained on them say it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from va import files

NAME: Final = "tuned.json"
"""The file's name in a feature store's folder."""


def base_name(identity: Mapping[str, Any]) -> str:
    """Name the encoder that is behind an identity: what a fine-tuned one was made from, else itself."""
    about = identity.get("tuned")
    return str(about["base"] if isinstance(about, Mapping) and "base" in about else identity["encoder"])


def describe(identity: Mapping[str, Any]) -> str:
    """Say in a few words what an encoder was fine-tuned from; "" for one that was not."""
    about = identity.get("tuned")
    if not isinstance(about, Mapping):
        return ""
    return f"fine-tuned from {about.get('base')} (weights {str(about.get('base_weights'))[:8]}) in {about.get('run')}"


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
    found = files.read_json(store / NAME, what="a note of an encoder's folder", hint=hint).get("folder")
    return Path(found) if isinstance(found, str) else None
