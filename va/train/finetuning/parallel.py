"""Several processes that train as one: what each encodes, and what they tell each other.

torch's own launcher starts them (`torchrun`); gloo carries tensors between CPUs, NCCL between GPUs. Alone, nothing is
sent.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import torch
from torch import Tensor
from torch import distributed as dist

from va.errors import VAError

_PATIENCE: Final = timedelta(days=2)
"""How long one process waits for another, which may be decoding a corpus; one that dies is noticed at once, and
torchrun ends the others."""


class Gone(VAError):
    """Another process has gone; it or torchrun says why."""


@dataclass(frozen=True, kw_only=True)
class Parallel:
    """The processes that train together, seen from one of them.

    Args:
        rank: Which one this is, from 0.
        world: How many there are.
        device: Where this one computes.
    """

    rank: int
    world: int
    device: torch.device

    @classmethod
    def alone(cls, device: torch.device) -> "Parallel":
        """Give a group of one, which sends nothing."""
        return cls(rank=0, world=1, device=device)

    @classmethod
    def launched(cls, device: torch.device) -> "Parallel":
        """Join the group that torchrun started this process for; without torchrun, a group of one.

        Args:
            device: As asked for; `cuda` without a number becomes this process's own GPU of the machine.

        Raises:
            VAError: The environment is incomplete, the GPU is not there, or the others cannot be reached.
        """
        if not os.environ.keys() >= {"RANK", "WORLD_SIZE", "LOCAL_RANK"}:
            return cls.alone(device)
        rank, world, place = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
        if device.type == "cuda":
            device = device if device.index is not None else torch.device("cuda", place)
            if (device.index or 0) >= torch.cuda.device_count():
                raise VAError(
                    f"torchrun started process {place} of this machine, but torch sees "
                    f"{torch.cuda.device_count()} GPUs here",
                    "Give torchrun --nproc-per-node the number of GPUs, or use --device cpu.",
                )
            torch.cuda.set_device(device)
        if world > 1:
            if rank:  # it writes nothing, and while it waits for the others Python would not hear a signal
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            with _reaching():
                dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
        return cls(rank=rank, world=world, device=device)

    @property
    def leads(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def share(self, count: int) -> slice:
        """Say which of `count` windows are this process's: in order, as evenly as can be, maybe none."""
        return slice(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def gather(self, mine: Tensor) -> Tensor:
        """Join the tensors of all processes along the first axis, in the order of ranks; without gradient.

        Args:
            mine: [B, ...] on the device, bool or a number; B may differ between processes and be 0, the rest may not.

        Returns:
            [sum of B, ...]; the tensor itself in a group of one.

        Raises:
            VAError: Another process has gone.
        """
        if self.world == 1:
            return mine
        sent = mine.detach().to(torch.uint8 if mine.dtype == torch.bool else mine.dtype)
        counts = [torch.zeros(1, dtype=torch.int64, device=mine.device) for _ in range(self.world)]
        with _reaching():
            dist.all_gather(counts, torch.tensor([len(sent)], device=mine.device))
            sizes = [int(count) for count in counts]
            padded = sent.new_zeros((max(sizes), *sent.shape[1:]))
            padded[: len(sent)] = sent
            parts = [torch.empty_like(padded) for _ in range(self.world)]
            dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)]).to(mine.dtype)

    def all_reduce(self, values: Tensor) -> None:
        """Add up the tensors of all processes in place, with the same bits in each.

        Raises:
            VAError: Another process has gone.
        """
        if self.world > 1:
            with _reaching():
                dist.all_reduce(values)

    def broadcast(self, values: Tensor) -> None:
        """Overwrite the tensors of all processes by that of rank 0.

        Raises:
            VAError: Another process has gone.
        """
        if self.world > 1:
            with _reaching():
                dist.broadcast(values, src=0)

    def barrier(self) -> None:
        """Wait until every process is here.

        Raises:
            VAError: Another process has gone.
        """
        if self.world > 1:
            with _reaching():
                dist.barrier()

    def close(self) -> None:
        """Leave the group."""
        if self.world > 1 and dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def _reaching() -> Iterator[None]:
    """Turn what torch raises when another process has gone into an error for users."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise Gone(
            f"another process of this training cannot be reached ({reason})",
            "See what it said first; the same torchrun command goes on from the last whole epoch.",
        ) from None
