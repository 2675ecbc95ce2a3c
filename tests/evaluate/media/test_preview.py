"""Videos for pages: the source where browsers play it, else a copy on va's clock, upright, with the sound in place."""

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import failing
import numpy as np
import pytest
from numpy.typing import NDArray
from support import draw_number, make_video, read_number, sine

from va.data import media
from va.errors import VAError
from va.evaluate.media import preview, transcode
from va.extract import decode


def nothing() -> None:
    return None


def silent(done: int, total: int, what: str) -> None:
    return None


def convert(source: Path, *, bits_per_s: float = 1e6) -> Path:
    """Convert in this process, where a test can look into it."""
    copy = source.with_name(f"{source.name}.copy")
    transcode.convert(
        source,
        copy,
        duration_s=media.probe(source).duration_s,
        bits_per_s=bits_per_s,
        beat=nothing,
        reached=lambda done_s: None,
    )
    return copy


def numbers(path: Path, duration_s: float) -> list[int | None]:
    """What va sees in each cell."""
    cells = decode.frames_at_cells(path, duration_s=duration_s, threads=1, beat=nothing)
    return [None if rgb is None else read_number(rgb) for rgb in cells]


def uneven() -> list[int]:
    return np.cumsum(np.random.default_rng(7).integers(900, 20_000, 40)).tolist()


CLOCKS: dict[str, dict[str, Any]] = {
    "ntsc": {"rate": Fraction(30_000, 1001), "seconds": 3, "audio": sine(hz=440, seconds=3)},
    "variable": {"ticks": uneven()},
    "late sound": {"seconds": 2, "audio": sine(hz=440, seconds=1), "audio_offset_s": 0.7},
}


@pytest.mark.parametrize("name", CLOCKS)
def test_a_copy_shows_each_picture_when_the_source_does(tmp_path: Path, name: str) -> None:
    source = tmp_path / "source.mp4"
    make_video(source, **CLOCKS[name])
    expected, found = media.probe(source), media.probe(convert(source))
    np.testing.assert_allclose(found.frame_time_s, expected.frame_time_s, atol=1 / 90_000)
    assert found.duration_s == pytest.approx(expected.duration_s, abs=0.01)
    assert found.has_audio == expected.has_audio
    copy = source.with_name("source.mp4.copy")
    assert numbers(copy, expected.duration_s) == numbers(source, expected.duration_s)


def test_a_copy_is_black_until_the_first_picture(tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    make_video(
        source,
        seconds=1,
        video_offset_s=0.6,
        draw=lambda index: draw_number(index + 1),
        audio=sine(hz=440, seconds=1.6),
    )
    duration_s = media.probe(source).duration_s
    before, *after = numbers(source, duration_s)
    assert before is None
    assert numbers(convert(source), duration_s) == [0, *after]  # 0 is drawn all black


def onset_s(path: Path, duration_s: float) -> float:
    sound = np.concatenate(list(decode.waveform_blocks(path, duration_s=duration_s, beat=nothing)))
    return float(np.flatnonzero(np.abs(sound) > 0.1)[0]) / decode.SAMPLE_RATE_HZ


@pytest.mark.parametrize("offset_s", [0.0, 0.7])
def test_sound_stays_beside_its_pictures(tmp_path: Path, offset_s: float) -> None:
    source = tmp_path / "source.mp4"
    quiet = np.concatenate([np.zeros(22_050), sine(hz=440, seconds=1)])
    make_video(source, seconds=3, audio=quiet, audio_offset_s=offset_s)
    assert onset_s(convert(source), 3.0) == pytest.approx(0.5 + offset_s, abs=0.01)


def corner(index: int) -> NDArray[np.uint8]:
    """Black, with the upper left quarter white: 96 wide, 64 high."""
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:32, :48] = 255
    return picture


def turn(source: Path, degrees: int) -> None:
    """Write the rotation into a file's track header, as a phone does."""
    content = bytearray(source.read_bytes())
    a, b = (round(math.cos(math.radians(degrees))), round(math.sin(math.radians(degrees))))
    at = content.index(b"tkhd") + 4 + 40  # version 0
    matrix = np.array([a << 16, b << 16, 0, -b << 16, a << 16, 0, 0, 0, 1 << 30], ">i4")
    content[at : at + 36] = matrix.tobytes()
    source.write_bytes(content)


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_copy_is_upright(tmp_path: Path, degrees: int) -> None:
    source = tmp_path / "source.mp4"
    make_video(source, seconds=0.5, draw=corner)
    turn(source, degrees)
    assert (transcode.browser_type(source) is None) == (degrees != 0)
    with media.open_media(convert(source)) as container:
        (first, *_) = container.decode(video=0)
        assert "DISPLAYMATRIX" not in first.side_data
        seen = first.to_ndarray(format="rgb24")
    (expected,) = decode.frames_at_cells(source, duration_s=0.5, threads=1, beat=nothing)
    assert expected is not None and seen.shape == expected.shape == ((96, 64, 3) if degrees % 180 else (64, 96, 3))
    assert np.abs(seen.astype(int) - expected).mean() < 8


