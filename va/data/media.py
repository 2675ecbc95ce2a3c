"""Opening media and reading their clocks, without decoding pictures.

Time 0 is the start of the container's presentation: a stream that starts late keeps its offset, so sound and
picture share one clock. Times come from the presentation timestamps that the file carries, never from a
nominal frame rate, which is wrong for variable-rate video.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from va.errors import VAError

_BROKEN = "Play the file in a video player; re-encode or remove it if it does not play."


@dataclass(frozen=True, kw_only=True)
class MediaInfo:
    """What a medium's container says.

    Args:
        frame_time_s: float64 [frames], presentation time of every video frame in seconds, ascending.
        duration_s: End of the last video frame in seconds; also of a clip's audio grid, since both share windows.
        has_audio: Whether there is an audio stream.
    """

    frame_time_s: NDArray[np.float64]
    duration_s: float
    has_audio: bool


@contextlib.contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """Open a medium for reading; any decoder error inside becomes a VAError that names the file.

    Raises:
        VAError: The file is missing, or FFmpeg cannot read or decode it.
    """
    if not path.is_file():
        raise VAError(f"{path}: no such file", "Check the corpus folder; media may have been moved.")
    try:
        # Tags in another encoding than UTF-8 are common in old files and must not make them unreadable.
        with av.open(str(path), mode="r", metadata_errors="replace") as container:
            yield container
    except av.error.FFmpegError as error:
        raise VAError(f"{path}: cannot be decoded ({error.strerror})", _BROKEN) from None


def origin_s(container: InputContainer) -> float:
    """Give the container's presentation start in seconds, which is time 0 of the clip."""
    return float(container.start_time or 0) / av.time_base


def probe(path: Path) -> MediaInfo:
    """Read a medium's frame times by walking its packets; pictures are decoded only if packets carry no times.

    Raises:
        VAError: Unreadable, cut off, no video stream, or no video frame.
    """
    with open_media(path) as container:
        if not container.streams.video:
            raise VAError(f"{path}: has no video stream", "Give a file with pictures and, optionally, sound.")
        _require_whole(container, path)
        stream = container.streams.video[0]
        origin = origin_s(container)
        base = float(stream.time_base or 0)
        has_audio = bool(container.streams.audio)
        packets = [packet for packet in container.demux(stream) if packet.size and not packet.is_discard]
        times = [packet.pts for packet in packets]
        last_s = max((packet.duration or 0 for packet in packets[-1:]), default=0) * base
    if None in times:
        seconds = np.sort(_decoded_times(path)) - origin
    else:
        seconds = np.sort(np.array(times, dtype=np.float64) * base - origin)
    if not len(seconds):
        raise VAError(f"{path}: has no video frame", _BROKEN)
    if last_s <= 0 and len(seconds) > 1:
        last_s = float(np.median(np.diff(seconds)))
    # A single still picture without a duration has no end of its own; it is shown for a moment.
    duration_s = float(seconds[-1]) + (last_s if last_s > 0 else 0.04)
    return MediaInfo(frame_time_s=seconds, duration_s=duration_s, has_audio=has_audio)


def _require_whole(container: InputContainer, path: Path) -> None:
    """Refuse a file that ends before its own index does: FFmpeg would read it as a shorter clip without a word."""
    ends = (entry.pos + entry.size for stream in container.streams for entry in stream.index_entries)
    missing = max(ends, default=0) - path.stat().st_size
    if missing > 0:
        raise VAError(f"{path}: is cut off, {missing} bytes are missing", "Copy or download the file again.")


def _decoded_times(path: Path) -> NDArray[np.float64]:
    """Decode to get times that the container leaves out (some MPEG program streams and AVI files)."""
    with open_media(path) as container:
        times = [frame.time for frame in container.decode(video=0)]
    if None in times:
        raise VAError(f"{path}: some frames have no timestamp", "Remux the file into mp4 and try again.")
    return np.array(times, dtype=np.float64)
