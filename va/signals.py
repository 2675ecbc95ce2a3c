"""Stopping a long run cleanly: where what is in flight can be finished (`finishing`), and where not.

A command is then interrupted (`interrupting`), and what is above a library that stands in between is left (`exiting`).
"""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Stop:
    """Whether a stop was asked for.

    Attributes:
        signal: Number of the signal that came, or None.
    """

    def __init__(self) -> None:
        self.signal: int | None = None


@contextlib.contextmanager
def finishing(*caught: signal.Signals) -> Iterator[Stop]:
    """Catch the first SIGINT or SIGTERM inside the block, not a second one; schedulers send SIGTERM before they kill.

    Args:
        caught: Other signals than these two.

    Yields:
        Says whether one has come.
    """
    stop = Stop()
    before: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        signal.signal(number, before[number])  # the next one does what it always did

    for each in caught or (signal.SIGINT, signal.SIGTERM):
        before[each] = signal.signal(each, note)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def interrupting() -> Iterator[Stop]:
    """Let the first SIGTERM do what Ctrl-C does, where it would end the process at once and leave its temporary files.

    The second one ends it. Both are heard between two operations of Python, not within a long one. Nothing where it is
    caught or ignored already, or outside of the main thread.

    Yields:
        Says whether one has come.
    """
    stop = Stop()

    def interrupt(number: int, frame: FrameType | None) -> None:
        stop.signal = number
        _heeded.append(stop)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield stop
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield stop
    finally:
        _heeded.clear()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


_heeded: list[Stop] = []
"""The stop that has come inside `interrupting`, if any."""


def heed() -> None:
    """Interrupt again where the interruption was lost: some libraries catch everything while they are imported."""
    if _heeded:
        raise KeyboardInterrupt


@contextlib.contextmanager
def exiting() -> Iterator[None]:
    """Where SIGTERM would end the process at once, let it leave the block first; nothing where it is caught already."""
    told = False

    def leave(number: int, frame: FrameType | None) -> None:
        nonlocal told
        told = True
        sys.exit(128 + number)

    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    except SystemExit:
        if told:  # libraries that pass an exit on lose its number, Ray for one
            raise SystemExit(128 + signal.SIGTERM) from None
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
