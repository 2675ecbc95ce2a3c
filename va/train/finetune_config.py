"""Settings of `va finetune`. Standard library only, so that `va --help` stays quick."""

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Literal

from va.data.config import require_windows
from va.errors import VAError
from va.settings import argument, outside_digest, require

FROM_RUN: Final = (
    *("preset", "encoders", "faces", "face_margin", "window_s", "stride_s"),
    *("modalities", "target", "temporal", "fusion", "tcn_levels", "tcn_kernel", "tcn_dropout", "tcn_causal"),
    *("width", "num_heads", "region_scale", "centers", "centers_arousal", "sigma", "region_weight"),
    *("select_on", "dev_fraction"),
)
"""Settings that a run brings with it, so that they cannot be given beside --from; None until then."""


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """How to train both backbones together with a head."""

    corpus: Path = argument()
    """Corpus manifest, or the folder that holds it."""

    out: Path = outside_digest()
    """Folder for run directories."""

    start: Path | None = outside_digest(default=None, spelled="from")
    """Run of 'va train' or 'va finetune' to start from: its head, encoders, grid, texts and division of the clips.
    Without it the head starts at random, on the encoders of --preset or --encoders."""

    name: str = outside_digest(default="")
    """First part of the run directory's name; by default made from the architecture."""

    seed: int | None = None
    """Seed of batch order, dropout and augmentation, without --from of initialisation and dev too; by default that of
    the run to start from, or 0."""

    preset: Literal["paper", "table1", "tiny"] | None = None
    """Without --from: whose encoders to begin with, as in 'va extract' (paper by default)."""

    encoders: tuple[str, ...] | None = None
    """Without --from: one frame and one audio encoder, by name, instead of the preset's."""

    clip_weights: Path | None = outside_digest(default=None)
    """CLIP weights as an open_clip .safetensors file, for machines that reach no model hub."""

    ast_weights: Path | None = outside_digest(default=None)
    """AST weights: a folder with config.json and model.safetensors, for machines that reach no model hub."""

    faces: Literal["none", "detect", "crops"] | None = None
    """Without --from: which pictures the frame encoder sees, as in 'va extract'."""

    crops: Path | None = outside_digest(default=None)
    """Folder with one folder of crops per clip, where the pictures are the corpus's own crops."""

    face_weights: Path | None = outside_digest(default=None)
    """Another face detector, as in 'va extract'."""

    face_margin: float | None = None
    """Without --from: margin around a detected face, as in 'va extract'."""

    window_s: float | None = None  # docs/method.md, F3
    """Without --from: window in seconds (10 by default, the paper's)."""

    stride_s: float | None = None  # docs/method.md, F3
    """Without --from: distance between windows in seconds (3 by default, the paper's)."""

    modalities: Literal["both", "face", "voice"] | None = None
    """Without --from: what the head sees, as in 'va train'. The other tower stays as it is."""

    target: Literal["frames", "end"] | None = None  # docs/method.md, settled 4
    """Without --from: what is predicted, as in 'va train'."""

    temporal: Literal["gru", "tcn"] | None = None  # docs/method.md, F16
    """Without --from: temporal model, as in 'va train'."""

    fusion: Literal["attention", "gated", "hierarchical"] | None = None  # docs/method.md, F16
    """Without --from: how sound and video meet, as in 'va train'."""

    tcn_levels: int | None = None  # docs/method.md, settled 10
    """Without --from: levels of the TCN, as in 'va train'."""

    tcn_kernel: int | None = None  # docs/method.md, settled 10
    """Without --from: steps under a TCN kernel, as in 'va train'."""

    tcn_dropout: float | None = None  # docs/method.md, settled 10
    """Without --from: dropout inside the TCN, as in 'va train'."""

    tcn_causal: bool | None = None
    """Without --from: let the TCN look only at the past, as in 'va train'."""

    width: int | None = None  # docs/method.md, F6
    """Without --from: features inside the head, as in 'va train'."""

    num_heads: int | None = None  # docs/method.md, R7
    """Without --from: attention heads, as in 'va train'."""

    region_scale: float | None = None  # docs/method.md, R4
    """Without --from: first scale of the region logits, as in 'va train'."""

    centers: tuple[float, ...] | None = None  # docs/method.md, F7
    """Without --from: region centres, as in 'va train'; three on each axis, because the texts are the paper's."""

    centers_arousal: tuple[float, ...] | None = None
    """Without --from: centres along the arousal axis, where they differ."""

    sigma: float | None = None  # docs/method.md, F8
    """Without --from: width of the soft labels' Gaussian, as in 'va train'."""

    region_weight: float | None = None  # docs/method.md, F13
    """Without --from: weight lambda of the region term, as in 'va train'."""

    select_on: Literal["dev", "val"] | None = None  # docs/method.md, settled 7
    """Without --from: split that chooses the epoch, as in 'va train'."""

    dev_fraction: float | None = None  # docs/method.md, settled 7
    """Without --from: share of the training identities that form dev."""

    batch_size: int = 16  # docs/method.md, F14
    """Windows in a batch, of all processes together; by default the paper's."""

    micro_batch: int = outside_digest(default=1)
    """Windows encoded at once: more is faster on a GPU and takes more memory, and changes nothing but rounding."""

    checkpointing: bool = outside_digest(default=True)
    """Keep no activations inside the backbones' blocks: far less memory, and a third more time."""

    epochs: int = 15  # docs/method.md, F14
    """Passes over the training windows; by default the paper's."""

    patience: int = 5  # docs/method.md, R3
    """Stop after so many epochs without a better score on the selection split (--select-on)."""

    learning_rate: float = 1e-4  # docs/method.md, F14
    """AdamW's step size for the head; by default the paper's."""

    backbone_rate: float = 3e-6  # docs/method.md, F14
    """AdamW's step size for the backbones; by default the paper's."""

    layer_decay: float = 1.0
    """Factor on the backbones' step size from each block to the one below it; 1 for none."""

    thaw_face: int = -1
    """Blocks of the frame encoder that learn: -1 for all, 0 for none, N for the last N and what is above them."""

    thaw_voice: int = -1
    """Blocks of the audio encoder that learn, likewise."""

    weight_decay: float = 1e-4  # docs/method.md, F14
    """AdamW's weight decay, by default the paper's; on matrices only: not on norms, biases and other vectors."""

    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rates over the steps: as they are, or falling to 0 along half a cosine."""

    warmup_steps: int = 0
    """Steps over which the learning rates rise from 0."""

    clip_norm: float = 0.0
    """Largest norm of the head's gradients, and of the backbones'; 0 does not clip."""

    ema: float = 0.0
    """Decay per step of an exponential moving average of all weights, which is then validated and kept; 0 for none."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Products of the backbones in training; auto is bfloat16 on a GPU and float32 elsewhere. Validation, the cached
    features and the head are not affected."""

    augment: bool = True
    """Change pictures and spectra in training, anew in each epoch, as --flip to --mel-mask say."""

    flip: float = 0.5
    """Probability of a window's pictures being mirrored."""

    crop: float = 0.1
    """Largest share of a picture's area that is cut away before it is enlarged again, alike for a whole window."""

    colour: float = 0.1
    """Largest change of brightness, contrast and saturation, alike for a whole window."""

    time_mask: float = 0.1
    """SpecAugment: longest stretch of a window's sound that is masked, as a share of it."""

    mel_mask: float = 0.2
    """SpecAugment: widest band of frequencies that is masked, as a share of all."""

    inputs: Path | None = outside_digest(default=None)
    """Folder for decoded model inputs, by default 'inputs' in --out; any number of runs share it."""

    features: Path | None = outside_digest(default=None)
    """Features folder for the features of the tuned encoders, by default 'features' in the run directory."""

    extract: bool = outside_digest(default=True)
    """At the end, cache the features of the whole corpus with the tuned encoders, which 'va evaluate' reads."""

    resume: bool = outside_digest(default=True)
    """Go on where the same run was interrupted."""

    save_minutes: float = outside_digest(default=10.0)
    """Save the state inside an epoch too, every so many minutes; 0 between epochs only."""

    readers: int = outside_digest(default=0)
    """Processes that decode, as in 'va extract'."""

    stall_s: float = outside_digest(default=120.0)
    """Seconds without progress after which a decoder counts as hung."""

    memory_gb: float = outside_digest(default=4.0)
    """Memory that decoding one clip may take, in GB."""

    deterministic: bool = outside_digest(default=False)
    """On a GPU, use only algorithms that give the same bits again; slower. On a CPU they all do."""

    device: str = outside_digest(default="auto")
    """auto, cpu, cuda or cuda:N; auto takes a GPU when there is one, under torchrun each process its own."""

    def __post_init__(self) -> None:
        """Check ranges; those of the head's settings are `TrainConfig`'s."""
        for name in ("batch_size", "micro_batch", "epochs", "patience"):
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in ("learning_rate", "backbone_rate", "stall_s"):
            self._require(name, getattr(self, name) > 0, "a number above 0")
        self._require("layer_decay", 0 < self.layer_decay <= 1, "a number above 0 and up to 1")
        for name in ("thaw_face", "thaw_voice"):
            self._require(name, getattr(self, name) >= -1, "-1 for all blocks, 0 for none, or a number of blocks")
        for name in ("weight_decay", "warmup_steps", "clip_norm", "save_minutes"):
            self._require(name, getattr(self, name) >= 0, "a number of at least 0")
        for name in ("flip", "colour"):
            self._require(name, 0 <= getattr(self, name) <= 1, "a number from 0 to 1")
        for name in ("ema", "crop", "time_mask", "mel_mask"):
            self._require(name, 0 <= getattr(self, name) < 1, "a number from 0 to below 1")
        if self.window_s is not None or self.stride_s is not None:
            require_windows(
                window_s=10.0 if self.window_s is None else self.window_s,
                stride_s=3.0 if self.stride_s is None else self.stride_s,
            )
        given = [name for name in FROM_RUN if getattr(self, name) is not None]
        if self.start is not None and given:
            option = "--" + given[0].replace("_", "-")
            raise VAError(
                f"{option}: comes from the run that --from names",
                f"Leave out {option}, or leave out --from to begin with a new head.",
            )

    def _require(self, name: str, condition: bool, expected: str) -> None:
        require(condition, option="--" + name.replace("_", "-"), value=getattr(self, name), expected=expected)

    def given(self, names: tuple[str, ...]) -> dict[str, object]:
        """Give those of some settings that have a value."""
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def leads() -> bool:
    """Say whether this process is torchrun's first, or the only one: the one that reports."""
    launched = os.environ.keys() >= {"RANK", "WORLD_SIZE", "LOCAL_RANK"}
    return not launched or os.environ["RANK"] == "0"


HEAD: Final = tuple(name for name in FROM_RUN if name not in ("preset", "encoders", "faces", "face_margin"))
"""Those of a run's settings that `TrainConfig` has."""

TRAINING: Final = (
    *("out", "name", "batch_size", "epochs", "patience", "learning_rate", "weight_decay", "schedule"),
    *("warmup_steps", "clip_norm", "ema", "resume", "deterministic", "device"),
)
"""Settings that the head's `TrainConfig` takes over as they are."""

assert {field.name for field in fields(FinetuneConfig)} >= {*FROM_RUN, *TRAINING}
