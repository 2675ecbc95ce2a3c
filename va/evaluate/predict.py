"""A run and cached features -> predictions, laid on the clips' frames."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from va.data.corpus import Clip, Truth
from va.data.windows import WindowSet
from va.evaluate import assemble
from va.evaluate.assemble import ClipSeries, Fill
from va.evaluate.opening import Inputs, load_windows
from va.evaluate.protocol import ClipFrames, ClipWindows
from va.model.inference import WindowPredictions, predict_windows
from va.model.prompts import region_centers, region_reading
from va.train.checkpoint import Run

Gather = Callable[[Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]
"""Window numbers -> frames, frame_valid, audio, audio_valid as `VAHead.forward` takes them."""

_BATCH = 256  # windows at once; predictions do not depend on it beyond rounding


@dataclass(frozen=True, kw_only=True)
class SplitPredictions:
    """A run's predictions of some clips.

    Args:
        windows: The windows they were made on.
        raw: Per window.
        truths: The clips' annotations.
        series: Per clip at cell centres or window ends, before anything is filled or smoothed.
        frames: Per annotated frame, for the `abaw` protocol.
        ends: Per full window, for the `paper` protocol.
        reading: Per annotated frame, what the region probabilities say instead of the regression
            (`va.model.prompts.region_reading`).
    """

    windows: WindowSet
    raw: WindowPredictions
    truths: list[Truth]
    series: list[ClipSeries]
    frames: list[ClipFrames]
    ends: list[ClipWindows]
    reading: list[ClipFrames]


def series_of(window_set: WindowSet, values: NDArray[np.float64]) -> list[ClipSeries]:
    """Lay what was said about windows on each clip's time.

    Args:
        window_set: The windows.
        values: float64 [windows, T, K].

    Returns:
        One series per clip, at cell centres or, with T = 1, at window ends.
    """
    local_cells: NDArray[np.int64] = window_set.local_cells.numpy()
    return [
        assemble.series_from_windows(
            span.clip.id,
            values=values[span.windows],
            cells=local_cells[span.windows],
            num_cells=span.cells,
            end_time_s=np.array(span.end_time_s),
        )
        for span in window_set.spans
    ]


def predict_clips(
    run: Run, inputs: Inputs, clips: Sequence[Clip], *, device: torch.device, fill: Fill, label_shift_s: float
) -> SplitPredictions:
    """Predict clips from cached features.

    Args:
        run: Its head is moved to `device`.
        inputs: Corpus and features.
        clips: At least one.
        device: Where to compute.
        fill: How frames without a prediction of their own get one (`assemble.frames_from_series`).
        label_shift_s: As there; 0 for the official score.

    Raises:
        VAError: Features are missing or do not fit.
    """
    window_set = load_windows(run, inputs, clips, device=device)
    raw = predict_gathered(run, lambda index: window_set.batch(index)[:4], windows=len(window_set), device=device)
    truths = [inputs.corpus.truth(clip) for clip in clips]
    centers = region_centers(run.config.axes).double()
    series, reading = (
        series_of(window_set, values)
        for values in (raw.va, region_reading(torch.from_numpy(raw.regions), centers).numpy())
    )
    frames, read_frames = (
        [
            assemble.frames_from_series(one, truth, fill=fill, label_shift_s=label_shift_s)
            for one, truth in zip(found, truths, strict=True)
        ]
        for found in (series, reading)
    )
    ends = [
        assemble.ends_from_windows(
            span.clip.id,
            values=raw.va[span.windows],
            full=np.array(span.full),
            end_time_s=np.array(span.end_time_s),
            truth=truth,
            label_shift_s=label_shift_s,
        )
        for span, truth in zip(window_set.spans, truths, strict=True)
    ]
    return SplitPredictions(
        windows=window_set, raw=raw, truths=truths, series=series, frames=frames, ends=ends, reading=read_frames
    )


def predict_gathered(run: Run, inputs: Gather, *, windows: int, device: torch.device) -> WindowPredictions:
    """Ask a run about windows; an ensemble's answer is the mean of its members' answers.

    Args:
        run: Its head is moved to `device`.
        inputs: Window numbers -> what `VAHead.forward` takes, on `device`. int64 [B], or [members, B] for an ensemble;
            the numbers' axes come first in what it gives.
        windows: How many there are, at least one.
        device: Where to compute.

    Returns:
        Of W windows with T steps: `va` float64 [W, T, 2] in [-1, 1], `regions` [W, T, R], `gate` [W, T].
    """
    index = torch.arange(windows, device=device)
    if not run.members:
        return predict_members(run, inputs, index=index)
    raw = predict_members(run, inputs, index=index.expand(run.members, -1))
    return WindowPredictions(*(part.mean(axis=0) for part in raw))


def predict_members(run: Run, inputs: Gather, *, index: Tensor) -> WindowPredictions:
    """Ask a run about some windows, an ensemble's members each about their own.

    Args:
        run: Its head is moved to the index's device.
        inputs: As `predict_gathered` has it.
        index: int64 [W], or [members, W] for an ensemble; -1 for a window of padding, whose answer means nothing.

    Returns:
        As `va.model.inference.predict_windows`: an ensemble's arrays begin with its members.
    """
    batch_size = max(1, _BATCH // max(1, run.members))
    return predict_windows(run.head.to(index.device), inputs=inputs, index=index, batch_size=batch_size)


def predict_batch(
    run: Run, frames: Tensor, frame_valid: Tensor, audio: Tensor, audio_valid: Tensor
) -> WindowPredictions:
    """Ask a run about windows that are in memory; the computation is that of `predict_clips`, members included.

    Args:
        run: Its head is moved to the tensors' device.
        frames: Float [W, T, Dv], at least one window; anything where not valid.
        frame_valid: Bool [W, T].
        audio: Float [W, S, Da].
        audio_valid: Bool [W, S].

    Returns:
        As `predict_gathered`.
    """

    def inputs(index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return frames[index].float(), frame_valid[index], audio[index].float(), audio_valid[index]

    return predict_gathered(run, inputs, windows=len(frames), device=frames.device)
