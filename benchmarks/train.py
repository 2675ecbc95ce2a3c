"""`va train` beside PyTorch's own modules, a user's loop, and the arithmetic: a table, then one JSON line.

    python benchmarks/train.py                                       (about 3 minutes on two cores)
    python benchmarks/train.py --windows 26000 --epochs 1 --repeats 3    (Aff-Wild2's size)
    python benchmarks/train.py --windows 26000 --epochs 15 --repeats 1   (the paper's recipe; for a GPU)

`GOMP_SPINCOUNT=2000` before it is what `va train` sets for itself (`va/cores.py`).

(a) `va train`: from a corpus and features on the disk to a run; training steps only, validation and saving apart.
(b) the same step with stock modules (nn.Linear, nn.GRU, nn.MultiheadAttention, AdamW) on one resident batch.
(c) what a user would write: a Dataset that reads each window from HDF5, a DataLoader with 0 or 2 workers, (b)'s step.

Features are generated. The stock head has the weights of `va train`'s and must answer like it. The floor is the
step's floating-point operations at the rate of a large square product; "its products alone" are the step's matrix
products in their order and shapes, with nothing between them. Everything is measured in turns.
"""

import argparse
import dataclasses
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import stock
import torch
import trials
from trials import clock, in_turn, judge, ratio, show

from va.data.windows import WindowBatch
from va.train.config import TrainConfig

BAR_STOCK, BAR_FLOOR, BAR_RECIPE_S = 1.05, 2.0, 60.0
RECIPE = {"windows": 26_000, "epochs": 15}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    trials.add_options(parser, windows=640, repeats=7)
    parser.add_argument("--no-loader", action="store_true", help="leave out (c)")
    parser.add_argument("--profile", action="store_true", help="print where va train's step spends its time")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        places = trials.make_corpus(Path(folder), windows=given.windows)
        config = trials.config_of(given, places, Path(folder) / "runs")
        Bench(given, config).run()


