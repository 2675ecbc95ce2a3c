"""Stage two on Ray: a stack of trials is a task, which trains into their run directories as it would anywhere.

Which trials share a stack is decided as by the local engine, because sums round differently in other company. What is
heard of a trial is its log, which it writes into its run directory after each epoch. A lost worker's stack is a task
again, and goes on from the last epoch that it had saved.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from va.engine import cluster
from va.engine.config import EngineSettings
from va.engine.tasks import Stopping
from va.errors import VAError
from va.train import checkpoint, context, runs
from va.train import state as states
from va.train.config import TrainConfig
from va.train.planning import Planned, check_machine, groups, plan
from va.train.runs import EpochDone, TrialsFailed
from va.train.state import Epoch

Stack = tuple[TrainConfig, ...]


def train(configs: Sequence[TrainConfig], *, engine: EngineSettings, epoch_done: EpochDone) -> list[Path]:
    """Train runs as `runs.train` does, on a cluster.

    Args:
        configs: Single runs, as `planning.expand` gives them.
        engine: Which cluster, and what a task gets.
        epoch_done: Called with a run's settings and log line after each of its epochs.

    Raises:
        VAError: As `runs.train`; or Ray is not installed, or a machine of the cluster cannot do the work.
        TrialsFailed: Some runs failed on the way; the others are finished.
    """
    planned = plan(configs)
    directories = [one.directory for one in planned]
    missing = groups(one for one in planned if not checkpoint.is_finished(one.directory))
    if not missing:
        return directories
    context.check_whole(one.data.tower for group in missing for one in group)
    first = missing[0][0].config
    first.out.mkdir(parents=True, exist_ok=True)
    failures: dict[Path, VAError] = {}
    with cluster.joined(engine, device=first.device, seen=[first.corpus, first.features, first.out]) as joined:
        stacks: dict[Stack, list[Planned]] = {}
        for group in map(_begun, missing):
            at_once = group[0].config.stack or joined.one(fitting, group[0].config)
            for start in range(0, len(group), at_once):
                stack = group[start : start + at_once]
                stacks[tuple(one.config for one in stack)] = stack
        logs = {one.directory: _Log(one) for stack in stacks.values() for one in stack}
        for ended in joined.run(train_stack, list(stacks), stopping=lambda: False):
            for log in list(logs.values()):
                log.tell(epoch_done)
            if ended is None:
                continue
            for one in stacks[ended.item]:
                logs.pop(one.directory, None)
            if ended.lost:
                failures |= {one.directory: _lost(ended.lost) for one in stacks[ended.item]}
            failures |= ended.result or {}
    if failures:
        raise TrialsFailed({one: failures[one] for one in directories if one in failures}, of=len(directories))
    return directories


def _begun(group: list[Planned]) -> list[Planned]:
    """Forget earlier states where that is asked for, here and once: a lost worker's stack must go on from its own."""
    for one in group:
        if not one.config.resume:
            states.discard(one.directory)
    return [replace(one, config=replace(one.config, resume=True)) for one in group]


def fitting(config: TrainConfig, stopping: Stopping) -> int:
    """Say in a worker how many trials like this one fit its device."""
    check_machine(config)
    (planned,) = plan([config])
    return runs.fitting(planned)


def train_stack(configs: Stack, stopping: Stopping) -> dict[Path, VAError]:
    """Train a stack in a worker, or go on with it; says which trials failed, and why."""
    for config in configs:
        check_machine(config)
    # One was finished already where its worker was lost between two of their last files.
    planned = [one for one in plan(configs) if not checkpoint.is_finished(one.directory)]
    if not planned:
        return {}
    return runs.train_group(planned, at_once=len(planned), epoch_done=lambda config, line: None)


class _Log:
    """A trial's log, as another process writes it.

    Args:
        one: The trial.
    """

    def __init__(self, one: Planned) -> None:
        self._config = one.config
        self._file = one.directory / "log.jsonl"
        self._told = self._read() if one.config.resume else []

    def tell(self, epoch_done: EpochDone) -> None:
        """Pass on what is new."""
        found = self._read()
        same = 0  # a stack may go back by an epoch
        while same < min(len(found), len(self._told)) and found[same] == self._told[same]:
            same += 1
        for line in found[same:]:
            epoch: Epoch = json.loads(line)
            epoch_done(self._config, epoch)
        self._told = found

    def _read(self) -> list[str]:
        try:
            return self._file.read_text(encoding="utf-8").splitlines()
        except OSError:
            return []  # not begun, or out of reach for a moment


def _lost(why: str) -> VAError:
    return VAError(
        f"the worker processes that trained it were lost ({why})",
        "Check memory and logs on the machines of the cluster; the same command goes on from the last epoch.",
    )
