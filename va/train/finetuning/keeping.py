"""What fine-tuning leaves on the disk: one state to go on from, the best epoch, and at the end an ordinary run.

`state.safetensors` holds head, backbones and both optimisers, so gigabytes; there is one. The weights of the best epoch
lie beside it under that epoch's number, written before the state that names them: whenever the process is killed, the
state and the best weights that it names are both whole.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from va import files, settings
from va.data import features, hdf5
from va.data.tuned import KINDS
from va.errors import VAError
from va.extract import tuned
from va.train import checkpoint
from va.train import state as states
from va.train.config import TrainConfig
from va.train.finetune_config import FinetuneConfig
from va.train.finetuning.inputs import InputStore
from va.train.finetuning.parallel import Parallel
from va.train.finetuning.start import Start
from va.train.finetuning.towers import Towers
from va.train.loop import Trial
from va.train.stack import Stack
from va.train.state import Epoch


class Keeper:
    """Keeps a run while it is trained. Every process has one; that of the first writes.

    Args:
        directory: The run's.
        config: The stage's settings.
        trial: The trial, as it was found on the disk.
        towers: The backbones.
        parallel: The processes that train together.
        epoch_done: Called after each epoch.
    """

    def __init__(
        self,
        directory: Path,
        *,
        config: FinetuneConfig,
        trial: Trial,
        towers: Towers,
        parallel: Parallel,
        epoch_done: Callable[[TrainConfig, Epoch], None],
    ) -> None:
        self._directory, self._config, self._trial, self._towers = directory, config, trial, towers
        self._parallel, self._epoch_done = parallel, epoch_done
        self._order = trial.state.order
        self._saved_s = time.monotonic()
        self._kept = (trial.state.epoch, len(trial.state.lost))
        if trial.state.below:
            towers.restore(trial.state.below)
            trial.state.below = {}  # gigabytes that nothing needs twice

    @property
    def begun(self) -> str:
        """How far the state on the disk has come, e.g. "epoch 2 of 15", in words for a person; empty without one."""
        epoch, steps = self._kept
        if not epoch and not steps:
            return ""
        inside = f", step {steps} of the next" if steps else ""
        return f"epoch {epoch} of {self._trial.config.epochs}{inside}"

    def save_now_and_then(self, stack: Stack, lost: Sequence[Tensor]) -> None:
        """Save inside an epoch when --save-minutes have passed; what is not finite is not worth it."""
        every_s = 60 * self._config.save_minutes
        if not self._parallel.leads or not every_s or time.monotonic() - self._saved_s < every_s:
            return
        losses = torch.stack(list(lost))[:, 0].cpu()
        if losses.isfinite().all():
            (now,) = stack.states()
            kept = {name: getattr(now, name) for name in ("weights", "moments", "ema", "dropout", "steps")}
            self._save(dataclasses.replace(self._trial.state, order=self._order, lost=losses, **kept))

    def epoch(self, trial: Trial, best: dict[str, Tensor] | None) -> None:
        """Keep an epoch that has ended; `best` holds the head's weights where it is the best so far."""
        self._decide_alike()
        self._order = trial.state.order
        if self._parallel.leads:
            if best is not None:
                self._save_best(best)
            self._save(trial.state)
            for file in _best_files(self._directory):
                if file != self._best:
                    file.unlink()
            states.write_log(trial.state, self._directory)
        self._epoch_done(trial.config, trial.state.log[-1])

    def finish(self, start: Start, identity: dict[str, Any]) -> None:
        """Make the run directory what any other is; `run.json` comes last, and what was for going on goes."""
        states.write_log(self._trial.state, self._directory)  # a kill after its last state may have left it out
        best = self._load_best()
        checkpoint.save_weights(self._directory, _part(best, "head"))
        weights = _part(best, "towers")
        steps = {"steps": torch.tensor(0)}
        averages = {f"ema/{name}": each for name, each in weights.items() if self._config.ema}
        self._towers.restore({f"weights/{name}": each for name, each in weights.items()} | averages | steps)
        encoders: dict[str, dict[str, Any]] = {}
        with self._towers.answering() as pair:
            for kind, encoder in zip(KINDS, pair, strict=True):
                learned = bool(self._towers.towers[kind].learning)
                encoders[kind] = tuned.keep(self._directory, encoder, kind=kind) if learned else dict(encoder.identity)
        described = _describe(self._config, start, self._trial, self._directory, identity, encoders)
        described["processes"] = self._parallel.world
        described["files"] = checkpoint.hashes(self._directory)
        # Fine-tuned before and frozen here: its files stay where they are, outside this directory.
        described["encoder_folders"] = {
            kind: str(encoder.folder)
            for kind, encoder in zip(KINDS, start.pair, strict=True)
            if encoder.folder is not None and not self._towers.towers[kind].learning
        }
        files.write_json(self._directory / "run.json", described)
        discard(self._directory)

    @property
    def _best(self) -> Path:
        return self._directory / f"best-{self._trial.state.best_epoch}.safetensors"

    def _save(self, state: states.TrialState) -> None:
        states.save(dataclasses.replace(state, below=self._towers.state()), self._directory, keep_previous=False)
        self._saved_s = time.monotonic()
        self._kept = (state.epoch, len(state.lost))

    def _save_best(self, head: dict[str, Tensor]) -> None:
        answering = _part(self._towers.state(), "ema" if self._config.ema else "weights")
        tensors = {f"head/{name}": each for name, each in head.items()}
        tensors |= {f"towers/{name}": each for name, each in answering.items()}
        kept = {name: each.detach().cpu().contiguous() for name, each in tensors.items()}
        files.write_bytes(self._best, save(kept, metadata={"blake2b": states.checksum({}, kept)}))

    def _load_best(self) -> dict[str, Tensor]:
        file = self._best
        try:
            with safe_open(file, framework="pt") as opened:
                found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a dict
                metadata = opened.metadata()
            if metadata["blake2b"] != states.checksum({}, found):
                raise ValueError("its bytes are not those that were written")
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise VAError(
                f"{file}: cannot be used ({error})", "Give --no-resume to train this run from the start."
            ) from None
        return found

    def _decide_alike(self) -> None:
        """Let the first process's score count for all: they must stop after the same epoch."""
        state = self._trial.state
        decided = torch.tensor([state.best_epoch, state.best_score], dtype=torch.float64, device=self._parallel.device)
        self._parallel.broadcast(decided)
        state.best_epoch, state.best_score = int(decided[0]), float(decided[1])


