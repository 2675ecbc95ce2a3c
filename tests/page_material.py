"""Figures of an evaluation as the page of a report takes them, made up but shaped as real ones are."""

import numpy as np

from va.data.regions import CENTERS, REGION_TEXTS
from va.evaluate import metrics
from va.evaluate.figures import (
    Calibration,
    ClipTrack,
    Comparison,
    Lag,
    OverTime,
    Plane,
    Published,
    ReportFigures,
    Robustness,
    Row,
    Smoothing,
    Smoothness,
)
from va.evaluate.protocol import Figure, Score

NAN = float("nan")
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&{{data}} \u2028 é 😀"
CELL_S = 0.5


def figure(value: float, half: float = 0.04) -> Figure:
    return Figure(value=value, low=value - half, high=value + half)


def score(value: float, *, coverage: float = 1.0) -> Score:
    return Score(
        ccc_valence=figure(value - 0.02),
        ccc_arousal=figure(value + 0.02),
        ccc_mean=figure(value),
        coverage=coverage,
        num_frames=12345,
        num_clips=76,
    )


def undefined_score() -> Score:
    none = Figure(value=NAN, low=NAN, high=NAN)
    return Score(ccc_valence=none, ccc_arousal=none, ccc_mean=none, coverage=NAN, num_frames=0, num_clips=0)


def wander(generator: np.random.Generator, count: int, step_s: float) -> np.ndarray:
    """Two slow random curves in [-1, 1], [count, 2]."""
    time_s = np.arange(count)[:, None, None] * step_s
    periods = generator.uniform(6, 60, size=(1, 5, 2))
    waves = np.sin(2 * np.pi * (time_s / periods + generator.uniform(size=(1, 5, 2))))
    return np.asarray(np.tanh(waves.mean(axis=1) + generator.uniform(-0.4, 0.4, size=2)))


