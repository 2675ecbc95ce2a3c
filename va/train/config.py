"""Settings of stage two. Standard library only, so that `va --help` stays quick."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from va.engine.config import EngineSettings
from va.errors import VAError
from va.settings import argument, outside_digest, require


@dataclass(frozen=True, kw_only=True)
class HeadSettings:
    """What every way of training heads on cached features has in common; defaults are the paper's recipe."""

    corpus: Path = argument()
    """Corpus manifest, or the folder that holds it."""

    features: Path = argument()
    """Features folder that 'va extract' made."""

    out: Path = outside_digest()
    """Folder for run directories."""

    face_encoder: str = ""
    """Frame encoder to use; needed only when the features folder holds several."""

    voice_encoder: str = ""
    """Audio encoder to use; needed only when the features folder holds several."""

    prototypes_from: str = outside_digest(default="")  # docs/method.md, settled 13
    """Frame encoder whose region texts to use; by default the frame encoder's own or, where it has none, those of the
    only one here that has some."""

    modalities: Literal["both", "face", "voice"] = "both"
    """What the head sees."""

    target: Literal["frames", "end"] = "frames"  # docs/method.md, settled 4
    """A prediction for each half-second cell, or a single one at the window's end, as in the code of the paper's
    authors."""

    temporal: Literal["gru", "tcn"] = "gru"  # docs/method.md, F6, F16
    """Temporal model of each modality: the paper's GRU, or the TCN of its table 2."""

    fusion: Literal["attention", "gated", "hierarchical"] = "hierarchical"  # docs/method.md, F11, F12, F16
    """How sound and video meet; hierarchical is attention, then the gate: the paper's. The others are in its
    table 2."""

    tcn_levels: int = 2  # docs/method.md, settled 10
    """Levels of the TCN, each two convolutions dilated twice as far as those before."""

    tcn_kernel: int = 3  # docs/method.md, settled 10
    """Steps under a TCN kernel; odd unless --tcn-causal."""

    tcn_dropout: float = 0.1  # docs/method.md, settled 10
    """Dropout inside the TCN; no other part of the head has any."""

    tcn_causal: bool = False
    """Let the TCN look only at the past."""

    standardise: bool = False  # docs/method.md, settled 12
    """Bring each stored feature to mean 0 and deviation 1 over the training clips."""

    width: int = 256  # docs/method.md, F5, F6, settled 5
    """Features inside the head: projection, GRU output (both directions together) and fusion; by default the
    paper's."""

    num_heads: int = 4  # docs/method.md, R7
    """Attention heads; by default as in the code of the paper's authors."""

    window_s: float = 10.0  # docs/method.md, F3
    """Window in seconds, by default the paper's; must be that of the audio features."""

    stride_s: float = 3.0  # docs/method.md, F3
    """Distance between windows in seconds, by default the paper's; must be that of the audio features."""

    region_scale: float = 10.0  # docs/method.md, R4
    """First value of the learned scale of the region logits; the paper's authors keep it at 10."""

    batch_size: int = 16  # docs/method.md, F14
    """Windows in a batch; by default the paper's."""

    epochs: int = 15  # docs/method.md, F14
    """Passes over the training windows; by default the paper's."""

    learning_rate: float = 1e-4  # docs/method.md, F14
    """AdamW's step size for the head; by default the paper's."""

    weight_decay: float = 1e-4  # docs/method.md, F14
    """AdamW's weight decay, on all parameters; by default the paper's."""

    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate over the steps: as it is, or falling to 0 along half a cosine."""

    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""

    clip_norm: float = 0.0
    """Largest norm of all gradients together; 0 does not clip."""

    ema: float = 0.0
    """Decay per step of an exponential moving average of the weights, which is then validated and kept; 0 for none."""

    precision: Literal["float32", "bfloat16"] = "float32"
    """Products in 16 bit, on a GPU only; weights, recurrences and losses stay in float32."""

    patience: int = 5  # docs/method.md, R3
    """Stop after so many epochs without a better score on the selection split (--select-on)."""

    select_on: Literal["dev", "val"] = "dev"  # docs/method.md, settled 7
    """Split that chooses the epoch: dev, held out of train by identity, or val, the field's habit, which is then
    named in every report."""

    dev_fraction: float = 0.15  # docs/method.md, settled 7
    """Share of the training identities that form dev."""

    resume: bool = outside_digest(default=True)
    """Go on from the last whole epoch of the same run if it was interrupted."""

    memory_gb: float = outside_digest(default=0.0)
    """Memory for features; larger ones are read from a temporary file. 0 for half of what is free."""

    stack: int = outside_digest(default=0)
    """Trials trained at once where there are several; 0 for as many as fit."""

    deterministic: bool = outside_digest(default=False)
    """On a GPU, use only algorithms that give the same bits again; slower. On a CPU they all do."""

    tensorboard: bool = outside_digest(default=False)
    """Write TensorBoard events beside log.jsonl; needs the tensorboard package."""

    device: str = outside_digest(default="auto")
    """auto, cpu, cuda or cuda:N; auto takes a GPU when there is one."""

    def __post_init__(self) -> None:
        """Check ranges."""
        for name in _POSITIVE:
            self._require(name, getattr(self, name) > 0, "a number above 0")
        for name in ("weight_decay", "clip_norm", "warmup_steps", "memory_gb", "stack"):
            self._require(name, getattr(self, name) >= 0, "a number of at least 0")
        self._require("width", self.width % (2 * self.num_heads) == 0, "a multiple of twice --num-heads")
        self._require("dev_fraction", 0 < self.dev_fraction < 1, "a number between 0 and 1")
        for name in ("tcn_dropout", "ema"):
            self._require(name, 0 <= getattr(self, name) < 1, "a number from 0 to below 1")
        self._require("tcn_kernel", self.tcn_causal or self.tcn_kernel % 2 == 1, "an odd number, or --tcn-causal")

    def _require(self, name: str, condition: bool, expected: str) -> None:
        require(condition, option="--" + name.replace("_", "-"), value=getattr(self, name), expected=expected)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(HeadSettings):
    """How to train a head on cached features: one run, or one per fold and seed."""

    name: str = outside_digest(default="")
    """First part of the run directory's name; by default made from the architecture."""

    centers: tuple[float, ...] = (-0.66, 0.0, 0.66)  # docs/method.md, F7
    """Region centres along each axis, in valence/arousal units, by default the paper's; 'va prompts' makes
    as many texts as regions."""

    centers_arousal: tuple[float, ...] = ()
    """Centres along the arousal axis, where they differ from --centers."""

    sigma: float = 0.45  # docs/method.md, F8, paper eq. 2
    """Width of the soft labels' Gaussian, in valence/arousal units; by default the paper's."""

    region_weight: float = 0.2  # docs/method.md, F13, paper eq. 6
    """Weight lambda of the region term, by default the paper's; 0 switches it off."""

    region_form: Literal["learned", "release"] = "learned"  # docs/method.md, R4
    """What meets the prototypes: a learned view of the fused features, or the raw CLIP feature as in the code of the
    paper's authors, which is refused while CLIP is frozen: no trained parameter would feel it."""

    context: int = 0
    """Vectors learned by the region term before the regions' texts, through the frozen text tower (CoOp); 0 for none.
    'va prompts FEATURES --tower' makes the tower's file. Templates then have no part."""

    folds: int = 0
    """Divide the training identities into so many folds instead of choosing dev by --dev-fraction."""

    fold: int = -1
    """The fold that takes the place of dev; -1 trains one run per fold."""

    seed: int = 0
    """Seed of initialisation, batch order, dropout and the choice of dev or folds."""

    ensemble: bool = outside_digest(default=False)
    """Join the runs of all folds and --seeds: one run whose prediction is their mean."""

    seeds: tuple[int, ...] = outside_digest(default=())
    """Train one run per seed instead of one with --seed."""

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        self._require("sigma", self.sigma > 0, "a number above 0")
        self._require("region_weight", self.region_weight >= 0, "a number of at least 0")
        self._require("context", self.context >= 0, "a number of at least 0")
        for name, axis in zip(("centers", "centers_arousal"), self.axes, strict=True):
            ordered = len(axis) >= 2 and list(axis) == sorted(set(axis))
            self._require(name, ordered, "at least two different numbers in ascending order")
            self._require(name, all(-1 <= value <= 1 for value in axis), "numbers in [-1, 1]")
        self._check_runs()
        if self.region_form == "release":
            raise VAError(
                "--region-form release: compares the frozen CLIP feature with frozen texts, so nothing would learn "
                "from it: lambda, centers and sigma would change nothing (R4 in docs/method.md)",
                "Use --region-form learned, or --region-weight 0 for no region term.",
            )
        if self.context and not self.region_weight:
            raise VAError(
                "--context: only the region term trains it, and --region-weight 0 switches that off",
                "Leave out --context, or give a --region-weight above 0.",
            )

    def _check_runs(self) -> None:
        self._require("folds", self.folds == 0 or self.folds >= 2, "0 for none, or at least 2")
        self._require("fold", -1 <= self.fold < max(self.folds, 0), "a fold from 0 to below --folds")
        self._require("seeds", len(set(self.seeds)) == len(self.seeds), "different seeds")
        if self.folds and self.select_on == "val":
            raise VAError("--folds: chooses on the fold that is left out, not on val", "Leave out --select-on.")
        if self.ensemble and not (self.folds and self.fold < 0) and len(self.seeds) < 2:
            raise VAError("--ensemble: there is only one run to join", "Give --folds, --seeds, or both.")

    @property
    def axes(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Centres along valence and along arousal."""
        return self.centers, self.centers_arousal or self.centers


_POSITIVE = (
    "width",
    "num_heads",
    "tcn_levels",
    "tcn_kernel",
    "region_scale",
    "batch_size",
    "epochs",
    "learning_rate",
    "patience",
    "window_s",
    "stride_s",
)


@dataclass(frozen=True, kw_only=True)
class SweepConfig(EngineSettings, HeadSettings):
    """Which trials 'va sweep-grid' trains: every combination of the lists, each with every seed."""

    centers: tuple[float, ...] = (0.5, 0.66, 0.8, 1.0)  # docs/method.md, F17
    """Outer centre c of each trial's grid, {-c, 0, c} on both axes, in valence/arousal units, as in the paper's
    table 3."""

    sigmas: tuple[float, ...] = (0.3, 0.45, 0.6)  # docs/method.md, F17
    """Widths of the soft labels' Gaussian, in valence/arousal units, as in the paper's table 3."""

    lambdas: tuple[float, ...] = (0.2,)  # docs/method.md, F13
    """Weights lambda of the region term; 0 is trained once for all centres, sigmas and numbers of context vectors,
    which then change nothing."""

    context: tuple[int, ...] = (TrainConfig.context,)
    """Numbers of vectors learned by the region term before the regions' texts; 0 for none. Above 0 needs the file that
    'va prompts FEATURES --tower' makes; trials with different numbers are trained in stacks of their own."""

    learning_rates: tuple[float, ...] = ()
    """AdamW's step sizes, instead of the one of --learning-rate."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of each cell; a seed also draws dev."""

    json: bool = outside_digest(default=False)
    """Print the results as one JSON object instead of tables and paths."""

    def __post_init__(self) -> None:
        """Check ranges."""
        super().__post_init__()
        self.check_engine()
        for name in ("centers", "sigmas", "lambdas", "context", "seeds"):
            self._require(name, bool(getattr(self, name)), "at least one number")
        for name in ("centers", "sigmas", "lambdas", "context", "learning_rates", "seeds"):
            values = getattr(self, name)
            self._require(name, len(set(values)) == len(values), "different numbers")
        self._require("centers", all(0 < value <= 1 for value in self.centers), "numbers above 0 and up to 1")
        for name in ("sigmas", "learning_rates"):
            self._require(name, all(value > 0 for value in getattr(self, name)), "numbers above 0")
        for name in ("lambdas", "context"):
            self._require(name, all(value >= 0 for value in getattr(self, name)), "numbers of at least 0")
        if any(self.context) and not any(self.lambdas):
            raise VAError(
                "--context: only the region term trains it, and --lambdas 0 switches that off",
                "Leave out --context, or give a number above 0 in --lambdas.",
            )
