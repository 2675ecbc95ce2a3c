"""Looking at the containers of many media, in processes that a hostile file may take along.

As in `readers.py`, one thread per process hands it a path and takes what it says; a process that dies or hangs costs
its file and is replaced. Only packets are read, nothing is decoded but the first pictures of an AVI.
"""

import contextlib
import multiprocessing
import queue
import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np

from va import cores
from va.data import media
from va.data.media import MediaInfo
from va.errors import VAError
from va.extract import process, reading
from va.extract.watch import Watch, limit_memory

STALL_S: Final = 120.0
"""Seconds without progress after which a file is given up; shared disks are slow."""

_MEMORY_BYTES: Final = 2_000_000_000
_MOST: Final = 16
_HINT: Final = "Play the file in a video player; re-encode or remove it if it does not play."


def probe(
    paths: Sequence[Path], progress: Callable[[int, int], None], *, workers: int
) -> dict[Path, MediaInfo | VAError]:
    """Look at every medium; a `va.data.sources.Probe`.

    Args:
        paths: The media.
        progress: Called with (media done, media in all).
        workers: Processes; 0 takes one per core, up to 16.

    Returns:
        For each path what its container says, or why it cannot be read.
    """
    paths = list(dict.fromkeys(paths))
    count = max(1, min(workers or min(cores.count(), _MOST), len(paths)))
    left = iter(paths)
    turn = threading.Lock()
    answers: queue.Queue[tuple[Path, MediaInfo | VAError] | BaseException] = queue.Queue()
    stopping = threading.Event()

    def next_path() -> Path | None:
        with turn:
            return None if stopping.is_set() else next(left, None)

    def feed() -> None:
        prober: _Prober | None = None
        try:
            while (path := next_path()) is not None:
                prober = prober or _Prober()
                try:
                    answers.put((path, prober.look(path)))
                except _ProberError as error:
                    answers.put((path, VAError(f"{path}: {error}", _HINT)))
                    prober.close()
                    prober = None
        except BaseException as error:  # shown by whoever waits for answers
            answers.put(error)
        finally:
            if prober is not None:
                prober.close()

    threads = [threading.Thread(target=feed, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    found: dict[Path, MediaInfo | VAError] = {}
    try:
        progress(0, len(paths))
        while len(found) < len(paths):
            answer = answers.get()
            if isinstance(answer, BaseException):
                raise answer
            found[answer[0]] = answer[1]
            progress(len(found), len(paths))
    finally:
        stopping.set()
    for thread in threads:
        thread.join()
    return found


class _ProberError(Exception):
    """A process has died or talks nonsense; says why."""


class _Prober:
    """One process, seen from the parent."""

    def __init__(self) -> None:
        self._connection, self._process = process.start(_serve)

    def look(self, path: Path) -> MediaInfo | VAError:
        """Say what is in a medium, or why it cannot be read.

        Raises:
            _ProberError: The process has died, or sent something else.
        """
        try:
            reading.send(self._connection, {"media": str(path)})
            header, raw = reading.receive(self._connection)
        except (EOFError, OSError):
            raise _ProberError(process.obituary(self._process, stall_s=STALL_S).replace(" (--stall-s)", "")) from None
        except (KeyError, TypeError, ValueError, multiprocessing.ProcessError) as error:
            raise _ProberError(f"its process sent {error}") from None
        try:
            if "failed" in header:
                return VAError(str(header["failed"]), str(header["hint"]))
            return _info(header, raw)
        except (KeyError, TypeError, ValueError) as error:
            raise _ProberError(f"its process sent {error}") from None

    def close(self) -> None:
        """End the process and the pipe."""
        self._process.kill()
        self._process.join()
        self._connection.close()


def _info(header: dict[str, Any], raw: Any) -> MediaInfo:
    """Take what a process says apart; ValueError where it cannot be."""
    if raw is None or raw.dtype != np.uint8 or raw.ndim != 1 or len(raw) % 8:
        raise ValueError("no frame times")
    time_s, duration_s = raw.view(np.float64), float(header["duration_s"])
    if not (np.isfinite(time_s).all() and (np.diff(time_s) >= 0).all() and 0 < duration_s <= media.LONGEST_S):
        raise ValueError("frame times that are none")
    return MediaInfo(frame_time_s=time_s, duration_s=duration_s, has_audio=header["has_audio"] is True)


def _serve(connection: Connection) -> None:
    """Look at media until the parent closes the pipe; the main function of the process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # sent to a whole process group; the parent ends this process
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    limit_memory(_MEMORY_BYTES)
    watch = Watch(stall_s=STALL_S)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            path = Path(reading.receive(connection)[0]["media"])
            watch.beat()
            try:
                info = media.probe(path, beat=watch.beat)
            except VAError as error:
                answer: tuple[dict[str, Any], Any] = ({"failed": error.message, "hint": error.hint}, None)
            except MemoryError:
                answer = ({"failed": f"{path}: reading it takes too much memory", "hint": _HINT}, None)
            except OSError as error:
                answer = ({"failed": f"{path}: cannot be read ({error.strerror})", "hint": _HINT}, None)
            else:
                header = {"duration_s": info.duration_s, "has_audio": info.has_audio}
                answer = (header, np.ascontiguousarray(info.frame_time_s).view(np.uint8))
            watch.pause()
            reading.send(connection, *answer)
