"""The official Aff-Wild2 / ABAW tree -> Corpus.

Reads a clean tree: annotations in `.../VA_Estimation_Challenge/{Train_Set,Validation_Set}/<name>.txt`, videos
anywhere below the root as `<video>.mp4` or `.avi`. `<video>_left` and `<video>_right` are two people in one
video. An optional `identities.csv` at the root (`name,identity` per line) says who is in which clip; without
it every video counts as a person of its own, since the official tree does not name people.
"""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from va.data import corpus, labels, media
from va.data.corpus import Clip, Corpus, Truth
from va.errors import VAError

_CHALLENGE: Final = "VA_Estimation_Challenge"
_SPLITS: Final = {"Train_Set": "train", "Validation_Set": "val"}
_SUFFIXES: Final = (".mp4", ".avi")


def read_tree(root: Path, *, out: Path, name: str, synthetic: bool, progress: Callable[[int, int], None]) -> Corpus:
    """Read a tree and write its manifest.

    Args:
        root: Top of the tree.
        out: Folder for `corpus.json` and the sidecars.
        name: A name for reports.
        synthetic: Whether the tree was drawn by `va corpus synth`.
        progress: Called with (clips done, clips in all).

    Raises:
        VAError: No annotations, an annotation without its video, or an unreadable file.
    """
    annotations = _annotations(root)
    videos = _videos(root)
    identities = _identities(root / "identities.csv")
    entries = []
    for done, (file, split) in enumerate(annotations):
        progress(done, len(annotations))
        video = file.stem if file.stem in videos else _without_side(file.stem)
        if video not in videos:
            raise VAError(
                f"{file}: has no video '{video}.mp4' or '.avi' below {root}",
                "Copy the video into the tree, or remove the annotation.",
            )
        identity = identities.get(file.stem, video)
        entries.append(_entry(file, videos[video], split=split, identity=identity))
    progress(len(annotations), len(annotations))
    return corpus.save(out, name=name, synthetic=synthetic, media_root=root, entries=entries)


def _entry(annotation: Path, video: Path, *, split: str, identity: str) -> tuple[Clip, Truth]:
    va, valid = labels.read_annotation(annotation)
    info = media.probe(video)
    time_s = info.frame_time_s
    # "The annotation can be some frames shorter or longer than the video": surplus labels keep their place on
    # the clock, at the mean frame distance, so that every annotated frame can be scored.
    surplus = len(va) - len(time_s)
    if surplus > 0:
        step_s = (info.duration_s - time_s[0]) / len(time_s)
        time_s = np.concatenate([time_s, time_s[-1] + step_s * np.arange(1, surplus + 1)])
    clip = Clip(
        id=annotation.stem,
        media=video,
        split=split,
        identity=identity,
        num_frames=len(va),
        duration_s=info.duration_s,
    )
    return clip, Truth(time_s=time_s[: len(va)], va=va, valid=valid)


def _annotations(root: Path) -> list[tuple[Path, str]]:
    if not root.is_dir():
        raise VAError(f"{root}: no such folder", "Give the top folder of the Aff-Wild2 tree.")
    found = [
        (file, split)
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
