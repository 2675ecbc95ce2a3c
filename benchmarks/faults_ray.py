"""Kills workers of Ray again and again while they extract and train: a table, then one JSON line.

    python benchmarks/faults_ray.py --kills 20            (about twenty minutes on two cores)

Each command starts a Ray cluster of its own with two workers of one core. While it works, a worker process that has a
task is killed by SIGKILL at instants drawn uniformly, a few times per command; Ray runs its task again in another
process. In the end the whole store, or weights and logs of all trials, must equal those of a run that nobody disturbed,
bit for bit; no clip or trial is missing, and the command must count each exactly once.
"""

import argparse
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from faults import content
from faults_train import results as weights_and_logs

KILLS_PER_COMMAND = 3
_MOST_S = 300
_WITH_RAY = ("--engine", "ray", "--task-cpus", "1")


def extract(corpus: Path, out: Path, *more: str) -> list[str]:
    """Give the command that extracts."""
    return ["extract", str(corpus), "--out", str(out), "--preset", "tiny", "--device", "cpu", "--quiet", *more]


def sweep(corpus: Path, features: Path, out: Path, epochs: int, *more: str) -> list[str]:
    """Give the command that sweeps: two stacks of three trials."""
    grid = ["--centers", "0.66", "--sigmas", "0.3,0.45", "--seeds", "0,1,2", "--stack", "3", "--temporal", "tcn"]
    length = ["--epochs", str(epochs), "--patience", str(epochs), "--width", "32", "--learning-rate", "0.003"]
    return ["sweep-grid", str(corpus), str(features), "--out", str(out), *grid, *length, "--device", "cpu", *more]


def start(command: list[str]) -> "subprocess.Popen[str]":
    """Start va; one thread each, so that sums round alike."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    run = [sys.executable, "-m", "va.cli", *command]
    return subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def ended(process: "subprocess.Popen[str]") -> str:
    """Wait for a command's end; give what it printed."""
    stdout, stderr = process.communicate(timeout=_MOST_S)
    if process.returncode:
        raise SystemExit(f"a command ended with {process.returncode}: {stderr}")
    return stdout


def workers(root: int) -> list[int]:
    """List the processes below `root` that have a task of ours in hand, by the title that Ray gives them."""
    parents, titled = dict[int, int](), list[int]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            process = int(stat.parent.name)
            parents[process] = int(stat.read_text().rpartition(")")[2].split()[1])
            if (stat.parent / "cmdline").read_bytes().startswith(b"ray::work"):
                titled.append(process)

    def is_below(process: int) -> bool:
        while process in parents and process != root:
            process = parents[process]
        return process == root

    return [process for process in titled if is_below(process)]


def done(out: Path) -> int:
    """Count what is written: clips' files that are not packed, and epochs."""
    epochs = sum(len(file.read_text().splitlines()) for file in out.glob("runs/*/log.jsonl"))
    return sum(1 for _ in out.glob("*/clips/*.h5")) + epochs


def disturb(command: list[str], out: Path, tally: "Counter[str]", *, rng: random.Random, whole: int) -> str:
    """Run a command, and kill a worker at a few instants; give what it printed."""
    process = start(command)
    aims = sorted(rng.uniform(0, 0.9) * whole for _ in range(KILLS_PER_COMMAND))  # by what is written, not by the clock
    deadline = time.monotonic() + _MOST_S
    while process.poll() is None and aims and time.monotonic() < deadline:
        found = workers(process.pid)
        if done(out) >= aims[0] and found:
            aims.pop(0)
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(found), signal.SIGKILL)
                tally["kills"] += 1
            time.sleep(rng.uniform(0, 0.3))
        time.sleep(0.003)
    tally["late"] += len(aims)
    printed = ended(process)
    tally["left_over"] += len(workers(process.pid))
    return printed


def main() -> None:
    """Run both commands undisturbed, then kill."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of extractions")
    parser.add_argument("--sweep-kills", type=int, default=20, help="of sweeps")
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import small_corpus

    rng, tallies = random.Random(given.seed), {"extract": Counter[str](), "sweep": Counter[str]()}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        corpus = root / "c"
        synth = ["corpus", "synth", str(corpus), "--seconds", "2", "--clips", str(given.clips)]
        ended(start(synth))
        ended(start(extract(corpus, root / "whole")))
        expected, tally = content(root / "whole"), tallies["extract"]
        while tally["kills"] < given.kills:
            out = root / f"store{tally['commands']}"
            printed = disturb(extract(corpus, out, *_WITH_RAY), out, tally, rng=rng, whole=len(expected))
            written, present, failed = map(int, re.findall(r"\d+", printed.splitlines()[0]))
            tally["miscounted"] += written + present != given.clips or failed != 0
            tally["unequal"] += content(out) != expected
            tally["commands"] += 1
            print(f"extract: {dict(tally)}", flush=True)
        small = small_corpus.build(root / "small")
        ended(start(sweep(small.corpus, small.features, root / "trained", given.epochs)))
        trained, tally = weights_and_logs(root / "trained" / "runs"), tallies["sweep"]
        while tally["kills"] < given.sweep_kills:
            out = root / f"sweep{tally['commands']}"
            command = sweep(small.corpus, small.features, out, given.epochs, *_WITH_RAY)
            disturb(command, out, tally, rng=rng, whole=6 * given.epochs)
            results = json.loads((out / "results.json").read_text())
            tally["miscounted"] += len({trial["run"] for trial in results["trials"]}) != 6
            tally["unequal"] += weights_and_logs(out / "runs") != trained
            tally["commands"] += 1
            print(f"sweep: {dict(tally)}", flush=True)
    show(tallies)


def show(tallies: "dict[str, Counter[str]]") -> None:
    """Print the table and the JSON line; exit code 1 where a bar is missed."""
    rows = {
        "kills": "workers killed while they had a task",
        "late": "too late, the command had ended",
        "commands": "commands finished, each by itself",
        "miscounted": "of those that missed or doubled something (bar: 0)",
        "unequal": "of those not equal bit for bit (bar: 0)",
        "left_over": "workers left over (bar: 0)",
    }
    print(f"{'':<52} {'extract':>8} {'sweep':>8}")
    for key, label in rows.items():
        print(f"{label:<52} {tallies['extract'][key]:>8} {tallies['sweep'][key]:>8}")
    found = {name: {key: tally[key] for key in rows} for name, tally in tallies.items()}
    print(json.dumps({"benchmark": "faults_ray", **found}))
    if any(tally[key] for tally in tallies.values() for key in ("miscounted", "unequal", "left_over")):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