def test_a_copy_is_small_and_has_even_sides(tmp_path: Path) -> None:
    source = tmp_path / "source.mkv"
    make_video(
        source, seconds=0.2, draw=lambda index: np.full((301, 1283, 3), 128, np.uint8), codec="ffv1", pix_fmt="yuv444p"
    )
    with media.open_media(convert(source)) as container:
        video = container.streams.video[0]
        assert (video.width, video.height) == (640, 150)
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")


def test_pictures_that_are_not_square_get_square(tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    with av.open(str(source), "w") as container:
        stream: Any = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(corner(0), format="rgb24")))
        container.mux(stream.encode(None))
    with media.open_media(convert(source)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (128, 64)


def test_a_copy_starts_with_its_index(tmp_path: Path) -> None:
    source = tmp_path / "source.mp4"
    make_video(source, seconds=1)
    content = convert(source).read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


PLAIN: dict[str, tuple[str, dict[str, Any], str | None]] = {
    "H.264 and AAC": ("a.mp4", {"audio": sine(hz=440, seconds=1)}, "video/mp4"),
    "no sound": ("a.mp4", {}, "video/mp4"),
    "VP9 and Opus": (
        "a.webm",
        {
            "codec": "libvpx-vp9",
            "audio": sine(hz=440, seconds=1, rate=48_000),
            "audio_codec": "libopus",
            "audio_rate": 48_000,
        },
        "video/webm",
    ),
    "H.264 in Matroska": ("a.mkv", {}, None),
    "QuickTime": ("a.mov", {}, None),
    "MPEG-4 part 2": ("a.mp4", {"codec": "mpeg4"}, None),
    "full colour": ("a.mp4", {"pix_fmt": "yuv444p"}, None),
    "late pictures": ("a.mp4", {"video_offset_s": 0.5, "audio": sine(hz=440, seconds=1)}, None),
    "AVI": ("a.avi", {"codec": "mpeg4"}, None),
}


@pytest.mark.parametrize("name", PLAIN)
def test_what_browsers_play_is_told_apart(tmp_path: Path, name: str) -> None:
    file, made, expected = PLAIN[name]
    make_video(tmp_path / file, seconds=1, **made)
    assert transcode.browser_type(tmp_path / file) == expected


def make(source: Path, *, largest: float = 1e9, progress: Callable[[int, int, str], None] = silent) -> tuple[Path, str]:
    return preview.playable(
        source, source.with_suffix(".copy"), duration_s=2.0, largest=largest, bits_per_s=1e6, progress=progress
    )


def test_a_small_plain_file_stands_for_itself_and_a_large_one_does_not(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    make_video(source)
    told: list[tuple[int, int]] = []
    size = source.stat().st_size
    assert make(source, largest=size) == (source, "video/mp4")
    assert not source.with_suffix(".copy").exists()
    found, mime = make(source, largest=size - 1, progress=lambda done, total, what: told.append((done, total)))
    assert (found, mime) == (source.with_suffix(".copy"), "video/mp4")
    assert told[0] == (1, 2) and told[-1] == (2, 2)
    assert numbers(found, 2.0) == numbers(source, 2.0)


def test_a_broken_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(b"no video" * 100)
    with pytest.raises(VAError, match=r"a\.mp4: cannot be decoded"):
        make(source)
    with pytest.raises(VAError, match=r"b\.mp4: no such file"):
        make(tmp_path / "b.mp4")


def test_a_copy_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    make_video(source, seconds=0.5)
    with pytest.raises(VAError, match=r"x: cannot be written \(No such file"):
        preview.playable(source, tmp_path / "none" / "x", duration_s=0.5, largest=0, bits_per_s=1e6, progress=silent)


@pytest.mark.parametrize(
    ("number", "why"), [(11, "crashed or was killed .SIGSEGV."), (14, "no progress for 60 s"), (9, "SIGKILL")]
)
def test_a_decoder_that_dies_costs_the_video_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, why: str
) -> None:
    source = tmp_path / "a.mp4"
    make_video(source, seconds=0.5)
    monkeypatch.setattr(preview, "_serve", functools.partial(failing.crash, signal_number=number))
    with pytest.raises(VAError, match=f"a.mp4: cannot be converted .*{why}"):
        make(source)


def test_a_conversion_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.mp4"
    make_video(source, seconds=0.5)
    monkeypatch.setattr(preview, "_serve", failing.sleep)
    monkeypatch.setattr(preview, "_LIMIT_S", 0.2)
    monkeypatch.setattr(preview, "_LIMIT_PER_S", 0.0)
    with pytest.raises(VAError, match="cannot be converted within 0 s"):
        make(source)


def test_memory_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.mp4"
    make_video(source, seconds=0.2, draw=lambda index: np.full((1080, 1920, 3), 128, np.uint8))
    assert make(source, largest=0)[0] != source
    monkeypatch.setattr(preview, "_serve", failing.starve)
    # The same file: only the memory is less. FFmpeg words it by where it ran out, sometimes as invalid data.
    with pytest.raises(VAError, match=r"a\.mp4: .*(memory|unavailable|Invalid data)"):
        make(source, largest=0)
