"""Settings of the corpus commands. Standard library only, so that `va --help` stays quick."""

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from va.settings import argument, outside_digest, require, require_outside


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

    style: Literal["cartoon", "chalk"] = "cartoon"
    """How it is drawn and voiced: as what the demo encoders learned from, or in outlines on a dark board with a hoarse
    voice, which they read badly. Labels and times are the same."""

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
class AdapterConfig:
    """What every data set's command asks for; one that is a tree of files has its top folder in `root`."""

    out: Path = outside_digest()
    """Folder to write corpus.json and the label files into."""

    workers: int = outside_digest(default=0)
    """Processes that look at videos; 0 takes one per core, up to 16."""

    def __post_init__(self) -> None:
        """Check ranges, and that nothing is written into the tree."""
        require(self.workers >= 0, option="--workers", value=self.workers, expected="0 or more")
        if isinstance(root := getattr(self, "root", None), Path):
            require_outside(self.out, root)


@dataclass(frozen=True, kw_only=True)
class AffWild2Config(AdapterConfig):
    """An Aff-Wild2 / ABAW tree."""

    root: Path = argument()
    """Top folder of the tree, which holds annotations and videos."""

    name: str = "Aff-Wild2"
    """Name of the corpus in reports."""

    sample: Path | None = None
    """Sample file of the challenge: clips that it lists and that have no annotation become the test split."""

    annotations: Path | None = None
    """Folder with the annotations to use, where the tree holds several editions that contradict each other."""

    as_meant: bool = False
    """Read annotations that are not written as they should be as they are most likely meant: exchanged columns, decimal
    commas, another encoding; 'va corpus check ROOT' says which those are. Without it they are left out."""


@dataclass(frozen=True, kw_only=True)
class _DividedConfig(AdapterConfig):
    """A data set whose clips may have no split."""

    val_share: float = 0.2
    """Share of the people for the split val, where the data set names no splits."""

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        require(0 < self.val_share < 1, option="--val-share", value=self.val_share, expected="between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class AfewVaConfig(_DividedConfig):
    """An AFEW-VA tree."""

    root: Path = argument()
    """Folder that holds the clips' folders, 001/ and so on."""

    name: str = "AFEW-VA"
    """Name of the corpus in reports."""

    rate_hz: float = 25.0
    """Pictures per second, which the data set does not state."""

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        require(1 <= self.rate_hz <= 240, option="--rate-hz", value=self.rate_hz, expected="1 to 240")


@dataclass(frozen=True, kw_only=True)
class OmgConfig(AdapterConfig):
    """An OMG-Emotion tree."""

    root: Path = argument()
    """Folder that holds omg_TrainVideos.csv and its kin, and the utterances' videos."""

    name: str = "OMG-Emotion"
    """Name of the corpus in reports."""


@dataclass(frozen=True, kw_only=True)
class RecordingsConfig(_DividedConfig):
    """A tree of recordings with a value per time."""

    root: Path = argument()
    """Folder that holds the annotations and the videos."""

    scale: str = "-1..1"
    """Lowest and highest label, e.g. 0..1."""

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        parse_scale(self.scale, option="--scale")


@dataclass(frozen=True, kw_only=True)
class RecolaConfig(RecordingsConfig):
    """RECOLA, or a data set with a file per axis and recording."""

    name: str = "RECOLA"
    """Name of the corpus in reports."""


@dataclass(frozen=True, kw_only=True)
class SewaConfig(RecordingsConfig):
    """SEWA, or a data set with a file per recording."""

    name: str = "SEWA"
    """Name of the corpus in reports."""


@dataclass(frozen=True, kw_only=True)
class TableConfig(_DividedConfig):
    """A table of one's own."""

    table: Path = argument()
    """CSV or Parquet file with a row per label."""

    name: str
    """Name of the corpus in reports."""

    scale: str = "-1..1"
    """Lowest and highest label, e.g. 1..9 or -10..10."""

    arousal_scale: str | None = None
    """The same of arousal, where it is on another scale than valence."""

    media_root: Path | None = None
    """Folder that media are named from, and lie below, where that is not the table's own."""

    media: str = "media"
    """Column of the video's path."""

    time: str = "time"
    """Column of the label's time in seconds; without it, a row holds for its whole video."""

    valence: str = "valence"
    """Column of valence."""

    arousal: str = "arousal"
    """Column of arousal."""

    split: str = "split"
    """Column of the split: train, val or test; without it, people are divided by --val-share."""

    identity: str = "identity"
    """Column that says who it is; without it, every clip is a person of its own."""

    clip: str = "clip"
    """Column of the clip's name, where two people are in one video."""

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        parse_scale(self.scale, option="--scale")
        if self.arousal_scale is not None:
            parse_scale(self.arousal_scale, option="--arousal-scale")


def parse_scale(text: str, *, option: str) -> tuple[float, float]:
    """Read a scale such as `1..9`: its lowest and highest label.

    Raises:
        VAError: It is none.
    """
    low, dots, high = text.partition("..")
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = 0.0, 0.0
    proper = bool(dots) and math.isfinite(ends[1] - ends[0]) and ends[0] < ends[1]
    require(proper, option=option, value=text, expected="a lower and a higher number, e.g. 1..9 or -10..10")
    return ends


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Features that were made elsewhere."""

    directory: Path = argument()
    """Folder with CLIP_ID.npy (rows x dim) or CLIP_ID.npz (features, and times or time_s in seconds) for each clip."""

    corpus: Path = outside_digest()
    """Corpus manifest, or the folder that holds it."""

    out: Path = outside_digest()
    """Features folder; a sub-folder is made in it."""

    name: str
    """Name of the encoder that made them, for folders, options and reports."""

    kind: Literal["frames", "audio"]
    """Of pictures (a row is what is shown from its time on), or of sound (a row covers the time around its own)."""

    rate_hz: float | None = None
    """Rows per second, the first beginning at 0 s; needed where the files hold no times."""

    window_s: float = 10.0  # docs/method.md, F3
    """Length of an audio window in seconds, by default the paper's; must be that of training."""

    stride_s: float = 3.0  # docs/method.md, F3
    """Distance between audio windows in seconds, by default the paper's; must be that of training."""

    def __post_init__(self) -> None:
        """Check ranges."""
        named = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name) is not None
        require(named, option="--name", value=self.name, expected="letters, digits, '.', '_' and '-'")
        if self.rate_hz is not None:
            require(
                0 < self.rate_hz <= 1e5, option="--rate-hz", value=self.rate_hz, expected="a positive number of rows"
            )
        require_windows(window_s=self.window_s, stride_s=self.stride_s)


def require_windows(*, window_s: float, stride_s: float) -> None:
    """Check the audio windows that a config asks for, in seconds.

    Raises:
        VAError: One is no positive multiple of half a second, or windows would leave sound out between them.
    """
    for option, value in (("--window-s", window_s), ("--stride-s", stride_s)):
        whole = value > 0 and float(value * 2).is_integer()
        expected = "a positive multiple of half a second, the cell of the frame grid"
        require(whole, option=option, value=value, expected=expected)
    expected = f"at most the window ({window_s:g} s), or sound would be left out"
    require(stride_s <= window_s, option="--stride-s", value=stride_s, expected=expected)
