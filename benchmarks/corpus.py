"""What a corpus of 600 clips with 5,000 frames each costs: a table, then one JSON line.

    python benchmarks/corpus.py [manifest|index|all]

`manifest` writes one of that size with names as long as Aff-Wild2's, and measures its size and how long it takes to
load in this process (the libraries loaded, the file in the page cache) and to read all labels. `index` runs
`va corpus affwild2` on a tree of 600 videos (hard links to one of 5,000 frames of 64 x 64 pixels) and annotations.
Times are medians of several runs, except those of `index` and of writing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from va.data import corpus
from va.data.corpus import Clip, Corpus, Skipped, Truth

CLIPS, FRAMES, RATE, RUNS = 600, 5_000, 30, 15
SPLITS = ("train", "train", "train", "val", "test")
BARS = {"manifest_mb": 2.0, "load_s": 0.2, "index_s": 120.0}


def main() -> None:
    """Run one section, or all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("section", nargs="?", choices=["manifest", "index", "all"], default="all")
    section = parser.parse_args().section
    chosen = ["manifest", "index"] if section == "all" else [section]
    answer: dict[str, object] = {"benchmark": "corpus", "clips": CLIPS, "frames": FRAMES}
    with tempfile.TemporaryDirectory() as folder:
        for section in chosen:
            figures = {"manifest": manifest, "index": index}[section](Path(folder) / section)
            for name, value in figures.items():
                bar = f"   (bar: {BARS[name]:g})" if name in BARS else ""
                print(f"{name:<24} {value:>10.3f}{bar}", flush=True)
            answer[section] = figures
    print(json.dumps(answer))


def manifest(folder: Path) -> dict[str, float]:
    """Write a manifest through the data layer's own writer and load it."""
    rng = np.random.default_rng(0)
    time_s = np.arange(FRAMES) / RATE
    entries = []
    for number in range(CLIPS):
        va = rng.uniform(-1, 1, (FRAMES, 2)).astype(np.float32)
        name = f"video{number}-{RATE}-1920x1080_{'left' if number % 2 else 'right'}"
        clip = Clip(
            id=name,
            media=folder / "new_vids" / f"{name}.mp4",
            split=SPLITS[number % len(SPLITS)],
            identity=f"person{number // 2}",
            num_frames=FRAMES,
            duration_s=FRAMES / RATE,
        )
        entries.append((clip, Truth(time_s=time_s, va=va, valid=rng.random(FRAMES) > 0.02)))
    skipped = [Skipped(what=f"batch1/spare{number}.mp4", why="has no annotation") for number in range(162)]
    started = time.perf_counter()
    made = corpus.save(folder, name="x", synthetic=False, media_root=folder, entries=entries, skipped=skipped)
    written_s = time.perf_counter() - started
    return {
        "manifest_mb": made.path.stat().st_size / 1e6,
        "labels_mb": sum(file.stat().st_size for file in (folder / "labels").iterdir()) / 1e6,
        "write_s": written_s,
        "load_s": median_s(lambda: Corpus.load(made.path), RUNS),
        "read_all_labels_s": median_s(lambda: [made.truth(clip) for clip in made.clips], 3),
    }


def index(folder: Path) -> dict[str, float]:
    """Run the command on a tree of full size."""
    tree, out = folder / "tree", folder / "out"
    video = tree / "new_vids" / "video0.mp4"
    video.parent.mkdir(parents=True)
    write_video(video)
    labels = tree / "VA_Estimation_Challenge"
    for name in ("Train_Set", "Validation_Set"):
        (labels / name).mkdir(parents=True)
    lines = [f"{value:.3f},{-value:.3f}" for value in np.random.default_rng(0).uniform(-1, 1, FRAMES)]
    text = "\n".join(["valence,arousal", *lines, ""])
    for number in range(CLIPS):
        if number:
            os.link(video, video.with_name(f"video{number}.mp4"))
        (labels / ("Validation_Set" if number % 5 == 0 else "Train_Set") / f"video{number}.txt").write_text(text)
    command = [sys.executable, "-m", "va.cli", "corpus", "affwild2", str(tree), "--out", str(out)]
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    index_s = time.perf_counter() - started
    if len(Corpus.load(out).clips) != CLIPS:
        raise SystemExit("the command has not read every clip")
    return {"index_s": index_s, "index_ms_per_clip": index_s / CLIPS * 1000}


def write_video(path: Path) -> None:
    """Write a grey video of `FRAMES` frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 127, np.uint8), format="rgb24")
        for number in range(FRAMES):
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def median_s(action: Callable[[], object], runs: int) -> float:
    """Time an action several times."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


if __name__ == "__main__":
    main()
