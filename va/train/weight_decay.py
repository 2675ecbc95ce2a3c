"""Which parameters weight decay pulls on."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def is_decayed(parameter: Tensor) -> bool:
    """Say whether weight decay is for a parameter: not for norms, biases and others of one axis or none."""
    return parameter.ndim > 1


def split(parameters: Mapping[str, Tensor], *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
    """Put parameters into an optimiser's groups, with weight decay and without; no group is empty.

    Args:
        parameters: By name, without an axis for trials.
        learning_rate: Of both groups; also kept as `initial_lr`, which a schedule multiplies.
        weight_decay: Of the first group.

    Returns:
        At most two groups, each with `params` and `names` in order, `lr`, `initial_lr` and `weight_decay`.
    """
    groups = []
    for decayed in (True, False):
        names = [name for name, parameter in parameters.items() if is_decayed(parameter) is decayed]
        if names:
            groups.append(
                {
                    "params": [parameters[name] for name in names],
                    "names": names,
                    "lr": learning_rate,
                    "initial_lr": learning_rate,
                    "weight_decay": weight_decay if decayed else 0.0,
                }
            )
    return groups
