"""Evaluation of a run on a split: what is measured, in order, and the files that hold it.

Run it as `va evaluate RUN --out DIR`. Read `run` top to bottom; each step has a module of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from va import files, settings
from va.data.corpus import Clip
from va.data.sample import Sample, read_sample
from va.device import choose_device
from va.evaluate import compare, metrics, outputs, predict, report, robustness, rows, selection, submission, tracks
from va.evaluate.assemble import ClipSeries
from va.evaluate.compare import Compared
from va.evaluate.config import EvaluateConfig
from va.evaluate.diagnostics import truth_series
from va.evaluate.figures import ReportFigures, Row, Smoothing, Smoothness
from va.evaluate.predict import Inputs, SplitPredictions
from va.evaluate.protocol import ClipFrames
from va.evaluate.published import PUBLISHED
from va.evaluate.rows import Scoring
from va.train.checkpoint import Run

Progress = Callable[[int, int, str], None]

_STEPS: Final = ("predictions", "smoothing", "other runs", "conditions", "baselines", "files")


@dataclass(frozen=True, kw_only=True)
class _Smoothed:
    """A chosen smoothing applied: series and frames, or None where nothing is smoothed."""

    choice: Smoothing | None
    series: list[ClipSeries] | None
    frames: list[ClipFrames] | None


def run(config: EvaluateConfig, *, progress: Progress) -> ReportFigures:
    """Score a run and write `metrics.json`, `predictions.csv`, `predictions.h5`, `index.html` and the submission.

    Args:
        config: The stage's settings.
        progress: Called with (steps done, steps in all, what is next).

    Returns:
        The figures; `rows[0]` is the run's own, raw.

    Raises:
        VAError: The run, its corpus, its features, a run to compare with or the sample file cannot be opened or do not
            fit; nothing is written then.
    """
    device = choose_device(config.device)
    loaded, inputs, clips = predict.open_split(
        config.run, split=config.split, corpus=config.corpus, features_root=config.features
    )
    compare.check_unseen(loaded, clips, split=config.split)
    others = compare.open_others(
        config.compare,
        corpus=config.corpus,
        features_root=config.features,
        own=inputs,
        clips=clips,
        split=config.split,
    )
    sample = None if config.submission is None else _open_sample(config, clips)
    scoring = Scoring(
        fill=config.fill,
        label_shift_s=config.label_shift_s,
        resamples=config.resamples,
        seed=loaded.config.seed,
    )

    _report(progress, "predictions")
    found = predict.predict_clips(
        loaded, inputs, clips, device=device, fill=config.fill, label_shift_s=config.label_shift_s
    )
    has_labels = any(bool(clip.valid.any()) for clip in found.frames)
    _report(progress, "smoothing")
    choice = None
    if config.smooth != "none":
        choice = selection.choose(
            loaded,
            inputs,
            kernel=config.smooth,
            width_s=config.smooth_s,
            split=config.split,
            device=device,
            scoring=scoring,
        )
    smoothed = _smooth(choice, found, scoring)
    _report(progress, "other runs")
    compared = [
        compare.compare(loaded, found.frames, other, clips=clips, device=device, scoring=scoring) for other in others
    ]
    _report(progress, "conditions")
    under = []
    if config.robustness and has_labels:
        under = robustness.measure(loaded, found.windows, found.truths, found.frames, scoring)
    _report(progress, "baselines")
    baselines = rows.ridge_rows(loaded, inputs, clips, found.truths, scoring) if has_labels else []

    _report(progress, "files")
    own = tracks.own_metrics(found.frames)
    figures = ReportFigures(
        title=f"{rows.describe_model(loaded)} on {inputs.corpus.name}",
        run=loaded.directory.name,
        corpus=inputs.corpus.name,
        synthetic=inputs.corpus.synthetic,
        is_demo=bool(loaded.info["demo_encoders"]),
        split=config.split,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        selected_on=_selected_on(loaded),
        fill=config.fill,
        filled=scoring.abaw(found.frames)["filled"],
        label_shift_s=config.label_shift_s,
        rows=[*_own_rows(loaded, found, smoothed, scoring), *(one.row for one in compared), *baselines],
        published=PUBLISHED,
        comparisons=[one.comparison for one in compared],
        pooled=_both(found.frames, smoothed, tracks.pooled_metrics),
        per_video=_both(found.frames, smoothed, lambda some: metrics.mean_over_clips(tracks.own_metrics(some))),
        smoothing=smoothed.choice,
        smoothness=_smoothness(clips, found, smoothed, compared),
        robustness=under,
        lag=tracks.lag(found, scoring) if has_labels else None,
        calibration=tracks.calibration(found.frames) if has_labels else {},
        over_time=tracks.error_over_time(found.frames),
        plane=tracks.plane(loaded, found.frames),
        clips=tracks.clip_tracks(found, smoothed.frames, own),
        provenance=_provenance(config, loaded, inputs, clips),
    )
    if sample is not None:
        figures["submission"] = _submit(config, sample, found, smoothed)
    outputs.write_csv(config.out / "predictions.csv", found.frames, smoothed.frames)
    outputs.write_hdf5(config.out / "predictions.h5", figures["clips"], found.frames, _attributes(figures, loaded))
    report.write_report(figures, config.out)
    progress(len(_STEPS), len(_STEPS), "")
    return figures


def as_json(out: Path) -> dict[str, Any]:
    """Read the figures back as `metrics.json` has them: strict JSON, without the clips' series and the plane.

    Raises:
        VAError: They are not there.
    """
    return files.read_json(out / "metrics.json", what="an evaluation's figures", hint="Run 'va evaluate' again.")


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
    """Say in sentences what the table does not: no labels, a shift, the smoothing, differences, the submission."""
    found = []
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


def _report(progress: Progress, step: str) -> None:
    progress(_STEPS.index(step), len(_STEPS), step)


def _open_sample(config: EvaluateConfig, clips: Sequence[Clip]) -> Sample:
    assert config.submission is not None
    sample = read_sample(config.submission)
    submission.check_clips(sample, [clip.id for clip in clips], split=config.split)
    return sample


def _smooth(choice: Smoothing | None, found: SplitPredictions, scoring: Scoring) -> _Smoothed:
    if choice is None or choice["kernel"] == "none":
        return _Smoothed(choice=choice, series=None, frames=None)
    series = selection.apply(choice, found.series)
    return _Smoothed(choice=choice, series=series, frames=scoring.frames(series, found.truths))


def _own_rows(loaded: Run, found: SplitPredictions, smoothed: _Smoothed, scoring: Scoring) -> list[Row]:
    """The run itself, smoothed, and read from its regions."""
    name = rows.describe_model(loaded)
    wanted = [
        Row(
            kind="run",
            name=name,
            note="this run",
            abaw=scoring.abaw(found.frames),
            paper=scoring.paper(found.ends),
        )
    ]
    if smoothed.frames is not None and smoothed.choice is not None:
        choice = smoothed.choice
        note = f"{choice['kernel']}, {choice['width_s']:g} s wide"
        score = scoring.abaw(smoothed.frames)
        wanted.append(Row(kind="smoothed", name=f"{name}, smoothed", note=note, abaw=score, paper=None))
    if loaded.config.region_weight:
        wanted.append(
            Row(
                kind="reading",
                name="The same head, read from its regions",
                note="centres weighted by region probabilities",
                abaw=scoring.abaw(found.reading),
                paper=None,
            )
        )
    return wanted


def _both(
    frames: Sequence[ClipFrames], smoothed: _Smoothed, measure: Callable[[Sequence[ClipFrames]], dict[str, float]]
) -> dict[str, dict[str, float]]:
    answer = {"raw": measure(frames)}
    if smoothed.frames is not None:
        answer["smoothed"] = measure(smoothed.frames)
    return answer


def _smoothness(
    clips: Sequence[Clip], found: SplitPredictions, smoothed: _Smoothed, compared: Sequence[Compared]
) -> list[Smoothness]:
    answer = [tracks.smoothness("This run", found.series)]
    if smoothed.series is not None:
        answer.append(tracks.smoothness("This run, smoothed", smoothed.series))
    answer += [tracks.smoothness(one.row["name"], one.series) for one in compared]
    labels = [truth_series(clip.id, truth) for clip, truth in zip(clips, found.truths, strict=True)]
    return [*answer, tracks.smoothness("Annotation", labels)]


def _submit(config: EvaluateConfig, sample: Sample, found: SplitPredictions, smoothed: _Smoothed) -> str:
    series = found.series
    if config.submit != "raw" and smoothed.series is not None:
        series = smoothed.series
    path = config.out / submission.NAME
    submission.write_submission(
        path, sample, series, found.truths, fill=config.fill, label_shift_s=config.label_shift_s
    )
    kind = "raw" if series is found.series else "smoothed"
    return f"{path} ({len(sample.frames):,} frames, {kind})"


def _attributes(figures: ReportFigures, loaded: Run) -> dict[str, Any]:
    smoothing = figures["smoothing"]
    return {
        "run": figures["run"],
        "corpus": figures["corpus"],
        "split": figures["split"],
        "demo_encoders": figures["is_demo"],
        "fill": figures["fill"],
        "label_shift_s": figures["label_shift_s"],
        "smoothing_kernel": smoothing["kernel"] if smoothing else "none",
        "smoothing_width_s": smoothing["width_s"] if smoothing else 0.0,
        "region_texts": {str(index): words for index, words in enumerate(figures["plane"]["region_texts"])},
        "versions": loaded.info["versions"],
    }


def _provenance(config: EvaluateConfig, loaded: Run, inputs: Inputs, clips: Sequence[Clip]) -> list[tuple[str, str]]:
    info = loaded.info
    pairs = [
        ("Corpus", f"{inputs.corpus.name} ({'synthetic' if inputs.corpus.synthetic else inputs.corpus.path})"),
        ("Scored split", f"{config.split}, {len(clips)} clips"),
        ("Selection", f"{info['selection']['split']}: {', '.join(info['selection']['clips'])}"),
        ("Frame features", predict.describe_identity(inputs.face)),
        ("Audio features", predict.describe_identity(inputs.voice)),
        ("Intervals", f"95%, bootstrap over clips, {config.resamples} resamples, seed {loaded.config.seed}"),
        ("Frames without a prediction of their own", config.fill),
        ("Label shift", f"{config.label_shift_s:g} s"),
        ("Trained", info["created"]),
    ]
    pairs += [
        (f"Setting {name}", str(value)) for name, value in settings.as_dict(loaded.config, digest_only=True).items()
    ]
    return pairs + [(f"Version of {name}", version) for name, version in info["versions"].items()]


def _selected_on(loaded: Run) -> str:
    selected = loaded.info["selection"]
    if loaded.members:
        return (
            f"The mean of {loaded.members} members; the epoch of each was chosen on its own held-out training clips, "
            "by mean CCC of the abaw protocol."
        )
    return (
        f"Epoch {selected['epoch']} was chosen on {selected['split']} "
        f"({len(selected['clips'])} clips), by mean CCC of the abaw protocol."
    )


def _shown(value: float) -> str:
    return f"{value:z.3f}" if value == value else "n/a"
