"""One backbone that learns: what of a window it encodes, and how gradients get back into it.

Shapes: B windows, T cells, S audio steps.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from va.extract.encoders import Encoder
from va.train.finetuning import groups, passes
from va.train.finetuning.tower_config import TowerSettings
from va.train.finetuning.window_inputs import WindowInputs


class Tower(ABC):
    """An encoder and those of its parameters that learn; one without weights only encodes.

    Args:
        encoder: Stage one's own; its tower is put into evaluation mode and stays there, so that nothing in it is
            random: no dropout, no masking, no statistics of a batch.
        thaw: Which blocks learn, as in `TowerSettings`.
        option: How the user spells `thaw`.
        settings: How it learns.
        device: Where the encoder is.

    Attributes:
        encoder: The encoder.
        groups: Of AdamW, from the bottom up; empty where nothing learns.
        learning: The parameters in them, by name.
        unused: Names of the parameters that no embedding depends on.
    """

    def __init__(
        self, encoder: Encoder, *, thaw: int, option: str, settings: TowerSettings, device: torch.device
    ) -> None:
        self.encoder = encoder
        self.groups: list[dict[str, Any]] = []
        self.unused: tuple[str, ...] = ()
        self._settings = settings
        self._device = device
        self._dtype = torch.float32
        self._checkpointed: tuple[nn.Module, ...] = ()
        if encoder.tower is not None:
            encoder.tower.eval().requires_grad_(False)
            if thaw:
                self._thaw(encoder, thaw=thaw, option=option)
        self.learning: dict[str, nn.Parameter] = {
            name: parameter
            for group in self.groups
            for name, parameter in zip(group["names"], group["params"], strict=True)
        }

    def _thaw(self, encoder: Encoder, *, thaw: int, option: str) -> None:
        anatomy = groups.study(encoder, self._device)
        self.groups = groups.learning_groups(
            encoder,
            anatomy,
            thaw=thaw,
            option=option,
            learning_rate=self._settings.learning_rate,
            weight_decay=self._settings.weight_decay,
            layer_decay=self._settings.layer_decay,
        )
        self.unused, self._dtype = anatomy.unused, anatomy.dtype
        thawed = {id(parameter) for group in self.groups for parameter in group["params"]}
        for group in self.groups:
            for parameter in group["params"]:
                parameter.requires_grad_(True)
        if self._settings.checkpointing:
            blocks = anatomy.blocks
            self._checkpointed = tuple(b for b in blocks if any(id(each) in thawed for each in b.parameters()))

    def encode(self, inputs: WindowInputs) -> tuple[Tensor, Tensor]:
        """Encode windows without gradient, the real inputs only.

        Returns:
            Embeddings, float32 [B, T or S, D], 0 where not valid; and bool [B, T or S]; both on the device.
        """
        valid = self._valid(inputs)
        embeddings = torch.zeros((*valid.shape, self.encoder.dim), dtype=self._dtype, device=self._device)
        with torch.no_grad(), passes.one_kernel():
            for windows, real, given in self._micro_batches(inputs):
                embeddings[windows][real] = self._embed(given)
        valid = valid.to(self._device, non_blocking=True)
        return embeddings.masked_fill_(~valid[..., None], 0.0), valid

    def learn(self, inputs: WindowInputs, gradient: Tensor) -> None:
        """Encode the same windows with gradient, and add the derivatives of the loss to the parameters' gradients.

        Args:
            inputs: As `encode` had them.
            gradient: Of the loss by what `encode` gave, float32 [B, T or S, D]; what is not valid is not looked at.
        """
        if not self.learning:
            return
        gradient = gradient.masked_fill(~self._valid(inputs).to(self._device)[..., None], 0.0)
        with ExitStack() as during:
            during.enter_context(passes.one_kernel())
            during.enter_context(passes.checkpointed(self._checkpointed))
            for windows, real, given in self._micro_batches(inputs):
                torch.autograd.backward(self._embed(given), gradient[windows][real])

    def _embed(self, given: tuple[Tensor, ...]) -> Tensor:
        bfloat16 = self._settings.precision == "bfloat16" and self.encoder.tower is not None
        return passes.embed(self.encoder, given, device=self._device, bfloat16=bfloat16)

    def _micro_batches(self, inputs: WindowInputs) -> Iterator[tuple[slice, Tensor, tuple[Tensor, ...]]]:
        """Give windows a few at a time: which, which of their inputs are real, and these as `encode` takes them."""
        size = self._settings.micro_batch
        for first in range(0, len(inputs.rows), size):
            windows = slice(first, first + size)
            real, given = self._real(WindowInputs(*(each[windows] for each in inputs)))
            if len(given[0]):
                yield windows, real.to(self._device), given

    @abstractmethod
    def _valid(self, inputs: WindowInputs) -> Tensor:
        """Say which embeddings of windows mean something, bool [B, T or S]."""

    @abstractmethod
    def _real(self, inputs: WindowInputs) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Give the mask of real inputs, bool [B, T] or [B], and the inputs under it."""


class FaceTower(Tower):
    """A frame encoder: every cell that was seen is one picture."""

    def _valid(self, inputs: WindowInputs) -> Tensor:
        return inputs.seen

    def _real(self, inputs: WindowInputs) -> tuple[Tensor, tuple[Tensor, ...]]:
        return inputs.seen, (inputs.pictures[inputs.seen.to(inputs.pictures.device)],)


class VoiceTower(Tower):
    """An audio encoder: every window with sound is one input."""

    def _valid(self, inputs: WindowInputs) -> Tensor:
        assert self.encoder.valid_steps is not None
        # One window more than there are, so that none at all has a number of steps too.
        steps = [self.encoder.valid_steps(int(rows)) for rows in (*inputs.rows, 0)]
        return torch.from_numpy(np.stack(steps))[:-1]

    def _real(self, inputs: WindowInputs) -> tuple[Tensor, tuple[Tensor, ...]]:
        heard = inputs.rows > 0
        return heard, (inputs.spectra[heard.to(inputs.spectra.device)], inputs.rows[heard])
