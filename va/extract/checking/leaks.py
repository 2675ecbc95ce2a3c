"""The same content under two names, and the same people or videos in two splits: what makes a score look too good."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from va.data.corpus import Truth
from va.data.decisions import Decision
from va.data.findings import Finding
from va.extract.checking.subjects import Subject

Key = TypeVar("Key")

_FEWEST: Final = 50
"""Labels that two clips must share before it is no accident."""


def same_size(media: Iterable[Path]) -> set[Path]:
    """Give the files that share their size with another, and may therefore be the same."""
    sizes: dict[int, list[Path]] = {}
    for path in media:
        try:
            sizes.setdefault(path.stat().st_size, []).append(path)
        except OSError:
            continue  # told when it is opened
    return {path for size, paths in sizes.items() if size and len(paths) > 1 for path in paths}


def media(subjects: Sequence[Subject], digests: Mapping[Path, str]) -> list[Finding]:
    """Find media that are the same.

    Args:
        subjects: All clips.
        digests: Of those files that may be the same.
    """
    findings = []
    groups = _grouped((digests[one.media], one) for one in subjects if one.media is not None and one.media in digests)
    for group in groups:
        first, *others = _kept_first(group)
        kept = [first]
        for other in others:
            if other.media == first.media:
                continue
            what = f"is the same file as {first.media}"
            leak = _leak(first, other)
            fix = None
            if any(_may_go(one, other) for one in kept):
                fix = Decision(clip=other.id, do="drop", why=f"{other.media} {what}")
            else:
                kept.append(other)
            findings.append(
                Finding(
                    severity="warning",
                    kind="duplicate-across-splits" if leak else "duplicate",
                    file=str(other.media),
                    clip=other.id,
                    what=what + leak,
                    do="Leave one of them out.",
                    fix=fix,
                )
            )
    return findings + _shared(subjects)


def labels(subjects: Sequence[Subject], duplicates: Iterable[Finding]) -> list[Finding]:
    """Find clips whose labels are the same although their media are not."""
    told = {one.clip for one in duplicates}
    findings = []
    for group in _grouped((_fingerprint(one.truth), one) for one in subjects if one.truth is not None):
        first = group[0]
        if _fingerprint(first.truth) is None:
            continue
        for other in group[1:]:
            if other.id in told or first.id in told:
                continue
            leak = _leak(first, other)
            findings.append(
                Finding(
                    severity="warning",
                    kind="labels-twice",
                    file=str(other.text or other.media),
                    clip=other.id,
                    what=f"has the labels of clip '{first.id}', one by one{leak}",
                    do="Is it the same video once more, or a wrong file?",
                )
            )
    return findings


def identities(subjects: Sequence[Subject]) -> list[Finding]:
    """Find people who are in two splits."""
    findings = []
    for group in _grouped((one.identity, one) for one in subjects if one.identity):
        splits = sorted({one.split for one in group})
        if len(splits) > 1:
            names = ", ".join(f"'{one.id}' ({one.split})" for one in _one_of_each_split(group))
            findings.append(
                Finding(
                    severity="warning",
                    kind="identity-in-two-splits",
                    file=str(group[0].media or group[0].text),
                    clip=group[0].id,
                    what=f"shows '{group[0].identity}', who is in {' and '.join(splits)}: {names}",
                    do="Scores on the one are then not about strangers; correct identities or splits.",
                )
            )
    return findings


def _shared(subjects: Sequence[Subject]) -> list[Finding]:
    """Find one file that clips of two splits use, e.g. for its left and its right person."""
    findings = []
    for group in _grouped((one.media, one) for one in subjects if one.media is not None):
        if len({one.split for one in group}) > 1:
            names = ", ".join(f"'{one.id}' ({one.split})" for one in _one_of_each_split(group))
            findings.append(
                Finding(
                    severity="warning",
                    kind="medium-in-two-splits",
                    file=str(group[0].media),
                    clip=group[0].id,
                    what=f"is used by clips of two splits: {names}",
                    do="Its sound and its people are in both; leave one out.",
                )
            )
    return findings


def _grouped(pairs: Iterable[tuple[Key, Subject]]) -> list[list[Subject]]:
    groups: dict[Key, list[Subject]] = {}
    for key, subject in pairs:
        groups.setdefault(key, []).append(subject)
    return [group for group in groups.values() if len(group) > 1]


def _kept_first(group: Sequence[Subject]) -> list[Subject]:
    """Order clips by how much a corpus wants to keep them: what is scored stays whole, training can do without."""
    return sorted(group, key=lambda one: (one.split == "train", one.id))


def _may_go(first: Subject, other: Subject) -> bool:
    """Say whether leaving the other out decides nothing that a person should.

    Labels must not contradict each other, or one of the two may be a wrong copy; and of two splits it is training that
    gives way.
    """
    if first.split != other.split and other.split != "train":
        return False
    one, two = first.truth, other.truth
    if one is None or two is None:
        return False
    return not one.valid.any() or not two.valid.any() or (_bytes(one) == _bytes(two))


def _one_of_each_split(group: Sequence[Subject]) -> list[Subject]:
    return list({one.split: one for one in reversed(group)}.values())


def _leak(first: Subject, other: Subject) -> str:
    if first.split == other.split or not (first.split and other.split):
        return ""
    return f"; the one is in {first.split}, the other in {other.split}: a leak between splits"


def _fingerprint(truth: Truth | None) -> bytes | None:
    """Hash labels; None where they are too few or too plain to tell clips apart."""
    if truth is None or truth.valid.sum() < _FEWEST or not np.ptp(truth.va[truth.valid], axis=0).any():
        return None
    return _bytes(truth)


def _bytes(truth: Truth) -> bytes:
    return hashlib.blake2b(truth.va.tobytes() + truth.valid.tobytes(), digest_size=16).digest()
