"""One check, from its settings to its findings; `deciding.py` has what `--fix` makes of them."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from va import bounded, cores
from va.data import corpus as manifest
from va.data import findings as found
from va.data.check_config import CheckConfig
from va.data.corpus import Corpus
from va.data.decisions import Decision
from va.data.findings import Finding
from va.errors import VAError
from va.extract.checking import deciding, leaks, lookers
from va.extract.checking.lookers import Look, Seen
from va.extract.checking.subjects import Subject, annotation_files, of_corpus, of_tree
from va.extract.checking.texts import Texts, is_usual, lengths, overhang

_MOST: Final = 16
_LATE_S: Final = 0.05
"""Lengths that differ by more than this are not of the same medium."""

_DROPS: Final = {"medium-missing", "medium-empty", "medium-cut-off", "medium-unreadable"}


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a check found.

    Args:
        name: Of the corpus or the tree.
        root: Folder of its media, or the tree.
        clips: How many clips were checked.
        findings: The most severe first.
        decided: Decisions that `--fix` has written.
        standing: Decisions that were there before.
        decidable: How many decisions `--fix` would write; 0 where it has, and of a tree, which has no place for them.
    """

    name: str
    root: Path
    clips: int
    findings: tuple[Finding, ...]
    decided: tuple[Decision, ...]
    standing: tuple[Decision, ...]
    decidable: int = 0

    @property
    def errors(self) -> int:
        """How many errors are left that nothing was decided about."""
        settled = {(one.clip, one.do) for one in self.decided}
        dropped = {one.clip for one in self.decided if one.do == "drop"}
        repaired = {one.clip for one in self.decided if one.do == "read-again"}
        return sum(
            one.severity == "error"
            and one.clip not in dropped
            and not (one.fix is not None and (one.clip, one.fix.do) in settled)
            and not (one.clip in repaired and one.line > 0)
            for one in self.findings
        )

    def as_json(self) -> dict[str, Any]:
        """Give it as plain JSON."""
        return {
            "name": self.name,
            "clips": self.clips,
            **found.count(self.findings),
            "findings": [one.row() for one in self.findings],
            "decided": [one.row() for one in self.decided],
            "decisions": [one.row() for one in self.standing],
        }


def run(config: CheckConfig, *, progress: Callable[..., None]) -> Checked:
    """Check a manifest or a tree.

    Args:
        config: The settings; `unfix` is `unfix`'s.
        progress: Called with (done, total) or (done, total, what).

    Raises:
        VAError: There is nothing to check, the manifest cannot be read, or nothing may be decided.
    """
    corpus = Corpus.load(config.corpus) if is_manifest(config.corpus) else None
    if config.fix and corpus is None:
        raise VAError(
            f"--fix: {config.corpus} is no manifest, and decisions are written to one",
            "Make it with 'va corpus affwild2 ROOT --out DIR', then 'va corpus check DIR --fix'.",
        )
    for option, folder, holds in (
        ("--crops", config.crops, "one folder per clip"),
        ("--annotations", config.annotations, "the annotation text"),
    ):
        if folder is not None and not folder.is_dir():
            raise VAError(f"{option}: {folder} is not a folder", f"Name the folder with {holds}.")
    if corpus is not None:
        root = media_root(corpus)
        texts = annotation_files(config.annotations or root, named=config.annotations is not None)
        subjects, findings = of_corpus(corpus, texts, root)
    else:
        texts = annotation_files(config.corpus, named=True)
        if not texts:
            raise VAError(
                f"{config.corpus}: has no annotation text in folders like Train_Set, and none itself",
                "Give a manifest, the top of a tree, or a folder with .txt annotations.",
            )
        subjects, findings = of_tree(config.corpus, texts)
    labels = _read_texts(subjects, findings, progress)
    ends = {one.clip for one in corpus.decisions if one.do == "labels-until"} if corpus else set[str]()
    _look(subjects, config, labels, findings, progress, ends=ends)
    findings += leaks.identities(subjects)
    checked = found.ordered(deciding.settled(findings, corpus.decisions if corpus else ()))
    decided: tuple[Decision, ...] = ()
    if corpus is not None and config.fix:
        decided = deciding.decide(corpus, checked, labels.again)
    if config.out is not None:
        found.write_csv(config.out / "findings.csv", checked)
    return Checked(
        name=corpus.name if corpus else str(config.corpus),
        root=media_root(corpus) if corpus else config.corpus.absolute(),
        clips=len(subjects),
        findings=checked,
        decided=decided,
        standing=corpus.decisions if corpus else (),
        decidable=len(deciding.decidable(checked)) if corpus and not config.fix else 0,
    )


def unfix(config: CheckConfig) -> int:
    """Take all decisions of a manifest back; give how many there were.

    Raises:
        VAError: It is no manifest, or cannot be written.
    """
    corpus = Corpus.load(config.corpus)
    manifest.decide(corpus, (), {})
    return len(corpus.decisions)


def is_manifest(path: Path) -> bool:
    """Say whether a path is a manifest or holds one.

    Raises:
        VAError: There is no such file or folder.
    """
    if not path.exists():
        raise VAError(f"{path}: no such file or folder", "Give a manifest, a tree, or a folder of annotations.")
    return path.is_file() or (path / "corpus.json").is_file()


