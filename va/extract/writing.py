"""The thread that writes: rows of many clips in flight, each clip committed alone when its last row is there."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from va.data.corpus import Clip
from va.data.features import ClipWriter, FeatureStore
from va.errors import VAError

_QUEUED: Final = 32


@dataclass(eq=False, kw_only=True)
class Work:
    """A clip in flight.

    Args:
        clip: The clip.
        writers: Encoder name -> its file.
        expected: Cells or windows, per encoder.

    Attributes:
        last: Row that was sent last, per encoder.
        sent: Inputs handed to batches, per encoder.
        delivered: Of those, values handed to the writer.
        ended: Whether all inputs were sent.
        problem: Why it failed, or None.
    """

    clip: Clip
    writers: dict[str, ClipWriter]
    expected: dict[str, int]
    last: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    delivered: dict[str, int] = field(default_factory=dict)
    ended: bool = False
    problem: str | None = None

    def share(self) -> float:
        """Say how much of it is done, 0 to 1."""
        return sum(self.delivered.values()) / max(1, sum(self.expected.values()))


class Writer:
    """Writes in one thread, in the order of calls; a context manager that waits for what was asked for.

    Args:
        stores: Encoder name -> store.
        shard_bytes: Loose clips are packed when they are this many bytes.

    Attributes:
        busy_s: Seconds spent writing so far.
    """

    def __init__(self, stores: dict[str, FeatureStore], *, shard_bytes: int) -> None:
        self.busy_s = 0.0
        self._stores = stores
        self._shard_bytes = shard_bytes
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(_QUEUED)
        self._done: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Writer":
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Wait until everything that was asked for is written."""
        self._jobs.put(None)
        self._thread.join()

    def rows(
        self, work: Work, encoder: str, rows: list[int], values: NDArray[np.float16], valid: NDArray[np.bool_]
    ) -> None:
        """Append rows to a clip's file, ascending; those skipped over are not valid."""
        self._jobs.put(partial(self._append, work, encoder, rows, values, valid))

    def finish(self, work: Work) -> None:
        """Commit a clip's files, or leave nothing of it when it has failed."""
        self._jobs.put(partial(self._finish, work))

    def finished(self) -> Iterator[Work]:
        """Yield the clips that were finished since the last call.

        Raises:
            BaseException: What has stopped the thread, e.g. a full disk.
        """
        if self._error is not None:
            raise self._error
        while not self._done.empty():
            yield self._done.get()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            started = time.perf_counter()
            try:
                if self._error is None:
                    job()
            except BaseException as error:  # raised again by `finished`, in the thread that can act on it
                self._error = error
            self.busy_s += time.perf_counter() - started

    def _append(
        self, work: Work, encoder: str, rows: list[int], values: NDArray[np.float16], valid: NDArray[np.bool_]
    ) -> None:
        if work.problem is not None:
            return
        gaps = np.flatnonzero(np.diff(rows) != 1) + 1
        for part in np.split(np.arange(len(rows)), gaps):
            work.writers[encoder].append(rows[part[0]], values[part], valid[part])

    def _finish(self, work: Work) -> None:
        try:
            for encoder, writer in work.writers.items():
                if work.problem is None:
                    writer.commit()
                    self._stores[encoder].pack(at_least=self._shard_bytes)
        except VAError as error:
            if isinstance(error.__cause__, OSError):  # the store's disk, not the clip: all others would fail too
                raise
            work.problem = error.message
        finally:
            for writer in work.writers.values():
                writer.abandon()
        self._done.put(work)
