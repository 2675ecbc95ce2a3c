"""TensorBoard events of a run, for those who watch their trainings there: `va train --tensorboard`."""

from pathlib import Path

from va.errors import VAError
from va.train.state import Epoch


class EventLog:
    """Writes a run's log lines as events.

    Args:
        directory: The run's.

    Raises:
        VAError: The tensorboard package is not installed.
    """

    def __init__(self, directory: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise VAError(
                "--tensorboard: the tensorboard package is not installed", "Run 'pip install tensorboard'."
            ) from None
        self._writer = SummaryWriter(str(directory))

    def add(self, line: Epoch) -> None:
        """Write one epoch's figures, and bring them to the disk."""
        for name in ("loss", "ccc_loss", "region_kl", "ccc_valence", "ccc_arousal", "ccc_mean"):
            self._writer.add_scalar(name, line[name], line["epoch"])
        self._writer.flush()
