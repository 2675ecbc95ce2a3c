"""A video for the player's page: the file itself where browsers play it, else a small H.264 and AAC copy.

Browsers know a few formats only, and disagree about clocks that do not start at 0, mirrored pictures and more; what is
not plain is converted. Times in a copy are seconds on va's clock (`va/data/media.py`), whatever the source's were: its
pictures start at 0, black until the first one comes, and each stays as long as in the source; its sound is what va
hears, mono at 16 kHz, silence included.

Media are untrusted, so a child process looks at them and converts them, limited in memory and time, as stage one's
readers are (`va/extract/reading.py`). It says by JSON messages how far it is.
"""

import heapq
import itertools
import json
import math
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, TypeAlias

import av
import numpy as np
from av.codec.context import Flags
from av.container import OutputContainer
from numpy.typing import NDArray

from va.data import media
from va.errors import VAError
from va.extract import decode
from va.extract.watch import Watch, limit_memory

LONGEST_SIDE: Final = 640
"""Of a converted picture, in pixels."""

_TICKS_PER_S: Final = 90_000
_AT_ONCE_S: Final = 0.001
"""A first picture this early is on screen from the start; later ones have black before them."""

_MEMORY_BYTES: Final = 2_000_000_000
_STALL_S: Final = 60.0
_LIMIT_S: Final = 300.0
_LIMIT_PER_S: Final = 10.0
"""A conversion may take five minutes and ten times the video's length; decoding without progress, a minute."""

_SOUND_BITS_PER_S: Final = 48_000
_MP4_BRANDS: Final = frozenset({"isom", "iso2", "iso4", "iso5", "iso6", "mp41", "mp42", "avc1", "M4V "})
_PLAYED: Final = {
    "video/mp4": ({"h264"}, {"aac", "mp3"}),
    "video/webm": ({"vp8", "vp9", "av1"}, {"opus", "vorbis"}),
}
_HINT: Final = "Play the file in a video player; re-encode it if it does not play."


def playable(
    source: Path,
    copy: Path,
    *,
    duration_s: float,
    largest: float,
    bits_per_s: float,
    progress: Callable[[int, int, str], None],
) -> tuple[Path, str]:
    """Give a file that browsers play, made in a child process where need be.

    Args:
        source: The medium.
        copy: Where to write a copy if it takes one; the caller removes what an error leaves there.
        duration_s: Length in seconds.
        largest: Bytes up to which the source may stand for itself.
        bits_per_s: Most that a copy's pictures may take.
        progress: Called with seconds done, seconds in all, and what is being done.

    Returns:
        `source` or `copy`, and its MIME type.

    Raises:
        VAError: The medium cannot be decoded or the copy not be written, or the child process died or took too long.
    """
    methods = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    ours, theirs = context.Pipe(duplex=False)
    arguments = (theirs, source, copy, duration_s, largest, bits_per_s)
    process = context.Process(target=_serve, args=arguments, daemon=True)
    process.start()
    theirs.close()
    try:
        mime = _listen(ours, process, source, duration_s, progress)
    finally:
        process.kill()
        process.join()
        ours.close()
    return (source if mime["as_it_is"] else copy), mime["mime"]


def _listen(
    connection: Connection, process: Any, source: Path, duration_s: float, progress: Callable[[int, int, str], None]
) -> dict[str, Any]:
    """Follow the child process to its last message."""
    limit_s = _LIMIT_S + _LIMIT_PER_S * duration_s
    end = time.monotonic() + limit_s
    total = math.ceil(duration_s)
    while connection.poll(max(0.0, end - time.monotonic())):
        try:
            message = json.loads(connection.recv_bytes(1 << 16))
            if "failed" in message:
                raise VAError(str(message["failed"]), _HINT)
            if "mime" in message and message["mime"] in _PLAYED:
                progress(total, total, "video")
                return {"mime": message["mime"], "as_it_is": bool(message["as_it_is"])}
            progress(min(int(message["done_s"]), total), total, "video")
        except (EOFError, OSError, ValueError, TypeError, KeyError):
            process.join(10)
            raise VAError(f"{source}: cannot be converted ({_obituary(process.exitcode)})", _HINT) from None
    raise VAError(f"{source}: cannot be converted within {limit_s:.0f} s", _HINT)


def _obituary(code: int | None) -> str:
    if code == -signal.SIGALRM:
        return f"decoding made no progress for {_STALL_S:g} s"
    if code is not None and code < 0:
        return f"the decoder crashed or was killed ({signal.Signals(-code).name})"
    return f"its process ended with exit code {code}"


def _serve(
    connection: Connection, source: Path, copy: Path, duration_s: float, largest: float, bits_per_s: float
) -> None:
    """Look at a medium and convert it if need be; the main function of the child process."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # sent to a whole process group; the parent ends this process
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    limit_memory(_MEMORY_BYTES)
    watch = Watch(stall_s=_STALL_S)

    def tell(**message: object) -> None:
        connection.send_bytes(json.dumps(message).encode())

    try:
        watch.beat()
        mime = browser_type(source) if source.stat().st_size <= largest else None
        if mime is None:
            convert(
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
        video_codecs, audio_codecs = _PLAYED[mime]
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
    pictures = media.timed_pictures(source, threads=2, beat=beat)
    sound = decode.waveform_blocks(source, duration_s=duration_s, beat=beat)
    first, heard = next(pictures, None), next(sound, None)
    if first is None:
        raise VAError(f"{source}: has no video frame", _HINT)
    with av.open(str(copy), "w", format="mp4", options={"movflags": "faststart"}) as container:
        video = _video_stream(container, _size(source, first[1]), bits_per_s=bits_per_s)
        parts = [_seen(itertools.chain([first], pictures), video, end=round(duration_s * _TICKS_PER_S))]
        if heard is not None:
            audio = container.add_stream("aac", rate=decode.SAMPLE_RATE_HZ, layout="mono")
            audio.bit_rate = _SOUND_BITS_PER_S
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
