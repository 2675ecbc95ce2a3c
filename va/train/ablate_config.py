"""Settings of the ablations and of every table of runs. Standard library only, so that `va --help` stays quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from va.engine.config import EngineSettings
from va.settings import argument, outside_digest, require
from va.train.config import HeadSettings, TrainConfig


@dataclass(frozen=True, kw_only=True)
class RowSettings:
    """What every table of runs has: on what its rows are trained, with which seeds, and what is reported."""

    corpus: Path = argument()
    """Corpus manifest, or the folder that holds it."""

    features: Path = argument()
    """Features folder that 'va extract' made."""

    out: Path = outside_digest()
    """Folder for run directories, results.json and index.html; an earlier page in it is replaced, its runs are used
    again."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of each row; a seed also draws dev."""

    split: Literal["val", "test"] = "val"
    """Split that is reported; it must have annotations."""

    select_on: Literal["dev", "val"] = HeadSettings.select_on  # docs/method.md, settled 7
    """Split that chooses the epoch: dev, held out of train by identity, or val, the field's habit, which the page then
    names."""

    epochs: int = HeadSettings.epochs  # docs/method.md, F14
    """Passes over the training windows; by default the paper's."""

    learning_rate: float = HeadSettings.learning_rate  # docs/method.md, F14
    """AdamW's step size for the head; by default the paper's."""

    batch_size: int = HeadSettings.batch_size  # docs/method.md, F14
    """Windows in a batch; by default the paper's."""

    resamples: int = 2000
    """Bootstrap resamples of clips for the 95% intervals over clips."""

    stack: int = outside_digest(default=0)
    """Trials trained at once; 0 for as many as fit."""

    device: str = outside_digest(default="auto")
    """auto, cpu, cuda or cuda:N; auto takes a GPU when there is one."""

    json: bool = outside_digest(default=False)
    """Print the results as one JSON object instead of tables and the page's path."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in ("epochs", "learning_rate", "batch_size", "resamples"):
            value = getattr(self, name)
            require(value > 0, option="--" + name.replace("_", "-"), value=value, expected="a number above 0")
        require(self.stack >= 0, option="--stack", value=self.stack, expected="a number of at least 0")
        different = len(set(self.seeds)) == len(self.seeds) > 0
        require(different, option="--seeds", value=self.seeds, expected="different seeds, at least one")


def require_pairs(pairs: tuple[str, ...]) -> None:
    """Check how pairs of encoders are written.

    Raises:
        VAError: One is not FRAME+AUDIO.
    """
    for pair in pairs:
        whole = len(pair.split("+")) == 2 and all(pair.split("+"))
        require(whole, option="--pairs", value=pair, expected="FRAME+AUDIO, e.g. clip-vit-b-16+ast")


@dataclass(frozen=True, kw_only=True)
class AblateConfig(EngineSettings, RowSettings):
    """Which of the paper's tables to run again, on what; everything else is the paper's recipe."""

    table: int  # docs/method.md, F15, F16, F17
    """Table of the paper: 1 (backbones), 2 (temporal model and fusion) or 3 (region grid)."""

    pairs: tuple[str, ...] = ()
    """Encoders as FRAME+AUDIO: two pairs for table 1, by default clip-vit-b-32+logmel,clip-vit-b-16+ast; one for the
    others, by default clip-vit-b-16+ast or, for each that is not there, the only other one that is."""

    context: int = TrainConfig.context
    """Add a row of ours to the table: the paper's best, with so many vectors learned before the regions' texts. 0 for
    no such row; else the file is needed that 'va prompts FEATURES --tower' makes."""

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        self.check_engine()
        require(self.table in (1, 2, 3), option="--table", value=self.table, expected="1, 2 or 3")
        require_pairs(self.pairs)
        require(self.context >= 0, option="--context", value=self.context, expected="a number of at least 0")
        wanted = 2 if self.table == 1 else 1
        require(
            not self.pairs or len(set(self.pairs)) == len(self.pairs) == wanted,
            option="--pairs",
            value=",".join(self.pairs),
            expected="two different pairs for table 1" if wanted == 2 else f"one pair for table {self.table}",
        )
