"""A table of one's own, CSV or Parquet, with a row per label -> Corpus.

Columns (their names are options): `media`, a path from the table's folder; `valence` and `arousal` on a scale that is
given; and, where they are there, `time` in seconds from the start of the video, `split`, `identity` and `clip`, a name
for the clip, needed where two people are in one video. Without `time` a clip has one row, which holds for all of it.
An empty cell, or NaN, in either axis is a frame without a label. A CSV file may have `,`, `;` or tabs between cells.
Parquet takes pyarrow, which `pip install 'pyarrow>=17'` brings.

Without `split`, people are divided by a hash of `identity`, which is the clip where there is no such column.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np

from va.data import placing, sources, tree
from va.data.corpus import Corpus, Skipped
from va.data.identities import split_named, splits_of
from va.data.placing import Labels
from va.data.rows import number, one_each, read_rows
from va.data.sources import Probe, Progress, Source
from va.errors import VAError

Scale = tuple[float, float]
_PARQUET: Final = (".parquet", ".pq")


@dataclass(frozen=True, kw_only=True)
class Columns:
    """What the columns are called; those that are not called as their fields here must be there."""

    media: str
    time: str
    valence: str
    arousal: str
    split: str
    identity: str
    clip: str


@dataclass(kw_only=True)
class _Clip:
    """A clip's rows so far: the line of each and its numbers."""

    media: str
    split: str
    identity: str
    lines: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    valence: list[float] = field(default_factory=list)
    arousal: list[float] = field(default_factory=list)


def read_table(
    table: Path,
    *,
    out: Path,
    name: str,
    columns: Columns,
    valence_scale: Scale,
    arousal_scale: Scale,
    media_root: Path | None,
    val_share: float,
    probe: Probe,
    progress: Progress,
) -> Corpus:
    """Read a table and write its manifest.

    Args:
        table: The CSV or Parquet file.
        out: Folder for `corpus.json` and the sidecars.
        name: A name for reports.
        columns: What the columns are called.
        valence_scale: Lowest and highest valence.
        arousal_scale: Lowest and highest arousal.
        media_root: Folder that media are named from, and lie below; None for the table's own.
        val_share: Share of the people for `val` where the table has no split.
        probe: Looks at the videos.
        progress: Called with (videos done, videos in all).

    Raises:
        VAError: The table cannot be read, lacks a column or has two of one name, a split is none, a clip is in two
            splits or videos, or no clip can be used.
    """
    root = (media_root or table.parent).absolute()
    cells, lines = _read(table)
    clips = _clips(table, cells, lines, columns)
    timed = columns.time.lower() in cells
    people = {clip: rows.identity for clip, rows in clips.items()}
    told = columns.split.lower() in cells
    splits = _splits(table, clips) if told else splits_of(root, people, val_share=val_share)
    skipped: list[Skipped] = []
    hint = ""
    listed = []
    for clip, rows in clips.items():
        where = f"{table.name}, line {rows.lines[0]}"
        try:
            media = _media(root, rows.media)
            labels = _labels(table, rows, timed=timed, valence_scale=valence_scale, arousal_scale=arousal_scale)
        except VAError as error:
            skipped.append(Skipped(what=where, why=tree.reason(error, where, root)))
            hint = hint or error.hint
            continue
        listed.append(
            Source(id=clip, media=media, split=splits[clip], identity=people[clip], labels=labels, where=where)
        )
    if not listed and skipped:
        first = f"the first reason: {skipped[0].what}: {skipped[0].why}"
        raise VAError(f"{table}: no clip can be used; {first}", hint)
    return sources.build(
        listed, skipped=skipped, out=out, name=name, synthetic=False, media_root=root, probe=probe, progress=progress
    )


