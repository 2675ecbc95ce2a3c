"""What a corpus holds, from its manifest and sidecars alone: no medium is opened."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from va.data import regions
from va.data.corpus import SPLITS, Clip, Corpus, Truth

WORST: Final = 10
"""Clips that are listed by name, of each kind of trouble."""

CONSTANT: Final = "one label in the whole clip"
"""In place of a rate: an utterance's label is that of each of its frames, which is no annotation of frames."""

LENGTHS: Final = 24
"""Bars of the histogram of lengths."""

_UNEVEN: Final = 0.02
"""Frame distances whose middle 90% differ by more than this share of the median are of a variable rate."""

_SLACK: Final = 0.5
"""Frames that an annotation may be longer or shorter before it is said to be: clocks are rounded."""


@dataclass(frozen=True)
class _Read:
    """A clip's figures."""

    clip: Clip
    labelled: int
    grid: NDArray[np.int64]
    rate_hz: float
    uneven: bool
    constant: bool
    surplus: int


def overview(corpus: Corpus, *, progress: Callable[[int, int], None]) -> dict[str, Any]:
    """Summarise a corpus.

    Args:
        corpus: The corpus; decisions are honoured.
        progress: Called with (clips done, clips in all).

    Returns:
        Plain JSON: `name`, `synthetic`, `path`, `centers` and `texts` of the regions in region order, `splits` (clips,
        identities, hours, frames, labelled, missing and regions of each), `overlap` (identities of two splits),
        `rates` (label times per second, rounded, or `CONSTANT`, and clips), `constant` (clips whose labels are
        all alike) of `annotated` ones, `lengths` (edges in seconds, and clips per split), `worst` (clips with the
        most labels missing), `beyond` (clips whose annotation is longer or shorter than the video) and `decisions`.

    Raises:
        VAError: A sidecar is missing or damaged.
    """
    read = []
    for done, clip in enumerate(corpus.clips):
        progress(done, len(corpus.clips))
        read.append(_read(clip, corpus.truth(clip)))
    progress(len(read), len(read))
    names = [name for name in SPLITS if any(one.clip.split == name for one in read)]
    grid = np.array(regions.CENTERS)
    return {
        "name": corpus.name,
        "synthetic": corpus.synthetic,
        "path": str(corpus.path),
        "centers": [[float(valence), float(arousal)] for valence in grid for arousal in grid],
        "texts": list(regions.REGION_TEXTS),
        "splits": {name: _split([one for one in read if one.clip.split == name]) for name in names},
        "overlap": _overlap(read),
        "rates": _rates(read),
        "constant": sum(one.constant for one in read),
        "annotated": sum(one.labelled > 0 for one in read),
        "lengths": _lengths(read, names),
        "worst": _worst(read),
        "beyond": _beyond(read),
        "decisions": [one.row() for one in corpus.decisions],
    }


def region_of(va: NDArray[np.float32]) -> NDArray[np.int64]:
    """Give the region whose centre is nearest, in region order: valence i, arousal j is region 3 i + j.

    Args:
        va: Valence and arousal, [frames, 2]; halfway between two centres the lower one counts.

    Returns:
        int64 [frames], 0 to 8.
    """
    centers = np.array(regions.CENTERS)
    nearest = np.searchsorted((centers[1:] + centers[:-1]) / 2, va.astype(np.float64))
    return (len(centers) * nearest[:, 0] + nearest[:, 1]).astype(np.int64)


def _read(clip: Clip, truth: Truth) -> _Read:
    steps = np.diff(truth.time_s)
    steps = steps[steps > 0]
    step_s = float(np.median(steps)) if len(steps) else 0.0
    low, high = np.percentile(steps, [5, 95]) if len(steps) else (0.0, 0.0)
    # How many frames lie after the end, or would still fit before it.
    surplus = 0
    if step_s and len(truth.time_s):
        over = (truth.time_s[-1] + step_s - clip.duration_s) / step_s
        surplus = round(over) if abs(over) > _SLACK else 0
    return _Read(
        clip=clip,
        labelled=int(truth.valid.sum()),
        grid=np.bincount(region_of(truth.va[truth.valid]), minlength=9),
        rate_hz=1 / step_s if step_s else 0.0,
        uneven=bool(step_s and high - low > _UNEVEN * step_s),
        constant=len(truth.time_s) > 1 and bool(truth.valid.any()) and not np.ptp(truth.va[truth.valid], axis=0).any(),
        surplus=surplus,
    )


