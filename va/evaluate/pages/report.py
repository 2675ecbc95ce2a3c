"""Figures -> `metrics.json` and one self-contained `index.html`.

The page is what a person reads and sends on: it carries plotly.js inside, asks the network for nothing and follows
the reader's light or dark setting. Numbers and text are plain HTML (`report_tables.py`), so that they are there
without JavaScript; only the charts need it: `report_charts.py` has their data, `templates/*.js` draw them.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from va import files
from va.evaluate.figures import ClipTrack, Plane, ReportFigures
from va.evaluate.pages import markup, report_charts, report_tables
from va.evaluate.pages.document import document
from va.evaluate.pages.markup import number, text
from va.evaluate.pages.report_tables import share
from va.evaluate.pages.sentences import NO_REGIONS, demo_banner
from va.evaluate.protocol import Figure, Score

NAMES: Final = report_tables.NAMES

_FILLS: Final = {
    "interpolate": "linearly in time from the predictions around them",
    "nearest": "with the prediction nearest in time",
}

_LANES_PX: Final = 270 + 51 + 48 + 56 + 72
"""Height of a clip's panel without the regions' rows: valence and arousal, missing inputs, gate, gaps, margins."""

_REGION_PX: Final = 17


def write_report(figures: ReportFigures, directory: Path) -> Path:
    """Write `metrics.json` and `index.html`, each atomically.

    `metrics.json` holds everything but what is only drawn (the plane, and the clips' series), as strict JSON: NaN is
    null.

    Args:
        figures: What to show; at least one row.
        directory: Made where missing; files of these two names are replaced.

    Returns:
        The path of the page.

    Raises:
        VAError: The folder cannot be written.
        ValueError: There is no row, or a value has no JSON form.
    """
    if not figures["rows"]:
        raise ValueError("a report needs at least one row, the run's own")
    numbers = {key: value for key, value in figures.items() if key not in ("clips", "plane")}
    kept = ("id", "duration_s", "labelled", "metrics", "no_face", "no_sound")
    numbers["clips"] = [{key: value for key, value in clip.items() if key in kept} for clip in figures["clips"]]
    page = render(figures)
    files.write_json(directory / "metrics.json", markup.plain(numbers))
    files.write_text(directory / "index.html", page)
    return directory / "index.html"


def render(figures: ReportFigures) -> str:
    """Make the page.

    Args:
        figures: What to show; at least one row.

    Returns:
        One HTML document that refers to nothing outside itself.
    """
    head = figures["rows"][0]["abaw"]
    order = worst_first(figures["clips"])
    facts = {name: figures[name] for name in ("run", "corpus", "split", "created")}
    if figures["synthetic"] and "synthetic" not in facts["corpus"]:
        facts["corpus"] += " (synthetic)"
    regions = len(figures["plane"]["region_texts"])
    parts = {
        "title": text(figures["title"]),
        "facts": markup.terms(facts.items()),
        "headline": _headline(head),
        "warnings": _warnings(figures),
        "measured": markup.terms(_measured(figures)),
        "models": report_tables.models(figures["rows"], every_frame=figures["fill"] != "none"),
        "smoothing": report_tables.smoothing(figures["smoothing"]),
        "published": report_tables.published(figures["published"], comparable=_is_affwild2(figures)),
        "comparisons": report_tables.comparisons(figures["comparisons"]),
        "differences_link": '<li><a href="#differences">Other runs</a></li>' if figures["comparisons"] else "",
        "clips": _clips(figures["clips"], order, height_px=_LANES_PX + _REGION_PX * regions),
        "regions": _regions(figures["plane"]),
        "splits": " Dotted lines run halfway between the centres of the regions." if regions else "",
        "abaw": markup.terms([("ABAW protocol", _abaw(figures))]),
        "readings": markup.terms([_readings(has_regions=regions > 0)]),
        "diagnostics": _diagnostics(figures),
        "smoothness": report_tables.smoothness(figures["smoothness"]),
        "robustness": _robustness(figures),
        "metrics": report_tables.metrics(figures),
        "provenance": markup.terms(figures["provenance"]),
    }
    return document(
        title=figures["title"],
        styles=("report.css", "evaluation.css"),
        banner=demo_banner(is_demo=figures["is_demo"], synthetic=figures["synthetic"]),
        content=markup.fill(markup.template("report.html"), parts),
        data=report_charts.chart_data(figures, order),
        scripts=("clips.js", "report.js"),
    )


def worst_first(clips: Sequence[ClipTrack]) -> list[int]:
    """The clips' indices by mean CCC, the lowest first; those without one last, by name.

    Args:
        clips: All clips.
    """

    def key(index: int) -> tuple[bool, float, str]:
        mean = clips[index]["metrics"]["ccc_mean"]
        return (True, 0.0, clips[index]["id"]) if math.isnan(mean) else (False, mean, clips[index]["id"])

    return sorted(range(len(clips)), key=key)


def _is_affwild2(figures: ReportFigures) -> bool:
    return not figures["synthetic"] and "affwild2" in re.sub(r"[^a-z0-9]", "", figures["corpus"].lower())


def _headline(score: Score) -> str:
    """The three figures, or that there are none."""
    if not score["num_frames"]:
        return (
            '<p class="note"><strong>Nothing could be scored:</strong> no frame of this split has both a valid label '
            "and a prediction. The predictions are below; agreement cannot be measured.</p>"
        )
    cards = "".join(_card(name.removeprefix("ccc_"), score[name]) for name in NAMES)
    return f'<div class="cards">{cards}</div>'


def _card(kind: str, figure: Figure) -> str:
    whole = math.isfinite(figure["low"]) and math.isfinite(figure["high"])
    between = f"{number(figure['low'])} to {number(figure['high'])}" if whole else "not defined"
    return (
        f'<div class="card {kind}"><h3>CCC {kind}</h3><span class="number">{number(figure["value"])}</span>'
        f'<span class="interval"><span>95% interval</span> {between}</span></div>'
    )


def _warnings(figures: ReportFigures) -> str:
    """Why the headline is not the official score, or not to be believed, where it is not."""
    found = list(figures["warnings"])
    coverage = figures["rows"][0]["abaw"]["coverage"]
    if coverage < 1.0:
        found.append(
            f"Only {share(coverage)} of the labelled frames have a prediction: this is not the official score."
        )
    shift = figures["label_shift_s"]
    if shift:
        found.append(
            f"Labels were shifted by {number(shift, 2)} s before scoring: no figure of this page is the official score."
        )
    return "".join(f'<p class="note">{text(sentence)}</p>' for sentence in found)


def _measured(figures: ReportFigures) -> list[tuple[str, str]]:
    """On what the headline was measured, and what it was selected on."""
    score = figures["rows"][0]["abaw"]
    scored = f"{score['num_frames']:,} labelled frames of {score['num_clips']:,} clips, by the ABAW protocol, raw."
    covered = f"{share(score['coverage'])} of the labelled frames have a prediction."
    if not score["num_frames"]:
        scored, covered = "No frame.", "Not defined without labelled frames."
    elif figures["filled"] > 0:
        filled = _FILLS.get(figures["fill"], figures["fill"])
        covered += f" {share(figures['filled'])} of them have none of their own and were filled: {filled}."
    else:
        covered += " None had to be filled."
    pairs = [("Scored", scored), ("Coverage", covered), ("Selection", figures["selected_on"])]
    if "submission" in figures:
        pairs.append(("Submission file", figures["submission"]))
    return pairs


def _clips(clips: Sequence[ClipTrack], order: Sequence[int], *, height_px: int) -> str:
    if not clips:
        return '<p class="muted">The split has no clip to show.</p>'
    parts = {"rows": report_tables.clips(clips, order), "count": f"{len(clips):,}", "height": str(height_px)}
    return markup.fill(markup.template("clips.html"), parts)


def _diagnostics(figures: ReportFigures) -> str:
    """The frames around the three diagnostic charts; a sentence for each that cannot be drawn."""
    lag = figures["lag"]
    best = f" Best at {number(lag['best_s'], 2)} s." if lag is not None and math.isfinite(lag["best_s"]) else ""
    charts = (
        (
            "calibration",
            "Calibration",
            "Mean annotation of frames with about the same prediction. On the dotted diagonal, predictions are right "
            "on average; flatter than it, they are too bold, steeper, too timid. Bars hold the middle half of the "
            "annotations.",
            any(len(found["predicted"]) for found in figures["calibration"].values()),
        ),
        (
            "over-time",
            "Error against time into the clip",
            "Mean absolute error. A fall at the start means that the model needs time to settle in.",
            figures["over_time"] is not None,
        ),
        (
            "lag",
            "CCC against a shift in time",
            "The prediction of a time held against the label of that time plus the shift. A best shift above 0 means "
            f"that labels come late.{best}",
            bool(best),
        ),
    )
    found = []
    for kind, title, reading, there in charts:
        body = f'<div class="chart {kind}" role="img" aria-label="{text(title + ". " + reading)}"></div>'
        if not there:
            body = '<p class="muted">Not defined here: there are too few labelled frames with a prediction.</p>'
        found.append(f'<figure><figcaption><h3>{title}</h3><p class="muted">{reading}</p></figcaption>{body}</figure>')
    return "".join(found)


def _robustness(figures: ReportFigures) -> str:
    if not figures["robustness"]:
        return ""
    return (
        '<h3 id="robustness">Robustness</h3><p class="muted">The run again with something taken away, and the paired '
        "change of its mean CCC with its 95% interval over clips; one that leaves out 0 is coloured.</p>"
        f"{report_tables.robustness(figures['robustness'])}"
    )


def _regions(plane: Plane) -> str:
    """The regions' whole texts and centres, or that there are none."""
    if not plane["region_texts"]:
        return f'<p class="note">{text(NO_REGIONS)}</p>'
    items = "".join(
        f"<li><span>{text(words)}</span><span>{number(float(valence), 2)}, {number(float(arousal), 2)}</span></li>"
        for words, (valence, arousal) in zip(plane["region_texts"], plane["centers"], strict=True)
    )
    return (
        f'<details>\n<summary>Texts and centres of the regions</summary>\n<ul class="regions">{items}</ul>\n</details>'
    )


def _abaw(figures: ReportFigures) -> str:
    """How this run's predictions became one for each frame."""
    said = "overlapping windows averaged" if figures["target"] == "frames" else "what each window says of its end"
    if figures["fill"] == "none":
        return (
            f"A prediction for every validly labelled frame that has one of its own (--fill none): {said}, frame times "
            "interpolated. The protocol itself asks for every frame."
        )
    return f"A prediction for every validly labelled frame: {said}, frame times interpolated."


def _readings(*, has_regions: bool) -> tuple[str, str]:
    """What is drawn of a clip beside valence and arousal, explained."""
    gate = "The gate is the share of the sound in what is read out, 0 to 1"
    if not has_regions:
        return "Gate", f"{gate}."
    return "Gate and regions", f"{gate}; region probabilities say which of the texts the head finds nearest."
