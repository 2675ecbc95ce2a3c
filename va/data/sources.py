"""From what a data set names to a manifest: the part that all adapters share.

An adapter (`affwild2.py`, `afewva.py`, ...) lists a `Source` per clip; `build` looks at their media and writes the
manifest. What cannot be used is a `Skipped` with its reason, which the manifest keeps: a damaged file costs its clip
and no more, and nothing disappears silently.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from va.data import corpus, media, placing
from va.data.corpus import Clip, Corpus, Skipped
from va.data.identities import split_named, splits_of
from va.data.media import MediaInfo
from va.data.placing import Labels
from va.data.rows import read_pairs
from va.data.tree import Videos, below, find_files, reason
from va.errors import VAError

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (media done, media in all)."""

Probe: TypeAlias = Callable[[Sequence[Path], Progress], Mapping[Path, MediaInfo | VAError]]
"""Says of every medium what its container says, or why it cannot be read."""

Series: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]
"""Times in seconds, valence and arousal of a recording, each float64 [labels]; NaN for no label."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """A clip before its medium is looked at.

    Args:
        id: Unique name.
        media: The video.
        split: `train`, `val` or `test`.
        identity: Who it is.
        labels: Its annotation.
        where: What names it, for the table of what was skipped: a file, and maybe a line.
    """

    id: str
    media: Path
    split: str
    identity: str
    labels: Labels
    where: str


def build(
    sources: Sequence[Source],
    *,
    skipped: Iterable[Skipped],
    out: Path,
    name: str,
    synthetic: bool,
    media_root: Path,
    probe: Probe,
    progress: Progress,
) -> Corpus:
    """Look at every medium and write the manifest of those that can be read.

    Args:
        sources: The clips.
        skipped: What the adapter has left out already.
        out: Folder for `corpus.json` and the sidecars.
        name: A name for reports.
        synthetic: Whether the corpus is drawn.
        media_root: Folder that holds all media.
        probe: Looks at media.
        progress: Called with (media done, media in all).

    Raises:
        VAError: No clip is left, two clips have one id, or the manifest cannot be written.
    """
    skipped = list(dict.fromkeys(skipped))
    infos = probe(sorted({source.media for source in sources}), progress)
    entries = []
    for source in sources:
        try:
            info = infos[source.media]
            if isinstance(info, VAError):
                raise info
            truth = source.labels(info)
        except VAError as error:
            skipped.append(Skipped(what=source.where, why=reason(error, source.where, media_root)))
            continue
        clip = Clip(
            id=source.id,
            media=source.media,
            split=source.split,
            identity=source.identity,
            num_frames=len(truth.time_s),
            duration_s=info.duration_s,
        )
        entries.append((clip, truth))
    if not entries:
        first = f"; the first reason: {skipped[0].what}: {skipped[0].why}" if skipped else ""
        raise VAError(f"{media_root}: no clip can be used{first}", "Give the folder that holds annotations and videos.")
    return corpus.save(
        out,
        name=name,
        synthetic=synthetic,
        media_root=media_root,
        entries=entries,
        skipped=skipped,
    )


def build_recordings(
    root: Path,
    find: Callable[[Path, list[Path], list[Skipped]], Mapping[str, tuple[Path, ...]]],
    read: Callable[..., Series],
    *,
    scale: tuple[float, float],
    out: Path,
    name: str,
    val_share: float,
    probe: Probe,
    progress: Progress,
) -> Corpus:
    """Build the manifest of recordings that have a video each, and a split in their name or none.

    Args:
        root: Top of the data set.
        find: Of root, files below it and what was skipped (added to): the files that annotate each recording, by its
            name. The first of them stands for all. May raise VAError.
        read: Gives what such files say; may raise VAError.
        scale: Lowest and highest label of both axes.
        out: As in `build`; so are the others.
        name: A name for reports.
        val_share: As in `splits_of`, for the recordings whose names tell no split.
        probe: Looks at media.
        progress: Called with (media done, media in all).

    Raises:
        VAError: As `find`, `build`, `splits_of` and `Videos.find`.
    """
    root = root.absolute()
    skipped: list[Skipped] = []
    there = find_files(root, skipped)
    series: dict[str, tuple[Labels, str]] = {}
    for clip, texts in find(root, there, skipped).items():
        where = below(root, texts[0])
        try:
            time_s, *axes = read(*texts)
            va, valid = placing.arrays(*(placing.on_scale(axis, *scale) for axis in axes))
        except VAError as error:
            skipped.append(Skipped(what=where, why=reason(error, where, root)))
            continue
        series[clip] = (placing.by_time(time_s, va, valid), where)
    identities = read_pairs(root / "identities.csv", ("name", "identity"))
    people = {clip: identities.get(clip, clip) for clip in series}
    splits = _splits(root, people, val_share=val_share)
    listed, videos = [], Videos(there, root)
    for clip, (labels, where) in series.items():
        if video := videos.find(clip):
            listed.append(
                Source(id=clip, media=video, split=splits[clip], identity=people[clip], labels=labels, where=where)
            )
        else:
            skipped.append(Skipped(what=where, why=f"there is no video '{clip}'"))
    videos.left_over("has no annotation", skipped)
    return build(
        listed, skipped=skipped, out=out, name=name, synthetic=False, media_root=root, probe=probe, progress=progress
    )


def _splits(root: Path, people: Mapping[str, str], *, val_share: float) -> dict[str, str]:
    """Give each recording's split: by `splits.csv`, else by its own name, else by person."""
    if (root / "splits.csv").exists():
        return splits_of(root, people, val_share=val_share)
    named = {clip: split for clip in people if (split := split_named(re.split(r"[_\W\d]", clip)[0]))}
    rest = {clip: identity for clip, identity in people.items() if clip not in named}
    return named | splits_of(root, rest, val_share=val_share)


def probe_here(paths: Sequence[Path], progress: Progress) -> dict[Path, MediaInfo | VAError]:
    """Look at media one after the other in this process: for media that one made oneself.

    Those from elsewhere are looked at by `va.extract.probing.probe`, whose processes a hostile file may take along.
    """
    found: dict[Path, MediaInfo | VAError] = {}
    for done, path in enumerate(paths):
        progress(done, len(paths))
        try:
            found[path] = media.probe(path)
        except VAError as error:
            found[path] = error
    progress(len(paths), len(paths))
    return found
