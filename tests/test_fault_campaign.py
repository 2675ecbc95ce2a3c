"""A dozen cases of `benchmarks/fault_campaign.py`, which does hundreds: nothing is lost, nothing is wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "fault_campaign.py"
CASES = (
    *("extract:SIGTERM", "extract:SIGKILL of a reader", "extract:truncated file", "extract:two writers, one killed"),
    *("train:full disk", "train:flipped bit", "train:read-only folder", "train, stack:SIGKILL"),
    *("train, stack:two writers", "sweep-grid:SIGINT", "evaluate:unreadable file", "finetune:clock jump"),
)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, mounts a small file system")
def test_a_dozen_faults_cost_nothing_but_work_in_flight() -> None:
    command = [sys.executable, SCRIPT, "--count", str(len(CASES)), "--seed", "3", "--only", ";".join(CASES)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["cases"] >= len(CASES) - 1, "a full disk is left out where nothing may be mounted"
    assert result["injected"] >= 8, "most faults came while the command worked"
    for name in ("wrong", "lost", "unequal", "left over", "traceback", "trouble"):
        assert result[name] == 0, name
