"""A video for the player's page: the file itself where browsers play it, else a small copy (`transcode.py`).

Media are untrusted, so a child process looks at them and converts them, limited in memory and time, as stage one's
readers are (`va/extract/reading.py`). It says by JSON messages how far it is.
"""

import json
import math
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import av

from va import bounded
from va.errors import VAError
from va.evaluate.media import transcode
from va.extract import process
from va.extract.watch import confine

_MEMORY_BYTES: Final = 2_000_000_000
_STALL_S: Final = 60.0
_LIMIT_S: Final = 300.0
_LIMIT_PER_S: Final = 10.0
"""A conversion may take five minutes and ten times the video's length; decoding without progress, a minute."""

_TOO_LONG: Final = "it is too long to be put into a page (--video link refers to it instead)"
_HINT: Final = "Play the file in a video player; re-encode it if it does not play."


def playable(
    source: Path,
    copy: Path,
    *,
    duration_s: float,
    largest: float,
    bits_per_s: float | None,
    progress: Callable[[int, int, str], None],
) -> tuple[Path, str]:
    """Give a file that browsers play, made in a child process where need be.

    Args:
        source: The medium.
        copy: Where to write a copy if it takes one; the caller removes what an error leaves there.
        duration_s: Length in seconds.
        largest: Bytes up to which the source may stand for itself.
        bits_per_s: Most that a copy's pictures may take; None where that would be too few, so that none is made.
        progress: Called with seconds done, seconds in all, and what is being done.

    Returns:
        `source` or `copy`, and its MIME type.

    Raises:
        VAError: The medium cannot be decoded, it takes a copy and none is to be made, or the copy not be written, or
            the child process died or took too long.
    """
    ours, child = process.start(_serve, source, copy, duration_s, largest, bits_per_s)
    try:
        mime, as_it_is = _listen(ours, child, source, duration_s, progress)
    finally:
        child.kill()
        child.join()
        ours.close()
    return (source if as_it_is else copy), mime


def _listen(
    connection: Connection, child: Any, source: Path, duration_s: float, progress: Callable[[int, int, str], None]
) -> tuple[str, bool]:
    """Follow the child process to its last message: the MIME type, and whether the source stands for itself."""
    limit_s = _LIMIT_S + _LIMIT_PER_S * duration_s
    end = time.monotonic() + limit_s
    total = math.ceil(duration_s)
    while connection.poll(max(0.0, end - time.monotonic())):
        try:
            message = bounded.parse_json(connection.recv_bytes(1 << 16))
            done_s, mime = int(message.get("done_s", 0)), message.get("mime")
        except (EOFError, OSError, ValueError, TypeError, AttributeError):
            child.join(10)
            raise VAError(f"{source}: cannot be converted ({_obituary(child.exitcode)})", _HINT) from None
        if "failed" in message:
            raise VAError(str(message["failed"]), _HINT)
        progress(total if mime else min(done_s, total), total, "video")
        if mime in transcode.PLAYED:
            return str(mime), message.get("as_it_is") is True
    raise VAError(f"{source}: cannot be converted within {limit_s:.0f} s", _HINT)


def _obituary(code: int | None) -> str:
    if code == -signal.SIGALRM:
        return f"decoding made no progress for {_STALL_S:g} s"
    if code is not None and code < 0:
        return f"the decoder crashed or was killed ({signal.Signals(-code).name})"
    return f"its process ended with exit code {code}"


def _serve(
    connection: Connection, source: Path, copy: Path, duration_s: float, largest: float, bits_per_s: float | None
) -> None:
    """Look at a medium and convert it if need be; the main function of the child process."""
    watch = confine(memory_bytes=_MEMORY_BYTES, stall_s=_STALL_S)

    def tell(**message: object) -> None:
        connection.send_bytes(json.dumps(message).encode())

    try:
        watch.beat()
        mime = transcode.browser_type(source)
        if mime is None or source.stat().st_size > largest:
            mime = None
            if bits_per_s is None:
                raise VAError(_TOO_LONG, "Use --video link.")
            transcode.convert(
                source,
                copy,
                duration_s=duration_s,
                bits_per_s=bits_per_s,
                beat=watch.beat,
                reached=lambda done_s: tell(done_s=done_s),
            )
        tell(mime=mime or "video/mp4", as_it_is=mime is not None)
    except BrokenPipeError:
        return  # the parent is gone
    except VAError as error:
        tell(failed=error.message)
    except MemoryError:
        tell(failed=f"{source}: converting it takes more than {_MEMORY_BYTES / 1e9:g} GB of memory")
    except (OSError, av.error.FFmpegError) as error:  # those of reading are VAErrors
        tell(failed=f"{copy.name}: cannot be written ({error.strerror or error})")
    except Exception as error:  # a defect of ours must cost a page its video, not the page
        tell(failed=f"{source}: {type(error).__name__}: {error} (a defect of va; please report it)")
    watch.pause()
