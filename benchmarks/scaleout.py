"""Measures two Ray workers against one, for extraction and for training: a table, then one JSON line.

    python benchmarks/scaleout.py            (about four minutes where others keep both cores busy)

A worker has one core, to which it and its reader process are pinned, and one thread. Both numbers of workers are
measured on one cluster, in turns, after a round that loads libraries and encoders in both workers; so the figures hold
neither that nor the start of Ray, which is given beside them. The ratio is of the two times of one turn, before the
median. Neighbours on the machine spoil it, so the table also says which share of their cores the workers got: where
that is 1, the ratio is that of a machine of one's own. What both spend, in CPU seconds, depends less on neighbours: the
same with two workers as with one means that they do not get into each other's way.
"""

import argparse
import contextlib
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
# Else Ray ends workers that are idle for a second, and those of the next turn would load everything again.
os.environ |= {"RAY_idle_worker_killing_time_threshold_ms": "3600000", "RAY_num_workers_soft_limit": "16"}

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
        else:
            raise RuntimeError("a third worker: its core would be another one's")
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


def cpu_s() -> float:
    """Add up what all processes below this one have spent, and those of theirs that have ended; not this one."""
    spent, parents = dict[int, float](), dict[int, int]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            process = int(stat.parent.name)
            parents[process] = int(fields[1])
            spent[process] = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def is_below(process: int) -> bool:
        while process in parents and parents[process] != os.getpid():
            process = parents[process]
        return process in parents

    return sum(seconds for process, seconds in spent.items() if is_below(process))


def measure(joined: Any, tasks: list[tuple[str, Any]], places: Path, *, workers: int) -> tuple[float, float]:
    """Run tasks on so many workers; gives seconds, and CPU seconds of all of Ray."""
    from va.engine import tasks as engine

    # Of the cluster's two cores, one worker leaves one to nobody.
    joined._work = joined._ray.remote(engine.work).options(num_cpus=2 // workers, max_retries=0)
    began, spent_s = time.perf_counter(), cpu_s()
    for ended in joined.run(on_one_core, [(*task, places) for task in tasks], stopping=lambda: False):
        if ended is not None and ended.lost:
            raise SystemExit(ended.lost)
    return time.perf_counter() - began, cpu_s() - spent_s


def figures_of(turns: list[dict[int, tuple[float, float]]]) -> dict[str, Any]:
    """Sum up turns: per number of workers, seconds and CPU seconds."""
    ratios = [turn[1][0] / turn[2][0] for turn in turns]
    found: dict[str, Any] = {"ratio": round(statistics.median(ratios), 2), "ratios": [round(one, 2) for one in ratios]}
    for count in (1, 2):
        found[f"{count}_s"] = round(statistics.median(turn[count][0] for turn in turns), 2)
        found[f"{count}_cpu_s"] = round(statistics.median(turn[count][1] for turn in turns), 2)
        shares = [spent_s / (seconds * count) for seconds, spent_s in (turn[count] for turn in turns)]
        found[f"{count}_share"] = round(statistics.median(shares), 2)
    return found


def main() -> None:
    """Measure both."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=6)
    given = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from va.engine import cluster
    from va.engine.config import EngineSettings

    figures: dict[str, dict[str, Any]] = {}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        materials = {"extract": of_extraction(root, given.clips), "train": of_training(root, given.epochs)}
        began = time.perf_counter()
        with cluster.joined(EngineSettings(engine="ray", task_cpus=1), device="cpu", seen=[root]) as joined:
            start_s = time.perf_counter() - began
            for name, tasks in materials.items():
                measure(joined, tasks(), root, workers=2)  # loads
                turns = []
                for turn in range(given.turns):
                    order = (1, 2) if turn % 2 == 0 else (2, 1)
                    turns.append({count: measure(joined, tasks(), root, workers=count) for count in order})
                figures[name] = figures_of(turns)
    loads = f"{load:.1f} before and {os.getloadavg()[0]:.1f} after"
    print(f"Ray was started in {start_s:.1f} s; medians of {given.turns} turns; load average {loads}")
    print(f"{'':<10}{'workers':>8}{'seconds':>9}{'CPU s':>7}{'share':>7}{'ratio':>7}   of each turn")
    for name, found in figures.items():
        each = " ".join(map(str, found["ratios"]))
        for count, ratio in ((1, ""), (2, f"{found['ratio']:>7.2f}   {each}")):
            seconds, spent_s, share = (found[f"{count}_{what}"] for what in ("s", "cpu_s", "share"))
            print(f"{name:<10}{count:>8}{seconds:>9.1f}{spent_s:>7.1f}{share:>7.2f}{ratio}")
    settings = {"turns": given.turns, "clips": given.clips, "epochs": given.epochs, "start_s": round(start_s, 1)}
    settings["load"] = [round(load, 1), round(os.getloadavg()[0], 1)]
    print(json.dumps({"benchmark": "scaleout", **settings, **figures}))


if __name__ == "__main__":
    main()
