"""What of a training step shows on a GPU can be seen without one: where its tensors lie, and that it never waits.

The step runs on tensors without values that claim to lie on a GPU (torch's `FakeTensorMode`): an operation over two
devices fails as it would there, and so does all that needs a value on the host, such as `.item()`. Copies between the
devices would pass, so they are counted: one from ordinary memory makes the host wait for the device, too.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from small_corpus import Small
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from va.data.windows import WindowSet
from va.train import loop, runs, stack
from va.train.config import TrainConfig
from va.train.loop import Trial

GPU = torch.device("meta")
Architecture = dict[str, object]


class Crossings(TorchDispatchMode):
    """Count operations whose tensors lie on more than one device, but for single numbers of the host."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run an operation and look at the devices before and after it."""
        result = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, Tensor)]
        if len({tensor.device.type for tensor in tensors}) > 1:
            self.seen.append(str(func))
        return result

    def make(self, data: object, **how: Any) -> Tensor:
        """Do as `torch.tensor`, whose copy of the host's numbers to a device is no operation of its own."""
        if "device" in how and torch.device(how["device"]) == GPU:
            self.seen.append("torch.tensor")
        return _tensor(data, **how)


_tensor = torch.tensor


class OnCPU(torch.Generator):
    """A generator that lies on the CPU wherever it is said to be."""

    def __new__(cls, device: object = "cpu") -> "OnCPU":
        return super().__new__(cls)


def gathered(
    small: Small, out: Path, monkeypatch: pytest.MonkeyPatch, configs: list[TrainConfig]
) -> tuple[list[Trial], WindowSet, Any]:
    """Give what the loop is called with for some trials, on the CPU."""
    called: list[tuple[list[Trial], WindowSet, Any]] = []

    class Enough(Exception):
        pass

    def fit(trials: list[Trial], pool: WindowSet, truths: object, head: object, **_: object) -> None:
        called.append((trials, pool, head))
        raise Enough

    monkeypatch.setattr(loop, "fit", fit)
    with pytest.raises(Enough):
        runs.train(configs, epoch_done=lambda *_: None)
    return called[0]


def on_gpu(pool: WindowSet) -> WindowSet:
    """Give a set whose tensors claim to lie on the GPU, but for the one that stays on the CPU."""
    there = {
        part.name: getattr(pool, part.name).to(GPU)
        for part in dataclasses.fields(pool)
        if isinstance(getattr(pool, part.name), Tensor) and part.name != "local_cells"
    }
    return dataclasses.replace(pool, device=GPU, **there)


ARCHITECTURES = {
    "the paper's": {},
    "tcn": {"temporal": "tcn", "ema": 0.9, "clip_norm": 1.0},
    "voice, end": {"modalities": "voice", "target": "end", "standardise": True},
    "gated": {"fusion": "gated", "schedule": "cosine", "warmup_steps": 2},
}


@pytest.fixture(params=ARCHITECTURES.values(), ids=list(ARCHITECTURES))
def ready(
    request: pytest.FixtureRequest, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[Trial], WindowSet, Any]:
    configs = [small.config(tmp_path, seed=seed, **request.param) for seed in (0, 1)]
    return gathered(small, tmp_path, monkeypatch, configs)


def test_steps_stay_on_the_gpu_and_never_wait_for_it(
    ready: tuple[list[Trial], WindowSet, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, pool, head = ready
    index = loop.draw_batches(trials, pool.num_labels())
    autocast = torch.autocast
    monkeypatch.setattr(torch, "Generator", OnCPU)
    monkeypatch.setattr(sys.modules["torch.optim.adam"], "_device_dtype_check_for_fused", lambda parameter: None)
    monkeypatch.setattr(torch, "autocast", lambda device, *how, **more: autocast("cpu", *how, **more))
    pool, index = on_gpu(pool), index.to(GPU)
    made = stack.Stack(
        head, configs=[trial.config for trial in trials], states=[trial.state for trial in trials], device=GPU
    )
    assert {parameter.device for parameter in made.head.parameters()} == {GPU}
    made.head.train()
    for step in range(2):  # the first makes the optimiser's state
        with Crossings() as crossings, monkeypatch.context() as patch:
            patch.setattr(torch, "tensor", crossings.make)
            lost = made.step(pool.batch(index[step]), active=[True, step == 0], total_steps=[8, 8])
        assert lost.device == GPU
        assert not crossings.seen
