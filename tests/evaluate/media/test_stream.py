"""A stream says at t what the same run says offline at the end of a clip cut at t, and nothing later moves it.

The oracle is the offline path: `va extract`'s own pipeline over the same media, then `predict_clips`.
"""

import contextlib
import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import av
import inside
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from support import TICKS_PER_S, draw_number, make_video
from tiny_run import make_run

from va import cli
from va.data import corpus, features, media
from va.data.corpus import Clip, Corpus, Truth
from va.errors import VAError
from va.evaluate.media import stream
from va.evaluate.opening import Inputs
from va.evaluate.pages.sentences import NO_REGIONS
from va.evaluate.predict import predict_clips
from va.extract import decode, detect, faces, pipeline
from va.extract.config import ExtractConfig
from va.extract.detect import Face
from va.train import checkpoint, encoding
from va.train.encoding import Pair

SECONDS = 17.0
CPU = torch.device("cpu")


def noise(seconds: float, *, seed: int = 0, rate: int = 16_000) -> NDArray[np.float64]:
    """Sound that is different in every half second."""
    rng = np.random.default_rng(seed)
    level = np.repeat(rng.uniform(0.01, 0.3, round(seconds * 2)), rate // 2)
    return level * rng.normal(size=len(level)).clip(-3, 3)


def picture(index: int) -> NDArray[np.uint8]:
    return draw_number(index * 977 % 65_536)


def slow_ticks() -> list[int]:
    """Pictures at very unequal distances, with 4 s without any."""
    rng = np.random.default_rng(4)
    ticks = np.cumsum(rng.integers(1_000, 50_000, 100))
    ticks = ticks[(ticks < 5 * TICKS_PER_S) | (ticks > 9 * TICKS_PER_S)]
    return [0, *ticks[ticks < SECONDS * TICKS_PER_S].tolist()]


def remux(source: Path, target: Path, *, until_s: float = np.inf, form: str | None = None) -> Path:
    """Copy the packets that start before a time, interleaved as a recorder would."""
    with av.open(str(source)) as old, av.open(str(target), "w", format=form) as new:
        streams = {each.index: new.add_stream_from_template(each) for each in old.streams}
        for packet in old.demux():
            if packet.size and float(packet.pts * packet.time_base) < until_s - 1e-6:
                packet.stream = streams[packet.stream.index]
                new.mux(packet)
    return target


MEDIA: dict[str, dict[str, Any]] = {
    "plain": {"seconds": SECONDS, "audio": noise(SECONDS)},
    "variable": {"ticks": slow_ticks(), "audio": noise(SECONDS)},
    "late_sound": {"seconds": SECONDS, "audio": noise(SECONDS - 3), "audio_offset_s": 3.0},
    "late_pictures": {"seconds": SECONDS - 3, "video_offset_s": 3.0, "audio": noise(SECONDS)},
    "short_sound": {"seconds": SECONDS, "audio": noise(4.0)},
    "silent": {"seconds": SECONDS, "audio": None},
}
CUTS = {"cut4": 4.0, "cut7": 7.0, "cut13": 13.0}


class Made(NamedTuple):
    """Media, their features, and runs: `end` hears through tiny-ast, `frames` is an ensemble that hears loudness."""

    inputs: dict[str, Inputs]
    runs: dict[str, Path]
    answered: dict[tuple[str, str], list[dict[str, Any]]]

    def clip(self, name: str) -> Clip:
        return next(clip for clip in self.inputs["end"].corpus.clips if clip.id == name)

    def stream(self, target: str, name: str) -> list[dict[str, Any]]:
        """The answers at every second, made once."""
        if (target, name) not in self.answered:
            self.answered[target, name] = answer(self.runs[target], self.clip(name).media)
        return self.answered[target, name]

    def offline(self, target: str, name: str) -> dict[float, NDArray[np.float64]]:
        """What the run says at each window's end: valence and arousal by time."""
        run = checkpoint.load_run(self.runs[target])
        found = predict_clips(
            run, self.inputs[target], (self.clip(name),), device=CPU, fill="interpolate", label_shift_s=0.0
        )
        ends = found.windows.spans[0].end_time_s
        cells = found.windows.local_cells.numpy()
        last = (cells >= 0).sum(axis=1) - 1 if target == "frames" else np.zeros(len(cells), int)
        return {round(end, 3): found.raw.va[window, last[window]] for window, end in enumerate(ends)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("stream")
    clips = {}
    for name, how in MEDIA.items():
        make_video(root / "whole.mkv", draw=picture, audio_codec="pcm_s16le", audio_rate=16_000, **how)
        clips[name] = remux(root / "whole.mkv", root / f"{name}.mkv")
    for name, until_s in CUTS.items():
        clips[name] = remux(clips["plain"], root / f"{name}.mkv", until_s=until_s)
    entries = []
    for name, path in clips.items():
        info = media.probe(path)
        count = len(info.frame_time_s)
        truth = Truth(time_s=info.frame_time_s, va=np.zeros((count, 2), np.float32), valid=np.ones(count, np.bool_))
        clip = Clip(id=name, media=path, split="train", identity=name, num_frames=count, duration_s=info.duration_s)
        entries.append((clip, truth))
    manifest = corpus.save(root, name="stream", synthetic=True, media_root=root, entries=entries).path
    names = ("tiny-clip", "tiny-ast", "loudness")
    summary = pipeline.run(
        ExtractConfig(corpus=manifest, out=root / "features", encoders=names, device="cpu"), progress=lambda *_: None
    )
    assert not summary.failed
    stores = {store.encoder: store for store in features.open_stores(root / "features")}
    inputs = {
        target: Inputs(corpus=Corpus.load(manifest), face=stores["tiny-clip"], voice=stores[voice])
        for target, voice in (("end", "tiny-ast"), ("frames", "loudness"))
    }
    runs = {
        "end": make_run(root / "end", target="end"),
        "frames": make_run(root / "frames", target="frames", voice="loudness", members=2),
    }
    return Made(inputs, runs, {})


def answer(
    run_directory: Path,
    source: Path,
    *,
    step_s: float = 1.0,
    realtime: bool = False,
    faces: encoding.Faces = "auto",
    change: Callable[[Pair], Pair] = lambda pair: pair,
) -> list[dict[str, Any]]:
    run = checkpoint.load_run(run_directory)
    config = encoding.settings_for(
        run,
        corpus=source,
        out=source,
        faces=faces,
        clip_weights=None,
        ast_weights=None,
        face_weights=None,
        device="cpu",
    )
    pair = change(encoding.load(run, config, device=CPU))
    found = stream.answers(run, pair, config, source=str(source), step_s=step_s, realtime=realtime, device=CPU)
    return list(found)


def va_of(line: dict[str, Any]) -> list[float]:
    return [line["valence"], line["arousal"]]


@pytest.mark.parametrize(
    ("target", "name"), [*(("frames", name) for name in MEDIA), ("end", "plain"), ("end", "late_sound")]
)
def test_answers_are_those_of_the_offline_run(made: Made, target: str, name: str) -> None:
    lines = {line["time_s"]: line for line in made.stream(target, name)}
    # `variable` too, whose last picture comes at 16.93 s: its sound goes on to 17 s.
    assert list(lines) == [float(second) for second in range(1, 18)]
    offline = {time_s: va for time_s, va in made.offline(target, name).items() if time_s in (10.0, 13.0, 16.0)}
    assert len(offline) == 3
    for time_s, va in offline.items():
        np.testing.assert_allclose(va_of(lines[time_s]), va, atol=2e-3)
    assert np.ptp([va_of(line) for line in lines.values()], axis=0).max() > 0.02  # there is something to get wrong


@pytest.mark.parametrize("target", ["end", "frames"])
@pytest.mark.parametrize("name", CUTS)
def test_an_answer_is_that_at_the_end_of_a_clip_cut_there(made: Made, name: str, target: str) -> None:
    lines = {line["time_s"]: line for line in made.stream(target, "plain")}
    offline = made.offline(target, name)
    time_s = max(offline)
    assert time_s == pytest.approx(CUTS[name], abs=1e-3)
    np.testing.assert_allclose(va_of(lines[CUTS[name]]), offline[time_s], atol=2e-3)


def test_the_mask_of_each_step_is_told(made: Made) -> None:
    seen = {name: made.stream("frames", name) for name in MEDIA}
    assert all(line["face"] and line["sound"] and line["box"] is None for line in seen["plain"])
    assert [line["face"] for line in seen["late_pictures"]] == [False] * 3 + [True] * 14
    assert [line["sound"] for line in seen["late_sound"]] == [False] * 3 + [True] * 14
    assert [line["sound"] for line in seen["short_sound"]] == [True] * 4 + [False] * 13
    assert not any(line["sound"] for line in seen["silent"])
    names = ("time_s", "valence", "arousal", "regions", "gate", "face", "box", "sound", "latency_s", "dropped")
    for lines in seen.values():
        for line in lines:
            assert tuple(line) == names
            assert sum(line["regions"]) == pytest.approx(1, abs=1e-4) and len(line["regions"]) == 9
            assert 0 <= line["gate"] <= 1 and line["latency_s"] > 0 and line["dropped"] == 0


def test_half_seconds_are_steps_too(made: Made) -> None:
    every = {line["time_s"]: line for line in answer(made.runs["frames"], made.clip("cut4").media, step_s=0.5)}
    assert list(every) == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
    for line in answer(made.runs["frames"], made.clip("cut4").media, step_s=2.0):
        assert va_of(line) == va_of(every[line["time_s"]])


@pytest.mark.parametrize("target", ["end", "frames"])
def test_nothing_after_a_step_moves_its_answer(made: Made, tmp_path: Path, target: str) -> None:
    """Two recordings with the same first 6 s, in formats whose packets depend on nothing after them."""
    found = []
    for ending in (0, 5):
        sound = np.concatenate([noise(6.0), noise(2.0, seed=ending)])
        make_video(
            tmp_path / "whole.mkv",
            seconds=8,
            draw=lambda index, ending=ending: picture(index if index < 150 else index + 1000 * ending),
            codec="ffv1",
            b_frames=0,
            audio=sound,
            audio_codec="pcm_s16le",
            audio_rate=16_000,
        )
        path = remux(tmp_path / "whole.mkv", tmp_path / f"{ending}.mkv")
        found.append([{**line, "latency_s": 0} for line in answer(made.runs[target], path)])
    assert found[0][:6] == found[1][:6]
    assert all(one != other for one, other in zip(found[0][6:], found[1][6:], strict=True))
    assert len(found[0]) == 8


def slowed(pair: Pair, seconds: float) -> Pair:
    def encode(*inputs: torch.Tensor) -> torch.Tensor:
        time.sleep(seconds)
        return pair.voice.encode(*inputs)

    return pair._replace(voice=dataclasses.replace(pair.voice, encode=encode))


def test_slow_encoders_cost_steps_of_what_has_its_own_time(made: Made) -> None:
    source, run = made.clip("cut4").media, made.runs["frames"]
    whole = {line["time_s"]: va_of(line) for line in answer(run, source, step_s=0.5)}
    lines = answer(run, source, step_s=0.5, realtime=True, change=lambda pair: slowed(pair, 0.8))
    assert sum(1 + line["dropped"] for line in lines) == len(whole) == 8
    assert sum(line["dropped"] for line in lines) >= 2
    expected = 0.0
    for line in lines:  # what is left out is said by the next line, and what is answered is what it would have been
        expected += 0.5 * (1 + line["dropped"])
        assert line["time_s"] == expected and va_of(line) == whole[expected]
    assert lines[-1]["time_s"] == 4.0


def test_slow_encoders_cost_no_step_of_a_file(made: Made) -> None:
    lines = answer(made.runs["end"], made.clip("cut4").media, step_s=1.0, change=lambda pair: slowed(pair, 0.2))
    assert [line["time_s"] for line in lines] == [1.0, 2.0, 3.0, 4.0]
    assert not any(line["dropped"] for line in lines)


def test_a_file_comes_as_its_clock_says(made: Made) -> None:
    started = time.perf_counter()
    assert len(answer(made.runs["end"], made.clip("cut4").media, step_s=4.0, realtime=True)) == 1
    assert time.perf_counter() - started >= 3.9  # never sooner, however quick the machine


def test_a_face_is_followed_as_stage_one_does(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def detector(rgb: NDArray[np.uint8]) -> list[Face]:
        if rgb.mean() > 140:
            return []
        left = 4 + rgb.mean() / 8
        return [Face(box=(left, 10.0, left + 32, 50.0), score=0.9)]

    monkeypatch.setattr(detect, "load_detector", lambda weights: detector)
    path = made.clip("cut7").media
    frames = decode.frames_at_cells(path, duration_s=7.0, threads=1, beat=lambda: None)
    wanted = list(
        faces.follow(frames, detector=detector, side="largest", margin=0.1, smoothing_s=0.3, hold_s=faces.HOLD_S)
    )
    lines = answer(made.runs["frames"], path, step_s=0.5, faces="detect")
    assert [line["box"] for line in lines] == [None if crop is None else list(crop.box) for crop in wanted]
    assert [line["face"] for line in lines] == [crop is not None for crop in wanted]
    assert len({str(line["box"]) for line in lines}) > 5


@pytest.mark.parametrize("modalities", ["face", "voice"])
def test_a_head_of_one_modality_runs_one_encoder(made: Made, modalities: str) -> None:
    run = checkpoint.load_run(made.runs["end"])
    config = dataclasses.replace(run.config, modalities=modalities)
    shape = {"frame_dim": 128, "audio_dim": 96, "audio_cnn": False}
    head = checkpoint.make_head(config, shape, prototypes=run.head.region_head.prototypes)
    alone = dataclasses.replace(run, config=config, head=head.eval())
    path = made.clip("cut4").media
    settings = encoding.settings_for(
        run, corpus=path, out=path, faces="auto", clip_weights=None, ast_weights=None, face_weights=None, device="cpu"
    )

    def refused(*inputs: torch.Tensor) -> torch.Tensor:
        raise AssertionError("not needed")

    pair = encoding.load(run, settings, device=CPU)
    unused = "voice" if modalities == "face" else "face"
    pair = pair._replace(**{unused: dataclasses.replace(getattr(pair, unused), encode=refused)})
    found = stream.answers(alone, pair, settings, source=str(path), step_s=2.0, realtime=False, device=CPU)
    lines = list(found)
    assert [line["gate"] for line in lines] == [0.0 if modalities == "face" else 1.0] * 2
    assert all(line["face"] and line["sound"] for line in lines)


def test_closing_the_answers_ends_the_reading(made: Made) -> None:
    run = checkpoint.load_run(made.runs["end"])
    path = made.clip("plain").media
    settings = encoding.settings_for(
        run, corpus=path, out=path, faces="auto", clip_weights=None, ast_weights=None, face_weights=None, device="cpu"
    )
    before = threading.active_count()
    pair = encoding.load(run, settings, device=CPU)
    found = stream.answers(run, pair, settings, source=str(path), step_s=1.0, realtime=True, device=CPU)
    assert next(found)["time_s"] == 1.0
    found.close()
    assert threading.active_count() == before


def test_a_run_without_the_region_term_says_nothing_about_regions(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=1)
    lines: list[dict[str, Any]] = []
    notes: list[str] = []
    stream.run(
        directory=make_run(tmp_path / "run", region_weight=0.0),
        source=str(tmp_path / "a.mp4"),
        step_s=0.5,
        realtime=False,
        faces="auto",
        clip_weights=None,
        ast_weights=None,
        face_weights=None,
        device="cpu",
        emit=lines.append,
        note=notes.append,
    )
    assert [line["regions"] for line in lines] == [None, None]
    assert notes.count(NO_REGIONS) == 1 and any("demo encoders" in note for note in notes)


def test_the_summary_is_of_what_was_answered() -> None:
    assert stream.summary(steps=0, dropped=0, latencies_s=deque()) == "0 steps: the stream ended before the first"
    said = stream.summary(steps=3, dropped=2, latencies_s=deque([0.010, 0.020, 0.5]))
    assert said == "3 steps, 2 dropped, latency 20 ms (median), 452 ms (95th percentile)"


# --- the command


def command(*arguments: str | Path, **how: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "va.cli", "predict", *map(str, arguments), "--stream"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **how,
    )


@contextlib.contextmanager
def standard_input(content: bytes) -> Iterator[None]:
    """Pipe bytes into this process, as a shell would into a command."""
    reading, writing = os.pipe()
    before = os.dup(0)
    os.dup2(reading, 0)
    os.close(reading)

    def write() -> None:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        os.dup2(before, 0)  # where nobody reads any more, a writer that is left ends with a broken pipe
        os.close(before)
        writer.join()


def test_a_broadcast_comes_in_on_standard_input(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_video(tmp_path / "whole.mp4", seconds=5, draw=picture, audio=noise(5.0, rate=44_100))
    path = remux(tmp_path / "whole.mp4", tmp_path / "a.ts", form="mpegts")
    whole = {line["time_s"]: va_of(line) for line in answer(made.runs["frames"], path)}
    with standard_input(path.read_bytes()):
        status = inside.va("predict", made.runs["frames"], "-", "--stream", "--step-s", "1", "--device", "cpu")
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert status == 0
    # On a busy machine steps may be dropped; they are counted, and nothing else changes.
    assert sum(1 + line["dropped"] for line in lines) == len(whole) == 5
    assert all(va_of(line) == whole[line["time_s"]] for line in lines)
    assert f"{len(lines)} steps, {5 - len(lines)} dropped, latency" in said.err
    assert "demo encoders" in said.err


def test_matroska_is_answered_before_it_ends_and_interrupted(made: Made) -> None:
    content = made.clip("plain").media.read_bytes()
    process = command(made.runs["frames"], "-", "--step-s", "2", "--device", "cpu")
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(content[: len(content) * 2 // 3])  # 11 s; the rest never comes, nor an end
    process.stdin.flush()
    lines = [json.loads(process.stdout.readline())]
    process.send_signal(signal.SIGINT)
    lines += [json.loads(line) for line in process.stdout.read().splitlines()]  # to its end: the input stays open
    _, said = process.communicate()
    assert process.returncode == 130
    assert re.search(r"^\d+ steps, \d+ dropped, latency", said.decode(), re.M) and "Traceback" not in said.decode()
    assert said.decode().splitlines()[-1] == "interrupted"
    whole = {line["time_s"]: va_of(line) for line in made.stream("frames", "plain")}
    assert all(va_of(line) == whole[line["time_s"]] for line in lines)


def test_a_stream_that_breaks_keeps_what_was_answered(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    make_video(tmp_path / "whole.mkv", seconds=6, draw=picture, codec="ffv1", b_frames=0)
    with av.open(str(tmp_path / "whole.mkv")) as old, av.open(str(path), "w") as new:
        copied = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size:
                if number == 90:  # at 3.6 s
                    times, base = (packet.pts, packet.dts), packet.time_base
                    packet = av.Packet(b"nothing that can be decoded")
                    (packet.pts, packet.dts), packet.time_base = times, base
                packet.stream = copied
                new.mux(packet)
    said: list[str] = []
    lines: list[dict[str, Any]] = []
    with pytest.raises(VAError, match=r"a.mkv: cannot be decoded"):
        stream.run(
            directory=made.runs["frames"],
            source=str(path),
            step_s=1.0,
            realtime=False,
            faces="auto",
            clip_weights=None,
            ast_weights=None,
            face_weights=None,
            device="cpu",
            emit=lines.append,
            note=said.append,
        )
    assert [line["time_s"] for line in lines] == [1.0, 2.0, 3.0]
    assert said[-1].startswith("3 steps, 0 dropped")


def test_an_output_that_nobody_reads_ends_quietly() -> None:
    program = "from va.commands.prediction import _emit\nwhile True: _emit({'time_s': 0.5})"
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    said = process.stderr.read().decode()
    process.wait()
    assert "BrokenPipe" not in said.splitlines()[-1] and "Exit" in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "a.mp4", "--stream", "--step-s", "0.7"], "--step-s: 0.7 is out of range"),
        (["run", "a.mp4", "b.mp4", "--stream"], "--stream: 2 videos are named"),
        (["run", "a.mp4", "--stream", "--out", "o"], "--stream: writes no files"),
        (["a.mp4", "--stream", "--zero-shot"], "--stream: needs a run"),
        (["run", "a.mp4", "--realtime", "--out", "o"], "--realtime: is for --stream only"),
        (["run", "a.mp4", "--stream", "--stall-s", "5"], "--stall-s: does nothing with --stream"),
        (["run", "a.mp4", "--stream", "--smooth", "median"], "--smooth: does nothing with --stream"),
        (["run", "a.mp4"], "--out is missing"),
        (["run", "-", "--out", "o"], "-: standard input is for --stream only"),
        (["run", "a.mp4", "--out", "o", "--smooth-s", "2"], "--smooth-s: nothing is smoothed"),
        (["run", "a.mp4", "--stream"], "a.mp4: no such file"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["va", "predict", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert f"error: {message}" in capsys.readouterr().err