def _clips(table: Path, cells: dict[str, Sequence[str]], lines: Sequence[int], columns: Columns) -> dict[str, _Clip]:
    """Gather each clip's rows."""
    for name, column in vars(columns).items():
        needed = name in ("media", "valence", "arousal") or column != name
        if needed and column.lower() not in cells:
            raise VAError(f"{table}: has no column '{column}'", f"Its columns: {', '.join(cells) or 'none'}.")
    nothing = ("",) * len(lines)
    media = cells[columns.media.lower()]
    optional = [cells.get(name.lower(), nothing) for name in (columns.clip, columns.split, columns.identity)]
    times = cells.get(columns.time.lower(), ("0",) * len(lines))
    found: dict[str, _Clip] = {}
    for at, line in enumerate(lines):
        if not PurePosixPath(media[at]).name:
            raise VAError(f"{table}, line {line}: names no video", f"Fill the column '{columns.media}'.")
        named, split, identity = (column[at] for column in optional)
        clip = named or str(PurePosixPath(media[at]).with_suffix("")).replace("/", "_")
        rows = found.setdefault(clip, _Clip(media=media[at], split=split, identity=identity or clip))
        if (rows.media, rows.split, rows.identity) != (media[at], split, identity or clip):
            raise VAError(
                f"{table}, line {line}: clip '{clip}' has another video, split or identity than in line"
                f" {rows.lines[0]}",
                "Correct the line, or name clips apart in a column 'clip'.",
            )
        rows.lines.append(line)
        rows.times.append(number(times[at], table, line))
        rows.valence.append(number(cells[columns.valence.lower()][at], table, line))
        rows.arousal.append(number(cells[columns.arousal.lower()][at], table, line))
    return found


def _splits(table: Path, clips: Mapping[str, _Clip]) -> dict[str, str]:
    found = {}
    for clip, rows in clips.items():
        split = split_named(rows.split)
        if split is None:
            raise VAError(f"{table}, line {rows.lines[0]}: '{rows.split}' is no split", "Use train, val or test.")
        found[clip] = split
    return found


def _media(root: Path, name: str) -> Path:
    path = PurePosixPath(name)
    inside = root.joinpath(path)
    if ".." in path.parts or not inside.is_relative_to(root):
        raise VAError(f"'{name}' leaves {root}", "Name the folder of all media with --media-root.")
    if not inside.is_file():
        raise VAError(f"there is no file '{name}'", "Correct the path; it is from the table's folder or --media-root.")
    return inside


def _labels(table: Path, rows: _Clip, *, timed: bool, valence_scale: Scale, arousal_scale: Scale) -> Labels:
    axes = []
    told = "--scale" if valence_scale == arousal_scale else "--arousal-scale"
    for values, scale, option in ((rows.valence, valence_scale, "--scale"), (rows.arousal, arousal_scale, told)):
        try:
            axes.append(placing.on_scale(np.array(values, np.float64), *scale))
        except VAError as error:
            raise VAError(f"of its rows, {error.message}", f"Give {option}, e.g. {option} 1..9.") from None
    va, valid = placing.arrays(axes[0], axes[1])
    if not timed:
        if len(va) > 1:
            raise VAError(f"has {len(va)} rows but the table has no times", "Add a column of times in seconds.")
        return placing.constant(va[0], bool(valid[0]))
    time_s = np.array(rows.times, np.float64)
    order = np.argsort(time_s, kind="stable")
    time_s = time_s[order]
    if not (time_s >= 0).all() or (np.diff(time_s) <= 0).any():
        raise VAError("a time is missing, negative or there twice", "Correct the rows of this clip.")
    return placing.by_time(time_s, va[order], valid[order])


def _read(table: Path) -> tuple[dict[str, Sequence[str]], Sequence[int]]:
    """Give the cells of each column by its name in lower case, and the line (of Parquet, the row) of each row."""
    if table.suffix.lower() in _PARQUET:
        return _read_parquet(table)
    rows = read_rows(table)
    one_each(table, rows.header)
    return {name: rows.column(name) for name in rows.header}, rows.lines


def _read_parquet(table: Path) -> tuple[dict[str, Sequence[str]], Sequence[int]]:
    try:
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise VAError(f"{table}: reading Parquet takes pyarrow", "Install it: pip install 'pyarrow>=17'.") from None
    if not table.is_file():
        raise VAError(f"{table}: cannot be read (no such file)", "Check the path.")
    try:
        read = parquet.read_table(table)
        header = [str(name).lower() for name in read.column_names]
        values = [column.to_pylist() for column in read.columns]
    except Exception as error:  # pyarrow reports damage as many types
        raise VAError(f"{table}: is no Parquet file that can be read ({error})", "Write it again.") from None
    one_each(table, header)
    columns = dict[str, Sequence[str]]()
    for name, cells in zip(header, values, strict=True):
        columns[name] = tuple("" if cell is None else str(cell) for cell in cells)
    return columns, range(1, len(next(iter(columns.values()), ())) + 1)
