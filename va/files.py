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


@contextlib.contextmanager
def locked(path: Path, *, shared: bool, wait: bool) -> Iterator[bool]:
    """Hold an advisory lock among threads, processes and, where the file system can, machines.

    Args:
        path: The lock's file, made when missing and never removed.
        shared: Several may hold it at once, but not beside one that is not shared.
        wait: Wait until it is free.

    Yields:
        False when it is not held: it is busy, or the system or the file system has no locks.

    Raises:
        OSError: The lock's file cannot be opened.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        try:
            fcntl.flock(descriptor, mode)
            held = True
        except OSError:
            held = False
        yield held
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def alone(directory: Path, *, doing: str) -> Iterator[None]:
    """Work in a folder that no other process may work in meanwhile, as far as the file system has locks.

    Args:
        directory: The folder; made when missing. Meanwhile a file `.lock` is in it, which a killed process leaves.
        doing: What another process does that has it, e.g. "trained".

    Raises:
        VAError: Another process has it, or it cannot be written.
    """
    path = directory / ".lock"
    with contextlib.ExitStack() as held:
        try:
            directory.mkdir(parents=True, exist_ok=True)
            while True:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
                held.callback(os.close, descriptor)
                _lock_now(descriptor)
                if fingerprint(path) == _fingerprint(os.fstat(descriptor)):
                    break
                held.close()  # whoever had it has removed it since
        except BlockingIOError:
            raise VAError(
                f"{directory}: is being {doing} by another process",
                "Wait for its end, then run the same command again.",
            ) from None
        except OSError as error:
            raise cannot_write(directory, error) from error
        held.callback(_remove_if_possible, path)  # first, then the lock goes
        yield


def _remove_if_possible(path: Path) -> None:
    with contextlib.suppress(OSError):  # a folder that may not be written in any more
        path.unlink()


def _lock_now(descriptor: int) -> None:
    """Lock an open file; do nothing where there are no locks.

    Raises:
        BlockingIOError: Another process has locked it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return


def fingerprint(path: Path) -> tuple[int, int, int] | None:
    """Give inode, size and time of change of a file, which differ once it was replaced; None when it is not there."""
    try:
        return _fingerprint(path.stat())
    except OSError:
        return None


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
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
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


def sync(path: Path) -> None:
    """Bring a file's content, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
