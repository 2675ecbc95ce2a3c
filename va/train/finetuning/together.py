"""Processes that torchrun started: they begin together, and when one fails, one message says why."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from va.device import choose_device
from va.errors import VAError
from va.train.finetune_config import leads
from va.train.finetuning.parallel import Gone, Parallel

_ENDED_S = 10.0
"""How long torchrun may take to end a process after another one has failed."""


@contextmanager
def launched(device: str) -> Iterator[Parallel]:
    """Join the group that torchrun started this process for, and leave it at the end.

    Args:
        device: As in `choose_device`.

    Raises:
        VAError: The device is not there or the others cannot be reached.
    """
    try:
        parallel = Parallel.launched(choose_device(device))
    except VAError:
        _let_the_first_speak(leads())
        raise
    try:
        yield parallel
    except Gone:
        _let_the_first_speak(False)
        raise
    parallel.close()


@contextmanager
def agreed(parallel: Parallel) -> Iterator[None]:
    """Let all processes go on only if all succeed inside; of those that fail the first says why.

    Nothing inside may be sent between them: one that fails would be waited for.

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
        _let_the_first_speak(False)
        raise SystemExit(1)


def _let_the_first_speak(is_first: bool) -> None:
    """Wait, in all processes but the first that failed, to be ended by torchrun without a word."""
    if not is_first:
        time.sleep(_ENDED_S)
