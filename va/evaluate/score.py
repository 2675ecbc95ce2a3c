"""Evaluation of a run on a split: predictions, both protocols, ridge baselines, files and page.

Run it as `va evaluate RUN --out DIR`.
"""

import csv
import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from va import files, settings
from va.data import features, timeline
from va.data.corpus import Clip, Corpus
from va.data.features import FeatureStore
from va.device import choose_device
from va.errors import VAError
from va.evaluate import assemble, baselines, predict, protocol, report
from va.evaluate.config import EvaluateConfig
from va.evaluate.predict import Inputs, SplitPredictions
from va.evaluate.protocol import ClipFrames
from va.evaluate.report import ReportFigures, Row
from va.train import checkpoint
from va.train.checkpoint import Run

_PLANE_POINTS: Final = 1500


def run(config: EvaluateConfig, *, progress: Callable[[int, int, str], None]) -> ReportFigures:
    """Score a run and write `metrics.json`, `predictions.csv` and `index.html`.

    Args:
        config: The stage's settings.
        progress: Called with (steps done, steps in all, what is next).

    Returns:
        The figures; `rows[0]` is the run's own.

    Raises:
        VAError: The run, its corpus or its features cannot be opened or do not fit; nothing is written then.
    """
    steps = 4
    progress(0, steps, "predictions")
    loaded, inputs, predictions = predict_split(
        config.run,
        split=config.split,
        corpus=config.corpus,
        features_root=config.features,
        device=choose_device(config.device),
    )
    progress(1, steps, "scores")
    rows = [
        Row(
            name=_describe_model(loaded),
            note="this run",
            abaw=protocol.score_abaw(predictions.frames, resamples=config.resamples, seed=loaded.config.seed),
            paper=protocol.score_paper(predictions.ends, resamples=config.resamples, seed=loaded.config.seed),
        )
    ]
    if loaded.config.region_weight:
        score = protocol.score_abaw(predictions.reading, resamples=config.resamples, seed=loaded.config.seed)
        rows.append(
            Row(
                name="The same head, read from its regions",
                note="centres weighted by region probabilities",
                abaw=score,
                paper=None,
            )
        )
    progress(2, steps, "baselines")
    rows += ridge_rows(loaded, inputs, inputs.corpus.split(config.split), resamples=config.resamples)
    progress(3, steps, "page")
    figures = _figures(config, loaded, inputs, predictions, rows)
    _write_csv(config.out / "predictions.csv", predictions.frames)
    report.write_report(figures, config.out)
    progress(steps, steps, "")
    return figures


def predict_split(
    directory: Path, *, split: str, corpus: Path | None, features_root: Path | None, device: torch.device
) -> tuple[Run, Inputs, SplitPredictions]:
    """Load a run, open what it was trained on, and predict a split.

    Args:
        directory: The run.
        split: Of its corpus; must have clips.
        corpus: Manifest, when it has moved.
        features_root: Features folder, when it has moved.
        device: Where to compute.

    Raises:
        VAError: The run, its corpus or its features cannot be opened or do not fit, or the split is empty.
    """
    loaded = checkpoint.load_run(directory)
    inputs = predict.open_inputs(loaded, corpus=corpus, features_root=features_root)
    clips = inputs.corpus.split(split)
    if not clips:
        raise VAError(f"{inputs.corpus.path}: has no '{split}' clips", "Choose another --split.")
    return loaded, inputs, predict.predict_clips(loaded, inputs, clips, device=device)


