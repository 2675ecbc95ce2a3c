"""Videos -> features, by stage one itself: a corpus of these videos, made for the occasion, goes through its pipeline.

So a video is decoded in a process of its own, limited in memory and time, in batches with the others, and one that
fails costs only itself.
"""

import contextlib
import dataclasses
import hashlib
import re
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from va import files
from va.data import corpus
from va.data.corpus import Clip, Truth
from va.data.features import FeatureStore
from va.engine import scratch
from va.errors import VAError
from va.evaluate.media import cells
from va.evaluate.media.cells import Features
from va.evaluate.media.predictors import BOX, LOUDNESS, AnyPredictor
from va.extract import looking, pipeline
from va.extract.looking import Seen

Progress = Callable[[int, int, str], None]

_REFUSED: Final = frozenset('<>:"/\\|?*~')
_DEVICE: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_LONGEST_NAME: Final = 120
"""Bytes; systems allow 255 with suffixes."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What decoding may take; as in `ExtractConfig`."""

    readers: int
    stall_s: float
    memory_gb: float


@dataclass(frozen=True, kw_only=True)
class Named:
    """A video and the name of everything that is made for it.

    Args:
        path: The medium.
        name: Unique among its companions, whatever the case of letters; may hold any character.
    """

    path: Path
    name: str


def named(paths: Sequence[Path]) -> list[Named]:
    """Name videos by their files; where two would have one name, the later ones get a number in front.

    Raises:
        VAError: A name is not UTF-8 text.
    """
    found: list[Named] = []
    taken: set[str] = set()
    for path in paths:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise VAError(f"{str(path)!r}: its name is not UTF-8 text", "Rename the file.") from None
        name, number = path.stem, 1
        while not taken.isdisjoint(_keys(name)):
            number += 1
            name = f"{number}-{path.stem}"  # in front, because `_left` and `_right` at the end say who is meant
        taken |= _keys(name)
        found.append(Named(path=path, name=name))
    return found


def _keys(name: str) -> set[str]:
    """Give what must differ between two videos, on disks that take capitals for small letters too."""
    return {unicodedata.normalize("NFC", made).casefold() for made in (files.safe_name(name), file_name(name))}


def file_name(name: str) -> str:
    """Turn a video's name into that of its files, which people read: most names stay as they are.

    What some system refuses or hides (separators, `:` and its kin, what cannot be seen, dots and spaces at an end,
    names of devices, more than 120 bytes) goes or becomes `_`. A name that had any of it ends in `~` and eight
    hexadecimal digits of the whole, so that two do not become one; `~` counts as refused, so no other name ends so.

    Args:
        name: UTF-8 text.
    """
    kept = "".join(each if each.isprintable() and each not in _REFUSED else "_" for each in name)
    kept = kept.encode()[:_LONGEST_NAME].decode(errors="ignore")
    bare = kept.strip(" .")
    bare = f"_{bare}" if not bare or _DEVICE.fullmatch(bare) else bare
    if bare == name:
        return name
    return f"{bare}~{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"


@contextlib.contextmanager
def extracted(
    videos: Sequence[Named], predictor: AnyPredictor, *, limits: Limits, keep: Path | None, progress: Progress
) -> Iterator[tuple[dict[str, "Video"], dict[str, VAError]]]:
    """Extract videos; what they left on the disk goes when the block ends, unless it is to be kept.

    Args:
        videos: At least one.
        predictor: Says what is needed.
        limits: What decoding may take.
        keep: Features folder, or None for a temporary one.
        progress: Called with videos done, videos in all, and a line for a person.

    Yields:
        By name, the videos that could be read, and why the others could not.

    Raises:
        VAError: Weights are missing, or the disk cannot be written.
    """
    loaded = predictor.loaded
    with scratch.below(Path(tempfile.gettempdir()), prefix="va-predict-") as folder:
        seen, failed = _look(videos, limits, progress)
        out = keep or folder / "features"
        if seen:
            config = dataclasses.replace(
                predictor.config,
                corpus=_corpus(folder, [video for video in videos if video.name in seen], seen),
                out=out,
                readers=limits.readers,
                stall_s=limits.stall_s,
                memory_gb=limits.memory_gb,
            )
            summary = pipeline.run(config, progress=progress, loaded=loaded)
            failed |= {name: VAError(reason, looking.HINT) for name, reason in summary.failed.items()}
            stores = {store.encoder: store for store in map(FeatureStore, summary.stores)}
            found = {
                video.name: Video(video, seen[video.name], stores, predictor)
                for video in videos
                if video.name in seen and video.name not in failed
            }
        else:
            found = {}
        yield found, failed


class Video:
    """One video that stage one could read.

    Attributes:
        path: The medium.
        name: As in `Named`.
        seen: What it is.
    """

    def __init__(self, video: Named, seen: Seen, stores: dict[str, FeatureStore], predictor: AnyPredictor) -> None:
        self.path = video.path
        self.name = video.name
        self.seen = seen
        self._stores = stores
        self._predictor = predictor

    def features(self) -> Features:
        """Read what stage one found.

        Raises:
            VAError: A file is damaged, or the video changed while it was read.
        """
        loaded, config = self._predictor.loaded, self._predictor.config
        face = self._stores[loaded[0].name].read(self.name)
        voice = self._stores[loaded[1].name].read(self.name) if self._predictor.hears else None
        loudness = self._stores[LOUDNESS].read(self.name)
        count = len(face.values)
        boxes = cells.boxes_of(self._stores[BOX].read(self.name)) if BOX in self._stores else None
        return Features(
            face=face,
            voice=voice,
            has_sound=cells.cells_with_sound(loudness, count=count, window_s=config.window_s, stride_s=config.stride_s),
            silent=cells.is_silent(loudness),
            boxes=boxes,
            duration_s=self.seen.duration_s,
        )


def _look(videos: Sequence[Named], limits: Limits, progress: Progress) -> tuple[dict[str, Seen], dict[str, VAError]]:
    seen: dict[str, Seen] = {}
    failed: dict[str, VAError] = {}
    for number, video in enumerate(videos):
        progress(0, len(videos), f"opening {number + 1} of {len(videos)}")
        try:
            seen[video.name] = looking.look(video.path, memory_gb=limits.memory_gb, stall_s=limits.stall_s)
        except VAError as error:
            failed[video.name] = error
    return seen, failed


def _corpus(root: Path, videos: Sequence[Named], seen: dict[str, Seen]) -> Path:
    """Write a manifest of videos that nobody has annotated."""
    unknown = Truth(time_s=np.zeros(1), va=np.zeros((1, 2), np.float32), valid=np.zeros(1, np.bool_))
    entries = [
        (
            Clip(
                id=video.name,
                media=video.path.resolve(),
                split="test",
                identity=video.name,
                num_frames=1,
                duration_s=seen[video.name].duration_s,
            ),
            unknown,
        )
        for video in videos
    ]
    media_root = Path(entries[0][0].media.anchor)
    return corpus.save(root, name="videos", synthetic=False, media_root=media_root, entries=entries).path
