"""Files that are either whole or absent, and their hashes. Standard library only."""

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from va.errors import VAError

_HASH_BLOCK = 1 << 20
_LONGEST_NAME = 120  # leaves room for suffixes under the usual limit of 255 bytes


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; on success it is synced and renamed to `path`, else removed.

    A reader therefore sees the old file or the whole new one, whenever the process is killed.

    Raises:
        VAError: The folder or the file cannot be written, e.g. because the disk is full.
    """
    # Random, because two machines that share a disk can have equal process numbers.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise VAError(
            f"{path}: cannot be written ({error.strerror or error})", "Check free space and permissions there."
        ) from error


def sweep(directory: Path, *, older_than_s: float) -> None:
    """Remove the temporary files that killed processes left; younger ones may still be in use."""
    for file in directory.glob(".*.tmp"):
        with contextlib.suppress(OSError):  # another process may sweep too
            if time.time() - file.stat().st_mtime > older_than_s:
                file.unlink()


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text so that the file is whole or absent."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, data: Any) -> None:
    """Write strict JSON (no NaN), indented, so that the file is whole or absent."""
    write_text(path, json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, *, what: str, hint: str) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.
        what: What it should be, for the error, e.g. "a corpus manifest".
        hint: What the user can do when it is missing or broken.

    Raises:
        VAError: It is missing, unreadable, not JSON, or not an object.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise VAError(f"{path}: cannot be read as {what} ({error.strerror})", hint) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise VAError(f"{path}: is not {what} ({error})", hint) from None
    if not isinstance(data, dict):
        raise VAError(f"{path}: is not {what} (no JSON object)", hint)
    return data


def hash_file(path: Path) -> str:
    """Hash a file's bytes with BLAKE2b-128, in blocks; 32 hexadecimal digits."""
    state = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(_HASH_BLOCK):
            state.update(block)
    return state.hexdigest()


def safe_name(text: str) -> str:
    """Turn any clip id into one portable file name; different ids give different names.

    Letters, digits, `_`, `.` and `-` stay; everything else, slashes too, is percent-encoded. A leading dot is
    encoded as well, so that no id can name a hidden or a parent folder. A long name keeps its start and ends in
    `~` and a hash; no short name holds a `~`.
    """
    name = quote(text, safe="").replace("~", "%7E")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _LONGEST_NAME:
        name = f"{name[:80]}~{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}"
    return name


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
