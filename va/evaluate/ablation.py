"""The paper's tables on our runs: scored, compared and written.

Run it as `va ablate CORPUS FEATURES --table 1|2|3 --out DIR`: `va/train/ablate.py` makes the runs,
`va/evaluate/row_scores.py` scores them, and `va/evaluate/pages/ablation_page.py` draws the page.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from va.evaluate import row_scores
from va.evaluate.pages import ablation_page, markup
from va.evaluate.pages.report import NAMES
from va.evaluate.pages.table_parts import HEADLINE, between
from va.evaluate.row_scores import require_all

__all__ = ["require_all", "run", "tables"]


run = partial(row_scores.run, render=ablation_page.render)
"""Scores the runs of a table and writes its page; arguments as `row_scores.run`."""


def tables(results: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]:
    """Lay the results out for a terminal.

    Returns:
        Title, header and rows of a table for each form.
    """
    found: list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]] = []
    # Both intervals would be wider than a terminal; the page has them.
    kind = "over_seeds" if len(results["settings"]["seeds"]) > 1 else "over_clips"
    header = ("row", "published", "CCC V", "CCC A", "mean", f"95% {kind.replace('_', ' ')}")
    corpus, split = results["corpus"]["name"], results["split"]
    for form, name in HEADLINE.items():
        lines: list[tuple[str, ...]] = []
        for row in results["rows"]:
            figures = row["forms"][form][name]
            published = markup.number(row["published"]["ccc_mean"], 4) if row["published"] else "ours"
            values = (markup.number(figures[axis]["value"]) for axis in NAMES)
            lines.append((row["name"], published, *values, between(figures["ccc_mean"][kind])))
        found.append((f"Table {results['table']} on {corpus}, {split}: target {form}, {name} protocol", header, lines))
    return found
