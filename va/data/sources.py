"""From what a data set names to a manifest: the part that all adapters share.

An adapter (`affwild2.py`, `afewva.py`, ...) lists a `Source` per clip; `build` looks at their media and writes the
manifest. What cannot be used is a `Skipped` with its reason, which the manifest keeps: a damaged file costs its clip
and no more, and nothing disappears silently.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from va.data import corpus, media, timeline
from va.data.corpus import Clip, Corpus, Skipped, Truth
from va.data.media import MediaInfo
from va.data.rows import read_pairs
from va.data.tree import Videos, reason
from va.errors import VAError

_SPLIT_NAME: Final = re.compile(
    r"(?P<train>train(ing)?)|(?P<val>val|valid|validation|dev|devel|development)|(?P<test>test(ing)?)"
)

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (media done, media in all)."""

Probe: TypeAlias = Callable[[Sequence[Path], Progress], Mapping[Path, MediaInfo | VAError]]
"""Says of every medium what its container says, or why it cannot be read."""

Labels: TypeAlias = Callable[[MediaInfo], Truth]
"""Lays an annotation on the clock of its medium; may raise VAError."""


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
    series: Sequence[tuple[str, Labels, str]],
    *,
    videos: Videos,
    skipped: list[Skipped],
    out: Path,
    name: str,
    val_share: float,
    probe: Probe,
    progress: Progress,
) -> Corpus:
    """Build the manifest of recordings that have a video each, and a split in their name or none.

    Args:
        root: Top of the data set.
        series: Of each recording its name, its annotation and where that is.
        videos: Of the data set.
        skipped: What the adapter has left out already; added to.
        out: As in `build`; so are the others.
        name: A name for reports.
        val_share: As in `splits_of`, for the recordings whose names tell no split.
        probe: Looks at media.
        progress: Called with (media done, media in all).

    Raises:
        VAError: As `build`, `splits_of` and `Videos.find`.
    """
    identities = read_pairs(root / "identities.csv", ("name", "identity"))
    people = {clip: identities.get(clip, clip) for clip, _, _ in series}
    if (root / "splits.csv").exists():
        splits = splits_of(root, people, val_share=val_share)
    else:
        splits = {clip: split for clip in people if (split := split_named(re.split(r"[_\W\d]", clip)[0]))}
        rest = {clip: identity for clip, identity in people.items() if clip not in splits}
        splits |= splits_of(root, rest, val_share=val_share)
    listed = []
    for clip, labels, where in series:
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


def by_frame(va: NDArray[np.float32], valid: NDArray[np.bool_]) -> Labels:
    """Label i belongs to frame i; surplus ones keep their place on the clock, at the mean distance of frames.

    So every annotated frame can be scored, although annotations are some frames longer or shorter than videos.

    Args:
        va: float32 [frames, 2].
        valid: bool [frames].
    """

    def labels(info: MediaInfo) -> Truth:
        time_s = info.frame_time_s
        surplus = len(va) - len(time_s)
        if surplus > 0:
            step_s = (info.duration_s - time_s[0]) / len(time_s)
            later = timeline.times_after(time_s[-1], np.arange(1, surplus + 1), step_s=step_s)
            time_s = np.concatenate([time_s, later])
        return Truth(time_s=time_s[: len(va)], va=va, valid=valid)

    return labels


def by_time(time_s: NDArray[np.float64], va: NDArray[np.float32], valid: NDArray[np.bool_]) -> Labels:
    """Labels stand at times of their own, and stay there: nothing is resampled.

    The `abaw` protocol scores a prediction for each annotated time, whatever their distance; a value between two of
    them would be a label that nobody gave. The `paper` protocol and training take for a cell the last label of the half
    second before it, so labels at 2 Hz or more reach every cell.

    Args:
        time_s: float64 [labels], increasing, in seconds from the start of the video. Most must be before its end, or
            they are in another unit or about another video.
        va: float32 [labels, 2].
        valid: bool [labels].
    """

    def labels(info: MediaInfo) -> Truth:
        if np.median(time_s) > info.duration_s:
            raise VAError(
                f"its labels reach to {time_s[-1]:g} s and the video ends at {info.duration_s:g} s",
                "Times are in seconds from the start of the video.",
            )
        return Truth(time_s=time_s, va=va, valid=valid)

    return labels


def constant(va: NDArray[np.float32], valid: bool) -> Labels:
    """One label for the whole clip: each frame of the video has it.

    Args:
        va: float32 [2].
        valid: Whether it is one.
    """

    def labels(info: MediaInfo) -> Truth:
        frames = len(info.frame_time_s)
        return Truth(
            time_s=info.frame_time_s,
            va=np.tile(va if valid else np.zeros(2, np.float32), (frames, 1)),
            valid=np.full(frames, valid),
        )

    return labels


UNLABELLED: Final = constant(np.zeros(2, np.float32), False)
"""A test clip, whose annotation nobody holds."""


def on_scale(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Map a scale linearly to [-1, 1]: `low` to -1, `high` to 1; NaN stays NaN.

    Raises:
        VAError: A value is off the scale; its position, from 1, is named.
    """
    off = np.flatnonzero((values < low) | (values > high))
    if len(off):
        raise VAError(
            f"value {off[0] + 1} is {values[off[0]]:g}, off the scale {low:g}..{high:g}",
            "Correct it, or give the scale that the labels are on.",
        )
    return values if (low, high) == (-1, 1) else (values - low) * (2 / (high - low)) - 1


def arrays(valence: NDArray[np.float64], arousal: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Join two axes: float32 [labels, 2], 0 where either is NaN, and bool [labels], False there."""
    both = np.stack([valence, arousal], axis=-1)
    valid = np.asarray(np.isfinite(both).all(axis=-1), np.bool_)
    return np.where(valid[..., None], both, 0).astype(np.float32), valid


def one(value: float) -> NDArray[np.float64]:
    """Give a single value as float64 [1]."""
    return np.array([value], np.float64)


def split_named(name: str) -> str | None:
    """Say which split a data set's name for one means; None for a name of none."""
    found = _SPLIT_NAME.fullmatch(name.strip().lower())
    return next((split for split, there in found.groupdict().items() if there), None) if found else None


def splits_of(root: Path, identities: Mapping[str, str], *, val_share: float) -> dict[str, str]:
    """Divide clips where a data set does not: by `splits.csv` (`name,split`) at its root, else by person.

    People are ordered by a hash of their names, so that the same people give the same splits.

    Args:
        root: Top of the data set.
        identities: Who is in each clip.
        val_share: Share of the people for `val`, in (0, 1); at least one where there are two or more.

    Raises:
        VAError: `splits.csv` cannot be read, leaves a clip out, or names a split that is none.
    """
    file = root / "splits.csv"
    if file.exists():
        given = read_pairs(file, ("name", "split"))
        return {clip: _given(file, clip, given.get(clip)) for clip in identities}
    people = sorted(set(identities.values()), key=lambda name: hashlib.sha256(f"val:{name}".encode()).digest())
    chosen = set(people[: max(0, min(max(1, round(val_share * len(people))), len(people) - 1))])
    return {clip: "val" if identity in chosen else "train" for clip, identity in identities.items()}


def _given(file: Path, clip: str, name: str | None) -> str:
    if name is None:
        raise VAError(f"{file}: does not name clip '{clip}'", "Add a line for it, or remove the file.")
    split = split_named(name)
    if split is None:
        raise VAError(f"{file}: '{name}' of clip '{clip}' is no split", "Use train, val or test.")
    return split
