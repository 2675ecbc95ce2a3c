"""What is said about one video or clip, half second by half second, and how a run comes to say it.

Shapes: C half-second cells of the clip, R regions, F video frames; W windows of T cells and S audio steps.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from va.data import timeline
from va.data.features import ClipFeatures
from va.errors import VAError
from va.evaluate import assemble, protocol
from va.evaluate.assemble import ClipSeries
from va.evaluate.predict import predict_gathered
from va.train.checkpoint import Run

Floats = NDArray[np.float64]

_SILENT_DB: Final = -79.9
"""`loudness` has its floor at -80 dB, below the noise of any microphone."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """What stage one says about one video.

    Args:
        face: Of the frame encoder: float16 [C, Dv].
        voice: Of the audio encoder: float16 [W, S, Da]; None for zero-shot.
        has_sound: bool [C].
        silent: There is sound, but nothing to hear in it; None where nobody looked.
        boxes: float64 [C, 4], left, top, right and bottom of the face as shares of the picture, NaN where there is
            none; None where no face was looked for.
        duration_s: Length in seconds.
    """

    face: ClipFeatures
    voice: ClipFeatures | None
    has_sound: NDArray[np.bool_]
    silent: bool | None
    boxes: Floats | None
    duration_s: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Answer:
    """Valence and arousal of one video over time, one value per half-second cell, and what they rest on.

    Attributes:
        time_s: float64 [C], centres of the cells: 0.25, 0.75, ... seconds.
        valence: float64 [C] in [-1, 1], pleasant being positive; NaN where nothing is said: without a face in
            zero-shot, and before the first window's end for a run with `--target end`.
        arousal: float64 [C] in [-1, 1], excited being positive; NaN likewise.
        regions: float64 [C, R], probabilities of the regions; rows sum to 1, or are NaN; None for a run that was
            trained without the region term and so says nothing about them.
        gate: float64 [C] in [0, 1], share of the sound in the answer; None in zero-shot.
        has_face: bool [C], whether there was a picture: a face where faces were looked for, else a frame.
        has_sound: bool [C].
        boxes: float64 [C, 4], the face's left, top, right and bottom as shares of the picture's width and height, which
            may lie outside [0, 1], NaN where there is none; None where no face was looked for.
        duration_s: Length in seconds.
        silent: There is sound, but nothing to hear in it; None where nobody looked.
        notes: Sentences that a person must know before believing the numbers.
        series: The same at the times at which it was said; columns valence, arousal, regions, if any, and, of a run,
            the gate.
    """

    time_s: Floats
    valence: Floats
    arousal: Floats
    regions: Floats | None
    gate: Floats | None
    has_face: NDArray[np.bool_]
    has_sound: NDArray[np.bool_]
    boxes: Floats | None
    duration_s: float
    silent: bool | None
    notes: tuple[str, ...]
    series: ClipSeries

    def at(self, time_s: NDArray[np.floating] | list[float] | float) -> Floats:
        """Read valence and arousal off at any times, as `va evaluate` reads them off at a video's frames.

        Linear between the times at which something is said; before the first and after the last, that one's value.

        Args:
            time_s: [N] or a single number, seconds from the start of the video.

        Returns:
            float64 [N, 2] or [2], valence and arousal in [-1, 1]; NaN where the whole answer is empty.

        Raises:
            ValueError: A time is not finite.
        """
        times = np.asarray(time_s, np.float64)
        series = self.series
        values, _ = protocol.cells_to_frames(series.values[:, :2], series.covered, series.time_s, times.reshape(-1))
        return values[0] if times.ndim == 0 else values


def answer(features: Features, series: ClipSeries, *, regions: int) -> Answer:
    """Lay what was said on the clip's cells.

    Args:
        features: What it was said about.
        series: Columns valence, arousal, `regions` probabilities and perhaps the gate, at cell centres or window ends.
        regions: R; 0 where nothing is said about them.
    """
    count = len(features.face.values)
    table = on_cells(series, count)
    return Answer(
        time_s=timeline.cell_centers(count),
        valence=table[:, 0],
        arousal=table[:, 1],
        regions=table[:, 2 : 2 + regions] if regions else None,
        gate=table[:, 2 + regions] if table.shape[1] > 2 + regions else None,
        has_face=features.face.valid,
        has_sound=features.has_sound,
        boxes=features.boxes,
        duration_s=features.duration_s,
        silent=features.silent,
        notes=(),
        series=series,
    )


def on_cells(series: ClipSeries, count: int) -> Floats:
    """Lay a series on the first `count` cells, float64 [count, K]; NaN where nothing is said."""
    grid = assemble.on_grid(series)
    table = np.full((count, series.values.shape[1]), np.nan)
    cells = np.round(grid.time_s / timeline.CELL_S - 0.5).astype(np.int64).clip(0, count - 1)
    table[cells[grid.covered]] = grid.values[grid.covered]
    return table


def ask(run: Run, features: Features, *, device: torch.device) -> ClipSeries:
    """Ask a run about a clip, as `predict_clips` does.

    Args:
        run: Its head is moved to `device`.
        features: With a voice.
        device: Where to compute.

    Returns:
        Columns valence, arousal, R probabilities, if the run has the region term, and the gate.

    Raises:
        VAError: The features have other sizes than those that the run was trained on.
    """
    config, face, voice = run.config, features.face, features.voice
    assert voice is not None  # a run's features have one
    sizes = (face.values.shape[1], voice.values.shape[2])
    if sizes != (run.info["shape"]["frame_dim"], run.info["shape"]["audio_dim"]):
        raise VAError(
            f"{run.directory}: was trained on embeddings of {run.info['shape']['frame_dim']} and "
            f"{run.info['shape']['audio_dim']} numbers, these have {sizes[0]} and {sizes[1]}",
            "Give features of the encoders that the run was trained on.",
        )
    cells = timeline.window_cells(features.duration_s, window_s=config.window_s, stride_s=config.stride_s)
    rows = torch.from_numpy(cells).to(device)
    # The last row is a masked one: padding, -1, points at it.
    frames = torch.from_numpy(np.pad(face.values, ((0, 1), (0, 0)))).to(device)
    frame_valid = torch.from_numpy(np.pad(face.valid, (0, 1))).to(device)
    audio, audio_valid = torch.from_numpy(voice.values).to(device), torch.from_numpy(voice.valid).to(device)

    def inputs(index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        seen = rows[index]
        return frames[seen].float(), frame_valid[seen], audio[index].float(), audio_valid[index]

    said = predict_gathered(run, inputs, windows=len(cells), device=device)
    return assemble.series_from_windows(
        "",
        values=np.concatenate([said.va, *[said.regions] * run.has_regions, said.gate[..., None]], axis=-1),
        cells=cells,
        num_cells=len(face.values),
        end_time_s=np.minimum(voice.time_s + config.window_s, features.duration_s),
    )


def cells_with_sound(voice: ClipFeatures, *, count: int, window_s: float, stride_s: float) -> NDArray[np.bool_]:
    """Say which of a clip's cells have sound, bool [count], from the steps of its windows."""
    length, stride = timeline.cells_in(window_s, name="window"), timeline.cells_in(stride_s, name="stride")
    cells = np.arange(len(voice.valid))[:, None] * stride + np.arange(length)
    return timeline.cells_of_steps(voice.valid, cells, count=count)


def boxes_of(box: ClipFeatures) -> Floats:
    """Give the boxes of `face-box` features, float64 [C, 4]; NaN where there is none."""
    return np.where(box.valid[:, None], box.values[:, :4].astype(np.float64), np.nan)


def is_silent(loudness: ClipFeatures) -> bool:
    """Say whether there is sound and nothing in it: every sample zero, or quieter than any microphone's noise."""
    heard = loudness.values[loudness.valid]
    return bool(len(heard)) and bool((heard <= _SILENT_DB).all())
