"""Clocks of real files: presentation times as they were written, whatever the rate, the order and the start."""

import shutil
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition
from support import TICKS_PER_S, box_at, ffprobe_frame_times, make_video, read_number, sine

from va.data import media, showing
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
    "part 4.mp4": {"rate": 25, "seconds": 2, "codec": "mpeg4", "b_frames": 2},
    "hevc.mp4": {"rate": 25, "seconds": 2, "codec": "libx265"},
    "fragmented.mp4": {"rate": NTSC, "seconds": 2, "options": {"movflags": "frag_keyframe+empty_moov"}},
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


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="needs FFmpeg's own program as the oracle")
@pytest.mark.parametrize("name", CASES)
def test_frame_times_are_those_of_ffprobe(tmp_path: Path, name: str) -> None:
    make_video(tmp_path / name, **CASES[name])
    found, expected = media.probe(tmp_path / name).frame_time_s, ffprobe_frame_times(tmp_path / name)
    assert np.isfinite(expected[:-2]).all()
    told = np.isfinite(expected)  # for the last pictures of MPEG program streams it has no answer
    np.testing.assert_allclose(found[told], expected[told], atol=2e-6)


def test_webm_has_the_times_asked_for(tmp_path: Path) -> None:
    asked = make_video(tmp_path / "a.webm", rate=25, seconds=2, codec="libvpx-vp9")
    np.testing.assert_allclose(media.probe(tmp_path / "a.webm").frame_time_s, asked, atol=1e-6)


@pytest.mark.parametrize(("codec", "b_frames"), [("mpeg4", 0), ("mpeg4", 2), ("libx264", 0), ("libx264", 3)])
@pytest.mark.parametrize("threads", [1, 3])
def test_avi_shows_its_pictures_in_turn(tmp_path: Path, codec: str, b_frames: int, threads: int) -> None:
    """AVI has no times of showing; the sound, which is not delayed with the pictures, says which are right."""
    asked = make_video(tmp_path / "a.avi", seconds=2, codec=codec, b_frames=b_frames)
    np.testing.assert_allclose(media.probe(tmp_path / "a.avi").frame_time_s, asked, atol=1e-6)
    shown = list(showing.timed_pictures(tmp_path / "a.avi", threads=threads, beat=lambda: None))
    np.testing.assert_allclose([time_s for time_s, _ in shown], asked, atol=1e-6)
    assert [read_number(picture.to_ndarray(format="rgb24")) for _, picture in shown] == list(range(50))


def test_asf_shows_its_pictures_in_order(tmp_path: Path) -> None:
    asked = make_video(tmp_path / "a.asf", seconds=2, b_frames=3)
    info = media.probe(tmp_path / "a.asf")
    shown = list(showing.timed_pictures(tmp_path / "a.asf", threads=1, beat=lambda: None))
    assert [read_number(picture.to_ndarray(format="rgb24")) for _, picture in shown] == list(range(50))
    np.testing.assert_allclose([time_s for time_s, _ in shown], info.frame_time_s, atol=1e-6)
    np.testing.assert_allclose(info.frame_time_s - info.frame_time_s[0], asked, atol=0.6e-3)  # whole milliseconds


@pytest.mark.parametrize("b_frames", [0, 2])
def test_pictures_that_an_avi_leaves_out_keep_their_place(tmp_path: Path, b_frames: int) -> None:
    turns = [0, 1, 2, 3, 6, 7, 10, 11, 12, 13]
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=25)
        video.width = video.height = 64
        video.codec_context.max_b_frames = b_frames
        for turn in turns:
            picture = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 10 * turn, np.uint8), format="rgb24")
            picture.pts = turn
            container.mux(video.encode(picture))
        container.mux(video.encode(None))
    info = media.probe(tmp_path / "a.avi")
    shown = list(showing.timed_pictures(tmp_path / "a.avi", threads=1, beat=lambda: None))
    grey = [picture.to_ndarray(format="rgb24").mean() / 10 for _, picture in shown]
    np.testing.assert_allclose([time_s * 25 for time_s, _ in shown], turns, atol=1e-6)
    np.testing.assert_allclose(info.frame_time_s * 25, turns, atol=1e-6)
    np.testing.assert_allclose(grey, turns, atol=0.45)


@pytest.mark.parametrize("b_frames", [0, 3])
def test_an_edit_list_chooses_what_is_shown(tmp_path: Path, b_frames: int) -> None:
    make_video(tmp_path / "a.mp4", seconds=4, b_frames=b_frames)
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    at = box_at(content, b"elst") + 8
    _, start = struct.unpack_from(">Ii", content, at)
    struct.pack_into(">Ii", content, at, 2000, start + 37 * 3600)  # two seconds, from picture 37 on
    (tmp_path / "a.mp4").write_bytes(content)
    info = media.probe(tmp_path / "a.mp4")
    np.testing.assert_allclose(info.frame_time_s, np.arange(50) / 25, atol=1e-6)
    assert info.duration_s == pytest.approx(2.0)
    shown = list(showing.timed_pictures(tmp_path / "a.mp4", threads=1, beat=lambda: None))
    assert [read_number(picture.to_ndarray(format="rgb24")) for _, picture in shown] == list(range(37, 87))
    if shutil.which("ffprobe"):
        np.testing.assert_allclose(info.frame_time_s, ffprobe_frame_times(tmp_path / "a.mp4"), atol=2e-6)


def test_packets_without_times_are_refused(tmp_path: Path) -> None:
    make_video(tmp_path / "a.h264", seconds=1)  # the bare codec: no container, no clock
    with pytest.raises(VAError, match=r"a.h264: some frames have no timestamp"):
        media.probe(tmp_path / "a.h264")


