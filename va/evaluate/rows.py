"""The rows of the headline table: how everything is scored, what a run is called, and the ridge baselines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from va import settings
from va.data import features, timeline
from va.data.corpus import Clip, Corpus, Truth
from va.data.features import FeatureStore
from va.evaluate import assemble, baselines, intervals, opening, protocol
from va.evaluate.assemble import ClipSeries, Fill
from va.evaluate.figures import Row
from va.evaluate.metrics import FloatArray
from va.evaluate.opening import Inputs
from va.evaluate.protocol import ClipFrames, ClipWindows, Figure, Score
from va.train.checkpoint import Run

_TOLD: int = 4  # settings that a compared run's note has room for


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How predictions are scored, the same for everything in one report.

    Args:
        fill: How frames without a prediction of their own get one (`assemble.frames_from_series`).
        label_shift_s: As there; 0 for the official score.
        resamples: Bootstrap resamples of clips.
        seed: Of the resampling; one seed, so that differences are paired.
    """

    fill: Fill
    label_shift_s: float
    resamples: int
    seed: int

    def frames(self, series: Sequence[ClipSeries], truths: Sequence[Truth]) -> list[ClipFrames]:
        """Read series off at their clips' annotated frames."""
        return [
            assemble.frames_from_series(one, truth, fill=self.fill, label_shift_s=self.label_shift_s)
            for one, truth in zip(series, truths, strict=True)
        ]

    def abaw(self, clips: Sequence[ClipFrames]) -> Score:
        """Score by the `abaw` protocol."""
        return protocol.score_abaw(clips, resamples=self.resamples, seed=self.seed)

    def paper(self, clips: Sequence[ClipWindows]) -> Score:
        """Score by the `paper` protocol."""
        return protocol.score_paper(clips, resamples=self.resamples, seed=self.seed)

    def difference(self, first: Sequence[ClipFrames], second: Sequence[ClipFrames]) -> tuple[Figure, Figure, Figure]:
        """Subtract the second's CCC from the first's, paired: valence, arousal and mean.

        Raises:
            ValueError: They were not scored on the same frames.
        """
        found = intervals.paired_difference(
            statistics(first), statistics(second), resamples=self.resamples, seed=self.seed
        )
        valence, arousal, mean = (
            Figure(value=value, low=low, high=high) for value, low, high in found.astype(float).tolist()
        )
        return valence, arousal, mean


def scored(clips: Sequence[ClipFrames]) -> tuple[list[FloatArray], list[FloatArray], list[NDArray[np.bool_]]]:
    """Give predictions, targets and masks of what counts under `abaw`, one of each per clip."""
    return (
        [clip.prediction for clip in clips],
        [clip.target for clip in clips],
        [clip.valid & clip.covered for clip in clips],
    )


def statistics(clips: Sequence[ClipFrames]) -> FloatArray:
    """Reduce clips to what their CCC follows from (`intervals.clip_statistics`), float64 [clips, 2, 6]."""
    predictions, targets, masks = scored(clips)
    return intervals.clip_statistics(predictions=predictions, targets=targets, masks=masks)


def describe_model(loaded: Run) -> str:
    """Name what a run predicts from, e.g. "Ensemble of 5: Full model (face and voice)"."""
    names = {"both": "Full model (face and voice)", "face": "Face only", "voice": "Voice only"}
    ensemble = f"Ensemble of {loaded.members}: " if loaded.members else ""
    return ensemble + names[loaded.config.modalities]


def describe_difference(loaded: Run, other: Run) -> str:
    """Say in which settings another run differs, e.g. "region_weight 0 (this run: 0.2)"; empty where in none."""
    ours, theirs = (_settings(run) for run in (loaded, other))
    found = [
        f"{name} {_short(theirs[name])} (this run: {_short(ours[name])})" for name in ours if ours[name] != theirs[name]
    ]
    more = f" and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
    return ", ".join(found[:_TOLD]) + more


