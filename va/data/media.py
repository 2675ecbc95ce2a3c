"""Opening media and reading their clocks.

Time 0 is the start of the container's presentation: a stream that starts late keeps its offset, so sound and
picture share one clock. Times come from the presentation timestamps that the file carries, never from a
nominal frame rate, which is wrong for variable-rate video.

AVI and ASF store when a picture is decoded. A decoder that reorders gives a picture out later than it was put in, and
that is when ASF's are shown. Writers of AVI cannot delay the sound by as much, so that AVI's pictures are shown earlier
by what the first of them was late: the i-th picture at the i-th time, beside its sound.

Media are untrusted: whatever is in a file, functions here return or raise VAError.
"""

import contextlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream
from numpy.typing import NDArray

from va.data.whole import require_whole
from va.errors import VAError

if TYPE_CHECKING:  # not subscriptable at run time
    from av.packet import Packet

SomeStream = TypeVar("SomeStream", bound=Stream)


class Bytes(Protocol):
    """What a medium can be read from: at most `size` bytes, at least one before the end."""

    def read(self, size: int, /) -> bytes:
        """Read on."""
        ...


SMALLEST_SIDE: Final = 16
"""Least width and height of a picture in pixels: one macroblock; nobody can be seen on less."""

LONGEST_S: Final = 24 * 3600.0
"""Longest clip in seconds. A file that claims more has a broken clock, and would become endless empty cells."""

_JUMP_BACK_S: Final = 2.0
"""Clocks that step back this far were reset: two recordings, one after the other, in one file."""

DECODE_TIMES_ONLY: Final = frozenset({"avi", "asf"})
SOUND_UNDELAYED: Final = "avi"
"""Formats, by FFmpeg's names, that store when a picture is decoded; and that whose sound was not delayed with it."""

_BROKEN = "Play the file in a video player; re-encode or remove it if it does not play."
_UNREADABLE = "Send Matroska or MPEG-TS, as ffmpeg does with -f matroska; an mp4 keeps what is needed first at its end."
_REMUX = "Re-encode the file, for example to mp4, and try again."


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
        VAError: The file is missing, FFmpeg cannot read or decode it, or memory does not suffice.
    """
    if not path.is_file():
        raise VAError(f"{path}: no such file", "Check the corpus folder; media may have been moved.")
    # Tags in another encoding than UTF-8 are common in old files and must not make them unreadable. The prefix and the
    # list of protocols keep names with colons, and playlists dressed as media, from reaching for other files.
    options = {"protocol_whitelist": "file"}
    with (
        _decoding(path, _BROKEN),
        av.open(f"file:{path}", mode="r", metadata_errors="replace", options=options) as container,
    ):
        yield container


@contextlib.contextmanager
def open_bytes(source: Bytes, *, name: str) -> Iterator[InputContainer]:
    """Open a medium that comes byte by byte and cannot be read twice, e.g. from a pipe; as `open_media` otherwise.

    Args:
        source: Where bytes come from.
        name: What errors call it.

    Raises:
        VAError: FFmpeg cannot read or decode it, or memory does not suffice.
    """
    # A playlist dressed as media must reach for nothing at all: there is no protocol of this name.
    options = {"protocol_whitelist": "none"}
    with (
        _decoding(name, _UNREADABLE),
        av.open(source, mode="r", metadata_errors="replace", options=options) as container,
    ):
        yield container


@contextlib.contextmanager
def _decoding(name: Path | str, hint: str) -> Iterator[None]:
    """Turn any decoder error inside into a VAError that names the medium."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise VAError(f"{name}: cannot be decoded ({error.strerror})", hint) from None
    except MemoryError:
        raise VAError(f"{name}: cannot be decoded (out of memory)", hint) from None


def origin_s(container: InputContainer) -> float:
    """Give the container's presentation start in seconds, which is time 0 of the clip."""
    return float(container.start_time or 0) / av.time_base


def picture_stream(container: InputContainer, path: Path | str) -> VideoStream:
    """Choose the stream of pictures: the first that is not the cover image of a sound file.

    Raises:
        VAError: There is none, FFmpeg knows no decoder for it, or its pictures are smaller than `SMALLEST_SIDE`.
    """
    for stream in container.streams.video:
        if not stream.disposition & Disposition.attached_pic:
            break
    else:
        raise VAError(f"{path}: has no video stream", "Give a file with pictures and, optionally, sound.")
    if stream.codec_context is None:
        raise VAError(f"{path}: its pictures are in a format that cannot be decoded", _REMUX)
    require_size(stream.codec_context.width, stream.codec_context.height, path)
    return stream


def require_size(width: int, height: int, path: Path | str) -> None:
    """Refuse pictures with a side below `SMALLEST_SIDE` pixels.

    Raises:
        VAError: They are.
    """
    if min(width, height) < SMALLEST_SIDE:
        raise VAError(
            f"{path}: its pictures are too small ({width} x {height} pixels)",
            f"Give a video of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} pixels.",
        )


