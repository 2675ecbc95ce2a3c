"""Several trials as one model: their parameters side by side, one forward and one backward pass for all.

A trial in a stack is what it is alone: its initial weights, batches, dropout, learning rate, skipped batches and
clipping are its own, and no arithmetic of its own sees another trial's numbers. One trial is a stack of one, so that
`va train` and `va sweep-grid` run the same code.

Shapes: N trials, B windows of a batch, R regions.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from va.data.windows import WindowBatch
from va.model import layers
from va.model.head import VAHead
from va.model.prompts import region_centers, soft_labels
from va.model.text import RegionTexts
from va.train import losses, weight_decay
from va.train.config import TrainConfig
from va.train.state import TrialState


class Stack:
    """N trials that are trained together.

    Args:
        head: A head of their architecture, without a trial axis, on any device.
        configs: One per trial; they may differ only in what does not shape the head.
        states: One per trial.
        device: Where to train.
        texts: On that device, what makes the prototypes of the trials' context vectors; None for heads without any.
        decays_vectors: Whether weight decay acts on biases and other vectors too.

    Attributes:
        head: The stacked head, float32.
        averaged: Another with the moving averages of its weights, or None without them.
        steps: Updates that each trial has made.
    """

    def __init__(
        self,
        head: VAHead,
        *,
        configs: Sequence[TrainConfig],
        states: Sequence[TrialState],
        device: torch.device,
        texts: RegionTexts | None = None,
        decays_vectors: bool = True,
    ) -> None:
        self.configs = list(configs)
        self.device = device
        self._texts = texts
        self.head = layers.stack_states(head, [state.weights for state in states]).to(device)
        self.steps = [state.steps for state in states]
        self._parameters = dict(self.head.named_parameters())
        self.averaged: VAHead | None = None
        if configs[0].ema:
            started = [state.ema or state.weights for state in states]
            self.averaged = layers.stack_states(head, started).to(device)
        self._streams = [torch.Generator(device) for _ in states]
        for stream, state in zip(self._streams, states, strict=True):
            stream.set_state(state.dropout)
        layers.use_streams(self.head, self._streams)
        self._leaves = [
            {name: tensor.detach()[trial].requires_grad_() for name, tensor in self._parameters.items()}
            for trial in range(len(states))
        ]
        self._optimiser = self._make_optimiser(states, decays_vectors=decays_vectors)
        self._centers = torch.stack([region_centers(config.axes) for config in configs])[:, None, None].to(device)
        self._sigma = _column([config.sigma for config in configs], device)[:, None, None, None]
        self._region_weight = _column([config.region_weight for config in configs], device)
        self._clip_norm = _column([config.clip_norm or math.inf for config in configs], device)
        self._clips = any(config.clip_norm for config in configs)
        self._autocast = torch.autocast(
            device.type, torch.bfloat16, enabled=configs[0].precision == "bfloat16", cache_enabled=False
        )

    def step(self, batch: WindowBatch, *, active: Sequence[bool], total_steps: Sequence[int]) -> Tensor:
        """Update the active trials by L = L_CCC + lambda L_KL of their batches (paper eq. 6).

        Nothing here waits for the device, so that a GPU always has work queued.

        Args:
            batch: [N, B, ...]; of an inactive trial, anything finite.
            active: Whether each trial has a batch with at least two valid labels (settled 8); the others' parameters
                and optimiser stay as they are.
            total_steps: Updates that each trial would make in all its epochs, for the learning rate schedule.

        Returns:
            float32 [N, 2], without gradient: L_CCC and L_KL before the update.
        """
        prototypes = self._prototypes(self.head)
        with self._autocast:
            output = self.head(batch.frames, batch.frame_valid, batch.audio, batch.audio_valid, prototypes)
        soft = soft_labels(batch.target, self._centers, self._sigma)
        ccc = losses.ccc_loss(output.va.float(), batch.target, batch.target_valid, trials=True)
        kl = losses.region_kl(output.region_logits.float(), soft, batch.target_valid, trials=True)
        for parameter in self._parameters.values():
            parameter.grad = None
        # The sum's derivative with respect to each trial's own loss is 1: nothing is shared.
        (ccc + self._region_weight * kl).sum().backward()  # type: ignore[no-untyped-call]
        if self._clips:
            self._clip()
        self._update(active, total_steps)
        return torch.stack((ccc, kl), dim=1).detach()

    @torch.no_grad()
    def keep_prototypes(self) -> None:
        """Put the prototypes that the context vectors now give into the heads, which then need no text tower."""
        for head in (self.head, self.averaged):
            prototypes = self._prototypes(head) if head is not None else None
            if head is not None and prototypes is not None:
                head.region_head.prototypes.copy_(prototypes)

    def states(self) -> list[TrialState]:
        """Give each trial's tensors and counters as they are now, as views; scores and logs are the caller's."""
        found = []
        for trial, leaves in enumerate(self._leaves):
            moments = {
                f"{moment}/{name}": self._optimiser.state[leaf][moment]
                for name, leaf in leaves.items()
                if leaf in self._optimiser.state
                for moment in ("exp_avg", "exp_avg_sq")
            }
            averaged = layers.trial_state(self.averaged, trial) if self.averaged is not None else {}
            found.append(
                TrialState(
                    weights=layers.trial_state(self.head, trial),
                    moments=moments,
                    ema=averaged,
                    order=torch.empty(0, dtype=torch.uint8),
                    dropout=self._streams[trial].get_state(),
                    steps=self.steps[trial],
                )
            )
        return found

    @property
    def answering(self) -> VAHead:
        """The stacked head that is validated and kept: the averaged one where there is one."""
        return self.head if self.averaged is None else self.averaged

    def _prototypes(self, head: VAHead) -> Tensor | None:
        context = head.region_head.context
        return None if self._texts is None or context is None else self._texts(context)

    def _make_optimiser(self, states: Sequence[TrialState], *, decays_vectors: bool) -> torch.optim.AdamW:
        groups: list[dict[str, Any]] = []
        for trial, (leaves, config) in enumerate(zip(self._leaves, self.configs, strict=True)):
            parts: list[dict[str, Any]] = [
                {"params": list(leaves.values()), "lr": config.learning_rate, "weight_decay": config.weight_decay}
            ]
            if not decays_vectors:
                parts = weight_decay.split(leaves, learning_rate=config.learning_rate, weight_decay=config.weight_decay)
            groups += [{**part, "trial": trial} for part in parts]
        optimiser = torch.optim.AdamW(groups, fused=True)
        for leaves, state in zip(self._leaves, states, strict=True):
            for name, leaf in leaves.items():
                if f"exp_avg/{name}" not in state.moments:  # none yet, or nothing has trained it
                    continue
                optimiser.state[leaf] = {
                    "step": torch.tensor(float(state.steps), device=self.device),
                    **{
                        moment: state.moments[f"{moment}/{name}"].to(self.device).clone()
                        for moment in ("exp_avg", "exp_avg_sq")
                    },
                }
        return optimiser

    def _clip(self) -> None:
        """Scale each trial's gradient down to its largest norm."""
        gradients = [parameter.grad for parameter in self._parameters.values() if parameter.grad is not None]
        norms = torch.stack([torch.linalg.vector_norm(grad.reshape(len(grad), -1), dim=1) for grad in gradients])
        factor = (self._clip_norm / torch.linalg.vector_norm(norms, dim=0)).clamp(max=1.0)
        for grad in gradients:
            grad.mul_(layers.spread(factor, grad, trailing=0))

    def _update(self, active: Sequence[bool], total_steps: Sequence[int]) -> None:
        for trial, leaves in enumerate(self._leaves):
            for name, leaf in leaves.items():
                grad = self._parameters[name].grad
                leaf.grad = grad[trial] if active[trial] and grad is not None else None
        for group in self._optimiser.param_groups:
            trial = group["trial"]
            factor = schedule_factor(self.configs[trial], step=self.steps[trial], total_steps=total_steps[trial])
            group["lr"] = self.configs[trial].learning_rate * factor
        self.steps = [steps + on for steps, on in zip(self.steps, active, strict=True)]
        self._optimiser.step()
        if self.averaged is not None:
            moving = torch.full((len(active),), 1 - self.configs[0].ema, device=self.device)
            for trial in (trial for trial, on in enumerate(active) if not on):
                moving[trial].zero_()  # a copy of the host's numbers would wait for the device
            averages = dict(self.averaged.named_parameters())
            with torch.no_grad():
                for name, parameter in self._parameters.items():
                    averages[name].lerp_(parameter, layers.spread(moving, parameter, trailing=0))


def schedule_factor(config: TrainConfig, *, step: int, total_steps: int) -> float:
    """Give the factor on the learning rate of an update.

    Args:
        config: Its schedule and warm-up.
        step: Updates made before, from 0.
        total_steps: Updates in all epochs.

    Returns:
        In (0, 1], but for a cosine's updates beyond `total_steps`, where it is 0.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return 1.0
    done = (step - config.warmup_steps) / max(1, total_steps - config.warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _column(values: Sequence[float], device: torch.device) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float32, device=device)
