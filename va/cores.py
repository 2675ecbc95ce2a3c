"""How a process shares processor cores with others. Standard library only, since it acts before torch is loaded."""

import os


def share() -> None:
    """Let torch's threads sleep while they wait for each other instead of spinning; call before torch is imported.

    With readers on the same cores, spinning cost a third of all processor time (benchmarks/results/extract.txt). A
    value that the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def train() -> None:
    """Let torch's threads spin for some ten microseconds before they sleep; call before torch is imported.

    A step of a head is a few hundred short products, between which sleeping threads take longer to wake than to
    work; but threads that never sleep stall each other where cores are shared (benchmarks/results/train.txt). A value
    that the user has set stays.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def count() -> int:
    """Count the cores that this process may use, which batch schedulers limit."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
