"""The run beside other runs on the same clips: paired differences, and in words whether they are real.

`va evaluate RUN --compare RUN2,RUN3` calls it. Runs with other targets, features or modalities can be compared; other
clips, labels or frames cannot.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from va.data.corpus import Clip
from va.errors import VAError
from va.evaluate import opening, predict
from va.evaluate.assemble import ClipSeries
from va.evaluate.figures import Comparison, Row
from va.evaluate.opening import Inputs
from va.evaluate.pages.sentences import FEWEST_CLIPS
from va.evaluate.protocol import ClipFrames, Figure
from va.evaluate.rows import Scoring, describe_difference, describe_model
from va.train.checkpoint import Run


@dataclass(frozen=True, kw_only=True)
class Other:
    """A run to compare with, opened: the run and its own features of the same corpus."""

    loaded: Run
    inputs: Inputs


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What comparing with one run gives: its row, the difference, and its series for how much it moves."""

    row: Row
    comparison: Comparison
    series: list[ClipSeries]


def open_others(
    directories: Sequence[Path],
    *,
    corpus: Path | None,
    features_root: Path | None,
    own: Inputs,
    clips: Sequence[Clip],
    split: str,
) -> list[Other]:
    """Open the runs to compare with, before anything is computed.

    Args:
        directories: The runs.
        corpus: Manifest, when it has moved.
        features_root: Features folder, when it has moved.
        own: What the run itself is scored on.
        clips: The clips scored.
        split: Their split.

    Raises:
        VAError: One cannot be opened, its corpus has another identity, or it was trained on a clip that is scored.
    """
    found = []
    digest = ""
    for directory in directories:
        loaded, inputs, _ = opening.open_split(directory, split=split, corpus=corpus, features_root=features_root)
        if inputs.corpus.path != own.corpus.path:
            digest = digest or own.corpus.digest()
            theirs = inputs.corpus.digest()
            if theirs != digest:
                raise VAError(
                    f"{directory}: its corpus {inputs.corpus.path} has identity {theirs}, that of the run {digest}",
                    "Compare runs on one corpus, or give the manifest of both with --corpus.",
                )
        check_unseen(loaded, clips, split=split)
        found.append(Other(loaded=loaded, inputs=inputs))
    return found


def check_unseen(loaded: Run, clips: Sequence[Clip], *, split: str) -> None:
    """Check that a run was not trained on the clips that are scored, unless those of training are wanted.

    Raises:
        VAError: It was: the corpus was divided in another way since; or it is an ensemble that says what one member
            was trained on and not what the others were, as earlier versions wrote it.
    """
    if loaded.members and loaded.info["train_clips"] and "train_by_member" not in loaded.info:
        raise VAError(
            f"{loaded.directory}: names the training clips of one of its members only",
            "Remove its folder and run the same 'va train' again: the members are kept.",
        )
    seen = sorted(set(loaded.info["train_clips"]) & {clip.id for clip in clips})
    if split != "train" and seen:
        raise VAError(
            f"{loaded.directory}: was trained on {len(seen)} of the '{split}' clips, first '{seen[0]}'",
            "Score it on the manifest that it was trained with, or train again.",
        )


def compare(
    loaded: Run,
    frames: Sequence[ClipFrames],
    other: Other,
    *,
    clips: Sequence[Clip],
    device: torch.device,
    scoring: Scoring,
) -> Compared:
    """Predict another run's clips and subtract it from the run.

    Args:
        loaded: The run.
        frames: Its raw predictions of the clips.
        other: The other run.
        clips: The clips.
        device: Where to compute.
        scoring: How both are scored.

    Raises:
        VAError: The other's features are missing or do not fit, or it has predictions of other frames than the run.
    """
    theirs = predict.predict_clips(
        other.loaded, other.inputs, clips, device=device, fill=scoring.fill, label_shift_s=scoring.label_shift_s
    )
    for ours, found in zip(frames, theirs.frames, strict=True):
        if not np.array_equal(ours.valid & ours.covered, found.valid & found.covered):
            raise VAError(
                f"{other.loaded.directory}: does not predict the same frames of clip '{ours.id}' as the run",
                "Leave out '--fill none', so that every frame has a prediction of both.",
            )
    valence, arousal, mean = scoring.difference(frames, theirs.frames)
    score = scoring.abaw(theirs.frames)
    name, differs = other.loaded.directory.name, describe_difference(loaded, other.loaded)
    demo = "; demo encoders" if other.loaded.info["demo_encoders"] else ""
    return Compared(
        row=Row(
            kind="compared",
            name=name,
            note=describe_model(other.loaded) + demo + (f"; {differs}" if differs else ""),
            abaw=score,
            paper=scoring.paper(theirs.ends),
        ),
        comparison=Comparison(
            name=describe_model(other.loaded),
            run=name,
            ccc_valence=valence,
            ccc_arousal=arousal,
            ccc_mean=mean,
            sentence=sentence(mean, name=name, num_clips=score["num_clips"]),
        ),
        series=theirs.series,
    )


def sentence(mean: Figure, *, name: str, num_clips: int) -> str:
    """Say whether a difference in mean CCC is real.

    Args:
        mean: The run's minus the other's, with its paired interval; NaN where undefined.
        name: The other run.
        num_clips: Clips that it was measured on.
    """
    value, low, high = mean["value"], mean["low"], mean["high"]
    if not math.isfinite(value):
        return f"The run cannot be compared with {name}: on these clips a CCC is not defined."
    apart = f"{'ahead of' if value > 0 else 'behind'} {name} by {abs(value):.3f}" if value else f"level with {name}"
    said = f"The run is {apart} in mean CCC"
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"{said}; with fewer than two labelled clips there is no interval, so nothing follows from that."
    # As a distance from the other, so that both numbers read in the direction of the sentence.
    ends = sorted((low, high) if value >= 0 else (-low, -high))
    said += f" (95% interval {_bound(ends[0])} to {_bound(ends[1])}): "
    if num_clips < FEWEST_CLIPS:
        return said + f"{num_clips} clips are too few to say whether that is real."
    if low > 0 or high < 0:
        return said + "the difference is real at that level."
    return said + "the interval includes 0: these clips cannot tell them apart."


def _bound(value: float) -> str:
    """Three decimals, or as many as show on which side of 0 it lies."""
    decimals = 3
    while value and round(value, decimals) == 0 and decimals < 9:
        decimals += 1
    return f"{value:z.{decimals}f}"
