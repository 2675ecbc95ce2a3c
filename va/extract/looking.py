"""What a video is, found out in a process of its own: its clock, its size, whether it has sound.

Walking a file's packets and decoding a picture is enough for a hostile file to do harm, so it happens where stage one's
readers do it: limited in memory, ended when nothing moves.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, cast

import av
import numpy as np
from numpy.typing import NDArray

from va.data import media, showing
from va.errors import VAError
from va.extract import decode, process, reading
from va.extract.watch import Watch, confine

HINT: Final = "Give a video that a player plays; re-encode it if it does not play."


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a video is.

    Args:
        frame_time_s: float64 [frames], presentation time of every frame in seconds, ascending.
        duration_s: Its length in seconds.
        has_audio: Whether there is an audio stream.
        width: Of its pictures, upright, in pixels.
        height: Likewise.
        turned: Whether the file asks for its pictures to be turned or mirrored, as telephones do.
    """

    frame_time_s: NDArray[np.float64]
    duration_s: float
    has_audio: bool
    width: int
    height: int
    turned: bool


def look(path: Path, *, memory_gb: float, stall_s: float) -> Seen:
    """Look at a video.

    Args:
        path: The medium.
        memory_gb: Memory that decoding may take, in GB.
        stall_s: Seconds without progress after which a decoder counts as hung.

    Raises:
        VAError: It cannot be read as a video, or the process that read it died.
    """
    if path.is_dir():
        raise VAError(f"{path}: is a folder, not a video", "Name the videos in it one by one, or as FOLDER/*.mp4.")
    if not path.is_file():
        raise VAError(f"{path}: no such file", "Check the path of the video.")
    connection, child = process.start(_serve, path, memory_gb, stall_s)
    try:
        header, array = reading.receive(connection)
        if "failed" in header:
            raise VAError(str(header["failed"]), HINT)
        return _checked(header, array)
    except (EOFError, OSError):
        raise VAError(f"{path}: {process.obituary(child, stall_s=stall_s)}", HINT) from None
    except (KeyError, TypeError, ValueError) as error:
        raise VAError(f"{path}: its reader process sent {error}", HINT) from None
    finally:
        child.kill()
        child.join()
        connection.close()


def _checked(header: dict[str, Any], array: NDArray[Any] | None) -> Seen:
    """Take what the process says, which is not trusted.

    Raises:
        KeyError, TypeError, ValueError: It cannot be.
    """
    seen = Seen(
        frame_time_s=np.zeros(0) if array is None else array.reshape(-1).view(np.float64),
        duration_s=float(header["duration_s"]),
        has_audio=bool(header["has_audio"]),
        width=int(header["width"]),
        height=int(header["height"]),
        turned=bool(header["turned"]),
    )
    times = seen.frame_time_s
    if not len(times) or not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ValueError("times that cannot be")
    if not 0 < seen.duration_s <= media.LONGEST_S or min(seen.width, seen.height) < media.SMALLEST_SIDE:
        raise ValueError("a length or a size that cannot be")
    return seen


def _serve(connection: Connection, path: Path, memory_gb: float, stall_s: float) -> None:
    """Look and tell; the main function of the process."""
    watch = confine(memory_bytes=int(memory_gb * 1e9), stall_s=stall_s)
    watch.beat()
    times: NDArray[Any] | None = None
    try:
        info = media.probe(path, beat=watch.beat)
        width, height, turned = _first_picture(path, watch)
        times = info.frame_time_s.astype(np.float64).view(np.uint8)
        answer: dict[str, Any] = {"duration_s": info.duration_s, "has_audio": info.has_audio}
        answer |= {"width": width, "height": height, "turned": turned}
    except VAError as error:
        answer = {"failed": error.message}
    except MemoryError:
        answer = {"failed": f"{path}: decoding it takes more memory than --memory-gb allows"}
    except Exception as error:  # a defect of ours must cost one video, not all of them
        answer = {"failed": f"{path}: {type(error).__name__}: {error} (a defect of va; please report it)"}
    watch.pause()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        reading.send(connection, answer, times)


def _first_picture(path: Path, watch: Watch) -> tuple[int, int, bool]:
    for _, frame in showing.timed_pictures(path, threads=1, beat=watch.beat):
        height, width = decode.upright(
            frame.to_ndarray(format="rgb24", threads=1).astype(np.uint8, copy=False), frame
        ).shape[:2]
        return width, height, _is_turned(frame)
    raise VAError(f"{path}: has no video frame", HINT)


def _is_turned(frame: av.VideoFrame) -> bool:
    side_data = cast(Mapping[str, Any], frame.side_data)
    if "DISPLAYMATRIX" not in side_data:
        return False
    a, b, _, c, d = np.frombuffer(side_data["DISPLAYMATRIX"], np.int32)[:5].astype(np.int64).tolist()
    return bool(a < 0 or d < 0 or abs(a) + abs(d) < abs(b) + abs(c))  # `decode.upright`'s rule
