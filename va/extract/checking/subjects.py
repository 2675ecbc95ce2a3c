"""What there is to check: the clips of a manifest, or those that a tree without a manifest would give."""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from va.data import annotation_text, tree
from va.data.affwild2 import in_challenge, split_of, video_of
from va.data.corpus import Clip, Corpus, Skipped, Truth
from va.data.findings import Finding
from va.data.tree import Videos
from va.errors import VAError

_NOT_ANNOTATIONS: Final = re.compile(r"readme|licen[cs]e|sample|submission|requirements", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One clip to check.

    Args:
        id: Its name.
        split: `train`, `val` or `test`; "" where a tree does not say.
        identity: Who it is; "" where nobody says.
        media: Its video; None where a tree has none.
        text: Its annotation text; None where there is none.
        truth: Its labels as the adapter read them, or as they were read again; None without a manifest or a sidecar.
        duration_s: Of the video when the manifest was made, in seconds; None without a manifest.
    """

    id: str
    split: str
    identity: str = ""
    media: Path | None = None
    text: Path | None = None
    truth: Truth | None = None
    duration_s: float | None = None


def of_corpus(corpus: Corpus, texts: Sequence[Path], root: Path) -> tuple[list[Subject], list[Finding]]:
    """Give a manifest's clips, and findings about their sidecars.

    Args:
        corpus: The corpus.
        texts: Annotation files; those named after a clip are taken for its own, its split's before others.
        root: Folder of the media, where videos are looked for whose annotation is of no clip.
    """
    findings, subjects = list[Finding](), list[Subject]()
    by_name: dict[str, list[Path]] = {}
    for text in texts:
        by_name.setdefault(text.stem, []).append(text)
    # Labels are compared with their text as they were read, not as they were changed later.
    read = tuple(one for one in corpus.decisions if one.do == "read-again")
    bare = dataclasses.replace(corpus, decisions=read)
    for clip in corpus.clips:
        truth = None
        try:
            truth = bare.truth(clip)
        except VAError as error:
            file, _, said = error.message.partition(": ")
            do = "Make the manifest again, with the command that made it."
            findings.append(
                Finding(severity="error", kind="sidecar-damaged", file=file, clip=clip.id, what=said, do=do)
            )
        mine = sorted(by_name.pop(clip.id, []), key=lambda text: split_of(text) != clip.split)
        subjects.append(_subject(clip, truth, mine[0] if mine else None))
    if not any(subject.text for subject in subjects):
        return subjects, findings  # text of something else
    dropped = {one.clip for one in corpus.decisions if one.do == "drop"}
    left = {name: others for name, others in by_name.items() if name not in dropped}
    videos = Videos(tree.find_files(root, []) if left and root.is_dir() else (), root)
    for name, others in left.items():
        what = "is of no clip of the manifest"
        do = "Correct what is found in it or in its video, and make the manifest again."
        findings.append(
            Finding(severity="warning", kind="not-in-corpus", file=str(others[0]), clip=name, what=what, do=do)
        )
        media = _video(name, others[0], videos, findings)
        subjects.append(Subject(id=name, split=split_of(others[0]), media=media, text=others[0]))
    return subjects, findings


def of_tree(root: Path, texts: Sequence[Path]) -> tuple[list[Subject], list[Finding]]:
    """Give the clips that a tree's annotations name, and findings about what does not fit together."""
    findings, subjects = list[Finding](), list[Subject]()
    root = root.absolute()
    there = tree.find_files(root, [])
    videos = Videos(there, root)
    has_videos = any(file.suffix.lower() in tree.VIDEO_SUFFIXES for file in there)
    seen: dict[str, Path] = {}
    for text in texts:
        name = text.stem
        first = seen.setdefault(name, text)
        if first is not text:
            findings.append(_second(name, text, first))
            if findings[-1].severity == "note":
                continue
        known = len(findings)
        media = _video(name, text, videos, findings)
        if media is None and has_videos and len(findings) == known:
            what, do = "has no video of its name", "Copy the video into the tree, or remove the annotation."
            findings.append(
                Finding(severity="error", kind="video-missing", file=str(text), clip=name, what=what, do=do)
            )
        subjects.append(Subject(id=name, split=split_of(text), media=media, text=text))
    left = list[Skipped]()
    videos.left_over("has no annotation", left)
    for one in left:
        kind, do = "video-twice", "Nothing: the first is used."
        if one.why == "has no annotation":
            kind, do = "not-annotated", "Nothing, if it is of the test split or of another challenge."
        findings.append(Finding(severity="note", kind=kind, file=str(root / one.what), what=one.why, do=do))
    return subjects, findings


def annotation_files(root: Path, *, named: bool = False) -> list[Path]:
    """Find annotation text: in a split's folder inside one of the valence-arousal challenge, in any spelling.

    Args:
        root: Where to look.
        named: The user named this very folder: where it holds no such folders, its splits' folders or, without any, its
            own files are taken.
    """
    if not (named or root.is_dir()):
        return []  # the folder of media on a disk that is not there
    there = tree.find_files(root.absolute(), [])
    found = [file for file in there if file.suffix.lower() == ".txt" and not _NOT_ANNOTATIONS.search(file.stem)]
    in_sets = [file for file in found if split_of(file)]
    challenge = [file for file in in_sets if in_challenge(file)]
    if challenge or not named:
        return challenge
    return in_sets or [file for file in found if file.parent == root.absolute()]


def _video(name: str, text: Path, videos: Videos, findings: list[Finding]) -> Path | None:
    """Find a clip's video; that there are several which differ is a finding."""
    try:
        return video_of(name, videos)
    except VAError as error:
        findings.append(
            Finding(severity="error", kind="video-twice", file=str(text), clip=name, what=error.message, do=error.hint)
        )
        return None


def _second(name: str, text: Path, first: Path) -> Finding:
    """Say that a clip is annotated twice, which is harmless where both say the same."""
    one, other = annotation_text.examine_file(first), annotation_text.examine_file(text)
    same = (one.va.tolist(), one.valid.tolist()) == (other.va.tolist(), other.valid.tolist())
    if split_of(first) == split_of(text) and (one.digest == other.digest or (len(one.valid) and same)):
        what, do = f"says the same as {first}", "Nothing: the first is used."
        return Finding(severity="note", kind="annotation-twice", file=str(text), clip=name, what=what, do=do)
    what, do = f"annotates '{name}' a second time, and not alike: {first}", "Remove one."
    return Finding(severity="error", kind="annotation-twice", file=str(text), clip=name, what=what, do=do)


def _subject(clip: Clip, truth: Truth | None, text: Path | None) -> Subject:
    return Subject(
        id=clip.id,
        split=clip.split,
        identity=clip.identity,
        media=clip.media,
        text=text,
        truth=truth,
        duration_s=clip.duration_s,
    )
