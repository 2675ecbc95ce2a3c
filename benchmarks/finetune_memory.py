"""Memory, time and arithmetic of one update of ViT-B/16 and AST; a section of `finetune.py`."""

import argparse
import gc
import itertools
import json
import platform
import resource
import statistics
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from full_size import BATCH, CELLS, ROWS, Update, Way, build, loss_of, random_features
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from va.device import choose_device
from va.extract.encoders import Encoder
from va.train.finetuning import groups, passes

CARD_GB, GB = 24.0, 1e9


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the section's options."""
    parser.add_argument("--device", default="auto")
    parser.add_argument("--windows", type=int, default=0, help="of the measured update; 0 for 2, and 16 on a GPU")
    parser.add_argument("--cells", type=int, default=CELLS, help="seen in each window of the measured update")
    parser.add_argument("--steps", type=int, default=5, help="updates measured on a GPU, after two that are not")
    parser.add_argument("--peak-tflops", type=float, default=989.0, help="the chip's; an H100 SXM's, dense bfloat16")
    parser.add_argument("--only-measure", action="store_true", help=argparse.SUPPRESS)


def section(given: argparse.Namespace) -> dict[str, Any]:
    """Compute, measure, compare and print."""
    device = choose_device(given.device)
    found: dict[str, Any] = {"device": str(device), "torch": torch.__version__, "machine": platform.platform()}
    computed = Computed()
    ways = [Way(*each) for each in itertools.product(("float32", "bfloat16"), (True, False), (1, 4))]
    print(f"Computed peak of an update of {BATCH} windows ({BATCH * CELLS} pictures, {BATCH} spectrograms), GB")
    print("  precision  checkpointing  windows at once  fixed  batch  activations  all  fits 24 GB")
    found["computed"] = []
    for way in ways:
        parts = computed.peak(way, windows=BATCH, cells=CELLS)
        total = sum(parts.values())
        found["computed"].append({**way._asdict(), **parts, "all": total, "fits": total < CARD_GB * GB})
        fixed = total - parts["batch"] - parts["activations"]
        figures = "  ".join(f"{each / GB:5.2f}" for each in (fixed, parts["batch"], parts["activations"], total))
        fits = "yes" if total < CARD_GB * GB else "no"
        print(
            f"  {way.precision:9}  {'yes' if way.checkpointing else 'no':13}  {way.micro_batch:15}  {figures}  {fits}"
        )
    print("  fixed: " + ", ".join(f"{name} {size / GB:.2f}" for name, size in computed.fixed().items()))
    operations = computed.operations(CELLS)
    found["operations_per_window"] = operations
    print(f"  products of one window, forward and backward once: {operations / 1e12:.2f} TFLOP")
    if device.type == "cuda":
        found["measured"] = [_on_gpu(given, computed, way, device) for way in ways]
    else:
        found["measured"] = [_in_a_process(given, computed)]
    return found


class Computed:
    """Memory of an update, from running it on tensors that have shapes and no memory."""

    def __init__(self) -> None:
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        with self._fake:
            self.built = build(torch.device("cpu"))

    def fixed(self) -> dict[str, int]:
        """Bytes that are always there: float32 weights, gradients, AdamW's two moments, averages."""
        towers = sum(_bytes(encoder.tower) for encoder in self._towers())
        head = _bytes(self.built.head)
        text = _bytes(self.built.model) - _bytes(self.built.face.tower)
        weights = {"towers": towers, "text tower, frozen": text, "head": head}
        return {**weights, "gradients": towers + head, "moments": 2 * (towers + head), "averages": towers + head}

    def peak(self, way: Way, *, windows: int, cells: int) -> dict[str, int]:
        """Bytes at the worst moment of an update, by what they are for."""
        count = min(windows, way.micro_batch)
        with self._fake:
            pictures = torch.zeros(count * cells, 224, 224, 3, dtype=torch.uint8)
            spectra, rows = torch.zeros(count, 1024, 128), [ROWS] * count  # a tensor would have no values to look at
            seen = self._live(self.built.face, (pictures,), way), self._live(self.built.voice, (spectra, rows), way)
            embeddings = 2 * 4 * windows * CELLS * (self.built.face.dim + self.built.voice.dim)
            with Live(self.built.head) as live, _dropped(self.built.head):
                loss_of(self.built.head, random_features(self.built, windows)).backward()
        return {**self.fixed(), "batch": embeddings, "activations": max(*seen, live.peak)}

    def operations(self, cells: int) -> int:
        """Floating-point operations of one window's products: the model's own, nothing done twice."""
        way = Way("float32", False, 1)
        with self._fake, FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            self._live(self.built.face, (torch.zeros(cells, 224, 224, 3, dtype=torch.uint8),), way)
            self._live(self.built.voice, (torch.zeros(1, 1024, 128), [ROWS]), way)
        return counter.get_total_flops()

    def _live(self, encoder: Encoder, inputs: tuple[Any, ...], way: Way) -> int:
        assert encoder.tower is not None
        blocks = groups.find_blocks(encoder.tower) if way.checkpointing else []
        with passes.one_kernel(), passes.checkpointed(blocks), _dropped(encoder.tower), Live(encoder.tower) as live:
            bfloat16 = way.precision == "bfloat16"
            out = passes.embed(encoder, inputs, device=torch.device("cpu"), bfloat16=bfloat16)
            out.backward(torch.ones_like(out))  # type: ignore[no-untyped-call]
        return live.peak

    def _towers(self) -> tuple[Encoder, Encoder]:
        return self.built.face, self.built.voice


