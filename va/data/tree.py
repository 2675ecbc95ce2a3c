"""What lies in a data set's folder: its files, through links and past what systems leave there, and videos by name."""

import filecmp
import os
import unicodedata
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from va.data.corpus import Skipped
from va.errors import VAError

VIDEO_SUFFIXES: Final = frozenset({".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm", ".mpg", ".mpeg", ".wmv"})


def find_files(root: Path, skipped: list[Skipped]) -> list[Path]:
    """List the files below a folder in order, through symbolic links, each folder once.

    Left out are hidden names, `__MACOSX`, and folders of cropped pictures, which hold millions of files and no video.

    Args:
        root: The folder.
        skipped: Folders that cannot be read, and links to nothing, are added.

    Raises:
        VAError: There is no such folder.
    """
    if not root.is_dir():
        raise VAError(f"{root}: no such folder", "Give the top folder of the data set.")

    def unreadable(error: OSError) -> None:
        skipped.append(Skipped(what=below(root, error.filename), why=f"cannot be read ({error.strerror})"))

    found: list[Path] = []
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=unreadable):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:  # reached by a link before, or a link to a folder above
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX", "cropped")))
        for name in sorted(names):
            file = Path(folder, name)
            if name.startswith("."):
                continue
            if file.is_file():
                found.append(file)
            else:
                skipped.append(Skipped(what=below(root, file), why="is a link to nothing, or no file"))
    return found


class Videos:
    """The videos of a tree, by name.

    Args:
        found: Files of the tree; those that are no video are passed over.
        root: Top of the tree.
        key: What a video is called; by default the file's name without suffix.
    """

    def __init__(self, found: Iterable[Path], root: Path, *, key: Callable[[Path], str] = lambda file: file.stem):
        self._root = root
        self._key = key
        self._files: dict[str, list[Path]] = {}
        self._found: dict[str, Path] = {}
        self._copies: dict[Path, Path] = {}
        for file in found:
            if file.suffix.lower() in VIDEO_SUFFIXES:
                self._files.setdefault(folded(key(file)), []).append(file)

    def find(self, name: str) -> Path | None:
        """Give the video of that name, if need be written in other case; None where there is none.

        Raises:
            VAError: There are several that differ.
        """
        alike = self._files.get(folded(name))
        if alike is None:
            return None
        if name not in self._found:
            first, *others = [file for file in alike if self._key(file) == name] or alike
            for other in others:
                if not same_content(first, other):
                    raise VAError(
                        f"video '{name}' is there twice, with different content: {first} and {other}", "Remove one."
                    )
                self._copies[other] = first
            self._found[name] = first
        return self._found[name]

    def left_over(self, why: str, skipped: list[Skipped]) -> None:
        """Add the videos that nobody asked for, and all but the first of those that are there several times."""
        used = set(self._found.values())
        for file in (file for alike in self._files.values() for file in alike if file not in used):
            first = self._copies.get(file)
            said = why if first is None else f"is the same video as {below(self._root, first)}"
            skipped.append(Skipped(what=below(self._root, file), why=said))


def folded(name: str) -> str:
    """Fold what copies between systems change in a name: case, and how accents are composed."""
    return unicodedata.normalize("NFC", name).casefold()


def same_content(one: Path, other: Path) -> bool:
    """Say whether two files hold the same bytes.

    Raises:
        VAError: One cannot be read.
    """
    try:
        return one.samefile(other) or filecmp.cmp(one, other, shallow=False)
    except OSError as error:
        raise VAError(
            f"{one} and {other}: cannot be compared ({error.strerror})", "Check permissions, or remove one."
        ) from None


def reason(error: VAError, what: str, root: Path) -> str:
    """Give an error's message without what stands beside it in the table."""
    message = error.message.replace(f"{root}{os.sep}", "")
    return message.removeprefix(what).lstrip(":, ") or message


def below(root: Path, file: Path | str) -> str:
    """Name a file for the table of what was skipped."""
    return str(file).removeprefix(f"{root}{os.sep}")
