"""Evaluation of a run on a split: what is measured, in order, and the files that hold it.

Run it as `va evaluate RUN --out DIR`. Read `run` top to bottom; each step has a module of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import torch

from va import files
from va.data.corpus import Clip
from va.data.sample import Sample, read_sample
from va.device import choose_device
from va.evaluate import compare, metrics, outputs, predict, provenance, robustness, rows, selection, submission, tracks
from va.evaluate.assemble import ClipSeries
from va.evaluate.compare import Compared, Other
from va.evaluate.config import EvaluateConfig
from va.evaluate.diagnostics import truth_series
from va.evaluate.figures import ReportFigures, Robustness, Row, Smoothing, Smoothness
from va.evaluate.opening import Inputs, open_split
from va.evaluate.pages import report, sentences
from va.evaluate.predict import SplitPredictions
from va.evaluate.protocol import ClipFrames
from va.evaluate.published import PUBLISHED
from va.evaluate.rows import Scoring
from va.train.checkpoint import Run

Progress = Callable[[int, int, str], None]

_STEPS: Final = ("predictions", "smoothing", "other runs", "conditions", "baselines", "files")


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """Everything that can be found missing or wrong before anything is computed."""

    loaded: Run
    inputs: Inputs
    clips: tuple[Clip, ...]
    others: list[Other]
    sample: Sample | None
    scoring: Scoring
    device: torch.device


@dataclass(frozen=True, kw_only=True)
class _Smoothed:
    """A chosen smoothing applied: series and frames, or None where nothing is smoothed."""

    choice: Smoothing | None
    series: list[ClipSeries] | None
    frames: list[ClipFrames] | None


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """What was predicted and scored, the run's own and what stands beside it."""

    found: SplitPredictions
    has_labels: bool
    smoothed: _Smoothed
    compared: list[Compared]
    under: list[Robustness]
    baselines: list[Row]


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
    opened = _open(config)
    measured = _measure(config, opened, progress=progress)
    _report(progress, "files")
    figures = _figures(config, opened, measured)
    _write(config, opened, measured, figures)
    progress(len(_STEPS), len(_STEPS), "")
    return figures


def _open(config: EvaluateConfig) -> _Opened:
    device = choose_device(config.device)
    loaded, inputs, clips = open_split(
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
    selection.check(loaded, kernel=config.smooth, width_s=config.smooth_s)
    sample = None
    if config.submission is not None:
        sample = read_sample(config.submission)
        submission.check_clips(sample, [clip.id for clip in clips], split=config.split)
    scoring = Scoring(
        fill=config.fill,
        label_shift_s=config.label_shift_s,
        resamples=config.resamples,
        seed=loaded.config.seed,
    )
    return _Opened(
        loaded=loaded, inputs=inputs, clips=clips, others=others, sample=sample, scoring=scoring, device=device
    )


def _measure(config: EvaluateConfig, opened: _Opened, *, progress: Progress) -> _Measured:
    loaded, inputs, clips = opened.loaded, opened.inputs, opened.clips
    scoring, device = opened.scoring, opened.device
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
        compare.compare(loaded, found.frames, other, clips=clips, device=device, scoring=scoring)
        for other in opened.others
    ]
    _report(progress, "conditions")
    under = []
    if config.robustness and has_labels:
        under = robustness.measure(loaded, found.windows, found.truths, found.frames, scoring)
    _report(progress, "baselines")
    baselines = rows.ridge_rows(loaded, inputs, clips, found.truths, scoring) if has_labels else []
    return _Measured(
        found=found, has_labels=has_labels, smoothed=smoothed, compared=compared, under=under, baselines=baselines
    )


def _figures(config: EvaluateConfig, opened: _Opened, measured: _Measured) -> ReportFigures:
    loaded, inputs, scoring = opened.loaded, opened.inputs, opened.scoring
    found, smoothed, compared = measured.found, measured.smoothed, measured.compared
    others = [one.loaded for one in opened.others]
    ours = _own_rows(loaded, found, smoothed, scoring)
    few = sentences.few_clips(
        sentences.fewest(score["num_clips"] for score in (ours[0]["abaw"], ours[0]["paper"]) if score)
    )
    return ReportFigures(
        title=f"{rows.describe_model(loaded)} on {inputs.corpus.name}",
        run=loaded.directory.name,
        corpus=inputs.corpus.name,
        synthetic=inputs.corpus.synthetic,
        is_demo=any(one.info["demo_encoders"] for one in (loaded, *others)),
        split=config.split,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        selected_on=provenance.selected_on(loaded),
        target=loaded.config.target,
        fill=config.fill,
        filled=ours[0]["abaw"]["filled"],
        label_shift_s=config.label_shift_s,
        warnings=[*provenance.warnings(loaded, others, opened.clips), *filter(None, [few])],
        rows=[*ours, *(one.row for one in compared), *measured.baselines],
        published=PUBLISHED,
        comparisons=[one.comparison for one in compared],
        pooled=_both(found.frames, smoothed, tracks.pooled_metrics),
        per_video=_both(found.frames, smoothed, lambda some: metrics.mean_over_clips(tracks.own_metrics(some))),
        smoothing=smoothed.choice,
        smoothness=_smoothness(opened.clips, found, smoothed, compared),
        robustness=measured.under,
        lag=tracks.lag(found, scoring) if measured.has_labels else None,
        calibration=tracks.calibration(found.frames) if measured.has_labels else {},
        over_time=tracks.error_over_time(found.frames),
        plane=tracks.plane(loaded, found.frames),
        clips=tracks.clip_tracks(
            found, smoothed.frames, tracks.own_metrics(found.frames), has_regions=loaded.has_regions
        ),
        provenance=provenance.pairs(config, loaded, inputs, opened.clips),
    )


def _write(config: EvaluateConfig, opened: _Opened, measured: _Measured, figures: ReportFigures) -> None:
    """Write every file; the page, which says that all is well, comes last."""
    frames = measured.found.frames
    if opened.sample is not None:
        figures["submission"] = _submit(config, opened.sample, measured.found, measured.smoothed)
    else:  # one of another run must not lie beside this run's figures
        files.remove(config.out / submission.NAME)
    outputs.write_csv(config.out / "predictions.csv", frames, measured.smoothed.frames)
    outputs.write_hdf5(
        config.out / "predictions.h5", figures["clips"], frames, provenance.attributes(figures, opened.loaded)
    )
    report.write_report(figures, config.out)


def _report(progress: Progress, step: str) -> None:
    progress(_STEPS.index(step), len(_STEPS), step)


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
    if loaded.has_regions:
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
    said = f"{path.name} ({len(sample.frames):,} frames, {kind})"
    beyond = submission.beyond_the_end(sample, [one.id for one in series], found.truths)
    if beyond:
        said += f"; {len(beyond):,} of them lie beyond their video's end and hold its last value, first {beyond[0]}"
    return said
