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

from va.data import sources
from va.data.corpus import Corpus, Skipped
from va.data.recola import TIME_COLUMNS, times
from va.data.rows import read_rows
from va.data.sources import Probe, Progress, Series
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
    return sources.build_recordings(
        root, _labels, _both, scale=scale, out=out, name=name, val_share=val_share, probe=probe, progress=progress
    )


def _labels(root: Path, there: list[Path], _: list[Skipped]) -> dict[str, tuple[Path]]:
    """Find each recording's file."""
    found: dict[str, tuple[Path]] = {}
    for file in there:
        if file.parent.name.lower() != "labels" or file.suffix.lower() != ".csv":
            continue
        (first,) = found.setdefault(file.stem, (file,))
        if first != file:
            raise VAError(f"'{file.stem}' is annotated twice: {first} and {file}", "Remove one.")
    if not found:
        raise VAError(f"{root}: has no labels/*.csv below it", "Give the folder that holds labels and videos.")
    return found


def _both(file: Path) -> Series:
    """Read times, valence and arousal."""
    rows = read_rows(file)
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
