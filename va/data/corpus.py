"""The manifest: which clips there are, where their media lie, which split and identity they belong to.

`corpus.json` is small and opens at once; labels and frame times lie in one sidecar per clip beside it (`sidecars.py`).
What was decided later, e.g. to leave a clip out, is a section of `corpus.json` (`decisions.py`) and holds for everyone
who loads it.
"""

import dataclasses
import hashlib
import itertools
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from va import bounded, files
from va.data import decisions, mediaroot, sidecars
from va.data.decisions import Decision
from va.errors import VAError

SCHEMA: Final = 1
SPLITS: Final = ("train", "val", "test")
_MOST_FRAMES: Final = 100_000_000
"""Of one clip: 19 days at 60 frames a second."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One annotated person in one medium.

    Args:
        id: Unique name in the corpus, e.g. `video55_left`.
        media: Absolute path of the video.
        split: `train`, `val` or `test`.
        identity: Who it is; no identity is in two splits of a sound corpus.
        num_frames: Number of annotated frames, in frames.
        duration_s: Length of the video in seconds.
    """

    id: str
    media: Path
    split: str
    identity: str
    num_frames: int
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class Truth:
    """A clip's annotation.

    Args:
        time_s: float64 [frames], presentation time of each annotated frame in seconds.
        va: float32 [frames, 2], valence and arousal in [-1, 1]; 0 where invalid.
        valid: bool [frames], False where the annotation says -5.
    """

    time_s: NDArray[np.float64]
    va: NDArray[np.float32]
    valid: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Skipped:
    """Something in a data set that is not in the corpus.

    Args:
        what: A file, where it can be below the data set's root, or a place in one.
        why: What is wrong with it.
    """

    what: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A loaded manifest.

    Args:
        path: Absolute path of `corpus.json`.
        name: A name for reports.
        synthetic: True for a corpus drawn by `va corpus synth`; reports say so.
        clips: All clips but those that a decision leaves out, ordered by id.
        skipped: What the adapter left out, and why.
        decisions: What was decided about its clips.
    """

    path: Path
    name: str
    synthetic: bool
    clips: tuple[Clip, ...]
    skipped: tuple[Skipped, ...] = ()
    decisions: tuple[Decision, ...] = ()

    @classmethod
    def load(cls, path: Path) -> "Corpus":
        """Open a manifest, given its file or its folder.

        Raises:
            VAError: Missing or malformed, a path in it leaves its root, or ids that some file systems take for one.
        """
        file = (path / "corpus.json" if path.is_dir() else path).absolute()
        data = bounded.read_json(file, what="a corpus manifest", hint=sidecars.REMAKE)
        if data.get("schema") != SCHEMA:
            raise VAError(f"{file}: has schema {data.get('schema')!r}, this version reads {SCHEMA}", sidecars.REMAKE)
        try:
            root = (file.parent / data["media_root"]).absolute()
            clips = tuple(_clip(row, root, file) for row in data["clips"])
            mediaroot.check([clip.media for clip in clips], root=root, manifest=file, data=data)
            if len({clip.id for clip in clips}) < len(clips):
                raise ValueError("two clips have one id")
            sidecars.check_names([clip.id for clip in clips])
            # Manifests of earlier versions say nothing about what was skipped.
            skipped = tuple(Skipped(what=str(row["what"]), why=str(row["why"])) for row in data.get("skipped", []))
            decided = decisions.parse(data.get("decisions", []), file)
            return cls(
                path=file,
                name=data["name"],
                synthetic=bool(data["synthetic"]),
                clips=_decided(clips, decided, file),
                skipped=skipped,
                decisions=decided,
            )
        except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise VAError(f"{file}: is not a corpus manifest ({error!r})", sidecars.REMAKE) from None

    def split(self, *names: str) -> tuple[Clip, ...]:
        """Give the clips of the named splits, in the order of the manifest."""
        return tuple(clip for clip in self.clips if clip.split in names)

    def truth(self, clip: Clip) -> Truth:
        """Read a clip's annotation from its sidecar, as decided.

        Raises:
            VAError: The sidecar is missing or does not fit the manifest.
        """
        decided = decisions.of_clip(self.decisions, clip.id)
        file = sidecars.path_of(self.path, clip.id, again="read-again" in decided)
        truth = Truth(**sidecars.read(file, clip_id=clip.id, frames=clip.num_frames))
        if decided:
            va, valid = decisions.apply(decided, time_s=truth.time_s, va=truth.va, valid=truth.valid)
            return Truth(time_s=truth.time_s, va=va, valid=valid)
        return truth

    def digest(self) -> str:
        """Hash ids, splits, identities and every label: what a training result depends on besides features."""
        state = hashlib.sha256()
        for clip in self.clips:
            truth = self.truth(clip)
            state.update(f"{clip.id}\0{clip.split}\0{clip.identity}\0{clip.duration_s!r}\0".encode())
            for array in (truth.time_s, truth.va, truth.valid):
                state.update(np.ascontiguousarray(array).tobytes())
        return state.hexdigest()[:16]


def save(
    directory: Path,
    *,
    name: str,
    synthetic: bool,
    media_root: Path,
    entries: Sequence[tuple[Clip, Truth]],
    skipped: Sequence[Skipped] = (),
) -> Corpus:
    """Write a manifest and its sidecars; the manifest comes last, so that it never names what is not there.

    Args:
        directory: Where `corpus.json` and `labels/` go.
        name: A name for reports.
        synthetic: Whether the corpus is drawn.
        media_root: Folder that holds all media; stored relative to `directory` when it lies inside it.
        entries: Clips with their annotation.
        skipped: What was left out, and why.

    Raises:
        VAError: Two clips have one id, or ids that some file systems take for one.
    """
    entries = sorted(entries, key=lambda entry: entry[0].id)
    for (first, _), (second, _) in itertools.pairwise(entries):
        if first.id == second.id:
            raise VAError(f"clip '{first.id}' appears twice ({first.media}, {second.media})", "Rename one of them.")
    sidecars.check_names([clip.id for clip, _ in entries])
    file = directory.absolute() / "corpus.json"
    root = media_root.absolute()
    for clip, truth in entries:
        sidecars.write(sidecars.path_of(file, clip.id), time_s=truth.time_s, va=truth.va, valid=truth.valid)
    inside = root.is_relative_to(file.parent)
    links = mediaroot.linked_folders([clip.media.absolute() for clip, _ in entries], root)
    files.write_json(
        file,
        {
            "schema": SCHEMA,
            "name": name,
            "synthetic": synthetic,
            "media_root": root.relative_to(file.parent).as_posix() if inside else str(root),
            **({"linked_folders": links} if links else {}),
            "clips": [_row(clip, root) for clip, _ in entries],
            "skipped": [{"what": one.what, "why": one.why} for one in skipped],
        },
    )
    return Corpus.load(file)


def decide(corpus: Corpus, found: Sequence[Decision], labels: Mapping[str, Truth]) -> Corpus:
    """Replace the decisions about a corpus; none takes all back.

    Args:
        corpus: Whose manifest is rewritten, with everything else in it as it was.
        found: All decisions that shall hold from now on.
        labels: Of clips that are read again and whose labels are not kept already, by id.

    Raises:
        VAError: The manifest cannot be read or written.
    """
    data = bounded.read_json(corpus.path, what="a corpus manifest", hint=sidecars.REMAKE)
    for clip_id, truth in labels.items():
        file = sidecars.path_of(corpus.path, clip_id, again=True)
        sidecars.write(file, time_s=truth.time_s, va=truth.va, valid=truth.valid)
    data.pop("decisions", None)
    if found:
        data["decisions"] = [one.row() for one in found]
    files.write_json(corpus.path, data)
    if not any(one.do == "read-again" for one in found):
        shutil.rmtree(corpus.path.parent / decisions.AGAIN, ignore_errors=True)
    return Corpus.load(corpus.path)


def _decided(clips: tuple[Clip, ...], decided: Sequence[Decision], manifest: Path) -> tuple[Clip, ...]:
    """Leave out clips that were dropped, and count the frames of those that were read again."""
    known = {clip.id for clip in clips}
    for one in decided:
        if one.clip not in known:
            raise VAError(
                f"{manifest}: a decision is about clip '{one.clip}', which is not there",
                "Remove it from the section 'decisions'.",
            )
    dropped = {one.clip for one in decided if one.do == "drop"}
    frames = {one.clip: one.frames for one in decided if one.do == "read-again"}
    return tuple(
        dataclasses.replace(clip, num_frames=frames.get(clip.id) or clip.num_frames)
        for clip in clips
        if clip.id not in dropped
    )


def _row(clip: Clip, root: Path) -> dict[str, Any]:
    return {
        "id": clip.id,
        "media": clip.media.absolute().relative_to(root).as_posix(),
        "split": clip.split,
        "identity": clip.identity,
        "frames": clip.num_frames,
        "duration_s": clip.duration_s,
    }


def _clip(row: dict[str, Any], root: Path, manifest: Path) -> Clip:
    if row["split"] not in SPLITS:
        raise VAError(f"{manifest}: clip '{row['id']}' has split '{row['split']}'", f"Use {', '.join(SPLITS)}.")
    clip = Clip(
        id=row["id"],
        media=mediaroot.below(root, row["media"], manifest),
        split=row["split"],
        identity=row["identity"],
        num_frames=int(row["frames"]),
        duration_s=float(row["duration_s"]),
    )
    if not (isinstance(clip.id, str) and clip.id and isinstance(clip.identity, str)):
        raise ValueError(f"id {clip.id!r} or identity {clip.identity!r} is not a name")
    (clip.id + clip.identity).encode()  # half a surrogate pair is not text
    if not 0 <= clip.num_frames <= _MOST_FRAMES:
        raise ValueError(f"clip '{clip.id}' has {clip.num_frames} frames")
    if not (math.isfinite(clip.duration_s) and clip.duration_s > 0):
        raise ValueError(f"clip '{clip.id}' lasts {clip.duration_s} s")
    return clip
