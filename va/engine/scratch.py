"""The folder of a Ray that a command has started; what a killed command left of it goes with the next command."""

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
    """Make a folder below TMPDIR, or /tmp where that is too long a path; removed at the block's end."""
    root = next(root for root in (tempfile.gettempdir(), "/tmp") if len(os.fsencode(root)) + 10 <= _LONGEST)
    remove_dead(Path(root))
    made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
    try:
        with locks.locked(made / "new", shared=False, wait=True) as held:
            if held:
                (made / "new").rename(made / _LOCK)  # so nobody sees it unlocked
            yield str(made)
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
