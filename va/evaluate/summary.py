"""What the terminal says of an evaluation: the table, the sentences below it, or everything as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from va import bounded
from va.evaluate.figures import ReportFigures, Row


def as_json(out: Path) -> dict[str, Any]:
    """Read the figures back as `metrics.json` has them: strict JSON, without the clips' series and the plane.

    Raises:
        VAError: They are not there.
    """
    return bounded.read_json(out / "metrics.json", what="an evaluation's figures", hint="Run 'va evaluate' again.")


def table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Lay rows out for a terminal: header, then name, CCC V, A and mean (`abaw`), interval, coverage."""
    shown = []
    for row in rows:
        score = row["abaw"]
        mean = score["ccc_mean"]
        between = f"{_shown(mean['low'])} to {_shown(mean['high'])}"
        shown.append(
            (
                row["name"],
                *(_shown(score[axis]["value"]) for axis in ("ccc_valence", "ccc_arousal", "ccc_mean")),
                between if mean["low"] == mean["low"] else "n/a",
                f"{score['coverage']:.1%}" if score["coverage"] == score["coverage"] else "n/a",
            )
        )
    return ("model", "CCC V", "CCC A", "CCC mean", "95% interval", "coverage"), shown


def remarks(figures: ReportFigures) -> list[str]:
    """Say in sentences what the table does not: warnings, a shift, the smoothing, differences, the submission."""
    found = list(figures["warnings"])
    if not any(clip["valid"].any() for clip in figures["clips"]):
        found.append(f"The '{figures['split']}' split has no labels: it was predicted, and nothing can be scored.")
    if figures["label_shift_s"]:
        found.append(f"Labels were shifted by {figures['label_shift_s']:g} s: no figure is the official score.")
    if figures["smoothing"] is not None:
        chosen = figures["smoothing"]
        what = f"{chosen['kernel']}, {chosen['width_s']:g} s" if chosen["width_s"] else "none, because none helped"
        found.append(f"Smoothing: {what}; chosen on {chosen['chosen_on']}.")
    found += [comparison["sentence"] for comparison in figures["comparisons"]]
    if "submission" in figures:
        found.append(f"Submission: {figures['submission']}")
    return found


def _shown(value: float) -> str:
    return f"{value:z.3f}" if value == value else "n/a"
