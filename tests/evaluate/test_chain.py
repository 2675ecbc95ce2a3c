"""The whole chain with a predictor that is right: annotation text -> labels -> windows -> frames -> both scores.

Whatever falls short of 1 here is a clock, an off-by-one, or a mask. A predictor that is late loses what theory says:
for a stationary truth the CCC is its autocorrelation, which for sums of sinusoids over whole periods is known.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from va.data import labels, timeline
from va.data.corpus import Truth
from va.evaluate import assemble, protocol
from va.evaluate.assemble import Fill
from va.evaluate.protocol import ClipFrames, ClipWindows, Score

Track = Callable[[np.ndarray], np.ndarray]

RATES = [15, 24000 / 1001, 24, 25, 30000 / 1001, 30, 50, 60000 / 1001, "variable"]
WINDOW = {"window_s": 10.0, "stride_s": 3.0}
PERIOD_S = 60.0
CYCLES = (1, 2, 3, 4)  # per period: nothing above 0.067 Hz


def track_of(seed: int, *, late_s: float = 0.0) -> Track:
    """A (valence, arousal) truth in [-0.9, 0.9] that repeats every minute, `late_s` seconds late."""
    rng = np.random.default_rng(seed)
    phases = rng.uniform(0, 2 * np.pi, (len(CYCLES), 2))

    def track(time_s: np.ndarray) -> np.ndarray:
        angles = 2 * np.pi / PERIOD_S * (np.asarray(time_s) - late_s)
        return sum(0.22 * np.sin(k * angles[:, None] + phase) for k, phase in zip(CYCLES, phases, strict=True))

    return track


def autocorrelation(late_s: float) -> float:
    """Of a track with itself `late_s` seconds later: all sinusoids have one amplitude."""
    return float(np.mean([np.cos(2 * np.pi * k * late_s / PERIOD_S) for k in CYCLES]))


def frame_times_s(rate: float | str, duration_s: float, seed: int) -> np.ndarray:
    """Presentation times at a constant rate, or at gaps between 15 and 70 ms."""
    if rate == "variable":
        gaps = np.random.default_rng(seed).uniform(0.015, 0.07, int(duration_s / 0.015))
        times = np.concatenate([[0.0], gaps.cumsum()])
    else:
        times = np.arange(int(duration_s * float(rate)) + 1) / float(rate)
    return times[times < duration_s - 1e-9]


def annotated(path: Path, track: Track, time_s: np.ndarray, *, invalid: float, seed: int) -> Truth:
    """Write the track as an annotation file, some of it -5, and read it back as `va` does."""
    marked = np.random.default_rng(seed).random(len(time_s)) < invalid
    rows = ["-5,-5" if bad else f"{v:.4f},{a:.4f}" for (v, a), bad in zip(track(time_s), marked, strict=True)]
    path.write_text("\n".join(["valence,arousal", *rows]) + "\n", encoding="utf-8")
    va, valid = labels.read_annotation(path)
    assert (valid == ~marked).all()
    return Truth(time_s=time_s, va=va, valid=valid)


def on_frames(truth: Truth, said: Track, duration_s: float, *, fill: Fill, label_shift_s: float) -> ClipFrames:
    """Say `said` of every cell in every window that holds it, and lay the windows on the frames."""
    num_cells = timeline.num_cells(duration_s)
    cells = timeline.window_cells(duration_s, **WINDOW)
    per_cell = said(0.25 + 0.5 * np.arange(num_cells))  # not by `timeline`, which is on trial
    # Padding holds what must never be looked at.
    values = np.where((cells >= 0)[..., None], per_cell[cells], 1e6)
    series = assemble.series_from_windows(
        "clip", values=values, cells=cells, num_cells=num_cells, end_time_s=np.zeros(len(cells))
    )
    return assemble.frames_from_series(series, truth, fill=fill, label_shift_s=label_shift_s)


def at_ends(truth: Truth, said: Track, duration_s: float, *, label_shift_s: float) -> ClipWindows:
    """Say `said` of every window's end (target `end`)."""
    ends_s = 10.0 + 3.0 * np.arange(timeline.num_windows(duration_s, **WINDOW))
    full = ends_s <= duration_s
    ends_s = np.minimum(ends_s, duration_s)
    return assemble.ends_from_windows(
        "clip", values=said(ends_s)[:, None], full=full, end_time_s=ends_s, truth=truth, label_shift_s=label_shift_s
    )


