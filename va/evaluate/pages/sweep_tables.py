"""The tables of a sweep's page: ranking, paired differences, the paper's rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from va.evaluate.pages import whiskers
from va.evaluate.pages.markup import number, row_head, scrolling_table, text
from va.evaluate.pages.whiskers import signed

Item = Mapping[str, Any]
"""A part of `results.json`, as `va/train/sweep.py` writes it."""

_DRAWN: Final = (5.0, 165.0)
"""Ends of a drawn axis inside its viewBox, whose width is 170."""

_GRIDS: Final = "±0.66, sigma 0.45 and ±1, sigma 0.6"


def describe(point: Item) -> str:
    """Name a cell's grid, e.g. "±0.66, sigma 0.45".

    Args:
        point: With "center" and "sigma", both None without a region term.
    """
    return "no region term" if point["center"] is None else f"±{point['center']:g}, sigma {point['sigma']:g}"


def tuning(point: Item) -> str:
    """Name what else a cell is made of, e.g. "lambda 0.2, learning rate 0.001, 4 context vectors".

    Args:
        point: With "region_weight", "learning_rate" and "context", 0 for the fixed texts, which are not named.
    """
    said = f"lambda {point['region_weight']:g}, learning rate {point['learning_rate']:g}"
    count = point["context"]
    return f"{said}, {count} context vector{'s' * (count > 1)}" if count else said


def is_published(cell: Item, row: Item) -> bool:
    """Tell whether a cell is a row of the paper's table 3, whose texts are fixed."""
    return not cell["context"] and describe(cell) == describe(row)


def scores(cell: Item) -> list[Item]:
    """Give a cell's valence, arousal and mean."""
    return [cell[name] for name in ("ccc_valence", "ccc_arousal", "ccc_mean")]


def interval(figure: Item, *, form: Callable[[float], str] = number) -> str:
    """Write the interval of a mean over seeds.

    Args:
        figure: With "low" and "high", both None for one seed.
        form: How to write a number.
    """
    return "one seed" if figure["low"] is None else f"{form(figure['low'])} to {form(figure['high'])}"


def card(kind: str, figure: Item) -> str:
    """One headline figure.

    Args:
        kind: "valence", "arousal" or "mean".
        figure: Its mean over seeds and interval.
    """
    prefix = "" if figure["low"] is None else "<span>95% interval</span> "
    return (
        f'<div class="card {kind}"><h3>CCC {kind}</h3><span class="number">{number(figure["value"])}</span>'
        f'<span class="interval">{prefix}{interval(figure)}</span></div>'
    )


def ranking(results: Item) -> str:
    """All cells, from the first to the last.

    Args:
        results: What `results.json` holds.
    """
    cells = results["cells"]
    axis = _Axis([cell["ccc_mean"] for cell in cells])
    theirs, seeds = results["published"], len(results["settings"]["seeds"])
    rows = []
    for cell in cells:
        note = tuning(cell) + ("; paper table 3" if any(is_published(cell, row) for row in theirs) else "")
        *parts, mean = scores(cell)
        valence, arousal = (f"<td>{_figure(figure)}</td>" for figure in parts)
        count = f"{len(cell['seeds'])}" + (f" of {seeds}" if len(cell["seeds"]) < seeds else "")
        rows.append(
            f"<tr>{row_head(describe(cell), note)}<td>{_figure(mean)}</td><td>{axis.draw(mean)}</td>"
            f"{valence}{arousal}<td>{count}</td></tr>"
        )
    head = ("Cell", "CCC mean", axis.labels(), "Valence", "Arousal", "Seeds")
    return scrolling_table("sweep", "ranking", _columns(head), rows)


def pairs(results: Item) -> str:
    """Each cell against the paper's grid, against no region term, and against the fixed texts.

    Args:
        results: What `results.json` holds.
    """
    kinds = {
        "grid": (
            "Against the paper's grid (±0.66, sigma 0.45)",
            "The paper's centres and sigma were not trained beside others here, so there is nothing to compare.",
        ),
        "lambda": (
            "Against no region term (lambda 0)",
            "The region term was not switched off here; --lambdas 0,0.2 trains both.",
        ),
        "context": (
            "Against the fixed texts (context 0)",
            "No cell was trained both with learned context and without; --context 0,4 trains both.",
        ),
    }
    found = []
    for kind, (title, absent) in kinds.items():
        rows = [row for row in results["differences"] if row["of"] == kind]
        rows.sort(key=lambda row: -row["difference"]["value"])
        found.append(f'<h3 id="pairs-{kind}">{text(title)}</h3>')
        found.append(_pair_table(f"pairs-{kind}", rows) if rows else f"<p>{text(absent)}</p>")
    return "".join(found)


