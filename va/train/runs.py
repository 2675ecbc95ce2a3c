"""Settings -> run directories: finds what is done, trains the rest together, keeps every epoch.

Run it as `va train CORPUS FEATURES --out RUNS`. Sweeps, ablations and folds are lists of settings; they all come here.
"""

import contextlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from va import files, locks, settings
from va.data.corpus import Truth
from va.data.timeline import cells_in
from va.data.tuned import read_folder
from va.data.windows import WindowSet
from va.device import choose_device, free_bytes
from va.errors import VAError
from va.model.head import VAHead
from va.model.text import RegionTexts
from va.train import checkpoint, context, events, loop
from va.train import state as states
from va.train.config import TrainConfig
from va.train.data import load_pool, moments, read_truths
from va.train.loop import Trial
from va.train.planning import Planned, check_machine, groups, plan
from va.train.state import Epoch, TrialState

EpochDone = Callable[[TrainConfig, Epoch], None]


class TrialsFailed(VAError):
    """Some trials failed; the others are finished.

    Args:
        failures: Why, by run directory.
    """

    def __init__(self, failures: dict[Path, VAError], *, of: int) -> None:
        first, error = next(iter(failures.items()))
        if of == 1:
            super().__init__(error.message, error.hint)
        else:
            super().__init__(f"{len(failures)} of {of} trials failed, first {first.name}: {error.message}", error.hint)
        self.failures = failures


def train(configs: Sequence[TrainConfig], *, epoch_done: EpochDone) -> list[Path]:
    """Train runs, or find that they have been trained already.

    Runs that differ only in what does not shape the head are trained together; everything is checked before anything
    is trained.

    Args:
        configs: Single runs, as `planning.expand` gives them.
        epoch_done: Called with a run's settings and log line after each of its epochs.

    Returns:
        The run directories, in the order of `configs`.

    Raises:
        VAError: Corpus or features are missing or do not fit together, or a finished run is damaged; nothing is written
            then. Or another process trains one of these runs.
        TrialsFailed: Some runs failed on the way; the others are finished.
    """
    planned = plan(configs)
    for config in configs:
        check_machine(config)
    failures: dict[Path, VAError] = {}
    finished = {one.directory for one in planned if checkpoint.is_finished(one.directory)}
    for directory in sorted(finished):
        checkpoint.require_whole(directory)
    wanted = [one for one in planned if one.directory not in finished]
    context.check_whole(one.data.tower for one in wanted)
    for group in groups(wanted):
        failures |= train_group(group, at_once=group[0].config.stack, epoch_done=epoch_done)
    if failures:
        raise TrialsFailed(failures, of=len(planned))
    return [one.directory for one in planned]


def train_group(group: list[Planned], *, at_once: int, epoch_done: EpochDone) -> dict[Path, VAError]:
    """Train runs of one architecture on one set of features, so many at once, or as fit; says which failed, and why."""
    first = group[0]
    device = choose_device(first.config.device)
    clips = [clip for one in group for clip in (*one.division.train, *one.division.selection)]
    pool = load_pool(first.config, first.data, clips, device)
    truths = read_truths(first.data, [clip for one in group for clip in one.division.selection])
    texts = context.load(first.data.tower, pool.device) if first.data.tower is not None else None
    at_once = at_once or fitting(first)
    failures: dict[Path, VAError] = {}
    with contextlib.ExitStack() as held:
        # Two processes would write in turns, and one that is killed would leave its own half in the other's run.
        for directory in sorted({one.directory for one in group}):
            held.enter_context(locks.alone(directory, doing="trained"))
        left = [one for one in group if not checkpoint.is_finished(one.directory)]  # another one may have finished some
        for start in range(0, len(left), at_once):
            failures |= _train_stack(left[start : start + at_once], pool, truths, epoch_done, texts)
    return failures


def _train_stack(
    planned: list[Planned],
    pool: WindowSet,
    truths: dict[str, Truth],
    epoch_done: EpochDone,
    texts: RegionTexts | None,
) -> dict[Path, VAError]:
    trials = [make_trial(one, pool) for one in planned]
    _align(trials, planned, pool)
    by_trial = dict(zip(map(id, trials), planned, strict=True))
    event_logs = {
        id(trial): events.EventLog(one.directory, epochs_done=trial.state.epoch)
        for trial, one in zip(trials, planned, strict=True)
        if one.config.tensorboard
    }

    def keep(trial: Trial, best: dict[str, Tensor] | None) -> None:
        directory, state = by_trial[id(trial)].directory, trial.state
        if best is not None:
            checkpoint.save_weights(directory, best)
        states.save(state, directory)
        states.write_log(state, directory)
        if id(trial) in event_logs:
            event_logs[id(trial)].add(state.log[-1])
        epoch_done(trial.config, state.log[-1])

    loop.fit(trials, pool, truths, make_head(planned[0]), epoch_done=keep, texts=texts)
    for trial, one in zip(trials, planned, strict=True):
        if trial.failure is None:
            states.write_log(trial.state, one.directory)  # a kill after its last state may have left it out
            files.write_json(one.directory / "run.json", _describe_run(one, trial, together=len(trials)))
            states.discard(one.directory)
    return {
        one.directory: trial.failure for trial, one in zip(trials, planned, strict=True) if trial.failure is not None
    }


