"""Cached features and labels of some clips as tensors, and the windows over them as index tensors.

Features are held once, in float16, however many windows overlap; a batch is a gather. The last row of `frames`
is a masked one: padding cells (-1) point at it, which is what index -1 means in torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from va.data import timeline
from va.data.corpus import Clip, Corpus, Truth
from va.data.features import ClipFeatures, FeatureStore
from va.errors import VAError


class WindowBatch(NamedTuple):
    """Model inputs and targets of some windows; B windows, T cells, S audio steps.

    Attributes:
        frames: float32 [B, T, Dv].
        frame_valid: bool [B, T].
        audio: float32 [B, S, Da].
        audio_valid: bool [B, S].
        target: float32 [B, T, 2], or [B, 1, 2] for the target `end`; valence and arousal in [-1, 1].
        target_valid: bool [B, T] or [B, 1].
    """

    frames: Tensor
    frame_valid: Tensor
    audio: Tensor
    audio_valid: Tensor
    target: Tensor
    target_valid: Tensor


@dataclass(frozen=True, kw_only=True)
class ClipSpan:
    """Where a clip lies in a `WindowSet`.

    Args:
        clip: The clip.
        cells: Number of its cells.
        windows: Slice of its windows.
        end_time_s: Time of each window's end, float64 tuple; the clip's end for a padded window.
        full: Whether each window lies wholly inside the clip.
    """

    clip: Clip
    cells: int
    windows: slice
    end_time_s: tuple[float, ...]
    full: tuple[bool, ...]


@dataclass(frozen=True, kw_only=True)
class WindowSet:
    """All windows of some clips, ready to gather; tensors share one device.

    Args:
        frames: float16 [cells + 1, Dv]; the last row is masked.
        frame_valid: bool [cells + 1].
        audio: float16 [windows, S, Da].
        audio_valid: bool [windows, S].
        target: float32 [cells + 1, 2], or [windows, 2] for the target `end`.
        target_valid: bool, same rows as `target`.
        cells: int64 [windows, T], rows of `frames`, -1 for padding.
        local_cells: int64 [windows, T], the same cells counted from their clip's start, -1 for padding.
        spans: One per clip, in order.
        at_end: Whether targets are window ends instead of cells (settled 4).
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

    def __len__(self) -> int:
        """Count the windows."""
        return len(self.cells)

    def batch(self, index: Tensor) -> WindowBatch:
        """Gather windows; `index` is int64 [B] on the set's device."""
        cells = self.cells[index]
        rows = index[:, None] if self.at_end else cells
        return WindowBatch(
            frames=self.frames[cells].float(),
            frame_valid=self.frame_valid[cells],
            audio=self.audio[index].float(),
            audio_valid=self.audio_valid[index],
            target=self.target[rows],
            target_valid=self.target_valid[rows],
        )


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
        device: Where tensors go.

    Raises:
        VAError: No clips, features that are missing or do not fit, or another window than the audio's.
    """
    if not clips:
        raise VAError(f"{corpus.path}: the split has no clips", "Choose a split that has annotated clips.")
    check_window(voice, window_s=window_s, stride_s=stride_s)
    spans: list[ClipSpan] = []
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in _PARTS}
    num_cells = num_windows = 0
    for clip in clips:
        seen, heard, truth = face.read(clip.id), voice.read(clip.id), corpus.truth(clip)
        cells = timeline.window_cells(clip.duration_s, window_s=window_s, stride_s=stride_s)
        _check_fit(clip, seen, heard, cells, face)
        ends = np.minimum(heard.time_s + window_s, clip.duration_s)
        target, target_valid = _targets(truth, ends if at_end else seen.time_s)
        rows = np.where(cells < 0, -1, cells + num_cells)
        arrays: tuple[NDArray[Any], ...]
        arrays = (seen.values, seen.valid, heard.values, heard.valid, target, target_valid, rows, cells)
        for name, array in zip(_PARTS, arrays, strict=True):
            parts[name].append(array)
        spans.append(
            ClipSpan(
                clip=clip,
                cells=len(seen.values),
                windows=slice(num_windows, num_windows + len(cells)),
                end_time_s=tuple(ends.tolist()),
                full=tuple((cells[:, -1] >= 0).tolist()),
            )
        )
        num_cells, num_windows = num_cells + len(seen.values), num_windows + len(cells)
    _add_masked_row(parts, dim=face.dim, at_end=at_end)
    tensors = {name: torch.from_numpy(np.concatenate(listed)).to(device) for name, listed in parts.items()}
    return WindowSet(**tensors, spans=tuple(spans), at_end=at_end)


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


def _add_masked_row(parts: dict[str, list[NDArray[Any]]], *, dim: int, at_end: bool) -> None:
    """Add the row that padding points at: no picture and, where targets belong to cells, no label."""
    parts["frames"].append(np.zeros((1, dim), np.float16))
    parts["frame_valid"].append(np.zeros(1, np.bool_))
    if not at_end:
        parts["target"].append(np.zeros((1, 2), np.float32))
        parts["target_valid"].append(np.zeros(1, np.bool_))


_PARTS = ("frames", "frame_valid", "audio", "audio_valid", "target", "target_valid", "cells", "local_cells")


def _targets(truth: Truth, time_s: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Read the annotation at some times: the label of the frame on screen; invalid beyond the annotation."""
    index = timeline.frame_at(truth.time_s, time_s)
    there = (index >= 0) & (time_s - truth.time_s[index] < timeline.CELL_S)
    valid = there & truth.valid[index]
    return np.where(valid[:, None], truth.va[index], np.float32(0)), valid


def _check_fit(clip: Clip, seen: ClipFeatures, heard: ClipFeatures, cells: NDArray[Any], face: FeatureStore) -> None:
    if len(seen.values) != timeline.num_cells(clip.duration_s) or len(heard.values) != len(cells):
        raise VAError(
            f"{face.directory}: features of '{clip.id}' do not cover its {clip.duration_s:.2f} s",
            "The video changed since: make the corpus manifest again, then run 'va extract'.",
        )
