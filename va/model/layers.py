"""Layers that can hold many trials at once, and how heads are stacked into one.

A *stacked* module is an ordinary one whose parameters and buffers have a leading trial axis; it takes inputs with the
same leading axis, and trial i's outputs and gradients depend on trial i's inputs and parameters alone. Nothing else
in this package knows whether it is stacked: every module here is written so that the axis may be there or not.
That is why N trials run as a few large products instead of N times as many small ones (`va/train/loop.py`).

Shapes: N trials (the axis may be missing), `*` any axes, I and O features in and out.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


class Linear(nn.Linear):
    """`nn.Linear`, same initialisation, whose weight may be [N, O, I] and bias [N, O]."""

    def forward(self, x: Tensor) -> Tensor:
        """Map float [(N,) *, I] to [(N,) *, O]."""
        if self.weight.ndim == 2:
            return super().forward(x)
        rows, weight = x.flatten(1, -2), self.weight.transpose(1, 2)
        bias: Tensor | None = self.bias
        out = torch.bmm(rows, weight) if bias is None else torch.baddbmm(bias[:, None], rows, weight)
        return out.view(*x.shape[:-1], -1)


class Dropout(nn.Module):
    """Dropout with one stream of random numbers per trial, so that a trial drops the same in any company.

    Args:
        rate: Share of the features that are set to zero in training, in [0, 1); the others are scaled up.

    Attributes:
        streams: One generator per trial, on the inputs' device, in the order of the trial axis (`use_streams`);
            empty for torch's own stream, which is for a head without a trial axis.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {rate}")
        self.rate = rate
        self.streams: tuple[torch.Generator, ...] = ()

    def forward(self, x: Tensor) -> Tensor:
        """Drop features of float [(N,) *]; in evaluation mode give `x` back."""
        if not self.training or not self.rate:
            return x
        if not self.streams:
            return nn.functional.dropout(x, self.rate)
        kept = torch.empty_like(x)
        for trial, stream in zip(kept, self.streams, strict=True):
            trial.bernoulli_(1 - self.rate, generator=stream)
        return x * kept.div_(1 - self.rate)


def use_streams(module: nn.Module, streams: Sequence[torch.Generator]) -> None:
    """Give all dropout layers of a stacked module the trials' generators."""
    for layer in module.modules():
        if isinstance(layer, Dropout):
            layer.streams = tuple(streams)


def spread(parameter: Tensor, x: Tensor, *, trailing: int) -> Tensor:
    """Put axes of size 1 between a parameter's trial axis and the rest, so that it broadcasts against `x`.

    Args:
        parameter: [(N,) ...] with `trailing` axes after the trial axis.
        x: [(N,) ...], at least as many axes.
        trailing: 0 for a scalar per trial, 1 for a vector per trial.
    """
    if parameter.ndim == trailing:
        return parameter
    return parameter.reshape(len(parameter), *(1,) * (x.ndim - 1 - trailing), *parameter.shape[1:])


def stack(modules: Sequence[ModuleT]) -> ModuleT:
    """Make one module of several, with a leading trial axis on every parameter and buffer.

    Args:
        modules: At least one; the same architecture, without a trial axis, on one device.

    Returns:
        A new module; it shares no memory with `modules`.
    """
    return stack_states(modules[0], [module.state_dict() for module in modules])


def stack_states(module: ModuleT, states: Sequence[Mapping[str, Tensor]]) -> ModuleT:
    """Make a stacked module from the state dicts of several.

    Args:
        module: One of them, for the architecture.
        states: At least one; every value of `module.state_dict()`, without a trial axis.
    """
    return _replace(
        copy.deepcopy(module), {name: torch.stack([state[name] for state in states]) for name in module.state_dict()}
    )


def trial_state(stacked: nn.Module, trial: int) -> dict[str, Tensor]:
    """Give one trial's state dict as views without the trial axis, ready for a module of its own."""
    return {name: tensor[trial] for name, tensor in stacked.state_dict().items()}


def _replace(module: ModuleT, state: dict[str, Tensor]) -> ModuleT:
    for path, owner in module.named_modules():
        prefix = f"{path}." if path else ""
        for name, parameter in list(owner.named_parameters(recurse=False)):
            setattr(owner, name, nn.Parameter(state[prefix + name], requires_grad=parameter.requires_grad))
        for name, _ in list(owner.named_buffers(recurse=False)):
            owner.register_buffer(name, state[prefix + name])
    return module