def test_a_clock_that_starts_again_is_refused(tmp_path: Path) -> None:
    make_video(tmp_path / "one.ts", seconds=4)
    (tmp_path / "two.ts").write_bytes((tmp_path / "one.ts").read_bytes() * 2)
    with pytest.raises(VAError, match=r"two.ts: its clock jumps back"):
        media.probe(tmp_path / "two.ts")


@pytest.mark.parametrize(("at_s", "fine"), [(23.9 * 3600, True), (24.1 * 3600, False), (1e7, False)])
def test_an_absurd_length_is_refused(tmp_path: Path, at_s: float, fine: bool) -> None:
    make_video(tmp_path / "a.mkv", ticks=[0, 3600, round(at_s * TICKS_PER_S)], b_frames=0)
    if fine:
        assert media.probe(tmp_path / "a.mkv").duration_s == pytest.approx(at_s, abs=1)
        return
    with pytest.raises(VAError, match=r"a.mkv: claims a length of .* not between 0 and 24 hours"):
        media.probe(tmp_path / "a.mkv")


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Peak memory of a process that reads 60 MB of pictures and sound, over that after a short file."""
    for name, seconds in (("short.avi", 2), ("long.avi", 360)):
        grey = np.full((64, 64, 3), 90, np.uint8)
        wave = np.zeros(seconds * 8000)
        make_video(
            tmp_path / name,
            seconds=seconds,
            codec="rawvideo",
            draw=lambda _, grey=grey: grey,
            audio=wave,
            audio_codec="pcm_s16le",
            audio_rate=8000,
        )
    assert (tmp_path / "long.avi").stat().st_size > 60e6
    script = """
import resource, sys
from pathlib import Path
from va.data import media, showing
from va.extract import decode
for name in sys.argv[1:]:
    info = media.probe(Path(name))
    for _ in decode.frames_at_cells(Path(name), duration_s=info.duration_s, threads=1, beat=lambda: None): pass
    for _ in decode.waveform_blocks(Path(name), duration_s=info.duration_s, beat=lambda: None): pass
    print(len(info.frame_time_s), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "short.avi"), str(tmp_path / "long.avi")]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    frames, peaks = [int(lines[0]), int(lines[2])], [int(lines[1]), int(lines[3])]
    assert frames == [50, 9000]
    assert peaks[1] - peaks[0] < 6_000  # KiB


def test_each_packet_gives_a_beat(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=2)
    beats: list[int] = []
    media.probe(tmp_path / "a.mp4", beat=lambda: beats.append(1))
    assert len(beats) >= 50


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


@pytest.mark.parametrize("cover", [False, True])
def test_sound_without_pictures(tmp_path: Path, cover: bool) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44_100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44_100
        if cover:
            image: Any = container.add_stream("mjpeg", rate=1)
            image.width, image.height, image.pix_fmt = 64, 64, "yuvj420p"
            image.disposition = Disposition.attached_pic
            container.mux(image.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
            container.mux(image.encode(None))
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


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm"])
def test_one_missing_byte_is_noticed(tmp_path: Path, name: str) -> None:
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    make_video(tmp_path / name, seconds=1, codec="libvpx-vp9" if name == "a.webm" else "libx264", options=options)
    content = (tmp_path / name).read_bytes()
    media.probe(tmp_path / name)
    (tmp_path / name).write_bytes(content[:-1])
    with pytest.raises(VAError, match="is cut off, 1 bytes are missing"):
        media.probe(tmp_path / name)


def test_a_matroska_file_of_unknown_length_is_read(tmp_path: Path) -> None:
    """What a writer leaves that cannot go back to fill in the length, such as a browser's recorder."""
    make_video(tmp_path / "a.mkv", seconds=1)
    content = bytearray((tmp_path / "a.mkv").read_bytes())
    at = content.index(b"\x18\x53\x80\x67") + 4
    assert content[at] == 1  # eight bytes
    content[at : at + 8] = b"\x01" + b"\xff" * 7
    (tmp_path / "a.mkv").write_bytes(content)
    assert len(media.probe(tmp_path / "a.mkv").frame_time_s) == 25


def test_names_with_colons_are_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_video(tmp_path / "a:b%d.mp4", seconds=1)
    monkeypatch.chdir(tmp_path)
    assert len(media.probe(Path("a:b%d.mp4")).frame_time_s) == 25


def test_sound_that_nothing_decodes_is_named_and_passed_over(tmp_path: Path) -> None:
    for count in (1, 2):
        path = tmp_path / f"{count}.mkv"
        with av.open(str(path), "w") as container:
            video = container.add_stream("mpeg4", rate=25)
            video.width = video.height = 64
            sounds = [container.add_stream("pcm_s16le", rate=8000, layout="mono") for _ in range(count)]
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
            container.mux(video.encode(None))
            for sound in sounds:
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
                frame.sample_rate = 8000
                container.mux(sound.encode(frame))
        path.write_bytes(path.read_bytes().replace(b"A_PCM/INT/LIT", b"A_UNHEARDOF-0", 1))
    assert media.probe(tmp_path / "2.mkv").has_audio
    with pytest.raises(VAError, match=r"1.mkv: its sound is in a format that cannot be decoded"):
        media.probe(tmp_path / "1.mkv")


def test_ticks_are_what_the_helper_says() -> None:
    """The oracle of this file: 1/90000 s holds both common rates exactly."""
    assert TICKS_PER_S / NTSC == 3003 and TICKS_PER_S / 25 == 3600
