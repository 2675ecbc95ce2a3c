"""`va evaluate` on a corpus of Aff-Wild2's size: wall clock and peak memory, a table, then one JSON line. Linux only.

    python benchmarks/evaluate.py                    (about 3 minutes on two cores, most of it to make the corpus)
    python benchmarks/evaluate.py --folder DIR       (keeps corpus and run in DIR, and takes them from there)

The corpus is generated: 76 validation clips and 356 training clips of 5,000 frames at 30 fps, features of CLIP's and
AST's sizes written through the data layer, no media. The head has random weights, which costs the same
as trained ones. What is timed is the command as
a user calls it, a process of its own, everything included: start, selection clips for the smoothing, conditions, ridge
baselines over all training clips, files and page. Memory is the resident set of its processes, looked at ten times a
second, and not less than the system's own account of its peak.
"""

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

BAR_S, BAR_MB = 60.0, 2000.0
VAL_CLIPS, TRAIN_CLIPS, FRAMES, RATE_HZ = 76, 356, 5000, 30
FRAME_DIM, AUDIO_DIM, REGIONS = 512, 768, 9
WINDOW_S, STRIDE_S = 10.0, 3.0


class Measured(NamedTuple):
    """Of one command: wall clock, processor time of all its threads, peak memory, and what it printed."""

    seconds: float
    processor_s: float
    peak_mb: float
    said: str


