"""Tasks for tests of Ray; a module of its own, because worker processes find them by name."""

import os
import signal
import time
from pathlib import Path

from va import cores
from va.engine.tasks import Stopping
from va.errors import VAError


def describe(item: int, stopping: Stopping) -> tuple[int, int, str, str]:
    return item, cores.count(), os.environ["OMP_NUM_THREADS"], os.environ.get("OMP_WAIT_POLICY", "")


def refuse(item: int, stopping: Stopping) -> int:
    if item == 1:
        raise VAError("the disk of item 1 is full", "Make room.")
    return item


def blunder(item: int, stopping: Stopping) -> int:
    return 1 // item


def die_at_first(marks: tuple[Path, str], stopping: Stopping) -> str:
    """Die as of the kernel, the first times that this item is worked on: once per character."""
    folder, name = marks
    tries = len(list(folder.glob(f"{name}.*")))
    (folder / f"{name}.{tries}").touch()
    if tries < len(name):
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def wait(folder: Path, stopping: Stopping) -> str:
    """Wait for a stop, then take a moment to finish."""
    (folder / f"begun.{os.getpid()}").touch()
    deadline = time.monotonic() + 60
    while not stopping() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)
    return "finished" if stopping() else "left alone"
