"""Kills `va train` again and again, and looks at what is left: a table, then one JSON line.

    python benchmarks/faults_train.py --kills 200            (about ten minutes on two cores)

Three trials are trained as one stack, with dropout, averaged weights and a schedule, so that everything that resuming
must bring back is there. The process is killed by SIGKILL at an instant drawn uniformly between the first and the last
write that is expected, and started again; after some kills it may finish. After each kill every file that a reader
would open must be whole; in the end weights and logs must equal those of a run that nobody disturbed, bit for bit.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

# The parent computes nothing: a process that has used torch's threads cannot be forked.

KILLS_PER_RUN = 8
SEEDS = (0, 1, 2)


def configs(corpus: Path, features: Path, out: Path, epochs: int) -> list[object]:
    """The trials."""
    from va.train.config import TrainConfig

    return [
        TrainConfig(
            corpus=corpus,
            features=features,
            out=out,
            seed=seed,
            epochs=epochs,
            patience=epochs,
            temporal="tcn",
            width=32,
            ema=0.9,
            schedule="cosine",
            learning_rate=3e-3,
            device="cpu",
        )
        for seed in SEEDS
    ]


def start(*where: object) -> int:
    """Fork a process that trains."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        from va.train import runs

        runs.train(configs(*where), epoch_done=lambda config, line: None)  # type: ignore[arg-type]
        status = 0
    finally:
        os._exit(status)


def undisturbed_s(*where: object) -> tuple[float, float]:
    """Train with nobody killing; give the seconds from the start to the first write, and to the last."""
    began, first = time.monotonic(), 0.0
    child = start(*where)
    out = Path(str(where[2]))
    while os.waitpid(child, os.WNOHANG)[0] != child:
        first = first or (time.monotonic() if any(out.glob("*/state.safetensors")) else 0.0)
        time.sleep(0.002)
    return first - began, time.monotonic() - began


def results(out: Path) -> dict[str, bytes]:
    """Weights and logs of all runs."""
    return {
        str(file.relative_to(out)): file.read_bytes()
        for pattern in ("*/model.safetensors", "*/log.jsonl")
        for file in out.glob(pattern)
    }


def unreadable(out: Path) -> int:
    """Count files that are there but not whole."""
    count = 0
    for directory in out.glob("*/"):
        for name in ("model.safetensors", "state.safetensors"):
            file = directory / name
            if file.exists():
                size = int.from_bytes(file.read_bytes()[:8], "little")
                header = json.loads(file.read_bytes()[8 : 8 + size])
                ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
                count += file.stat().st_size != 8 + size + max(ends)
        with contextlib.suppress(FileNotFoundError):
            for line in (directory / "log.jsonl").read_text().splitlines():
                json.loads(line)
    return count


def epochs_done(out: Path) -> int:
    """Count the epochs that the logs hold."""
    return sum(len(file.read_text().splitlines()) for file in out.glob("*/log.jsonl"))


def main() -> None:
    """Train undisturbed, then kill."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    import small_corpus

    from va.train import runs  # noqa: F401 - for all that are forked

    rng = random.Random(given.seed)
    tally: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        small = small_corpus.build(root / "small")
        source = (small.corpus, small.features)
        spans = [undisturbed_s(*source, root / f"whole{number}", given.epochs) for number in range(2)]
        expected = results(root / "whole0")
        if results(root / "whole1") != expected or len(expected) != 2 * len(SEEDS):
            raise SystemExit("two undisturbed runs differ")
        while tally["kills"] < given.kills:
            out = root / f"run{tally['runs']}"
            one_run((*source, out, given.epochs), spans, tally, kills=KILLS_PER_RUN, rng=rng)
            tally["runs"] += 1
            tally["unequal"] += results(out) != expected
            print(f"{tally['kills']} kills, {tally['runs']} runs, {tally['unequal']} unequal", flush=True)
    show(tally, spans)


def one_run(
    where: tuple[object, ...],
    spans: list[tuple[float, float]],
    tally: "Counter[str]",
    *,
    kills: int,
    rng: random.Random,
) -> None:
    """Train through several kills, then let the run finish."""
    out = Path(str(where[2]))
    per_epoch_s = min(last - first for first, last in spans) / (int(str(where[3])) * len(SEEDS))
    for _ in range(kills):
        left = int(str(where[3])) * len(SEEDS) - epochs_done(out)
        if not left:
            return
        before, share, kill_at = epochs_done(out), rng.random(), float("inf")
        child = start(*where)
        while time.monotonic() < kill_at:
            time.sleep(0.002)
            if os.waitpid(child, os.WNOHANG)[0] == child:
                tally["late"] += 1
                return
            if kill_at == float("inf") and epochs_done(out) > before:
                kill_at = time.monotonic() + share * per_epoch_s * left
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        tally["kills"] += 1
        tally["while_writing"] += epochs_done(out) > before and any(out.glob("*/state.safetensors"))
        tally["unreadable"] += unreadable(out)
        tally["lost"] += epochs_done(out) < before
    child = start(*where)
    if os.waitpid(child, 0)[1]:
        raise SystemExit("an undisturbed run ended badly")


def show(tally: "Counter[str]", spans: list[tuple[float, float]]) -> None:
    """Print the table and the JSON line; exit code 1 where a bar is missed."""
    rows = {
        "kills": tally["kills"],
        "too late, the process had ended": tally["late"],
        "between the first and the last write": tally["while_writing"],
        "files that were there and not whole (bar: 0)": tally["unreadable"],
        "kills that lost a finished epoch (bar: 0)": tally["lost"],
        "runs finished": tally["runs"],
        "of those not equal bit for bit (bar: 0)": tally["unequal"],
    }
    print(f"three trials in a stack, undisturbed {min(last for _, last in spans):.1f} s")
    for name, value in rows.items():
        print(f"{name:<46} {value:>6}")
    print(json.dumps({"benchmark": "faults_train", **tally}))
    if tally["unreadable"] or tally["lost"] or tally["unequal"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