class Live(TorchDispatchMode):
    """Adds up the memory of all tensors made inside that are still held; a module's own are not counted."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._own = [each.untyped_storage() for each in (*module.parameters(), *module.buffers())]
        self._known = {storage._cdata for storage in self._own}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and look at what it has made."""
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._note(tensor.untyped_storage())
        return made

    def _note(self, storage: Any) -> None:
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            self._now += storage.nbytes()
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, place: int, size: int) -> None:
        self._known.discard(place)
        self._now -= size


@contextmanager
def _dropped(module: nn.Module) -> Iterator[None]:
    """Let each parameter's gradient go as soon as it is made, as one that is added to another does."""

    def drop(parameter: Tensor) -> None:
        parameter.grad = None

    module.requires_grad_(True)
    hooks = [parameter.register_post_accumulate_grad_hook(drop) for parameter in module.parameters()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _in_a_process(given: argparse.Namespace, computed: Computed) -> dict[str, Any]:
    """Measure on the CPU, in a process of its own, whose memory nobody else has touched."""
    way, windows = Way("float32", True, 1), given.windows or 2
    command = [sys.executable, __file__, "--only-measure", "--windows", str(windows), "--cells", str(given.cells)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, Any] = json.loads(said.splitlines()[-1])
    expected = sum(computed.peak(way, windows=windows, cells=given.cells).values())
    ratio = found["peak"] / expected
    print(
        f"\nOne update of {windows} windows with {given.cells} pictures each, one at a time, with checkpointing, here"
    )
    print(f"  peak {found['peak'] / GB:.2f} GB, computed {expected / GB:.2f} GB, ratio {ratio:.2f}")
    print(f"  {found['seconds']:.0f} s; loss {found['loss']:.4f} -> {found['loss_after']:.4f}")
    return {**way._asdict(), "windows": windows, "cells": given.cells, **found, "computed": expected, "ratio": ratio}


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Make one update on the CPU in this process, and look at its loss afterwards."""
    device = torch.device("cpu")
    torch.randn(64, 64).matmul(torch.randn(64, 64))  # what the libraries take for themselves
    before = _resident()
    update = Update(Way("float32", True, 1), windows=given.windows, cells=given.cells, device=device)
    update.towers.update(factor=0.0)  # moments are made by the first update, and belong to the peak of all others
    biases = {name: each.clone() for name, each in update.towers.state().items() if name.endswith("bias")}
    biases = {name: each for name, each in biases.items() if name.startswith("weights/")}
    started = time.perf_counter()
    loss = update()
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    state = update.towers.state()
    moved = sum(not torch.equal(each, state[name]) for name, each in biases.items())
    with torch.no_grad():
        after = float(loss_of(update.head, update.towers.encode(update.inputs)))
    figures = {"peak": peak, "seconds": seconds, "loss": loss, "loss_after": after}
    return {**figures, "biases": len(biases), "biases_moved": moved}


def _on_gpu(given: argparse.Namespace, computed: Computed, way: Way, device: torch.device) -> dict[str, Any]:
    """Measure peak memory, seconds per update and the share of the chip's peak that the model's products are."""
    windows = given.windows or BATCH
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    try:
        update = Update(way, windows=windows, cells=given.cells, device=device)
        times = []
        for _ in range(2 + given.steps):
            torch.cuda.synchronize(device)
            started = time.perf_counter()
            update()
            torch.cuda.synchronize(device)
            times.append(time.perf_counter() - started)
    except torch.cuda.OutOfMemoryError:
        print(f"  {way}: does not fit here")
        return {**way._asdict(), "windows": windows, "fits": False}
    peak = torch.cuda.max_memory_allocated(device) - before
    expected = sum(computed.peak(way, windows=windows, cells=given.cells).values())
    seconds = statistics.median(times[2:])
    # The second forward pass and what checkpointing repeats are not counted.
    rate = computed.operations(given.cells) * windows / seconds
    share = rate / (given.peak_tflops * 1e12)
    print(f"  {torch.cuda.get_device_name(device)}, {way}: {seconds:.3f} s, {rate / 1e12:.0f} TFLOP/s,")
    print(f"    {100 * share:.0f} % of the peak; {peak / GB:.2f} GB, computed {expected / GB:.2f} GB")
    figures = {"seconds": seconds, "peak": peak, "computed": expected, "flops": rate, "share": share}
    return {**way._asdict(), "windows": windows, "cells": given.cells, **figures}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _bytes(module: nn.Module | None) -> int:
    assert module is not None
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


if __name__ == "__main__":
    options = argparse.ArgumentParser()
    add_options(options)
    print(json.dumps(measure(options.parse_args())))
