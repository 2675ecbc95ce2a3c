"""How a process shares processor cores with others. Standard library only, since it acts before torch is loaded."""

import os

_limit: int | None = None


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


def environment(threads: int) -> dict[str, str]:
    """Give the variables that make a process on another machine use so many threads, waiting as those here do.

    A value that the user has set stays.
    """
    kept = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    return {"OMP_NUM_THREADS": str(threads)} | {name: os.environ[name] for name in kept if name in os.environ}


def limit(cores: int) -> None:
    """Let this process count no more than so many cores from now on: it has the others of the machine beside it."""
    global _limit
    _limit = cores


def count() -> int:
    """Count the cores that this process may use, which batch schedulers limit, or its own `limit`."""
    if _limit is not None:
        return _limit
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
