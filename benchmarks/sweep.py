"""Many trials trained together beside as many `va train` runs: a table, then one JSON line.

    python benchmarks/sweep.py                                   (about 4 minutes on two cores)
    python benchmarks/sweep.py --windows 26000 --epochs 1 --repeats 1    (Aff-Wild2's size; for a GPU)

(d) N trials, cells of `va sweep-grid`'s default grid, as one stack, against the same trials one after another. First
single steps, the batch at hand, beside the floor (`benchmarks/train.py` says what that is); then whole runs from a
corpus with generated features on the disk. Everything is measured in turns. At the end the weights of the first round
are compared: a trial in a stack must be what it is alone.
"""

import argparse
import dataclasses
import itertools
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trials
from safetensors.torch import load_file
from trials import clock, in_turn, judge, ratio, show

from va.device import choose_device
from va.train.config import SweepConfig, TrainConfig

BAR_FLOOR, BAR_SOLO, BAR_ONE_RUN = 3.0, 0.8, 3.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    trials.add_options(parser, windows=320, repeats=3)
    parser.add_argument("--trials", type=int, default=0, help="0 for 12 on a CPU and 24 on a GPU")
    given = parser.parse_args()
    given.trials = given.trials or (24 if choose_device(given.device).type == "cuda" else 12)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        places = trials.make_corpus(Path(folder), windows=given.windows)
        Bench(given, grid(given, places, Path(folder))).run()


def grid(given: argparse.Namespace, places: trials.Places, out: Path) -> list[TrainConfig]:
    """List N trials: the grid's cells with seed 0, then with seed 1, ..."""
    plain = SweepConfig(corpus=places.corpus, features=places.features, out=out)
    cells = itertools.product(range(given.trials), plain.centers, plain.sigmas)
    return [
        trials.config_of(given, places, out, seed=seed, sigma=sigma, centers=(-center, 0.0, center), stack=given.trials)
        for seed, center, sigma in itertools.islice(cells, given.trials)
    ]


