"""Settings of `va reproduce`. Standard library only, so that `va --help` stays quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from va.extract.config import ExtractConfig
from va.settings import argument, outside_digest, require, require_outside
from va.train.config import HeadSettings

TABLES = (1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class ReproduceConfig:
    """From an Aff-Wild2 tree to the paper's three tables, our own defaults beside them, and a submission."""

    root: Path = argument()
    """Top folder of the Aff-Wild2 tree, which holds annotations and videos."""

    out: Path = outside_digest()
    """Folder for everything; what is finished in it is used again, so the same command goes on where it stopped."""

    name: str = "Aff-Wild2"
    """Name of the corpus in reports; give another to a rehearsal on other data."""

    sample: Path | None = None
    """Sample file of the challenge: names the test clips, and a submission is written for exactly its frames."""

    encoders: Literal["paper", "tiny"] = "paper"  # docs/method.md, F1, F2, F15
    """The paper's encoders for each table; or the tiny DEMO encoders, to rehearse the command: their
    figures mean nothing for real faces."""

    tables: tuple[int, ...] = TABLES
    """The paper's tables to run again: 1 (backbones), 2 (temporal model and fusion), 3 (region grid)."""

    faces: Literal["auto", "none", "detect", "crops"] = "auto"
    """Which pictures the frame encoders see; auto takes the corpus's own crops where --crops or ROOT/cropped_aligned
    is there, and detects faces otherwise."""

    crops: Path | None = outside_digest(default=None)
    """Folder with one folder of crops per clip; by default ROOT/cropped_aligned."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of every row of the tables, and of our own runs, whose mean is a run as well."""

    select_on: Literal["dev", "val"] = "val"  # docs/method.md, settled 7
    """Split that chooses the epoch in the tables: val, the field's habit and needed to compare with the paper, or dev.
    Our own runs always choose on dev."""

    epochs: int = HeadSettings.epochs  # docs/method.md, F14
    """Passes over the training windows; by default the paper's."""

    learning_rate: float = HeadSettings.learning_rate  # docs/method.md, F14
    """AdamW's step size for the head; by default the paper's."""

    resamples: int = 2000
    """Bootstrap resamples of clips for the 95% intervals over clips."""

    clip_weights: Path | None = outside_digest(default=None)
    """CLIP ViT-B/16 weights as an open_clip .safetensors file, or the folder that holds them, for machines that reach
    no model hub."""

    clip_32_weights: Path | None = outside_digest(default=None)
    """The same for CLIP ViT-B/32, which table 1 needs."""

    ast_weights: Path | None = outside_digest(default=None)
    """AST weights: a folder with config.json and model.safetensors, for machines that reach no model hub."""

    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Arithmetic of the encoders; part of the features' identity. The 16-bit kinds are for GPUs."""

    frame_batch: int = outside_digest(default=ExtractConfig.frame_batch)
    """Frames in one batch of extraction."""

    audio_batch: int = outside_digest(default=ExtractConfig.audio_batch)
    """Audio windows in one batch of extraction."""

    device: str = outside_digest(default="auto")
    """auto, cpu, cuda or cuda:N; auto takes a GPU when there is one."""

    json: bool = outside_digest(default=False)
    """Print the results as one JSON object instead of tables and the page's path."""

    def __post_init__(self) -> None:
        """Check ranges, and that nothing is written into the tree."""
        require_outside(self.out, self.root)
        known = bool(self.tables) and len(set(self.tables)) == len(self.tables) and set(self.tables) <= set(TABLES)
        require(known, option="--tables", value=self.tables, expected="any of 1,2,3, each once")
        different = len(set(self.seeds)) == len(self.seeds) > 0
        require(different, option="--seeds", value=self.seeds, expected="different seeds, at least one")
        for name in ("epochs", "learning_rate", "resamples", "frame_batch", "audio_batch"):
            value = getattr(self, name)
            require(value > 0, option="--" + name.replace("_", "-"), value=value, expected="a number above 0")
