"""What a corpus holds (`va/data/overview.py`) -> one self-contained page, made like an evaluation report."""

from pathlib import Path
from typing import Any, Final

from va import files
from va.evaluate.pages import corpus_tables, markup
from va.evaluate.pages.corpus_tables import Item, as_html
from va.evaluate.pages.document import document
from va.evaluate.pages.markup import text
from va.evaluate.pages.report_charts import region_labels
from va.evaluate.pages.report_tables import share

_DRAWN: Final = "A synthetic corpus: drawn faces and synthesised voices, not people."


def write_page(found: Item, directory: Path) -> Path:
    """Write `index.html` and `summary.json`, each whole or not at all.

    Args:
        found: From `overview.overview`.
        directory: Made where missing.

    Returns:
        The path of the page.

    Raises:
        VAError: The folder cannot be written.
    """
    page = render(found)
    files.write_json(directory / "summary.json", markup.plain(_shared(found)))
    files.write_text(directory / "index.html", page)
    return directory / "index.html"


def render(found: Item) -> str:
    """Make the page.

    Args:
        found: From `overview.overview`.

    Returns:
        One HTML document that refers to nothing outside itself.
    """
    labelled = [name for name, split in found["splits"].items() if split["labelled"]]
    title = f"Corpus {found['name']}"
    facts = {
        "splits": ", ".join(f"{name} {split['clips']:,}" for name, split in found["splits"].items()) or "none",
        "manifest": _shared(found)["path"],
    }
    parts = {
        "title": text(title),
        "facts": markup.terms(facts.items()),
        "cards": _cards(found),
        "remarks": "".join(f'<p class="note">{text(said)}</p>' for said in corpus_tables.remarks(found)),
        "splits": as_html("splits", corpus_tables.splits(found)),
        "overlap": _overlap(found),
        "maps": "".join(map(_map_figure, range(len(labelled)), labelled)) or _NO_LABELS,
        "regions": as_html("regions-table", corpus_tables.regions(found)) if labelled else "",
        "worst": _table(found, "worst", "No frame of train or val is without a label."),
        "lengths": text(corpus_tables.lengths(found)),
        "rates": as_html("rates", corpus_tables.rates(found)),
        "beyond": _table(found, "beyond", "Every annotation is as long as its video."),
        "decisions": _decisions(found),
    }
    return document(
        title=title,
        styles=("report.css", "corpus.css"),
        banner=_DRAWN if found["synthetic"] else "",
        content=markup.fill(markup.template("corpus.html"), parts),
        data=chart_data(found),
        scripts=("corpus.js",),
    )


_NO_LABELS: Final = '<p class="note">No frame of this corpus has a label.</p>'


def _shared(found: Item) -> dict[str, Any]:
    """Leave out where on this machine the corpus lies: pages are passed on."""
    return {**found, "path": "/".join(Path(found["path"]).parts[-2:])}


def chart_data(found: Item) -> dict[str, Any]:
    """Lay out what the charts draw: a map of regions per split, arousal up and valence to the right, and lengths.

    Args:
        found: From `overview.overview`.
    """
    side = round(len(found["centers"]) ** 0.5)
    names = region_labels(found["texts"])
    maps = []
    for split in found["splits"].values():
        if split["labelled"]:
            shares = [count / split["labelled"] for count in split["regions"]]
            maps.append(
                {
                    "share": [[shares[side * column + row] for column in range(side)] for row in range(side)],
                    "text": [[_brief(shares[side * column + row]) for column in range(side)] for row in range(side)],
                    "count": [
                        [f"{split['regions'][side * column + row]:,}" for column in range(side)] for row in range(side)
                    ],
                }
            )
    axis = [arousal for _, arousal in found["centers"][:side]]
    return {
        "maps": maps,
        "top": max([0.0, *(value for drawn in maps for row in drawn["share"] for value in row)]),
        "labels": [[names[side * column + row] for column in range(side)] for row in range(side)],
        "axis": [markup.number(value, 2) for value in axis],
        "lengths": found["lengths"],
    }


def _cards(found: Item) -> str:
    annotated = [split for split in found["splits"].values() if split["labelled"]]
    frames, labelled = (sum(split[key] for split in annotated) for key in ("frames", "labelled"))
    missing = share(1 - labelled / frames) if frames else "n/a"
    where = " and ".join(name for name, split in found["splits"].items() if split["labelled"])
    count = len(found["splits"])
    cards = (
        ("Clips", f"{corpus_tables.total(found, 'clips'):,.0f}", f"in {count} split{'' if count == 1 else 's'}"),
        ("Hours of video", f"{corpus_tables.total(found, 'hours'):,.2f}", corpus_tables.lengths(found)),
        ("Labelled frames", _short(labelled), f"of {frames:,} in {where or 'no split'}; {missing} missing"),
    )
    return "".join(
        f'<div class="card"><h3>{name}</h3><span class="number">{text(value)}</span>'
        f'<span class="interval">{text(note)}</span></div>'
        for name, value, note in cards
    )


def _brief(value: float) -> str:
    return share(value).replace("less than ", "<")


def _short(count: float) -> str:
    """Write a large count so that it fits a card: 2.94 M, 12,345."""
    return f"{count / 1e6:.2f} M" if count >= 1e6 else f"{count:,.0f}"


def _map_figure(index: int, split: str) -> str:
    label = f"Shares of the labels of {split} by nearest region. The table below says the same."
    return (
        f"<figure><figcaption><h3>{text(split)}</h3></figcaption>"
        f'<div class="chart grid" data-index="{index}" role="img" aria-label="{text(label)}"></div></figure>'
    )


def _overlap(found: Item) -> str:
    """The people of more than one split, by name."""
    if not found["overlap"]:
        return '<p class="muted">No identity is in two splits.</p>'
    items = "".join(
        f"<li><span>{text(row['identity'])}</span><span>"
        f"{text(', '.join(f'{name} {clips:,}' for name, clips in row['splits'].items()))}</span></li>"
        for row in found["overlap"]
    )
    return (
        f"<details><summary>Identities in more than one split, with their clips ({len(found['overlap']):,})</summary>"
        f'<ul class="regions">{items}</ul></details>'
    )


def _table(found: Item, name: str, otherwise: str) -> str:
    table = {"worst": corpus_tables.worst, "beyond": corpus_tables.beyond}[name](found)
    return as_html(name, table) if table[2] else f'<p class="muted">{otherwise}</p>'


def _decisions(found: Item) -> str:
    rows = corpus_tables.decisions(found)
    if not rows:
        return ""
    items = "".join(f"<div><dt>{text(clip)}</dt><dd>{text(done)}: {text(why)}</dd></div>" for clip, done, why in rows)
    return (
        '<section aria-labelledby="decisions"><h2 id="decisions">Decisions</h2><p class="muted">Written by \'va corpus '
        "check --fix' or by hand into the manifest; every figure of this page honours them.</p>"
        f'<dl class="provenance decided">{items}</dl></section>'
    )
