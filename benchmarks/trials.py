"""What the benchmarks of training share: a generated corpus, trials on it, and steps held against their arithmetic."""

import argparse
import json
import math
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from va.data import corpus, prototypes, timeline
from va.data.corpus import Clip, Truth
from va.data.features import SCHEMA, ClipFeatures, FeatureStore, Source
from va.data.windows import WindowBatch
from va.device import choose_device
from va.train import loop, planning, runs
from va.train.config import TrainConfig
from va.train.data import load_pool
from va.train.stack import Stack

WINDOW_S, STRIDE_S, RATE_HZ = 10.0, 3.0, 30
FRAME_DIM, AUDIO_DIM, REGIONS = 512, 768, 9
WINDOWS_PER_CLIP = 76
"""About Aff-Wild2's: 26,000 windows of 350 videos."""

_aten = torch.ops.aten
_PRODUCTS = {_aten.mm, _aten.addmm, _aten.bmm, _aten.baddbmm, _aten.baddbmm_}


class Places(NamedTuple):
    """A generated corpus and its features."""

    corpus: Path
    features: Path


# --- the corpus


def make_corpus(root: Path, *, windows: int) -> Places:
    """Write `windows` training windows and a fifth as many to select on, through the data layer's own writers."""
    rng = np.random.default_rng(0)
    sampling = {"cell_s": 0.5}
    common = {"schema": SCHEMA, "sampling": sampling}
    windowed = {"schema": SCHEMA, "sampling": {**sampling, "window_s": WINDOW_S, "stride_s": STRIDE_S}}
    features = root / "features"
    face = FeatureStore.create(features, {**common, "encoder": "eye", "kind": "frames", "dim": FRAME_DIM})
    voice = FeatureStore.create(features, {**windowed, "encoder": "ear", "kind": "audio", "dim": AUDIO_DIM})
    entries = []
    for split, wanted in (("train", windows), ("val", math.ceil(windows / 5))):
        for first in range(0, wanted, WINDOWS_PER_CLIP):
            duration_s = WINDOW_S + STRIDE_S * (min(WINDOWS_PER_CLIP, wanted - first) - 1)
            entries.append(_clip(rng, root, f"{split}{first:06}", split, duration_s, face, voice))
    values = rng.standard_normal((REGIONS, FRAME_DIM), np.float32)
    texts = tuple(f"text {region}" for region in range(REGIONS))
    prototypes.write(face.directory, prototypes.Prototypes(texts=texts, templates=("{}",), values=values))
    for store in (face, voice):
        store.pack(at_least=1)
    made = corpus.save(root, name="generated", synthetic=True, media_root=root, entries=entries)
    return Places(made.path, features)


def _clip(
    rng: np.random.Generator, root: Path, name: str, split: str, duration_s: float, face: Any, voice: Any
) -> tuple[Clip, Truth]:
    """Write one clip's features: noise, a face missing here and there, every cell labelled but some."""
    num_frames = round(duration_s * RATE_HZ)
    time_s = np.arange(num_frames) / RATE_HZ
    centers = timeline.cell_centers(timeline.num_cells(duration_s))
    starts_s = timeline.window_starts(duration_s, window_s=WINDOW_S, stride_s=STRIDE_S)
    seen = rng.random(len(centers)) > 0.05
    heard = np.ones((len(starts_s), round(WINDOW_S / timeline.CELL_S)), np.bool_)
    source = Source(size=1, digest="0")
    pictures = rng.standard_normal((len(centers), FRAME_DIM), np.float32) * seen[:, None]
    sound = rng.standard_normal((*heard.shape, AUDIO_DIM), np.float32)
    face.write(name, ClipFeatures(values=pictures.astype(np.float16), time_s=centers, valid=seen), source)
    voice.write(name, ClipFeatures(values=sound.astype(np.float16), time_s=starts_s, valid=heard), source)
    va = 0.8 * np.sin(time_s[:, None] * rng.uniform(0.2, 0.6, 2) + rng.uniform(0, 6.28, 2))
    truth = Truth(time_s=time_s, va=va.astype(np.float32), valid=rng.random(num_frames) > 0.02)
    media = root / f"{name}.mp4"  # never opened
    clip = Clip(id=name, media=media, split=split, identity=name, num_frames=num_frames, duration_s=duration_s)
    return clip, truth


