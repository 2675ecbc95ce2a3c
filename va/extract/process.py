"""One reader process, seen from the parent, and the events that it gives rise to.

The process is not trusted: whatever it sends that does not fit fails its clip.
"""

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Final, TypeAlias

from numpy.typing import NDArray

from va.data.corpus import Clip
from va.data.features import Source
from va.errors import VAError
from va.extract import reading
from va.extract.config import ExtractConfig
from va.extract.reading import Front

Lacking: TypeAlias = Callable[[Clip, Source], tuple[str, ...]]
"""Which encoders lack a clip made from a source."""

_LONGEST_S: Final = 1e6
_MOST_ROWS: Final = 1 << 31
_ONE_THREAD: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_STARTING: Final = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A clip's clock is known; its inputs follow.

    Args:
        clip: The clip.
        source: Its medium.
        missing: Encoders that lack it.
        duration_s: Length in seconds.
    """

    clip: Clip
    source: Source
    missing: tuple[str, ...]
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Some model inputs of a clip for one encoder, in ascending order.

    Args:
        clip: The clip.
        encoder: Encoder name.
        rows: Cells (frames) or window numbers (audio), one per input.
        counts: Rows of spectrum per window; 0 for frames.
        inputs: uint8 or float32 [inputs, ...].
    """

    clip: Clip
    encoder: str
    rows: list[int]
    counts: list[int]
    inputs: NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """All inputs of a clip were sent; or, where it never began, it lacked nothing."""

    clip: Clip


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A clip cannot be read."""

    clip: Clip
    message: str


Event: TypeAlias = Begun | Inputs | Ended | Failed


class ReaderError(Exception):
    """A reader process has died or talks nonsense; says why."""


class Reader:
    """One reader process and the pipe to it.

    Args:
        config: The stage's settings.
        fronts: Of every encoder of the run.
        threads: Of its video decoder.
    """

    def __init__(self, config: ExtractConfig, fronts: list[Front], *, threads: int) -> None:
        self._stall_s = config.stall_s
        self._connection, self._process = start(reading.serve, config, fronts, threads)

    def read(self, clip: Clip, lacking: Lacking) -> Iterator[tuple[Event, dict[str, float]]]:
        """Yield a clip's events, each with the seconds that the process has been busy so far.

        Raises:
            ReaderError: The process has died, hung or sent something else.
        """
        self._send({"clip": clip.id, "media": str(clip.media)})
        source: Source | None = None
        missing: tuple[str, ...] = ()
        while True:
            header, array = self._receive()
            event: Event | None = None
            try:
                kind, busy = header["kind"], _seconds(header.get("busy", {}))
                if kind == "source":
                    source = Source(size=int(header["size"]), digest=str(header["digest"]))
                elif kind == "clip" and source is not None:
                    duration_s = float(header["duration_s"])
                    if not 0 < duration_s <= _LONGEST_S:
                        raise ValueError(f"a length of {duration_s} s")
                    event = Begun(clip=clip, source=source, missing=missing, duration_s=duration_s)
                elif kind == "inputs" and array is not None:
                    rows, counts, name = header["rows"], header["counts"], header["encoder"]
                    if not (len(rows) == len(counts) == len(array) and name in missing and _numbers([*rows, *counts])):
                        raise ValueError("inputs that were not asked for")
                    event = Inputs(clip=clip, encoder=name, rows=rows, counts=counts, inputs=array)
                elif kind == "failed":
                    event = Failed(clip=clip, message=str(header["message"]))
                elif kind == "end":
                    event = Ended(clip=clip)
                else:
                    raise ValueError(f"a message '{kind}'")
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise ReaderError(f"its reader process sent {error}") from None
            if kind == "source" and source is not None:
                missing = lacking(clip, source)
                self._send({"encoders": list(missing)})
            if event is not None:
                yield event, busy
            if isinstance(event, Ended | Failed):
                return

    def kill(self) -> None:
        """End the process; whoever reads from it gets a ReaderError. Safe to call twice, and from another thread."""
        self._process.kill()
        self._process.join()

    def close(self) -> None:
        """End the process and the pipe."""
        self.kill()
        self._connection.close()

    def _send(self, header: dict[str, Any]) -> None:
        try:
            reading.send(self._connection, header)
        except OSError:
            raise ReaderError(self._obituary()) from None

    def _receive(self) -> tuple[dict[str, Any], NDArray[Any] | None]:
        try:
            return reading.receive(self._connection)
        except (EOFError, OSError):
            raise ReaderError(self._obituary()) from None
        except (KeyError, TypeError, ValueError, OverflowError, MemoryError, multiprocessing.ProcessError) as error:
            raise ReaderError(f"its reader process sent {error}") from None

    def _obituary(self) -> str:
        return obituary(self._process, stall_s=self._stall_s)


def _seconds(busy: Any) -> dict[str, float]:
    if not (isinstance(busy, dict) and all(isinstance(seconds, int | float) for seconds in busy.values())):
        raise ValueError("no seconds of stages")
    return {str(name): float(seconds) for name, seconds in busy.items()}


def _numbers(rows: list[Any]) -> bool:
    return all(type(row) is int and 0 <= row < _MOST_ROWS for row in rows)


def start(target: Callable[..., None], *arguments: Any) -> tuple[Connection, Any]:
    """Start a process that may look at untrusted media.

    Args:
        target: A function at the top of a module; gets one end of a pipe, then `arguments`.
        arguments: Anything that pickle carries.

    Returns:
        The other end of the pipe, and the process; both are the caller's to close.

    Raises:
        VAError: The system starts none: a limit is reached, or the temporary folder's path is too long for a socket.
    """
    context = _context()
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    # Before signals are blocked: starting it lets them through again, to the server of forks that is started after it.
    resource_tracker.ensure_running()
    # Its libraries would start a thread per core, and multiprocessing would run the user's script again in it.
    with _STARTING, _environment(dict.fromkeys(_ONE_THREAD, "1")), _nameless_main(), _deaf_to_interrupts():
        try:
            process.start()
        except OSError as error:
            ours.close()
            theirs.close()
            raise VAError(
                f"no process can be started that would read media: {error.strerror or error}",
                f"Give TMPDIR, now {tempfile.gettempdir()}, a short path; check limits on processes and open files.",
            ) from None
    theirs.close()
    return ours, process


def obituary(process: Any, *, stall_s: float) -> str:
    """Say why a process that looked at media has ended."""
    process.join(10)
    code = process.exitcode
    if code == -signal.SIGALRM:
        return f"decoding made no progress for {stall_s:g} s (--stall-s)"
    if code == -signal.SIGKILL:
        return "decoding was killed, probably because memory ran out"
    if code is not None and code < 0:
        return f"the decoder crashed ({signal.Signals(-code).name})"
    return f"the reader process ended with exit code {code}"


@contextlib.contextmanager
def _nameless_main() -> Iterator[None]:
    """Hide where the main module came from, so that a script needs no `if __name__ == "__main__":`."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Start processes that a Ctrl-C does not reach: the parent decides what is finished, and no child complains."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _context() -> Any:
    """Give the start method: forkserver, whose children share libraries that are loaded once, else spawn."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([reading.__name__, "transformers.audio_utils"])  # the latter for log_mel's filters
    return context


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for what is started in the block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
