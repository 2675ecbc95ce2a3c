"""An ablation's `results.json` -> one self-contained page: a table per form, paired differences, what differs.

Looks like an evaluation report and is made from the same parts (`va/evaluate/markup.py`), without any script.
`va/evaluate/ablation.py` says what the results hold.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from va.evaluate import ablation_notes, markup, whiskers
from va.evaluate.document import document
from va.evaluate.markup import number, text
from va.evaluate.report import DEMO_BANNER, NAMES

Item = Mapping[str, Any]
"""A part of `results.json`, as `va/evaluate/ablation.py` writes it."""

SUBJECTS: Final = {1: "backbones", 2: "temporal model and fusion", 3: "region grid"}
_FORMS: Final = {
    "end": (
        "As the release scored it",
        "Each head answers once per window, for its end; the paper protocol scores those answers and nothing of a "
        "clip's first 10 s (R2). Under ABAW the first answer is held for them.",
    ),
    "frames": (
        "For every frame",
        "Each head answers for every half second; the ABAW protocol scores every validly labelled frame.",
    ),
}
HEADLINE: Final = {"end": "paper", "frames": "abaw"}
"""The protocol that each form's table and differences are of (settled 12); the other's mean stands beside it."""

_PROTOCOLS: Final = {"abaw": "ABAW", "paper": "Paper"}
_DRAWN: Final = (5.0, 165.0)
_LABEL_WIDTH: Final = 45.0


def render(results: Item) -> str:
    """Make the page.

    Args:
        results: What `results.json` holds.

    Returns:
        One HTML document that refers to nothing outside itself.
    """
    corpus = results["corpus"]
    facts = {
        "corpus": corpus["name"] + (" (synthetic)" if corpus["synthetic"] else ""),
        "split": results["split"],
        "epochs chosen on": results["selected_on"],
        "seeds": ", ".join(map(str, results["settings"]["seeds"])),
        "created": results["created"],
    }
    title = f"Table {results['table']}, {SUBJECTS[results['table']]}, on {corpus['name']}"
    parts = {
        "title": text(title),
        "facts": markup.terms(facts.items()),
        "lead": text(ablation_notes.lead(results)),
        "failed": _failed(results["failed"]),
        "forms": "".join(_form(results, form) for form in _FORMS),
        "differences": _differences(results),
        "caveats": markup.terms(ablation_notes.caveats(results)),
        "provenance": markup.terms(_provenance(results)),
    }
    return document(
        title=title,
        styles=("report.css", "ablation.css"),
        banner=DEMO_BANNER if results["demo_encoders"] else "",
        content=markup.fill(markup.template("ablation.html"), parts),
        data=None,
        scripts=(),
    )


def shown(value: float | None) -> str:
    """Write a figure, or that there is none.

    Args:
        value: None where `results.json` has null: no CCC is defined, or no trial finished.
    """
    return "n/a" if value is None else number(value)


def between(bounds: Sequence[float] | None, *, form: Callable[[float], str] = number) -> str:
    """Write an interval.

    Args:
        bounds: Low and high, or None.
        form: How to write a number.
    """
    return "n/a" if bounds is None else f"{form(bounds[0])} to {form(bounds[1])}"


def _form(results: Item, form: str) -> str:
    """The section of a form: its table and what it was measured on."""
    title, said = _FORMS[form]
    protocol = HEADLINE[form]
    other = "abaw" if protocol == "paper" else "paper"
    rows = results["rows"]
    axis = _Axis([row["forms"][form][protocol]["ccc_mean"] for row in rows])
    lines = []
    for row in rows:
        found = row["forms"][form]
        own, mean = found[protocol], found[protocol]["ccc_mean"]
        count = len(found["seeds"])
        wanted = len(results["settings"]["seeds"])
        note = row["note"] + (f" ({count} of {wanted} seeds)" if count < wanted else "")
        cells = "".join(
            f"<td{mark}>{_figure(own[name], with_clips=name == 'ccc_mean')}</td>" for name, mark in _marked(NAMES)
        )
        lines.append(
            f"<tr{_mark(row)}>{_head(row['name'], note)}{_published(row['published'])}{cells}<td>{axis.draw(mean)}</td>"
            f'<td class="split">{_figure(found[other]["ccc_mean"], with_clips=False)}</td></tr>'
        )
    columns = _marked(("Valence", "Arousal", "Mean")) * 2
    names = "".join(f'<th scope="col"{mark}>{name}</th>' for name, mark in columns)
    head = (
        '<tr><th scope="col" rowspan="2">Row</th>'
        '<th scope="colgroup" colspan="3" class="split">Published: Aff-Wild2</th>'
        f'<th scope="colgroup" colspan="3" class="split">Here: {_PROTOCOLS[protocol]} protocol</th>'
        f'<th scope="col" rowspan="2">Mean {axis.labels()}</th>'
        f'<th scope="col" rowspan="2" class="split">{_PROTOCOLS[other]} mean</th></tr><tr>{names}</tr>'
    )
    lines += [
        f'<tr>{_head(row["name"], "")}{_published(row)}<td colspan="5" class="split ours">not run here</td></tr>'
        for row in results["not_run"]
    ]
    reading = "Mean over seeds with its 95% interval over seeds and, for the mean, the one over clips (the thin line)."
    if len(results["settings"]["seeds"]) == 1:
        reading = "One seed, so there is no interval over seeds; the mean's is over clips (the thin line)."
    return (
        f'<section aria-labelledby="{form}"><h2 id="{form}">{text(title)}</h2>'
        f'<p>{text(said)} {text(_measured(rows, form))}</p><p class="muted">{text(reading)}</p>'
        f"{_table(form, head, lines)}</section>"
    )


def _measured(rows: Sequence[Item], form: str) -> str:
    """One sentence on what a form's figures were measured on, the same for all rows."""
    trials = [trial for row in rows for trial in row["forms"][form]["trials"]]
    if not trials:
        return "No trial of it finished."
    measured = trials[0][HEADLINE[form]]
    kind = "window ends" if form == "end" else "labelled frames"
    return f"Measured on {measured['num_frames']:,} {kind} of {measured['num_clips']:,} clips."


