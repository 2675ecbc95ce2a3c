"""Which people of the training split form `dev` or a fold: never a person in two parts (settled 7)."""

import hashlib
from collections.abc import Sequence

from va.data.corpus import Clip
from va.errors import VAError


def dev_identities(clips: Sequence[Clip], *, fraction: float, seed: int) -> frozenset[str]:
    """Choose the training identities that form `dev` (settled 7).

    The choice depends on the seed and each identity's name alone, so it is stable when clips are added.

    Args:
        clips: Training clips.
        fraction: Share of the identities, in (0, 1); at least one is chosen and at least one is not.
        seed: Any integer.

    Raises:
        VAError: Fewer than two identities, so that train and dev cannot differ.
    """
    identities = sorted({clip.identity for clip in clips})
    if len(identities) < 2:
        raise VAError(
            f"the training split has {len(identities)} identity, and dev must not share one with it",
            "Add training clips of other people.",
        )
    order = sorted(identities, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    return frozenset(order[: min(max(1, round(fraction * len(order))), len(order) - 1)])


def identity_folds(clips: Sequence[Clip], *, folds: int) -> tuple[frozenset[str], ...]:
    """Divide identities into folds of nearly equal numbers, the same for every seed.

    Args:
        clips: Training clips.
        folds: At least 2.

    Raises:
        VAError: Fewer identities than folds.
    """
    identities = {clip.identity for clip in clips}
    if len(identities) < folds:
        raise VAError(
            f"--folds: {folds} folds need as many identities, the training split has {len(identities)}",
            "Use fewer folds.",
        )
    order = sorted(identities, key=lambda name: hashlib.sha256(f"fold:{name}".encode()).digest())
    return tuple(frozenset(order[fold::folds]) for fold in range(folds))
