"""A sweep's `results.json` -> one self-contained page: heat maps, ranking, paired differences, the paper's rows.

Looks like an evaluation report and is made from the same parts (`va/evaluate/pages/markup.py`): numbers and text are
plain HTML, only the heat maps need JavaScript. `va/train/sweep.py` says what the results hold.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from va import files
from va.evaluate.pages import markup, sweep_tables
from va.evaluate.pages.document import document
from va.evaluate.pages.markup import number, text
from va.evaluate.pages.sentences import demo_banner
from va.evaluate.pages.sweep_tables import Item, describe, interval, is_published, tuning

_ROW_HEIGHT, _AXIS_HEIGHT = 78, 72
"""Pixels of a heat map's row, and of what stands below the rows."""


def write_page(results: Item, directory: Path) -> Path:
    """Write `index.html`, whole or not at all.

    Args:
        results: What `results.json` holds; at least one cell.
        directory: Made where missing.

    Returns:
        The path of the page.

    Raises:
        VAError: The folder cannot be written.
    """
    files.write_text(directory / "index.html", render(results))
    return directory / "index.html"


def render(results: Item) -> str:
    """Make the page.

    Args:
        results: What `results.json` holds; at least one cell.

    Returns:
        One HTML document that refers to nothing outside itself.
    """
    maps = heat_maps(results)
    facts = {
        "corpus": results["corpus"]["name"] + (" (synthetic)" if results["corpus"]["synthetic"] else ""),
        "trials": f"{len(results['trials'])} of {len(results['trials']) + len(results['failed'])} finished",
        "ranked on": results["ranked_on"]["split"],
        "created": results["created"],
    }
    title = f"Sweep of the region grid on {results['corpus']['name']}"
    first = results["cells"][0]
    parts = {
        "title": text(title),
        "facts": markup.terms(facts.items()),
        "best": text(f"{describe(first)}, {tuning(first)}"),
        "cards": "".join(map(sweep_tables.card, ("valence", "arousal", "mean"), sweep_tables.scores(first))),
        "ranked": text(_ranked_on(results)),
        "caution": text(_caution(results)),
        "run": _best_run(results),
        "failed": _failed(results),
        "maps": "".join(map(_map_figure, range(len(maps)), maps)) + _map_note(results, maps),
        "ranking": sweep_tables.ranking(results),
        "pairs": sweep_tables.pairs(results),
        "published": sweep_tables.published(results),
        "provenance": markup.terms(_provenance(results)),
    }
    return document(
        title=title,
        styles=("report.css", "sweep.css"),
        banner=demo_banner(is_demo=results["demo_encoders"], synthetic=results["corpus"]["synthetic"]),
        content=markup.fill(markup.template("sweep.html"), parts),
        data={"maps": maps, "range": _colours(maps)},
        scripts=("sweep.js",),
    )


def heat_maps(results: Item) -> list[dict[str, Any]]:
    """Lay the cells out as the charts draw them: sigmas up, centres right, one map for each of what else varies.

    Args:
        results: What `results.json` holds.

    Returns:
        Per map its title, the axes' labels and, as [sigmas][centers] with None where nothing finished, means, texts
        and hover texts; `marks` are the cells to be outlined.
    """
    cells = [cell for cell in results["cells"] if cell["center"] is not None]
    maps = []
    for kind in sorted(set(map(_kind, cells))):
        here = {(cell["center"], cell["sigma"]): cell for cell in cells if _kind(cell) == kind}
        centers, sigmas = (sorted({place[axis] for place in here}) for axis in range(2))
        rows = [[here.get((center, sigma)) for center in centers] for sigma in sigmas]
        maps.append(
            {
                "title": tuning(next(iter(here.values()))),
                "centers": [f"±{center:g}" for center in centers],
                "sigmas": [f"{sigma:g}" for sigma in sigmas],
                "mean": [[cell and cell["ccc_mean"]["value"] for cell in row] for row in rows],
                "text": [[cell and _in_map(cell) for cell in row] for row in rows],
                "hover": [[cell and _on_hover(cell) for cell in row] for row in rows],
                "marks": [
                    {"x": centers.index(center), "y": sigmas.index(sigma), "best": cell is results["cells"][0]}
                    for (center, sigma), cell in here.items()
                    if cell is results["cells"][0] or any(is_published(cell, row) for row in results["published"])
                ],
            }
        )
    return maps


def _kind(cell: Item) -> tuple[float, float, int]:
    """What the cells of a heat map share."""
    return cell["region_weight"], cell["learning_rate"], cell["context"]


def _in_map(cell: Item) -> str:
    mean = cell["ccc_mean"]
    return f"<b>{number(mean['value'])}</b>" + (f"<br>{interval(mean)}" if mean["low"] is not None else "")


def _on_hover(cell: Item) -> str:
    lines = [f"{describe(cell)}, {len(cell['seeds'])} seeds"]
    for name, figure in zip(("valence", "arousal", "mean"), sweep_tables.scores(cell), strict=True):
        lines.append(f"{name} {number(figure['value'])} ({interval(figure)})")
    return "<br>".join(lines)


def _colours(maps: Sequence[Item]) -> tuple[float, float]:
    """The means that the ends of the colour scale stand for; equal ones would make no scale."""
    means = [mean for drawn in maps for row in drawn["mean"] for mean in row if mean is not None] or [0.0]
    room = 0.0 if max(means) > min(means) else 0.005
    return min(means) - room, max(means) + room