# --- trials


def add_options(parser: argparse.ArgumentParser, *, windows: int, repeats: int) -> None:
    """Add what both benchmarks ask for."""
    parser.add_argument("--windows", type=int, default=windows, help="of training; 26000 are Aff-Wild2's")
    parser.add_argument("--epochs", type=int, default=2, help="of every run")
    parser.add_argument("--repeats", type=int, default=repeats, help="rounds of runs; medians are shown")
    parser.add_argument("--steps", type=int, default=30, help="rounds of single steps; medians are shown")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--folder", type=Path, help="for temporary files, instead of the system's")


def config_of(given: argparse.Namespace, places: Places, out: Path, **changes: Any) -> TrainConfig:
    """Give the paper's recipe without an early stop, so that every run makes the same number of steps."""
    return TrainConfig(
        corpus=places.corpus,
        features=places.features,
        out=out,
        epochs=given.epochs,
        patience=given.epochs,
        select_on="val",
        batch_size=given.batch_size,
        width=given.width,
        device=given.device,
        **changes,
    )


class Ran(NamedTuple):
    """Finished runs: the seconds of everything, loading included, and each `run.json`."""

    wall_s: float
    infos: list[dict[str, Any]]
    directories: list[Path]

    def seconds(self, part: str) -> float:
        """Seconds of one part, "train", "validate" or "save", of runs that were trained together."""
        return float(self.infos[0]["seconds"][part])


def train(configs: Sequence[TrainConfig]) -> Ran:
    """Do what `va train` does once its libraries are loaded."""
    started = time.perf_counter()
    directories = runs.train(configs, epoch_done=lambda config, line: None)
    wall_s = time.perf_counter() - started
    infos = [json.loads((directory / "run.json").read_text(encoding="utf-8")) for directory in directories]
    return Ran(wall_s, infos, directories)


class Ready:
    """Trials that have loaded what they need and can make single steps.

    Args:
        configs: Of one architecture.
    """

    def __init__(self, configs: Sequence[TrainConfig]) -> None:
        self.planned = planning.plan(configs)
        self.device = choose_device(configs[0].device)
        division = self.planned[0].division
        clips = (*division.train, *division.selection)
        self.pool = load_pool(configs[0], self.planned[0].data, clips, self.device)
        self.trials = [runs.make_trial(one, self.pool) for one in self.planned]
        self.steps_per_epoch = math.ceil(len(loop.windows_of(self.trials[0].train)) / configs[0].batch_size)

    def stack(self, count: int) -> tuple[Stack, WindowBatch, Callable[[], object]]:
        """Give a stack of the first trials, its first batch, and a function that makes one step with it."""
        trials = self.trials[:count]
        stack = Stack(
            runs.make_head(self.planned[0]),
            configs=[trial.config for trial in trials],
            states=[trial.state for trial in trials],
            device=self.device,
        )
        stack.head.train()
        batch = self.pool.batch(loop.draw_batches(trials, self.pool.num_labels())[0].to(self.device))
        active, total = [True] * count, [1000] * count
        return stack, batch, lambda: stack.step(batch, active=active, total_steps=total)


# --- clocks


def clock(device: torch.device, work: Callable[[], object], *, times: int = 1) -> float:
    """Give the seconds of one call, a mean over `times`; a GPU has nothing queued before nor after."""
    _wait(device)
    started = time.perf_counter()
    for _ in range(times):
        work()
    _wait(device)
    return (time.perf_counter() - started) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def in_turn(ways: dict[str, Callable[[], float]], *, rounds: int) -> dict[str, list[float]]:
    """Measure in rounds of all ways, there and back, so that a machine that slows down slows all of them."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name in reversed(ways) if turn % 2 else ways:
            found[name].append(ways[name]())
    return found


def ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """Give the median of the rounds' ratios."""
    return statistics.median(one / other for one, other in zip(above, below, strict=True))


