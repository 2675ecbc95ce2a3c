"""Cached features and labels of some clips as tensors, and the windows over them as index tensors.

Features are held once, in float16, however many windows overlap; a batch is a gather. They lie in the memory of the
device, or, where they are larger than the memory they may take, in a file that the system pages in as it is read. The
last row of every tensor is a masked one: padding (-1) points at it, which is what index -1 means in torch, so -1 is a
cell without a picture and a window without anything.
"""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from va.data.corpus import Clip, Corpus
from va.data.features import ClipFeatures, FeatureStore
from va.data.layout import ClipSpan, Layout, lay_out
from va.errors import VAError


class WindowBatch(NamedTuple):
    """Model inputs and targets of some windows; B windows (or [N, B] of several trials), T cells, S audio steps.

    Attributes:
        frames: float32 [..., B, T, Dv].
        frame_valid: bool [..., B, T].
        audio: float32 [..., B, S, Da].
        audio_valid: bool [..., B, S].
        target: float32 [..., B, T, 2], or [..., B, 1, 2] for the target `end`; valence and arousal in [-1, 1].
        target_valid: bool [..., B, T] or [..., B, 1].
    """

    frames: Tensor
    frame_valid: Tensor
    audio: Tensor
    audio_valid: Tensor
    target: Tensor
    target_valid: Tensor


@dataclass(frozen=True, kw_only=True)
class WindowSet:
    """All windows of some clips, ready to gather.

    Args:
        frames: float16 [cells + 1, Dv]; the last row of this and of all others is masked.
        frame_valid: bool [cells + 1].
        audio: float16 [windows + 1, S, Da].
        audio_valid: bool [windows + 1, S].
        target: float32 [cells + 1, 2], or [windows + 1, 2] for the target `end`.
        target_valid: bool, same rows as `target`.
        cells: int64 [windows + 1, T], rows of `frames`, -1 for padding.
        local_cells: int64 [windows, T], on the CPU: the same cells counted from their clip's start, -1 for padding.
        spans: One per clip, in order.
        at_end: Whether targets are window ends instead of cells (settled 4).
        device: Where batches go; the tensors lie there too, unless `frames` and `audio` are mapped from a file.
    """

    frames: Tensor
    frame_valid: Tensor
    audio: Tensor
    audio_valid: Tensor
    target: Tensor
    target_valid: Tensor
    cells: Tensor
    local_cells: Tensor
    spans: tuple[ClipSpan, ...]
    at_end: bool
    device: torch.device

    def __len__(self) -> int:
        """Count the windows."""
        return len(self.cells) - 1

    def batch(self, index: Tensor) -> WindowBatch:
        """Gather windows; `index` is int64 [B] or [N, B] on the set's device, -1 for a window of padding."""
        cells = self.cells[index]
        rows = index[..., None] if self.at_end else cells
        return WindowBatch(
            frames=self._features(self.frames, cells),
            frame_valid=self.frame_valid[cells],
            audio=self._features(self.audio, index),
            audio_valid=self.audio_valid[index],
            target=self.target[rows],
            target_valid=self.target_valid[rows],
        )

    def num_labels(self) -> Tensor:
        """Count the valid labels of each window, on the CPU: int64 [windows + 1], 0 for the last."""
        rows = torch.arange(len(self.cells))[:, None] if self.at_end else self.cells.cpu()
        return self.target_valid.cpu()[rows].sum(dim=1)

    @classmethod
    def of(
        cls,
        layout: Layout,
        *,
        frames: Tensor,
        frame_valid: Tensor,
        audio: Tensor,
        audio_valid: Tensor,
        device: torch.device,
    ) -> "WindowSet":
        """Put features, each with its masked row, beside a layout; `device` is where batches go."""
        return cls(
            frames=frames,
            frame_valid=frame_valid,
            audio=audio,
            audio_valid=audio_valid,
            target=_masked_last(layout.target, fill=0, device=device),
            target_valid=_masked_last(layout.target_valid, fill=False, device=device),
            cells=_masked_last(layout.cells, fill=-1, device=device),
            local_cells=torch.from_numpy(layout.local_cells),
            spans=layout.spans,
            at_end=layout.at_end,
            device=device,
        )

    def _features(self, values: Tensor, index: Tensor) -> Tensor:
        gathered = values[index.to(values.device)]
        return gathered.to(self.device, torch.float32)


