"""Looking at the containers of many media, in processes that a hostile file may take along.

Only packets are read, nothing is decoded but the first pictures of an AVI.
"""

import contextlib
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from va import cores
from va.data import media
from va.data.media import MediaInfo
from va.errors import VAError
from va.extract import asking, reading
from va.extract.watch import confine

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
    answers = asking.ask_all(
        [{"media": str(path)} for path in paths],
        serve=_serve,
        arguments=(),
        processes=workers or min(cores.count(), _MOST),
        stall_s=STALL_S,
        understand=_understand,
        progress=lambda done, total, _: progress(done, total),
    )
    return {
        # No command that probes has an option for the time.
        path: VAError(f"{path}: {answer.replace(' (--stall-s)', '')}", _HINT) if isinstance(answer, str) else answer
        for path, answer in zip(paths, answers, strict=True)
    }


def _understand(header: dict[str, Any], raw: NDArray[Any] | None) -> MediaInfo | VAError:
    """Take what a process says apart; KeyError, TypeError or ValueError where it cannot be."""
    if "failed" in header:
        return VAError(str(header["failed"]), str(header["hint"]))
    if raw is None or raw.dtype != np.uint8 or raw.ndim != 1 or len(raw) % 8:
        raise ValueError("no frame times")
    time_s, duration_s = raw.view(np.float64), float(header["duration_s"])
    if not (np.isfinite(time_s).all() and (np.diff(time_s) >= 0).all() and 0 < duration_s <= media.LONGEST_S):
        raise ValueError("frame times that are none")
    return MediaInfo(frame_time_s=time_s, duration_s=duration_s, has_audio=header["has_audio"] is True)


def _serve(connection: Connection) -> None:
    """Look at media until the parent closes the pipe; the main function of the process."""
    watch = confine(memory_bytes=_MEMORY_BYTES, stall_s=STALL_S)
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