class Bench:
    """The three ways over one corpus.

    Args:
        given: The command line.
        config: Of `va train`.
    """

    def __init__(self, given: argparse.Namespace, config: TrainConfig) -> None:
        self.given, self.config = given, config
        self.ready = trials.Ready([config])
        self.device = self.ready.device
        _, stacked, self.step = self.ready.stack(1)
        self.batch = WindowBatch(*(tensor[0] for tensor in stacked))
        head = trials.runs.make_head(self.ready.planned[0]).to(self.device)
        head.load_state_dict(self.ready.trials[0].state.weights)
        self.stock = stock.quicker(stock.of(head, self.batch), config, self.batch)
        self.answer: dict[str, Any] = {"benchmark": "train", "device": str(self.device)}
        self.ran: list[trials.Ran] = []

    def run(self) -> None:
        """Measure the steps, then the runs, and print what was found."""
        given = self.given
        adamw = "fused" if self.stock.fused else "default"
        self.answer |= trials.introduce(given, self.device, f"stock AdamW {adamw}") | {"stock_adamw": adamw}
        self.steps()
        self.runs()
        if given.profile:
            self.profile()
        print(json.dumps(self.answer))

    def steps(self) -> None:
        """One step, of a batch that lies ready, beside the matrix rate."""
        work = trials.Arithmetic(self.device, self.step)
        times = trials.times_per_sample(self.device)

        def timed(step: Callable[[], object]) -> Callable[[], float]:
            return lambda: clock(self.device, step, times=times)

        ways = {
            "per_operation": trials.MatrixRate(self.device),
            "step": timed(self.step),
            "stock": timed(lambda: self.stock.step(self.batch)),
            "products": timed(work.replay),
        }
        in_turn(ways, rounds=3)
        found = in_turn(ways, rounds=self.given.steps)
        middle = {name: statistics.median(values) for name, values in found.items()}
        floor = [work.operations * value for value in found["per_operation"]]
        print(f"\nOne step, the batch at hand, medians of {self.given.steps}")
        show("floating-point operations", work.operations / 1e9, "GFLOP")
        show("matrix rate, large square float32 product", 1e-9 / middle["per_operation"], "GFLOP/s", digits=0)
        show("matrix rate, the step's products alone", 1e-9 * work.operations / middle["products"], "GFLOP/s", digits=0)
        show("floor: operations / large matrix rate", 1e3 * statistics.median(floor), "ms")
        show(f"its {work.products} products alone", 1e3 * middle["products"], "ms")
        show("va train's step", 1e3 * middle["step"], "ms")
        show("stock step", 1e3 * middle["stock"], "ms")
        show("va train's step / stock step", ratio(found["step"], found["stock"]), digits=3)
        show("va train's step / its products alone", ratio(found["step"], found["products"]), digits=3)
        show("stock step / floor", ratio(found["stock"], floor), digits=3)
        self.answer["step"] = {
            "operations": work.operations,
            "products": work.products,
            "rate_flops": 1 / middle["per_operation"],
            "seconds": {name: middle[name] for name in ("step", "stock", "products")},
            "to_stock": ratio(found["step"], found["stock"]),
            "to_products": ratio(found["step"], found["products"]),
            "stock_to_floor": ratio(found["stock"], floor),
            "to_floor": judge("va train's step / floor", ratio(found["step"], floor), BAR_FLOOR),
        }

    def runs(self) -> None:
        """(a), (b) and (c), a run or an epoch of each in turn."""
        ways: dict[str, Callable[[], float]] = {"a": self.va_train, "b": self.resident}
        if not self.given.no_loader:
            ways |= {f"c{count}": stock.epoch(self.stock, self.ready, workers=count) for count in (0, 2)}
        found = in_turn(ways, rounds=self.given.repeats)
        middle = {name: statistics.median(values) for name, values in found.items()}
        epochs = [one.infos[0]["epochs"] for one in self.ran]
        parts = {
            part: statistics.median(one.seconds(part) / count for one, count in zip(self.ran, epochs, strict=True))
            for part in ("train", "validate", "save")
        }
        wall_s = statistics.median(one.wall_s for one in self.ran)
        labels = {
            "a": "(a) va train, training only",
            "b": "(b) stock modules, one resident batch",
            "c0": "(c) stock modules, HDF5 per window, 0 workers",
            "c2": "(c) stock modules, HDF5 per window, 2 workers",
        }
        steps = self.ready.steps_per_epoch
        print(f"\nSeconds per step of epochs of {steps} steps, medians of {self.given.repeats}")
        for name, value in middle.items():
            show(labels[name], 1e3 * value, "ms")
        show("(a) an epoch: training", parts["train"], "s")
        show("(a) an epoch: validation", parts["validate"], "s")
        show("(a) an epoch: saving", parts["save"], "s")
        show("(a) all, from opening the corpus to the finished run", wall_s, "s")
        for name in sorted(ways.keys() - {"a", "b"}):
            self.answer[f"{name}_to_a"] = ratio(found[name], found["a"])
            show(f"(c) / (a), {name[1]} workers", self.answer[f"{name}_to_a"], digits=3)
        self.answer |= {"steps_per_epoch": steps, "seconds_per_step": middle, "epoch_s": parts, "wall_s": wall_s}
        self.answer["a_to_b"] = judge("(a) / (b)", ratio(found["a"], found["b"]), BAR_STOCK)
        if self.device.type == "cuda" and {name: getattr(self.given, name) for name in RECIPE} == RECIPE:
            self.answer["recipe"] = judge("(a) the paper's recipe at Aff-Wild2's size, seconds", wall_s, BAR_RECIPE_S)

    def va_train(self) -> float:
        """(a): seconds per step of a new run, with another seed each time because a finished run is not repeated."""
        self.ran.append(trials.train([dataclasses.replace(self.config, seed=len(self.ran))]))
        return self.ran[-1].seconds("train") / (self.ran[-1].infos[0]["epochs"] * self.ready.steps_per_epoch)

    def resident(self) -> float:
        """(b): seconds per step, for as many as (a) makes, but no more than a thousand."""
        times = min(self.ready.steps_per_epoch * self.given.epochs, 1000)
        return clock(self.device, lambda: self.stock.step(self.batch), times=times)

    def profile(self) -> None:
        """Print the operations of twenty steps by their own time."""
        activities = [torch.profiler.ProfilerActivity.CPU]
        own = "self_cpu_time_total"
        if self.device.type == "cuda":
            activities.append(torch.profiler.ProfilerActivity.CUDA)
            own = "self_device_time_total"
        with torch.profiler.profile(activities=activities) as profiler:
            clock(self.device, self.step, times=20)
        print(profiler.key_averages().table(sort_by=own, row_limit=20, max_name_column_width=48))


if __name__ == "__main__":
    main()