def media_root(corpus: Corpus) -> Path:
    """Give the folder that holds all media of a corpus."""
    data = bounded.read_json(corpus.path, what="a corpus manifest", hint="Make it again.")
    return (corpus.path.parent / str(data["media_root"])).absolute()


def _read_texts(subjects: Sequence[Subject], findings: list[Finding], progress: Callable[..., None]) -> Texts:
    labels = Texts()
    for done, subject in enumerate(subjects):
        progress(done, len(subjects), "annotations")
        labels.examine(subject)
    findings += labels.findings
    return labels


def _look(
    subjects: Sequence[Subject],
    config: CheckConfig,
    labels: Texts,
    findings: list[Finding],
    progress: Callable[..., None],
    *,
    ends: Set[str],
) -> None:
    """Open all media, each once, and compare them with the manifest, the annotations and each other.

    Args:
        subjects: All clips.
        config: The settings.
        labels: Their texts.
        findings: Added to; those about texts far longer than their video lose their fix.
        progress: Called with (done, total).
        ends: Clips of which it was decided when their labels end.
    """
    seeing = [one for one in subjects if one.media is not None]
    media = list(dict.fromkeys(one.media for one in seeing if one.media is not None))
    doubtful = leaks.same_size(media)
    # A medium of two people has two folders of crops; the second is looked at with the medium once more.
    asked = {(one.media, config.crops and config.crops / one.id): one for one in seeing}
    looks = [Look(media=path, crops=crops, hash=path in doubtful) for (path, crops) in asked if path is not None]
    answers = lookers.look_at(
        looks,
        processes=config.workers or min(cores.count(), _MOST),
        stall_s=config.stall_s,
        memory_gb=config.memory_gb,
        deep=config.deep,
        progress=progress,
    )
    told: set[tuple[str, ...]] = set()
    by_media = dict[Path, Seen]()
    for subject, look, seen in zip(asked.values(), looks, answers, strict=True):
        by_media[look.media] = seen
        findings += _problems(subject, seeing, seen, told)
    for subject in seeing:
        assert subject.media is not None  # that is who is seeing
        findings += _against(subject, by_media[subject.media], labels.frames.get(subject.id))
    frames = {one.id: by_media[one.media].frames for one in seeing if one.media is not None and one.id not in ends}
    findings[:] = [_unless_too_long(one, frames.get(one.clip)) for one in findings]
    digests = {path: seen.digest for path, seen in by_media.items() if seen.digest is not None}
    doubles = leaks.media(subjects, digests)
    findings += doubles + leaks.labels(subjects, doubles)
    if config.crops is not None:
        findings += _strangers(config.crops, {one.id for one in subjects})


def _problems(subject: Subject, subjects: Iterable[Subject], seen: Seen, told: set[tuple[str, ...]]) -> list[Finding]:
    """Turn what a process said into findings: for every clip of a medium that costs it, once for others."""
    findings = []
    for severity, kind, file, what, do in seen.problems:
        if (kind, file, what) in told:
            continue
        told.add((kind, file, what))
        hit = [one for one in subjects if one.media == subject.media] if kind in _DROPS else [subject]
        for one in hit:
            fix = None
            if kind in _DROPS and one.duration_s is not None:
                fix = Decision(clip=one.id, do="drop", why=f"{file}: {what}")
            findings.append(Finding(severity=severity, kind=kind, file=file, clip=one.id, what=what, do=do, fix=fix))
    return findings


def _against(subject: Subject, seen: Seen, annotated: int | None) -> list[Finding]:
    """Hold a medium against the manifest and the annotation."""
    if seen.frames is None or seen.duration_s is None:
        return []
    known_s = subject.duration_s
    if known_s is not None and abs(seen.duration_s - known_s) > _LATE_S:
        what = f"lasts {seen.duration_s:.2f} s, but {known_s:.2f} s when the manifest was made"
        do = "Make the manifest again, or bring the old file back."
        return [
            Finding(severity="error", kind="medium-changed", file=str(subject.media), clip=subject.id, what=what, do=do)
        ]
    if subject.text is None and subject.truth is not None:
        return list(overhang(subject, subject.truth, duration_s=seen.duration_s))
    if annotated is None:
        return []
    return list(lengths(subject, annotated=annotated, frames=seen.frames, duration_s=seen.duration_s))


def _unless_too_long(finding: Finding, frames: int | None) -> Finding:
    """Leave it to people whether a text is to be read again that is far longer than the video of so many frames."""
    if finding.kind != "labels-differ" or finding.fix is None or frames is None:
        return finding
    surplus = (finding.fix.frames or 0) - frames
    if surplus <= 0 or is_usual(surplus, frames):
        return finding
    do = f"Correct the text, which is {surplus} frames longer than its video, or make the manifest again."
    return dataclasses.replace(finding, do=do, fix=None)


def _strangers(crops: Path, clips: set[str]) -> list[Finding]:
    """Find folders of crops that belong to no clip."""
    names = sorted(entry.name for entry in crops.iterdir() if entry.is_dir() and entry.name not in clips)
    if not names:
        return []
    what = f"holds {len(names)} folders of no clip, e.g. {', '.join(names[:3])}"
    do = "Nothing, if they are of other splits; else rename them like their clips."
    return [Finding(severity="note", kind="crops-of-no-clip", file=str(crops), what=what, do=do)]
