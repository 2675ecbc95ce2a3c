"""Settings of stage one. Standard library only, so that `va --help` stays quick."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from va.data.config import require_windows
from va.engine.config import EngineSettings
from va.errors import VAError
from va.settings import argument, outside_digest, require

BASELINES: Final = ("pixels", "loudness")
"""Trivial encoders: the figures that a ridge regression reaches on them are reported beside every result."""

PRESETS: Final = {
    "paper": ("clip-vit-b-16", "ast", *BASELINES),
    "table1": ("clip-vit-b-32", "logmel", *BASELINES),
    "tiny": ("tiny-clip", "tiny-ast", *BASELINES),
}
"""Encoders of each preset: the paper's (F1, F2), table 1's other row (F15), and the demo encoders that ship in the
package."""

OPEN_CLIP: Final = "open_clip:"
HUGGING_FACE: Final = "hf:"
"""Prefixes of encoders that a library knows by name."""

RUN: Final = "run:"
"""Prefix of a fine-tuned run's directory, which stands for both of its encoders."""


@dataclass(frozen=True, kw_only=True)
class ExtractSettings:
    """What to extract, with which encoders and weights."""

    corpus: Path = argument()
    """Corpus manifest, or the folder that holds it."""

    out: Path = outside_digest()
    """Features folder; one sub-folder per encoder is made in it."""

    preset: Literal["paper", "table1", "tiny"] = "paper"
    """Which encoders: the paper's CLIP ViT-B/16 and AST, its table 1's CLIP ViT-B/32 and log-mel, or the tiny DEMO
    encoders, which know only drawn faces and synthesised voices."""

    encoders: tuple[str, ...] = ()
    """Encoders to run instead of the preset's, by name, also open_clip:MODEL/TAG, hf:MODEL (a hub id or a folder) and
    run:DIR, both encoders of a run that 'va finetune' made; those already extracted are kept."""

    clip_weights: Path | None = outside_digest(default=None)
    """CLIP weights as an open_clip .safetensors file, for machines that reach no model hub."""

    ast_weights: Path | None = outside_digest(default=None)
    """AST weights: a folder with config.json and model.safetensors, for machines that reach no model hub."""

    faces: Literal["none", "detect", "crops"] = "none"
    """Which pictures the frame encoders see: the whole frame, the face that a detector finds and follows, or the
    corpus's own crops in the folder --crops. Cells without a face are masked."""

    crops: Path | None = outside_digest(default=None)
    """Folder with one folder of crops per clip, e.g. cropped_aligned; 00001.jpg is the first frame."""

    face_weights: Path | None = outside_digest(default=None)
    """Another face detector: a YuNet .onnx file for OpenCV; by default the CenterFace file in the package."""

    face_margin: float = 0.1
    """Margin around a detected face at each edge, as a share of its longer side."""

    window_s: float = 10.0  # docs/method.md, F3
    """Length of an audio window in seconds, by default the paper's; part of the audio identity."""

    stride_s: float = 3.0  # docs/method.md, F3
    """Distance between audio windows in seconds, by default the paper's; part of the audio identity."""

    part: str = outside_digest(default="1/1")
    """Which part of the corpus, i/n: n jobs of a batch scheduler, each with its own i, fill one store together."""

    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Arithmetic of the encoders; part of the identity. The 16-bit kinds are for GPUs, where they are several times
    faster, and run under torch's autocast; features are stored as float16 either way."""

    compile: bool = False
    """Compile the encoders with torch.compile: a minute at the start, faster from then on; part of the identity."""

    frame_batch: int = outside_digest(default=32)
    """Frames in one padded batch; batches fill across clips."""

    audio_batch: int = outside_digest(default=4)
    """Audio windows in one padded batch; batches fill across clips."""

    readers: int = outside_digest(default=0)
    """Processes that decode, find faces and prepare inputs, each one clip at a time; 0 for one per processor core, at
    most 16."""

    stall_s: float = outside_digest(default=120.0)
    """Seconds without progress after which a decoder counts as hung; that costs its clip only."""

    memory_gb: float = outside_digest(default=4.0)
    """Memory that decoding one clip may take, in GB; a clip that wants more fails, and the others go on."""

    device: str = outside_digest(default="auto")
    """auto, cpu, cuda or cuda:N; auto takes a GPU when there is one."""

    shard_mb: float = outside_digest(default=256.0)
    """Clips are packed into files of about this many megabytes each as they fill up."""

    quiet: bool = outside_digest(default=False)
    """Print no progress and no settings: the result, failures and errors only."""

    def __post_init__(self) -> None:
        """Check ranges."""
        require(self.window_s > 0, option="--window-s", value=self.window_s, expected="a positive number of seconds")
        numbers = re.fullmatch(r"([1-9]\d{0,5})/([1-9]\d{0,5})", self.part)
        fits = numbers is not None and int(numbers[1]) <= int(numbers[2])
        require(fits, option="--part", value=self.part, expected="i/n with i from 1 to n, e.g. 2/8")
        margin = self.face_margin
        require(0 <= margin <= 2, option="--face-margin", value=margin, expected="a number from 0 to 2")
        require_windows(window_s=self.window_s, stride_s=self.stride_s)
        require(0 <= self.readers <= 256, option="--readers", value=self.readers, expected="a number from 0 to 256")
        require(self.stall_s > 0, option="--stall-s", value=self.stall_s, expected="a positive number of seconds")
        require(self.memory_gb > 0, option="--memory-gb", value=self.memory_gb, expected="a positive number of GB")
        require(self.shard_mb > 0, option="--shard-mb", value=self.shard_mb, expected="a positive number of MB")
        for name in ("frame_batch", "audio_batch"):
            option = "--" + name.replace("_", "-")
            require(getattr(self, name) >= 1, option=option, value=getattr(self, name), expected="at least 1")

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the encoders to run."""
        return self.encoders or PRESETS[self.preset]


@dataclass(frozen=True, kw_only=True)
class ExtractConfig(EngineSettings, ExtractSettings):
    """All of it, and where it runs."""

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        self.check_engine()


@dataclass(frozen=True, kw_only=True)
class PromptsConfig:
    """New texts for the prototypes beside a CLIP encoder's features."""

    features: Path = argument()
    """Features folder that 'va extract' made."""

    texts: Path | None = outside_digest(default=None)
    """Region texts in region order (valence low to high and, inside each, arousal low to high): one per line, or a
    .toml file with the lists texts and templates. As many as the regions that will be trained with; by default the
    texts that are there."""

    templates: Path | None = outside_digest(default=None)  # docs/method.md, F10
    """Templates, one per line, each with {} for the text; by default those of the texts' .toml file, else the paper's
    three."""

    tower: bool = outside_digest(default=False)
    """Keep the encoder's text tower beside the features too, frozen, with the texts' tokens: what 'va train --context'
    needs. 150 MB for ViT-B/16."""

    encoder: str = ""
    """CLIP encoder whose features they belong to; needed only when the folder holds several frame encoders."""

    clip_weights: Path | None = outside_digest(default=None)
    """CLIP weights as an open_clip .safetensors file, the one that made the features."""

    device: str = outside_digest(default="auto")
    """auto, cpu, cuda or cuda:N; auto takes a GPU when there is one."""

    def __post_init__(self) -> None:
        """Check that there is something to do."""
        if self.texts is None and self.templates is None and not self.tower:
            raise VAError(
                "--texts: nothing to make", "Give a file of texts to --texts, templates to --templates, or --tower."
            )
