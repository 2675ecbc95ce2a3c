"""The official Aff-Wild2 / ABAW tree -> Corpus.

Reads a clean tree: annotations in `.../VA_Estimation_Challenge/{Train_Set,Validation_Set}/<name>.txt`, videos
anywhere below the root as `<video>.mp4` or `.avi`. `<video>_left` and `<video>_right` are two people in one
video. An optional `identities.csv` at the root (`name,identity` per line) says who is in which clip; without
it every video counts as a person of its own, since the official tree does not name people. The challenge's sample file
(`sample.py`) names the test clips: those in it that have no annotation get the split `test` and no valid label.
"""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from va.data import corpus, labels, media, timeline
from va.data.corpus import Clip, Corpus, Truth
from va.data.sample import read_sample
from va.errors import VAError

_CHALLENGE: Final = "VA_Estimation_Challenge"
_SPLITS: Final = {"Train_Set": "train", "Validation_Set": "val"}
_SUFFIXES: Final = (".mp4", ".avi")


def read_tree(
    root: Path,
    *,
    out: Path,
    name: str,
    synthetic: bool,
    sample: Path | None,
    progress: Callable[[int, int], None],
) -> Corpus:
    """Read a tree and write its manifest.

    Args:
        root: Top of the tree.
        out: Folder for `corpus.json` and the sidecars.
        name: A name for reports.
        synthetic: Whether the tree was drawn by `va corpus synth`.
        sample: The challenge's sample file, which names the test clips; None for none.
        progress: Called with (clips done, clips in all).

    Raises:
        VAError: No annotations, a clip without its video, or an unreadable file.
    """
    sources = _annotations(root)
    if sample is not None:
        sources += _unannotated(sample, {source.name for source in sources})
    videos = _videos(root)
    identities = _identities(root / "identities.csv")
    entries = []
    for done, source in enumerate(sources):
        progress(done, len(sources))
        video = source.name if source.name in videos else _without_side(source.name)
        if video not in videos:
            raise VAError(
                f"{source.where}: has no video '{video}.mp4' or '.avi' below {root}",
                "Copy the video into the tree, or remove the annotation."
                if source.annotation
                else "Copy the test videos into the tree.",
            )
        identity = identities.get(source.name, video)
        entries.append(_entry(source, videos[video], identity=identity))
    progress(len(sources), len(sources))
    return corpus.save(out, name=name, synthetic=synthetic, media_root=root, entries=entries)


class _Source(NamedTuple):
    """A clip before its video is looked at; `where` is the file, and for a sample the line, that names it."""

    name: str
    split: str
    annotation: Path | None
    where: str


def _entry(source: _Source, video: Path, *, identity: str) -> tuple[Clip, Truth]:
    annotation = labels.read_annotation(source.annotation) if source.annotation else None
    info = media.probe(video)
    time_s = info.frame_time_s
    va, valid = annotation or (np.zeros((len(time_s), 2), np.float32), np.zeros(len(time_s), np.bool_))
    # "The annotation can be some frames shorter or longer than the video": surplus labels keep their place on
    # the clock, at the mean frame distance, so that every annotated frame can be scored.
    surplus = len(va) - len(time_s)
    if surplus > 0:
        step_s = (info.duration_s - time_s[0]) / len(time_s)
        time_s = np.concatenate([time_s, timeline.times_after(time_s[-1], np.arange(1, surplus + 1), step_s=step_s)])
    clip = Clip(
        id=source.name,
        media=video,
        split=source.split,
        identity=identity,
        num_frames=len(va),
        duration_s=info.duration_s,
    )
    return clip, Truth(time_s=time_s[: len(va)], va=va, valid=valid)


def _annotations(root: Path) -> list[_Source]:
    if not root.is_dir():
        raise VAError(f"{root}: no such folder", "Give the top folder of the Aff-Wild2 tree.")
    found = [
        _Source(name=file.stem, split=split, annotation=file, where=str(file))
        for folder in sorted(root.rglob(_CHALLENGE))
        for set_name, split in _SPLITS.items()
        for file in sorted((folder / set_name).glob("*.txt"))
    ]
    if not found:
        raise VAError(
            f"{root}: has no {_CHALLENGE}/Train_Set/*.txt or Validation_Set/*.txt below it",
            "Give the folder that holds the annotations and the videos.",
        )
    return found


def _unannotated(sample: Path, annotated: set[str]) -> list[_Source]:
    """List the sample's clips that nobody may have annotated: the test split."""
    read = read_sample(sample)
    first = np.unique(read.clips, return_index=True)[1]
    return [
        _Source(name=name, split="test", annotation=None, where=f"{sample}, line {read.line_of(int(index))}: '{name}'")
        for name, index in zip(read.names, first, strict=True)
        if name not in annotated
    ]


def _videos(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in sorted(path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES):
        if file.stem in found:
            raise VAError(f"video '{file.stem}' is there twice: {found[file.stem]} and {file}", "Remove one.")
        found[file.stem] = file
    return found


def _without_side(name: str) -> str:
    return name.removesuffix("_left").removesuffix("_right")


def _identities(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    try:
        with file.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.reader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise VAError(f"{file}: cannot be read ({error})", "Save it as UTF-8 text.") from None
    if not rows or rows[0] != ["name", "identity"] or any(len(row) != 2 for row in rows):
        raise VAError(f"{file}: expected lines of 'name,identity' under that header", "Correct or remove it.")
    return dict(rows[1:])
