"""Which people form a split, `dev` or a fold: never a person in two parts (settled 7)."""

import hashlib
import re
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Final

from va.data.corpus import Clip
from va.data.rows import read_pairs
from va.errors import VAError

_SPLIT_NAME: Final = re.compile(
    r"(?P<train>train(ing)?)|(?P<val>val|valid|validation|dev|devel|development)|(?P<test>test(ing)?)"
)


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
    identities = {clip.identity for clip in clips}
    if len(identities) < 2:
        raise VAError(
            f"the training split has {len(identities)} identity, and dev must not share one with it",
            "Add training clips of other people.",
        )
    return _share_of(identities, fraction, salt=str(seed))


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
    order = _drawn(identities, salt="fold")
    return tuple(frozenset(order[fold::folds]) for fold in range(folds))


def split_named(name: str) -> str | None:
    """Say which split a data set's name for one means; None for a name of none."""
    found = _SPLIT_NAME.fullmatch(name.strip().lower())
    return next((split for split, there in found.groupdict().items() if there), None) if found else None


def splits_of(root: Path, identities: Mapping[str, str], *, val_share: float) -> dict[str, str]:
    """Divide clips where a data set does not: by `splits.csv` (`name,split`) at its root, else by person.

    People are ordered by a hash of their names, so that the same people give the same splits.

    Args:
        root: Top of the data set.
        identities: Who is in each clip.
        val_share: Share of the people for `val`, in (0, 1); at least one where there are two or more.

    Raises:
        VAError: `splits.csv` cannot be read, leaves a clip out, or names a split that is none.
    """
    file = root / "splits.csv"
    if file.exists():
        given = read_pairs(file, ("name", "split"))
        return {clip: _given(file, clip, given.get(clip)) for clip in identities}
    chosen = _share_of(set(identities.values()), val_share, salt="val")
    return {clip: "val" if identity in chosen else "train" for clip, identity in identities.items()}


def _given(file: Path, clip: str, name: str | None) -> str:
    if name is None:
        raise VAError(f"{file}: does not name clip '{clip}'", "Add a line for it, or remove the file.")
    split = split_named(name)
    if split is None:
        raise VAError(f"{file}: '{name}' of clip '{clip}' is no split", "Use train, val or test.")
    return split


def _share_of(names: Set[str], share: float, *, salt: str) -> frozenset[str]:
    """Choose a share of the people, of two or more at least one and never all."""
    return frozenset(_drawn(names, salt=salt)[: max(0, min(max(1, round(share * len(names))), len(names) - 1))])


def _drawn(names: Set[str], *, salt: str) -> list[str]:
    """Put people into an order that depends on each one's name alone."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{salt}:{name}".encode()).digest())
