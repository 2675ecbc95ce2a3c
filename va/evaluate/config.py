"""Settings of the evaluation. Standard library only, so that `va --help` stays quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from va.settings import argument, outside_digest, require


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """How to score a run and what to show."""

    run: Path = argument()
    """Run directory that 'va train' printed."""

    out: Path = outside_digest()
    """Folder for metrics.json, predictions.csv and index.html."""

    split: Literal["val", "test", "train"] = "val"
    """Split to score; it must have annotations."""

    corpus: Path | None = outside_digest(default=None)
    """Corpus manifest, when it has moved since training."""

    features: Path | None = outside_digest(default=None)
    """Features folder, when it has moved since training."""

    resamples: int = 2000
    """Bootstrap resamples of clips for the 95% intervals."""

    clips_shown: int = 6
    """Clips whose trajectories are drawn."""

    device: str = outside_digest(default="auto")
    """auto, cpu, cuda or cuda:N; auto takes a GPU when there is one."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.resamples >= 1, option="--resamples", value=self.resamples, expected="at least 1")
        require(self.clips_shown >= 0, option="--clips-shown", value=self.clips_shown, expected="0 or more")
