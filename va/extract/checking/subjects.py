"""What there is to check: the clips of a manifest, or those that a tree without a manifest would give."""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from va.data.corpus import Clip, Corpus, Truth
from va.data.findings import Finding
from va.errors import VAError

SUFFIXES: Final = (".mp4", ".avi", ".mkv", ".mov", ".m4v", ".webm")
_CHALLENGE: Final = re.compile(
    r"(\d+(st|nd|rd|th))?(abaw)?(va|valencearousal)(estimation)?(challenge|set|track)?(annotations?|labels?)?\d*"
)
_SET: Final = re.compile(
    r"(?P<train>train(ing)?)(set)?|(?P<val>val|valid|validation|dev|development)(set)?|(?P<test>test(ing)?)(set)?"
)
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
    videos = {file.stem: file for file in _files(root, SUFFIXES)} if left else {}
    for name, others in left.items():
        what = "is of no clip of the manifest"
        do = "Correct what is found in it or in its video, and make the manifest again."
        findings.append(
            Finding(severity="warning", kind="not-in-corpus", file=str(others[0]), clip=name, what=what, do=do)
        )
        subjects.append(Subject(id=name, split=split_of(others[0]), media=_video_of(name, videos), text=others[0]))
    return subjects, findings


def of_tree(root: Path, texts: Sequence[Path]) -> tuple[list[Subject], list[Finding]]:
    """Give the clips that a tree's annotations name, and findings about what does not fit together."""
    findings, subjects = list[Finding](), list[Subject]()
    videos: dict[str, Path] = {}
    for file in _files(root, SUFFIXES):
        if file.stem in videos:
            what = f"has the name of another video: {videos[file.stem]}"
            findings.append(
                Finding(severity="error", kind="video-twice", file=str(file), what=what, do="Remove one of them.")
            )
        videos.setdefault(file.stem, file)
    seen: dict[str, Path] = {}
    for text in texts:
        name = text.stem
        if name in seen:
            what = f"annotates '{name}' a second time: {seen[name]}"
            findings.append(
                Finding(
                    severity="error", kind="annotation-twice", file=str(text), clip=name, what=what, do="Remove one."
                )
            )
        seen.setdefault(name, text)
        media = _video_of(name, videos)
        if media is None and videos:
            what, do = "has no video of its name", "Copy the video into the tree, or remove the annotation."
            findings.append(
                Finding(severity="error", kind="video-missing", file=str(text), clip=name, what=what, do=do)
            )
        subjects.append(Subject(id=name, split=split_of(text), media=media, text=text))
    used = {subject.media for subject in subjects}
    for file in videos.values():
        if file not in used:
            what, do = "has no annotation", "Nothing, if it is of the test split or of another challenge."
            findings.append(Finding(severity="note", kind="not-annotated", file=str(file), what=what, do=do))
    return subjects, findings


def annotation_files(root: Path, *, named: bool = False) -> list[Path]:
    """Find annotation text: in a split's folder inside one of the valence-arousal challenge, in any spelling.

    Args:
        root: Where to look.
        named: The user named this very folder: where it holds no such folders, its splits' folders or, without any, its
            own files are taken.
    """
    found = [file for file in _files(root.absolute(), (".txt",)) if not _NOT_ANNOTATIONS.search(file.stem)]
    in_sets = [file for file in found if split_of(file)]
    challenge = [file for file in in_sets if _CHALLENGE.fullmatch(_plain(file.parent.parent.name))]
    if challenge or not named:
        return challenge
    return in_sets or [file for file in found if file.parent == root.absolute()]


def split_of(text: Path) -> str:
    """Give the split that an annotation's folder is named after; "" for none."""
    found = _SET.fullmatch(_plain(text.parent.name))
    return next((split for split, part in found.groupdict().items() if part), "") if found else ""


def _video_of(name: str, videos: Mapping[str, Path]) -> Path | None:
    return videos.get(name) or videos.get(re.sub(r"_(left|right)$", "", name, flags=re.IGNORECASE))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


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


def _files(root: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Walk a tree in order and through links, each folder once, leaving out folders of pictures and hidden names."""
    seen = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        status = Path(folder).stat()
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith((".", "cropped")))
        for name in sorted(names):
            file = Path(folder) / name
            # A pipe dressed as a file would be waited for.
            if name.lower().endswith(tuple(suffixes)) and not name.startswith(".") and file.is_file():
                yield file
