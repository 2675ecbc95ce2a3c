"""RECOLA, and whatever has one file per axis and recording with a value per time -> Corpus.

Files of one name lie in two folders side by side called `arousal` and `valence`, anywhere below the root:
`ratings_gold_standard/{arousal,valence}/train_1.arff` (AVEC 2015 and 2016: attributes `Instance_name`, `frameTime`,
`GoldStandard`), or `RECOLA-Annotation/emotional_behaviour/{arousal,valence}/P16.csv` (`time;FM1 ;FM2 ;...`, a column
per rater). Of several such pairs of folders the one below a folder called `gold...` is meant; of several still, none is
chosen. Several raters are averaged, plainly: that is not the gold standard of AVEC, which weighs and aligns them.

The video has the name of the file (`train_1.mp4`) and is anywhere below the root. `train_`, `dev_` and `test_` give the
split; other names are divided by person, or as `splits.csv` (`name,split`) at the root says. A recording is a person of
its own unless `identities.csv` says otherwise.

Sources: `@relation`, attributes, `;`, 0.04 s and 7501 lines as AVEC 2016's own scripts and public readers have them
(github.com/AudioVisualEmotionChallenge/AVEC2018, `scripts_GES`; End2You); Ringeval et al., RECOLA, FG 2013. Not
verified on the data set itself.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from va.data import sources, tree
from va.data.corpus import Corpus, Skipped
from va.data.rows import Rows, read_rows
from va.data.sources import Probe, Progress, Series
from va.errors import VAError

TIME_COLUMNS: Final = ("time", "frametime", "timestamp", "time_s", "seconds")
_NAME_COLUMNS: Final = ("name", "instance_name", "instance")
_SUFFIXES: Final = (".csv", ".arff")


def read_tree(
    root: Path,
    *,
    out: Path,
    name: str,
    scale: tuple[float, float],
    val_share: float,
    probe: Probe,
    progress: Progress,
) -> Corpus:
    """Read a tree and write its manifest.

    Args:
        root: Top of the tree.
        out: Folder for `corpus.json` and the sidecars.
        name: A name for reports.
        scale: Lowest and highest label of both axes.
        val_share: Share of the people for `val` where names tell no split.
        probe: Looks at the videos.
        progress: Called with (videos done, videos in all).

    Raises:
        VAError: No pair of folders, several, or no clip that can be used.
    """
    return sources.build_recordings(
        root, _pairs, _both, scale=scale, out=out, name=name, val_share=val_share, probe=probe, progress=progress
    )


def _both(valence: Path, arousal: Path) -> Series:
    """Read a recording's two files."""
    time_s, first = _axis(read_rows(valence))
    other_s, second = _axis(read_rows(arousal))
    if not np.array_equal(time_s, other_s):
        raise VAError(f"{valence}: has other times than {arousal}", "Use files of one release.")
    return time_s, first, second


def times(rows: Rows, place: int) -> NDArray[np.float64]:
    """Give a column of times in seconds.

    Raises:
        VAError: One is no number, negative, or not after the one before; names the line.
    """
    time_s = rows.numbers(place)
    wrong = ~(np.diff(time_s, prepend=-1.0) > 0) | ~(time_s >= 0)
    if wrong.any():
        line = rows.lines[int(np.argmax(wrong))]
        raise VAError(f"{rows.path}, line {line}: its time is not after the one before", "Sort or correct the lines.")
    return time_s


def _axis(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read times and values of one axis; several raters' are averaged, those who say nothing left out."""
    place = next((rows.header.index(name) for name in TIME_COLUMNS if name in rows.header), None)
    if place is None:
        raise VAError(f"{rows.path}: has no column of times", f"Call it one of {', '.join(TIME_COLUMNS)}.")
    columns = [at for at, name in enumerate(rows.header) if at != place and name not in _NAME_COLUMNS]
    if not columns:
        raise VAError(f"{rows.path}: has no column of values", "A file needs a value for each time.")
    said = np.stack([rows.numbers(at) for at in columns])
    there = np.isfinite(said)
    counts = there.sum(axis=0)
    means = np.where(there, said, 0).sum(axis=0) / np.maximum(counts, 1)
    return times(rows, place), np.where(counts > 0, means, np.nan)


def _pairs(root: Path, there: list[Path], skipped: list[Skipped]) -> dict[str, tuple[Path, Path]]:
    """Find each recording's two files."""
    folders: dict[Path, dict[str, dict[str, Path]]] = {}
    for file in there:
        axis = file.parent.name.lower()
        if axis in ("valence", "arousal") and file.suffix.lower() in _SUFFIXES:
            folders.setdefault(file.parent.parent, {}).setdefault(axis, {})[file.stem] = file
    whole = [folder for folder, axes in folders.items() if len(axes) == 2]
    chosen = [folder for folder in whole if "gold" in tree.below(root, folder).lower()] or whole
    if not chosen:
        raise VAError(f"{root}: has no folders 'valence' and 'arousal' side by side", "Give the top of the data set.")
    if len(chosen) > 1:
        raise VAError(
            f"{root}: there are several annotations: {', '.join(tree.below(root, folder) for folder in chosen)}",
            "Give a folder that holds one of them and the videos.",
        )
    for folder in set(folders) - {chosen[0]}:
        skipped.append(Skipped(what=tree.below(root, folder), why=f"{tree.below(root, chosen[0])} was taken"))
    valence, arousal = (folders[chosen[0]][axis] for axis in ("valence", "arousal"))
    for one, other, missing in ((valence, arousal, "arousal"), (arousal, valence, "valence")):
        for alone in sorted(set(one) - set(other)):
            skipped.append(Skipped(what=tree.below(root, one[alone]), why=f"has no file of its name in {missing}/"))
    return {name: (valence[name], arousal[name]) for name in sorted(set(valence) & set(arousal))}
