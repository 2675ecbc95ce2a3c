"""Which media browsers play as they are, and small H.264 and AAC copies of the others.

Browsers know a few formats only, and disagree about clocks that do not start at 0, mirrored pictures and more; what is
not plain is converted. Times in a copy are seconds on va's clock (`va/data/media.py`), whatever the source's were: its
pictures start at 0, black until the first one comes, and each stays as long as in the source; its sound is what va
hears, mono at 16 kHz, silence included.

Runs in the child process of `preview.py`, since media are untrusted.
"""

import heapq
import itertools
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, TypeAlias

import av
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from numpy.typing import NDArray

from va.data import media, showing
from va.errors import VAError
from va.extract import decode

LONGEST_SIDE: Final = 640
"""Of a converted picture, in pixels."""

_TICKS_PER_S: Final = 90_000
_AT_ONCE_S: Final = 0.001
"""A first picture this early is on screen from the start; later ones have black before them."""

SOUND_BITS_PER_S: Final = 48_000

_MP4_BRANDS: Final = frozenset({"isom", "iso2", "iso4", "iso5", "iso6", "mp41", "mp42", "avc1", "M4V "})
PLAYED: Final = {
    "video/mp4": ({"h264"}, {"aac", "mp3"}),
    "video/webm": ({"vp8", "vp9", "av1"}, {"opus", "vorbis"}),
}
"""What browsers play: codecs of pictures and of sound by MIME type."""


def browser_type(path: Path) -> str | None:
    """Say as what MIME type browsers play a medium on va's clock and upright; None when it should be converted.

    Args:
        path: The medium.

    Raises:
        VAError: It cannot be decoded.
    """
    with media.open_media(path) as container:
        stream = media.picture_stream(container, path)
        sound = media.sound_stream(container, path)
        with path.open("rb") as file:
            start = file.read(64)
        if container.format.name.startswith("mov") and container.metadata.get("major_brand") in _MP4_BRANDS:
            mime = "video/mp4"
        elif container.format.name.startswith("matroska") and b"webm" in start:
            mime = "video/webm"
        else:
            return None
        video_codecs, audio_codecs = PLAYED[mime]
        # Browsers choose among several streams in their own ways, and differ over streams whose clock starts elsewhere.
        single = len(container.streams.video) == 1 and len(container.streams.audio) <= 1
        origin_s = media.origin_s(container)
        first_s = float((stream.start_time or 0) * (stream.time_base or 0))
        known = container.duration is not None and abs(origin_s) < _AT_ONCE_S and abs(first_s) < _AT_ONCE_S
        seen = stream.codec_context.codec.canonical_name in video_codecs
        seen = seen and stream.codec_context.pix_fmt in ("yuv420p", "yuvj420p")
        heard = sound is None or sound.codec_context.codec.canonical_name in audio_codecs
        if not (single and known and seen and heard):
            return None
        for frame in container.decode(stream):
            return None if "DISPLAYMATRIX" in frame.side_data else mime
    return None


def convert(
    source: Path,
    copy: Path,
    *,
    duration_s: float,
    bits_per_s: float,
    beat: Callable[[], None],
    reached: Callable[[float], None],
) -> None:
    """Write a copy that every browser plays, in bounded memory.

    Args:
        source: The medium.
        copy: The mp4 to write.
        duration_s: Length in seconds.
        bits_per_s: Most that the pictures may take.
        beat: Called for every packet, picture and block of sound.
        reached: Called about once a second of video with the second reached.

    Raises:
        VAError: The medium cannot be decoded.
        OSError: The copy cannot be written.
    """
    pictures = showing.timed_pictures(source, threads=2, beat=beat)
    sound = decode.waveform_blocks(source, duration_s=duration_s, beat=beat)
    first, heard = next(pictures, None), next(sound, None)
    if first is None:
        raise VAError(f"{source}: has no video frame", "Give a file with pictures.")
    with av.open(str(copy), "w", format="mp4", options={"movflags": "faststart"}) as container:
        video = _video_stream(container, _size(source, first[1]), bits_per_s=bits_per_s)
        parts = [_seen(itertools.chain([first], pictures), video, end=round(duration_s * _TICKS_PER_S))]
        if heard is not None:
            audio = container.add_stream("aac", rate=decode.SAMPLE_RATE_HZ, layout="mono")
            audio.bit_rate = SOUND_BITS_PER_S
            parts.append(_heard(itertools.chain([heard], sound), audio))
        next_s = 1.0
        # Side by side, because the writer would hold the whole of one stream while it waits for the other.
        for time_s, stream, frame in heapq.merge(*parts, key=lambda part: part[0]):
            container.mux(stream.encode(frame))
            if time_s >= next_s:
                reached(time_s)
                next_s = time_s + 1.0
        beat()