def ridge_rows(loaded: Run, inputs: Inputs, clips: tuple[Clip, ...], *, resamples: int) -> list[Row]:
    """Score ridge regressions on trivial features and on the frozen embeddings, cell by cell.

    They show what a result is worth: the first is what pixels and loudness give away, the second what the encoders
    know without any head.

    Args:
        loaded: Gives the training and selection clips.
        inputs: Corpus and features; the trivial encoders' stores are looked for beside them.
        clips: Clips to score.
        resamples: Bootstrap resamples.
    """
    if not loaded.info["train_clips"]:
        return []  # a run that was shared does not say what to fit a baseline on
    stores = {store.encoder: store for store in features.open_stores(inputs.face.directory.parent)}
    trivial = [stores[name] for name in ("pixels", "loudness") if name in stores]
    found = []
    if len(trivial) == 2:
        found.append(
            _ridge_row(
                "Ridge on 16x16 pixels and loudness", "trivial baseline", trivial, loaded, inputs, clips, resamples
            )
        )
    embeddings = [inputs.face, inputs.voice]
    found.append(_ridge_row("Ridge on frozen embeddings", "no head", embeddings, loaded, inputs, clips, resamples))
    return found


def _ridge_row(
    name: str,
    note: str,
    stores: list[FeatureStore],
    loaded: Run,
    inputs: Inputs,
    clips: tuple[Clip, ...],
    resamples: int,
) -> Row:
    corpus = inputs.corpus
    by_id = {clip.id: clip for clip in corpus.clips}
    train = [by_id[name] for name in loaded.info["train_clips"]]
    selection = [by_id[name] for name in loaded.info["selection"]["clips"]]
    fitted, _ = baselines.choose_ridge(
        *_labelled_cells(corpus, train, stores), *_labelled_cells(corpus, selection, stores), alphas=baselines.ALPHAS
    )
    scored = []
    for clip in clips:
        values = cell_features(clip, stores)
        scored.append(
            assemble.frames_from_cells(
                clip.id,
                values=fitted.predict(values),
                covered=np.ones(len(values), np.bool_),
                time_s=timeline.cell_centers(len(values)),
                truth=corpus.truth(clip),
            )
        )
    abaw = protocol.score_abaw(scored, resamples=resamples, seed=loaded.config.seed)
    return Row(
        name=name, note=f"{note}, alpha {fitted.alpha:g} chosen on {loaded.config.select_on}", abaw=abaw, paper=None
    )


def cell_features(clip: Clip, stores: list[FeatureStore]) -> NDArray[np.float64]:
    """Join several encoders' features cell by cell; overlapping audio windows are averaged, masked cells are 0.

    Args:
        clip: The clip.
        stores: Of either kind.

    Returns:
        float64 [cells, sum of dims].
    """
    count = timeline.num_cells(clip.duration_s)
    columns = []
    for store in stores:
        found = store.read(clip.id)
        if store.kind == "frames":
            columns.append(found.values.astype(np.float64))
            continue
        first = np.round(found.time_s / timeline.CELL_S).astype(np.int64)
        cells = first[:, None] + np.arange(found.values.shape[1])
        cells = np.where(found.valid & (cells < count), cells, -1)
        means, covered = protocol.average_windows(found.values.astype(np.float64), cells, count)
        columns.append(np.where(covered[:, None], means, 0.0))
    return np.concatenate(columns, axis=1)