def _align(trials: list[Trial], planned: list[Planned], pool: WindowSet) -> None:
    """Bring trials that were killed while their stack was being saved back to one epoch.

    Sums are rounded differently in a stack of another size. Only trials that go on from the same epoch go on in the
    company that they would have had, and so to the same bits.
    """
    newest = max(trial.state.epoch for trial in trials)
    if not any(trial.state.epoch == newest - 1 and not trial.is_done for trial in trials):
        return
    for trial, one in zip(trials, planned, strict=True):
        if trial.state.epoch == newest == 1:
            states.discard(one.directory)
            trial.state = _new_state(one, pool, loop.windows_of(trial.train))
        elif trial.state.epoch == newest:
            trial.state = states.step_back(one.directory, epoch=newest) or trial.state


def make_trial(one: Planned, pool: WindowSet) -> Trial:
    """Start a planned run, or take it up where it was interrupted; `pool` holds its clips."""
    spans = {span.clip.id: span for span in pool.spans}
    if not one.config.resume:
        states.discard(one.directory)
    found = states.load(one.directory)
    train = tuple(spans[clip.id] for clip in one.division.train)
    return Trial(
        config=one.config,
        train=train,
        selection=tuple(spans[clip.id] for clip in one.division.selection),
        state=found or _new_state(one, pool, loop.windows_of(train)),
    )


def _new_state(one: Planned, pool: WindowSet, windows_of: Tensor) -> TrialState:
    seed = one.config.seed
    torch.manual_seed(seed)
    head = make_head(one)
    weights = head.state_dict()
    if one.data.tower is not None:
        weights["region_head.context"] = context.initial(one.data.tower, count=one.config.context, seed=seed)
    for modality in ("video", "audio"):
        if f"{modality}.projection.mean" in weights:
            mean, scale = moments(pool, windows_of, modality=modality)
            weights |= {f"{modality}.projection.mean": mean, f"{modality}.projection.scale": scale}
    return TrialState(
        weights=weights,
        # Streams of their own: batches and dropout must not depend on how many numbers initialisation took.
        order=states.new_generator(seed, torch.device("cpu")),
        dropout=states.new_generator(seed ^ states.DROPOUT_STREAM, pool.device),
    )


def make_head(one: Planned) -> VAHead:
    """Build a planned run's head, without a trial axis; weights come from torch's current seed."""
    prototypes = torch.from_numpy(one.data.prototypes.values)
    return checkpoint.make_head(one.config, one.data.shape, prototypes=prototypes)


def fitting(one: Planned) -> int:
    """Guess how many trials fit into half of the free memory of their device, at least one."""
    return max(1, int(free_bytes(choose_device(one.config.device)) / 2 / trial_bytes(one)))


def trial_bytes(one: Planned) -> int:
    """Estimate what a trial of a stack adds to the memory of a training step at its peak, in bytes."""
    config = one.config
    parameters = sum(parameter.numel() for parameter in make_head(one).parameters())
    cells = cells_in(config.window_s, name="window")
    inputs = one.data.face.dim + one.data.voice.dim
    # Weights, gradients, two moments, averages; and about 60 activations of the head's width per step, with gradients.
    per_step = 120 * config.width + 2 * inputs
    if one.data.shape["audio_cnn"] and config.modalities != "face":
        per_step += 40 * one.data.voice.dim  # sixteen channels of a step's picture, before and after ReLU and pooling
    needed = 4 * (6 * parameters + config.batch_size * cells * per_step)
    if one.data.tower is not None:
        needed += 4 * context.floats_per_trial(one.data.tower, count=config.context)
    return needed


def _describe_run(one: Planned, trial: Trial, *, together: int) -> dict[str, Any]:
    data, state = one.data, trial.state
    noted = {kind: read_folder(store.directory) for kind, store in (("face", data.face), ("voice", data.voice))}
    return {
        "schema": checkpoint.SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config": settings.as_dict(one.config),
        "identity": one.identity,
        "shape": data.shape,
        "members": [],
        "corpus": {"name": data.corpus.name, "path": str(data.corpus.path), "synthetic": data.corpus.synthetic},
        "features": {"face": str(data.face.directory.absolute()), "voice": str(data.voice.directory.absolute())},
        "encoders": {"face": data.face.identity, "voice": data.voice.identity},
        "encoder_folders": {kind: str(folder) for kind, folder in noted.items() if folder is not None},
        "demo_encoders": bool(data.face.identity.get("demo") or data.voice.identity.get("demo")),
        "region_texts": list(data.prototypes.texts),
        "prototypes": {"source": data.texts.source, "borrowed": data.texts.borrowed},
        "selection": {
            "split": f"fold {one.config.fold}" if one.config.folds else one.config.select_on,
            "clips": [clip.id for clip in one.division.selection],
            "epoch": state.best_epoch,
            "ccc_mean": state.best_score,
        },
        "train_clips": [clip.id for clip in one.division.train],
        "epochs": state.epoch,
        "seconds": {name: round(spent, 3) for name, spent in trial.seconds.items()},
        "trained_together": together,
        "device": str(choose_device(one.config.device)),
        "files": checkpoint.hashes(one.directory),
        "versions": checkpoint.versions(),
    }
