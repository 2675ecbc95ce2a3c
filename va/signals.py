"""Stopping a long run cleanly: the first SIGINT or SIGTERM lets the clip in flight finish, a second one does not."""

import contextlib
import signal
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
    """Catch the first SIGINT or SIGTERM inside the block; batch schedulers send SIGTERM before they kill.

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
