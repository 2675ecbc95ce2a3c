"""Many runs of which some may fail, counted for a progress bar: what sweeps and ablations have in common."""

from collections.abc import Callable, Sequence
from pathlib import Path

from va.engine.config import EngineSettings
from va.errors import VAError
from va.train import planning, runs, scaleout
from va.train.config import TrainConfig
from va.train.state import Epoch

Progress = Callable[[int, int, str], None]
Say = Callable[[TrainConfig, Epoch], str]


def train_most(
    configs: Sequence[TrainConfig],
    *,
    engine: EngineSettings,
    progress: Progress,
    say: Say,
) -> tuple[list[Path], dict[Path, VAError]]:
    """Train runs of which some may fail, as sweeps and ablations do.

    Args:
        configs: Single runs.
        engine: Where they are trained.
        progress: Called with (epochs done, epochs in all, what `say` says); a run that stopped early, failed or was
            there before has in the end done all of its epochs.
        say: What to tell of a run's epoch.

    Returns:
        The run directories, in the order of `configs`, and why some failed.

    Raises:
        VAError: As `runs.train`; or every run failed.
    """
    failures: dict[Path, VAError] = {}
    epoch_done = _counting(configs, progress, say)
    try:
        if engine.engine == "ray":
            directories = scaleout.train(configs, engine=engine, epoch_done=epoch_done)
        else:
            directories = runs.train(configs, epoch_done=epoch_done)
    except runs.TrialsFailed as error:
        if len(error.failures) == len(configs):
            raise
        directories, failures = [one.directory for one in planning.plan(configs)], error.failures
    everything = sum(config.epochs for config in configs)
    progress(everything, everything, "")
    return directories, failures


def _counting(configs: Sequence[TrainConfig], progress: Progress, say: Say) -> runs.EpochDone:
    done: dict[TrainConfig, int] = {}
    best_epoch: dict[TrainConfig, int] = {}
    total = sum(config.epochs for config in configs)

    def epoch_done(config: TrainConfig, line: Epoch) -> None:
        # A resumed run's best epoch may lie before anything heard here; it is then counted a little late.
        if line["best"] or config not in best_epoch:
            best_epoch[config] = line["epoch"]
        stopped = line["epoch"] - best_epoch[config] >= config.patience
        done[config] = config.epochs if stopped else line["epoch"]
        progress(sum(done.values()), total, say(config, line))

    return epoch_done
