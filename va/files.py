"""Files that are either whole or absent, and their hashes. Standard library only."""

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import time
import tomllib
from collections import Counter
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

LARGEST_JSON: Final = 64 << 20
"""Bytes of a JSON file: a manifest of 100,000 clips has 20 million; what 64 MiB can become in memory is borne."""
LARGEST_TOML: Final = 1 << 20
"""Bytes of a TOML file: people write them, and Python's parser takes seconds for a hostile megabyte."""
_LONG_KEY: Final = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}""", re.ASCII)
"""Python's parser takes memory by the square of a dotted name's length: half a megabyte of dots takes 250 GB."""
LARGEST_TEXT: Final = 256 << 20
"""Bytes of a text of one line per frame: three times those of a list of all frames of Aff-Wild2."""


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

    What killed processes left half-written there, gigabytes perhaps, is removed first.

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
                locked = _lock_now(descriptor)
                if fingerprint(path) == fingerprint_of(descriptor):
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
        if locked:  # so whoever wrote a temporary file here has ended
            sweep(directory, older_than_s=0.0)
        yield


def _remove_if_possible(path: Path) -> None:
    with contextlib.suppress(OSError):  # a folder that may not be written in any more
        path.unlink()


def _lock_now(descriptor: int) -> bool:
    """Lock an open file; say whether that can be done here.

    Raises:
        BlockingIOError: Another process has locked it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True


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


def read_text(path: Path, *, largest: int, encoding: str = "utf-8") -> str:
    """Read a text file as `Path.read_text` does, but none that is larger than such a file can be.

    Args:
        path: The file; a pipe or a device counts by what it gives.
        largest: Bytes.
        encoding: How it is written.

    Raises:
        OSError: It cannot be read.
        ValueError: It is larger, or written otherwise (UnicodeDecodeError).
    """
    with path.open("rb") as file:
        too_large = os.fstat(file.fileno()).st_size > largest
        content = b"" if too_large else file.read(largest + 1)  # what is no file has no size
    if too_large or len(content) > largest:
        raise ValueError(f"it has more than {largest:,} bytes")
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str | bytes) -> Any:
    """Parse JSON from elsewhere: no NaN, no infinity, no name twice in an object, whatever depth.

    Raises:
        ValueError: It is not such JSON.
    """
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path, *, what: str, hint: str, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.
        what: What it should be, for the error, e.g. "a corpus manifest".
        hint: What the user can do when it is missing or broken.
        largest: Bytes that it may have.

    Raises:
        VAError: It is missing, unreadable, too large, not JSON (`parse_json`), or not an object.
    """
    try:
        data = parse_json(read_text(path, largest=largest))
    except OSError as error:
        raise VAError(f"{path}: cannot be read as {what} ({error.strerror})", hint) from None
    except ValueError as error:
        raise VAError(f"{path}: is not {what} ({error})", hint) from None
    if not isinstance(data, dict):
        raise VAError(f"{path}: is not {what} (no JSON object)", hint)
    return data


def read_toml(path: Path, *, option: str) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: The file.
        option: The option that named it, for the errors.

    Raises:
        VAError: It is missing, unreadable, too large or not TOML.
    """
    try:
        text = read_text(path, largest=LARGEST_TOML, encoding="utf-8-sig")
        if _LONG_KEY.search(text):
            raise ValueError("a name has too many dots")
        return tomllib.loads(text)
    except OSError as error:
        raise VAError(f"{path}: cannot be read ({error.strerror})", f"Check the path given to {option}.") from None
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:  # tomllib's own, Unicode's, and Python's of integers with thousands of digits
        problem = str(error)
    raise VAError(f"{path}: is not valid TOML ({problem})", f"Correct the file given to {option}.")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large for a number")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"{twice[:60]!r} stands twice in one object")
    return made


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
