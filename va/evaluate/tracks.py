"""What a report shows beside scores: every clip's series, the plane, and the diagnostics of `diagnostics.py`."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from va.data import timeline
from va.data.windows import WindowSet
from va.evaluate import assemble, diagnostics, metrics, predict
from va.evaluate.assemble import ClipSeries
from va.evaluate.figures import Calibration, ClipTrack, Lag, OverTime, Plane, Smoothness
from va.evaluate.metrics import FloatArray
from va.evaluate.predict import SplitPredictions
from va.evaluate.protocol import ClipFrames
from va.evaluate.rows import Scoring, scored
from va.train.checkpoint import Run

LAGS_S: Final = tuple(float(shift_s) for shift_s in np.arange(-2.0, 4.01, 0.5))
"""Label shifts that are tried, in seconds: annotators are late by one to three."""

_CALIBRATION_BINS: Final = 20
_ERROR_BIN_S: Final = 10.0
_PLANE_BINS: Final = 50
_OF_A_CLIP: Final = ("ccc_valence", "ccc_arousal", "ccc_mean", "mae_mean", "rmse_mean")


def clip_tracks(
    found: SplitPredictions,
    smoothed: Sequence[ClipFrames] | None,
    own: Sequence[dict[str, float]],
    *,
    has_regions: bool,
) -> list[ClipTrack]:
    """Collect what is shown of each clip.

    Args:
        found: The run's predictions.
        smoothed: Smoothed, or None.
        own: Each clip's own metrics, raw, as `metrics.per_clip` gives them.
        has_regions: The run was trained with the region term.
    """
    windows = found.windows
    # Together, because both are averaged over the same windows.
    said = predict.series_of(windows, np.concatenate([found.raw.regions, found.raw.gate[..., None]], axis=-1))
    tracks, first = [], 0
    for index, (span, series, frames) in enumerate(zip(windows.spans, said, found.frames, strict=True)):
        grid = assemble.on_grid(series)
        seen = windows.frame_valid[first : first + span.cells].cpu().numpy()
        first += span.cells
        tracks.append(
            ClipTrack(
                id=span.clip.id,
                duration_s=span.clip.duration_s,
                time_s=frames.time_s,
                target=frames.target,
                valid=frames.valid,
                prediction=frames.prediction,
                smoothed=None if smoothed is None else smoothed[index].prediction,
                no_face=stretches(~seen, end_s=span.clip.duration_s),
                no_sound=stretches(~_heard(windows, span.windows, span.cells), end_s=span.clip.duration_s),
                cell_time_s=grid.time_s,
                regions=grid.values[:, :-1] if has_regions else None,
                gate=grid.values[:, -1],
                metrics={name: own[index][name] for name in _OF_A_CLIP},
                labelled=float(frames.valid.mean()),
            )
        )
    return tracks


def stretches(marked: NDArray[np.bool_], *, end_s: float) -> list[tuple[float, float]]:
    """Give runs of marked cells as (from, to) in seconds; the last cell ends with the clip.

    Args:
        marked: bool [cells].
        end_s: Length of the clip.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]]))) * timeline.CELL_S
    return [(float(start), float(min(stop, end_s))) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def plane(run: Run, clips: Sequence[ClipFrames]) -> Plane:
    """Count how dense labels and predictions lie on the plane, over frames that have both."""
    valences, arousals = run.config.axes if run.has_regions else ((), ())
    prediction, target = _pooled(clips)
    edges = np.linspace(-1.0, 1.0, _PLANE_BINS + 1)
    return Plane(
        centers=np.array([(valence, arousal) for valence in valences for arousal in arousals]).reshape(-1, 2),
        region_texts=run.info["region_texts"] if run.has_regions else (),
        edges=edges,
        density_target=diagnostics.density(target, edges),
        density_prediction=diagnostics.density(prediction, edges),
    )


def calibration(clips: Sequence[ClipFrames]) -> dict[str, Calibration]:
    """Compare annotation and prediction by bins of the prediction, for valence and for arousal."""
    prediction, target = _pooled(clips)
    return {
        name: diagnostics.calibration(prediction[:, column], target[:, column], bins=_CALIBRATION_BINS)
        for column, name in enumerate(metrics.DIMENSIONS)
    }


def error_over_time(clips: Sequence[ClipFrames]) -> OverTime | None:
    """Average errors in stretches of ten seconds into the clip; None without a label."""
    return diagnostics.error_over_time(clips, bin_s=_ERROR_BIN_S)


def lag(found: SplitPredictions, scoring: Scoring) -> Lag:
    """Score every shift of `LAGS_S`, raw."""
    return diagnostics.lag(found.series, found.truths, shifts_s=LAGS_S, fill=scoring.fill)


def smoothness(name: str, series: Sequence[ClipSeries]) -> Smoothness:
    """Measure how much some series move (F21)."""
    tv_valence, tv_arousal, jerk_valence, jerk_arousal = diagnostics.smoothness(series)
    return Smoothness(
        name=name,
        tv_valence=tv_valence,
        tv_arousal=tv_arousal,
        jerk_valence=jerk_valence,
        jerk_arousal=jerk_arousal,
    )


def pooled_metrics(clips: Sequence[ClipFrames]) -> dict[str, float]:
    """Measure everything over the frames of all clips."""
    prediction, target = _pooled(clips)
    return metrics.evaluate(prediction, target, np.ones(len(target), np.bool_))


def own_metrics(clips: Sequence[ClipFrames]) -> list[dict[str, float]]:
    """Measure everything of each clip alone."""
    predictions, targets, masks = scored(clips)
    return metrics.per_clip(predictions=predictions, targets=targets, masks=masks)


def _pooled(clips: Sequence[ClipFrames]) -> tuple[FloatArray, FloatArray]:
    predictions, targets, masks = scored(clips)
    return (
        np.concatenate([values[mask] for values, mask in zip(predictions, masks, strict=True)]),
        np.concatenate([values[mask] for values, mask in zip(targets, masks, strict=True)]),
    )


def _heard(windows: WindowSet, own: slice, cells: int) -> NDArray[np.bool_]:
    """Say of each cell of a clip whether any window has valid sound there, bool [cells]."""
    valid, local = windows.audio_valid[own].cpu().numpy(), windows.local_cells[own].numpy()
    return timeline.cells_of_steps(valid, local, count=cells)