def ridge_rows(
    loaded: Run, inputs: Inputs, clips: Sequence[Clip], truths: Sequence[Truth], scoring: Scoring
) -> list[Row]:
    """Score ridge regressions on trivial features and on the frozen embeddings, cell by cell.

    They show what a result is worth: the first is what pixels and loudness give away, the second what the encoders
    know without any head.

    Args:
        loaded: Gives the training and selection clips; of an ensemble its first member's, because those of all members
            together leave no clip to choose the penalty on.
        inputs: Corpus and features; the trivial encoders' stores are looked for beside them.
        clips: Clips to score.
        truths: Their annotations.
        scoring: How.

    Raises:
        VAError: The corpus or the features lack a clip that the run was trained or selected on.
    """
    if not loaded.info["train_clips"]:
        return []  # a run that was shared does not say what to fit a baseline on
    stores = {store.encoder: store for store in features.open_stores(inputs.face.directory.parent)}
    trivial = [stores[name] for name in ("pixels", "loudness") if name in stores]
    pair = [inputs.face, inputs.voice]
    kept = "fine-tuned" if any("tuned" in store.identity for store in pair) else "frozen"
    wanted = [(f"Ridge on {kept} embeddings", "no head", pair)]
    if len(trivial) == 2:
        wanted.insert(0, ("Ridge on 16x16 pixels and loudness", "trivial baseline", trivial))
    train_names, selection_names, chosen_on = _division(loaded)
    train, selection = opening.clips_named(inputs, train_names), opening.clips_named(inputs, selection_names)
    whose = "the first member's " if loaded.members else ""
    found = []
    for name, note, used in wanted:
        fitted, _ = baselines.choose_ridge(
            labelled_cells(inputs.corpus, train, used),
            labelled_cells(inputs.corpus, selection, used),
            alphas=baselines.ALPHAS,
        )
        series = [_cells(clip.id, fitted.predict(cell_features(clip, used))) for clip in clips]
        chosen = f"fitted on {whose}{len(train)} clips, alpha {fitted.alpha:g} chosen on {chosen_on}"
        abaw = scoring.abaw(scoring.frames(series, truths))
        found.append(Row(kind="baseline", name=name, note=f"{note}, {chosen}", abaw=abaw, paper=None))
    return found


def _division(loaded: Run) -> tuple[list[str], list[str], str]:
    """Training clips, selection clips and what these are, of one head: no clip is in both."""
    chosen = loaded.info["selection"]
    if not loaded.members:
        return loaded.info["train_clips"], chosen["clips"], chosen["split"]
    chosen_on = "its fold" if loaded.config.folds else chosen["split"]
    return loaded.info["train_by_member"][0], chosen["by_member"][0], chosen_on


def cell_features(clip: Clip, stores: Sequence[FeatureStore]) -> FloatArray:
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


def labelled_cells(
    corpus: Corpus, clips: Sequence[Clip], stores: Sequence[FeatureStore]
) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Give features and labels of the cells that have a label, clip by clip: float64 [N, D] and [N, 2]."""
    for clip in clips:
        values, truth = cell_features(clip, stores), corpus.truth(clip)
        index = timeline.frame_at(truth.time_s, timeline.cell_centers(len(values)))
        kept = (index >= 0) & truth.valid[index]
        yield values[kept], truth.va[index[kept]].astype(np.float64)


def _cells(clip_id: str, values: FloatArray) -> ClipSeries:
    everywhere = np.ones(len(values), np.bool_)
    return ClipSeries(id=clip_id, time_s=timeline.cell_centers(len(values)), values=values, covered=everywhere)


def _settings(run: Run) -> dict[str, Any]:
    """A run's settings that change results, with its encoders."""
    encoders = {f"{name} encoder": identity["encoder"] for name, identity in run.info["encoders"].items()}
    own = settings.as_dict(run.config, digest_only=True)
    return encoders | {name: value for name, value in own.items() if not name.endswith("_encoder")}


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