_Part: TypeAlias = tuple[float, Any, av.VideoFrame | av.AudioFrame | None]
"""When it is due in seconds, the stream it is for, and what to encode: None after the last."""


def _video_stream(container: OutputContainer, size: tuple[int, int], *, bits_per_s: float) -> Any:
    stream: Any = container.add_stream("libx264", rate=30)  # decides no time: pictures bring their own
    stream.width, stream.height = size
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = stream.time_base = Fraction(1, _TICKS_PER_S)
    stream.codec_context.flags |= Flags.frame_duration  # else the last picture lasts as long as `rate` says
    stream.codec_context.thread_count = 2
    most = str(round(bits_per_s))
    # Without reordered pictures the first one is at 0 in the file too, and no browser has to read an edit list.
    stream.options = {"preset": "veryfast", "crf": "25", "bf": "0", "g": "60", "maxrate": most, "bufsize": most}
    return stream


def _size(source: Path, frame: av.VideoFrame) -> tuple[int, int]:
    """Choose width and height of the copy: upright, square pixels, even sides, not above `LONGEST_SIDE`."""
    with media.open_media(source) as container:
        aspect = float(media.picture_stream(container, source).sample_aspect_ratio or 1)
    # Beyond a factor of 4 it is a broken header and no camera's.
    lying = np.empty((frame.height, round(frame.width * (aspect if 0.25 <= aspect <= 4 else 1)), 1), np.uint8)
    height, width = decode.upright(lying, frame).shape[:2]
    scale = min(1.0, LONGEST_SIDE / max(width, height))
    return max(2, 2 * round(width * scale / 2)), max(2, 2 * round(height * scale / 2))


def _seen(pictures: Iterator[tuple[float, av.VideoFrame]], stream: Any, *, end: int) -> Iterator[_Part]:
    """Lay pictures end to end from 0 on, in ticks; of several at one tick the last is seen."""
    shown, start = np.zeros((stream.height, stream.width, 3), np.uint8), 0
    for time_s, frame in pictures:
        tick = round(time_s * _TICKS_PER_S) if time_s >= _AT_ONCE_S else 0
        if tick > start:
            yield start / _TICKS_PER_S, stream, _video_frame(shown, start, tick - start)
            start = tick
        shown = _scaled(frame, stream.width, stream.height)
    yield start / _TICKS_PER_S, stream, _video_frame(shown, start, max(1, end - start))
    yield end / _TICKS_PER_S, stream, None


def _scaled(frame: av.VideoFrame, width: int, height: int) -> NDArray[np.uint8]:
    """Bring a picture to its size and turn it upright, uint8 [height, width, 3]."""
    lying = decode.upright(np.zeros((height, width, 1), np.uint8), frame).shape[:2]
    rgb = frame.to_ndarray(format="rgb24", width=lying[1], height=lying[0], threads=1, interpolation="AREA")
    return np.ascontiguousarray(decode.upright(rgb.astype(np.uint8, copy=False), frame))


def _video_frame(rgb: NDArray[np.uint8], start: int, length: int) -> av.VideoFrame:
    # One thread, because several leave rows unwritten where a side is odd.
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p", threads=1)
    frame.pts, frame.duration, frame.time_base = start, length, Fraction(1, _TICKS_PER_S)
    return frame


def _heard(blocks: Iterator[NDArray[np.float32]], stream: Any) -> Iterator[_Part]:
    """Count samples from 0 on."""
    samples = 0
    for block in blocks:
        frame = av.AudioFrame.from_ndarray(np.clip(block, -1, 1)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = (
            decode.SAMPLE_RATE_HZ,
            samples,
            Fraction(1, decode.SAMPLE_RATE_HZ),
        )
        yield samples / decode.SAMPLE_RATE_HZ, stream, frame
        samples += len(block)
    yield samples / decode.SAMPLE_RATE_HZ, stream, None
