"""`--context`: the text tower that learned context vectors are trained through, read from beside the features."""

from collections.abc import Iterable
from typing import Final

import torch
from torch import Tensor

from va.data import texttower
from va.data.prototypes import Prototypes
from va.data.texttower import TowerFile
from va.errors import VAError
from va.model import text
from va.model.text import RegionTexts

_STREAM: Final = 0xC007
"""Sets the seed of the first vectors apart from that of all other weights, which --context so leaves as they are."""

_KEPT: Final = 14
"""Numbers that a block keeps for its backward pass, per token and unit of the tower's width W: the inputs of two norms,
queries, keys, values, what they mix to, and two rows of 4 W hidden units ("gelu" keeps one of these)."""

_PASSING: Final = 14
"""The same of what comes and goes in the block that is at work."""


def check(found: TowerFile, *, count: int, prototypes: Prototypes) -> None:
    """Check that a tower can stand in for prototypes.

    Args:
        found: The tower.
        count: M, the context vectors.
        prototypes: The store's.

    Raises:
        VAError: It was made for other texts, embeds into another space, or has no room for so much context.
    """
    again = texttower.make_again(found.path)
    if found.about.texts != prototypes.texts:
        raise VAError(f"{found.path}: was made for other texts than those in {found.path.parent}", again)
    if found.dim != prototypes.values.shape[1]:
        raise VAError(f"{found.path}: embeds into {found.dim} numbers, not {prototypes.values.shape[1]}", again)
    room = found.places - 1 - found.about.longest
    if count > room:
        raise VAError(
            f"--context: {count} vectors and a text of {found.about.longest} tokens are more than the "
            f"{found.places} places of the text tower",
            f"Give at most {room}, or shorten the texts.",
        )


def check_whole(towers: Iterable[TowerFile | None]) -> None:
    """Read towers once before any of their trials is trained: others may be trained for hours before they are needed.

    Args:
        towers: One per trial that is to be trained; None for a trial without context.

    Raises:
        VAError: A file is damaged.
    """
    for found in {one.path: one for one in towers if one is not None}.values():
        load(found, torch.device("cpu"))


def load(found: TowerFile, device: torch.device) -> RegionTexts:
    """Read a tower onto a device.

    Raises:
        VAError: The file is damaged.
    """
    about = found.about
    try:
        texts = text.from_tensors(found.load(), heads=about.heads, activation=about.activation, eps=about.eps)
    except ValueError as error:
        raise VAError(
            f"{found.path}: cannot be read as a text tower ({error})", texttower.make_again(found.path)
        ) from None
    return texts.to(device)


def initial(found: TowerFile, *, count: int, seed: int) -> Tensor:
    """Draw a trial's first vectors from a stream of their own: float32 [M, W]."""
    return text.initial_context(count=count, width=found.width, generator=torch.Generator().manual_seed(seed ^ _STREAM))


def floats_per_trial(found: TowerFile, *, count: int) -> int:
    """Estimate how many numbers a trial's pass through the tower, there and back, holds at its peak."""
    tokens = len(found.about.texts) * (1 + count + found.about.longest)
    return tokens * found.width * (found.layers * _KEPT + _PASSING)
