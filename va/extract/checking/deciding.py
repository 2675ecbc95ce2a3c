"""What `va corpus check --fix` decides of findings, and what earlier decisions make of them."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence

from va.data import corpus as manifest
from va.data.corpus import Corpus, Truth
from va.data.decisions import Decision
from va.data.findings import Finding
from va.errors import VAError


def settled(findings: Iterable[Finding], standing: Sequence[Decision]) -> Iterator[Finding]:
    """Turn findings that were decided before into notes; labels that differ did so after they were read again."""
    decided = {(one.clip, one.do) for one in standing}
    for one in findings:
        if one.kind != "labels-differ" and one.fix is not None and (one.clip, one.fix.do) in decided:
            yield dataclasses.replace(one, severity="note", do="Nothing: the manifest's decisions see to it.")
        else:
            yield one


def decidable(findings: Sequence[Finding]) -> dict[tuple[str, str], Decision]:
    """Give what can be decided, by clip and what is done; of a clip that is left out, nothing else."""
    new: dict[tuple[str, str], Decision] = {}
    for one in findings:
        if one.fix is not None and one.severity != "note":
            new.setdefault((one.clip, one.fix.do), one.fix)
    dropped = {clip for clip, do in new if do == "drop"}
    return {key: one for key, one in new.items() if one.do == "drop" or one.clip not in dropped}


def decide(corpus: Corpus, findings: Sequence[Finding], again: Mapping[str, Truth]) -> tuple[Decision, ...]:
    """Write what can be decided to the manifest, beside what was decided before; give what is new."""
    before = {(one.clip, one.do): one for one in corpus.decisions}
    new = decidable(findings)
    dropped = {clip for clip, do in new if do == "drop"}
    if 2 * len(dropped) > len(corpus.clips):
        raise VAError(
            f"--fix: would leave out {len(dropped)} of {len(corpus.clips)} clips; nothing was decided",
            "Are the media where the manifest says, and is their disk there?",
        )
    if new:
        labels = {one.clip: again[one.clip] for one in new.values() if one.do == "read-again"}
        merged = before | new
        manifest.decide(corpus, [merged[key] for key in sorted(merged)], labels)
    return tuple(new[key] for key in sorted(new))
