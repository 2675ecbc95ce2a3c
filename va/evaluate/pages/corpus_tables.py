"""What `va.data.overview` found as text, for the terminal and for the page: tables, and sentences that warn."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from va.evaluate.pages.markup import number, scrolling_table, text
from va.evaluate.pages.report_tables import share

Item = Mapping[str, Any]
"""A part of an overview."""

Rows = list[tuple[str, ...]]
Table = tuple[str, tuple[str, ...], Rows]
"""Title, header and rows; the first column is text, the others are numbers."""

_DONE: Final = {
    "drop": "left out",
    "read-again": "text read again",
    "swap": "valence and arousal exchanged",
    "labels-until": "no label from {until_s:.2f} s on",
}
_NAMED: Final = 5


def printed(found: Item) -> list[Table]:
    """Give the tables that the terminal shows: splits, regions and, where there are any, clips that stand out."""
    tables = [splits(found), regions(found), rates(found)]
    tables += [table for table in (worst(found), beyond(found)) if table[2]]
    return tables


def splits(found: Item) -> Table:
    """A row per split, and their sum."""
    header = ("split", "clips", "identities", "hours", "frames", "labelled", "missing")
    rows = [_split_row(name, split) for name, split in found["splits"].items()]
    return f"{found['name']}{' (synthetic)' if found['synthetic'] else ''}", header, rows


def regions(found: Item) -> Table:
    """A row per region, with the share of each split's labels whose nearest centre is its."""
    names = [name for name, split in found["splits"].items() if split["labelled"]]
    rows = []
    for index, (words, (valence, arousal)) in enumerate(zip(found["texts"], found["centers"], strict=True)):
        shares = [found["splits"][name]["regions"][index] / found["splits"][name]["labelled"] for name in names]
        place = f"{words} ({number(valence, 2)}, {number(arousal, 2)})"
        rows.append((place, *map(share, shares)))
    return "Labels by nearest region", ("region (valence, arousal)", *names), rows


def rates(found: Item) -> Table:
    """Clips by how often they are annotated."""
    rows: Rows = [(row["rate"], f"{row['clips']:,}") for row in found["rates"]]
    return "Annotation", ("label times per second", "clips"), rows


def worst(found: Item) -> Table:
    """Clips with the most labels missing."""
    rows: Rows = [(row["clip"], row["split"], f"{row['frames']:,}", share(row["missing"])) for row in found["worst"]]
    return "Most labels missing", ("clip", "split", "frames", "missing"), rows


def beyond(found: Item) -> Table:
    """Clips whose annotation is longer or shorter than their video."""
    rows: Rows = [
        (
            row["clip"],
            row["split"],
            _signed(row["frames"]),
            f"{_signed(row['seconds'], 2)} s",
            _clock(row["duration_s"]),
        )
        for row in found["beyond"]["worst"]
    ]
    return "Annotation against video", ("clip", "split", "frames", "time", "video"), rows


def remarks(found: Item) -> list[str]:
    """Say in sentences what a reader must know before using the corpus; nothing where all is well."""
    said = []
    if found["overlap"]:
        names = [f"{row['identity']} ({', '.join(row['splits'])})" for row in found["overlap"][:_NAMED]]
        more = len(found["overlap"]) - len(names)
        said.append(
            f"Warning: {_count(len(found['overlap']), 'identity', 'identities')} in more than one split: "
            f"{', '.join(names)}{f' and {more} more' if more else ''}. Scores between these splits are not about "
            "strangers."
        )
    if found["constant"] and 2 * found["constant"] >= found["annotated"]:
        said.append(
            f"{found['constant']:,} of {found['annotated']:,} labelled clips have one label from beginning to end, as "
            "where utterances are labelled and not frames: labelled frames are those that got it, not labels given."
        )
    longer, shorter = found["beyond"]["longer"], found["beyond"]["shorter"]
    if longer or shorter:
        said.append(
            f"Annotations longer than their video: {longer}; shorter: {shorter}. Some frames more or less are usual."
        )
    if found["decisions"]:
        said.append(
            f"{_count(len(found['decisions']), 'decision')} in force; 'va corpus check CORPUS --unfix' takes them back."
        )
    return said


def lengths(found: Item) -> str:
    """One sentence on how long clips are."""
    low, middle, high = found["lengths"]["quantiles_s"]
    return f"From {_clock(low)} to {_clock(high)}, median {_clock(middle)}."


def decisions(found: Item) -> list[tuple[str, str, str]]:
    """Clip, what was decided and why."""
    return [
        (row["clip"], _DONE[row["do"]].format(until_s=row.get("until_s") or 0.0), row["why"])
        for row in found["decisions"]
    ]


def as_html(heading: str, table: Table) -> str:
    """Put a table into the page.

    Args:
        heading: The id of the heading that names it.
        table: From a function above.
    """
    _, header, rows = table
    head = "<tr>" + "".join(f'<th scope="col">{text(name)}</th>' for name in header) + "</tr>"
    lines = [
        f'<tr><th scope="row">{text(row[0])}</th>' + "".join(f"<td>{text(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    ]
    return scrolling_table("ablation", heading, head, lines)


def _split_row(name: str, split: Item) -> tuple[str, ...]:
    return (
        name,
        f"{split['clips']:,}",
        f"{split['identities']:,}",
        f"{split['hours']:.2f}",
        f"{split['frames']:,}",
        f"{split['labelled']:,}",
        share(split["missing"]) if split["labelled"] else "no labels",
    )


def _signed(value: float, decimals: int = 0) -> str:
    return ("+" if value > 0 else "") + number(float(value), decimals)


def _clock(seconds: float) -> str:
    """Write a length as people do: 4.2 s, 3:05, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _count(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def total(found: Item, key: str) -> float:
    """Add up a figure over all splits."""
    values: Sequence[float] = [split[key] for split in found["splits"].values()]
    return sum(values)
