"""A run asked about windows: an ensemble is the mean of its members, and one window is not another's business."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_corpus import AUDIO_DIM, FRAME_DIM, TEXT_DIM

from va.evaluate.predict import predict_batch
from va.model import layers
from va.train import checkpoint
from va.train.checkpoint import Run
from va.train.config import TrainConfig


def run_of(seed: int) -> Run:
    config = TrainConfig(corpus=Path("c"), features=Path("f"), out=Path("o"), width=16, num_heads=2)
    torch.manual_seed(seed)
    shape = {"frame_dim": FRAME_DIM, "audio_dim": AUDIO_DIM, "audio_cnn": False}
    head = checkpoint.make_head(config, shape, prototypes=torch.randn(9, TEXT_DIM))
    return Run(directory=Path("run"), info={}, config=config, head=head.eval(), members=0)


def windows(count: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(count, 20, FRAME_DIM, generator=generator)
    audio = torch.randn(count, 20, AUDIO_DIM, generator=generator)
    valid = torch.rand(2, count, 20, generator=generator) > 0.2
    return frames, valid[0], audio, valid[1]


def test_a_batch_is_the_head_clamped() -> None:
    run, inputs = run_of(0), windows(3)
    found = predict_batch(run, *inputs)
    with torch.no_grad():
        said = run.head(*inputs)
    np.testing.assert_allclose(found.va, said.va.clamp(-1, 1).numpy(), atol=1e-6)
    np.testing.assert_allclose(found.regions, said.region_logits.softmax(-1).numpy(), atol=1e-6)
    assert found.va.dtype == np.float64 and found.gate.shape == (3, 20)


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    runs, inputs = [run_of(seed) for seed in range(3)], windows(4)
    joined = replace(runs[0], head=layers.stack([run.head for run in runs]).eval(), members=3)
    alone = [predict_batch(run, *inputs) for run in runs]
    for name in ("va", "regions", "gate"):
        mean = np.mean([getattr(each, name) for each in alone], axis=0)
        np.testing.assert_allclose(getattr(predict_batch(joined, *inputs), name), mean, atol=1e-6)
    assert not np.allclose(alone[0].va, alone[1].va, atol=1e-3)


@pytest.mark.parametrize("members", [0, 2])
def test_many_windows_are_answered_in_parts(members: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run, inputs = run_of(0), windows(7)
    if members:
        run = replace(run, head=layers.stack([run.head] * members).eval(), members=members)
    whole = predict_batch(run, *inputs)
    monkeypatch.setattr("va.evaluate.predict._BATCH", 4)
    np.testing.assert_allclose(predict_batch(run, *inputs).va, whole.va, atol=1e-6)
    assert predict_batch(run, *inputs).va.shape == (7, 20, 2)
