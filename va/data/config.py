"""Settings of the corpus commands. Standard library only, so that `va --help` stays quick."""

import os
from dataclasses import dataclass
from pathlib import Path

from va.settings import argument, outside_digest, require


@dataclass(frozen=True, kw_only=True)
class SynthConfig:
    """A synthetic corpus with known truth."""

    directory: Path = argument()
    """Folder to write the media, annotations and corpus.json into."""

    clips: int = 48
    """Number of clips, about two per identity; a third of the identities is validation."""

    seconds: float = 20.0
    """Length of each clip in seconds."""

    seed: int = 0
    """Same seed, same labels and pictures."""

    workers: int = outside_digest(default=0)
    """Processes; 0 takes one per processor."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.clips >= 8, option="--clips", value=self.clips, expected="at least 8, for train, dev and val")
        require(1 <= self.seconds <= 3600, option="--seconds", value=self.seconds, expected="1 to 3600")
        require(self.seed >= 0, option="--seed", value=self.seed, expected="0 or more")
        require(self.workers >= 0, option="--workers", value=self.workers, expected="0 or more")

    @property
    def processes(self) -> int:
        """Number of processes to use."""
        return self.workers or os.cpu_count() or 1


@dataclass(frozen=True, kw_only=True)
class AffWild2Config:
    """An Aff-Wild2 / ABAW tree."""

    root: Path = argument()
    """Top folder of the tree, which holds annotations and videos."""

    out: Path = outside_digest()
    """Folder to write corpus.json and the label files into."""

    name: str = "Aff-Wild2"
    """Name of the corpus in reports."""
