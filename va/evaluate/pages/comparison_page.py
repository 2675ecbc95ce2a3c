"""A comparison's `results.json` -> one self-contained page: the ranking, paired differences, how they were made.

Made from the parts of the other pages (`va/evaluate/pages/table_parts.py`), without any script. `va/train/compare.py`
and `va/evaluate/row_scores.py` say what the results hold.
"""

from collections.abc import Mapping
from typing import Any

from va.evaluate.pages.markup import row_head, scrolling_table, text
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


def render(results: Item) -> str:
    """Make the page.

    Args:
        results: What `results.json` holds.

    Returns:
        One HTML document that refers to nothing outside itself.
    """
    facts = {
        "ranked on": results["selected_on"],
        "reported": results["split"],
        "head": _head_of(results["settings"]),
    }
    return page(
        results,
        title=f"Encoders compared on {results['corpus']['name']}",
        subject="encoders compared",
        facts=facts,
        lead=lead(results),
        tables=_ranking(results),
        differences=_differences(results),
        unsaid="What this comparison does not say",
        caveats=_caveats(results),
        split_of_clips=", on the reported split",
    )


def lead(results: Item) -> str:
    """Say how to read the ranking, and whether the first row is apart from the second.

    Args:
        results: What `results.json` holds.
    """
    rows = results["rows"]
    if results["selected_on"] == results["split"]:
        said = (
            f"Ranked on {results['split']}, which also chose the epochs and is the split that is reported: the field's "
            "habit, which flatters all figures."
        )
    else:
        said = (
            f"Ranked on {results['selected_on']}, where the epochs were chosen too. The {results['split']} split had "
            "no part in either, so the choice does not flatter its figures."
        )
    second = rows[1]["selection"]["difference"]
    bounds = second["difference"]["over_seeds"] if second else None
    if bounds is None:
        return f"{said} Too few seeds to tell whether the first row is better than the second by more than chance."
    if bounds[0] > 0:
        return f"{said} The first row is ahead of the second on {results['selected_on']} by more than seeds explain."
    return f"{said} The first row is not ahead of the second by more than seeds explain: take them as equals."


def _head_of(settings: Item) -> str:
    parts = [settings["temporal"].upper()]
    parts += [settings["fusion"]] if settings["modalities"] == "both" else [f"{settings['modalities']} alone"]
    return ", ".join([*parts, f"target {settings['target']}"])


def _ranking(results: Item) -> str:
    settings, rows = results["settings"], results["rows"]
    form = settings["target"]
    protocol = HEADLINE[form]
    selection_axis = Axis([row["selection"] for row in rows])
    axis = Axis([row["forms"][form][protocol]["ccc_mean"] for row in rows])
    lines = []
    for row in rows:
        own = row["forms"][form][protocol]
        cells = "".join(
            f"<td{mark}>{figure_cell(own[name], with_clips=name == 'ccc_mean')}</td>"
            for name, mark in zip(NAMES, (' class="split"', "", ""), strict=True)
        )
        mark = ' class="reference"' if row["reference"] else ""
        lines.append(
            f"<tr{mark}>{row_head(row['name'], _note(row, results))}"
            f'<td class="split">{figure_cell(row["selection"], with_clips=False)}</td>'
            f"<td>{selection_axis.draw(row['selection'])}</td>{cells}<td>{axis.draw(own['ccc_mean'])}</td></tr>"
        )
    head = (
        '<tr><th scope="col" rowspan="2">Encoders, best first</th>'
        f'<th scope="colgroup" colspan="2" class="split">Ranked on {text(results["selected_on"])}: ABAW protocol</th>'
        f'<th scope="colgroup" colspan="4" class="split">Reported, {text(results["split"])}: '
        f"{PROTOCOL_NAMES[protocol]} protocol</th></tr>"
        f'<tr><th scope="col" class="split">Mean</th><th scope="col">{selection_axis.labels()}</th>'
        '<th scope="col" class="split">Valence</th><th scope="col">Arousal</th><th scope="col">Mean</th>'
        f'<th scope="col">{axis.labels()}</th></tr>'
    )
    reading = "CCC, mean over seeds with its 95% interval over seeds and, for the reported mean, the one over clips."
    if len(settings["seeds"]) == 1:
        reading = "CCC of one seed, so there is no interval over seeds; the reported mean's is over clips."
    return (
        '<section aria-labelledby="ranking"><h2 id="ranking">Ranking</h2>'
        f'<p>{text(measured_on(rows, form))}</p><p class="muted">{text(reading)}</p>'
        f"{scrolling_table('ablation', 'ranking', head, lines)}</section>"
    )


