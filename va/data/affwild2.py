"""The Aff-Wild2 / ABAW tree, as years of copying left it -> Corpus.

Annotations are `.../VA_Estimation_Challenge/{Train_Set,Validation_Set}/<name>.txt`, in any spelling of these folders
(`VA_Set`, `va_challenge`, `training`, `Val`, ...) and below any edition's folder; videos are anywhere below the root.
`<name>_left` and `<name>_right` are two people in one video, unless there is a video of that very name. An optional
`identities.csv` at the root (`name,identity` per line) says who is in which clip; without it every video counts as a
person of its own, since the official tree does not name people. The challenge's sample file (`sample.py`) names the
test clips: those in it that have no annotation get the split `test` and no valid label.

What stops: no annotation, nothing left, and what could be read in two ways (annotations of one name that differ, a name
in both sets, two different videos of one name). All else that is wrong costs its clip, and is said.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from va.data import annotation_text, labels, placing, sources, tree
from va.data.corpus import Corpus, Skipped
from va.data.rows import read_pairs
from va.data.sample import read_sample
from va.data.sources import Probe, Progress, Source
from va.data.tree import Videos
from va.errors import VAError

_CHALLENGE: Final = re.compile(
    r"(\d+(st|nd|rd|th))?(abaw)?(va|valencearousal)(estimation)?(challenge|set|track)?(annotations?|labels?)?\d*"
)
_SET: Final = re.compile(
    r"(?P<train>train(ing)?)(set)?|(?P<val>val|valid|validation|dev|development)(set)?|(?P<test>test(ing)?)(set)?"
)


def read_tree(
    root: Path,
    *,
    out: Path,
    name: str,
    synthetic: bool,
    sample: Path | None,
    progress: Progress,
    annotations: Path | None = None,
    as_meant: bool = False,
    probe: Probe = sources.probe_here,
) -> Corpus:
    """Read a tree and write its manifest.

    Args:
        root: Top of the tree.
        out: Folder for `corpus.json` and the sidecars.
        name: A name for reports.
        synthetic: Whether the tree was drawn by `va corpus synth`.
        sample: The challenge's sample file, which names the test clips; None for none.
        progress: Called with (videos done, videos in all).
        annotations: Folder below which annotations are looked for; None for the root.
        as_meant: Read annotations that are not written as they should be as they are most likely meant.
        probe: Looks at the videos.

    Raises:
        VAError: No annotations, annotations or videos that contradict each other, or no clip that can be used.
    """
    if annotations is not None and not annotations.is_dir():
        raise VAError(
            f"--annotations: {annotations} is not a folder",
            "Name the folder that holds Train_Set and Validation_Set, or leave it out to look in all of the tree.",
        )
    root = root.absolute()
    skipped: list[Skipped] = []
    there = tree.find_files(root, skipped)
    top = root if annotations is None else annotations.absolute()
    texts = there if top == root else tree.find_files(top, skipped)
    found = _annotations(root, top, texts, skipped, as_meant=as_meant)
    videos = Videos(there, root)
    identities = read_pairs(root / "identities.csv", ("name", "identity"))
    wanted = [(one.name, one.split, placing.by_frame(one.va, one.valid), one.where) for one in found]
    if sample is not None:
        tests = _unannotated(sample, {one.name for one in found})
        wanted += [(test, "test", placing.UNLABELLED, place) for place, test in tests]
    listed = [
        Source(id=clip, media=video, split=split, identity=identities.get(clip, video.stem), labels=laid, where=where)
        for clip, split, laid, where in wanted
        if (video := _video(clip, videos, where, skipped))
    ]
    videos.left_over("has no annotation" if sample is None else "has no annotation and is not in the sample", skipped)
    return sources.build(
        listed,
        skipped=skipped,
        out=out,
        name=name,
        synthetic=synthetic,
        media_root=root,
        probe=probe,
        progress=progress,
    )


def count_readable(root: Path, skipped: Iterable[Skipped]) -> int:
    """Count the annotations that were left out and that `as_meant` would read.

    Args:
        root: Top of the tree.
        skipped: What was left out.
    """
    texts = {root.absolute() / one.what for one in skipped if one.what.lower().endswith(".txt")}
    return sum(_is_readable(file) for file in texts if _split_of(file) and file.is_file())


def _is_readable(file: Path) -> bool:
    try:
        labels.read_annotation(file)
    except VAError:
        return len(annotation_text.examine_file(file).valid) > 0
    return False


@dataclass(frozen=True, kw_only=True, eq=False)
class _Annotation:
    """A file of labels that could be read."""

    name: str
    split: str
    file: Path
    where: str
    va: NDArray[np.float32]
    valid: NDArray[np.bool_]

    def contradicts(self, other: "_Annotation") -> bool:
        same = np.array_equal(self.va, other.va) and np.array_equal(self.valid, other.valid)
        return self.split != other.split or not same


def _annotations(
    root: Path, top: Path, there: Iterable[Path], skipped: list[Skipped], *, as_meant: bool
) -> list[_Annotation]:
    """Read the annotations below `top`, one for each name."""
    read: dict[str, _Annotation] = {}
    seen = 0
    for file in there:
        split = _split_of(file)
        if split is None:
            continue
        seen += 1
        where = tree.below(root, file)
        try:
            va, valid = annotation_text.read_as_meant(file) if as_meant else labels.read_annotation(file)
        except VAError as error:
            skipped.append(Skipped(what=where, why=tree.reason(error, where, root)))
            continue
        one = _Annotation(name=file.stem, split=split, file=file, where=where, va=va, valid=valid)
        first = read.setdefault(one.name, one)
        if first is not one:
            if first.contradicts(one):
                raise VAError(
                    f"'{one.name}' is annotated twice, and not alike: {first.file} and {file}",
                    "Name the folder of one edition with --annotations, or remove one.",
                )
            skipped.append(Skipped(what=where, why=f"says the same as {first.where}"))
    if not seen:
        raise VAError(
            f"{top}: has no VA_Estimation_Challenge/Train_Set/*.txt or Validation_Set/*.txt below it",
            "Give the folder that holds the annotations and the videos."
            if top == root
            else "Give a folder above them to --annotations, or leave it out to look in all of the tree.",
        )
    return list(read.values())


def split_of(file: Path) -> str:
    """Give the split that an annotation's folder is named after: `train`, `val` or `test`; "" for none."""
    named = _SET.fullmatch(_plain(file.parent.name))
    return next((split for split, part in named.groupdict().items() if part), "") if named else ""


