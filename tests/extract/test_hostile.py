"""Damaged, cut and dressed-up files: each gives features or a VAError that names it, never another exception."""

import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from support import box_at, draw_number, make_video, sine

from va.data import media, timeline
from va.errors import VAError
from va.extract import decode

SECONDS = 3.0


def noise(index: int) -> NDArray[np.uint8]:
    """Pictures that fill the file, so that a place in it is a place in a picture."""
    return np.random.default_rng(index).integers(0, 256, (64, 64, 3), np.uint8)


def unheard() -> None:
    """A beat that nobody listens to."""


def read(path: Path) -> tuple[int, int]:
    """Read a medium as extraction does; give the cells with a picture and the samples of sound.

    Raises:
        VAError: It cannot be read; the message names the file.
    """
    try:
        info = media.probe(path, beat=unheard)
        assert np.isfinite(info.frame_time_s).all() and (np.diff(info.frame_time_s) >= 0).all()
        frames = list(decode.frames_at_cells(path, duration_s=info.duration_s, threads=1, beat=unheard))
        assert len(frames) == timeline.num_cells(info.duration_s)
        samples = 0
        for block in decode.waveform_blocks(path, duration_s=info.duration_s, beat=unheard):
            assert np.isfinite(block).all()
            samples += len(block)
        assert samples <= round(info.duration_s * decode.SAMPLE_RATE_HZ)
        return sum(frame is not None for frame in frames), samples
    except VAError as error:
        assert error.message.startswith(f"{path}: ") and error.hint
        raise


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """Give the bytes of a good file by its name."""
    folder = tmp_path_factory.mktemp("good")
    options: dict[str, dict[str, str]] = {
        "last.mp4": {},
        "first.mp4": {"movflags": "faststart"},
        "fragmented.mp4": {"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"},
    }

    def content(name: str) -> bytes:
        path = folder / name
        if not path.exists():
            kind: Any = {"codec": "mpeg4", "audio_codec": "mp3"} if name.endswith("avi") else {}
            wave = sine(hz=440, seconds=SECONDS)
            make_video(path, seconds=SECONDS, draw=noise, audio=wave, options=options.get(name), **kind)
            assert read(path)[0] >= 6
        return path.read_bytes()

    return content


@pytest.mark.parametrize("part", [0.1, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["last.mp4", "first.mp4", "fragmented.mp4", "a.mkv", "a.avi"])
def test_a_file_cut_in_the_middle_is_refused(
    tmp_path: Path, good: Callable[[str], bytes], name: str, part: float
) -> None:
    content = good(name)
    (tmp_path / name).write_bytes(content[: int(len(content) * part)])
    with pytest.raises(VAError, match=r"is cut off, \d+ bytes are missing|cannot be decoded|has no video"):
        read(tmp_path / name)


@pytest.mark.parametrize("part", [0.001, 0.3, 0.6, 0.9])
def test_a_broadcast_stream_cut_in_the_middle(tmp_path: Path, good: Callable[[str], bytes], part: float) -> None:
    """It has no length to tell by, and receivers start and stop anywhere: what is there is used."""
    content = good("a.ts")
    (tmp_path / "a.ts").write_bytes(content[: int(len(content) * part)])
    if part < 0.01:
        with pytest.raises(VAError, match=r"cannot be decoded|has no video"):
            read(tmp_path / "a.ts")
    else:
        cells, samples = read(tmp_path / "a.ts")
        assert cells == pytest.approx(6 * part, abs=1.1) and samples == pytest.approx(48_000 * part, rel=0.2)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", ["last.mp4", "a.mkv", "a.avi"])
def test_flipped_bytes(tmp_path: Path, good: Callable[[str], bytes], name: str, seed: int) -> None:
    """Anywhere, or in the mp4's index alone, where sizes, times and matrices lie."""
    content = np.frombuffer(bytearray(good(name)), np.uint8)
    rng = np.random.default_rng(seed)
    start = box_at(content.tobytes(), b"moov") if name == "last.mp4" and seed % 2 else 0
    count = int(rng.integers(1, 30))
    content[rng.integers(start, len(content), count)] ^= rng.integers(1, 256, count, np.uint8)
    (tmp_path / name).write_bytes(content.tobytes())
    try:
        cells, _ = read(tmp_path / name)
    except VAError:
        return
    assert cells >= 0


def test_sound_is_not_needed(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=SECONDS)
    assert read(tmp_path / "a.mp4") == (6, 0)


def test_pictures_are_needed(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44_100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44_100), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VAError, match="has no video stream"):
        read(tmp_path / "a.mp4")


@pytest.mark.parametrize("content", [b"", b"\0", b"no medium\n" * 500, b"#EXTM3U\n#EXTINF:1,\nother.ts\n", bytes(9999)])
def test_files_that_are_no_media(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(VAError, match=r"a.mp4: cannot be decoded"):
        read(tmp_path / "a.mp4")


def test_random_bytes(tmp_path: Path) -> None:
    for seed in range(20):
        (tmp_path / "a.mp4").write_bytes(np.random.default_rng(seed).bytes(20_000))
        with pytest.raises(VAError):
            read(tmp_path / "a.mp4")


def test_a_video_of_one_pixel(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=1, codec="mpeg4", draw=lambda _: np.zeros((1, 1, 3), np.uint8), b_frames=0)
    with pytest.raises(VAError, match=r"its pictures are too small \(1 x 1 pixels\)"):
        read(tmp_path / "a.mp4")


def test_sound_of_nothing_but_nan(tmp_path: Path) -> None:
    wave = np.full(44_100, np.nan)
    make_video(tmp_path / "a.mkv", seconds=1, audio=wave, audio_codec="pcm_f32le")
    with pytest.raises(VAError, match="its sound has values that are not finite"):
        read(tmp_path / "a.mkv")


def test_a_still_picture_is_a_short_clip(tmp_path: Path) -> None:
    av.VideoFrame.from_ndarray(draw_number(5), format="rgb24").save(str(tmp_path / "a.jpg"))
    shutil.move(tmp_path / "a.jpg", tmp_path / "a.mp4")
    assert read(tmp_path / "a.mp4") == (1, 0)


@pytest.mark.parametrize("side", [16_000, 60_000, 2**31 - 1])
def test_a_claim_of_huge_pictures(tmp_path: Path, side: int) -> None:
    make_video(tmp_path / "a.avi", seconds=1, codec="ffv1", b_frames=0)
    content = bytearray((tmp_path / "a.avi").read_bytes())
    struct.pack_into("<ii", content, box_at(content, b"strf") + 8, side, side)
    (tmp_path / "a.avi").write_bytes(content)
    with pytest.raises(VAError):
        read(tmp_path / "a.avi")


def test_empty_audio_track(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=25)
        video.width = video.height = 64
        container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for index in range(25):
            picture = av.VideoFrame.from_ndarray(draw_number(index), format="rgb24")
            picture.pts = index
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
    assert read(tmp_path / "a.mkv") == (2, 0)
