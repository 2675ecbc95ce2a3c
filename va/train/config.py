"""Settings of stage two. Standard library only, so that `va --help` stays quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from va.settings import argument, outside_digest, require


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train a head on cached features; defaults are the paper's recipe."""

    corpus: Path = argument()
    """Corpus manifest, or the folder that holds it."""

    features: Path = argument()
    """Features folder that 'va extract' made."""

    out: Path = outside_digest()
    """Folder for run directories."""

    name: str = outside_digest(default="")
    """First part of the run directory's name; by default made from the architecture."""

    face_encoder: str = ""
    """Frame encoder to use; needed only when the features folder holds several."""

    voice_encoder: str = ""
    """Audio encoder to use; needed only when the features folder holds several."""

    modalities: Literal["both", "face", "voice"] = "both"
    """What the head sees."""

    target: Literal["frames", "end"] = "frames"
    """A prediction for each half-second cell, or the release's single one at the window's end (settled 4)."""

    width: int = 256
    """Features inside the head: projection, GRU output (both directions together) and fusion (F5, F6, settled 5)."""

    num_heads: int = 4
    """Attention heads (R7)."""

    window_s: float = 10.0
    """Window in seconds (F3); must be that of the audio features."""

    stride_s: float = 3.0
    """Distance between windows in seconds (F3); must be that of the audio features."""

    centers: tuple[float, ...] = (-0.66, 0.0, 0.66)
    """Region centres along each axis, in valence/arousal units (F7)."""

    sigma: float = 0.45
    """Width of the soft labels' Gaussian, in valence/arousal units (F8, paper eq. 2)."""

    region_weight: float = 0.2
    """Weight lambda of the region term (F13, paper eq. 6); 0 switches it off."""

    region_scale: float = 10.0
    """First value of the learned scale of the region logits; the release keeps it at 10 (R4)."""

    batch_size: int = 16
    """Windows in a batch (F14)."""

    epochs: int = 15
    """Passes over the training windows (F14)."""

    learning_rate: float = 1e-4
    """AdamW's step size for the head (F14)."""

    weight_decay: float = 1e-4
    """AdamW's weight decay, on all parameters (F14)."""

    patience: int = 5
    """Stop after so many epochs without a better score on the selection split (R3)."""

    select_on: Literal["dev", "val"] = "dev"
    """Split that chooses the epoch: dev, held out of train by identity, or val, the field's habit, which is then
    named in every report (settled 7)."""

    dev_fraction: float = 0.15
    """Share of the training identities that form dev (settled 7)."""

    seed: int = 0
    """Seed of initialisation, batch order and the choice of dev."""

    device: str = outside_digest(default="auto")
    """auto, cpu, cuda or cuda:N; auto takes a GPU when there is one."""

    def __post_init__(self) -> None:
        """Check ranges."""
        positive = (
            "width",
            "num_heads",
            "sigma",
            "region_scale",
            "batch_size",
            "epochs",
            "learning_rate",
            "patience",
            "window_s",
            "stride_s",
        )
        for name in positive:
            self._require(name, getattr(self, name) > 0, "a number above 0")
        for name in ("region_weight", "weight_decay"):
            self._require(name, getattr(self, name) >= 0, "a number of at least 0")
        self._require("width", self.width % (2 * self.num_heads) == 0, "a multiple of twice --num-heads")
        self._require("dev_fraction", 0 < self.dev_fraction < 1, "a number between 0 and 1")
        ordered = len(self.centers) >= 2 and list(self.centers) == sorted(set(self.centers))
        self._require("centers", ordered, "at least two different numbers in ascending order")
        self._require("centers", all(-1 <= value <= 1 for value in self.centers), "numbers in [-1, 1]")

    def _require(self, name: str, condition: bool, expected: str) -> None:
        require(condition, option="--" + name.replace("_", "-"), value=getattr(self, name), expected=expected)