def _note(row: Item, results: Item) -> str:
    """What is known of a row: sizes and nature of its features, whose texts, and missing seeds."""
    sizes = " + ".join(f"{store['dim']:,}" for store in row["stores"]) + " features per step"
    count = len(row["selection"]["by_seed"])
    wanted = len(results["settings"]["seeds"])
    missing = f"{count} of {wanted} seeds, so placed last" if count < wanted else ""
    return "; ".join(filter(None, (sizes, row["note"], missing)))


def _differences(results: Item) -> str:
    """The best row minus each other one, on the split that ranks and on the one that is reported."""
    best = results["rows"][0]
    form = results["settings"]["target"]
    others = results["rows"][1:]
    ranked: list[Mapping[str, Any] | None] = [row["selection"]["difference"] for row in others]
    found = {one["minus"]: one for one in results["differences"]}
    reported = [found.get(row["name"]) for row in others]
    axes = [Axis([one["difference"] for one in column if one], centred=True) for column in (ranked, reported)]
    lines = [
        f"<tr>{row_head(row['name'], row['note'])}{difference_cells(a, axes[0])}{difference_cells(b, axes[1])}</tr>"
        for row, a, b in zip(others, ranked, reported, strict=True)
    ]
    titles = (
        f"On {results['selected_on']} (ABAW)",
        f"On {results['split']} ({PROTOCOL_NAMES[HEADLINE[form]]})",
    )
    head = '<tr><th scope="col">Minus</th>'
    for title, axis in zip(titles, axes, strict=True):
        head += f'<th scope="col" class="split">{text(title)}</th><th scope="col">{axis.labels()}</th>'
    return (
        f"<p>Mean CCC of <strong>{text(best['name'])}</strong> minus that of each other row, with the same seed and on "
        'the same clips. Above 0 it did better than the row.</p><p class="muted">Below it the 95% interval over seeds '
        "(and over clips, on the reported split), and the difference of each seed. Coloured: the interval over seeds "
        "leaves out 0. All differences share the row that came first, so they do not count singly, and being first it "
        "was lucky at least in part.</p>"
        f"{scrolling_table('ablation', 'differences', head + '</tr>', lines)}"
    )


def _caveats(results: Item) -> list[tuple[str, str]]:
    settings = results["settings"]
    texts = (
        "All heads have the region term, with the same texts where the encoder has none of its own (named below a row)."
        if any(trial for row in results["rows"] for trial in row["forms"][settings["target"]]["trials"])
        and not any("no region term" in row["note"] for row in results["rows"])
        and settings["region_weight"] > 0
        else "No head has the region term."
    )
    found = [
        (
            "One head for all",
            "The same settings for every row: none was tuned for its encoders, and another learning rate or width may "
            "change the order.",
        ),
        ("Region term", f"{texts} W maps what the head sees to the size of the texts."),
        (
            "Encoders",
            "Frozen, from stored features. What an encoder saw in its own training is not known here: it may include "
            "clips like these.",
        ),
        (
            "Cost",
            "Features per step is what a head reads and a store holds. Time of extraction depends on the machine and "
            "is not recorded.",
        ),
    ]
    if results["demo_encoders"]:
        found.append(("Demo encoders", "They know only drawn faces and synthesised voices: no row says more."))
    return found
