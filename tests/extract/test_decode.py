"""The picture at a cell's centre is the one that was drawn for that time; sound keeps its place, level and end.

Two tolerances are loose. The start of a stream in mp4 is written in AAC frames of 23 ms, and AAC smears a click
over one frame: a click may be found up to 80 ms off. Sound stored without loss must be within 1 ms.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from support import draw_number, make_video, read_number, sine

from va.data import media
from va.errors import VAError
from va.extract import decode

RATE_HZ = decode.SAMPLE_RATE_HZ


def irregular_ticks(count: int) -> list[int]:
    return [0, *np.cumsum(np.random.default_rng(1).integers(900, 40_000, count - 1)).tolist()]


def shown_at_cells(path: Path, duration_s: float) -> list[int | None]:
    frames = decode.frames_at_cells(path, duration_s=duration_s)
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
    blocks = list(decode.waveform_blocks(path, duration_s=duration_s))
    assert all(block.dtype == np.float32 and block.ndim == 1 for block in blocks)
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
}


@pytest.mark.parametrize("name", CASES)
def test_each_cell_has_the_frame_that_was_drawn(tmp_path: Path, name: str) -> None:
    asked = make_video(tmp_path / name, **CASES[name])
    duration_s = media.probe(tmp_path / name).duration_s
    # Matroska rounds to milliseconds; no frame of the case lies that close to a centre.
    found = shown_at_cells(tmp_path / name, duration_s)
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
    (frame,) = decode.frames_at_cells(tmp_path / "a.mp4", duration_s=0.5)
    assert frame is not None and frame.dtype == np.uint8 and frame.shape == (64, 64, 3)
    np.testing.assert_allclose(frame[8:24, 8:56].mean(axis=(0, 1)), [220, 0, 0], atol=6)
    np.testing.assert_allclose(frame[40:56, 8:56].mean(axis=(0, 1)), [0, 0, 180], atol=6)


def test_only_frames_at_centres_are_converted_and_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_video(tmp_path / "a.mp4", rate=25, seconds=4)
    converted = 0
    real = decode._rgb

    def counted(frame: Any) -> Any:
        nonlocal converted
        converted += 1
        return real(frame)

    monkeypatch.setattr(decode, "_rgb", counted)
    frames = decode.frames_at_cells(tmp_path / "a.mp4", duration_s=4.0)
    assert converted == 0
    for number, _ in enumerate(frames, start=1):
        assert converted == number
    assert converted == 8  # of 100


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
    assert list(decode.waveform_blocks(tmp_path / "a.mp4", duration_s=1.0)) == []


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
            part = tmp_path / f"{channels}.mpg"
            make_video(part, seconds=1, codec="mpeg1video", audio=tone, audio_codec="mp2", b_frames=0)
            both.write(part.read_bytes())
    with av.open(str(tmp_path / "both.mpg")) as container:
        assert {frame.layout.name for frame in container.decode(audio=0)} == {"mono", "stereo"}
    wave = sound(tmp_path / "both.mpg", 2.0).astype(np.float64)
    for part in (wave[4000:12_000], wave[22_000:28_000]):
        assert np.sqrt(2 * (part**2).mean()) == pytest.approx(0.5, rel=0.03)


def test_blocks_come_one_by_one(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=4, audio=sine(hz=440, seconds=4))
    blocks = decode.waveform_blocks(tmp_path / "a.mp4", duration_s=4.0)
    assert len(next(blocks)) < 4000  # not the whole file at once
    assert max(len(block) for block in blocks) < 4000


# --- what cannot be decoded


@pytest.mark.parametrize("read", [decode.frames_at_cells, decode.waveform_blocks])
def test_what_is_no_medium_is_named(tmp_path: Path, read: Any) -> None:
    with pytest.raises(VAError, match=r"none.mp4: no such file"):
        list(read(tmp_path / "none.mp4", duration_s=1.0))
    (tmp_path / "fake.mp4").write_text("no pictures\n" * 200)
    with pytest.raises(VAError, match=r"fake.mp4: cannot be decoded"):
        list(read(tmp_path / "fake.mp4", duration_s=1.0))


def test_pictures_damaged_midway_are_named_or_survived(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=4, b_frames=0, audio=sine(hz=440, seconds=4), audio_codec="aac")
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    start = content.find(b"mdat") + 4
    middle = slice(start + 2000, start + 6000)
    content[middle] = np.random.default_rng(0).integers(0, 256, 4000, np.uint8).tobytes()
    (tmp_path / "a.mp4").write_bytes(content)
    for read in (decode.frames_at_cells, decode.waveform_blocks):
        try:
            list(read(tmp_path / "a.mp4", duration_s=4.0))
        except VAError as error:
            assert "a.mp4: cannot be decoded" in error.message