def load(
    corpus: Corpus,
    clips: Sequence[Clip],
    *,
    face: FeatureStore,
    voice: FeatureStore,
    window_s: float,
    stride_s: float,
    at_end: bool,
    device: torch.device,
    memory_bytes: float = math.inf,
) -> WindowSet:
    """Load clips' features and labels and lay windows over them.

    Args:
        corpus: Gives the labels.
        clips: At least one.
        face: Store of kind `frames`.
        voice: Store of kind `audio`.
        window_s: Window length in seconds; must be the audio store's.
        stride_s: Window distance in seconds; must be the audio store's.
        at_end: One target per window, at its end, instead of one per cell (settled 4).
        device: Where batches go.
        memory_bytes: Features larger than this stay in a temporary file.

    Raises:
        VAError: No clips, features that are missing or do not fit, or another window than the audio's.
    """
    if not clips:
        raise VAError(f"{corpus.path}: the split has no clips", "Choose a split that has annotated clips.")
    check_window(voice, window_s=window_s, stride_s=stride_s)
    layout = lay_out(corpus, clips, window_s=window_s, stride_s=stride_s, at_end=at_end)
    frames, audio = _room(clips, layout.spans, face, voice, memory_bytes=memory_bytes)
    valid: list[tuple[NDArray[Any], ...]] = []
    first_cell = 0
    for clip, span in zip(clips, layout.spans, strict=True):
        seen, heard = face.read(clip.id), voice.read(clip.id)
        _check_fit(span, seen, heard, face)
        frames[first_cell : first_cell + span.cells] = seen.values
        audio[span.windows] = heard.values
        valid.append((seen.valid, heard.valid))
        first_cell += span.cells
    frame_valid, audio_valid = map(np.concatenate, zip(*valid, strict=True))
    stays = torch.device("cpu") if isinstance(frames, np.memmap) else device
    return WindowSet.of(
        layout,
        frames=torch.from_numpy(frames).to(stays),
        audio=torch.from_numpy(audio).to(stays),
        frame_valid=_masked_last(frame_valid, fill=False, device=device),
        audio_valid=_masked_last(audio_valid, fill=False, device=device),
        device=device,
    )


def _room(
    clips: Sequence[Clip],
    spans: Sequence[ClipSpan],
    face: FeatureStore,
    voice: FeatureStore,
    *,
    memory_bytes: float,
) -> list[NDArray[np.float16]]:
    """Make zeros for all clips' features and the masked rows, in memory or in temporary files."""
    num_cells, num_windows = sum(span.cells for span in spans), spans[-1].windows.stop
    steps = voice.read(clips[0].id).values.shape[1]
    sizes = ((num_cells + 1, face.dim), (num_windows + 1, steps, voice.dim))
    if 2 * sum(math.prod(size) for size in sizes) <= memory_bytes:
        return [np.zeros(size, np.float16) for size in sizes]
    mapped: list[NDArray[np.float16]] = []
    for size in sizes:
        with tempfile.TemporaryFile() as file:  # has no name: it goes with the array, even after a kill
            mapped.append(np.memmap(file, np.float16, mode="w+", shape=size))
    return mapped


def _masked_last(values: NDArray[Any], *, fill: float, device: torch.device) -> Tensor:
    """Add the row that padding points at."""
    row = np.full((1, *values.shape[1:]), fill, values.dtype)
    return torch.from_numpy(np.concatenate((values, row))).to(device)


def check_window(voice: FeatureStore, *, window_s: float, stride_s: float) -> None:
    """Check that windows are those of the audio features.

    Raises:
        VAError: They differ.
    """
    sampling = voice.identity["sampling"]
    if (sampling["window_s"], sampling["stride_s"]) != (window_s, stride_s):
        raise VAError(
            f"{voice.directory}: has windows of {sampling['window_s']:g} s every {sampling['stride_s']:g} s, "
            f"not {window_s:g} s every {stride_s:g} s",
            "Set --window-s and --stride-s to these, or extract the audio encoder again with yours.",
        )


def _check_fit(span: ClipSpan, seen: ClipFeatures, heard: ClipFeatures, face: FeatureStore) -> None:
    if len(seen.values) != span.cells or len(heard.values) != span.windows.stop - span.windows.start:
        raise VAError(
            f"{face.directory}: features of '{span.clip.id}' do not cover its {span.clip.duration_s:.2f} s",
            "The video changed since: make the corpus manifest again, then run 'va extract'.",
        )
