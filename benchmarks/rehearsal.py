"""`va reproduce affwild2` on a drawn tree of Aff-Wild2's size: a log, a table, then one JSON line. Linux only.

    python benchmarks/rehearsal.py                          (an hour and a half and 6 GB on two cores)
    python benchmarks/rehearsal.py --clips 24 --frames 60000 --kill-at 20,60          (a rehearsal of the rehearsal)

594 names of 3 million frames, three splits, two people in some videos, a crop of every frame but 1.5%, and a sample
file that lists every frame of the test split. What is on the videos is 24 drawn clips of 20 s, their packets written
again and again with later times, and their labels with them; training and validation share none. DEMO encoders: the
figures of the tables mean nothing. The command is killed a few times on its way and started again; at the end it is run
once more, which must train nothing.
"""

import argparse
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from memory import memory_mb, repeat

from va.data import synthetic
from va.data.sample import HEADER

SPLITS = {"train": 356, "val": 76, "test": 162}
"""Annotation names of each split (about; the data set's own description)."""

DRAWN, DRAWN_S = 24, 20
CHALLENGE = "annotations/VA_Estimation_Challenge"
FOLDERS = {"train": "Train_Set", "val": "Validation_Set"}
WITHOUT_CROP = 0.015
LOOK_EVERY_S, LOG_EVERY_S = 2.0, 60.0


