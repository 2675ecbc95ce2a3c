"""The picture at a cell's centre is the one that was drawn for that time; sound keeps its place, level and end.

AAC smears a click over one frame, so that a single click may be found up to 80 ms off. Where sound is held against
what was put in by cross-correlation, it must be within 8 samples (0.5 ms), which containers that count in
milliseconds need.
"""

import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from support import box_at, draw_number, make_sound, make_video, read_number, sine

from va.data import media
from va.errors import VAError
from va.extract import decode

RATE_HZ = decode.SAMPLE_RATE_HZ


def irregular_ticks(count: int) -> list[int]:
    return [0, *np.cumsum(np.random.default_rng(1).integers(900, 40_000, count - 1)).tolist()]


def unheard() -> None:
    """A beat that nobody listens to."""


def pictures(path: Path, duration_s: float, *, threads: int = 1) -> list[NDArray[np.uint8] | None]:
    return list(decode.frames_at_cells(path, duration_s=duration_s, threads=threads, beat=unheard))


def shown_at_cells(path: Path, duration_s: float, *, threads: int = 1) -> list[int | None]:
    frames = pictures(path, duration_s, threads=threads)
    return [None if frame is None else read_number(frame) for frame in frames]


def expected_at_cells(time_s: np.ndarray, duration_s: float) -> list[int | None]:
    """The rule in words: the last frame whose time is not after the cell's centre."""
    expected: list[int | None] = []
    cell = 0
    while cell * 0.5 < duration_s - 1e-4:
        started = [index for index, seconds in enumerate(time_s) if seconds <= cell * 0.5 + 0.25 + 1e-6]
        expected.append(max(started) if started else None)
        cell += 1
    return expected


def sound(path: Path, duration_s: float) -> np.ndarray:
    blocks = list(decode.waveform_blocks(path, duration_s=duration_s, beat=unheard))
    assert all(block.dtype == np.float32 and block.ndim == 1 and 0 < len(block) <= RATE_HZ for block in blocks)
    return np.concatenate([np.zeros(0, np.float32), *blocks])


def click(at_s: float, seconds: float, rate: int) -> np.ndarray:
    wave = np.zeros(round(seconds * rate))
    wave[round(at_s * rate) : round((at_s + 0.002) * rate)] = 0.9
    return wave


# --- pictures


def test_the_oracle_reads_what_it_draws() -> None:
    assert [read_number(draw_number(number)) for number in (0, 1, 77, 65_535)] == [0, 1, 77, 65_535]


