"""Measures two Ray workers against one, for extraction and for training: a table, then one JSON line.

    python benchmarks/scaleout.py            (about five minutes on two cores)

A worker has one core, to which it and its reader process are pinned, and one thread. Both numbers of workers are
measured on one cluster, in turns, after a round that loads libraries and encoders in both workers; so the figures hold
neither that nor the start of Ray, which is given beside them. The ratio is of the two times of one turn, before the
median: neighbours on the machine slow both alike, though never by the same factor.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

PER_TASK = 4


def on_one_core(item: tuple[str, Any, Path], stopping: Any) -> Any:
    """Run a task in a worker that has taken one core for itself."""
    import importlib

    name, argument, places = item
    if not hasattr(os, "core_of_this_worker"):
        for core in sorted(os.sched_getaffinity(0)):
            try:
                (places / str(core)).touch(exist_ok=False)
            except FileExistsError:
                continue
            os.sched_setaffinity(0, {core})
            os.core_of_this_worker = core  # type: ignore[attr-defined]
            break
    module, function = name.split(":")
    return getattr(importlib.import_module(module), function)(argument, stopping)


def of_extraction(root: Path, clips: int) -> Callable[[], list[tuple[str, Any]]]:
    """Draw a corpus; give a function that lists the tasks of extracting it anew."""
    from va.data import affwild2, synthetic
    from va.extract import pipeline
    from va.extract.config import ExtractConfig

    corpus = root / "corpus"
    synthetic.write_tree(corpus, clips=clips, seconds=4.0, seed=0, workers=2, progress=lambda *_: None)
    affwild2.read_tree(corpus, out=corpus, name="x", synthetic=True, sample=None, progress=lambda *_: None)
    config = ExtractConfig(corpus=corpus, out=root / "features", preset="tiny", device="cpu", readers=1)

    def tasks() -> list[tuple[str, Any]]:
        shutil.rmtree(config.out, ignore_errors=True)
        pipeline.prepare(config, None)
        found = pipeline.clips_of(config)
        groups = [found[start : start + PER_TASK] for start in range(0, len(found), PER_TASK)]
        return [("va.extract.scaleout:extract", (config, group)) for group in groups]

    return tasks


def of_training(root: Path, epochs: int) -> Callable[[], list[tuple[str, Any]]]:
    """Make features; give a function that lists the tasks of training four stacks of three trials anew."""
    import small_corpus

    small, out = small_corpus.build(root / "small"), root / "runs"

    def tasks() -> list[tuple[str, Any]]:
        shutil.rmtree(out, ignore_errors=True)
        changes = {"epochs": epochs, "patience": epochs, "width": 64}
        sigmas, seeds = (0.3, 0.4, 0.5, 0.6), (0, 1, 2)
        stacks = [tuple(small.config(out, seed=seed, sigma=sigma, **changes) for seed in seeds) for sigma in sigmas]
        return [("va.train.scaleout:train_stack", stack) for stack in stacks]

    return tasks


def time_s(joined: Any, tasks: list[tuple[str, Any]], places: Path, *, workers: int) -> float:
    """Run tasks on so many workers."""
    from va.engine import tasks as engine

    # Of the cluster's two cores, one worker leaves one to nobody.
    joined._work = joined._ray.remote(engine.work).options(num_cpus=2 // workers, max_retries=0)
    began = time.perf_counter()
    for ended in joined.run(on_one_core, [(*task, places) for task in tasks], stopping=lambda: False):
        if ended is not None and ended.lost:
            raise SystemExit(ended.lost)
    return time.perf_counter() - began


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--clips", type=int, default=48)
    parser.add_argument("--epochs", type=int, default=20)
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from va.engine import cluster
    from va.engine.config import EngineSettings

    figures: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        materials = {"extract": of_extraction(root, given.clips), "train": of_training(root, given.epochs)}
        began = time.perf_counter()
        with cluster.joined(EngineSettings(engine="ray", task_cpus=1), device="cpu", seen=[root]) as joined:
            start_s = time.perf_counter() - began
            for name, tasks in materials.items():
                time_s(joined, tasks(), root, workers=2)  # loads
                turns = [
                    {count: time_s(joined, tasks(), root, workers=count) for count in (1, 2)}
                    for _ in range(given.turns)
                ]
                ratios = [turn[1] / turn[2] for turn in turns]
                figures[name] = {
                    "one_s": round(statistics.median(turn[1] for turn in turns), 2),
                    "two_s": round(statistics.median(turn[2] for turn in turns), 2),
                    "ratio": round(statistics.median(ratios), 2),
                    "ratios": [round(ratio, 2) for ratio in ratios],
                }
    print(f"Ray was started in {start_s:.1f} s; medians of {given.turns} turns")
    print(f"{'':<10}{'1 worker':>12}{'2 workers':>12}{'ratio':>8}   of each turn")
    for name, found in figures.items():
        each = " ".join(map(str, found["ratios"]))
        print(f"{name:<10}{found['one_s']:>10.1f} s{found['two_s']:>10.1f} s{found['ratio']:>8.2f}   {each}")
    settings = {"turns": given.turns, "clips": given.clips, "epochs": given.epochs, "start_s": round(start_s, 1)}
    print(json.dumps({"benchmark": "scaleout", **settings, **figures}))


if __name__ == "__main__":
    main()
