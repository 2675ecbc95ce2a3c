"""Checking processes, seen from the parent: each looks at one medium at a time, and is replaced when it dies."""

import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, cast

from va.data.findings import SEVERITIES, Severity
from va.extract import process
from va.extract.checking import opening
from va.extract.reading import receive, send

_MOST_PROBLEMS: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one medium is asked.

    Args:
        media: Its path.
        crops: The clip's folder of crops; None for no crops.
        hash: Whether its content is compared with another's.
    """

    media: Path
    crops: Path | None
    hash: bool


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a checking process said of a medium.

    Args:
        frames: Number of pictures; None where it could not be opened.
        duration_s: Length in seconds, likewise.
        digest: BLAKE2b-128 of its bytes, where it was asked for.
        problems: Severity, kind, file, what, do.
    """

    frames: int | None
    duration_s: float | None
    digest: str | None
    problems: tuple[tuple[Severity, str, str, str, str], ...]


def look_at(
    looks: Sequence[Look],
    *,
    processes: int,
    stall_s: float,
    memory_gb: float,
    deep: bool,
    progress: Callable[[int, int, str], None],
) -> list[Seen]:
    """Look at media in several processes.

    Args:
        looks: What to look at.
        processes: How many, 1 or more.
        stall_s: Seconds without progress after which a decoder counts as hung.
        memory_gb: Memory that one medium may take, in GB.
        deep: Decode everything.
        progress: Called with (media done, media in all, name of the last).

    Returns:
        For each look in turn what was seen; a medium that ends its process says so.
    """
    processes = max(1, min(processes, len(looks)))
    pool = _Pool(processes, stall_s=stall_s, memory_gb=memory_gb, deep=deep)
    threads = ThreadPoolExecutor(processes)
    progress(0, len(looks), "")
    try:
        futures: dict[Future[Seen], Look] = {threads.submit(pool.look, one): one for one in looks}
        left = set(futures)
        while left:
            done, left = wait(left, return_when=FIRST_COMPLETED)
            last = futures[next(iter(done))].media.name
            progress(len(looks) - len(left), len(looks), last)
        return [future.result() for future in futures]
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
        pool.kill()
        threads.shutdown(wait=True)
        pool.close()


class _Pool:
    """Processes that wait for something to look at."""

    def __init__(self, count: int, *, stall_s: float, memory_gb: float, deep: bool) -> None:
        self._arguments = (stall_s, memory_gb, deep)
        self._stall_s = stall_s
        self._closing = False
        self._all: list[tuple[Any, Any]] = []
        self._idle: SimpleQueue[tuple[Any, Any] | None] = SimpleQueue()
        for _ in range(count):
            self._idle.put(None)  # started when first needed

    def look(self, one: Look) -> Seen:
        """Ask an idle process, in the calling thread."""
        looker = self._idle.get()
        try:
            if looker is None:
                looker = process.start(opening.serve, *self._arguments)
                self._all.append(looker)
                if self._closing:
                    looker[1].kill()
            connection, running = looker
            try:
                send(
                    connection,
                    {"media": str(one.media), "hash": one.hash, "crops": str(one.crops) if one.crops else None},
                )
                return _seen(receive(connection)[0])
            except (EOFError, OSError):
                said = process.obituary(running, stall_s=self._stall_s)
            except (KeyError, TypeError, ValueError, multiprocessing.ProcessError, json.JSONDecodeError) as error:
                said = f"its checking process sent {error}"
            _end(looker)
            looker = None
            do = "Play the file in a video player; re-encode it, or leave the clip out."
            problem: tuple[Severity, str, str, str, str] = ("error", "medium-unreadable", str(one.media), said, do)
            return Seen(frames=None, duration_s=None, digest=None, problems=(problem,))
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


def _seen(answer: dict[str, Any]) -> Seen:
    """Take an answer apart without trusting it.

    Raises:
        KeyError, TypeError, ValueError: It is no answer.
    """
    frames, duration_s, digest = answer["frames"], answer["duration_s"], answer["digest"]
    problems = [tuple(map(str, row)) for row in answer["problems"][:_MOST_PROBLEMS]]
    if any(len(row) != 5 or row[0] not in SEVERITIES for row in problems):
        raise ValueError("problems of another form")
    return Seen(
        frames=None if frames is None else int(frames),
        duration_s=None if duration_s is None else float(duration_s),
        digest=None if digest is None else str(digest),
        problems=cast("tuple[tuple[Severity, str, str, str, str], ...]", tuple(problems)),
    )
