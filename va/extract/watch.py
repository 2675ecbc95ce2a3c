"""How long each stage is busy, whether a decoder still lives, how much it may take. A leaf: standard library only."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")


def limit_memory(allowed: int) -> None:
    """Let private writable memory grow by `allowed` bytes; beyond it allocations fail. Linux only."""
    try:
        import resource

        status = Path("/proc/self/status").read_text(encoding="ascii")
    except (ImportError, OSError):
        return  # no such limit on this system
    now = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData"))
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    most = now + allowed if hard == resource.RLIM_INFINITY else min(now + allowed, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def confine(*, memory_bytes: int, stall_s: float) -> "Watch":
    """Make this process one that a hostile file may take along, without a word: its parent decides when it ends.

    Args:
        memory_bytes: As for `limit_memory`.
        stall_s: As for `Watch`.

    Returns:
        Its watchdog, which waits for the first beat.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # sent to a whole process group
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    limit_memory(memory_bytes)
    return Watch(stall_s=stall_s)


class Watch:
    """A stopwatch per stage, and a watchdog for code that may hang where no Python runs.

    A stage inside another one interrupts it, so that no second counts twice.

    Args:
        stall_s: Seconds between two beats after which the kernel ends this process by SIGALRM, whose default action
            works inside a hanging decoder too and needs no parent that watches. 0 for no watchdog.

    Attributes:
        busy: Stage -> seconds.
    """

    def __init__(self, *, stall_s: float) -> None:
        self.busy: dict[str, float] = {}
        self._stall_s = stall_s
        self._running: list[str] = []
        self._since = 0.0

    def beat(self) -> None:
        """Say that work goes on: the watchdog waits `stall_s` from here."""
        if self._stall_s:
            signal.setitimer(signal.ITIMER_REAL, self._stall_s)

    def pause(self) -> None:
        """Stop the watchdog until the next beat, for waiting that is nobody's fault."""
        if self._stall_s:
            signal.setitimer(signal.ITIMER_REAL, 0)

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block as `name`."""
        self._switch()
        self._running.append(name)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def each(self, name: str, items: Iterator[Item]) -> Iterator[Item]:
        """Pass items on, counting the making of each as `name`."""
        while True:
            with self.stage(name):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item

    def _switch(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.busy[self._running[-1]] = self.busy.get(self._running[-1], 0.0) + now - self._since
        self._since = now
