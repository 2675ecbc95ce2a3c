"""One update of ViT-B/16 and AST on a CPU, as the benchmark makes it, and its memory against what is computed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_an_update_at_full_size_needs_what_is_computed() -> None:
    """Two windows, one at a time, with checkpointing; six pictures each, as twenty take minutes."""
    command = [sys.executable, "benchmarks/finetune.py", "--sections", "memory", "--device", "cpu"]
    done = subprocess.run(
        [*command, "--windows", "2", "--cells", "6"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])["memory"]
    (measured,) = found["measured"]
    assert measured["loss_after"] < measured["loss"]
    assert measured["biases_moved"] == measured["biases"] == 172
    assert 0.85 < measured["ratio"] < 1.25
    fits = {(way["precision"], way["checkpointing"], way["micro_batch"]): way["fits"] for way in found["computed"]}
    assert fits["float32", True, 1] and fits["bfloat16", True, 4]