def chain(
    folder: Path,
    rate: float | str,
    durations_s: list[float],
    *,
    invalid: float,
    said_late_s: float = 0.0,
    labels_late_s: float = 0.0,
    label_shift_s: float = 0.0,
    fill: Fill = "interpolate",
) -> tuple[Score, Score]:
    """Both scores of some clips, whose predictor and labels may be late."""
    frames, ends = [], []
    for seed, duration_s in enumerate(durations_s):
        time_s = frame_times_s(rate, duration_s, seed)
        track = track_of(seed, late_s=labels_late_s)
        truth = annotated(folder / f"{seed}.txt", track, time_s, invalid=invalid, seed=seed)
        said = track_of(seed, late_s=said_late_s)
        frames.append(on_frames(truth, said, duration_s, fill=fill, label_shift_s=label_shift_s))
        ends.append(at_ends(truth, said, duration_s, label_shift_s=label_shift_s))
    return protocol.score_abaw(frames, resamples=50, seed=0), protocol.score_paper(ends, resamples=50, seed=0)


UNEVEN_S = [61.37, 3.2, 0.4, 47.0, 10.0, 33.49]
MINUTES_S = [PERIOD_S] * 2


@pytest.mark.parametrize("rate", RATES)
def test_who_is_right_scores_one(rate: float | str, tmp_path: Path) -> None:
    abaw, paper = chain(tmp_path, rate, UNEVEN_S, invalid=0.05)
    for score in (abaw, paper):
        for name in ("ccc_valence", "ccc_arousal", "ccc_mean"):
            assert 0.999 <= score[name]["low"] <= score[name]["value"] <= score[name]["high"] <= 1.0
    assert (abaw["coverage"], abaw["filled"], abaw["num_clips"]) == (1.0, 0.0, len(UNEVEN_S))
    # Full windows: 18, 0, 0, 13, 1 and 8; a twentieth of their ends has no label.
    assert paper["num_frames"] == round(paper["coverage"] * 40) <= 40
    assert paper["coverage"] > 0.8 and paper["num_clips"] == 4


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("late_s", [1.0, -2.5])
def test_who_is_late_loses_what_theory_says(rate: float | str, late_s: float, tmp_path: Path) -> None:
    abaw, _ = chain(tmp_path, rate, MINUTES_S, invalid=0.0, said_late_s=late_s)
    # A clock that speeds up and slows down weighs some of the minute more.
    tolerance = 1e-2 if rate == "variable" else 5e-4
    expected = autocorrelation(late_s)
    assert expected < 0.97
    assert abaw["ccc_valence"]["value"] == pytest.approx(expected, abs=tolerance)
    assert abaw["ccc_arousal"]["value"] == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(
    ("rate", "fill"), [*((rate, "interpolate") for rate in RATES), (29.97, "nearest"), ("variable", "none")]
)
def test_the_label_shift_undoes_labels_that_are_late(rate: float | str, fill: Fill, tmp_path: Path) -> None:
    late, _ = chain(tmp_path, rate, MINUTES_S, invalid=0.0, labels_late_s=1.0, fill=fill)
    assert late["ccc_mean"]["value"] == pytest.approx(autocorrelation(1.0), abs=5e-3)
    abaw, paper = chain(tmp_path, rate, MINUTES_S, invalid=0.0, labels_late_s=1.0, label_shift_s=1.0, fill=fill)
    assert abaw["ccc_mean"]["value"] >= 0.999
    assert paper["ccc_mean"]["value"] >= 0.999
    # The first second's labels are about something before the clip.
    assert (abaw["coverage"] == 1.0) == (fill != "none")
    assert abaw["filled" if fill != "none" else "coverage"] == pytest.approx(
        1 / 60 if fill != "none" else 59 / 60, abs=2e-3
    )


def test_the_wrong_sign_of_the_shift_makes_it_worse(tmp_path: Path) -> None:
    abaw, _ = chain(tmp_path, 30, MINUTES_S, invalid=0.0, labels_late_s=1.0, label_shift_s=-1.0)
    assert abaw["ccc_mean"]["value"] == pytest.approx(autocorrelation(2.0), abs=5e-3)
