"""Clocks of real files: presentation times as they were written, whatever the rate, the order and the start."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from support import TICKS_PER_S, make_video, sine

from va.data import media
from va.errors import VAError

NTSC = Fraction(30_000, 1001)


def irregular_ticks(count: int) -> list[int]:
    """Frames 10 to 120 ms apart."""
    return [0, *np.cumsum(np.random.default_rng(0).integers(900, 10_800, count - 1)).tolist()]


def decoded_times(path: Path) -> list[float]:
    """Read the times the slow way: decode every picture and ask it, from the container's start on."""
    with av.open(str(path)) as container:
        start_s = (container.start_time or 0) / av.time_base
        return [frame.time - start_s for frame in container.decode(video=0)]


def is_reordered(path: Path) -> bool:
    """Whether packets lie in another order than their pictures are shown, as with B-frames."""
    with av.open(str(path)) as container:
        times = [packet.pts for packet in container.demux(video=0) if packet.size]
    return times != sorted(times)


CASES: dict[str, dict[str, Any]] = {
    "ntsc.mp4": {"rate": NTSC, "seconds": 2},
    "variable.mp4": {"ticks": irregular_ticks(50)},
    "variable.mkv": {"ticks": irregular_ticks(50)},
    "broadcast.ts": {"rate": 25, "seconds": 2},
    "old.mpg": {"rate": 25, "seconds": 2, "codec": "mpeg1video", "b_frames": 2},
}


@pytest.mark.parametrize("name", CASES)
def test_frame_times_are_those_of_the_decoded_frames(tmp_path: Path, name: str) -> None:
    asked = make_video(tmp_path / name, **CASES[name])
    assert is_reordered(tmp_path / name), "the case must need sorting"
    info = media.probe(tmp_path / name)
    assert info.frame_time_s.dtype == np.float64
    np.testing.assert_allclose(info.frame_time_s, decoded_times(tmp_path / name), atol=1e-6)
    # Matroska stores whole milliseconds.
    np.testing.assert_allclose(info.frame_time_s, asked, atol=0.6e-3 if name.endswith("mkv") else 1e-6)
    assert not info.has_audio


def test_duration_is_the_end_of_the_last_frame(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", rate=NTSC, seconds=2)  # 60 frames
    assert media.probe(tmp_path / "a.mp4").duration_s == pytest.approx(60 * 1001 / 30_000, abs=1e-6)


def test_sound_longer_than_the_pictures_does_not_count(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=1, audio=sine(hz=440, seconds=3))
    info = media.probe(tmp_path / "a.mp4")
    assert info.has_audio
    assert info.duration_s == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize(("video_offset_s", "audio_offset_s"), [(0.5, 0.0), (0.0, 0.5), (0.3, 0.3)])
def test_time_zero_is_the_first_stream_to_start(tmp_path: Path, video_offset_s: float, audio_offset_s: float) -> None:
    make_video(
        tmp_path / "a.mp4",
        seconds=1,
        audio=sine(hz=440, seconds=1),
        video_offset_s=video_offset_s,
        audio_offset_s=audio_offset_s,
    )
    late_s = video_offset_s - min(video_offset_s, audio_offset_s)
    info = media.probe(tmp_path / "a.mp4")
    # The writer aligns starts to AAC's frame of 23 ms.
    np.testing.assert_allclose(info.frame_time_s, late_s + np.arange(25) / 25, atol=0.025)
    assert info.duration_s == pytest.approx(info.frame_time_s[-1] + 0.04, abs=1e-6)


def test_packets_without_times_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_video(tmp_path / "a.mp4", seconds=1)
    expected = media.probe(tmp_path / "a.mp4").frame_time_s

    class Timeless:
        """A packet of a container that leaves times out."""

        size, is_discard, pts, duration = 1, False, None, 0

    class Container:
        def __init__(self, real: Any) -> None:
            self.real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self.real, name)

        def demux(self, stream: Any) -> list[Timeless]:
            return [Timeless()]

    real = media.open_media

    class Opened:
        def __init__(self, path: Path) -> None:
            self.inner = real(path)

        def __enter__(self) -> Container:
            return Container(self.inner.__enter__())

        def __exit__(self, *details: Any) -> Any:
            return self.inner.__exit__(*details)

    monkeypatch.setattr(media, "open_media", Opened)
    np.testing.assert_allclose(media.probe(tmp_path / "a.mp4").frame_time_s, expected, atol=1e-9)


def test_a_single_picture_has_a_duration(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", ticks=[0])
    info = media.probe(tmp_path / "a.mp4")
    assert len(info.frame_time_s) == 1 and info.duration_s > 0


def test_tags_that_are_not_utf8_do_no_harm(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=1, metadata={"title": "TITLE-OF-CLIP"})
    content = (tmp_path / "a.mp4").read_bytes()
    assert b"TITLE-OF-CLIP" in content
    (tmp_path / "a.mp4").write_bytes(content.replace(b"TITLE-OF-CLIP", b"caf\xe9 \xff\xfe-OF-CLIP"[:13]))
    assert len(media.probe(tmp_path / "a.mp4").frame_time_s) == 25


# --- what is no medium


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(VAError, match=r"none.mp4: no such file"):
        media.probe(tmp_path / "none.mp4")
    with pytest.raises(VAError, match="no such file"):
        media.probe(tmp_path)


@pytest.mark.parametrize("content", [b"", b"these are no pictures\n" * 100, bytes(5000)])
def test_a_file_that_is_no_medium(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fake.mp4").write_bytes(content)
    with pytest.raises(VAError, match=r"fake.mp4: cannot be decoded") as caught:
        media.probe(tmp_path / "fake.mp4")
    assert "re-encode or remove" in caught.value.hint


def test_sound_without_pictures(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44_100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44_100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VAError, match=r"sound.mp4: has no video stream"):
        media.probe(tmp_path / "sound.mp4")


@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}], ids=["index last", "index first"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_a_file_cut_off(tmp_path: Path, options: dict[str, str], part: float) -> None:
    def noise(index: int) -> np.ndarray:
        return np.random.default_rng(index).integers(0, 256, (64, 64, 3), np.uint8)

    make_video(tmp_path / "whole.mp4", seconds=2, draw=noise, audio=sine(hz=440, seconds=2), options=options)
    content = (tmp_path / "whole.mp4").read_bytes()
    media.probe(tmp_path / "whole.mp4")
    (tmp_path / "cut.mp4").write_bytes(content[: int(len(content) * part)])
    # With the index first FFmpeg reads what is left as a shorter clip and says nothing.
    with pytest.raises(VAError, match=r"cut.mp4: (is cut off, \d+ bytes are missing|cannot be decoded)"):
        media.probe(tmp_path / "cut.mp4")


def test_one_missing_byte_is_noticed(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=1, options={"movflags": "faststart"})
    content = (tmp_path / "a.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[:-1])
    with pytest.raises(VAError, match="is cut off, 1 bytes are missing"):
        media.probe(tmp_path / "a.mp4")


def test_ticks_are_what_the_helper_says() -> None:
    """The oracle of this file: 1/90000 s holds both common rates exactly."""
    assert TICKS_PER_S / NTSC == 3003 and TICKS_PER_S / 25 == 3600