def _differences(results: Item) -> str:
    """The reference row minus each other one, theirs and ours."""
    (reference,) = (row for row in results["rows"] if row["reference"])
    found = {(one["minus"], one["target"]): one for one in results["differences"]}
    axes = {
        form: _Axis([one["difference"] for (_, target), one in found.items() if target == form], centred=True)
        for form in _FORMS
    }
    lines = []
    for row in results["rows"]:
        if row["reference"]:
            continue
        published = "n/a"
        if row["published"] and reference["published"]:
            published = _signed(reference["published"]["ccc_mean"] - row["published"]["ccc_mean"], 4)
        cells = "".join(_difference_cells(found.get((row["name"], form)), axes[form]) for form in _FORMS)
        lines.append(f'<tr>{_head(row["name"], row["note"])}<td class="split">{published}</td>{cells}</tr>')
    head = '<tr><th scope="col">Minus</th><th scope="col" class="split">Published</th>'
    for form, axis in axes.items():
        protocol = _PROTOCOLS[HEADLINE[form]]
        head += f'<th scope="col" class="split">{_FORMS[form][0]} ({protocol})</th><th scope="col">{axis.labels()}</th>'
    return (
        f"<p>Mean CCC of <strong>{text(reference['name'])}</strong> minus that of each other row, with the same seed "
        "and on the same clips. Above 0 it did better than the row.</p>"
        '<p class="muted">Below it the 95% intervals over seeds and over clips, and the difference of each seed. '
        "Coloured: the interval over seeds leaves out 0. All differences share one row, so they do not count "
        "singly.</p>"
        f"{_table('differences', head + '</tr>', lines)}"
    )


def _difference_cells(one: Item | None, axis: "_Axis") -> str:
    if one is None:
        return '<td class="split"><span class="number muted">n/a</span></td><td></td>'
    figure = one["difference"]
    bounds = figure["over_seeds"]
    clear = " clear" if bounds is not None and not bounds[0] <= 0 <= bounds[1] else ""
    seeds = ", ".join(_signed(value) for value in one["by_seed"].values())
    return (
        f'<td class="split">{_figure(figure, form=_signed, with_clips=True)}</td>'
        f'<td class="each{clear}">{axis.draw(figure)}<span class="interval">{text(seeds)}</span></td>'
    )


def _failed(failed: Sequence[Item]) -> str:
    """The trials that did not finish, if any."""
    if not failed:
        return ""
    items = "".join(
        f"<li><span>{text(one['row'])}, target {text(one['target'])}, seed {text(one['seed'])} "
        f"(<code>{text(one['run'])}</code>): {text(one['message'])} {text(one['fix'])}</span></li>"
        for one in failed
    )
    return (
        '<section aria-labelledby="failures"><h2 id="failures">Failed trials</h2>'
        f'<p class="note">{len(failed)} trials failed and are in no figure of this page.</p>'
        f'<ul class="regions">{items}</ul></section>'
    )


