"""Both backbones as something that learns beside a head, over windows that are too many to encode at once.

CCC is not additive over windows, so an update of a batch has four steps: every window is encoded without gradient; the
head runs on the whole batch, and its backward pass gives the loss's gradient by the embeddings; each micro-batch is
encoded again, with gradient, and takes its part of that back into the backbones; the optimiser steps. The chain rule
makes this the gradient of the whole batch at once, whatever the size of a micro-batch.

With several processes each encodes its share of the windows, every one runs the head on all of them, and gradients of
the backbones are added up before the step. So CCC and KL are those of the global batch.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from va.errors import VAError
from va.extract.encoders import Encoder
from va.train.finetuning.parallel import Parallel
from va.train.finetuning.tower import FaceTower, Tower, VoiceTower
from va.train.finetuning.tower_config import TowerSettings
from va.train.finetuning.window_inputs import WindowFeatures, WindowInputs

_MOMENTS = ("exp_avg", "exp_avg_sq")


class Towers:
    """The frame encoder and the audio encoder of a run, while they are trained.

    Args:
        face: Frame encoder; changed in place.
        voice: Audio encoder; changed in place.
        settings: How they learn.
        device: Where they are.
        parallel: The processes that train together.

    Attributes:
        steps: Updates made.
        towers: `face` and `voice`, with their parameter groups.

    Raises:
        VAError: An encoder cannot be trained as asked.
    """

    def __init__(
        self, face: Encoder, voice: Encoder, *, settings: TowerSettings, device: torch.device, parallel: Parallel
    ) -> None:
        self.steps = 0
        self._settings = settings
        self._device = device
        self._parallel = parallel
        self.towers: dict[str, Tower] = {
            "face": FaceTower(face, thaw=settings.thaw_face, option="--thaw-face", settings=settings, device=device),
            "voice": VoiceTower(
                voice, thaw=settings.thaw_voice, option="--thaw-voice", settings=settings, device=device
            ),
        }
        self._learning = {
            f"{kind}/{name}": parameter
            for kind, tower in self.towers.items()
            for name, parameter in tower.learning.items()
        }
        groups = [group for tower in self.towers.values() for group in tower.groups]
        self._optimiser = torch.optim.AdamW(groups, fused=True) if groups else None
        self._gradient = self._make_gradient()
        self._averages = {name: each.detach().clone() for name, each in self._learning.items() if settings.ema}

    def encode(self, inputs: WindowInputs) -> WindowFeatures:
        """Encode a batch of windows: step 1.

        Args:
            inputs: Of this process's windows, `parallel.share` of the batch; of all of them when alone.

        Returns:
            Of the whole batch, on the device, the same in every process. `frames` and `audio` are leaves that require
            a gradient if their tower learns; a cell not seen and a window without sound are 0 and not encoded.
        """
        found = []
        for tower in self.towers.values():
            embeddings, valid = (self._parallel.gather(each) for each in tower.encode(inputs))
            found += [embeddings.requires_grad_(bool(tower.learning)), valid]
        return WindowFeatures(*found)

    def learn(self, inputs: WindowInputs, features: WindowFeatures) -> None:
        """Take the gradient that the features have got back into the backbones: step 3.

        Args:
            inputs: As `encode` had them.
            features: As `encode` gave them, after the loss's backward pass; a gradient of None counts as 0.
        """
        mine = self._parallel.share(len(features.frames))
        if mine.stop - mine.start != len(inputs.rows):
            raise ValueError(f"expected this process's {mine.stop - mine.start} windows, got {len(inputs.rows)}")
        for tower, embeddings in zip(self.towers.values(), (features.frames, features.audio), strict=True):
            if embeddings.grad is not None:
                tower.learn(inputs, embeddings.grad[mine])

    @torch.no_grad()
    def update(self, *, factor: float) -> None:
        """Add up all processes' gradients, clip them, and step: step 4. Gradients are 0 afterwards.

        Args:
            factor: On every learning rate, of the schedule.
        """
        if self._optimiser is None:
            return
        self._parallel.all_reduce(self._gradient)
        if self._settings.clip_norm:
            norm = torch.linalg.vector_norm(self._gradient)
            self._gradient.mul_((self._settings.clip_norm / norm).clamp(max=1.0))
        for group in self._optimiser.param_groups:
            group["lr"] = group["initial_lr"] * factor
        self._optimiser.step()
        self._gradient.zero_()
        self.steps += 1
        for name, average in self._averages.items():
            average.lerp_(self._learning[name].detach(), 1 - self._settings.ema)

    def state(self) -> dict[str, Tensor]:
        """Give all that going on needs, between two updates: what has learned, its moments and averages, the count.

        Returns:
            Views; `weights/`, `exp_avg/`, `exp_avg_sq/` and `ema/` before `face/` or `voice/` and the parameter's
            name, and `steps`, int64.
        """
        found = {f"weights/{name}": parameter.detach() for name, parameter in self._learning.items()}
        if self._optimiser is not None and self.steps:
            for name, parameter in self._learning.items():
                found |= {f"{moment}/{name}": self._optimiser.state[parameter][moment] for moment in _MOMENTS}
        found |= {f"ema/{name}": average for name, average in self._averages.items()}
        return {**found, "steps": torch.tensor(self.steps)}

    @torch.no_grad()
    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Go back to a state.

        Args:
            tensors: As `state` gave them, on any device; copied.

        Raises:
            VAError: They belong to other encoders or settings.
        """
        steps = int(tensors.get("steps", torch.tensor(0)))
        wanted = {f"weights/{name}" for name in self._learning} | {f"ema/{name}" for name in self._averages} | {"steps"}
        if steps:
            wanted |= {f"{moment}/{name}" for moment in _MOMENTS for name in self._learning}
        shapes = {name: self._learning[name.partition("/")[2]].shape for name in wanted - {"steps"}}
        if tensors.keys() != wanted or any(tensors[name].shape != shape for name, shape in shapes.items()):
            raise VAError(
                "the saved state of the backbones belongs to other encoders or settings",
                "Give --no-resume to train this run from the start.",
            )
        for name, parameter in self._learning.items():
            parameter.copy_(tensors[f"weights/{name}"])
        for name, average in self._averages.items():
            average.copy_(tensors[f"ema/{name}"])
        self.steps = steps
        if self._optimiser is None:
            return
        self._optimiser.state.clear()
        for name, parameter in self._learning.items() if steps else ():
            self._optimiser.state[parameter] = {
                "step": torch.tensor(float(steps), device=self._device),
                **{moment: tensors[f"{moment}/{name}"].to(parameter, copy=True) for moment in _MOMENTS},
            }

    @contextmanager
    def answering(self) -> Iterator[tuple[Encoder, Encoder]]:
        """Give both encoders as they are validated and kept: inside, those that learn hold their averages, if any.

        The two sets of weights change places, so that no third is needed; nothing may be learned inside.
        """
        self._swap()
        try:
            yield self.towers["face"].encoder, self.towers["voice"].encoder
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, average in self._averages.items():
            parameter = self._learning[name]
            self._averages[name], parameter.data = parameter.data, average

    def _make_gradient(self) -> Tensor:
        """Make one tensor of which every gradient is a view: it is added up, clipped and cleared in one go.

        Gradients that no window of a batch touches are 0 and not None, so that a step does the same in every process.
        """
        parameters = self._learning.values()
        dtype = next((each.dtype for each in parameters), torch.float32)
        flat = torch.zeros(sum(each.numel() for each in parameters), dtype=dtype, device=self._device)
        first = 0
        for parameter in parameters:
            parameter.grad = flat[first : first + parameter.numel()].view_as(parameter)
            first += parameter.numel()
        return flat
