"""Settings of the whole suite."""

import os

import pytest

# Two test processes on two cores (three took longer): more threads than cores would wait for each other. Set before
# torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

_LONGEST = ("test_end_to_end.py", "test_faults.py", "test_shards.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files: each goes to one process whole, and the other must not wait for it at the end."""
    items.sort(key=lambda item: _LONGEST.index(item.path.name) if item.path.name in _LONGEST else len(_LONGEST))