def in_challenge(file: Path) -> bool:
    """Say whether the folder above an annotation's is named after the valence-arousal challenge."""
    return _CHALLENGE.fullmatch(_plain(file.parent.parent.name)) is not None


def video_of(name: str, videos: Videos) -> Path | None:
    """Find the video that a clip is cut from, which may be of two people; None where there is none.

    Raises:
        VAError: There are several that differ.
    """
    return videos.find(name) or videos.find(_whole(name))


def _split_of(file: Path) -> str | None:
    """Say which split an annotation file is of; None for a file that is none."""
    split = split_of(file)
    return split if split in ("train", "val") and file.suffix.lower() == ".txt" and in_challenge(file) else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _whole(name: str) -> str:
    return re.sub(r"_(left|right)$", "", name, flags=re.IGNORECASE)


def _video(name: str, videos: Videos, where: str, skipped: list[Skipped]) -> Path | None:
    """Find the video that a clip is cut from; none is said."""
    video = video_of(name, videos)
    if video is None:
        skipped.append(Skipped(what=where, why=f"there is no video '{_whole(name)}'"))
    return video


def _unannotated(sample: Path, annotated: set[str]) -> list[tuple[str, str]]:
    """List the sample's clips that nobody may have annotated, the test split: where each is named, and its name."""
    read = read_sample(sample)
    first = np.unique(read.clips, return_index=True)[1]
    return [
        (f"{sample}, line {read.line_of(int(index))}: '{name}'", name)
        for name, index in zip(read.names, first, strict=True)
        if name not in annotated
    ]
