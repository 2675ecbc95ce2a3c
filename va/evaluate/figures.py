"""What a report holds: the contract between `score.py`, which measures, and `report.py`, which draws.

Everything is plain data: numbers, strings, lists, dicts and NumPy arrays. NaN is "not defined". Shapes: F annotated
frames, C half-second cells, R regions, B bins. In pairs of columns valence comes first.
"""

from collections.abc import Sequence
from typing import Literal, NotRequired, TypedDict

import numpy as np
import numpy.typing as npt

from va.evaluate.protocol import Figure, Score

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Kind = Literal["run", "smoothed", "reading", "compared", "baseline"]


class Row(TypedDict):
    """One line of the headline table.

    `kind` says what it is: the run itself, the run smoothed, its regions' reading, another run, or a baseline; `note`
    in a few words; `paper` is None where the protocol does not apply.
    """

    kind: Kind
    name: str
    note: str
    abaw: Score
    paper: Score | None


class Published(TypedDict):
    """A figure of Aff-Wild2 that somebody published; None where they did not say. Quoted, never verified here."""

    name: str
    ccc_valence: float | None
    ccc_arousal: float | None
    ccc_mean: float | None
    note: str


class Comparison(TypedDict):
    """The run minus another on the same frames, with paired 95% intervals (bootstrap over clips)."""

    name: str
    run: str
    ccc_valence: Figure
    ccc_arousal: Figure
    ccc_mean: Figure
    sentence: str


class ClipTrack(TypedDict):
    """One clip.

    Args:
        id: The clip's name.
        duration_s: Its length.
        time_s: Times of the annotated frames, [F] s.
        target: Annotation, [F, 2]; anything where not valid.
        valid: The label is one, [F].
        prediction: [F, 2]; NaN where there is none.
        smoothed: [F, 2], or None when nothing was smoothed.
        no_face: Stretches (from, to) in seconds without a valid picture.
        no_sound: Stretches without valid sound.
        cell_time_s: Cell centres, [C] s.
        regions: Probabilities, [C, R]; NaN where no window says anything; None for a run without the region term.
        gate: Share of the sound in [0, 1], [C].
        metrics: Of this clip alone, raw: `ccc_valence`, `ccc_arousal`, `ccc_mean`, `mae_mean`, `rmse_mean`; NaN where
            undefined.
        labelled: Share of frames with a valid label.
    """

    id: str
    duration_s: float
    time_s: Floats
    target: Floats
    valid: Bools
    prediction: Floats
    smoothed: Floats | None
    no_face: Sequence[tuple[float, float]]
    no_sound: Sequence[tuple[float, float]]
    cell_time_s: Floats
    regions: Floats | None
    gate: Floats
    metrics: dict[str, float]
    labelled: float


class Plane(TypedDict):
    """The VA plane: region centres [R, 2] with their texts, and how dense labels and predictions lie on it.

    R is 0 where the run was trained without the region term, and says nothing about regions.
    `edges` [B + 1] is shared by both axes; the densities [B, B] are shares of all counted frames, arousal by row from
    low to high, valence by column.
    """

    centers: Floats
    region_texts: Sequence[str]
    edges: Floats
    density_target: Floats
    density_prediction: Floats


class Calibration(TypedDict):
    """Mean annotation against mean prediction in bins of the prediction, [B] each; empty bins are left out.

    `low` and `high` are the quartiles of the annotation in the bin: its spread, not how sure its mean is.
    """

    predicted: Floats
    annotated: Floats
    low: Floats
    high: Floats
    count: npt.NDArray[np.int64]


class OverTime(TypedDict):
    """Mean absolute error against time into the clip: `time_s` [B] bin centres, the errors [B], frames counted [B]."""

    time_s: Floats
    mae_valence: Floats
    mae_arousal: Floats
    count: npt.NDArray[np.int64]


class Lag(TypedDict):
    """CCC when the prediction of time t is held against the label of t + shift: [L] each.

    A best shift above 0 means that labels come later than what they are about, as annotators do.
    """

    shift_s: Floats
    ccc_valence: Floats
    ccc_arousal: Floats
    ccc_mean: Floats
    best_s: float


class Smoothness(TypedDict):
    """How much a series moves: mean absolute change and mean absolute third derivative, per axis (F21).

    Total variation is in units of valence/arousal per second, jerk per second cubed; both on the half-second grid.
    """

    name: str
    tv_valence: float
    tv_arousal: float
    jerk_valence: float
    jerk_arousal: float


class Robustness(TypedDict):
    """The run under a condition, by the abaw protocol, and the paired change of its mean CCC against undisturbed."""

    name: str
    note: str
    abaw: Score
    change: Figure


class Smoothing(TypedDict):
    """What was chosen and how: every candidate's mean CCC on the selection clips, `width_s` 0 for none."""

    kernel: str
    width_s: float
    chosen_on: str
    candidates: Sequence[tuple[str, float, float]]
    """(kernel, width in seconds, mean CCC on the selection clips)."""


class ReportFigures(TypedDict):
    """Everything on the page and in `metrics.json`.

    `rows[0]` is the run itself, raw: its `abaw` score is the headline. `created` is an ISO 8601 time, `selected_on` a
    sentence that says on what the run was selected (settled 7). `target` is what the run was trained to say: `frames`,
    a value for every cell, or `end`, one for each window's end. `pooled` and `per_video` hold every metric by name
    (`<metric>_<valence|arousal|mean>`) for "raw" and, where there is one, "smoothed": over all frames, and as the mean
    of the clips' own values. `fill` says how frames without a prediction of their own were filled, `filled` what share
    of the validly labelled frames that was. `label_shift_s` other than 0 means that no figure is the official score.
    `provenance` is (key, value) pairs in the order shown.
    """

    title: str
    run: str
    corpus: str
    synthetic: bool
    is_demo: bool
    split: str
    created: str
    selected_on: str
    target: str
    fill: str
    filled: float
    label_shift_s: float
    warnings: Sequence[str]
    """Why figures may be better than the truth, or say little: clips that a run was trained or chosen on, or may have
    been; few clips."""
    rows: Sequence[Row]
    published: Sequence[Published]
    comparisons: Sequence[Comparison]
    pooled: dict[str, dict[str, float]]
    per_video: dict[str, dict[str, float]]
    smoothing: Smoothing | None
    smoothness: Sequence[Smoothness]
    robustness: Sequence[Robustness]
    lag: Lag | None
    calibration: dict[str, Calibration]
    """By "valence" and "arousal"."""
    over_time: OverTime | None
    plane: Plane
    clips: Sequence[ClipTrack]
    provenance: Sequence[tuple[str, str]]
    submission: NotRequired[str]
    """Name of the submission file beside the page, where one was written, and what it holds."""
