"""Standard input as a source of media: bytes as they come, until the end or until nobody wants more."""

import os
import select
import time
from threading import Event
from typing import Final

_LOOK_S: Final = 0.1
"""A reader that waits for bytes looks this often whether it should go on, in seconds."""


class Pipe:
    """Reads a file descriptor without holding on to what it has read.

    Not Python's own buffered standard input: a thread that waits in that cannot be ended.

    Args:
        descriptor: The file descriptor.
        stop: Ends the reading when set.

    Attributes:
        began_s: When the first byte came, by `time.perf_counter`; None before.
    """

    def __init__(self, descriptor: int, *, stop: Event) -> None:
        self.began_s: float | None = None
        self._descriptor = descriptor
        self._stop = stop

    def read(self, size: int, /) -> bytes:
        """Wait for bytes and give at most `size` of them; none at the end, or when stopped."""
        while not self._stop.is_set():
            if select.select([self._descriptor], [], [], _LOOK_S)[0]:
                found = os.read(self._descriptor, size)
                self.began_s = self.began_s or time.perf_counter()
                return found
        return b""
