"""What happens around a task in a worker process: it gets its cores, looks whether all is there, and hears a stop.

Errors that a user can act on are returned, not raised, so that they look as they do locally.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias, TypeVar

from va import cores, signals
from va.errors import VAError
from va.version import __version__

Item = TypeVar("Item")
Result = TypeVar("Result")

Stopping: TypeAlias = Callable[[], bool]
"""Asked by a task now and then; True where it should come to an end."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a worker must have in common with the process that sends it tasks.

    Args:
        version: Of va.
        folder: Working directory, from which relative paths count.
        seen: Files and folders that must be there.
        cpus: Cores of one task.
    """

    version: str
    folder: str
    seen: tuple[Path, ...]
    cpus: int


def work(place: Place, function: Callable[[Item, Stopping], Result], item: Item) -> Result | VAError:
    """Run one task in a worker process; gives what it returned, or the error that it raised for the user.

    Args:
        place: What must be there.
        function: The work, a function at the top of a module.
        item: What to do it to.
    """
    cores.limit(place.cpus)
    try:
        settle(place)
        # Ray cancels a task by SIGINT, which then means what it means to the command itself.
        with signals.finishing(signal.SIGINT) as stop:
            return function(item, lambda: stop.signal is not None)
    except VAError as error:
        return error


def look(place: Place) -> VAError | None:
    """Say what a machine lacks; None where tasks can run."""
    try:
        settle(place)
    except VAError as error:
        return error
    return None


def settle(place: Place) -> None:
    """Go to the command's working directory, if it is there, and look for what must be.

    Raises:
        VAError: Another version of va, or a file or folder is not seen from here.
    """
    if __version__ != place.version:
        raise VAError(
            f"its va is {__version__}, that of this command {place.version}", "Install one version on all machines."
        )
    with contextlib.suppress(OSError):
        os.chdir(place.folder)
    for path in place.seen:
        if not path.exists():
            raise VAError(
                f"{path}: is not seen there",
                "Give paths on a folder that all machines share, as absolute paths (docs/scale-out.md).",
            )
