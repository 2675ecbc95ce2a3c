"""What lies between the thread that reads a stream and the one that answers (`stream.py`): never more than a step."""

import contextlib
import threading
import time
from collections.abc import Iterator

from va.extract.live import Look, Step


class Stopped(Exception):
    """Nobody wants more of the stream."""


class Handover:
    """What lies between the thread that reads and the one that answers: one step, and the last look.

    Args:
        live: Whether the source has its own time and steps that are late are dropped.
        step_s: Distance of steps in seconds.

    Attributes:
        stop: Set when nobody wants more.
        began_s: When time 0 of the stream was, by `time.perf_counter`.
    """

    def __init__(self, *, live: bool, step_s: float) -> None:
        self.stop = threading.Event()
        self.began_s = time.perf_counter()
        self._live = live
        self._step_s = step_s
        self._changed = threading.Condition()
        self._step: Step | None = None
        self._look: Look | None = None
        self._dropped = 0
        self._ended = False
        self._error: BaseException | None = None

    def check(self, time_s: float) -> None:
        """End the reading if nobody wants more."""
        if self.stop.is_set():
            raise Stopped

    def pace(self, time_s: float) -> None:
        """Wait until `time_s` seconds have passed since the start."""
        self.stop.wait(max(0.0, self.began_s + time_s - time.perf_counter()))
        self.check(time_s)

    def put(self, event: Look | Step) -> None:
        """Hand over a look, which may be missed since its step brings it again, or a step."""
        with self._changed:
            if isinstance(event, Look):
                self._look = event
            else:
                self._make_room()
                self._step = event
            self._changed.notify_all()

    def _make_room(self) -> None:
        while self._step is not None:
            left_s = self.began_s + self._step.time_s + self._step_s - time.perf_counter()
            if self._live and left_s <= 0:  # the source is as far as the next step, and this one is not begun
                self._dropped += 1
                return
            self._changed.wait(left_s if self._live else None)
            self.check(0.0)

    def take(self) -> tuple[Look | Step | None, int]:
        """Wait for a step, with how many were dropped before it, or for a look while there is no step; None at the end.

        Raises:
            VAError: The stream could not be read on; after its last step.
        """
        with self._changed:
            while self._step is None and self._look is None and not self._ended:
                self._changed.wait()
            if self._step is not None:
                step, dropped = self._step, self._dropped
                self._step, self._dropped = None, 0
                self._changed.notify_all()
                return step, dropped
            look, self._look = self._look, None
            if look is None and self._error is not None:
                raise self._error
            return look, 0

    def wake(self) -> None:
        """Let whoever waits look again."""
        with self._changed:
            self._changed.notify_all()

    @contextlib.contextmanager
    def closing(self) -> Iterator[None]:
        """Tell the one who answers when the block has ended, and how."""
        try:
            yield
        except Stopped:
            pass
        except BaseException as error:  # raised again by `take`, in the thread that can show it
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
