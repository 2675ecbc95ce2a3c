"""Where a trial stands between two epochs: everything that going on needs, and nothing else.

The same few tensors serve three purposes: `Stack` is built from them, a checkpoint is them, and when some trials of a
stack have finished, a smaller stack is built from those of the others. So resuming is no path of its own.
"""

import contextlib
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypedDict

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from va import files
from va.errors import VAError

NAME: Final = "state.safetensors"
PREVIOUS: Final = "previous.safetensors"
"""The state one epoch before, for a stack that was killed while it saved its trials one after the other."""
SCHEMA: Final = 2
DROPOUT_STREAM: Final = 0x5EED
"""Sets the seed of a trial's dropout apart from that of its batches."""


class Epoch(TypedDict):
    """One line of `log.jsonl`; losses are means over batches, CCCs are on the selection split (`abaw`)."""

    epoch: int
    loss: float
    ccc_loss: float
    region_kl: float
    ccc_valence: float
    ccc_arousal: float
    ccc_mean: float
    skipped_batches: int
    best: bool


@dataclass(kw_only=True)
class TrialState:
    """One trial between two epochs.

    Args:
        weights: State dict of its head, without a trial axis.
        order: State of the generator that shuffles its windows, uint8.
        dropout: State of the generator that its dropout draws from, uint8, of the device's kind.
        moments: AdamW's two running means per parameter, as "exp_avg/<name>" and "exp_avg_sq/<name>"; empty at first.
        ema: Averaged weights, empty without --ema.
        below: State of the backbones that learn with it, empty where features are cached.
        lost: Losses of the steps that were made in an epoch under way, float32 [steps, 2]; `order` is then that of
            the epoch's begin. Empty between two epochs.
        steps: Updates made.
        epoch: Epochs done.
        best_epoch: The one with the best selection score, 0 before the first.
        best_score: That score.
        log: One line per epoch.
    """

    weights: dict[str, Tensor]
    order: Tensor
    dropout: Tensor
    moments: dict[str, Tensor] = field(default_factory=dict)
    ema: dict[str, Tensor] = field(default_factory=dict)
    below: dict[str, Tensor] = field(default_factory=dict)
    lost: Tensor = field(default_factory=lambda: torch.zeros(0, 2))
    steps: int = 0
    epoch: int = 0
    best_epoch: int = 0
    best_score: float = -np.inf
    log: list[Epoch] = field(default_factory=list)


def save(state: TrialState, directory: Path, *, keep_previous: bool = True) -> None:
    """Write a state into a run directory, whole or not at all.

    Args:
        state: The state.
        directory: The run's.
        keep_previous: Keep the one before it; those of backbones are gigabytes.

    Raises:
        VAError: It cannot be written.
    """
    groups = {"weights": state.weights, "moments": state.moments, "ema": state.ema, "below": state.below}
    tensors = {f"{group}/{name}": tensor for group, found in groups.items() for name, tensor in found.items()}
    tensors |= {"order": state.order, "dropout": state.dropout, "lost": state.lost}
    counts: dict[str, Any] = {"schema": SCHEMA, "steps": state.steps, "epoch": state.epoch}
    counts |= {"best_epoch": state.best_epoch, "best_score": state.best_score, "log": state.log}
    with files.replacing(directory / NAME) as temporary:
        kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        # One entry, because the library writes several in any order.
        text = json.dumps(counts | {"blake2b": checksum(counts, kept)})
        temporary.write_bytes(to_bytes(kept, metadata={"state": text}))
        if keep_previous:
            with contextlib.suppress(FileNotFoundError):
                (directory / NAME).replace(directory / PREVIOUS)


def write_log(state: TrialState, directory: Path) -> None:
    """Write `log.jsonl` as the state has it.

    Raises:
        VAError: It cannot be written.
    """
    files.write_text(directory / "log.jsonl", "".join(json.dumps(line) + "\n" for line in state.log))


def load(directory: Path) -> TrialState | None:
    """Read the state of an interrupted run; None when there is none.

    Raises:
        VAError: It is damaged or of another version.
    """
    return _read(directory / NAME) or _read(directory / PREVIOUS)


def step_back(directory: Path, *, epoch: int) -> TrialState | None:
    """Undo a run's epoch, on the disk too, so that the next kill finds no trace of it.

    Args:
        directory: The run's.
        epoch: The one to undo, the last.

    Returns:
        The state before it; None, with nothing changed, when that is not there.

    Raises:
        VAError: It is damaged or of another version, or the folder cannot be written in.
    """
    found = _read(directory / PREVIOUS)
    if found is None or found.epoch != epoch - 1:
        return None
    try:
        (directory / PREVIOUS).replace(directory / NAME)
    except OSError as error:
        raise files.cannot_write(directory / NAME, error) from error
    return found


def _read(file: Path) -> TrialState | None:
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            counts: dict[str, Any] = json.loads(opened.metadata()["state"])
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
        if counts["schema"] != SCHEMA:
            raise ValueError("another version wrote it")
        if counts.pop("blake2b") != checksum(counts, tensors):
            raise ValueError("its bytes are not those that were written")
        del counts["schema"]
        return TrialState(
            weights=_group(tensors, "weights"),
            moments=_group(tensors, "moments"),
            ema=_group(tensors, "ema"),
            below=_group(tensors, "below"),
            lost=tensors.get("lost", torch.zeros(0, 2)),
            order=tensors["order"],
            dropout=tensors["dropout"],
            **counts,
        )
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise VAError(
            f"{file}: cannot be resumed from ({error})", "Give --no-resume to train this run from the start."
        ) from None


def discard(directory: Path) -> None:
    """Remove the states of a finished run: its weights are kept elsewhere, and these are six times their size."""
    for name in (NAME, PREVIOUS):
        files.remove(directory / name)


def new_generator(seed: int, device: torch.device) -> Tensor:
    """Give the state of a fresh generator of a device."""
    return torch.Generator(device).manual_seed(seed).get_state()


def checksum(counts: dict[str, Any], tensors: dict[str, Tensor]) -> str:
    """Hash JSON values and tensors on the CPU: a wrong bit in them would go on learning unnoticed."""
    found = hashlib.blake2b(json.dumps(counts).encode(), digest_size=16)
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _group(tensors: dict[str, Tensor], group: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{group}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{group}/")}
