"""Real media, drawn and written frame by frame, whose content tells a test which frame or sample it has."""

import json
import subprocess
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

TICKS_PER_S = 90_000
"""Clock of the videos, fine enough for any frame rate."""

_BLOCK, _BLOCKS_PER_SIDE = 16, 4
SIDE = _BLOCK * _BLOCKS_PER_SIDE


def draw_number(number: int) -> NDArray[np.uint8]:
    """Draw a number below 65536 as 4x4 black and white blocks, uint8 [64, 64, 3]: readable after any codec."""
    bits = np.array([(number >> bit) & 1 for bit in range(_BLOCKS_PER_SIDE**2)], np.uint8)
    picture = np.kron(bits.reshape(_BLOCKS_PER_SIDE, -1) * 255, np.ones((_BLOCK, _BLOCK), np.uint8))
    return np.repeat(picture[:, :, None], 3, axis=2).astype(np.uint8)


def read_number(rgb: NDArray[Any]) -> int:
    """Read what `draw_number` drew."""
    means = rgb.mean(axis=2).reshape(_BLOCKS_PER_SIDE, _BLOCK, _BLOCKS_PER_SIDE, _BLOCK).mean(axis=(1, 3)).ravel()
    return sum(1 << bit for bit, mean in enumerate(means) if mean > 127)


def make_video(
    path: Path,
    *,
    rate: Fraction | float = 25,
    seconds: float = 2.0,
    ticks: Sequence[int] | None = None,
    codec: str = "libx264",
    b_frames: int = 3,
    draw: Callable[[int], NDArray[np.uint8]] = draw_number,
    audio: NDArray[Any] | None = None,
    audio_codec: str = "aac",
    audio_rate: int = 44_100,
    audio_offset_s: float = 0.0,
    video_offset_s: float = 0.0,
    metadata: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
    pix_fmt: str = "yuv420p",
) -> NDArray[np.float64]:
    """Write a video, by default of 25 frames per second, with frame i showing the number i.

    Args:
        path: Where; the suffix chooses the container.
        rate: Frames per second, if no `ticks`.
        seconds: Length, if no `ticks`.
        ticks: Presentation time of every frame in 1/90000 s, for a variable rate.
        codec: Video codec.
        b_frames: Most frames in a row that the codec may reorder.
        draw: Picture of frame i, uint8 [H, W, 3].
        audio: float [samples] or [channels, samples] in [-1, 1], or None for no sound.
        audio_codec: Audio codec.
        audio_rate: Samples per second.
        audio_offset_s: When the sound starts.
        video_offset_s: When the pictures start.
        metadata: Tags of the container.
        options: Of the container's writer.
        pix_fmt: How the codec stores colours.

    Returns:
        Presentation time of every frame in seconds, float64 [frames], as asked for.
    """
    if ticks is None:
        ticks = [round(index * TICKS_PER_S / Fraction(rate)) for index in range(round(seconds * rate))]
    ticks = [tick + round(video_offset_s * TICKS_PER_S) for tick in ticks]
    height, width = draw(0).shape[:2]
    with av.open(str(path), "w", options=options or {}) as container:
        container.metadata.update(metadata or {})
        video: Any = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
        video.width, video.height, video.pix_fmt = width, height, pix_fmt
        video.codec_context.max_b_frames = b_frames
        fine_clock = codec == "libx264" and path.suffix not in (".avi", ".asf")  # others know constant rates only
        if codec == "libx264":
            # Otherwise x264 decides by content whether it reorders, and waits for 40 frames before it answers.
            video.options = {"preset": "veryfast", "x264-params": f"b-adapt=0:rc-lookahead=5:bframes={b_frames}"}
        if fine_clock:
            video.codec_context.time_base = video.time_base = Fraction(1, TICKS_PER_S)
        sound: Any = None
        if audio is not None:
            audio = np.atleast_2d(audio)
            layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(audio)]
            sound = container.add_stream(audio_codec, rate=audio_rate, layout=layout)
        for index, tick in enumerate(ticks):
            picture = av.VideoFrame.from_ndarray(draw(index), format="rgb24")
            if fine_clock:
                picture.pts, picture.time_base = tick, Fraction(1, TICKS_PER_S)
            else:
                picture.pts = index
            # On its own the encoder converts with threads, which leave rows unwritten where a side is odd.
            picture = picture.reformat(format=pix_fmt, threads=1)
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        if sound is not None and audio is not None:
            for start in range(0, audio.shape[1], 1024):
                container.mux(sound.encode(_audio_frame(audio, start, layout, audio_rate, audio_offset_s)))
            container.mux(sound.encode(None))
    return np.array(ticks) / TICKS_PER_S


def _audio_frame(audio: NDArray[Any], start: int, layout: str, rate: int, offset_s: float) -> av.AudioFrame:
    block = np.ascontiguousarray(audio[:, start : start + 1024], dtype=np.float32)
    frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
    frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
    frame.pts = start + round(offset_s * rate)
    return frame


def make_sound(path: Path, pieces: Sequence[tuple[float, NDArray[Any]]], *, rate: int = 16_000) -> None:
    """Write a Matroska file with a second of pictures and uncompressed sound, each piece one packet at its own time.

    Args:
        path: Where.
        pieces: Time in seconds (Matroska keeps milliseconds) and float32 [samples] of each, ascending by time.
        rate: Samples per second.
    """
    with av.open(str(path), "w", format="matroska") as container:
        video: Any = container.add_stream("mpeg4", rate=25)
        video.width = video.height = SIDE
        sound: Any = container.add_stream("pcm_f32le", rate=rate, layout="mono")
        for index in range(25):
            picture = av.VideoFrame.from_ndarray(draw_number(index), format="rgb24")
            picture.pts = index
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
        for start_s, samples in pieces:
            frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(start_s * rate)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))


def box_at(content: bytes | bytearray, name: bytes) -> int:
    """Find where the payload of an mp4's first box of that name starts."""
    return content.index(name) + len(name)


def ffprobe_frame_times(path: Path) -> NDArray[np.float64]:
    """Ask FFmpeg's own program when each picture is shown, in seconds from the start, float64 [frames], NaN: untold."""
    asked = "format=start_time:frame=best_effort_timestamp_time"
    command = [
        "ffprobe",
        "-v",
        "error",
        "-select_streams",
        "v:0",
        "-show_frames",
        "-show_entries",
        asked,
        "-of",
        "json",
    ]
    found = json.loads(subprocess.run([*command, str(path)], check=True, capture_output=True).stdout)
    start_s = float(found["format"]["start_time"])
    return np.array([float(frame.get("best_effort_timestamp_time", "nan")) - start_s for frame in found["frames"]])


def sine(*, hz: float, seconds: float, rate: int = 44_100, level: float = 0.5) -> NDArray[np.float64]:
    """A tone, float64 [samples]."""
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)
