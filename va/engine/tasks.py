"""What happens around a task in a worker process: it gets its cores, looks whether all is there, and hears a stop.

Exceptions that a user can act on travel as plain text, so that they look as they do locally.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

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


@dataclass(frozen=True, kw_only=True)
class Done(Generic[Result]):
    """A task's result."""

    result: Result


@dataclass(frozen=True, kw_only=True)
class Refused:
    """A `VAError` of a task, in two lines."""

    message: str
    hint: str


def work(place: Place, function: Callable[[Item, Stopping], Result], item: Item) -> Done[Result] | Refused:
    """Run one task in a worker process.

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
            return Done(result=function(item, lambda: stop.signal is not None))
    except VAError as error:
        return Refused(message=error.message, hint=error.hint)


def look(place: Place) -> Refused | None:
    """Say what a machine lacks; None where tasks can run."""
    try:
        settle(place)
    except VAError as error:
        return Refused(message=error.message, hint=error.hint)
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