def main() -> None:
    """Make or find corpus and run, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep corpus and run here, and use them when they are there")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--clips", type=int, default=VAL_CLIPS, help="of validation; training has 4.7 times as many")
    given = parser.parse_args()
    with contextlib.ExitStack() as stack:
        root = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        run = make(root, given.clips)
        command = [sys.executable, "-m", "va.cli", "evaluate", str(run), "--out", str(root / "report")]
        found = [measure(command) for _ in range(given.repeats)]
        page_mb = (root / "report" / "index.html").stat().st_size / 1e6
    middle = sorted(found, key=lambda one: one.seconds)[len(found) // 2]  # the median, of an odd number
    peak_mb = max(one.peak_mb for one in found)
    cores = os.cpu_count() or 1
    clips = f"{given.clips} clips of {FRAMES} frames at {RATE_HZ} fps"
    print(f"{platform.machine()}, {cores} cores; {clips}, baselines over {train_clips(given.clips)} training clips\n")
    print(middle.said)
    for name, value, bar, unit in (("wall clock", middle.seconds, BAR_S, "s"), ("peak memory", peak_mb, BAR_MB, "MB")):
        print(f"{name:<14} {value:8.1f} {unit:<3} {'met' if value <= bar else 'missed'}, at most {bar:g}")
    print(f"{'processor time':<14} {middle.processor_s:8.1f} s   of all threads")
    print(f"{'page':<14} {page_mb:8.1f} MB")
    answer = {
        "benchmark": "evaluate",
        "clips": given.clips,
        "frames": FRAMES,
        "train_clips": train_clips(given.clips),
        "cores": cores,
        "seconds": [round(one.seconds, 2) for one in found],
        "processor_s": [round(one.processor_s, 2) for one in found],
        "peak_mb": round(peak_mb, 1),
        "page_mb": round(page_mb, 2),
        "bars": {"seconds": BAR_S, "peak_mb": BAR_MB},
        "met": middle.seconds <= BAR_S and peak_mb <= BAR_MB,
    }
    print(json.dumps(answer))


def train_clips(val_clips: int) -> int:
    """As many training clips for so many of validation as Aff-Wild2 has."""
    return round(val_clips * TRAIN_CLIPS / VAL_CLIPS)


def make(root: Path, val_clips: int) -> Path:
    """Write corpus and features and a run with random weights, and give its directory; or find them."""
    import torch

    from va import files, settings
    from va.train import checkpoint, planning, runs
    from va.train.config import TrainConfig

    if not (root / "corpus.json").is_file():
        write_corpus(root, val_clips)
    config = TrainConfig(corpus=root / "corpus.json", features=root / "features", out=root / "runs")
    (planned,) = planning.plan([config])
    if checkpoint.is_finished(planned.directory):
        return planned.directory
    torch.manual_seed(0)
    checkpoint.save_weights(planned.directory, runs.make_head(planned).state_dict())
    data, division = planned.data, planned.division
    info = {
        "schema": checkpoint.SCHEMA,
        "created": "random weights, not trained",
        "config": settings.as_dict(config),
        "identity": planned.identity,
        "shape": data.shape,
        "members": [],
        "corpus": {"name": data.corpus.name, "path": str(data.corpus.path), "synthetic": True},
        "features": {"face": str(data.face.directory.absolute()), "voice": str(data.voice.directory.absolute())},
        "encoders": {"face": data.face.identity, "voice": data.voice.identity},
        "demo_encoders": False,
        "region_texts": list(data.prototypes.texts),
        "selection": {"split": "dev", "clips": [clip.id for clip in division.selection], "epoch": 0, "ccc_mean": None},
        "train_clips": [clip.id for clip in division.train],
        "versions": checkpoint.versions(),
    }
    files.write_json(planned.directory / "run.json", info)
    return planned.directory


def write_corpus(root: Path, val_clips: int) -> None:
    """Write the corpus and its features through the data layer."""
    from va.data import corpus, prototypes, timeline
    from va.data.corpus import Clip, Truth
    from va.data.features import SCHEMA, ClipFeatures, FeatureStore, Source

    rng = np.random.default_rng(0)
    windowed = {"cell_s": timeline.CELL_S, "window_s": WINDOW_S, "stride_s": STRIDE_S}
    kinds = {"frames": ("eye", FRAME_DIM, {"cell_s": timeline.CELL_S}), "audio": ("ear", AUDIO_DIM, windowed)}
    face, voice = (
        FeatureStore.create(
            root / "features", {"schema": SCHEMA, "encoder": name, "kind": kind, "dim": dim, "sampling": sampling}
        )
        for kind, (name, dim, sampling) in kinds.items()
    )
    duration_s, time_s = FRAMES / RATE_HZ, np.arange(FRAMES) / RATE_HZ
    centers = timeline.cell_centers(timeline.num_cells(duration_s))
    cells = timeline.window_cells(duration_s, window_s=WINDOW_S, stride_s=STRIDE_S)
    starts_s = timeline.window_starts(duration_s, window_s=WINDOW_S, stride_s=STRIDE_S)
    see, hear = rng.standard_normal((2, FRAME_DIM)), rng.standard_normal((2, AUDIO_DIM))
    source, entries = Source(size=1, digest="0"), []
    for number in range(val_clips + train_clips(val_clips)):
        name = f"clip{number:04}"
        rate, phase = rng.uniform(0.1, 0.6, 2), rng.uniform(0, 6.28, 2)
        latent = 0.8 * np.sin(centers[:, None] * rate + phase)
        seen = rng.random(len(centers)) > 0.05
        pictures = (latent @ see + 3 * rng.standard_normal((len(centers), FRAME_DIM), np.float32)) * seen[:, None]
        heard = (latent @ hear)[cells] + 3 * rng.standard_normal((*cells.shape, AUDIO_DIM), np.float32)
        there = cells >= 0
        sound = np.where(there[..., None], heard, 0)
        face.write(name, ClipFeatures(values=pictures.astype(np.float16), time_s=centers, valid=seen), source)
        voice.write(name, ClipFeatures(values=sound.astype(np.float16), time_s=starts_s, valid=there), source)
        va = 0.8 * np.sin(time_s[:, None] * rate + phase) + 0.05 * rng.standard_normal((FRAMES, 2))
        truth = Truth(time_s=time_s, va=np.clip(va, -1, 1).astype(np.float32), valid=rng.random(FRAMES) > 0.02)
        clip = Clip(
            id=name,
            media=root / f"{name}.mp4",  # never opened
            split="val" if number < val_clips else "train",
            identity=name,
            num_frames=FRAMES,
            duration_s=duration_s,
        )
        entries.append((clip, truth))
    values = rng.standard_normal((REGIONS, FRAME_DIM), np.float32)
    texts = tuple(f"text {region}" for region in range(REGIONS))
    prototypes.write(face.directory, prototypes.Prototypes(texts=texts, templates=("{}",), values=values))
    for store in (face, voice):
        store.pack(at_least=1)
    corpus.save(root, name="generated", synthetic=True, media_root=root, entries=entries)


def measure(command: list[str]) -> Measured:
    """Run a command in a session of its own."""
    started, peak = time.monotonic(), 0.0
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while True:
        # Waited for by hand, because only wait4 gives the system's account of the peak.
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        peak = max(peak, resident_mb(process.pid))
        time.sleep(0.1)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    said = process.stdout.read()
    if process.returncode:
        raise SystemExit("va evaluate failed")
    return Measured(seconds, usage.ru_utime + usage.ru_stime, max(peak, usage.ru_maxrss / 1024), said)


def resident_mb(session: int) -> float:
    """Add up the resident sets of a session's processes."""
    total, page = 0, os.sysconf("SC_PAGE_SIZE")
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                total += page * int((folder / "statm").read_text().split()[1])
    return total / 2**20


if __name__ == "__main__":
    main()
