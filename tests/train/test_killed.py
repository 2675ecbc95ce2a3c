"""A real process, really killed while it trains; `benchmarks/faults_train.py` does it hundreds of times."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import inside
import pytest
from small_corpus import Small

from va.train import runs
from va.train.config import TrainConfig
from va.train.state import Epoch

_EPOCHS = 30


def quiet(config: TrainConfig, line: Epoch) -> None:
    """Hear nothing."""


def test_a_killed_training_goes_on_to_the_same_bits(
    small: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (whole,) = runs.train([small.config(tmp_path / "whole", epochs=_EPOCHS, patience=_EPOCHS)], epoch_done=quiet)
    command = ["train", str(small.corpus), str(small.features)]
    command += ["--out", str(tmp_path / "killed"), "--width", "16", "--num-heads", "2", "--learning-rate", "0.005"]
    command += ["--device", "cpu", "--epochs", str(_EPOCHS), "--patience", str(_EPOCHS)]
    process = subprocess.Popen(
        [sys.executable, "-m", "va.cli", *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    log = tmp_path / "killed" / whole.name / "log.jsonl"
    deadline = time.monotonic() + 120
    while not (log.is_file() and len(log.read_text().splitlines()) >= 3):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (log.parent / "run.json").exists(), "it was killed before its end"
    assert inside.va(*command) == 0
    said = capsys.readouterr()
    assert said.out.strip() == str(log.parent)
    assert f"epoch   1/{_EPOCHS}" not in said.err
    for name in ("model.safetensors", "log.jsonl"):
        assert (log.parent / name).read_bytes() == (whole / name).read_bytes()
