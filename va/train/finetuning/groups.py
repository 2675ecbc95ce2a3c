"""What a tower is made of, from the bottom up, and which of it learns at which rate.

Nothing here knows a library's names: a forward pass on an example shows which parameters the embedding depends on, and
which of them lie below the first block. What it does not depend on (a pooling layer whose output is not used, a mask
token) is in no group and never needs a gradient; CLIP's text tower and logit scale are outside the tower to begin with.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from va.errors import VAError
from va.extract.decode import SAMPLE_RATE_HZ
from va.extract.encoders import Encoder
from va.train import weight_decay as decay

_ROWS: Final = (nn.ModuleList, nn.Sequential)


@dataclass(frozen=True, kw_only=True)
class Anatomy:
    """A tower from the bottom up.

    Args:
        blocks: The L blocks, in the order in which they are run; empty where there is no such row.
        heights: Of every parameter that the embedding depends on: 0 below the blocks, 1 to L in a block, L + 1 above.
        unused: Names of the other parameters.
        dtype: Of embeddings.
    """

    blocks: tuple[nn.Module, ...]
    heights: dict[str, int]
    unused: tuple[str, ...]
    dtype: torch.dtype


def study(encoder: Encoder, device: torch.device) -> Anatomy:
    """Look at a tower by encoding one example; no gradient is computed and no activation kept.

    Args:
        encoder: With a tower, in evaluation mode.
        device: Where the tower is.

    Raises:
        VAError: The tower draws random numbers although it is not in training mode, or was compiled for stage one.
    """
    assert encoder.tower is not None
    if encoder.identity.get("compiled"):
        raise VAError(f"'{encoder.name}' was compiled, which only encodes", "Build the encoders without --compile.")
    named = dict(encoder.tower.named_parameters())
    entering: dict[nn.Module, Tensor] = {}

    def look(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
        entering.setdefault(block, given[0])

    hooks = [block.register_forward_pre_hook(look, with_kwargs=True) for block in find_blocks(encoder.tower)]
    before = _random_states(device)
    drop = torch.autograd.graph.saved_tensors_hooks(lambda tensor: None, lambda nothing: torch.empty(0))
    try:
        with _all_learning(encoder.tower), torch.enable_grad(), drop:
            output = encoder.encode(*(each.to(device) if each.ndim > 1 else each for each in example(encoder)))
        blocks = tuple(entering)
        reached, below = _reaches(output), _reaches(entering[blocks[0]]) if blocks else set()
    finally:
        for hook in hooks:
            hook.remove()
    if any(not torch.equal(*pair) for pair in zip(before, _random_states(device), strict=True)):
        raise VAError(
            f"'{encoder.name}' draws random numbers outside training mode, so the same input gives other embeddings",
            "Use an encoder without, or leave it frozen.",
        )
    inside = {id(parameter): number for number, block in enumerate(blocks, 1) for parameter in block.parameters()}
    above = len(blocks) + 1 if blocks else 0
    heights = {
        name: 0 if id(parameter) in below else inside.get(id(parameter), above)
        for name, parameter in named.items()
        if id(parameter) in reached
    }
    unused = tuple(name for name in named if name not in heights)
    return Anatomy(blocks=blocks, heights=heights, unused=unused, dtype=output.dtype)


def find_blocks(tower: nn.Module) -> list[nn.Module]:
    """Find the blocks of a network, in the order in which it has them.

    They are the row of at least two modules of one class that holds the most parameters: those of a list, or lists
    beside each other that are made of one class (the four stages of a ResNet).
    """
    rows: list[list[nn.Module]] = []
    for module in tower.modules():
        inner = list(module.children())
        if _made_of(module):
            rows.append(inner)
        stages = [(_made_of(each), each) for each in inner]
        kinds = {made_of for made_of, _ in stages} - {None}
        rows += [[each for made_of, each in stages if made_of is kind] for kind in kinds]
    return max((row for row in rows if len(row) > 1), key=lambda row: sum(map(_size, row)), default=[])


def learning_groups(
    encoder: Encoder,
    anatomy: Anatomy,
    *,
    thaw: int,
    option: str,
    learning_rate: float,
    weight_decay: float,
    layer_decay: float,
) -> list[dict[str, Any]]:
    """Put what learns of a tower into AdamW's groups: every parameter in exactly one, at its rate and decay.

    Block i of L (from 1) and the embedding below the first (i = 0) learn at `layer_decay ** (L - i)` times the rate of
    what lies above the blocks.

    Args:
        encoder: The encoder.
        anatomy: Of its tower.
        thaw: -1 for everything, 0 for nothing, N for the last N blocks and what is above them.
        option: How the user spells `thaw`.
        learning_rate: At the top.
        weight_decay: Of parameters with two axes or more.
        layer_decay: In (0, 1].

    Returns:
        As `weight_decay.split` gives them, from the bottom up; empty for a frozen tower.

    Raises:
        VAError: There are not as many blocks, or none that could be counted.
    """
    assert encoder.tower is not None
    count = len(anatomy.blocks)
    if not count and (thaw > 0 or layer_decay != 1):
        raise VAError(
            f"'{encoder.name}' has no row of blocks that could be counted",
            f"Use {option} -1 or {option} 0, and --layer-decay 1.",
        )
    if thaw > count:
        raise VAError(f"{option}: '{encoder.name}' has {count} blocks, not {thaw}", f"Give -1, or 0 to {count}.")
    lowest = {-1: 0, 0: count + 2}.get(thaw, count + 1 - thaw)
    named = dict(encoder.tower.named_parameters())
    groups = []
    for height in range(lowest, count + 2):
        mine = {name: named[name] for name, found in anatomy.heights.items() if found == height}
        rate = learning_rate * layer_decay ** max(0, count - height)
        groups += decay.split(mine, learning_rate=rate, weight_decay=weight_decay)
    return groups


def example(encoder: Encoder) -> tuple[Tensor, ...]:
    """Make one model input, as `encoder.encode` takes it: a black picture, or a window of silence."""
    if encoder.spectrum is None:
        return (torch.from_numpy(encoder.transform(np.zeros((64, 64, 3), np.uint8)))[None],)
    window_s = encoder.identity["sampling"]["window_s"]
    rows = encoder.spectrum(np.zeros(round(window_s * SAMPLE_RATE_HZ), np.float32))
    return torch.from_numpy(encoder.transform(rows))[None], torch.tensor([len(rows)])


@contextmanager
def _all_learning(tower: nn.Module) -> Iterator[None]:
    """Let all parameters require gradients for a while."""
    before = [(parameter, parameter.requires_grad) for parameter in tower.parameters()]
    try:
        tower.requires_grad_(True)
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)


def _reaches(value: Tensor) -> set[int]:
    """Give the ids of the leaves that a value depends on, by the graph alone."""
    found: set[int] = set()
    met: set[Any] = set()
    waiting: list[Any] = [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in met:
            continue
        met.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [following for following, _ in node.next_functions]
    return found


def _random_states(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _made_of(module: nn.Module) -> type | None:
    """Give the class of a list's modules; None for lists of several classes, and for what is no list."""
    kinds = {type(each) for each in module.children()}
    return kinds.pop() if isinstance(module, _ROWS) and len(kinds) == 1 else None


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
