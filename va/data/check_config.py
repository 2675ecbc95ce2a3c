"""Settings of `va corpus show` and `va corpus check`. Standard library only, so that `va --help` stays quick."""

from dataclasses import dataclass
from pathlib import Path

from va.errors import VAError
from va.settings import argument, outside_digest, require


@dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """What a corpus holds, from its manifest alone."""

    corpus: Path = argument()
    """Corpus manifest, or the folder that holds it."""

    out: Path | None = outside_digest(default=None)
    """Folder for index.html and summary.json."""

    json: bool = outside_digest(default=False)
    """Print the summary as one JSON object instead of tables."""


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """What is wrong with a corpus, before hours are spent on it."""

    corpus: Path = argument(label="ROOT_OR_CORPUS")
    """Corpus manifest, or the folder that holds it; or a tree, or a folder of annotations, that is no corpus yet."""

    out: Path | None = outside_digest(default=None)
    """Folder for findings.csv."""

    annotations: Path | None = outside_digest(default=None)
    """Folder with the annotation text of a manifest's clips; by default the folder of its media."""

    crops: Path | None = outside_digest(default=None)
    """Folder with one folder of crops per clip, e.g. cropped_aligned; without it crops are not looked at."""

    deep: bool = False
    """Decode every picture, all sound and every crop, instead of a few of each."""

    fix: bool = False
    """Write what can be decided to the manifest's section of decisions; no other file of the corpus is changed."""

    unfix: bool = False
    """Take all decisions back, and check nothing."""

    workers: int = outside_digest(default=0)
    """Processes that open media; 0 for one per processor core, at most 16."""

    stall_s: float = outside_digest(default=120.0)
    """Seconds without progress after which a decoder counts as hung; that costs its medium only."""

    memory_gb: float = outside_digest(default=2.0)
    """Memory that opening one medium may take, in GB."""

    json: bool = outside_digest(default=False)
    """Print all findings as one JSON object instead of a table."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(0 <= self.workers <= 256, option="--workers", value=self.workers, expected="a number from 0 to 256")
        require(self.stall_s > 0, option="--stall-s", value=self.stall_s, expected="a positive number of seconds")
        require(self.memory_gb > 0, option="--memory-gb", value=self.memory_gb, expected="a positive number of GB")
        if self.fix and self.unfix:
            raise VAError("--unfix: takes back what --fix decides", "Give one of the two.")
