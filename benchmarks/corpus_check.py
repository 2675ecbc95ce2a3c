"""How long 600 clips take to be indexed, checked and shown, by the real commands: a table, then one JSON line.

python benchmarks/corpus_check.py [--clips 600] [--seconds 4] [--processes 2]

Eight synthetic videos are drawn, and copied under 600 names, each with a box of its own at the end so that no two files
are the same. A dozen is damaged after the index was made; the check must find exactly those.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from va.data import synthetic

DRAWN = 8
DAMAGED = 12
SETS = "annotations/VA_Estimation_Challenge"


def main() -> None:
    """Measure each command once, on a tree that is still in memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=600)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, corpus = Path(folder) / "tree", Path(folder) / "corpus"
        drawn = Path(folder) / "drawn"
        synthetic.write_tree(
            drawn, clips=DRAWN, seconds=asked.seconds, seed=0, workers=asked.processes, progress=lambda *_: None
        )
        copy_tree(drawn, root, asked.clips)
        workers = ["--workers", str(asked.processes)]
        seconds = {"index": timed(["affwild2", str(root), "--out", str(corpus)], code=0)}
        seconds["show"] = timed(["show", str(corpus), "--out", str(Path(folder) / "page")], code=0)
        damaged = damage(root)
        found = Path(folder) / "found"
        seconds["check"] = timed(["check", str(corpus), "--out", str(found), *workers], code=1)
        seconds["check --deep"] = timed(["check", str(corpus), "--deep", *workers], code=1)
        rows = (found / "findings.csv").read_text(encoding="utf-8").splitlines()[1:]
        errors = [row for row in rows if row.startswith("error,")]
        if len(errors) != len(damaged) or not all(any(f"{name}.mp4" in row for row in errors) for name in damaged):
            raise SystemExit(f"{len(damaged)} damaged, but found: {errors}")
    for name, measured in seconds.items():
        print(f"{name:<14} {measured:7.1f} s")
    both = seconds["index"] + seconds["check"]
    print(f"{'index + check':<14} {both:7.1f} s (bar: 120)")
    result = {"benchmark": "corpus check", "clips": asked.clips, "video_s": asked.seconds, "seconds": seconds}
    result |= {"cores": os.cpu_count(), "processes": asked.processes, "damaged": DAMAGED, "errors": len(errors)}
    print(json.dumps(result))


def copy_tree(drawn: Path, root: Path, clips: int) -> None:
    """Copy videos and annotations under as many names as are asked for."""
    videos = sorted(drawn.rglob("*.mp4"))
    for number in range(clips):
        source = videos[number % len(videos)]
        target = root / f"batch{1 + number % 2}" / f"video{number:04}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        # An mp4 box that readers skip, so that no two files are the same.
        target.write_bytes(source.read_bytes() + (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big"))
        (text,) = drawn.rglob(f"{source.stem}.txt")
        annotation = root / SETS / ("Validation_Set" if number % 5 == 0 else "Train_Set") / f"{target.stem}.txt"
        annotation.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(text, annotation)
        if number >= len(videos):  # labels of its own, so that no clip has another's
            lines = text.read_text(encoding="utf-8").splitlines()
            label = random.Random(number).uniform(-1, 1)
            lines[1] = f"{label:.6f},{label:.6f}"
            annotation.write_text("\n".join(lines) + "\n", encoding="utf-8")


def damage(root: Path) -> list[str]:
    """Cut some videos in half; give their names."""
    videos = sorted(root.rglob("*.mp4"))[:: max(1, len(list(root.rglob("*.mp4"))) // DAMAGED)][:DAMAGED]
    for video in videos:
        os.truncate(video, video.stat().st_size // 2)
    return [video.stem for video in videos]


def timed(arguments: list[str], *, code: int) -> float:
    """Run `va corpus ...` and give its seconds; any other exit code ends the benchmark."""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "va.cli", "corpus", *arguments], capture_output=True, text=True)
    if done.returncode != code:
        raise SystemExit(f"va corpus {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return time.monotonic() - started


if __name__ == "__main__":
    main()
