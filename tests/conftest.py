"""Settings of the whole suite."""

import gc
import os
from collections.abc import Generator

import pytest

# Two test processes on two cores (three took longer): more threads than cores would wait for each other. Set before
# torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_LONGEST = (
    "test_end_to_end.py",
    "test_faults.py",
    "test_stream.py",
    "test_ray.py",
    "test_finetune.py",
    "test_stack.py",
    "test_shards.py",
    "test_finetune_processes.py",
    "test_parallel.py",
    "test_runs.py",
    "test_ablation.py",
    "test_context.py",
    "test_tuned_everywhere.py",
    "test_encoders.py",
    "test_synthetic.py",
    "test_hub.py",
    "test_score.py",
    "test_api.py",
)
"""By processor time, which xdist is told not to put in an order of its own (by number of tests: the demo last)."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files: each goes to one process whole, and the other must not wait for it at the end."""
    items.sort(key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else len(_LONGEST))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage among what the libraries define, which stays: it took a third of the time to collect."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()
