"""Advisory locks: on a file, and on a folder that one process works in at a time. Standard library only."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from va.errors import VAError
from va.files import cannot_write, fingerprint, fingerprint_of, sweep


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
                is_locked = _lock_now(descriptor)
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
        if is_locked:  # so whoever wrote a temporary file here has ended
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
