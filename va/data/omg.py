"""OMG-Emotion: a CSV file per split with one label per utterance, a video per utterance -> Corpus.

`omg_TrainVideos.csv`, `omg_ValidationVideos.csv` and `omg_TestVideos*.csv`, anywhere below the root, have the columns
`link`, `start`, `end`, `video`, `utterance`, `arousal`, `valence` and `EmotionMaxVote`. The utterance's video is
`<video>/<utterance>` or `<video>/video/<utterance>`, anywhere below the root. Arousal is from 0 (calm) to 1 and is
mapped to [-1, 1]; valence is from -1 to 1 and stays. A person is a `link`: the utterances of one YouTube video.

An utterance has one label, so each of its frames gets it. The `abaw` protocol then weighs an utterance by its length;
the challenge's own figure counts each once, and is not what `va evaluate` reports. Rows without a label are test clips.

Sources: README.md of github.com/knowledgetechnologyuhh/OMGEmotionChallenge (files and columns); Barros et al., The
OMG-Emotion Behavior Dataset, arXiv:1803.05434. That arousal begins at 0 is what public readers of the data set assume
(`(arousal - 0.5) * 2`); it was not verified on the data set itself.
"""

import re
from pathlib import Path
from typing import Final

from va.data import placing, sources, tree
from va.data.corpus import Corpus, Skipped
from va.data.placing import Labels
from va.data.rows import Rows, number, read_pairs, read_rows
from va.data.sources import Probe, Progress, Source
from va.data.tree import Videos
from va.errors import VAError

_TABLE: Final = re.compile(r"omg_(train|validation|test)videos.*\.csv", re.IGNORECASE)
_SPLITS: Final = {"train": "train", "validation": "val", "test": "test"}
_AROUSAL: Final = (0.0, 1.0)
_VALENCE: Final = (-1.0, 1.0)


def read_tree(root: Path, *, out: Path, name: str, probe: Probe, progress: Progress) -> Corpus:
    """Read a tree and write its manifest.

    Args:
        root: Folder of the CSV files and the videos.
        out: Folder for `corpus.json` and the sidecars.
        name: A name for reports.
        probe: Looks at the videos.
        progress: Called with (videos done, videos in all).

    Raises:
        VAError: No CSV file, one without the columns, two different videos of one utterance, or no clip that can be
            used.
    """
    root = root.absolute()
    skipped: list[Skipped] = []
    there = tree.find_files(root, skipped)
    tables = [(file, named[1].lower()) for file in there if (named := _TABLE.fullmatch(file.name))]
    if not tables:
        raise VAError(f"{root}: has no omg_TrainVideos.csv below it", "Give the folder of the CSV files and videos.")
    videos = Videos(there, root, key=_utterance_of)
    identities = read_pairs(root / "identities.csv", ("name", "identity"))
    listed: dict[str, Source] = {}
    # A table with labels goes before one of the same split without.
    for rows, split in sorted(((read_rows(file), _SPLITS[kind]) for file, kind in tables), key=_unlabelled):
        for source in _sources(rows, split, videos, identities, root, skipped):
            first = listed.setdefault(source.id, source)
            if first is not source:
                skipped.append(Skipped(what=source.where, why=f"is named in {first.where} already"))
    videos.left_over("is in no table", skipped)
    return sources.build(
        list(listed.values()),
        skipped=skipped,
        out=out,
        name=name,
        synthetic=False,
        media_root=root,
        probe=probe,
        progress=progress,
    )


def _unlabelled(table: tuple[Rows, str]) -> bool:
    return "valence" not in table[0].header


def _utterance_of(file: Path) -> str:
    """Name an utterance's video by its folder and itself."""
    folder = file.parent.parent if file.parent.name.lower() == "video" else file.parent
    return f"{folder.name}/{file.stem}"


def _sources(
    rows: Rows, split: str, videos: Videos, identities: dict[str, str], root: Path, skipped: list[Skipped]
) -> list[Source]:
    names, utterances = rows.column("video"), rows.column("utterance")
    links = rows.column("link") if "link" in rows.header else names
    nothing = ("",) * len(names)
    axes = [nothing if _unlabelled((rows, split)) else rows.column(axis) for axis in ("valence", "arousal")]
    found = []
    for name, utterance, link, valence, arousal, line in zip(names, utterances, links, *axes, rows.lines, strict=True):
        where = f"{tree.below(root, rows.path)}, line {line}"
        stem = re.sub(r"\.\w{2,4}$", "", utterance)
        video = videos.find(f"{name}/{stem}")
        if video is None:
            skipped.append(Skipped(what=where, why=f"there is no video '{name}/{utterance}'"))
            continue
        try:
            labels = _labels(valence, arousal, rows.path, line)
        except VAError as error:
            skipped.append(Skipped(what=where, why=tree.reason(error, where, root)))
            continue
        clip = f"{name}_{stem}"
        identity = identities.get(clip, link or name)
        found.append(Source(id=clip, media=video, split=split, identity=identity, labels=labels, where=where))
    return found


def _labels(valence: str, arousal: str, path: Path, line: int) -> Labels:
    scaled = [
        placing.on_scale(placing.one(number(cell, path, line)), *scale)
        for cell, scale in ((valence, _VALENCE), (arousal, _AROUSAL))
    ]
    va, valid = placing.arrays(*scaled)
    return placing.constant(va[0], bool(valid[0]))
