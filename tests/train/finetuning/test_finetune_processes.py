"""`va finetune` as real processes: really killed, and several of them under torchrun."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fine_run
import pytest
import torch
from fine_run import Fine
from safetensors import safe_open
from safetensors.torch import load_file

from va.errors import VAError
from va.train.finetuning import together
from va.train.finetuning.parallel import Parallel

ROOT = Path(__file__).resolve().parents[3]
EPOCHS = 5


@pytest.fixture(scope="module")
def fine(tmp_path_factory: pytest.TempPathFactory) -> Fine:
    return fine_run.build(tmp_path_factory.mktemp("fine"))


def options(fine: Fine, out: Path) -> list[str]:
    """The command line of `Fine.config`."""
    given = ["finetune", str(fine.corpus), "--from", str(fine.run), "--out", str(out), "--inputs", str(fine.inputs)]
    given += ["--ast-weights", str(fine.ast), "--epochs", str(EPOCHS), "--batch-size", "4", "--micro-batch", "4"]
    return [*given, "--no-checkpointing", "--no-extract", "--readers", "1", "--device", "cpu"]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def torchrun(*command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command]
    done = subprocess.run(launch, capture_output=True, text=True, env=environment(), timeout=280)
    assert not check or done.returncode == 0, done.stderr
    return done


def steps_of(state: Path) -> tuple[int, int]:
    """Epochs that a state has behind it, and steps inside the one under way."""
    try:
        with safe_open(state, framework="pt") as opened:
            return json.loads(opened.metadata()["state"])["epoch"], len(opened.get_tensor("lost"))
    except OSError:
        return 0, 0


@pytest.mark.slow
def test_a_killed_process_goes_on_to_the_same_bits(fine: Fine, tmp_path: Path) -> None:
    whole = fine.finetune(tmp_path / "whole", epochs=EPOCHS)
    command = [sys.executable, "-m", "va", *options(fine, tmp_path / "killed"), "--save-minutes", "1e-9"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment())
    directory = tmp_path / "killed" / whole.name
    deadline = time.monotonic() + 200
    while steps_of(directory / "state.safetensors") < (1, 1):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (directory / "run.json").exists(), "it was killed before its end"
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(), timeout=280)
    assert done.stdout.splitlines() == [str(directory)]
    assert f"epoch   1/{EPOCHS}" not in done.stderr
    files = ["model.safetensors", "log.jsonl", "encoders/face/open_clip_model.safetensors"]
    for name in [*files, "encoders/voice/model.safetensors"]:
        assert (directory / name).read_bytes() == (whole / name).read_bytes(), name
    assert {file.name for file in directory.iterdir()} == {"run.json", "encoders", "model.safetensors", "log.jsonl"}


@pytest.mark.slow
def test_two_processes_train_what_one_does(fine: Fine, tmp_path: Path) -> None:
    """Losses to seven digits; weights to what Adam makes of rounding.

    Gradients are sums of the same numbers in another order. Adam divides by their size, so that where a gradient is
    nothing but rounding a weight may move by the whole rate of 3e-6 in a step: 20 steps, 6e-5 at most.
    """
    one = fine.finetune(tmp_path / "one", epochs=EPOCHS)
    done = torchrun("-m", "va", *options(fine, tmp_path / "two"))
    two = tmp_path / "two" / one.name
    assert done.stdout.splitlines() == [str(two)], "one process alone reports"
    assert done.stderr.count(f"epoch   1/{EPOCHS}") == 1
    info: dict[str, Any] = json.loads((two / "run.json").read_text())
    assert info["processes"] == 2
    logs = [[json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in (one, two)]
    assert len(logs[0]) == EPOCHS
    for ours, theirs in zip(*logs, strict=True):
        assert {name: ours[name] for name in ours} == pytest.approx(theirs, rel=1e-5, abs=1e-5)
    for name in ("encoders/face/open_clip_model.safetensors", "encoders/voice/model.safetensors", "model.safetensors"):
        ours, theirs = load_file(one / name), load_file(two / name)
        for key, tensor in ours.items():
            assert torch.allclose(tensor.float(), theirs[key].float(), rtol=1e-5, atol=6e-5), key


@pytest.mark.slow
def test_what_fails_everywhere_is_said_once(fine: Fine, tmp_path: Path) -> None:
    done = torchrun("-m", "va", *options(fine, tmp_path), "--seed", "x", check=False)
    assert done.returncode != 0
    done = torchrun("-m", "va", "finetune", str(tmp_path / "none"), "--out", str(tmp_path), check=False)
    assert done.returncode != 0
    assert done.stderr.count("error: ") == 1 and "cannot be read as a corpus manifest" in done.stderr


@pytest.mark.slow
def test_what_fails_in_one_process_ends_all_and_is_said_by_it(tmp_path: Path) -> None:
    script = tmp_path / "one_fails.py"
    script.write_text(
        "import sys\n"
        "from va import console\n"
        "from va.errors import VAError\n"
        "from va.train.finetuning.together import agreed, launched\n"
        "try:\n"
        "    with launched('cpu') as parallel:\n"
        "        with agreed(parallel):\n"
        "            if parallel.rank == 1:\n"
        "                raise VAError('rank 1 has no weights', 'Bring them.')\n"
        "        print('went on')\n"
        "except VAError as error:\n"
        "    console.error(error.message, error.hint)\n"
        "    sys.exit(1)\n"
    )
    done = torchrun(str(script), check=False)
    assert done.returncode != 0
    assert done.stderr.count("error: rank 1 has no weights") == 1
    assert done.stderr.count("error: ") == 1
    assert done.stdout == ""


@pytest.mark.parametrize("failing", [{0}, {1}, {0, 2}, set()])
def test_the_first_that_fails_speaks(failing: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(together, "_ENDED_S", 0.0)
    told = torch.tensor([rank if rank in failing else 3 for rank in range(3)])
    monkeypatch.setattr(Parallel, "gather", lambda self, mine: told)
    said = []
    for rank in range(3):
        try:
            with together.agreed(Parallel(rank=rank, world=3, device=torch.device("cpu"))):
                if rank in failing:
                    raise VAError(str(rank), "")
            said.append("on")
        except VAError as error:
            said.append(error.message)
        except SystemExit as error:
            said.append(f"exit {error.code}")
    if not failing:
        assert said == ["on"] * 3
    else:
        assert said == [str(rank) if rank == min(failing) else "exit 1" for rank in range(3)]
