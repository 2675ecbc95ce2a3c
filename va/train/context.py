"""`--context`: the text tower that learned context vectors are trained through, read from beside the features."""

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

_ACTIVATIONS: Final = 24
"""Numbers per token, block and unit of the tower's width: 14 are kept for the backward pass, others come and go."""


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
    """Guess how many numbers a trial's pass through the tower keeps."""
    tokens = len(found.about.texts) * (1 + count + found.about.longest)
    return tokens * found.layers * found.width * _ACTIVATIONS
