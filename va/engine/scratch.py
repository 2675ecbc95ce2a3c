"""Temporary folders that do not outlive their command: what a killed one left goes with the next.

One is that of a Ray that a command has started (`folder`).
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from va import locks

_LONGEST: Final = 30
"""Ray's socket paths are some 75 bytes longer than its folder, and the kernel allows 107."""

_PREFIX: Final = "va"
_LOCK: Final = "va-command.lock"
"""A file in the folder that its command holds a lock on, which ends with the command, whatever ends it."""


@contextlib.contextmanager
def folder() -> Iterator[str]:
    """Make a folder for Ray below TMPDIR, or /tmp where that is too long a path; removed at the block's end."""
    root = next(root for root in (tempfile.gettempdir(), "/tmp") if len(os.fsencode(root)) + 10 <= _LONGEST)
    with below(Path(root), prefix=_PREFIX) as made:
        yield str(made)


@contextlib.contextmanager
def below(root: Path, *, prefix: str) -> Iterator[Path]:
    """Make a folder, removed at the block's end; first go the folders there that dead commands left.

    Args:
        root: Where.
        prefix: Begins its name, and begins with "va".
    """
    remove_dead(root)
    made = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
    try:
        with locks.locked(made / "new", shared=False, wait=True) as held:
            if held:
                (made / "new").rename(made / _LOCK)  # so nobody sees it unlocked
            yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def remove_dead(root: Path) -> None:
    """Remove folders whose command has ended without doing so: of this user, with a lock file that nobody holds."""
    for file in root.glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError):  # another command may remove it too
            if file.parent.is_symlink() or file.parent.stat().st_uid != os.getuid():
                continue
            with locks.locked(file, shared=False, wait=False) as held:
                if held:
                    shutil.rmtree(file.parent, ignore_errors=True)
