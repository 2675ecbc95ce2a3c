"""A corpus of which half is broken: what is usable is written, what is not is named, and the exit code says so."""

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from support import make_video, sine

from va.data import corpus, features
from va.data.corpus import Clip, Truth

USABLE = ("good", "no audio", "odd size", "ten bit")
BROKEN = {
    "cut off": "is cut off",
    "cut off before its index": "cannot be decoded",
    "no video": "has no video stream",
    "zero length": "cannot be decoded",
    "text": "cannot be decoded",
    "one pixel": "pictures are too small",
    "nan audio": "sound has values that are not finite",
    "gone": "no such file",
}


def make_media(folder: Path) -> None:
    sound = sine(hz=300, seconds=2.0)
    make_video(folder / "good.mp4", audio=sound)
    make_video(folder / "no audio.mp4")
    make_video(folder / "odd size.mp4", codec="mpeg4", draw=lambda index: np.full((33, 35, 3), index, np.uint8))
    make_video(folder / "ten bit.mp4", audio=sound, pix_fmt="yuv420p10le")
    make_video(folder / "cut off.mp4", audio=sound, options={"movflags": "faststart"})
    for name, source in (("cut off", "cut off"), ("cut off before its index", "good")):
        (folder / f"{name}.mp4").write_bytes((folder / f"{source}.mp4").read_bytes()[:-4000])
    with av.open(str(folder / "no video.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44_100, layout="mono")
        block = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        block.sample_rate, block.pts = 44_100, 0
        container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    (folder / "zero length.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("this is no video\n" * 100)
    make_video(folder / "one pixel.mp4", codec="ffv1", draw=lambda index: np.zeros((1, 1, 3), np.uint8))
    make_video(folder / "nan audio.mkv", audio=np.full(88_200, np.nan, np.float32), audio_codec="pcm_f32le")
    (folder / "nan audio.mkv").rename(folder / "nan audio.mp4")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    (root / "media").mkdir()
    make_media(root / "media")
    truth = Truth(time_s=np.zeros(1), va=np.zeros((1, 2), np.float32), valid=np.ones(1, np.bool_))
    entries = []
    for name in (*BROKEN, *USABLE):
        path = root / "media" / f"{name}.mp4"
        entries.append((Clip(id=name, media=path, split="train", identity=name, num_frames=1, duration_s=2.0), truth))
    return corpus.save(root, name="x", synthetic=True, media_root=root / "media", entries=entries).path


def test_each_costs_itself_only(manifest: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "va.cli", "extract", str(manifest), "--out", str(tmp_path / "f")]
    command += ["--encoders", "pixels,loudness", "--device", "cpu"]
    for written, present in ((len(USABLE), 0), (0, len(USABLE))):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stdout.startswith(f"{written} written, {present} already there, {len(BROKEN)} failed")
        assert "Traceback" not in done.stderr
        lines = {line.split(":")[1].strip(): line for line in done.stderr.splitlines() if line.startswith("failed: ")}
        assert set(lines) == set(BROKEN)
        for name, reason in BROKEN.items():
            assert reason in lines[name] and f"{name}.mp4" in lines[name]
    records = {json.loads(file.read_text())["clip"] for file in (tmp_path / "f" / "failures").iterdir()}
    assert records == set(BROKEN)
    voice, face = features.open_stores(tmp_path / "f")
    assert face.clip_ids() == voice.clip_ids() == tuple(sorted(USABLE))
    assert all(face.read(name).valid.all() for name in USABLE)
    assert not voice.read("no audio").valid.any() and voice.read("good").valid[0, :3].all()
