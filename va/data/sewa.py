"""SEWA as AVEC 2017 to 2019 handed it out, and whatever has one file per recording with both axes -> Corpus.

`labels/Train_DE_01.csv`, anywhere below the root: `name;time;arousal;valence;liking`, in this order and without a
header, ten lines a second. A header in another order, or `,` between cells, is read by its names. The video has the
name of the file and is anywhere below the root. `Train_`, `Devel_` and `Test_` give the split; other names are divided
by person, or as `splits.csv` (`name,split`) at the root says. A recording is a person of its own unless
`identities.csv` says otherwise.

Sources: `scripts_CES/CES_data.py` of github.com/AudioVisualEmotionChallenge/AVEC2018 (folders, names, separator, order
of columns, no header); Kossaifi et al., SEWA DB, arXiv:1901.02839. Not verified on the data set itself.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from va.data import placing, sources, tree
from va.data.corpus import Corpus, Skipped
from va.data.recola import TIME_COLUMNS, times
from va.data.rows import Rows, read_rows
from va.data.sources import Probe, Progress
from va.data.tree import Videos
from va.errors import VAError


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
        VAError: No labels, two files of one name, or no clip that can be used.
    """
    root = root.absolute()
    skipped: list[Skipped] = []
    there = tree.find_files(root, skipped)
    found: dict[str, Path] = {}
    for file in there:
        if file.parent.name.lower() != "labels" or file.suffix.lower() != ".csv":
            continue
        if found.setdefault(file.stem, file) != file:
            raise VAError(f"'{file.stem}' is annotated twice: {found[file.stem]} and {file}", "Remove one.")
    if not found:
        raise VAError(f"{root}: has no labels/*.csv below it", "Give the folder that holds labels and videos.")
    series = []
    for clip, file in found.items():
        where = tree.below(root, file)
        try:
            time_s, valence, arousal = _both(read_rows(file))
            va, valid = placing.arrays(placing.on_scale(valence, *scale), placing.on_scale(arousal, *scale))
        except VAError as error:
            skipped.append(Skipped(what=where, why=tree.reason(error, where, root)))
            continue
        series.append((clip, placing.by_time(time_s, va, valid), where))
    return sources.build_recordings(
        root,
        series,
        videos=Videos(there, root),
        skipped=skipped,
        out=out,
        name=name,
        val_share=val_share,
        probe=probe,
        progress=progress,
    )


def _both(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Read times, valence and arousal."""
    if rows.header:
        time = next((name for name in TIME_COLUMNS if name in rows.header), None)
        if time is None or not {"valence", "arousal"} <= set(rows.header):
            raise VAError(f"{rows.path}: has no columns time, valence and arousal", "Correct its header.")
        places = (rows.header.index(time), rows.header.index("valence"), rows.header.index("arousal"))
    elif len(rows.rows[0]) >= 4:
        places = (1, 3, 2)  # name, time, arousal, valence, and maybe liking
    else:
        raise VAError(f"{rows.path}: has fewer than four columns", "Expected name;time;arousal;valence.")
    return times(rows, places[0]), rows.numbers(places[1]), rows.numbers(places[2])