class Bench:
    """One stack and the same trials alone.

    Args:
        given: The command line.
        configs: The trials.
    """

    def __init__(self, given: argparse.Namespace, configs: list[TrainConfig]) -> None:
        self.given, self.configs = given, configs
        self.ready = trials.Ready(configs)
        self.device = self.ready.device
        self.stacked: list[trials.Ran] = []
        self.solo: list[list[trials.Ran]] = []
        self.answer: dict[str, Any] = {"benchmark": "sweep", "device": str(self.device)}

    def run(self) -> None:
        """Measure the steps, then the runs, and print what was found."""
        count = self.given.trials
        self.answer |= trials.introduce(self.given, self.device, f"{count} trials") | {"trials": count}
        self.steps()
        self.runs()
        print(json.dumps(self.answer))

    def steps(self) -> None:
        """A step of the stack and steps of one trial, batches that lie ready, beside the matrix rate."""
        count = self.given.trials
        _, _, together = self.ready.stack(count)
        _, _, alone = self.ready.stack(1)
        work = trials.Arithmetic(self.device, together)
        times = trials.times_per_sample(self.device)

        def timed(step: Callable[[], object], *, many: int = 1) -> Callable[[], float]:
            return lambda: clock(self.device, step, times=times * many)

        ways = {
            "per_operation": trials.MatrixRate(self.device),
            "stack": timed(together),
            "alone": timed(alone, many=max(1, count // 3)),  # long enough to meet the same disturbances
            "products": timed(work.replay),
        }
        in_turn(ways, rounds=2)
        found = in_turn(ways, rounds=self.given.steps)
        middle = {name: statistics.median(values) for name, values in found.items()}
        floor = [work.operations * value for value in found["per_operation"]]
        per_trial = [value / count for value in found["stack"]]
        print(f"\nOne step, the batch at hand, medians of {self.given.steps}, per trial")
        show("floating-point operations", work.operations / count / 1e9, "GFLOP")
        show("matrix rate, large square float32 product", 1e-9 / middle["per_operation"], "GFLOP/s", digits=0)
        products_rate = 1e-9 * work.operations / middle["products"]
        show("matrix rate, the stack's products alone", products_rate, "GFLOP/s", digits=0)
        show("floor: operations / large matrix rate", 1e3 * statistics.median(floor) / count, "ms")
        show(f"the stack's {work.products} products alone", 1e3 * middle["products"] / count, "ms")
        show("the stack's step", 1e3 * middle["stack"] / count, "ms")
        show("va train's step", 1e3 * middle["alone"], "ms")
        show("the stack's step / its products alone", ratio(found["stack"], found["products"]), digits=3)
        self.answer["step"] = {
            "operations": work.operations,
            "products": work.products,
            "rate_flops": 1 / middle["per_operation"],
            "seconds": {name: middle[name] for name in ("stack", "alone", "products")},
            "to_products": ratio(found["stack"], found["products"]),
            "to_floor": judge("the stack's step / floor", ratio(found["stack"], floor), BAR_FLOOR),
            "to_alone": judge("the stack's step, per trial / va train's", ratio(per_trial, found["alone"]), BAR_SOLO),
        }

    def runs(self) -> None:
        """Whole runs: a stack, then each trial alone, in turn."""
        found = in_turn({"stack": self.stack, "solo": self.alone}, rounds=self.given.repeats)
        middle = {name: statistics.median(values) for name, values in found.items()}
        print(f"\nRuns from the disk, {self.ready.steps_per_epoch} steps an epoch, medians of {self.given.repeats}")
        show("(d) together: training, per trial and step", 1e3 * middle["stack"], "ms")
        show("    va train, one after another", 1e3 * middle["solo"], "ms")
        parts, walls = {}, {}
        for name, rounds in (("together", [[one] for one in self.stacked]), ("one after another", self.solo)):
            parts[name] = {
                part: statistics.median(sum(one.seconds(part) for one in ran) for ran in rounds)
                for part in ("train", "validate", "save")
            }
            walls[name] = statistics.median(sum(one.wall_s for one in ran) for ran in rounds)
            for part, spent in parts[name].items():
                show(f"{name}, all trials: {part}", spent, "s")
            show(f"{name}, all trials: everything", walls[name], "s")
        self.answer |= {"seconds_per_trial_step": middle, "parts_s": parts, "wall_s": walls}
        self.answer["wall_ratio"] = walls["together"] / walls["one after another"]
        show("together / one after another, everything", self.answer["wall_ratio"], digits=3)
        self.answer["runs_to_solo"] = judge("(d) / va train, training", ratio(found["stack"], found["solo"]), BAR_SOLO)
        if self.device.type == "cuda":
            label = f"{self.given.trials} trials together / ONE va train, training"
            one_run = self.given.trials * ratio(found["stack"], found["solo"])
            self.answer["to_one_run"] = judge(label, one_run, BAR_ONE_RUN)
        self.answer["norms_differ"] = max(map(self.difference, range(self.given.trials)))
        print(f"{'largest relative difference of a weight norm':<56} {self.answer['norms_differ']:10.1e}")

    def stack(self) -> float:
        """Train all together; seconds per trial and step."""
        self.stacked.append(trials.train(self.placed("together", len(self.stacked))))
        if self.stacked[-1].infos[0]["trained_together"] != self.given.trials:
            raise SystemExit("the trials were not trained as one stack")
        return self.stacked[-1].seconds("train") / self.trial_steps(self.stacked[-1].infos)

    def alone(self) -> float:
        """Train one after another; seconds per trial and step."""
        ran = [trials.train([config]) for config in self.placed("alone", len(self.solo))]
        self.solo.append(ran)
        infos = [one.infos[0] for one in ran]
        return sum(one.seconds("train") for one in ran) / self.trial_steps(infos)

    def placed(self, name: str, number: int) -> list[TrainConfig]:
        """Give the trials a folder of their own, because a finished run is not repeated."""
        return [dataclasses.replace(config, out=config.out / f"{name}{number}") for config in self.configs]

    def trial_steps(self, infos: list[dict[str, Any]]) -> int:
        """Count the updates of some runs."""
        return sum(info["epochs"] for info in infos) * self.ready.steps_per_epoch

    def difference(self, trial: int) -> float:
        """Give the largest relative difference between the norms of a trial's weights, stacked and alone."""
        together = load_file(self.stacked[0].directories[trial] / "model.safetensors")
        alone = load_file(self.solo[0][trial].directories[0] / "model.safetensors")
        norms = [(float(alone[name].norm()), float(together[name].norm())) for name in alone]
        return max(abs(one - other) / max(one, 1e-12) for one, other in norms)


if __name__ == "__main__":
    main()
