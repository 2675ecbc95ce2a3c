"""The run under conditions: no sound, no face, faces lost in stretches, sound out of step with the picture.

The paper calls its gate reliability-aware: a modality that says nothing should count for little. Here that is tested
rather than told, on cached features, by changing what the head gets. Embeddings keep the context that they were
extracted with: a cell's sound embedding has heard its whole window, so shifted sound is late or early as a whole and
not cut anew, and a picture is lost after it was encoded.
"""

import zlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from va.data import timeline
from va.data.corpus import Truth
from va.data.windows import WindowSet
from va.evaluate import predict
from va.evaluate.figures import Robustness
from va.evaluate.predict import Gather
from va.evaluate.protocol import ClipFrames
from va.evaluate.rows import Scoring
from va.train.checkpoint import Run

SHIFT_S: Final = 1.0
"""How far the sound is shifted, in seconds."""

LOST_CELLS: Final = (2, 10)
"""Shortest and longest stretch that faces are lost for, in cells: 1 to 5 s."""


class Condition(NamedTuple):
    """What the head gets instead of the windows as they are."""

    name: str
    note: str
    inputs: Gather


def measure(
    run: Run, windows: WindowSet, truths: Sequence[Truth], undisturbed: Sequence[ClipFrames], scoring: Scoring
) -> list[Robustness]:
    """Score the run under each condition, and its change against the run undisturbed.

    Args:
        run: The run.
        windows: Those of the clips scored.
        truths: The clips' annotations.
        undisturbed: The run's own predictions of them.
        scoring: How to score; its seed also draws which faces are lost.

    Returns:
        One per condition.
    """
    found = []
    for condition in conditions(windows, seed=scoring.seed):
        raw = predict.predict_gathered(run, condition.inputs, windows=len(windows), device=windows.device)
        frames = scoring.frames(predict.series_of(windows, raw.va), truths)
        *_, change = scoring.difference(frames, undisturbed)
        found.append(Robustness(name=condition.name, note=condition.note, abaw=scoring.abaw(frames), change=change))
    return found


def conditions(windows: WindowSet, *, seed: int) -> list[Condition]:
    """List the conditions; sound is shifted only where its steps are the cells (every encoder of `va`).

    Args:
        windows: The windows to change.
        seed: Draws which faces are lost.
    """
    lost = lost_faces(windows, seed=seed)
    seen = windows.frame_valid
    share = float((lost & seen).sum() / seen.sum()) if bool(seen.any()) else 0.0

    def no_sound(index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        frames, frame_valid, audio, audio_valid = windows.batch(index)[:4]
        return frames, frame_valid, audio, torch.zeros_like(audio_valid)

    def no_face(index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        frames, frame_valid, audio, audio_valid = windows.batch(index)[:4]
        return frames, torch.zeros_like(frame_valid), audio, audio_valid

    def half(index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        frames, frame_valid, audio, audio_valid = windows.batch(index)[:4]
        return frames, frame_valid & ~lost[windows.cells[index]], audio, audio_valid

    shortest_s, longest_s = (cells * timeline.CELL_S for cells in LOST_CELLS)
    found = [
        Condition("No sound", "every step of the sound masked", no_sound),
        Condition("No face", "every picture masked", no_face),
        Condition(
            "Half of the faces lost",
            f"{share:.0%} of the pictures masked, in stretches of {shortest_s:g} to {longest_s:g} s",
            half,
        ),
    ]
    if windows.audio.shape[1] == windows.local_cells.shape[1]:
        cells = timeline.cells_in(SHIFT_S, name="shift")
        found += [
            Condition("Sound late", f"the sound of a moment comes {SHIFT_S:g} s after it", _shifted(windows, cells)),
            Condition("Sound early", f"the sound of a moment comes {SHIFT_S:g} s before it", _shifted(windows, -cells)),
        ]
    return found


def lost_faces(windows: WindowSet, *, seed: int) -> Tensor:
    """Draw stretches of cells that lose their picture: every other stretch, so about half of all cells.

    Each clip is drawn for by its own name, so its losses do not depend on which other clips there are; windows that
    share a cell share its loss.

    Args:
        windows: The windows.
        seed: Any integer >= 0.

    Returns:
        bool [cells + 1], rows as those of `windows.frame_valid`, on its device.
    """
    parts = [
        _every_other(span.cells, np.random.default_rng([seed, zlib.crc32(span.clip.id.encode(errors="replace"))]))
        for span in windows.spans
    ]
    return torch.from_numpy(np.concatenate([*parts, [False]])).to(windows.frame_valid.device)


def _every_other(count: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    lost, marked, first = np.zeros(count, np.bool_), bool(rng.integers(2)), 0
    while first < count:
        length = int(rng.integers(LOST_CELLS[0], LOST_CELLS[1] + 1))
        lost[first : first + length] = marked
        first, marked = first + length, not marked
    return lost


def shifted_steps(windows: WindowSet, cells: int) -> tuple[Tensor, Tensor]:
    """Find what each step of each window hears when sound comes `cells` late.

    A step hears what belonged to the cell `cells` before its own: in its own window where that cell lies in it, else
    in the nearest window of the clip that covers it, else nothing.

    Args:
        windows: Windows whose sound has one step per cell.
        cells: Above 0 for late, below for early.

    Returns:
        int64 [windows + 1, S], the window to take a step's sound from (-1: nothing), and int64 [S], the step there.
    """
    count, steps = windows.local_cells.shape
    source: NDArray[np.int64] = np.full((count + 1, steps), -1, np.int64)
    wanted = np.arange(steps) - cells
    taken = wanted.copy()
    for span in windows.spans:
        numbers = np.arange(span.windows.start, span.windows.stop)
        # How far windows are apart; with one window there is no other to look into.
        first_cells = windows.local_cells[span.windows, 0].numpy()
        stride = int(first_cells[1] - first_cells[0]) if len(first_cells) > 1 else steps
        before = np.where(wanted < 0, -(wanted // stride), 0)
        after = np.where(wanted >= steps, -((steps - 1 - wanted) // stride), 0)
        other = numbers[:, None] + after - before
        inside = (other >= span.windows.start) & (other < span.windows.stop)
        source[span.windows] = np.where(inside, other, -1)
        if len(first_cells) > 1:
            taken = wanted + (before - after) * stride
    return torch.from_numpy(source), torch.from_numpy(np.clip(taken, 0, steps - 1))


def _shifted(windows: WindowSet, cells: int) -> Gather:
    source, taken = (part.to(windows.device) for part in shifted_steps(windows, cells))

    def inputs(index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        frames, frame_valid = windows.batch(index)[:2]
        heard, stored = source[index], windows.audio.device
        audio = windows.audio[heard.to(stored), taken.to(stored)].to(windows.device, torch.float32)
        return frames, frame_valid, audio, windows.audio_valid[heard, taken]

    return inputs
