"""Figures -> `metrics.json` and one self-contained `index.html`.

The page is what a person reads and sends on: it carries plotly.js inside, asks the network for nothing and follows
the reader's light or dark setting. Numbers and text are plain HTML, so that they are there without JavaScript; only
the charts are drawn by `templates/report.js`, from JSON.
"""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypedDict

import numpy as np
import numpy.typing as npt

from va import files
from va.evaluate import markup, metrics
from va.evaluate.markup import number, text
from va.evaluate.protocol import Figure, Score
from va.version import __version__

MAX_TRACK_STEPS: Final = 2000
"""Steps drawn per trajectory: about two per pixel of the widest chart; more only makes the page heavier."""

DEMO_BANNER: Final = "Demo encoders on a synthetic corpus: figures say nothing about real faces or Aff-Wild2."
NAMES: Final = ("ccc_valence", "ccc_arousal", "ccc_mean")


class Row(TypedDict):
    """One line of the table: a model or a baseline under both protocols; `note` in a few words."""

    name: str
    note: str
    abaw: Score
    paper: Score | None


class ClipTrack(TypedDict):
    """One clip's trajectory: times [F] in seconds, (valence, arousal) [F, 2], valid [F]; NaN is a gap."""

    id: str
    time_s: npt.ArrayLike
    target: npt.ArrayLike
    valid: npt.ArrayLike
    prediction: npt.ArrayLike


class Plane(TypedDict):
    """The VA plane: region centres [R, 2] with their texts [R], and a sample of points [N, 2] of each kind."""

    centers: npt.ArrayLike
    region_texts: Sequence[str]
    points_target: npt.ArrayLike
    points_prediction: npt.ArrayLike


class ReportFigures(TypedDict):
    """Everything on the page.

    `rows[0]` is the run itself: its `abaw` score is the headline. `created` is an ISO 8601 time,
    `selected_on` a sentence that says on what the run was selected (settled 7), `provenance` (key, value)
    pairs in the order shown. `clips` may be empty.
    """

    title: str
    run: str
    corpus: str
    is_demo: bool
    split: str
    created: str
    selected_on: str
    rows: Sequence[Row]
    clips: Sequence[ClipTrack]
    plane: Plane
    provenance: Sequence[tuple[str, str]]


