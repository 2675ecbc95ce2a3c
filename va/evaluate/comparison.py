"""Compared encoders, scored on the split that is reported.

Run it as `va compare-encoders CORPUS FEATURES --out DIR`: `va/train/compare.py` makes the runs and ranks them,
`va/evaluate/row_scores.py` scores them, and `va/evaluate/pages/comparison_page.py` draws the page. The order is that of
the selection split and stays so, whatever the reported split says (settled 7).
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from va.evaluate import row_scores
from va.evaluate.pages import comparison_page, markup
from va.evaluate.pages.report import NAMES
from va.evaluate.pages.table_parts import HEADLINE, between
from va.evaluate.row_scores import require_all

__all__ = ["require_all", "run", "table"]


run = partial(row_scores.run, render=comparison_page.render)
"""Scores the runs of a comparison and writes its page; arguments as `row_scores.run`."""


def table(results: Mapping[str, Any]) -> tuple[str, tuple[str, ...], list[tuple[str, ...]]]:
    """Lay the results out for a terminal: title, header and rows, best first."""
    form = results["settings"]["target"]
    kind = "over_seeds" if len(results["settings"]["seeds"]) > 1 else "over_clips"
    selected, split = results["selected_on"], results["split"]
    header = ("encoders", f"{selected} mean", "CCC V", "CCC A", f"{split} mean", f"95% {kind.replace('_', ' ')}")
    lines: list[tuple[str, ...]] = []
    for row in results["rows"]:
        figures = row["forms"][form][HEADLINE[form]]
        values = (markup.number(figures[axis]["value"]) for axis in NAMES)
        lines.append(
            (row["name"], markup.number(row["selection"]["value"]), *values, between(figures["ccc_mean"][kind]))
        )
    title = f"Encoders on {results['corpus']['name']}, ranked on {selected}; {split} by the {HEADLINE[form]} protocol"
    return title, header, lines
