"""Which files a manifest may name: those below its media root, and those that links in it lead to where that is said.

Trees of recordings are full of links to other disks, so these are followed, but only where whoever made the manifest
had them: `save` writes down the folders that they led to (`linked_folders`), and `load` refuses a link to anywhere
else. So neither a folder that is unpacked nor a link that is changed later can name a file of its reader's.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from va.errors import VAError


def below(root: Path, text: str, manifest: Path) -> Path:
    """Give the path of a medium that a manifest names.

    Raises:
        VAError: It leaves the root.
        ValueError: It is no path.
    """
    media = PurePosixPath(text)
    if media.is_absolute() or ".." in media.parts:
        raise VAError(f"{manifest}: '{media}' leaves the media root", "A manifest may only name files below it.")
    if "\0" in text or not text:
        raise ValueError(f"{text!r} is not a path")
    text.encode()  # half a surrogate pair is not text
    return root / media


def linked_folders(media: Iterable[Path], root: Path) -> list[str]:
    """Give the folders outside a root that links among some media lead to, sorted."""
    real_root = root.resolve()
    folders = {real.parent for _, real in _resolved(media) if not real.is_relative_to(real_root)}
    return sorted(map(str, folders))


def check(media: Sequence[Path], *, root: Path, manifest: Path, data: Mapping[str, Any]) -> None:
    """Check that no link leads out of the root but to a folder that the manifest names.

    Args:
        media: Paths from `below`; those that do not exist lead nowhere.
        root: The media root, which may be a link itself.
        manifest: For the error.
        data: The manifest.

    Raises:
        VAError: One does.
        ValueError: `linked_folders` is not a list of absolute paths.
    """
    named = data.get("linked_folders", [])
    if not isinstance(named, list) or not all(isinstance(name, str) and Path(name).is_absolute() for name in named):
        raise ValueError("'linked_folders' is not a list of absolute paths")
    allowed = [root.resolve(), *map(Path, named)]
    for path, real in _resolved(media):
        if not any(real.is_relative_to(folder) for folder in allowed):
            raise VAError(
                f"{manifest}: '{path.relative_to(root)}' is a link that leads out of the media root, to {real}",
                "Make the manifest again, or, if you trust that link, add its folder to 'linked_folders' in it.",
            )


def _resolved(media: Iterable[Path]) -> Iterable[tuple[Path, Path]]:
    """Give each path with the one that it leads to, looking into each folder once."""
    folders: dict[Path, tuple[Path, frozenset[str]]] = {}
    for path in media:
        folder = path.parent
        if folder not in folders:
            folders[folder] = (folder.resolve(), _links(folder))
        real, links = folders[folder]
        yield path, path.resolve() if path.name in links else real / path.name


def _links(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_symlink())
    except OSError:  # not there: nothing to lead anywhere
        return frozenset()
