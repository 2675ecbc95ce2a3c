"""Inputs of many clips, gathered into batches of one fixed size, encoded, and handed back row by row.

A library may pick another kernel, with another order of additions, for another batch size; for one size a row's values
depend neither on its place nor on its neighbours. So batches fill across clips, and only a run's last one is padded.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from va.extract.encoders import Encoder

Owner = TypeVar("Owner")

Deliver = Callable[[Owner, str, list[int], list[int], NDArray[np.float16]], None]
"""Takes an owner's rows: owner, encoder name, row numbers, spectrum rows per input, float16 [rows, ...]."""


@dataclass(frozen=True)
class _Flight(Generic[Owner]):
    """A batch whose values are on their way from the device."""

    places: list[tuple[Owner, int, int]]
    values: Tensor
    begun: Any
    ended: Any


class Batch(Generic[Owner]):
    """The batch of one encoder that is being filled.

    On a GPU one batch is computed while the next is filled: inputs lie in pinned memory and are copied without waiting,
    and values are fetched when the batch after them has been launched.

    Args:
        encoder: What encodes.
        size: Inputs in a batch.
        device: Where the encoder is.
        deliver: Called with each owner's values, in the order in which inputs were added.

    Attributes:
        busy_s: Seconds that the device has spent on this encoder.
    """

    def __init__(self, encoder: Encoder, *, size: int, device: torch.device, deliver: Deliver[Owner]) -> None:
        self.encoder = encoder
        self.busy_s = 0.0
        self._size = size
        self._device = device
        self._deliver = deliver
        self._pinned = device.type == "cuda"
        self._buffers: list[Tensor] = []
        self._places: list[tuple[Owner, int, int]] = []
        self._flight: _Flight[Owner] | None = None

    def add(self, owner: Owner, row: int, model_input: NDArray[Any], count: int) -> None:
        """Add one input; encodes when the batch is full.

        Args:
            owner: Whose it is.
            row: Its row number, handed back with the values.
            model_input: uint8 or float32 [...], of one shape for all.
            count: Rows of spectrum under an audio input; 0 for frames.
        """
        if not self._buffers:
            kind = torch.from_numpy(model_input).dtype
            self._buffers = [
                torch.zeros((self._size, *model_input.shape), dtype=kind, pin_memory=self._pinned)
                for _ in range(2 if self._pinned else 1)
            ]
        self._buffers[0].numpy()[len(self._places)] = model_input
        self._places.append((owner, row, count))
        if len(self._places) == self._size:
            self._launch()

    def fits(self, inputs: NDArray[Any]) -> bool:
        """Say whether inputs [inputs, ...] have the shape and the type of those that came before."""
        return not self._buffers or (
            self._buffers[0].shape[1:] == inputs.shape[1:]
            and self._buffers[0].dtype == torch.from_numpy(inputs[:0]).dtype
        )

    def flush(self) -> None:
        """Encode what is there, padded with zeros, and deliver everything."""
        if self._places:
            self._buffers[0][len(self._places) :] = 0
            self._launch()
        self._land()

    def _launch(self) -> None:
        counts = [count for _, _, count in self._places]
        extra = []
        if self.encoder.kind == "audio":  # padding counts as one row, so that no encoder divides by nothing
            extra = [torch.tensor(counts + [1] * (self._size - len(counts)))]
        begun = self._mark()
        inputs = self._buffers[0].to(self._device, non_blocking=self._pinned)
        values = self.encoder.encode(inputs, *extra).to(torch.float16)
        if self._pinned:
            target = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            values = target.copy_(values, non_blocking=True)
        flight = _Flight(places=self._places, values=values, begun=begun, ended=self._mark())
        self._places = []
        self._land()
        self._flight = flight
        self._buffers.reverse()  # the other one is free: its batch has landed
        if not self._pinned:
            self._land()

    def _land(self) -> None:
        """Deliver the batch in flight, waiting for it where it is not ready."""
        flight, self._flight = self._flight, None
        if flight is None:
            return
        if self._pinned:
            flight.ended.synchronize()
            self.busy_s += flight.begun.elapsed_time(flight.ended) / 1000
        else:
            self.busy_s += flight.ended - flight.begun
        values = flight.values.numpy()
        first = 0
        for place in range(1, len(flight.places) + 1):
            if place == len(flight.places) or flight.places[place][0] is not flight.places[first][0]:
                mine = flight.places[first:place]
                rows, counts = [row for _, row, _ in mine], [count for _, _, count in mine]
                self._deliver(mine[0][0], self.encoder.name, rows, counts, values[first:place])
                first = place

    def _mark(self) -> Any:
        if not self._pinned:
            return time.perf_counter()
        event: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event