def _labelled_cells(
    corpus: Corpus, clips: list[Clip], stores: list[FeatureStore]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    inputs, targets = [], []
    for clip in clips:
        values, truth = cell_features(clip, stores), corpus.truth(clip)
        index = timeline.frame_at(truth.time_s, timeline.cell_centers(len(values)))
        kept = (index >= 0) & truth.valid[index]
        inputs.append(values[kept])
        targets.append(truth.va[index[kept]].astype(np.float64))
    return np.concatenate(inputs), np.concatenate(targets)


def _figures(
    config: EvaluateConfig, loaded: Run, inputs: Inputs, predictions: SplitPredictions, rows: list[Row]
) -> ReportFigures:
    return ReportFigures(
        title=f"{_describe_model(loaded)} on {inputs.corpus.name}",
        run=loaded.directory.name,
        corpus=inputs.corpus.name,
        is_demo=bool(loaded.info["demo_encoders"]),
        split=config.split,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        selected_on=_selected_on(loaded),
        rows=rows,
        clips=[
            report.ClipTrack(
                id=clip.id, time_s=clip.time_s, target=clip.target, valid=clip.valid, prediction=clip.prediction
            )
            for clip in predictions.frames[: config.clips_shown]
        ],
        plane=_plane(loaded, predictions.frames),
        provenance=_provenance(config, loaded, inputs),
    )


def _plane(loaded: Run, clips: list[ClipFrames]) -> report.Plane:
    kept = [clip.valid & clip.covered for clip in clips]
    target = np.concatenate([clip.target[mask] for clip, mask in zip(clips, kept, strict=True)])
    prediction = np.concatenate([clip.prediction[mask] for clip, mask in zip(clips, kept, strict=True)])
    step = max(1, len(target) // _PLANE_POINTS)  # thinned evenly: more points only make the page heavier
    valences, arousals = loaded.config.axes
    return report.Plane(
        centers=[(valence, arousal) for valence in valences for arousal in arousals],
        region_texts=loaded.info["region_texts"],
        points_target=target[::step],
        points_prediction=prediction[::step],
    )


def _provenance(config: EvaluateConfig, loaded: Run, inputs: Inputs) -> list[tuple[str, str]]:
    info = loaded.info
    pairs = [
        ("Corpus", f"{inputs.corpus.name} ({'synthetic' if inputs.corpus.synthetic else inputs.corpus.path})"),
        ("Scored split", f"{config.split}, {len(inputs.corpus.split(config.split))} clips"),
        ("Selection", f"{info['selection']['split']}: {', '.join(info['selection']['clips'])}"),
        ("Frame features", predict.describe_identity(inputs.face)),
        ("Audio features", predict.describe_identity(inputs.voice)),
        ("Intervals", f"95%, bootstrap over clips, {config.resamples} resamples, seed {loaded.config.seed}"),
        ("Trained", info["created"]),
    ]
    pairs += [
        (f"Setting {name}", str(value)) for name, value in settings.as_dict(loaded.config, digest_only=True).items()
    ]
    pairs += [(f"Version of {name}", version) for name, version in info["versions"].items()]
    return pairs


def _selected_on(loaded: Run) -> str:
    selection = loaded.info["selection"]
    if loaded.members:
        return (
            f"The mean of {loaded.members} members; the epoch of each was chosen on its own held-out training clips, "
            "by mean CCC of the abaw protocol."
        )
    return (
        f"Epoch {selection['epoch']} was chosen on {selection['split']} "
        f"({len(selection['clips'])} clips), by mean CCC of the abaw protocol."
    )


def _describe_model(loaded: Run) -> str:
    ensemble = f"Ensemble of {loaded.members}: " if loaded.members else ""
    return (
        ensemble
        + {
            "both": "Full model (face and voice)",
            "face": "Face only",
            "voice": "Voice only",
        }[loaded.config.modalities]
    )


def table(rows: Sequence[Row]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Lay rows out for a terminal: header, then name, CCC V, A and mean (`abaw`), interval, coverage."""
    shown = []
    for row in rows:
        score = row["abaw"]
        mean = score["ccc_mean"]
        shown.append(
            (
                row["name"],
                *(f"{score[axis]['value']:.3f}" for axis in ("ccc_valence", "ccc_arousal", "ccc_mean")),
                f"{mean['low']:.3f} to {mean['high']:.3f}",
                f"{score['coverage']:.1%}",
            )
        )
    return ("model", "CCC V", "CCC A", "CCC mean", "95% interval", "coverage"), shown


def _write_csv(path: Path, clips: list[ClipFrames]) -> None:
    """Write every annotated frame: empty cells where there is no label or no prediction."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["clip", "frame", "time_s", "valence", "arousal", "label_valence", "label_arousal"])
    for clip in clips:
        for frame in range(len(clip.time_s)):
            predicted = [f"{value:.5f}" for value in clip.prediction[frame]] if clip.covered[frame] else ["", ""]
            label = [f"{value:.4f}" for value in clip.target[frame]] if clip.valid[frame] else ["", ""]
            writer.writerow([clip.id, frame + 1, f"{clip.time_s[frame]:.4f}", *predicted, *label])
    files.write_text(path, text.getvalue())
