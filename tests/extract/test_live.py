"""What a step's window holds is what stage one reads of a medium cut there; what is broken ends in words."""

import io
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from support import draw_number, make_sound, make_video, read_number

from va.data import media
from va.errors import VAError
from va.extract import decode, live
from va.extract.live import Look, Step


def look(cell: int, rgb: NDArray[np.uint8] | None) -> Look:
    return Look(cell=cell, model_input=rgb, box=None)


def events(path: Path, *, step_s: float = 0.5, window_s: float = 2.0) -> Iterator[Look | Step]:
    with media.open_media(path) as container:
        yield from live.follow(
            container, name=path, step_s=step_s, window_s=window_s, look=look, release=lambda time_s: None
        )


def steps(path: Path, *, step_s: float = 0.5, window_s: float = 2.0) -> list[Step]:
    return [event for event in events(path, step_s=step_s, window_s=window_s) if isinstance(event, Step)]


def test_a_window_holds_the_pictures_and_the_sound_of_stage_one(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    sound = np.random.default_rng(0).normal(0, 0.1, (2, 6 * 44_100)).clip(-1, 1)
    make_video(path, seconds=6, audio=sound)
    pictures = list(decode.frames_at_cells(path, duration_s=6.0, threads=1, beat=lambda: None))
    wave = np.concatenate(list(decode.waveform_blocks(path, duration_s=6.0, beat=lambda: None)))
    found = steps(path)
    assert [step.time_s for step in found] == [0.5 * number for number in range(1, 13)]
    for number, step in enumerate(found, start=1):
        first = max(0, number - 4)
        assert [each.cell for each in step.looks] == list(range(first, number))
        for each in step.looks:
            assert read_number(each.model_input) == read_number(pictures[each.cell])
        np.testing.assert_array_equal(step.waveform, wave[first * 8000 : number * 8000])


def test_a_step_comes_as_soon_as_its_end_is_read(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=6, b_frames=0, audio=np.zeros(6 * 44_100))
    path = tmp_path / "a.mp4"
    read: list[float] = []
    with media.open_media(path) as container:
        for event in live.follow(container, name=path, step_s=0.5, window_s=2.0, look=look, release=read.append):
            if isinstance(event, Step) and event.time_s < 6:
                assert event.time_s - 0.1 <= max(read) <= event.time_s + 0.3
    assert max(read) > 5.9


def test_holes_in_the_sound_are_silence_only_once_it_goes_on(tmp_path: Path) -> None:
    """As in a clip cut at the step: there the sound ends at the hole."""
    tone = np.full(8000, 0.5, np.float32)
    make_sound(tmp_path / "a.mkv", [(0.0, tone), (0.8, tone)])  # a hole from 0.5 to 0.8 s
    with av.open(str(tmp_path / "a.mkv")) as old:
        assert old.streams.audio  # a second of pictures beside it
    half, whole = steps(tmp_path / "a.mkv")
    np.testing.assert_array_equal(half.waveform, tone)
    np.testing.assert_array_equal(whole.waveform, np.concatenate([tone, np.zeros(4800, np.float32), tone[:3200]]))
    ends = live._Sound()
    ends.add(0, tone)
    ends.add(12_800, tone)
    np.testing.assert_array_equal(ends.window(0, 12_000), tone)  # nothing after 12 000 is known to it
    np.testing.assert_array_equal(ends.window(4_000, 16_000)[4_000:8_800], 0)
    assert len(ends.window(8_000, 12_800)) == 0


def test_sound_said_twice_is_heard_once_and_old_sound_is_let_go() -> None:
    sound = live._Sound()
    sound.add(-100, np.arange(-100, 1000, dtype=np.float32))
    sound.add(500, np.full(1000, 7, np.float32))
    np.testing.assert_array_equal(sound.window(0, 1500), [*range(1000), *[7] * 500])
    sound.forget(1000)
    np.testing.assert_array_equal(sound.window(1000, 1500), [7] * 500)
    assert len(sound._blocks) == 1
    sound.add(0, np.ones(10, np.float32))
    assert sound.end == 1500


def test_pictures_that_stop_are_waited_for_and_then_not(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=2, b_frames=0, audio=np.full(16 * 44_100, 0.1))
    found = steps(tmp_path / "a.mp4")
    # From 2 + 10 s of sound on, every step that the sound has passed; the last picture stays on screen.
    assert 15.0 <= found[-1].time_s <= 16.0
    assert [read_number(each.model_input) for each in found[-1].looks] == [49] * 4
    assert len(found[-1].waveform) == 32_000


def test_memory_is_a_window_however_long_the_stream(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", rate=5, seconds=120, b_frames=0, audio=np.zeros(120 * 8000), audio_rate=8000)
    with media.open_media(tmp_path / "a.mp4") as container:
        grids: list[live._Grid] = []
        real = live._Grid.__init__

        def noted(self: live._Grid, **how: object) -> None:
            real(self, **how)
            grids.append(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(live._Grid, "__init__", noted)
            for event in live.follow(
                container, name="a", step_s=0.5, window_s=2.0, look=look, release=lambda time_s: None
            ):
                if isinstance(event, Step):
                    (grid,) = grids
                    assert len(grid._looks) <= 8
                    assert sum(len(block) for _, block in grid._sound._blocks) <= 6 * 16_000


@pytest.mark.parametrize("offset_s", [100, 5000])
def test_a_clock_that_jumps_is_an_error_after_what_came_before(tmp_path: Path, offset_s: int) -> None:
    """Two recordings of a broadcast in one file, the second with another clock."""
    make_video(tmp_path / "a.ts", seconds=3, b_frames=0, video_offset_s=300)
    make_video(tmp_path / "b.ts", seconds=3, b_frames=0, video_offset_s=offset_s)
    (tmp_path / "c.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    found = []
    with pytest.raises(VAError, match="its clock jumps from"):
        for event in events(tmp_path / "c.ts"):
            found.append(event)
    assert [event.time_s for event in found if isinstance(event, Step)][:5] == [0.5, 1.0, 1.5, 2.0, 2.5]


def test_sound_without_pictures_is_an_error(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
    with pytest.raises(VAError, match="has no video stream"):
        steps(tmp_path / "a.wav")


def test_a_playlist_that_comes_as_bytes_reaches_for_nothing(tmp_path: Path) -> None:
    make_video(tmp_path / "secret.ts", seconds=2, draw=draw_number)
    for playlist in (
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{tmp_path}/secret.ts\n#EXT-X-ENDLIST\n",
        f"ffconcat version 1.0\nfile '{tmp_path}/secret.ts'\n",
        f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{tmp_path}/secret.ts\n#EXT-X-ENDLIST\n",
    ):
        with (
            pytest.raises(VAError, match="standard input: cannot be decoded"),
            media.open_bytes(io.BytesIO(playlist.encode()), name="standard input") as container,
        ):
            list(container.decode(video=0))