def sound_stream(container: InputContainer, path: Path | str) -> AudioStream | None:
    """Choose the stream of sound: the first that FFmpeg has a decoder for; None for a medium without sound.

    Raises:
        VAError: There is sound, but in formats without a decoder only.
    """
    streams = container.streams.audio
    for stream in streams:
        if stream.codec_context is not None:
            return stream
    if streams:
        raise VAError(f"{path}: its sound is in a format that cannot be decoded", _REMUX)
    return None


def packets(
    container: InputContainer, *streams: SomeStream, beat: Callable[[], None]
) -> "Iterator[Packet[SomeStream]]":
    """Read streams' packets, then the empty ones that make decoders give out what they hold back."""
    demuxed = cast("Iterator[Packet[SomeStream]]", container.demux(*streams))
    while True:
        beat()
        try:
            packet = next(demuxed)
        except (StopIteration, IndexError):
            # PyAV stumbles, once all is read, over streams that come up after the start of a broadcast.
            return
        yield packet


def probe(path: Path, *, beat: Callable[[], None] = lambda: None) -> MediaInfo:
    """Read a medium's frame times by walking its packets, in 8 bytes a frame while it reads.

    Args:
        path: The medium.
        beat: Called for every packet.

    Raises:
        VAError: Unreadable, cut off, no video stream or frame, frames without times, pictures or sound without a
            decoder, pictures smaller than `SMALLEST_SIDE`, longer than `LONGEST_S`, or a clock that jumps back.
    """
    with open_media(path) as container:
        stream = picture_stream(container, path)
        has_audio = sound_stream(container, path) is not None
        kind = container.format.name
        by_turn = kind in DECODE_TIMES_ONLY
        origin, base = origin_s(container), float(stream.time_base or 0)
        ticks, last_ticks = _packet_times(container, stream, path, by_turn=by_turn, beat=beat)
        require_whole(container, path, beat=beat)
    if by_turn:
        delayed = kind != SOUND_UNDELAYED
        ticks = _by_turn(ticks, turns=_turns_ahead(path, beat), step=last_ticks or 1, delayed=delayed)
    seconds = np.sort(ticks * base - origin)
    last_s = last_ticks * base
    if last_s <= 0 and len(seconds) > 1:
        last_s = float(np.median(np.diff(seconds)))
    # A single still picture without a duration has no end of its own; it is shown for a moment.
    duration_s = float(seconds[-1]) + (last_s if last_s > 0 else 0.04)
    if not 0 < duration_s <= LONGEST_S:
        raise VAError(f"{path}: claims a length of {duration_s:.6g} s, which is not between 0 and 24 hours", _REMUX)
    return MediaInfo(frame_time_s=seconds, duration_s=duration_s, has_audio=has_audio)


def _packet_times(
    container: InputContainer, stream: VideoStream, path: Path, *, by_turn: bool, beat: Callable[[], None]
) -> tuple[NDArray[np.int64], int]:
    """Collect the time of every packet in its stream's unit, and the last one's duration."""
    times, latest, duration = array("q"), None, 0
    jump_back = _JUMP_BACK_S / float(stream.time_base or 1)
    for packet in packets(container, stream, beat=beat):
        if not packet.size or packet.is_discard:
            continue
        if packet.dts is not None:
            if latest is not None and packet.dts < latest - jump_back:
                raise VAError(f"{path}: its clock jumps back, as if it were several recordings in one file", _REMUX)
            latest = packet.dts
        time = packet.dts if by_turn else packet.pts
        if time is None:
            raise timeless(path)
        times.append(time)
        duration = packet.duration or 0
    if not times:
        raise VAError(f"{path}: has no video frame", _BROKEN)
    return np.array(times), duration


def timeless(name: Path | str) -> VAError:
    """Give the error for a medium that does not say when its pictures are shown."""
    return VAError(f"{name}: some frames have no timestamp", _REMUX)


def _by_turn(ticks: NDArray[np.int64], *, turns: int, step: int, delayed: bool) -> NDArray[np.int64]:
    """Turn times of decoding into times of showing, as `showing.py` does, for a decoder `turns` packets behind."""
    turns = min(turns, len(ticks) - 1)
    shown = np.concatenate([ticks[turns:], ticks[-1] + step * np.arange(1, turns + 1)])
    return shown if delayed else shown - (shown[0] - ticks[0])


def _turns_ahead(path: Path, beat: Callable[[], None]) -> int:
    """Count the packets that the decoder takes before it gives out the picture of the first."""
    with open_media(path) as container:
        stream = picture_stream(container, path)
        stream.codec_context.thread_count = 1
        for turn, packet in enumerate(packets(container, stream, beat=beat)):
            if packet.decode():
                return turn
    return 0