def _provenance(results: Item) -> list[tuple[str, str]]:
    corpus = results["corpus"]
    pairs = [
        ("Corpus", f"{corpus['name']}, {corpus['path']}, identity {corpus['digest']}"),
        ("Features", ", ".join(results["features"])),
    ]
    for row in results["rows"]:
        for form, found in row["forms"].items():
            for trial in found["trials"]:
                scores = ", ".join(f"{name} {number(trial[name]['ccc_mean']['value'])}" for name in _PROTOCOLS)
                name = f"{row['name']}, {form}, seed {trial['seed']}"
                pairs.append((name, f"{trial['run']}: {scores}; epoch {trial['epoch']}"))
    pairs += [(f"Setting {name}", str(value)) for name, value in results["settings"].items()]
    return pairs + [(f"Version of {name}", version) for name, version in results["versions"].items()]


class _Axis:
    """A small axis on which means and their intervals are drawn.

    Args:
        figures: All that it must hold; those without a value are left out.
        centred: Put 0 in the middle.
    """

    def __init__(self, figures: Sequence[Item], *, centred: bool = False) -> None:
        ends: list[float] = [
            end
            for figure in figures
            if figure["value"] is not None
            for end in (figure["value"], *(figure["over_seeds"] or ()), *(figure["over_clips"] or ()))
        ]
        low, high = min(0.0, *ends, 0.0), max(1.0, *ends, 1.0)
        if centred:
            high = max([0.01, *map(abs, ends)])
            low = -high
        self.low, self.high = low, high
        self.form: Callable[[float], str] = (
            (lambda value: _signed(value, 2)) if centred else lambda value: number(value, 1)
        )

    def at(self, value: float) -> float:
        """Where a value lies."""
        first, last = _DRAWN
        return round(first + (last - first) * (value - self.low) / (self.high - self.low), 1)

    def labels(self) -> str:
        """The values of its ends, and 0."""
        marks = {self.low: "start", self.high: "end"}
        if self.at(0.0) - self.at(self.low) > _LABEL_WIDTH:
            marks[0.0] = "middle"
        return whiskers.svg(
            "".join(
                f'<text x="{self.at(value)}" y="18" style="text-anchor: {anchor}">{self.form(value)}</text>'
                for value, anchor in marks.items()
            )
        )

    def draw(self, figure: Item) -> str:
        """A mean, its interval over seeds and, thin and below, the one over clips."""
        drawn = f'<line class="grid" x1="{_DRAWN[0]}" x2="{_DRAWN[1]}" y1="9" y2="9"/>'
        drawn += f'<line class="zero" x1="{self.at(0)}" x2="{self.at(0)}" y1="0" y2="22"/>'
        for kind, name, y in (("over_seeds", "range", 9), ("over_clips", "clips", 18)):
            if figure[kind] is not None:
                low, high = map(self.at, figure[kind])
                drawn += f'<line class="{name}" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
        if figure["value"] is not None:
            drawn += f'<circle cx="{self.at(figure["value"])}" cy="9" r="4.5"/>'
        return whiskers.svg(drawn)


def _figure(figure: Item, *, with_clips: bool, form: Callable[[float], str] = number) -> str:
    if figure["value"] is None:
        return '<span class="number muted">n/a</span>'
    said = f'<span class="number">{form(figure["value"])}</span>'
    if figure["over_seeds"] is not None:
        said += f'<span class="interval">{between(figure["over_seeds"], form=form)}</span>'
    if with_clips and figure["over_clips"] is not None:
        said += f'<span class="interval">clips {between(figure["over_clips"], form=form)}</span>'
    return said


def _published(figures: Item | None) -> str:
    if figures is None:
        return '<td colspan="3" class="split ours">not in the paper</td>'
    return "".join(f"<td{mark}>{number(figures[name], 4)}</td>" for name, mark in _marked(NAMES))


def _marked(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pair a group of columns with what draws a line before it."""
    return [(name, "" if index else ' class="split"') for index, name in enumerate(names)]


def _mark(row: Item) -> str:
    return ' class="reference"' if row["reference"] else ""


def _head(name: str, note: str) -> str:
    return f'<th scope="row">{text(name)}<span class="row-note">{text(note)}</span></th>'


def _table(heading: str, head: str, lines: Sequence[str]) -> str:
    return (
        f'<div class="scroll" role="region" aria-labelledby="{heading}" tabindex="0"><table class="ablation" '
        f'aria-labelledby="{heading}"><thead>{head}</thead><tbody>{"".join(lines)}</tbody></table></div>'
    )


def _signed(value: float, decimals: int = 3) -> str:
    return ("+" if value > 0 else "") + number(value, decimals)