def make_clip(name: str, *, frames: int, seed: int, fps: float = 30.0, smoothed: bool = True) -> ClipTrack:
    """A clip whose prediction follows its annotation late and flat, with stretches of everything missing."""
    generator = np.random.default_rng(seed)
    time_s = np.arange(frames) / fps
    duration_s = frames / fps
    target = wander(generator, frames, 1 / fps).round(3)
    cells = max(1, int(np.ceil(duration_s / CELL_S)))
    cell_time_s = (np.arange(cells) + 0.5) * CELL_S
    noise = generator.normal(scale=generator.uniform(0.05, 0.35), size=(cells, 2))
    late = [np.interp(cell_time_s - 0.4, time_s, target[:, axis]) for axis in range(2)]
    at_cells = 0.75 * np.stack(late, axis=1) + noise
    kernel = np.ones(5) / 5
    calm = np.stack([np.convolve(np.pad(at_cells[:, k], 2, mode="edge"), kernel, "valid") for k in range(2)], axis=1)
    prediction, quiet = (
        np.stack([np.interp(time_s, cell_time_s, values[:, axis]) for axis in range(2)], axis=1)
        for values in (at_cells, calm)
    )
    valid = np.ones(frames, dtype=bool)
    if seed % 3 == 0:
        valid[frames // 5 : frames // 5 + frames // 16] = False
    apart = ((calm[:, None] - np.array([(v, a) for v in CENTERS for a in CENTERS])) ** 2).sum(axis=2)
    regions = np.exp(-apart / (2 * 0.45**2))
    regions /= regions.sum(axis=1, keepdims=True)
    gate = 0.5 + 0.4 * np.sin(cell_time_s / 7 + seed)
    found = metrics.evaluate(prediction, target, valid)
    kept = ("ccc_valence", "ccc_arousal", "ccc_mean", "mae_mean", "rmse_mean")
    return ClipTrack(
        id=name,
        duration_s=duration_s,
        time_s=time_s,
        target=target,
        valid=valid,
        prediction=prediction,
        smoothed=quiet if smoothed else None,
        no_face=[(0.3 * duration_s, 0.34 * duration_s), (0.6 * duration_s, 0.63 * duration_s)] if seed % 2 else [],
        no_sound=[(0.0, 0.08 * duration_s)] if seed % 4 == 1 else [],
        cell_time_s=cell_time_s,
        regions=regions,
        gate=gate,
        metrics={key: float(found[key]) for key in kept},
        labelled=float(valid.mean()),
    )


def make_plane(clips: list[ClipTrack], name: str) -> Plane:
    edges = np.linspace(-1, 1, 41)
    empty = np.zeros((0, 2))
    target, prediction = (
        np.concatenate([empty, *(clip[kind][clip["valid"]] for clip in clips)]) for kind in ("target", "prediction")
    )
    densities = [
        np.histogram2d(values[:, 1], values[:, 0], bins=(edges, edges))[0] / max(1, len(values))
        for values in (target, prediction)
    ]
    return Plane(
        centers=np.array([(valence, arousal) for valence in CENTERS for arousal in CENTERS]),
        region_texts=[f"{text}{name}" for text in REGION_TEXTS],
        edges=edges,
        density_target=densities[0],
        density_prediction=densities[1],
    )


def make_calibration(slope: float) -> Calibration:
    predicted = np.linspace(-0.7, 0.7, 9)
    annotated = slope * predicted + 0.03
    count = np.array([40, 300, 1200, 2900, 5200, 3100, 1500, 420, 35])
    half = 0.08 + 0.06 * np.cos(predicted)
    return Calibration(
        predicted=predicted, annotated=annotated, low=annotated - half, high=annotated + half, count=count
    )


def make_lag() -> Lag:
    shift_s = np.arange(-2.0, 4.01, 0.5)
    curve = 0.55 - 0.03 * (shift_s - 0.5) ** 2
    return Lag(shift_s=shift_s, ccc_valence=curve - 0.05, ccc_arousal=curve + 0.05, ccc_mean=curve, best_s=0.5)


def make_metrics(offset: float) -> dict[str, float]:
    base = {"ccc": 0.5, "pcc": 0.55, "rmse": 0.31, "mae": 0.24, "sagr": 0.74}
    axes = {"valence": -0.02, "arousal": 0.02, "mean": 0.0}
    return {f"{name}_{axis}": value + offset + more for name, value in base.items() for axis, more in axes.items()}


def make_rows(name: str) -> list[Row]:
    return [
        Row(kind="run", name=f"Full model{name}", note=f"this run{name}", abaw=score(0.5), paper=score(0.6)),
        Row(kind="smoothed", name="Smoothed", note="Gaussian, 1.5 s", abaw=score(0.52), paper=score(0.61)),
        Row(kind="reading", name="Read from its regions", note="centres by probability", abaw=score(0.41), paper=None),
        Row(kind="compared", name="Face only", note="face-1234abcd", abaw=score(0.38), paper=score(0.4)),
        Row(kind="baseline", name="Ridge on pixels and loudness", note="alpha 1", abaw=score(-0.02), paper=None),
    ]


def make_published(name: str) -> list[Published]:
    return [
        Published(
            name=f"The paper's model{name}",
            ccc_valence=0.4655,
            ccc_arousal=0.6068,
            ccc_mean=0.5361,
            note="its own protocol",
        ),
        Published(
            name="Challenge baseline, 6th edition", ccc_valence=0.24, ccc_arousal=0.20, ccc_mean=0.22, note="validation"
        ),
        Published(name="10th edition", ccc_valence=None, ccc_arousal=None, ccc_mean=0.658, note="validation"),
    ]


def make_comparison(name: str) -> Comparison:
    return Comparison(
        name=f"Face only{name}",
        run="face-1234abcd",
        ccc_valence=figure(0.11, 0.05),
        ccc_arousal=figure(-0.03, 0.06),
        ccc_mean=figure(0.04, 0.03),
        sentence=f"The run's mean CCC is 0.040 higher; the interval leaves out 0{name}.",
    )


def make_smoothing(name: str) -> Smoothing:
    widths = [("gaussian", width, 0.55 - 0.02 * (width - 1.5) ** 2) for width in (0.5, 1.0, 1.5, 2.0, 4.0)]
    return Smoothing(
        kernel="gaussian",
        width_s=1.5,
        chosen_on=f"dev (12 clips){name}",
        candidates=[("none", 0.0, 0.5), *widths, ("median", 1.5, 0.53)],
    )


def make_figures(name: str = "", *, clips: int = 3, frames: int = 600, smoothed: bool = True) -> ReportFigures:
    """Everything on a page; `name` goes into every text of it that comes from outside."""
    tracks = [make_clip(f"clip_{seed:02}{name}", frames=frames, seed=seed, smoothed=smoothed) for seed in range(clips)]
    times = (np.arange(12) + 0.5) * 5.0
    series = ["Annotation", "Prediction", "Smoothed", f"Face only{name}"]
    return ReportFigures(
        title=f"Full model (face and voice) on a corpus{name}",
        run=f"gru-hierarchical-0a1b2c3d{name}",
        corpus=f"synthetic{name}",
        synthetic=True,
        is_demo=False,
        split="val",
        created="2026-03-17T10:00:00+00:00",
        selected_on=f"Epoch 9 was chosen on dev (12 clips), by mean CCC of the abaw protocol{name}.",
        target="frames",
        fill=f"interpolate{name}",
        filled=0.0042,
        label_shift_s=0.0,
        warnings=[f"Nobody knows what it was trained on{name}."],
        rows=make_rows(name),
        published=make_published(name),
        comparisons=[make_comparison(name)],
        pooled={"raw": make_metrics(0.0), "smoothed": make_metrics(0.01)},
        per_video={"raw": make_metrics(-0.1), "smoothed": make_metrics(-0.09)},
        smoothing=make_smoothing(name),
        smoothness=[
            Smoothness(name=key, tv_valence=0.1 * k, tv_arousal=0.12 * k, jerk_valence=1.3 * k, jerk_arousal=20.5 * k)
            for k, key in enumerate(series, start=1)
        ],
        robustness=[
            Robustness(name=f"Without sound{name}", note="gate 0", abaw=score(0.44), change=figure(-0.06, 0.03)),
            Robustness(name="Half the pictures", note="every second cell", abaw=score(0.49), change=figure(-0.01)),
        ],
        lag=make_lag(),
        calibration={"valence": make_calibration(1.2), "arousal": make_calibration(0.8)},
        over_time=OverTime(
            time_s=times,
            mae_valence=0.2 + 0.1 * np.exp(-times / 8),
            mae_arousal=0.22 + 0.05 * np.exp(-times / 8),
            count=np.linspace(3000, 200, len(times)).astype(np.int64),
        ),
        plane=make_plane(tracks, name),
        clips=tracks,
        provenance=[(f"Corpus{name}", f"synthetic, 80 clips{name}"), ("Setting seed", "7"), ("Version of va", "0.1")],
    )
