"""Settings of comparisons of encoders. Standard library only, so that `va --help` stays quick."""

from dataclasses import dataclass
from typing import Literal

from va.engine.config import EngineSettings
from va.settings import outside_digest, require
from va.train.ablate_config import RowSettings, require_pairs
from va.train.config import HeadSettings, TrainConfig


@dataclass(frozen=True, kw_only=True)
class CompareConfig(EngineSettings, RowSettings):
    """Which encoders to compare, and the head that is trained on each; by default the paper's."""

    pairs: tuple[str, ...] = ()
    """Encoders as FRAME+AUDIO, at least two pairs; by default every frame encoder with every audio encoder that is no
    baseline. Log-mel goes through its CNN (settled 10)."""

    modalities: Literal["both", "face", "voice"] = HeadSettings.modalities
    """What the heads see; with face or voice there is one row per encoder of that kind."""

    target: Literal["frames", "end"] = HeadSettings.target
    """A prediction for each half-second cell, or a single one at the window's end (settled 4)."""

    temporal: Literal["gru", "tcn"] = HeadSettings.temporal
    """Temporal model of each modality (table 2)."""

    fusion: Literal["attention", "gated", "hierarchical"] = HeadSettings.fusion
    """How sound and video meet (table 2)."""

    width: int = HeadSettings.width
    """Features inside the head (F5, F6, settled 5)."""

    standardise: bool = HeadSettings.standardise
    """Bring each stored feature to mean 0 and deviation 1 over the training clips (settled 12)."""

    region_weight: float = TrainConfig.region_weight
    """Weight lambda of the region term (F13), in all rows alike; 0 in all where no encoder has texts (settled 13)."""

    prototypes_from: str = outside_digest(default="")
    """Frame encoder whose region texts the others without any use; needed only where several have some."""

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        self.check_engine()
        require(self.region_weight >= 0, option="--region-weight", value=self.region_weight, expected="at least 0")
        multiple = self.width > 0 and self.width % (2 * HeadSettings.num_heads) == 0
        require(multiple, option="--width", value=self.width, expected="a multiple of 8")
        require_pairs(self.pairs)
        shown = ",".join(self.pairs)
        different = not self.pairs or len(set(self.pairs)) == len(self.pairs) >= 2
        require(different, option="--pairs", value=shown, expected="at least two different pairs")
        both = not self.pairs or self.modalities == "both"
        require(both, option="--pairs", value=shown, expected="no pairs with --modalities face or voice")
