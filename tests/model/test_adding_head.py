"""The example of docs/adding-a-head.md has the properties that the page asks for, and works where the page puts it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import small_corpus
import torch
from stacking import assert_stack_is_each_alone, outputs_and_gradients

from va.model import head as head_module

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "adding-a-head.md").read_text(encoding="utf-8")
B, T, S, D = 3, 5, 7, 8


def example() -> str:
    found = re.search(r"<!-- example -->\n```python\n(.*?)```", TEXT, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def fusion():
    names: dict = {"__name__": "example"}
    exec(compile(example(), "docs/adding-a-head.md", "exec"), names)
    made = names["ConstantGate"](width=D, num_heads=2).double()
    torch.nn.init.normal_(made.openness)
    return SimpleNamespace(module=made, make=names["ConstantGate"])


@pytest.fixture
def sequences():
    """Video, audio and its mask: whole, with gaps, without any audio."""
    torch.manual_seed(0)
    video, audio = torch.randn(B, T, D, dtype=torch.float64), torch.randn(B, S, D, dtype=torch.float64)
    audio_valid = torch.tensor([[True] * S, [True, False, True, False, False, True, True], [False] * S])
    return video, audio, audio_valid


def test_the_example_equals_numpy(fusion, sequences):
    fused, gate = fusion.module(*sequences)
    video, audio, audio_valid = (x.numpy() for x in sequences)
    share = 1 / (1 + np.exp(-fusion.module.openness.detach().numpy()))
    for window in range(2):
        sound = audio[window][audio_valid[window]].mean(axis=0)
        np.testing.assert_allclose(fused[window].detach(), share * sound + (1 - share) * video[window], atol=1e-12)
        np.testing.assert_allclose(gate[window].detach(), np.tile(share, (T, 1)), atol=1e-12)
    assert torch.equal(fused[2], sequences[0][2]) and not gate[2].any()


def test_the_example_ignores_what_is_masked(fusion, sequences):
    video, audio, audio_valid = sequences
    expected, theirs = outputs_and_gradients(fusion.module, video, audio, audio_valid)
    hidden = audio.masked_fill(~audio_valid[..., None], torch.nan)
    outputs, gradients = outputs_and_gradients(fusion.module, video, hidden, audio_valid)
    padded = torch.cat((hidden, torch.full((B, 4, D), torch.nan, dtype=torch.float64)), dim=1)
    longer, _ = outputs_and_gradients(fusion.module, video, padded, torch.nn.functional.pad(audio_valid, (0, 4)))
    for ours, masked, other in zip(expected, outputs, longer, strict=True):
        assert torch.equal(ours, masked)
        torch.testing.assert_close(ours, other, atol=1e-12, rtol=0)
    assert all(torch.equal(gradients[name], theirs[name]) for name in theirs)


def test_a_stack_of_the_example_is_each_alone(fusion, sequences):
    modules = [fusion.make(width=D, num_heads=2).double() for _ in range(3)]
    for module in modules:
        torch.nn.init.normal_(module.openness)
    video, audio, audio_valid = sequences
    assert_stack_is_each_alone(
        modules,
        torch.randn(3, *video.shape).double(),
        torch.randn(3, *audio.shape).double(),
        audio_valid.expand(3, B, S),
    )


def test_the_example_waits_for_no_value(fusion):
    nowhere = torch.zeros(B, T, D, device="meta")
    fused, gate = fusion.module.to("meta")(nowhere, nowhere, torch.ones(B, T, dtype=torch.bool, device="meta"))
    assert fused.shape == gate.shape == (B, T, D)


def test_the_example_in_the_whole_head(fusion, monkeypatch):
    monkeypatch.setitem(head_module._FUSION, "constant", fusion.make)
    head = head_module.VAHead(
        frame_dim=6,
        audio_dim=5,
        audio_cnn=False,
        prototypes=torch.randn(9, 4),
        width=D,
        num_heads=2,
        modalities="both",
        target="frames",
        tcn=None,
        fusion="constant",
        init_scale=10.0,
        standardise=False,
    )
    frame_valid, audio_valid = torch.rand(4, T) > 0.4, torch.rand(4, S) > 0.4
    audio_valid[0] = frame_valid[1] = False
    frames = torch.randn(4, T, 6).masked_fill(~frame_valid[..., None], torch.nan)
    audio = torch.randn(4, S, 5).masked_fill(~audio_valid[..., None], torch.nan)
    output = head(frames, frame_valid, audio, audio_valid)
    (output.va.sum() + output.region_logits.square().sum()).backward()
    assert output.va.isfinite().all() and output.gate[0].eq(0).all() and output.gate[1].eq(0.5).all()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in head.parameters())
    assert head.fusion.openness.grad.abs().min() > 0


@pytest.mark.slow
def test_the_example_where_the_page_puts_it(tmp_path):
    """A copy of the package with the page's three edits trains, alone and in a stack, and evaluates."""
    shutil.copytree(ROOT / "va", tmp_path / "va", ignore=shutil.ignore_patterns("__pycache__"))
    names = re.search(r"<!-- names -->\n```text\n(.*?)```", TEXT, re.DOTALL)
    assert names is not None
    known, constant, _, literal = (line.split("#")[0].strip() for line in names[1].splitlines())
    head, config, fusion = (tmp_path / "va" / name for name in ("model/head.py", "train/config.py", "model/fusion.py"))
    fusion.write_text(fusion.read_text() + "\n\n" + example())
    edited = (
        head.read_text()
        .replace(known, f"{known}\n    {constant}")
        .replace("import AttentionFusion, ", "import *\nfrom va.model.fusion import AttentionFusion, ")
    )
    head.write_text(edited)
    old = 'fusion: Literal["attention", "gated", "hierarchical"] = "hierarchical"'
    assert config.read_text().count(old) == 1 and constant in edited
    config.write_text(config.read_text().replace(old, literal))

    small = small_corpus.build(tmp_path / "small")

    def va(*arguments: object) -> str:
        command = [sys.executable, "-m", "va", *map(str, arguments)]
        environment = os.environ | {"PYTHONPATH": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    train = (small.corpus, small.features, "--fusion", "constant", "--epochs", 1, "--width", 16, "--num-heads", 2)
    run = va("train", *train, "--out", "runs")
    assert Path(run).name.startswith("gru-constant-")
    va("sweep-grid", *train, "--out", "sweep", "--centers", "0.66", "--seeds", "0,1")
    assert Path(va("evaluate", run, "--out", "report", "--resamples", 20)).name == "index.html"
