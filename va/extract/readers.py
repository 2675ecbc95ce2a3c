"""Reader processes, seen from the parent: starting, feeding, bounding and replacing them.

One thread per process hands it clips and passes what it sends into one bounded queue, so that a slow encoder stops
the readers and memory stays the same however long the corpus is. A process that dies costs its clip and is replaced.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from va import cores
from va.data.corpus import Clip
from va.extract.config import ExtractConfig
from va.extract.process import Event, Failed, Lacking, Reader, ReaderError
from va.extract.reading import Front

_MOST: Final = 16
_QUEUED_PER_READER: Final = 2


def count(config: ExtractConfig, clips: int) -> int:
    """Say how many readers a run uses: no more than clips, by default one per core up to 16."""
    return max(1, min(config.readers or min(cores.count(), _MOST), clips))


class Readers:
    """Reads clips in several processes; a context manager.

    Args:
        config: The stage's settings.
        fronts: Of every encoder of the run.
        clips: What to read; clips are begun in this order.
        lacking: Called in other threads: which encoders lack a clip made from a source; none is "nothing to do".
        stopping: Asked before each clip; True begins no more.

    Attributes:
        count: Number of processes.
    """

    def __init__(
        self,
        config: ExtractConfig,
        *,
        fronts: Sequence[Front],
        clips: Sequence[Clip],
        lacking: Lacking,
        stopping: Callable[[], bool],
    ) -> None:
        self.count = count(config, len(clips))
        self._config = config
        self._fronts = list(fronts)
        self._lacking = lacking
        self._stopping = stopping
        self._clips = iter(clips)
        self._turn = threading.Lock()
        self._queue: queue.Queue[Event | BaseException | None] = queue.Queue(_QUEUED_PER_READER * self.count)
        self._processes: list[Reader] = []
        self._closing = False
        self._busy = [dict[str, float]() for _ in range(self.count)]
        self._threads = [threading.Thread(target=self._feed, args=(slot,), daemon=True) for slot in range(self.count)]

    def __enter__(self) -> "Readers":
        """Start reading."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes, whatever they are doing."""
        self._closing = True
        while any(thread.is_alive() for thread in self._threads):
            for reader in list(self._processes):
                reader.kill()
            with contextlib.suppress(queue.Empty):
                while True:
                    self._queue.get(timeout=0.05)  # a thread may be waiting to put

    def events(self) -> Iterator[Event]:
        """Yield what readers send, until every clip has ended or failed.

        Raises:
            BaseException: Whatever a thread of this class has raised.
        """
        going = self.count
        while going:
            event = self._queue.get()
            if event is None:
                going -= 1
            elif isinstance(event, BaseException):
                raise event
            else:
                yield event

    def busy(self) -> dict[str, float]:
        """Give the seconds that all readers together have spent on each stage so far."""
        total: dict[str, float] = {}
        for one in self._busy:
            for stage, seconds in list(one.items()):
                total[stage] = total.get(stage, 0.0) + seconds
        return total

    def _feed(self, slot: int) -> None:
        reader: Reader | None = None
        earlier: dict[str, float] = {}  # of processes that this one replaces
        try:
            while (clip := self._next()) is not None:
                if reader is None:
                    reader = Reader(self._config, self._fronts, threads=max(1, cores.count() // self.count))
                    self._processes.append(reader)
                    earlier = dict(self._busy[slot])
                try:
                    for event, busy in reader.read(clip, self._lacking):
                        self._busy[slot] = {
                            name: busy.get(name, 0.0) + earlier.get(name, 0.0) for name in earlier | busy
                        }
                        self._queue.put(event)
                except ReaderError as error:
                    self._queue.put(Failed(clip=clip, message=f"{clip.media}: {error}"))
                    reader.close()
                    reader = None
        except BaseException as error:  # shown by whoever waits for events
            self._queue.put(error)
        finally:
            if reader is not None:
                reader.close()
            self._queue.put(None)

    def _next(self) -> Clip | None:
        with self._turn:
            return None if self._closing or self._stopping() else next(self._clips, None)
