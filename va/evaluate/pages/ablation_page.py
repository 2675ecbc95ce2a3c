"""An ablation's `results.json` -> one self-contained page: a table per form, paired differences, what differs.

Looks like an evaluation report and is made from the same parts (`va/evaluate/pages/markup.py`), without any script.
`va/evaluate/ablation.py` says what the results hold.
"""

from collections.abc import Sequence
from typing import Final

from va.evaluate.pages import ablation_notes
from va.evaluate.pages.markup import number, row_head, scrolling_table, text
from va.evaluate.pages.report import NAMES
from va.evaluate.pages.table_parts import (
    HEADLINE,
    PROTOCOL_NAMES,
    Axis,
    Item,
    difference_cells,
    figure_cell,
    measured_on,
    page,
)
from va.evaluate.pages.whiskers import signed

SUBJECTS: Final = {1: "backbones", 2: "temporal model and fusion", 3: "region grid"}
_FORMS: Final = {
    "end": (
        "As the release scored it",
        "Each head answers once per window, for its end; the paper protocol scores those answers and nothing of a "
        "clip's first 10 s. Under ABAW the first answer is held for them.",
    ),
    "frames": (
        "For every frame",
        "Each head answers for every half second; the ABAW protocol scores every validly labelled frame.",
    ),
}


def render(results: Item) -> str:
    """Make the page.

    Args:
        results: What `results.json` holds.

    Returns:
        One HTML document that refers to nothing outside itself.
    """
    return page(
        results,
        title=f"Table {results['table']}, {SUBJECTS[results['table']]}, on {results['corpus']['name']}",
        subject="the paper's tables again",
        facts={"split": results["split"], "epochs chosen on": results["selected_on"]},
        lead=ablation_notes.lead(results),
        tables="".join(_form(results, form) for form in _FORMS),
        differences=_differences(results),
        unsaid="What differs from the paper",
        caveats=ablation_notes.caveats(results),
        split_of_clips="",
    )


def _form(results: Item, form: str) -> str:
    """The section of a form: its table and what it was measured on."""
    title, said = _FORMS[form]
    protocol = HEADLINE[form]
    other = "abaw" if protocol == "paper" else "paper"
    rows = results["rows"]
    axis = Axis([row["forms"][form][protocol]["ccc_mean"] for row in rows])
    lines = []
    for row in rows:
        found = row["forms"][form]
        own, mean = found[protocol], found[protocol]["ccc_mean"]
        count = len(found["seeds"])
        wanted = len(results["settings"]["seeds"])
        note = row["note"] + (f" ({count} of {wanted} seeds)" if count < wanted else "")
        cells = "".join(
            f"<td{mark}>{figure_cell(own[name], with_clips=name == 'ccc_mean')}</td>" for name, mark in _marked(NAMES)
        )
        lines.append(
            f"<tr{_mark(row)}>{row_head(row['name'], note)}{_published(row['published'])}{cells}"
            f"<td>{axis.draw(mean)}</td>"
            f'<td class="split">{figure_cell(found[other]["ccc_mean"], with_clips=False)}</td></tr>'
        )
    columns = _marked(("Valence", "Arousal", "Mean")) * 2
    names = "".join(f'<th scope="col"{mark}>{name}</th>' for name, mark in columns)
    head = (
        '<tr><th scope="col" rowspan="2">Row</th>'
        '<th scope="colgroup" colspan="3" class="split">Published: Aff-Wild2</th>'
        f'<th scope="colgroup" colspan="3" class="split">Here: {PROTOCOL_NAMES[protocol]} protocol</th>'
        f'<th scope="col" rowspan="2">Mean {axis.labels()}</th>'
        f'<th scope="col" rowspan="2" class="split">{PROTOCOL_NAMES[other]} mean</th></tr><tr>{names}</tr>'
    )
    lines += [
        f'<tr>{row_head(row["name"], "")}{_published(row)}<td colspan="5" class="split ours">not run here</td></tr>'
        for row in results["not_run"]
    ]
    reading = "Mean over seeds with its 95% interval over seeds and, for the mean, the one over clips (the thin line)."
    if len(results["settings"]["seeds"]) == 1:
        reading = "One seed, so there is no interval over seeds; the mean's is over clips (the thin line)."
    return (
        f'<section aria-labelledby="{form}"><h2 id="{form}">{text(title)}</h2>'
        f'<p>{text(said)} {text(measured_on(rows, form))}</p><p class="muted">{text(reading)}</p>'
        f"{scrolling_table('ablation', form, head, lines)}</section>"
    )


def _differences(results: Item) -> str:
    """The reference row minus each other one, theirs and ours."""
    (reference,) = (row for row in results["rows"] if row["reference"])
    found = {(one["minus"], one["target"]): one for one in results["differences"]}
    axes = {
        form: Axis([one["difference"] for (_, target), one in found.items() if target == form], centred=True)
        for form in _FORMS
    }
    lines = []
    for row in results["rows"]:
        if row["reference"]:
            continue
        published = "n/a"
        if row["published"] and reference["published"]:
            published = signed(reference["published"]["ccc_mean"] - row["published"]["ccc_mean"], 4)
        cells = "".join(difference_cells(found.get((row["name"], form)), axes[form]) for form in _FORMS)
        lines.append(f'<tr>{row_head(row["name"], row["note"])}<td class="split">{published}</td>{cells}</tr>')
    head = '<tr><th scope="col">Minus</th><th scope="col" class="split">Published</th>'
    for form, axis in axes.items():
        protocol = PROTOCOL_NAMES[HEADLINE[form]]
        head += f'<th scope="col" class="split">{_FORMS[form][0]} ({protocol})</th><th scope="col">{axis.labels()}</th>'
    return (
        f"<p>Mean CCC of <strong>{text(reference['name'])}</strong> minus that of each other row, with the same seed "
        "and on the same clips. Above 0 it did better than the row.</p>"
        '<p class="muted">Below it the 95% intervals over seeds and over clips, and the difference of each seed. '
        "Coloured: the interval over seeds leaves out 0. All differences share one row, so they do not count "
        "singly.</p>"
        f"{scrolling_table('ablation', 'differences', head + '</tr>', lines)}"
    )


def _published(figures: Item | None) -> str:
    if figures is None:
        return '<td colspan="3" class="split ours">not in the paper</td>'
    return "".join(f"<td{mark}>{number(figures[name], 4)}</td>" for name, mark in _marked(NAMES))


def _marked(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pair a group of columns with what draws a line before it."""
    return [(name, "" if index else ' class="split"') for index, name in enumerate(names)]


def _mark(row: Item) -> str:
    return ' class="reference"' if row["reference"] else ""