def _split(read: Sequence[_Read]) -> dict[str, Any]:
    frames, labelled = sum(one.clip.num_frames for one in read), sum(one.labelled for one in read)
    counts = np.sum([one.grid for one in read], axis=0)
    return {
        "clips": len(read),
        "identities": len({one.clip.identity for one in read}),
        "hours": sum(one.clip.duration_s for one in read) / 3600,
        "frames": frames,
        "labelled": labelled,
        "missing": 1 - labelled / frames if frames else 0.0,
        "regions": [int(count) for count in counts],
    }


def _overlap(read: Sequence[_Read]) -> list[dict[str, Any]]:
    """List identities of more than one split, with how many clips each split has of them."""
    found: dict[str, dict[str, int]] = {}
    for one in read:
        splits = found.setdefault(one.clip.identity, {})
        splits[one.clip.split] = splits.get(one.clip.split, 0) + 1
    return [
        {"identity": name, "splits": {split: splits[split] for split in SPLITS if split in splits}}
        for name, splits in sorted(found.items())
        if len(splits) > 1
    ]


def _rates(read: Sequence[_Read]) -> list[dict[str, Any]]:
    """Count clips by how often an annotation says something, the most frequent first."""
    found: dict[str, int] = {}
    for one in read:
        name = "variable" if one.uneven else f"{one.rate_hz:.4g}" if one.rate_hz else "unknown"
        name = CONSTANT if one.constant else name
        found[name] = found.get(name, 0) + 1
    return [{"rate": name, "clips": clips} for name, clips in sorted(found.items(), key=lambda item: -item[1])]


def _lengths(read: Sequence[_Read], names: Sequence[str]) -> dict[str, Any]:
    """Give the histogram of lengths, and the shortest, the median and the longest, in seconds."""
    seconds = np.array([one.clip.duration_s for one in read])
    if not len(seconds):
        return {"edges_s": [0.0, 1.0], "clips": {}, "quantiles_s": [0.0, 0.0, 0.0]}
    edges = np.linspace(0, float(seconds.max()), LENGTHS + 1)
    counts = {
        name: np.histogram([one.clip.duration_s for one in read if one.clip.split == name], edges)[0].tolist()
        for name in names
    }
    quantiles = [float(seconds.min()), float(np.median(seconds)), float(seconds.max())]
    return {"edges_s": edges.tolist(), "clips": counts, "quantiles_s": quantiles}


def _worst(read: Sequence[_Read]) -> list[dict[str, Any]]:
    """List the clips with the largest share of missing labels; the test split is without labels by nature."""
    found: list[dict[str, Any]] = [
        {
            "clip": one.clip.id,
            "split": one.clip.split,
            "frames": one.clip.num_frames,
            "missing": 1 - one.labelled / one.clip.num_frames,
        }
        for one in read
        if one.clip.num_frames and one.labelled < one.clip.num_frames and one.clip.split != "test"
    ]
    return sorted(found, key=lambda row: (-row["missing"], row["clip"]))[:WORST]


def _beyond(read: Sequence[_Read]) -> dict[str, Any]:
    """Say how many annotations are longer and shorter than their video, and by how much the worst."""
    off = sorted((one for one in read if one.surplus), key=lambda one: (-abs(one.surplus), one.clip.id))
    worst = [
        {
            "clip": one.clip.id,
            "split": one.clip.split,
            "frames": one.surplus,
            "seconds": one.surplus / one.rate_hz,
            "duration_s": one.clip.duration_s,
        }
        for one in off[:WORST]
    ]
    return {
        "longer": sum(one.surplus > 0 for one in off),
        "shorter": sum(one.surplus < 0 for one in off),
        "worst": worst,
    }