def write_report(figures: ReportFigures, directory: Path) -> Path:
    """Write `metrics.json` and `index.html`, each atomically.

    `metrics.json` holds everything but the points drawn (`clips`, `plane`), as strict JSON: NaN is null.

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
    from plotly.offline import get_plotlyjs

    head = figures["rows"][0]["abaw"]
    scripts = {"plotly": str(get_plotlyjs()), "script": markup.template("report.js")}
    tracks = [_track(clip) for clip in figures["clips"]]
    axis, rows = _table(figures["rows"])
    facts = {name: figures[name] for name in ("run", "corpus", "split", "created")}
    parts = {
        "policy": markup.policy(scripts.values()),
        "title": text(figures["title"]),
        "style": markup.template("report.css"),
        "banner": f'<div class="banner" role="note"><p>{text(DEMO_BANNER)}</p></div>' if figures["is_demo"] else "",
        "facts": markup.terms(facts.items()),
        "cards": "".join(_card(name.removeprefix("ccc_"), head[name]) for name in NAMES),
        "scored": _scored(head),
        "selected": text(figures["selected_on"]),
        "axis": axis,
        "rows": rows,
        "trajectories": "".join(map(_track_figure, range(len(tracks)), figures["clips"]))
        or '<p class="muted">No clip was kept to be drawn.</p>',
        "regions": _regions(figures["plane"]),
        "provenance": markup.terms(figures["provenance"]),
        "footer": text(f"Written by va {__version__}. One self-contained file: it asks the network for nothing."),
        "data": markup.script_json({"clips": tracks, "plane": _plane(figures["plane"])}),
        **scripts,
    }
    return markup.fill(markup.template("report.html"), parts)


def _scored(score: Score) -> str:
    """One sentence on what the headline was measured on."""
    measured = f"ABAW protocol: {score['num_frames']:,} labelled frames of {score['num_clips']:,} clips"
    if not score["coverage"] < 1.0:
        return f"{measured}, every frame with a prediction." if score["num_frames"] else "No frame has a valid label."
    share = math.floor(1000 * score["coverage"]) / 10  # rounding up would call 99.99% all of them
    return f"{measured}. Only {share}% of the labelled frames have a prediction: this is not the official score."


def _figure(figure: Figure | None, prefix: str) -> str:
    """A number and, below it, its interval."""
    if figure is None:
        return '<span class="number muted">n/a</span>'
    between = f"{number(figure['low'])} to {number(figure['high'])}" if math.isfinite(figure["low"]) else "no interval"
    return f'<span class="number">{number(figure["value"])}</span><span class="interval">{prefix}{between}</span>'


def _card(kind: str, figure: Figure) -> str:
    """One headline figure."""
    shown = _figure(figure, "<span>95% interval</span> ")
    return f'<div class="card {kind}"><h3>CCC {kind}</h3>{shown}</div>'


def _table(rows: Sequence[Row]) -> tuple[str, str]:
    """The axis of the drawn intervals, and a line per model: figures and interval of the mean."""
    lows = [row["abaw"]["ccc_mean"]["low"] for row in rows]
    start = min([0.0, *(low for low in lows if math.isfinite(low))])

    def at(value: float) -> float:
        return round(5 + 160 * (value - start) / (1 - start), 1)

    ticks = (0.0, 0.5, 1.0)
    labels = "".join(f'<text x="{at(tick)}" y="18">{number(tick, 1)}</text>' for tick in ticks)
    grid = "".join(f'<line class="grid" x1="{at(tick)}" x2="{at(tick)}" y1="0" y2="22"/>' for tick in ticks)
    grid += f'<line class="grid" x1="{at(start)}" x2="{at(1.0)}" y1="11" y2="11"/>'
    lines = []
    for row in rows:
        mean, drawn = row["abaw"]["ccc_mean"], grid
        if math.isfinite(mean["low"]):
            drawn += f'<line class="range" x1="{at(mean["low"])}" x2="{at(mean["high"])}" y1="11" y2="11"/>'
        if math.isfinite(mean["value"]):
            drawn += f'<circle cx="{at(mean["value"])}" cy="11" r="4.5"/>'
        name = f'{text(row["name"])}<span class="row-note">{text(row["note"])}</span>'
        drawing = f"<td>{_svg(drawn)}</td>"
        lines.append(f'<tr><th scope="row">{name}</th>{_cells(row["abaw"])}{drawing}{_cells(row["paper"])}</tr>')
    return _svg(labels), "\n".join(lines)


def _svg(content: str) -> str:
    # Hidden from assistive technology: the numbers beside it say the same.
    return f'<svg class="whisker" viewBox="0 0 170 22" aria-hidden="true">{content}</svg>'


def _cells(score: Score | None) -> str:
    """Valence, arousal and mean of one protocol."""
    figures = [score[name] if score else None for name in NAMES]
    marks = (' class="split"', "", "")
    return "".join(f"<td{mark}>{_figure(figure, '')}</td>" for figure, mark in zip(figures, marks, strict=True))


def _track(clip: ClipTrack) -> dict[str, object]:
    """A trajectory as the chart draws it: thinned, rounded, null where there is nothing to draw."""
    time_s, valid = np.asarray(clip["time_s"], dtype=np.float64), np.asarray(clip["valid"], dtype=bool)
    starts = np.arange(0, len(time_s), max(1, math.ceil(len(time_s) / MAX_TRACK_STEPS)))
    # A drawn step is shaded when any frame that it stands for has no label.
    kept = np.logical_and.reduceat(valid, starts) if len(starts) else valid
    target = np.where(kept[:, None], np.asarray(clip["target"], dtype=np.float64)[starts], np.nan)
    edges = np.flatnonzero(np.diff(np.concatenate([[True], kept, [True]])))
    ends_s = np.append(time_s[starts], time_s[-1:])
    return {
        "time_s": time_s[starts].round(3),
        "target": target.T.round(4),
        "prediction": np.asarray(clip["prediction"], dtype=np.float64)[starts].T.round(4),
        "shaded": [(ends_s[first], ends_s[after]) for first, after in zip(edges[::2], edges[1::2], strict=True)],
    }


def _track_figure(index: int, clip: ClipTrack) -> str:
    """The frame around one trajectory, with the clip's own figures in words."""
    prediction, target = np.asarray(clip["prediction"], dtype=float), np.asarray(clip["target"], dtype=float)
    valid = np.asarray(clip["valid"], dtype=bool) & np.isfinite(prediction).all(axis=1)
    valence, arousal = (number(metrics.ccc(prediction[:, k], target[:, k], valid)) for k in range(2))
    words = f"CCC within this clip: valence {valence}, arousal {arousal}"
    label = text(f"Annotated and predicted valence and arousal over time, clip {clip['id']}. {words}.")
    return (
        f'<figure><figcaption><h3>{text(clip["id"])}</h3><span class="muted">{words}</span></figcaption>'
        f'<div class="chart track" data-index="{index}" role="group" tabindex="0" aria-label="{label}"></div></figure>'
    )


def _plane(plane: Plane) -> dict[str, object]:
    """The plane as the chart draws it: boundaries halfway between centres, labels at their regions' tops."""
    centers = np.asarray(plane["centers"], dtype=np.float64)
    splits = [np.unique(centers[:, axis]) for axis in range(2)]
    splits = [(values[1:] + values[:-1]) / 2 for values in splits]
    tops = np.append(splits[1], 1.05)
    points = {
        name: np.asarray(plane[name], dtype=np.float64).reshape(-1, 2)
        for name in ("points_target", "points_prediction")
    }
    return {
        "centers": centers,
        "texts": list(plane["region_texts"]),
        # "sad, tired, and low-energy" -> "sad": the list beside the chart has the whole text
        "labels": [re.split(r",| and ", words)[0].strip()[:16] for words in plane["region_texts"]],
        "label_at": [(valence, tops[np.searchsorted(splits[1], arousal)]) for valence, arousal in centers],
        "valence_splits": splits[0],
        "arousal_splits": splits[1],
        **{name: values[np.isfinite(values).all(axis=1)].round(4) for name, values in points.items()},
    }


def _regions(plane: Plane) -> str:
    """The regions' whole texts and centres, as list items."""
    centers = np.asarray(plane["centers"], dtype=np.float64)
    rows = [
        (text(words), number(valence, 2), number(arousal, 2))
        for words, (valence, arousal) in zip(plane["region_texts"], centers, strict=True)
    ]
    return "".join(f"<li><span>{words}</span><span>{v}, {a}</span></li>" for words, v, a in rows)
