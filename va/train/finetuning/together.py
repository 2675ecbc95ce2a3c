"""Processes that torchrun started: they begin together, and when one fails, one message says why."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from va.errors import VAError
from va.train.finetuning.parallel import Gone, Parallel

_ENDED_S = 10.0
"""How long torchrun may take to end a process whose neighbour has gone."""


@contextmanager
def launched(device: torch.device) -> Iterator[Parallel]:
    """Join the group that torchrun started this process for, and leave it at the end.

    Raises:
        VAError: The others cannot be reached; or, when one of them has gone, after torchrun had its time to end this
            process too, since it was for the other to say why.
    """
    parallel = Parallel.launched(device)
    try:
        yield parallel
    except Gone:
        time.sleep(_ENDED_S)
        raise
    parallel.close()


@contextmanager
def agreed(parallel: Parallel) -> Iterator[None]:
    """Let all processes go on only if all succeed inside; of those that fail the first says why.

    Raises:
        VAError: This process is the first that failed.
        SystemExit: Another one is.
    """
    failure: VAError | None = None
    try:
        yield
    except VAError as error:
        failure = error
    mine = torch.tensor([parallel.world if failure is None else parallel.rank], device=parallel.device)
    first = int(parallel.gather(mine).min())
    if failure is not None and first == parallel.rank:
        raise failure
    if first < parallel.world:
        raise SystemExit(1)