CASES: dict[str, dict[str, Any]] = {
    "ntsc.mp4": {"rate": Fraction(30_000, 1001), "seconds": 4},
    "film.mp4": {"rate": Fraction(24_000, 1001), "seconds": 3.2},
    "variable.mp4": {"ticks": irregular_ticks(30)},
    "variable.mkv": {"ticks": irregular_ticks(30)},
    "slow.mp4": {"rate": 1, "seconds": 4},
    "broadcast.ts": {"rate": 25, "seconds": 3},
    "old.mpg": {"rate": 25, "seconds": 3, "codec": "mpeg1video", "b_frames": 2},
    "divx.avi": {"rate": 25, "seconds": 3, "codec": "mpeg4", "b_frames": 2},
    "modern.avi": {"rate": 25, "seconds": 3},
    "open.webm": {"rate": 25, "seconds": 3, "codec": "libvpx-vp9"},
    "hevc.mp4": {"rate": 25, "seconds": 3, "codec": "libx265"},
    "fragmented.mp4": {"rate": 25, "seconds": 3, "options": {"movflags": "frag_keyframe+empty_moov"}},
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_each_cell_has_the_frame_that_was_drawn(tmp_path: Path, name: str, threads: int) -> None:
    asked = make_video(tmp_path / name, **CASES[name])
    duration_s = media.probe(tmp_path / name).duration_s
    # Matroska rounds to milliseconds; no frame of the case lies that close to a centre.
    found = shown_at_cells(tmp_path / name, duration_s, threads=threads)
    assert found == expected_at_cells(asked, duration_s)
    assert len(set(found)) > 3


def test_a_frame_exactly_at_the_centre_is_shown(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", ticks=[0, 22_499, 22_500, 67_501], b_frames=0)
    assert shown_at_cells(tmp_path / "a.mp4", 1.5) == [2, 2, 3]


def test_cells_before_the_first_frame_are_none(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=1, video_offset_s=1.1, audio=sine(hz=440, seconds=2.1))
    duration_s = media.probe(tmp_path / "a.mp4").duration_s
    found = shown_at_cells(tmp_path / "a.mp4", duration_s)
    assert found[:2] == [None, None] and None not in found[2:]
    assert len(found) == 5


@pytest.mark.parametrize(("duration_s", "expected"), [(0.1, [0]), (0.6, [0, 1]), (4.0, [0, 1, 2, 3, 3, 3, 3, 3])])
def test_the_duration_decides_the_number_of_cells(tmp_path: Path, duration_s: float, expected: list[int]) -> None:
    make_video(tmp_path / "a.mp4", rate=2, seconds=2)
    assert shown_at_cells(tmp_path / "a.mp4", duration_s) == expected


def test_pictures_are_rgb(tmp_path: Path) -> None:
    def colours(index: int) -> np.ndarray:
        picture = np.zeros((64, 64, 3), np.uint8)
        picture[:32, :, 0], picture[32:, :, 2] = 220, 180
        return picture

    make_video(tmp_path / "a.mp4", seconds=0.5, draw=colours)
    (frame,) = pictures(tmp_path / "a.mp4", 0.5)
    assert frame is not None and frame.dtype == np.uint8 and frame.shape == (64, 64, 3)
    np.testing.assert_allclose(frame[8:24, 8:56].mean(axis=(0, 1)), [220, 0, 0], atol=6)
    np.testing.assert_allclose(frame[40:56, 8:56].mean(axis=(0, 1)), [0, 0, 180], atol=6)


def test_only_frames_at_centres_are_converted_and_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_video(tmp_path / "a.mp4", rate=25, seconds=4)
    converted = 0
    real = decode.to_rgb

    def counted(frame: Any) -> Any:
        nonlocal converted
        converted += 1
        return real(frame)

    monkeypatch.setattr(decode, "to_rgb", counted)
    frames = decode.frames_at_cells(tmp_path / "a.mp4", duration_s=4.0, threads=1, beat=unheard)
    assert converted == 0
    for number, _ in enumerate(frames, start=1):
        assert converted == number
    assert converted == 8  # of 100


def smooth(index: int, *, height: int, width: int) -> NDArray[np.uint8]:
    """Red grows to the right, green downwards, blue each second of time."""
    picture = np.zeros((height, width, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 255, width)[None]
    picture[..., 1] = np.linspace(0, 255, height)[:, None]
    picture[..., 2] = 40 * (index // 25)
    return picture


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "height", "width"),
    [
        ("ten.mp4", "libx264", "yuv420p10le", 64, 96),
        ("ten.mp4", "libx265", "yuv420p10le", 64, 96),
        ("ten.mkv", "ffv1", "yuv420p10le", 35, 33),
        ("odd.mp4", "mpeg4", "yuv420p", 35, 33),
        ("odd.webm", "libvpx-vp9", "yuv420p", 33, 35),
        ("odd.mp4", "libx264", "yuv444p", 35, 33),
        ("least.mp4", "libx264", "yuv420p", 16, 16),
    ],
)
def test_ten_bits_and_odd_sizes(tmp_path: Path, name: str, codec: str, pix_fmt: str, height: int, width: int) -> None:
    def draw(index: int) -> NDArray[np.uint8]:
        return smooth(index, height=height, width=width)

    make_video(tmp_path / name, seconds=3, codec=codec, pix_fmt=pix_fmt, draw=draw, b_frames=0)
    found = pictures(tmp_path / name, media.probe(tmp_path / name).duration_s)
    assert len(found) == 6
    for cell, frame in enumerate(found):
        assert frame is not None and frame.shape == (height, width, 3)
        off = np.abs(frame.astype(np.int64) - draw(25 * (cell // 2)))
        assert off.mean() < 12 and off.max() < 40, f"cell {cell}"


@pytest.mark.parametrize(("height", "width"), [(1, 1), (15, 64), (64, 15)])
def test_pictures_that_are_too_small(tmp_path: Path, height: int, width: int) -> None:
    make_video(
        tmp_path / "a.mkv", seconds=1, codec="ffv1", draw=lambda _: np.zeros((height, width, 3), np.uint8), b_frames=0
    )
    for read in (lambda: media.probe(tmp_path / "a.mkv"), lambda: pictures(tmp_path / "a.mkv", 1.0)):
        with pytest.raises(VAError, match=rf"a.mkv: its pictures are too small \({width} x {height} pixels\)"):
            read()


TURNS: dict[str, tuple[tuple[int, int, int, int], Callable[[NDArray[Any]], NDArray[Any]]]] = {
    "upright": ((1, 0, 0, 1), lambda rgb: rgb),
    "quarter clockwise": ((0, 1, -1, 0), lambda rgb: np.rot90(rgb, -1)),
    "half": ((-1, 0, 0, -1), lambda rgb: np.rot90(rgb, 2)),
    "quarter counter-clockwise": ((0, -1, 1, 0), lambda rgb: np.rot90(rgb, 1)),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "upside down": ((1, 0, 0, -1), np.flipud),
    "transposed": ((0, 1, 1, 0), lambda rgb: rgb.swapaxes(0, 1)),
    "transposed the other way": ((0, -1, -1, 0), lambda rgb: np.rot90(rgb, 2).swapaxes(0, 1)),
}


@pytest.mark.parametrize("turn", TURNS)
def test_pictures_come_out_upright(tmp_path: Path, turn: str) -> None:
    (a, b, c, d), turned = TURNS[turn]
    make_video(tmp_path / "a.mp4", seconds=0.5, draw=lambda i: smooth(i, height=48, width=80))
    (stored,) = pictures(tmp_path / "a.mp4", 0.5)
    assert stored is not None
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    struct.pack_into(">5i", content, box_at(content, b"tkhd") + 40, a << 16, b << 16, 0, c << 16, d << 16)
    (tmp_path / "a.mp4").write_bytes(content)
    (found,) = pictures(tmp_path / "a.mp4", 0.5)
    assert found is not None and found.flags.c_contiguous
    np.testing.assert_array_equal(found, turned(stored))
    if a * d - b * c > 0:  # not mirrored: the library has its own reading of the matrix
        with av.open(str(tmp_path / "a.mp4")) as container:
            degrees = next(container.decode(video=0)).rotation
        np.testing.assert_array_equal(found, np.rot90(stored, degrees // 90))


def test_a_matrix_of_zeros_turns_nothing(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=0.5)
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    struct.pack_into(">9i", content, box_at(content, b"tkhd") + 40, *[0] * 9)
    (tmp_path / "a.mp4").write_bytes(content)
    assert shown_at_cells(tmp_path / "a.mp4", 0.5) == [6]


def test_pictures_and_sound_beat(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=2, audio=sine(hz=440, seconds=2))
    beats: list[int] = []
    list(decode.frames_at_cells(tmp_path / "a.mp4", duration_s=2.0, threads=1, beat=lambda: beats.append(1)))
    assert len(beats) >= 88  # packets and pictures, up to the last cell's at 1.75 s
    beats.clear()
    list(decode.waveform_blocks(tmp_path / "a.mp4", duration_s=2.0, beat=lambda: beats.append(1)))
    assert len(beats) >= 86  # packets of 1024 samples


# --- sound


@pytest.mark.parametrize(
    ("name", "codec", "tolerance_s"),
    [("a.mp4", "aac", 0.08), ("a.mkv", "aac", 0.08), ("a.mkv", "pcm_s16le", 0.001), ("a.mpg", "mp2", 0.08)],
)
def test_a_click_is_heard_when_it_was_made(tmp_path: Path, name: str, codec: str, tolerance_s: float) -> None:
    video = "mpeg1video" if name.endswith("mpg") else "libx264"
    make_video(tmp_path / name, seconds=3, codec=video, audio=click(1.7, 3.0, 44_100), audio_codec=codec, b_frames=0)
    # On the clip's clock, whose zero may be the sound's priming (Matroska) instead of the first picture.
    late_s = media.probe(tmp_path / name).frame_time_s[0]
    wave = sound(tmp_path / name, 3.0)
    assert np.abs(wave).argmax() / RATE_HZ == pytest.approx(1.7 + late_s, abs=tolerance_s)
    assert np.abs(wave).max() > 0.2


def hiss(seconds: float, rate: int, channels: int) -> NDArray[np.float64]:
    """Noise between 200 and 5000 Hz, which every codec keeps, float64 [channels, samples]."""
    signal = pytest.importorskip("scipy.signal")
    band = signal.butter(6, [200, 5000], "band", fs=rate, output="sos")
    wave = signal.sosfilt(band, np.random.default_rng(0).normal(size=round(seconds * rate))) * 0.15
    return np.tile(wave, (channels, 1))


def lag(found: NDArray[np.float32], put_in: NDArray[np.float64], rate: int) -> int:
    """Find by how many samples at 16 kHz the sound comes later than it was put in, by cross-correlation."""
    signal = pytest.importorskip("scipy.signal")
    common = np.gcd(rate, RATE_HZ)
    expected = signal.resample_poly(put_in[0], RATE_HZ // common, rate // common)
    return int(signal.correlate(found, expected, "full", method="fft").argmax()) - (len(expected) - 1)


@pytest.mark.parametrize("offset_s", [0.0, 0.5])
@pytest.mark.parametrize(
    ("name", "codec", "rate", "channels", "most"),
    [
        ("a.mp4", "aac", 44_100, 1, 1),
        ("a.mp4", "aac", 44_100, 2, 1),
        ("a.mp4", "aac", 48_000, 1, 1),
        ("a.mp4", "aac", 48_000, 2, 1),
        ("a.mkv", "aac", 44_100, 2, 8),
        ("a.mkv", "aac", 48_000, 1, 8),
        ("a.mkv", "flac", 44_100, 1, 8),
        ("a.mov", "pcm_s16le", 44_100, 1, 1),
        ("a.mov", "pcm_s16le", 48_000, 2, 1),
        ("a.mp4", "mp3", 44_100, 1, 1),
        ("a.ts", "aac", 48_000, 2, 1),
        ("a.webm", "libopus", 48_000, 2, 16),  # its priming is stored in milliseconds too
    ],
)
def test_sound_is_where_it_was_put(
    tmp_path: Path, name: str, codec: str, rate: int, channels: int, most: int, offset_s: float
) -> None:
    """Priming of the encoder, the container's offset and the resampler's own delay are all made up for."""
    wave = hiss(2, rate, channels)
    # The writer rounds starts to its movie clock, 1 ms by default.
    options = {"movie_timescale": str(rate)} if name.endswith(("mp4", "mov")) else {}
    video = "libvpx-vp9" if name.endswith("webm") else "libx264"
    sound_of: Any = {"audio": wave, "audio_codec": codec, "audio_rate": rate, "audio_offset_s": offset_s}
    make_video(tmp_path / name, seconds=3, codec=video, b_frames=0, options=options, **sound_of)
    # On the clip's clock, whose zero may be the sound's priming (MPEG-TS) instead of the first picture.
    late_s = offset_s + media.probe(tmp_path / name).frame_time_s[0]
    assert abs(lag(sound(tmp_path / name, 3.0), wave, rate) - late_s * RATE_HZ) <= most


PIECE = 3200
"""Samples in a fifth of a second, the distance of pieces of sound below."""


def pieces(wave: NDArray[np.float32]) -> list[tuple[float, NDArray[np.float32]]]:
    return [(0.2 * number, part) for number, part in enumerate(np.split(wave, len(wave) // PIECE))]


@pytest.fixture
def noise() -> NDArray[np.float32]:
    return np.random.default_rng(0).uniform(-1, 1, 10 * PIECE).astype(np.float32)


def test_missing_sound_is_silence_and_moves_nothing(tmp_path: Path, noise: NDArray[np.float32]) -> None:
    make_sound(tmp_path / "a.mkv", [piece for number, piece in enumerate(pieces(noise)) if number not in (3, 4, 7)])
    noise[3 * PIECE : 5 * PIECE] = noise[7 * PIECE : 8 * PIECE] = 0
    np.testing.assert_array_equal(sound(tmp_path / "a.mkv", 3.0), noise)


def test_a_long_gap_comes_in_blocks(tmp_path: Path, noise: NDArray[np.float32]) -> None:
    make_sound(tmp_path / "a.mkv", [(0.0, noise), (62.0, noise)])
    found = sound(tmp_path / "a.mkv", 70.0)  # which holds every block to a second
    assert len(found) == 64 * RATE_HZ
    np.testing.assert_array_equal(found[: len(noise)], noise)
    np.testing.assert_array_equal(found[-len(noise) :], noise)
    assert not found[len(noise) : -len(noise)].any()


def test_sound_said_twice_is_heard_once(tmp_path: Path, noise: NDArray[np.float32]) -> None:
    early = [(start_s - (0.1 if number >= 5 else 0), part) for number, (start_s, part) in enumerate(pieces(noise))]
    make_sound(tmp_path / "a.mkv", early)
    expected = np.concatenate([noise[: 5 * PIECE], noise[5 * PIECE + 1600 :]])
    np.testing.assert_array_equal(sound(tmp_path / "a.mkv", 3.0), expected)


@pytest.mark.parametrize("missing", [False, True])
def test_jitter_of_timestamps_is_ignored(tmp_path: Path, noise: NDArray[np.float32], missing: bool) -> None:
    """Up to 9 ms each way; a piece missing meanwhile is still replaced by silence of about its length."""
    jitter_s = np.random.default_rng(1).integers(-9, 10, 10) / 1000
    jitter_s[0] = 0
    shaken = [(start_s + off_s, part) for (start_s, part), off_s in zip(pieces(noise), jitter_s, strict=True)]
    if missing:
        del shaken[4]
    make_sound(tmp_path / "a.mkv", shaken)
    found = sound(tmp_path / "a.mkv", 3.0)
    if not missing:
        np.testing.assert_array_equal(found, noise)
        return
    np.testing.assert_array_equal(found[: 4 * PIECE], noise[: 4 * PIECE])
    assert abs(len(found) - len(noise)) <= 0.018 * RATE_HZ
    np.testing.assert_array_equal(found[-5 * PIECE :], noise[-5 * PIECE :])


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_missing_packets_of_a_coded_stream(tmp_path: Path, rate: int) -> None:
    wave = hiss(3, rate, 1)
    make_video(tmp_path / "whole.mkv", seconds=3, audio=wave, audio_rate=rate, b_frames=0)
    with av.open(str(tmp_path / "whole.mkv")) as whole, av.open(str(tmp_path / "part.mkv"), "w") as part:
        streams = {stream.index: part.add_stream_from_template(stream) for stream in whole.streams}
        for packet in whole.demux():
            lost = packet.stream.type == "audio" and packet.pts is not None and 1000 <= packet.pts < 1500
            if packet.dts is not None and not lost:
                packet.stream = streams[packet.stream.index]
                part.mux(packet)
    found, expected = sound(tmp_path / "part.mkv", 3.0), sound(tmp_path / "whole.mkv", 3.0)
    assert abs(lag(found[: RATE_HZ - 800], wave[:, : rate - rate // 20], rate)) <= 8
    later = slice(round(1.6 * RATE_HZ), 3 * RATE_HZ)
    shift = lag(found[later], expected[later][None].astype(np.float64), RATE_HZ)
    assert abs(shift) <= 8
    assert np.abs(found[round(1.05 * RATE_HZ) : round(1.45 * RATE_HZ)]).max() < 1e-3


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("rate", [RATE_HZ, 44_100])
def test_sound_that_is_not_finite_is_named(tmp_path: Path, value: float, rate: int) -> None:
    wave = sine(hz=440, seconds=1, rate=rate)
    wave[rate // 2] = value
    make_video(tmp_path / "a.mkv", seconds=1, audio=wave, audio_codec="pcm_f32le", audio_rate=rate)
    with pytest.raises(VAError, match=r"a.mkv: its sound has values that are not finite"):
        sound(tmp_path / "a.mkv", 1.0)


def test_a_stream_without_samples_is_no_sound(tmp_path: Path) -> None:
    make_sound(tmp_path / "a.mkv", [])
    assert media.probe(tmp_path / "a.mkv").has_audio
    assert len(sound(tmp_path / "a.mkv", 1.0)) == 0


def test_sound_that_starts_late_is_preceded_by_zeros(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=3, audio=sine(hz=440, seconds=2), audio_offset_s=0.75)
    wave = sound(tmp_path / "a.mp4", 3.0)
    first = int(np.flatnonzero(wave)[0])
    assert first / RATE_HZ == pytest.approx(0.75, abs=0.08)
    assert np.abs(wave[first + 3200 : first + 6400]).max() == pytest.approx(0.5, rel=0.1)


def test_sound_beyond_the_clip_is_left_out(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=1, audio=sine(hz=440, seconds=5))
    assert len(sound(tmp_path / "a.mp4", 1.0)) == 16_000
    assert len(sound(tmp_path / "a.mp4", 0.37)) == 5_920


def test_sound_that_starts_after_the_clip_is_silence(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=1, audio=sine(hz=440, seconds=1), audio_offset_s=2.0)
    wave = sound(tmp_path / "a.mp4", 1.0)
    assert len(wave) == 16_000 and not wave.any()


def test_sound_that_ends_early_ends_early(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv", seconds=3, audio=sine(hz=440, seconds=1), audio_codec="pcm_s16le")
    assert len(sound(tmp_path / "a.mkv", 3.0)) == pytest.approx(16_000, abs=16)


def test_no_sound_yields_nothing(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=1)
    assert len(sound(tmp_path / "a.mp4", 1.0)) == 0


@pytest.mark.parametrize(
    ("name", "codec", "channels"),
    [("a.mp4", "aac", 1), ("a.mp4", "aac", 2)]  # AAC keeps only the deepest notes of the sixth channel of 5.1
    + [("a.mkv", codec, channels) for codec in ("pcm_s16le", "pcm_f32le") for channels in (1, 2, 6)],
)
def test_equal_channels_mix_to_the_same_level(tmp_path: Path, name: str, codec: str, channels: int) -> None:
    tone = np.tile(sine(hz=440, seconds=2, level=0.8), (channels, 1))
    make_video(tmp_path / name, seconds=2, audio=tone, audio_codec=codec)
    middle = sound(tmp_path / name, 2.0)[8000:24_000]
    assert np.sqrt(2 * (middle.astype(np.float64) ** 2).mean()) == pytest.approx(0.8, rel=0.02)
    assert np.abs(middle).max() <= 1.0


def test_two_channels_are_averaged(tmp_path: Path) -> None:
    left, right = sine(hz=440, seconds=2, level=0.6), sine(hz=1000, seconds=2, level=0.2)
    make_video(tmp_path / "a.mkv", seconds=2, audio=np.stack([left, right]), audio_codec="pcm_s16le")
    found = sound(tmp_path / "a.mkv", 2.0)[8000:24_000]
    at_s = np.arange(8000, 24_000) / RATE_HZ
    expected = 0.3 * np.sin(2 * np.pi * 440 * at_s) + 0.1 * np.sin(2 * np.pi * 1000 * at_s)
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_resampling_against_scipy(tmp_path: Path) -> None:
    signal = pytest.importorskip("scipy.signal")
    rng = np.random.default_rng(0)
    wave = signal.lfilter(*signal.butter(6, 5000, fs=44_100), rng.normal(size=88_200)) * 0.2
    make_video(tmp_path / "a.mkv", seconds=2, audio=wave, audio_codec="pcm_f32le")
    expected = signal.resample_poly(wave, 160, 441)
    found = sound(tmp_path / "a.mkv", 2.0)
    assert len(found) == len(expected)
    np.testing.assert_allclose(found[800:-800], expected[800:-800], atol=2e-3)


@pytest.mark.parametrize("name", ["a.mkv", "a.mov"])  # the second says that its one channel is "mono"
def test_sound_that_needs_no_conversion_is_taken_as_it_is(tmp_path: Path, name: str) -> None:
    wave = np.random.default_rng(0).uniform(-1, 1, 32_000).astype(np.float32)
    make_video(tmp_path / name, seconds=2, audio=wave, audio_codec="pcm_f32le", audio_rate=RATE_HZ)
    np.testing.assert_array_equal(sound(tmp_path / name, 2.0), wave)


def test_a_change_of_channels_midway(tmp_path: Path) -> None:
    """Broadcast streams switch between mono and stereo; two such files one after the other are one stream."""
    with (tmp_path / "both.mpg").open("wb") as both:
        for channels in (1, 2):
            tone = np.tile(sine(hz=440, seconds=1), (channels, 1))
            part, at_s = tmp_path / f"{channels}.mpg", channels - 1.0
            offsets: Any = {"audio_offset_s": at_s, "video_offset_s": at_s}
            make_video(part, seconds=1, codec="mpeg1video", audio=tone, audio_codec="mp2", b_frames=0, **offsets)
            both.write(part.read_bytes())
    with av.open(str(tmp_path / "both.mpg")) as container:
        assert {frame.layout.name for frame in container.decode(audio=0)} == {"mono", "stereo"}
    wave = sound(tmp_path / "both.mpg", 2.0).astype(np.float64)
    for part in (wave[4000:12_000], wave[22_000:28_000]):
        assert np.sqrt(2 * (part**2).mean()) == pytest.approx(0.5, rel=0.03)


def test_blocks_come_one_by_one(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=4, audio=sine(hz=440, seconds=4))
    blocks = decode.waveform_blocks(tmp_path / "a.mp4", duration_s=4.0, beat=unheard)
    assert len(next(blocks)) < 4000  # not the whole file at once
    assert max(len(block) for block in blocks) < 4000


# --- what cannot be decoded


@pytest.mark.parametrize("read", [pictures, sound])
def test_what_is_no_medium_is_named(tmp_path: Path, read: Any) -> None:
    with pytest.raises(VAError, match=r"none.mp4: no such file"):
        read(tmp_path / "none.mp4", 1.0)
    (tmp_path / "fake.mp4").write_text("no pictures\n" * 200)
    with pytest.raises(VAError, match=r"fake.mp4: cannot be decoded"):
        read(tmp_path / "fake.mp4", 1.0)


def test_pictures_damaged_midway_are_named_or_survived(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=4, b_frames=0, audio=sine(hz=440, seconds=4), audio_codec="aac")
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    start = content.find(b"mdat") + 4
    middle = slice(start + 2000, start + 6000)
    content[middle] = np.random.default_rng(0).integers(0, 256, 4000, np.uint8).tobytes()
    (tmp_path / "a.mp4").write_bytes(content)
    for read in (pictures, sound):
        try:
            read(tmp_path / "a.mp4", 4.0)
        except VAError as error:
            assert "a.mp4: cannot be decoded" in error.message