def discard(directory: Path) -> None:
    """Remove what was kept for going on."""
    states.discard(directory)
    for file in _best_files(directory):
        files.remove(file)


def size_of_state(directory: Path) -> int:
    """Give the size of what is kept for going on, in bytes."""
    kept = [*(directory / name for name in (states.NAME, states.PREVIOUS)), *_best_files(directory)]
    return sum(file.stat().st_size for file in kept if file.is_file())


def tidy(directory: Path) -> None:
    """Remove what a kill has left in a finished run between its `run.json` and `discard`, if the folder lets one."""
    names = (states.NAME, states.PREVIOUS)
    # Only what is there: a disk that is read only refuses to remove a file that is not.
    if _best_files(directory) or any((directory / name).exists() for name in names):
        with contextlib.suppress(VAError):
            discard(directory)


def source_of(store: InputStore, clip_id: str) -> list[Any]:
    """Give size and hash of the medium that a clip's model inputs come from."""
    with hdf5.reading(store.face.path(clip_id)) as file:
        found = hdf5.attributes(hdf5.group(file, files.safe_name(clip_id)))
        return [int(found["source_size"]), str(found["source_blake2b"])]


def features_of(config: FinetuneConfig, directory: Path) -> Path:
    """Say where the features of a run's encoders go."""
    return (config.features or directory / "features").absolute()


def _describe(
    config: FinetuneConfig,
    start: Start,
    trial: Trial,
    directory: Path,
    identity: dict[str, Any],
    encoders: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    state, root = trial.state, features_of(config, directory)
    folders = {kind: features.folder_name(found) for kind, found in encoders.items()}
    return {
        "schema": checkpoint.SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": settings.as_dict(dataclasses.replace(trial.config, features=root)),
        "identity": {**identity, **{kind: settings.digest(found) for kind, found in encoders.items()}},
        "shape": start.shape,
        "members": [],
        "corpus": {
            "name": start.corpus.name,
            "path": str(start.corpus.path),
            "synthetic": start.corpus.synthetic,
        },
        "features": {kind: str(root / folder) for kind, folder in folders.items()},
        "encoders": encoders,
        "demo_encoders": any(found.get("demo") for found in encoders.values()),
        "region_texts": list(start.region_texts),
        "prototypes": start.prototypes or {"source": folders["face"], "borrowed": False},
        "selection": {
            "split": start.selected_on,
            "clips": [clip.id for clip in start.division.selection],
            "epoch": state.best_epoch,
            "ccc_mean": state.best_score,
        },
        "train_clips": [clip.id for clip in start.division.train],
        "epochs": state.epoch,
        "seconds": {name: round(spent, 3) for name, spent in trial.seconds.items()},
        "trained_together": 1,
        "device": config.device,
        "versions": checkpoint.versions(),
        "finetune": settings.without_paths(config),
        "finetuned_from": start.run.directory.name if start.run is not None else None,
    }


def _best_files(directory: Path) -> list[Path]:
    return list(directory.glob("best-*.safetensors"))


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.removeprefix(f"{name}/"): each for key, each in tensors.items() if key.startswith(f"{name}/")}
