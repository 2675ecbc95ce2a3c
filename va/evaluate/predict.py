"""A run and cached features -> predictions, laid on the clips' frames."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from va import settings
from va.data import features, windows
from va.data.corpus import Clip, Corpus
from va.data.features import FeatureStore
from va.data.windows import WindowSet
from va.errors import VAError
from va.evaluate import assemble
from va.evaluate.protocol import ClipFrames, ClipWindows
from va.model.inference import WindowPredictions, predict_windows
from va.model.prompts import region_centers, region_reading
from va.train.checkpoint import Run

Gather = Callable[[Tensor], tuple[Tensor, Tensor, Tensor, Tensor]]

_BATCH = 256  # windows at once; predictions do not depend on it beyond rounding


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a run was trained on, opened again.

    Args:
        corpus: The corpus.
        face: Frame features.
        voice: Audio features.
    """

    corpus: Corpus
    face: FeatureStore
    voice: FeatureStore


def open_inputs(run: Run, *, corpus: Path | None, features_root: Path | None) -> Inputs:
    """Open a run's corpus and features where they were, or where they are now.

    Args:
        run: The run.
        corpus: Manifest, when it has moved.
        features_root: Features folder, when it has moved.

    Raises:
        VAError: Not there, or of another identity than those the run was trained on.
    """
    if not run.info["corpus"]["path"] and (corpus is None or features_root is None):
        raise VAError(
            f"{run.directory}: was shared without its corpus and features",
            "Name yours with --corpus and --features; features must come from the same encoders.",
        )
    opened = Corpus.load(corpus or Path(run.info["corpus"]["path"]))
    stores = {}
    for name, digest in (("face", run.info["identity"]["face"]), ("voice", run.info["identity"]["voice"])):
        folder = Path(run.info["features"][name])
        if features_root is not None:
            folder = features_root / folder.name
        store = features.FeatureStore(folder)
        if store.digest != digest:
            raise VAError(
                f"{folder}: has identity {store.digest}, the run was trained on {digest}",
                "Extract with the settings of the run, or train again on these features.",
            )
        stores[name] = store
    return Inputs(corpus=opened, **stores)


@dataclass(frozen=True, kw_only=True)
class SplitPredictions:
    """A run's predictions of some clips.

    Args:
        windows: The windows they were made on.
        raw: Per window.
        frames: Per annotated frame, for the `abaw` protocol.
        ends: Per full window, for the `paper` protocol.
        reading: Per annotated frame, what the region probabilities say instead of the regression
            (`va.model.prompts.region_reading`).
    """

    windows: WindowSet
    raw: WindowPredictions
    frames: list[ClipFrames]
    ends: list[ClipWindows]
    reading: list[ClipFrames]


def predict_clips(run: Run, inputs: Inputs, clips: tuple[Clip, ...], *, device: torch.device) -> SplitPredictions:
    """Predict clips from cached features.

    Args:
        run: Its head is moved to `device`.
        inputs: Corpus and features.
        clips: At least one.
        device: Where to compute.

    Raises:
        VAError: Features are missing or do not fit.
    """
    config = run.config
    window_set = windows.load(
        inputs.corpus,
        clips,
        face=inputs.face,
        voice=inputs.voice,
        window_s=config.window_s,
        stride_s=config.stride_s,
        at_end=config.target == "end",
        device=device,
    )

    raw = predict_gathered(run, lambda index: window_set.batch(index)[:4], windows=len(window_set), device=device)
    local_cells: NDArray[np.int64] = window_set.local_cells.numpy()
    centers = region_centers(config.axes).double()
    from_regions = region_reading(torch.from_numpy(raw.regions), centers).numpy()
    frames: list[ClipFrames] = []
    reading: list[ClipFrames] = []
    ends: list[ClipWindows] = []
    for span in window_set.spans:
        values, end_time_s = raw.va[span.windows], np.array(span.end_time_s)
        truth = inputs.corpus.truth(span.clip)
        for found, answer in ((frames, values), (reading, from_regions[span.windows])):
            found.append(
                assemble.frames_from_windows(
                    span.clip.id,
                    values=answer,
                    cells=local_cells[span.windows],
                    num_cells=span.cells,
                    end_time_s=end_time_s,
                    truth=truth,
                )
            )
        ends.append(
            assemble.ends_from_windows(
                span.clip.id,
                values=values,
                full=np.array(span.full),
                end_time_s=end_time_s,
                truth=truth,
                label_shift_s=0.0,
            )
        )
    return SplitPredictions(windows=window_set, raw=raw, frames=frames, ends=ends, reading=reading)


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
    if run.members:
        index = index.expand(run.members, -1)
    batch_size = max(1, _BATCH // max(1, run.members))
    raw = predict_windows(run.head.to(device), inputs=inputs, index=index, batch_size=batch_size)
    return WindowPredictions(*(part.mean(axis=0) for part in raw)) if run.members else raw


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


def describe_identity(store: FeatureStore) -> str:
    """Name a store for the report: encoder, identity digest, and whether it is a demo encoder."""
    demo = " (demo encoder)" if store.identity.get("demo") else ""
    return f"{store.encoder}-{settings.digest(store.identity)}{demo}"
