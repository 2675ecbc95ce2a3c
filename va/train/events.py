"""TensorBoard events of a run, for those who watch their trainings there: `va train --tensorboard`."""

from importlib.util import find_spec
from pathlib import Path

from va.errors import VAError
from va.train.state import Epoch


def require() -> None:
    """Check that the tensorboard package is there.

    Raises:
        VAError: It is not installed.
    """
    if find_spec("tensorboard") is None:
        raise VAError(
            "--tensorboard: the tensorboard package is not installed",
            "Run 'pip install valence-arousal[tensorboard]', or leave the option out: log.jsonl has the same figures.",
        )


class EventLog:
    """Writes a run's log lines as events.

    Args:
        directory: The run's.
        epochs_done: Epochs that an interrupted run has behind it; events of later ones are void.
    """

    def __init__(self, directory: Path, *, epochs_done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # only now: it takes seconds, and few want it

        self._writer = SummaryWriter(str(directory), purge_step=epochs_done + 1)

    def add(self, line: Epoch) -> None:
        """Write one epoch's figures, and bring them to the disk."""
        for name in ("loss", "ccc_loss", "region_kl", "ccc_valence", "ccc_arousal", "ccc_mean"):
            self._writer.add_scalar(name, line[name], line["epoch"])
        self._writer.flush()