@dataclass(frozen=True, kw_only=True)
class Base:
    """A drawn clip that others are made of: its medium, a line of labels and a crop for each frame."""

    media: Path
    labels: list[str]
    crops: list[Path]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A name of the tree: a base, so many times in a row."""

    name: str
    split: str
    base: Base
    times: int

    @property
    def frames(self) -> int:
        """Count the frames of its video."""
        return self.times * len(self.base.labels)


def main() -> None:
    """Make the tree, run the command with its kills and once more, and hold what came out against what went in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=sum(SPLITS.values()))
    parser.add_argument("--frames", type=int, default=3_000_000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--kill-at", default="300,1500,3600", help="seconds of work after which it is killed")
    parser.add_argument("--folder", type=Path, help="where tree and results stay; by default a folder that goes")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        folder = given.folder or Path(passing)
        folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        parts = make_tree(folder / "drawn", folder / "tree", clips=given.clips, frames=given.frames)
        sample = write_sample(folder / "sample.txt", parts)
        made = describe(parts) | {"made_s": round(time.monotonic() - started)}
        print(f"the tree: {made}", flush=True)
        command = [sys.executable, "-m", "va.cli", "reproduce", "affwild2", str(folder / "tree"), "--json"]
        command += ["--out", str(folder / "out"), "--name", "rehearsal", "--sample", str(sample)]
        command += ["--encoders", "tiny", "--epochs", str(given.epochs), "--seeds", "0", "--resamples", "200"]
        kills = [float(second) for second in given.kill_at.split(",") if second]
        log = folder / "progress.log"
        answers = []
        for kill_at in [*kills, None]:
            answers.append(run(command, log, kill_at=kill_at))
            if not answers[-1]["killed"]:  # finished before it could be
                break
        weights = weights_of(folder / "out")
        again = run(command, log, kill_at=None)
        answer = judge(folder / "out", sample, parts) | {
            "kills": sum(one["killed"] for one in answers),
            "work_s": round(sum(one["seconds"] for one in answers)),
            "peak_mb": round(max(one["peak_mb"] for one in answers)),
            "again_s": round(again["seconds"]),
            "trained_again": sum(weights.get(file) != when for file, when in weights_of(folder / "out").items()),
        }
    for name, value in (made | answer).items():
        print(f"{name:<24} {value}")
    print(json.dumps({"benchmark": "rehearsal", "cores": os.cpu_count()} | made | answer))


def make_tree(drawn: Path, root: Path, *, clips: int, frames: int) -> list[Part]:
    """Draw the bases, then write a tree of parts of them."""
    cores = os.cpu_count() or 1
    synthetic.write_tree(drawn, clips=DRAWN, seconds=DRAWN_S, seed=0, workers=cores, progress=lambda *_: None)
    bases: dict[str, list[Base]] = {split: [] for split in FOLDERS}
    for split, folder in FOLDERS.items():
        for text in sorted((drawn / CHALLENGE / folder).glob("*.txt")):
            bases[split].append(read_base(next(drawn.rglob(f"{text.stem}.mp4")), text))
    bases["test"] = bases["val"]
    rng = np.random.default_rng(0)
    shares = rng.lognormal(0, 0.9, clips)
    parts = []
    names = names_of(clips)
    for number, (name, share) in enumerate(zip(names, shares / shares.sum(), strict=True)):
        split = split_of(number, clips)
        base = bases[split][number % len(bases[split])]
        parts.append(Part(name=name, split=split, base=base, times=max(1, round(frames * share / len(base.labels)))))
    parts = together(parts)
    for number, part in enumerate(parts):
        write_part(root, part, number=number, rng=rng)
    return parts


def names_of(clips: int) -> list[str]:
    """Name clips; the last tenth are pairs of two people in one video."""
    alone = clips - 2 * (clips // 20)
    names = [f"video{number:04}" for number in range(alone)]
    for number in range(alone, alone + clips // 20):
        names += [f"video{number:04}_left", f"video{number:04}_right"]
    return names


def split_of(number: int, clips: int) -> str:
    """Say which split a clip is of: shares of `SPLITS`, the pairs among the training clips."""
    order = ("val", "test", "train")
    bounds = np.cumsum([SPLITS[split] for split in order]) * clips / sum(SPLITS.values())
    return order[int(np.searchsorted(bounds, number, side="right"))]


def together(parts: Sequence[Part]) -> list[Part]:
    """Give the two people of one video the same medium."""
    lead = {part.name.removesuffix("_left"): part for part in parts if part.name.endswith("_left")}
    return [
        Part(name=part.name, split=of.split, base=of.base, times=of.times)
        for part in parts
        for of in [lead.get(part.name.removesuffix("_right").removesuffix("_left"), part)]
    ]


def read_base(media: Path, text: Path) -> Base:
    """Read a drawn clip's labels, and write its frames as crops of 112 x 112."""
    folder = media.parent / f"crops-{media.stem}"
    folder.mkdir(exist_ok=True)
    crops = []
    with av.open(str(media)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            crops.append(folder / f"{number}.jpg")
            buffer = io.BytesIO()
            frame.to_image(width=112, height=112).save(buffer, "jpeg")  # type: ignore[no-untyped-call]
            crops[-1].write_bytes(buffer.getvalue())
    labels = text.read_text(encoding="utf-8").splitlines()[1:]
    return Base(media=media, labels=labels[: len(crops)], crops=crops)


def write_part(root: Path, part: Part, *, number: int, rng: np.random.Generator) -> None:
    """Write one name: its video, unless its neighbour has written it, its annotation, and a link to each crop."""
    video = part.name.removesuffix("_left").removesuffix("_right")
    media = root / f"batch{1 + int(video[5:]) % 2}" / f"{video}.mp4"
    media.parent.mkdir(parents=True, exist_ok=True)
    if not media.exists():
        repeat(part.base.media, media, times=part.times, seconds=DRAWN_S)
        with media.open("ab") as end:  # an mp4 box that readers skip, so that no two videos are the same
            end.write((16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big"))
    if part.split in FOLDERS:
        lines = part.base.labels * part.times
        if number % 20 == 0:  # an annotation can be some frames shorter or longer than the video
            lines = lines[:-3] if number % 40 else [*lines, *lines[-2:]]
        if number % 7 == 0:  # a person out of sight for a while
            start = int(rng.integers(0, len(lines) // 2))
            lines[start : start + 150] = ["-5,-5"] * len(lines[start : start + 150])
        text = root / CHALLENGE / FOLDERS[part.split] / f"{part.name}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text("\n".join(["valence,arousal", *lines]) + "\n", encoding="utf-8")
    folder = root / "cropped_aligned" / part.name
    folder.mkdir(parents=True)
    kept = np.flatnonzero(rng.random(part.frames) >= WITHOUT_CROP).tolist()
    for index in kept:
        os.link(part.base.crops[index % len(part.base.crops)], folder / f"{index + 1:05d}.jpg")


def write_sample(path: Path, parts: Sequence[Part]) -> Path:
    """List every frame of the test split, as the challenge does."""
    with path.open("w", encoding="utf-8") as file:
        file.write(f"{HEADER}\n")
        for part in parts:
            if part.split == "test":
                file.writelines(f"{part.name}/{index:05d}.jpg,0,0\n" for index in range(1, part.frames + 1))
    return path


def describe(parts: Sequence[Part]) -> dict[str, object]:
    """Say how large the tree is."""
    hours = sum(part.times for part in parts) * DRAWN_S / 3600
    made: dict[str, object] = {split: sum(part.split == split for part in parts) for split in SPLITS}
    return made | {"names": len(parts), "frames": sum(part.frames for part in parts), "hours": round(hours, 1)}


def run(command: Sequence[str], log: Path, *, kill_at: float | None) -> dict[str, float]:
    """Run a command, to its end or until it is killed with all its processes; give seconds and peak memory."""
    started = logged = time.monotonic()
    peak = highest = 0.0
    killed = False
    with contextlib.ExitStack() as undo:
        said = undo.enter_context(log.open("ab"))
        process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=said)
        undo.callback(lambda: process.poll() is None and os.killpg(process.pid, signal.SIGKILL))  # a Ctrl-C
        while process.poll() is None:
            highest = max(highest, memory_mb(process.pid))
            now = time.monotonic()
            if now - logged >= LOG_EVERY_S:
                print(f"{(now - started) / 60:6.1f} min  {highest:7.0f} MB  {last_line(log)}", flush=True)
                peak, highest, logged = max(peak, highest), 0.0, now
            if kill_at is not None and now - started >= kill_at:
                os.killpg(process.pid, signal.SIGKILL)
                killed = True
                print(f"{(now - started) / 60:6.1f} min  killed", flush=True)
                process.wait()
            time.sleep(LOOK_EVERY_S)
    if process.returncode and not killed:
        raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}; {log} says why")
    return {"seconds": time.monotonic() - started, "peak_mb": max(peak, highest), "killed": killed}


def last_line(log: Path) -> str:
    """Give the end of the last line that the command has said so far."""
    lines = log.read_bytes()[-2000:].decode(errors="replace").strip().splitlines()
    return lines[-1][-100:] if lines else ""


def weights_of(out: Path) -> dict[Path, int]:
    """List the weights that were trained, with the times at which they were written."""
    return {file: file.stat().st_mtime_ns for file in out.rglob("model.safetensors")}


def judge(out: Path, sample: Path, parts: Sequence[Part]) -> dict[str, object]:
    """Hold what came out against what went in; any difference ends the benchmark."""
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    asked = [line.rsplit(",", 2)[0] for line in sample.read_text(encoding="utf-8").splitlines()]
    written = (out / "submission" / "submission.txt").read_text(encoding="utf-8").splitlines()
    if [line.rsplit(",", 2)[0] for line in written] != asked:
        raise SystemExit("the submission does not name the sample's frames in their order")
    if results["corpus"]["clips"] != len(parts):
        raise SystemExit(f"{len(parts)} names, but {results['corpus']['clips']} clips")
    rows = {f"table {table['table']}": len(table["rows"]) for table in results["tables"]}
    return {"submission_lines": len(written) - 1, "rows": rows, "last_run_s": results["seconds"]}


if __name__ == "__main__":
    main()