def published(results: Item) -> str:
    """The paper's table 3 beside the same cells here.

    Args:
        results: What `results.json` holds.
    """
    ours = " Cells with learned context are not its rows." if any(cell["context"] for cell in results["cells"]) else ""
    if not results["published"]:
        return f"<p>Neither of its rows ({_GRIDS}) was trained here.{ours}</p>"
    rows = []
    for row in results["published"]:
        for cell in results["cells"]:
            if is_published(cell, row):
                theirs = "".join(f"<td>{number(row[name], 4)}</td>" for name in _NAMES)
                own = "".join(f"<td>{_figure(figure)}</td>" for figure in scores(cell))
                rows.append(f"<tr>{row_head(describe(cell), tuning(cell))}{theirs}{own}</tr>")
    if len(results["published"]) == 2:
        rows += _published_differences(results)
    here = text(f"Here: {results['ranked_on']['split']} of {results['corpus']['name']}")
    groups = (
        '<tr><th scope="col" rowspan="2">Cell</th><th scope="colgroup" colspan="3" class="split">Published: Aff-Wild2'
        f'</th><th scope="colgroup" colspan="3" class="split">{here}</th></tr>'
    )
    names = "".join(f'<th scope="col">{name}</th>' for name in ("Valence", "Arousal", "Mean") * 2)
    return (
        "<p>The published figures are quoted, not verified here. They are of Aff-Wild2, on a split and by a protocol "
        "that the paper does not name, without repeats; ours are of other clips, by the abaw protocol, over seeds. "
        f"Compare the order of the rows, never a figure on the left with one on the right.{ours}</p>"
        + scrolling_table("sweep even", "published", f"{groups}<tr>{names}</tr>", rows)
    )


_NAMES: Final = ("ccc_valence", "ccc_arousal", "ccc_mean")


class _Axis:
    """A small axis on which means and their intervals are drawn.

    Args:
        figures: All that it must hold.
        centred: Put 0 in the middle.
    """

    def __init__(self, figures: Sequence[Item], *, centred: bool = False) -> None:
        ends = [value for figure in figures for value in figure.values() if value is not None]
        low, high = float(min(ends)), float(max(ends))
        if centred:
            low, high = -max(map(abs, ends)), max(map(abs, ends))
        room = 0.0 if high > low else 0.005
        self.low, self.high = low - room, high + room
        self.form: Callable[[float], str] = signed if centred else number

    def at(self, value: float) -> float:
        """Where a value lies."""
        first, last = _DRAWN
        share = (value - self.low) / (self.high - self.low)
        return round(first + share * (last - first), 1)

    def labels(self) -> str:
        """The values of its ends."""
        anchors = ((self.low, "start", 0), (self.high, "end", 170))
        return whiskers.svg(
            "".join(
                f'<text x="{x}" y="18" style="text-anchor: {anchor}">{self.form(value)}</text>'
                for value, anchor, x in anchors
            )
        )

    def draw(self, figure: Item) -> str:
        """A mean and its interval."""
        drawn = f'<line class="grid" x1="{_DRAWN[0]}" x2="{_DRAWN[1]}" y1="11" y2="11"/>'
        if self.low < 0 < self.high:
            drawn += f'<line class="zero" x1="{self.at(0)}" x2="{self.at(0)}" y1="0" y2="22"/>'
        if figure["low"] is not None:
            low, high = self.at(figure["low"]), self.at(figure["high"])
            drawn += f'<line class="range" x1="{low}" x2="{high}" y1="11" y2="11"/>'
        return whiskers.svg(drawn + f'<circle cx="{self.at(figure["value"])}" cy="11" r="4.5"/>')


def _figure(figure: Item, form: Callable[[float], str] = number) -> str:
    between = interval(figure, form=form)
    return f'<span class="number">{form(figure["value"])}</span><span class="interval">{between}</span>'


def _columns(names: Sequence[str]) -> str:
    return "<tr>" + "".join(f'<th scope="col">{name}</th>' for name in names) + "</tr>"


def _excludes_zero(figure: Item) -> bool:
    return figure["low"] is not None and not figure["low"] <= 0 <= figure["high"]


def _pair_table(heading: str, rows: Sequence[Item]) -> str:
    axis = _Axis([row["difference"] for row in rows], centred=True)
    lines = []
    for row in rows:
        figure = row["difference"]
        seeds = ", ".join(f"{signed(value)} (seed {seed})" for seed, value in row["by_seed"].items())
        kind = ' class="clear"' if _excludes_zero(figure) else ""
        lines.append(
            f"<tr{kind}>{row_head(describe(row['cell']), tuning(row['cell']))}<td>{_figure(figure, signed)}</td>"
            f'<td>{axis.draw(figure)}</td><td class="each">{text(seeds)}</td></tr>'
        )
    clear = sum(_excludes_zero(row["difference"]) for row in rows)
    said = "Above 0 the cell scored higher."
    if any(row["difference"]["low"] is not None for row in rows):
        alike = all(row["against"] == rows[0]["against"] for row in rows)
        said += (
            f" {clear} of {len(rows)} intervals leave out 0 (coloured); one in twenty would do so by chance, and all "
            f"share {'what they are compared with' if alike else 'their seeds'}, so they do not count singly."
        )
    head = ("Cell", "Difference in CCC mean", axis.labels(), "Each seed")
    return f'<p class="muted">{text(said)}</p>' + scrolling_table("sweep even", heading, _columns(head), lines)


def _published_differences(results: Item) -> list[str]:
    """The second row of table 3 minus the first: theirs, and ours seed by seed."""
    first, second = results["published"]
    rows = []
    for row in results["differences"]:
        if row["of"] == "grid" and is_published(row["cell"], second):
            theirs = "".join(f"<td>{text(_four(second[name] - first[name]))}</td>" for name in _NAMES)
            name = f"{describe(second)} minus {describe(first)}"
            rows.append(
                f"<tr>{row_head(name, tuning(row['cell']))}{theirs}<td></td><td></td>"
                f"<td>{_figure(row['difference'], signed)}</td></tr>"
            )
    return rows


def _four(value: float) -> str:
    return ("+" if value > 0 else "") + number(value, 4)
