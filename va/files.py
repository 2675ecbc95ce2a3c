"""Files that are either whole or absent, their hashes, and portable names. Standard library only."""

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from va.errors import VAError

_HASH_BLOCK = 1 << 20
_LONGEST_NAME = 120  # leaves room for suffixes under the usual limit of 255 bytes
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_RESERVED = frozenset({"con", "prn", "aux", "nul"} | {f"{port}{n}" for port in ("com", "lpt") for n in "123456789"})
"""Names that Windows, and its shares, keep for devices, whatever suffix follows."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it is synced and renamed to `path`, else removed.

    A reader therefore sees the old file or the whole new one, whenever the process is killed.

    Raises:
        VAError: The folder or the file cannot be written, e.g. because the disk is full.
    """
    try:
        temporary = temporary_beside(path)
        try:
            yield temporary
            sync(temporary)
            temporary.replace(path)
            sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def temporary_beside(path: Path) -> Path:
    """Name a temporary file that `sweep` finds and no reader looks at; makes the folder.

    Raises:
        OSError: The folder cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Random, because two machines that share a disk can have equal process numbers.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")


def cannot_write(path: Path, error: OSError) -> VAError:
    """Say that a file cannot be written; raise it `from error`, so that callers can tell a disk from a bad clip."""
    return VAError(f"{path}: cannot be written ({error.strerror or error})", "Check free space and permissions there.")


def fingerprint(path: Path) -> tuple[int, int, int] | None:
    """Give inode, size and time of change of a file, which differ once it was replaced; None when it is not there."""
    try:
        return _fingerprint(path.stat())
    except OSError:
        return None


def fingerprint_of(descriptor: int) -> tuple[int, int, int]:
    """Give the same of an open file.

    Raises:
        OSError: It cannot be looked at.
    """
    return _fingerprint(os.fstat(descriptor))


def _fingerprint(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns


def sweep(directory: Path, *, older_than_s: float) -> None:
    """Remove the temporary files that killed processes left; younger ones may still be in use."""
    for file in directory.glob(".*.tmp"):
        with contextlib.suppress(OSError):  # another process may sweep too
            if time.time() - file.stat().st_mtime > older_than_s:
                file.unlink()


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        VAError: It is, and cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise VAError(
            f"{path}: cannot be removed ({error.strerror or error})", "Check the permissions of its folder."
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text so that the file is whole or absent."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes so that the file is whole or absent."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, data: Any) -> None:
    """Write strict JSON (no NaN), indented, so that the file is whole or absent."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def hash_file(path: Path, *, beat: Callable[[], None] = lambda: None) -> str:
    """Hash a file's bytes with BLAKE2b-128, in blocks, calling `beat` for each; 32 hexadecimal digits."""
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            beat()
            state.update(block)
    return state.hexdigest()


def safe_name(text: str) -> str:
    """Turn any clip id into one portable file name; different ids give different names.

    Letters, digits, `_`, `.` and `-` stay; everything else, slashes too, is percent-encoded. A leading dot is
    encoded as well, so that no id can name a hidden or a parent folder, and so is the first letter of a name that
    Windows keeps for a device. A long name keeps its start and ends in `~` and a hash; no short name holds a `~`.

    Raises:
        ValueError: The id is no text that UTF-8 can express.
    """
    name = quote(text, safe="").replace("~", "%7E")
    if name.startswith(".") or name.split(".")[0].lower() in _RESERVED:
        name = f"%{ord(name[0]):02X}{name[1:]}"
    if len(name) > _LONGEST_NAME:
        name = f"{name[:80]}~{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"
    return name


def safe_cell(text: str) -> str:
    """Keep a spreadsheet from running a cell as a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def sync(path: Path) -> None:
    """Bring a file's content, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
