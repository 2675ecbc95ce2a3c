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

    pairs: tuple[str, ...] = ()  # docs/method.md, settled 10
    """Encoders as FRAME+AUDIO, at least two pairs; by default every frame encoder with every audio encoder that is no
    baseline. Log-mel goes through its CNN."""

    modalities: Literal["both", "face", "voice"] = HeadSettings.modalities
    """What the heads see; with face or voice there is one row per encoder of that kind."""

    target: Literal["frames", "end"] = HeadSettings.target  # docs/method.md, settled 4
    """A prediction for each half-second cell, or a single one at the window's end."""

    temporal: Literal["gru", "tcn"] = HeadSettings.temporal  # docs/method.md, F6, F16
    """Temporal model of each modality, as in 'va train'."""

    fusion: Literal["attention", "gated", "hierarchical"] = HeadSettings.fusion  # docs/method.md, F11, F12, F16
    """How sound and video meet, as in 'va train'."""

    width: int = HeadSettings.width  # docs/method.md, F5, F6, settled 5
    """Features inside the head; by default the paper's."""

    standardise: bool = HeadSettings.standardise  # docs/method.md, settled 12
    """Bring each stored feature to mean 0 and deviation 1 over the training clips."""

    region_weight: float = TrainConfig.region_weight  # docs/method.md, F13, settled 13
    """Weight lambda of the region term, in all rows alike; 0 in all where no encoder has texts."""

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
