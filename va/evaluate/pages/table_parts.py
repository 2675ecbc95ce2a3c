"""Parts of pages that hold a table of runs: figures with two intervals, drawn small, and what stands below them.

`va/evaluate/pages/ablation_page.py` and `va/evaluate/pages/comparison_page.py` put them together.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from va.evaluate.pages import markup, whiskers
from va.evaluate.pages.document import document
from va.evaluate.pages.markup import number, text
from va.evaluate.pages.sentences import demo_banner, few_clips
from va.evaluate.pages.whiskers import signed

Item = Mapping[str, Any]
"""A part of `results.json`, as `va/evaluate/row_scores.py` writes it."""

HEADLINE: Final = {"end": "paper", "frames": "abaw"}
"""The protocol that each form's table and differences are of (settled 12); the other's mean stands beside it."""

PROTOCOL_NAMES: Final = {"abaw": "ABAW", "paper": "Paper"}
_DRAWN: Final = (5.0, 165.0)
_LABEL_WIDTH: Final = 45.0


def page(
    results: Item,
    *,
    title: str,
    subject: str,
    facts: Mapping[str, str],
    lead: str,
    tables: str,
    differences: str,
    unsaid: str,
    caveats: Iterable[tuple[str, str]],
    split_of_clips: str,
) -> str:
    """Make a whole page.

    Args:
        results: What `results.json` holds.
        title: Unescaped, as everything here but tables and differences.
        subject: What kind of page it is.
        facts: Below the title, beside corpus, seeds and time.
        lead: What to know before the tables.
        tables: Final HTML of sections.
        differences: Final HTML inside a section.
        unsaid: What the caveats are called.
        caveats: Terms and descriptions.
        split_of_clips: Added to what the interval over clips is of.
    """
    corpus = results["corpus"]
    around = {
        "corpus": corpus["name"] + (" (synthetic)" if corpus["synthetic"] else ""),
        **facts,
        "seeds": ", ".join(map(str, results["settings"]["seeds"])),
        "created": results["created"],
    }
    parts = {
        "title": text(title),
        "subject": text(subject),
        "facts": markup.terms(around.items()),
        "lead": text(lead),
        "failed": _failed_trials(results["failed"]),
        "tables": tables,
        "differences": differences,
        "unsaid": text(unsaid),
        "caveats": markup.terms(caveats),
        "split_of_clips": text(split_of_clips),
        "provenance": markup.terms(_provenance(results)),
    }
    return document(
        title=title,
        styles=("report.css", "ablation.css"),
        banner=demo_banner(is_demo=results["demo_encoders"], synthetic=corpus["synthetic"]),
        content=markup.fill(markup.template("rows.html"), parts),
        data=None,
        scripts=(),
    )


def between(bounds: Sequence[float] | None, *, form: Callable[[float], str] = number) -> str:
    """Write an interval.

    Args:
        bounds: Low and high, or None.
        form: How to write a number.
    """
    return "n/a" if bounds is None else f"{form(bounds[0])} to {form(bounds[1])}"


class Axis:
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
            (lambda value: signed(value, 2)) if centred else lambda value: number(value, 1)
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


def figure_cell(figure: Item, *, with_clips: bool, form: Callable[[float], str] = number) -> str:
    """Write a figure with its intervals below it.

    Args:
        figure: `row_scores.Figure`, or null's None for its value.
        with_clips: Write the interval over clips as well.
        form: How to write a number.
    """
    if figure["value"] is None:
        return '<span class="number muted">n/a</span>'
    said = f'<span class="number">{form(figure["value"])}</span>'
    if figure["over_seeds"] is not None:
        said += f'<span class="interval">{between(figure["over_seeds"], form=form)}</span>'
    if with_clips and figure["over_clips"] is not None:
        said += f'<span class="interval">clips {between(figure["over_clips"], form=form)}</span>'
    return said


def difference_cells(one: Item | None, axis: Axis) -> str:
    """Write a difference, and draw it with each seed's own below; coloured where the interval over seeds leaves out 0.

    Args:
        one: An entry of `results.json`'s "differences"; None where no seed is in both rows.
        axis: That all differences of the column share.
    """
    if one is None:
        return '<td class="split"><span class="number muted">n/a</span></td><td></td>'
    figure = one["difference"]
    bounds = figure["over_seeds"]
    clear = " clear" if bounds is not None and not bounds[0] <= 0 <= bounds[1] else ""
    seeds = ", ".join(signed(value) for value in one["by_seed"].values())
    return (
        f'<td class="split">{figure_cell(figure, form=signed, with_clips=True)}</td>'
        f'<td class="each{clear}">{axis.draw(figure)}<span class="interval">{text(seeds)}</span></td>'
    )


def measured_on(rows: Sequence[Item], form: str) -> str:
    """One sentence on what a form's figures were measured on, the same for all rows."""
    trials = [trial for row in rows for trial in row["forms"][form]["trials"]]
    if not trials:
        return "No trial of it finished."
    measured = trials[0][HEADLINE[form]]
    kind = "window ends" if form == "end" else "labelled frames"
    said = f"Measured on {measured['num_frames']:,} {kind} of {measured['num_clips']:,} clips."
    return " ".join(filter(None, (said, few_clips(measured["num_clips"]))))


def _failed_trials(failed: Sequence[Item]) -> str:
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
    """List what the figures were made of: corpus, features, every trial, settings and versions."""
    corpus = results["corpus"]
    pairs = [
        ("Corpus", f"{corpus['name']}, identity {corpus['digest']}"),
        ("Features", ", ".join(results["features"])),
    ]
    for row in results["rows"]:
        for form, found in row["forms"].items():
            for trial in found["trials"]:
                scores = ", ".join(f"{name} {number(trial[name]['ccc_mean']['value'])}" for name in PROTOCOL_NAMES)
                name = f"{row['name']}, {form}, seed {trial['seed']}"
                pairs.append((name, f"{trial['run']}: {scores}; epoch {trial['epoch']}"))
    pairs += [(f"Setting {name}", str(value)) for name, value in results["settings"].items()]
    return pairs + [(f"Version of {name}", version) for name, version in results["versions"].items()]
