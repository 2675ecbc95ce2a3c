"""The tables of an evaluation report: everything that can be read without a script."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from va.evaluate.figures import ClipTrack, Comparison, Published, ReportFigures, Robustness, Row, Smoothing, Smoothness
from va.evaluate.pages import whiskers
from va.evaluate.pages.markup import number, row_head, scrolling_table, text
from va.evaluate.pages.report_charts import COLUMNS
from va.evaluate.pages.whiskers import signed
from va.evaluate.protocol import Figure, Score

AXES: Final = ("valence", "arousal", "mean")
NAMES: Final = ("ccc_valence", "ccc_arousal", "ccc_mean")
_GROUPS: Final = (
    ("This run", ("run", "smoothed", "reading")),
    ("Compared runs", ("compared",)),
    ("Baselines", ("baseline",)),
)
_METRICS: Final = {
    "ccc": "CCC",
    "pcc": "PCC, Pearson's correlation",
    "rmse": "RMSE",
    "mae": "MAE",
    "sagr": "Sign agreement",
}


def figure(found: Figure | None, *, form: Callable[[float], str] = number) -> str:
    """A number and, below it, its interval.

    Args:
        found: None where there is no such figure.
        form: How to write a number.
    """
    if found is None:
        return '<span class="number muted">n/a</span>'
    whole = math.isfinite(found["low"]) and math.isfinite(found["high"])
    between = f"{form(found['low'])} to {form(found['high'])}" if whole else "no interval"
    return f'<span class="number">{form(found["value"])}</span><span class="interval">{between}</span>'


def share(value: float) -> str:
    """A share of something in per cent, rounded down: rounding up would call 99.99% all of it.

    Args:
        value: In [0, 1]; "n/a" when it is not finite.
    """
    if not math.isfinite(value):
        return "n/a"
    if 0 < value < 0.001:
        return "less than 0.1%"
    return "100%" if value == 1 else f"{math.floor(1000 * value + 1e-9) / 10:.1f}%"


def models(rows: Sequence[Row], *, every_frame: bool) -> str:
    """The run, its readings, compared runs and baselines under both protocols.

    Args:
        rows: In the order shown within each group.
        every_frame: Frames without a prediction of their own were filled.
    """
    axis = whiskers.scores(row["abaw"]["ccc_mean"] for row in rows)
    bodies = []
    for title, kinds in _GROUPS:
        lines = []
        for row in (row for row in rows if row["kind"] in kinds):
            kind = ' class="own"' if row["kind"] == "run" else ""
            lines.append(
                f"<tr{kind}>{row_head(row['name'], row['note'])}{_scores(row['abaw'])}"
                f"<td>{axis.draw(row['abaw']['ccc_mean'])}</td>{_scores(row['paper'])}</tr>"
            )
        if lines:
            group = f'<tr class="group"><th scope="rowgroup" colspan="8">{title}</th></tr>'
            bodies.append([group, *lines])
    columns = _columns(3, 2)
    counted = "every labelled frame" if every_frame else "labelled frames with a prediction of their own"
    head = (
        '<tr><th scope="col" rowspan="2">Model</th>'
        f'<th scope="colgroup" colspan="3" class="split">ABAW: {counted}</th>'
        f'<th scope="col" rowspan="2">ABAW mean {axis.labels()}</th>'
        f'<th scope="colgroup" colspan="3" class="split">Paper: window ends</th></tr><tr>{columns}</tr>'
    )
    return scrolling_table("models", "comparison", head, *bodies)


def published(found: Sequence[Published], *, comparable: bool) -> str:
    """Figures of others on Aff-Wild2, kept apart from what was measured here.

    Args:
        found: What is quoted.
        comparable: The corpus here is Aff-Wild2 too.
    """
    if not found:
        return ""
    warning = (
        "They are of splits and protocols of their authors' choice, which not all of them name."
        if comparable
        else "The corpus here is not Aff-Wild2: no figure of this page can be compared with these."
    )
    lines = []
    for row in found:
        quoted = [row[name] for name in NAMES]
        written = ['<span class="muted">not said</span>' if value is None else number(value) for value in quoted]
        cells = "".join(f"<td>{value}</td>" for value in written)
        lines.append(f"<tr>{row_head(row['name'], row['note'])}{cells}</tr>")
    names = "".join(f'<th scope="col">{name}</th>' for name in ("Source", "Valence", "Arousal", "Mean"))
    table = scrolling_table("even", "published", f"<tr>{names}</tr>", lines)
    return (
        '<div class="quoted"><h3 id="published">Published for Aff-Wild2: quoted, not verified here</h3>'
        f'<p class="muted">CCC as others have published it. {warning}</p>{table}</div>'
    )


def smoothing(found: Smoothing | None) -> str:
    """What was chosen and from what.

    Args:
        found: None when smoothing was not asked for.
    """
    if found is None:
        return '<p class="muted">Nothing was smoothed.</p>'
    chosen = f"{found['kernel']} kernel, {found['width_s']:g} s wide" if found["width_s"] else "none, as none helped"
    said = f"<p>Smoothing: {text(chosen)}; chosen on {text(found['chosen_on'])}.</p>"
    if not found["candidates"]:
        return said
    lines = ""
    for kernel, width, mean in found["candidates"]:
        kind = ' class="own"' if (kernel, width) == (found["kernel"], found["width_s"]) else ""
        lines += f'<tr{kind}><th scope="row">{text(kernel)}</th><td>{width:g}</td><td>{_number(mean)}</td></tr>'
    names = "".join(f'<th scope="col">{name}</th>' for name in ("Kernel", "Width (s)", "CCC mean"))
    return (
        f"{said}<details><summary>All {len(found['candidates'])} candidates, on the clips chosen on</summary>"
        f'<table class="small" aria-label="Candidates of smoothing"><thead><tr>{names}</tr></thead>'
        f"<tbody>{lines}</tbody></table></details>"
    )


def comparisons(found: Sequence[Comparison]) -> str:
    """The run minus others, as a section; nothing when there are none.

    Args:
        found: In the order shown.
    """
    if not found:
        return ""
    axis = whiskers.differences(row[name] for row in found for name in NAMES)
    lines = []
    for row in found:
        cells = "".join(_difference(row[name], axis) for name in NAMES)
        lines.append(f"<tr>{row_head(row['name'], row['run'])}{cells}</tr>")
    names = "".join(f'<th scope="col">{name.capitalize()} {axis.labels()}</th>' for name in AXES)
    table = scrolling_table("even", "differences", f'<tr><th scope="col">This run minus</th>{names}</tr>', lines)
    sentences = "".join(f"<li>{text(row['sentence'])}</li>" for row in found)
    return (
        '<section aria-labelledby="differences"><h2 id="differences">Against other runs</h2>'
        '<p class="muted">CCC of this run minus the other run\'s on the same frames, with paired 95% intervals over '
        "clips. Right of the dashed line this run agrees better; an interval that leaves out 0 is coloured.</p>"
        f'<ul class="sentences">{sentences}</ul>{table}</section>'
    )


def clips(found: Sequence[ClipTrack], order: Sequence[int]) -> str:
    """Rows of the table of clips; the index of each is its place in the charts' data.

    Args:
        found: All clips.
        order: In which they are shown, by index.
    """
    lines = []
    for place, clip in enumerate(found[index] for index in order):
        cells = "".join(f"<td>{_number(clip['metrics'][name])}</td>" for name in COLUMNS)
        lines.append(
            f'<tr data-index="{place}"><th scope="row">{text(clip["id"])}</th>'
            f"<td>{number(clip['duration_s'], 1)}</td><td>{share(clip['labelled'])}</td>{cells}</tr>"
        )
    return "".join(lines)


def smoothness(found: Sequence[Smoothness]) -> str:
    """How much each series moves.

    Args:
        found: In the order shown.
    """
    lines = []
    for row in found:
        moved = (row["tv_valence"], row["tv_arousal"], row["jerk_valence"], row["jerk_arousal"])
        lines.append(row_head(row["name"], "") + "".join(f"<td>{_digits(value)}</td>" for value in moved))
    head = (
        '<tr><th scope="col" rowspan="2">Series</th>'
        '<th scope="colgroup" colspan="2" class="split">Total variation (1/s)</th>'
        '<th scope="colgroup" colspan="2" class="split">Jerk (1/s³)</th></tr>'
        f"<tr>{_columns(2, 2)}</tr>"
    )
    return scrolling_table("even", "smoothness", head, (f"<tr>{line}</tr>" for line in lines))


def robustness(found: Sequence[Robustness]) -> str:
    """The run under conditions, and how much each costs.

    Args:
        found: In the order shown.
    """
    axis = whiskers.differences(row["change"] for row in found)
    lines = [
        f"<tr>{row_head(row['name'], row['note'])}{_scores(row['abaw'])}"
        f'<td class="split">{figure(row["change"], form=signed)}</td>'
        f"<td{_clear(row['change'])}>{axis.draw(row['change'])}</td></tr>"
        for row in found
    ]
    head = (
        '<tr><th scope="col" rowspan="2">Condition</th><th scope="colgroup" colspan="3" class="split">CCC</th>'
        '<th scope="col" rowspan="2" class="split">Change of mean</th>'
        f'<th scope="col" rowspan="2">{axis.labels()}</th></tr><tr>{_columns(3, 1)}</tr>'
    )
    return scrolling_table("even", "robustness", head, lines)


def metrics(figures: ReportFigures) -> str:
    """Every metric, pooled and as the mean of the clips' own, raw and smoothed.

    Args:
        figures: With `pooled` and `per_video`.
    """
    series = [name for name in ("raw", "smoothed") if name in figures["pooled"]]
    tables = []
    for title, key, found in (
        ("All frames pooled", "pooled", figures["pooled"]),
        ("Mean of the clips' own values", "per-video", figures["per_video"]),
    ):
        lines = []
        for name, words in _METRICS.items():
            cells = "".join(
                f"<td{mark}>{_metric(found[kind], f'{name}_{axis}')}</td>"
                for kind in series
                for axis, mark in zip(AXES, (' class="split"', "", ""), strict=True)
            )
            lines.append(f'<tr><th scope="row">{text(words)}</th>{cells}</tr>')
        groups = "".join(f'<th scope="colgroup" colspan="3" class="split">{kind.capitalize()}</th>' for kind in series)
        head = f'<tr><th scope="col" rowspan="2">Metric</th>{groups}</tr><tr>{_columns(3, len(series))}</tr>'
        tables.append(f'<h3 id="{key}">{title}</h3>{scrolling_table("even", key, head, lines)}')
    return "".join(tables)


def _metric(found: Mapping[str, float], name: str) -> str:
    """A metric, and how many clips have none of their own, where some have not."""
    lacking = found.get(f"undefined_{name}", 0.0)
    note = f'<span class="interval">{lacking:g} clips have none</span>' if lacking else ""
    return _number(found.get(name, math.nan)) + note


def _scores(score: Score | None) -> str:
    """Valence, arousal and mean of one protocol."""
    found = [score[name] if score else None for name in NAMES]
    return "".join(f"<td{mark}>{figure(one)}</td>" for one, mark in zip(found, (' class="split"', "", ""), strict=True))


def _difference(found: Figure, axis: whiskers.Axis) -> str:
    return f"<td{_clear(found)}>{figure(found, form=signed)}{axis.draw(found)}</td>"


def _clear(found: Figure) -> str:
    return ' class="clear"' if found["low"] > 0 or found["high"] < 0 else ""


def _number(value: float) -> str:
    return number(value) if math.isfinite(value) else '<span class="muted">n/a</span>'


def _digits(value: float) -> str:
    """Three digits that count, whatever the size."""
    if not math.isfinite(value) or value == 0:
        return _number(value)
    return number(value, max(0, 2 - math.floor(math.log10(abs(value)))))


def _columns(count: int, groups: int) -> str:
    first, *others = [name.capitalize() for name in AXES[:count]]
    group = f'<th scope="col" class="split">{first}</th>' + "".join(f'<th scope="col">{name}</th>' for name in others)
    return group * groups