def _map_figure(index: int, drawn: Item) -> str:
    """The frame around one heat map."""
    height = _ROW_HEIGHT * max(2, len(drawn["sigmas"])) + _AXIS_HEIGHT
    label = text(f"Mean CCC by outer centre and sigma, {drawn['title']}. The table of all cells says the same.")
    return (
        f"<figure><figcaption><h3>{text(drawn['title'])}</h3></figcaption>"
        f'<div class="chart heat" style="height: {height}px" data-index="{index}" role="group" tabindex="0" '
        f'aria-label="{label}"></div></figure>'
    )


def _map_note(results: Item, maps: Sequence[Item]) -> str:
    """What the outlines and colours of the maps mean, and where the cells without a region term are."""
    said = []
    if maps:
        low, high = _colours(maps)
        if any(mark["best"] for drawn in maps for mark in drawn["marks"]):
            said.append("Solid outline: first in the ranking.")
        if results["published"]:
            said.append("Dotted outline: a row of paper table 3.")
        said.append(f"The colours span this sweep's own means, {number(low)} to {number(high)}, however close they are")
        halves = [
            (cell["ccc_mean"]["high"] - cell["ccc_mean"]["low"]) / 2
            for cell in results["cells"]
            if cell["ccc_mean"]["low"] is not None
        ]
        half = f"; half the median width of their intervals is {number(statistics.median(halves))}" if halves else ""
        said[-1] += f"{half}."
    if any(cell["center"] is None for cell in results["cells"]):
        said.append(
            "Without a region term (lambda 0) nothing depends on centres and sigma: that is one cell of the ranking, "
            "not a map."
        )
    return f'<p class="muted">{text(" ".join(said))}</p>'


def _ranked_on(results: Item) -> str:
    settings, split = results["settings"], results["ranked_on"]["split"]
    share = f"dev, {settings['dev_fraction']:.0%} of the training identities, drawn anew by each seed"
    count = len(settings["seeds"])
    over = f"mean over {count} seeds" if count > 1 else "one seed, so there is no interval"
    return f"Ranked by mean CCC (abaw protocol) on {share if split == 'dev' else split}; {over}."


def _caution(results: Item) -> str:
    """What the ranking is not."""
    count = len(results["cells"])
    first = f"The first of {count} cells is flattered by having been chosen." if count > 1 else ""
    if results["ranked_on"]["split"] == "dev":
        said = f"Dev is not the split that is reported: score the run on val with 'va evaluate'. {first}"
    else:
        said = f"The choice was made on val (--select-on val), which reports score: its figures are flattered. {first}"
    whole = len(results["settings"]["seeds"])
    if len(results["cells"][0]["seeds"]) < whole:
        said += " No cell finished with all of its seeds, so the ranking compares means over different dev splits."
    elif any(len(cell["seeds"]) < whole for cell in results["cells"]):
        said += " Cells that lack a seed are ranked last: their means are of fewer dev splits."
    return said.replace("  ", " ").strip()


def _best_run(results: Item) -> str:
    best, seeds = results["best"], results["cells"][0]["seeds"]
    run = f"<code>{text(best['run'])}</code> (seed {text(best['seed'])})"
    if len(seeds) == 1:
        return f"Its run is {run}."
    said = f"Of its seeds, the one with the highest score made {run}"
    if results["ranked_on"]["split"] == "dev":
        said += "; each seed has dev clips of its own, so that choice is a convention rather than a finding"
    return said + "."


def _failed(results: Item) -> str:
    """The trials that did not finish, if any."""
    failed = results["failed"]
    if not failed:
        return ""
    items = "".join(
        f"<li>{text(describe(one))}, {text(tuning(one))}, seed {text(one['seed'])} (<code>{text(one['run'])}</code>): "
        f"{text(one['message'])}. {text(one['fix'])}</li>"
        for one in failed
    )
    tried = len(failed) + len(results["trials"])
    return (
        '<section aria-labelledby="failures"><h2 id="failures">Failed trials</h2>'
        f'<p class="note">{len(failed)} of {tried} trials failed; no figure of this page has them.</p>'
        f'<ul class="failures">{items}</ul></section>'
    )


def _provenance(results: Item) -> list[tuple[str, str]]:
    corpus, features = results["corpus"], results["features"]
    pairs = [("Corpus", f"{corpus['name']}, identity {corpus['digest']}")]
    pairs += [
        (f"{name.capitalize()} features", f"{found['folder']}, identity {found['digest']}")
        for name, found in features.items()
    ]
    for row in results["trials"]:
        figures = ", ".join(f"{name} {number(row[f'ccc_{name}'])}" for name in ("valence", "arousal", "mean"))
        pairs.append(
            (
                f"Trial {row['run']}",
                f"{describe(row)}, {tuning(row)}, seed {row['seed']}: {figures}; epoch {row['best_epoch']} of "
                f"{row['epochs']}; {sum(row['seconds'].values()):.0f} s in a stack of {row['trained_together']}",
            )
        )
    pairs += [(f"Setting {name}", str(value)) for name, value in results["settings"].items()]
    return pairs + [(f"Version of {name}", version) for name, version in results["versions"].items()]