def times_per_sample(device: torch.device) -> int:
    """Say how many steps one sample needs: a GPU's queue has to be full."""
    return 20 if device.type == "cuda" else 1


# --- arithmetic


class MatrixRate:
    """Seconds per floating-point operation of a square float32 product, the quickest thing a machine does."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        size = 8192 if device.type == "cuda" else 1024
        self.factor, self.out = torch.randn(size, size, device=device), torch.empty(size, size, device=device)
        self.operations = 2 * size**3

    def __call__(self) -> float:
        """Measure once."""
        return clock(self.device, lambda: torch.mm(self.factor, self.factor, out=self.out), times=4) / self.operations


class _Recorder(TorchDispatchMode):
    """Takes note of every matrix product, those of backward passes too."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, list[tuple[tuple[int, ...], tuple[int, ...]]]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in _PRODUCTS:
            # In place, a replay would add to its factors until they overflow.
            product = _aten.baddbmm.default if func.overloadpacket is _aten.baddbmm_ else func
            self.calls.append((product, [(tuple(arg.shape), arg.stride()) for arg in args]))
        return func(*args, **(kwargs or {}))


class Arithmetic:
    """What a step computes: its floating-point operations, and its matrix products alone, shape by shape.

    Args:
        device: Where it runs.
        step: One step; called twice.

    Attributes:
        operations: Of matrix products and attention, forward and backward; element-wise ones are not counted.
        products: Number of matrix products.
    """

    def __init__(self, device: torch.device, step: Callable[[], object]) -> None:
        # Its own formulas leave out a product that is added in place.
        with FlopCounterMode(display=False, custom_mapping={_aten.baddbmm_: _operations_in_place}) as counter:
            step()
        with _Recorder() as recorder:
            step()
        self.operations = counter.get_total_flops()
        self.products = len(recorder.calls)
        made: dict[Any, torch.Tensor] = {}
        self._calls = [(func, [_like(made, *form, device) for form in forms]) for func, forms in recorder.calls]

    def replay(self) -> None:
        """Compute the products once more, of random numbers, and nothing else."""
        for func, factors in self._calls:
            func(*factors)


def _operations_in_place(
    _: torch.Size, first: torch.Size, second: torch.Size, *, out_shape: torch.Size, **rest: object
) -> int:
    """Count those of `baddbmm_`, from shapes, as the counter hands them over."""
    groups, rows, inner = first
    return 2 * groups * rows * inner * second[2]


def _like(
    made: dict[Any, torch.Tensor], shape: tuple[int, ...], stride: tuple[int, ...], device: torch.device
) -> torch.Tensor:
    if (shape, stride) not in made:
        extent = 1 + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
        made[shape, stride] = torch.randn(extent, device=device).as_strided(shape, stride)
    return made[shape, stride]


# --- printing


def introduce(given: argparse.Namespace, device: torch.device, more: str) -> dict[str, Any]:
    """Print what is measured where, and give it for the JSON line."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    if device.type == "cuda":
        machine = torch.cuda.get_device_name(device)
    print(f"{machine}; torch {torch.__version__}; {given.windows} windows, {given.epochs} epochs, "
          f"batch {given.batch_size}, width {given.width}; {more}")  # fmt: skip
    names = ("windows", "epochs", "repeats", "steps", "batch_size", "width")
    return {"machine": machine, "torch": torch.__version__} | {name: getattr(given, name) for name in names}


def show(label: str, value: float, unit: str = "", *, digits: int = 2) -> None:
    """Print one line of a table."""
    print(f"{label:<56} {value:10.{digits}f} {unit}".rstrip(), flush=True)


def judge(label: str, value: float, bar: float) -> dict[str, Any]:
    """Print a figure beside its bar and give both."""
    print(f"{label:<56} {value:10.3f} {'met' if value <= bar else 'missed'}, at most {bar:g}", flush=True)
    return {"value": value, "bar": bar, "met": value <= bar}
