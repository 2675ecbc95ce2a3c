"""Many media, each looked at by one of several processes that a hostile file may take along.

A process is asked about one medium at a time. One that dies, hangs or talks nonsense costs its medium and is replaced.
"""

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias, TypeVar

from numpy.typing import NDArray

from va.extract import process
from va.extract.reading import receive, send

Answer = TypeVar("Answer")
Understand: TypeAlias = Callable[[dict[str, Any], NDArray[Any] | None], Answer]
"""Takes what a process sent apart without trusting it; KeyError, TypeError or ValueError where it is no answer."""


def ask_all(
    questions: Sequence[Mapping[str, Any]],
    *,
    serve: Callable[..., None],
    arguments: tuple[Any, ...],
    processes: int,
    stall_s: float,
    understand: Understand[Answer],
    progress: Callable[[int, int, str], None],
) -> list[Answer | str]:
    """Ask several processes, each about one medium at a time.

    Args:
        questions: What is sent; `media` is the medium's path.
        serve: What a process does, at the top of a module: it gets its end of a pipe, then `arguments`, and answers
            one question after the other until the pipe closes.
        arguments: Anything that pickle carries.
        processes: How many at the most, 1 or more; each is started when it is first needed.
        stall_s: Seconds without progress after which a process ends itself, for the words about it.
        understand: Says what was sent.
        progress: Called with (media done, media in all, name of the last).

    Returns:
        For each question in turn the answer, or why there is none.
    """
    count = max(1, min(processes, len(questions)))
    pool = _Pool(serve, arguments, count=count, stall_s=stall_s)
    threads = ThreadPoolExecutor(count)
    progress(0, len(questions), "")
    try:
        asked = {threads.submit(pool.ask, one, understand): place for place, one in enumerate(questions)}
        found: dict[int, Answer | str] = {}
        for future in as_completed(asked):
            found[asked[future]] = future.result()
            progress(len(found), len(questions), Path(questions[asked[future]]["media"]).name)
        return [found[place] for place in range(len(questions))]
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        pool.kill()
        threads.shutdown(wait=True)
        pool.close()


class _Pool:
    """Processes that wait for something to look at."""

    def __init__(self, serve: Callable[..., None], arguments: tuple[Any, ...], *, count: int, stall_s: float) -> None:
        self._serve, self._arguments, self._stall_s = serve, arguments, stall_s
        self._closing = False
        self._all: list[tuple[Any, Any]] = []
        self._idle: SimpleQueue[tuple[Any, Any] | None] = SimpleQueue()
        for _ in range(count):
            self._idle.put(None)  # started when first needed

    def ask(self, question: Mapping[str, Any], understand: Understand[Answer]) -> Answer | str:
        """Ask an idle process, in the calling thread."""
        looker = self._idle.get()
        try:
            if looker is None:
                looker = process.start(self._serve, *self._arguments)
                self._all.append(looker)
                if self._closing:
                    looker[1].kill()
            connection, running = looker
            try:
                send(connection, dict(question))
                return understand(*receive(connection))
            except (EOFError, OSError):
                said = process.obituary(running, stall_s=self._stall_s)
            except (KeyError, TypeError, ValueError, OverflowError, MemoryError, multiprocessing.ProcessError) as error:
                said = f"its process sent {error}"
            _end(looker)
            looker = None
            return said
        finally:
            self._idle.put(looker)

    def kill(self) -> None:
        """End all processes, whatever they are doing."""
        self._closing = True
        for _, running in self._all:
            running.kill()

    def close(self) -> None:
        """Close what is left of them, once no thread uses them."""
        for looker in self._all:
            _end(looker)


def _end(looker: tuple[Any, Any]) -> None:
    connection, running = looker
    running.kill()
    running.join()
    connection.close()
