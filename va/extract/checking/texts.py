"""Annotation texts of clips, by line, and whether a manifest has the labels that they say."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from va.data import annotation_text, timeline
from va.data.annotation_text import Text
from va.data.corpus import Truth
from va.data.decisions import Decision
from va.data.findings import Finding, Severity
from va.extract.checking.subjects import Subject

_OF_CONTENT: Final = ("constant", "unlabelled", "mostly-unlabelled", "half-label")
"""Problems of what a text says, not of how it is written."""


class Texts:
    """The texts of all clips, read once.

    Attributes:
        findings: About all of them.
        again: Labels of clips whose text says something else than the manifest, by id.
        frames: How many frames each clip's annotation has, by id.
    """

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.again: dict[str, Truth] = {}
        self.frames: dict[str, int] = {}

    def examine(self, subject: Subject) -> None:
        """Examine a clip's text and compare it with its sidecar; a clip without text by its sidecar alone."""
        truth = subject.truth
        if truth is not None:
            self.frames[subject.id] = len(truth.valid)
        if subject.text is None:
            self._sidecar(subject)
            return
        text = annotation_text.examine_file(subject.text)
        if truth is None and len(text.valid):
            self.frames[subject.id] = len(text.valid)
        same = truth is not None and _same(truth, text)
        for problem in text.problems:
            severity, do = problem.severity, problem.do
            if subject.split == "test" and problem.kind == "unlabelled":
                continue
            if same and problem.kind not in _OF_CONTENT:
                severity, do = "note", "Nothing: the manifest has the labels that are meant."
            self.findings.append(
                Finding(
                    severity=severity,
                    kind=problem.kind,
                    file=str(subject.text),
                    line=problem.line,
                    clip=subject.id,
                    what=problem.what,
                    do=do,
                )
            )
        if truth is not None and not same and len(text.valid):
            self._differs(subject, truth, text)

    def _differs(self, subject: Subject, truth: Truth, text: Text) -> None:
        time_s = times_of(truth.time_s, len(text.valid), subject.duration_s or 0.0)
        self.again[subject.id] = Truth(time_s=time_s, va=text.va, valid=text.valid)
        here, there = len(truth.valid), len(text.valid)
        said = f"says {there} frames, the manifest {here}" if here != there else "says other labels than the manifest"
        why = f"{said} (read as {text.columns}, decimal {text.decimals}, {text.encoding})"
        reading = text.reading | {"file": str(subject.text)}
        fix = Decision(clip=subject.id, do="read-again", why=why, frames=there, reading=reading)
        do = "Make the manifest again, or let --fix read this text again."
        both = min(here, there)
        lost = int((text.unread[:both] & truth.valid[:both]).sum())
        if lost:
            do = f"Correct the text: as it is, {lost} frames that the manifest has labels of would have none."
        self.findings.append(
            Finding(
                severity="error",
                kind="labels-differ",
                file=str(subject.text),
                clip=subject.id,
                what=why,
                do=do,
                fix=None if lost else fix,
            )
        )

    def _sidecar(self, subject: Subject) -> None:
        """Look at the labels of a clip without a text."""
        truth = subject.truth
        if truth is None or subject.split == "test" or not len(truth.valid):
            return
        share = 1 - float(truth.valid.mean())
        labels = truth.va[truth.valid]
        kind = what = ""
        severity: Severity = "warning"
        do = "Compare its labels with the original."
        if share == 1:
            kind, what = "unlabelled", "has no frame with a label"
        elif share >= 0.5:
            kind, what = "mostly-unlabelled", f"has no label for {share:.0%} of its {len(truth.valid)} frames"
        if len(labels) > 1 and (labels == labels[0]).all():
            kind, severity = "constant", "note"
            what = f"says {labels[0][0]:g},{labels[0][1]:g} of all its {len(labels)} labelled frames"
            do = "Nothing, where clips are annotated as wholes; else compare its labels with the original."
        if kind:
            media = str(subject.media)
            self.findings.append(Finding(severity=severity, kind=kind, file=media, clip=subject.id, what=what, do=do))


def times_of(time_s: np.typing.NDArray[np.float64], frames: int, duration_s: float) -> np.typing.NDArray[np.float64]:
    """Give as many frame times as a text has lines: the first of those there are, or more at their mean distance."""
    if frames <= len(time_s):
        return time_s[:frames]
    step_s = (time_s[-1] - time_s[0]) / (len(time_s) - 1) if len(time_s) > 1 else duration_s or 0.04
    return np.concatenate(
        [time_s, timeline.times_after(time_s[-1], np.arange(1, frames - len(time_s) + 1), step_s=float(step_s))]
    )


def is_usual(surplus: int, frames: int) -> bool:
    """Say whether annotations of so many frames often have so many more, or fewer."""
    return abs(surplus) <= max(10, 0.01 * frames)


def lengths(subject: Subject, *, annotated: int, frames: int, duration_s: float) -> Sequence[Finding]:
    """Compare how long a clip's annotation is with its video, in frames and seconds.

    Args:
        subject: The clip.
        annotated: Frames of its annotation.
        frames: Of its video.
        duration_s: Of its video, in seconds.
    """
    surplus = annotated - frames
    if not surplus or (subject.split == "test" and subject.truth is not None and not subject.truth.valid.any()):
        return ()
    seconds = abs(surplus) * duration_s / frames
    few = is_usual(surplus, frames)
    longer = "longer" if surplus > 0 else "shorter"
    what = (
        f"is {abs(surplus)} frames ({seconds:.2f} s) {longer} than its video: {annotated} lines, {frames} frames in "
        f"{duration_s:.2f} s"
    )
    ratio = annotated / frames
    if abs(ratio - 2) < 0.02 or abs(ratio - 0.5) < 0.005:
        what += "; is it of another frame rate?"
    fix = None
    if surplus > 0 and not few and subject.truth is not None:
        fix = Decision(clip=subject.id, do="labels-until", until_s=duration_s, why=f"annotation {what}")
    return (
        Finding(
            severity="note" if few else "warning",
            kind=f"annotation-{longer}",
            file=str(subject.text or subject.media),
            clip=subject.id,
            what=what,
            do="Nothing: some frames more or less are usual." if few else "Is it the annotation of this video?",
            fix=fix,
        ),
    )


def overhang(subject: Subject, truth: Truth, *, duration_s: float) -> Sequence[Finding]:
    """Say how far labels with times of their own go on after the video; those that end early lack nothing.

    Args:
        subject: The clip.
        truth: Its labels.
        duration_s: Of its video, in seconds.
    """
    step_s = float(np.median(np.diff(truth.time_s))) if len(truth.time_s) > 1 else 0.0
    over_s = float(truth.time_s[-1]) + step_s - duration_s if len(truth.time_s) else 0.0
    if over_s <= step_s / 2 or not truth.valid.any():
        return ()
    few = over_s <= max(10 * step_s, 0.01 * duration_s)
    what = f"goes on for {over_s:.2f} s after its video of {duration_s:.2f} s ends"
    fix = Decision(clip=subject.id, do="labels-until", until_s=duration_s, why=f"annotation {what}")
    return (
        Finding(
            severity="note" if few else "warning",
            kind="annotation-longer",
            file=str(subject.media),
            clip=subject.id,
            what=what,
            do="Nothing: a little more or less is usual." if few else "Is it the annotation of this video?",
            fix=None if few else fix,
        ),
    )


def _same(truth: Truth, text: Text) -> bool:
    return (
        len(truth.valid) == len(text.valid)
        and bool((truth.valid == text.valid).all())
        and bool((truth.va == text.va).all())
    )
