"""What training reads: corpus, features, prototypes, and which clips a trial learns from or selects on."""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from va import settings
from va.data import corpus as corpora
from va.data import features, texttower, windows
from va.data.corpus import Clip, Corpus, Truth
from va.data.features import FeatureStore
from va.data.prototypes import Prototypes
from va.data.texttower import TowerFile
from va.data.windows import WindowSet
from va.device import free_bytes
from va.errors import VAError
from va.train import context
from va.train.checkpoint import SCHEMA
from va.train.config import TrainConfig
from va.train.texts import Texts, choose_face, choose_texts

_CHUNK = 1024
AUDIO_PICTURES = "logmel"
"""The encoder whose features are pictures for a CNN instead of embeddings (settled 10)."""


@dataclass(frozen=True, kw_only=True)
class Data:
    """What trials of one corpus and one pair of encoders read.

    Args:
        corpus: The corpus.
        face: Frame features.
        voice: Audio features.
        texts: The region texts, embedded, and whose they are.
        tower: The text tower of their encoder, opened only for --context.
    """

    corpus: Corpus
    face: FeatureStore
    voice: FeatureStore
    texts: Texts
    tower: TowerFile | None = None
    _stamps: dict[str, list[Any]] = field(default_factory=dict, repr=False)

    def stamps(self, clip: Clip) -> list[Any]:
        """Give the checksums of a clip's features; read once, since every trial of a sweep asks for them."""
        if clip.id not in self._stamps:
            self._stamps[clip.id] = [self.face.stamp(clip.id), self.voice.stamp(clip.id)]
        return self._stamps[clip.id]

    @property
    def prototypes(self) -> Prototypes:
        """The embedded region texts."""
        return self.texts.prototypes

    @cached_property
    def corpus_digest(self) -> str:
        """The digest of the corpus, for which every label is read."""
        return self.corpus.digest()

    @property
    def shape(self) -> dict[str, Any]:
        """What the data decides about a head: sizes, and whether the audio needs the CNN."""
        regions, text_dim = self.prototypes.values.shape
        context = {"context_width": self.tower.width} if self.tower is not None else {}
        return {
            "frame_dim": self.face.dim,
            "audio_dim": self.voice.dim,
            "audio_cnn": self.voice.encoder == AUDIO_PICTURES,
            "num_regions": regions,
            "text_dim": text_dim,
            **context,
        }


@dataclass(frozen=True, kw_only=True)
class Division:
    """The clips that gradients come from, and those that choose the epoch."""

    train: tuple[Clip, ...]
    selection: tuple[Clip, ...]


def open_data(config: TrainConfig) -> Data:
    """Open corpus and features.

    Raises:
        VAError: Something is missing.
    """
    face = choose_face(config)
    texts = choose_texts(config, face)
    return Data(
        corpus=Corpus.load(config.corpus),
        face=face,
        voice=features.choose_store(config.features, kind="audio", name=config.voice_encoder, option="--voice-encoder"),
        texts=texts,
        tower=_open_tower(config, texts) if config.context else None,
    )


def _open_tower(config: TrainConfig, texts: Texts) -> TowerFile:
    """Open the tower beside the texts, which may be another encoder's than the frames' (settled 13)."""
    store = features.choose_store(config.features, kind="frames", name=texts.source, option="--prototypes-from")
    return texttower.find(store.directory, weights=store.identity.get("weights"))


def check(config: TrainConfig, data: Data) -> None:
    """Check that settings and features fit together, before anything is trained.

    Raises:
        VAError: Another number of texts than of regions, another window than the audio's, or a text tower that does
            not go with the texts.
    """
    valence, arousal = config.axes
    texts = len(data.prototypes.texts)
    if texts != len(valence) * len(arousal):
        raise VAError(
            f"--centers: {len(valence)} x {len(arousal)} make {len(valence) * len(arousal)} regions, "
            f"but {data.face.directory} has {texts} texts",
            "Write as many texts as regions and run 'va prompts', or change --centers.",
        )
    windows.check_window(data.voice, window_s=config.window_s, stride_s=config.stride_s)
    if data.tower is not None:
        context.check(data.tower, count=config.context, prototypes=data.prototypes)


def divide(config: TrainConfig, corpus: Corpus) -> Division:
    """Choose a trial's clips (settled 7).

    Raises:
        VAError: A split without clips or labels, or too few identities.
    """
    everyone = corpus.split("train")
    if not everyone:
        raise VAError(f"{corpus.path}: has no training clips", "Give a corpus with a train split.")
    if config.select_on == "val":
        division = Division(train=everyone, selection=corpus.split("val"))
    else:
        if config.folds:
            held = corpora.identity_folds(everyone, folds=config.folds)[config.fold]
        else:
            held = corpora.dev_identities(everyone, fraction=config.dev_fraction, seed=config.seed)
        division = Division(
            train=tuple(clip for clip in everyone if clip.identity not in held),
            selection=tuple(clip for clip in everyone if clip.identity in held),
        )
    for name, clips in (("training", division.train), (config.select_on, division.selection)):
        labels = sum(int(corpus.truth(clip).valid.sum()) for clip in clips)
        if labels < 2:
            raise VAError(
                f"{corpus.path}: the {name} clips ({len(clips)}) have {labels} valid labels, a CCC needs two",
                "Check the annotations (-5 is invalid), or choose other clips.",
            )
    return division


def load_pool(config: TrainConfig, data: Data, clips: Iterable[Clip], device: torch.device) -> WindowSet:
    """Load the clips of several trials, each once, as the config's windows.

    Raises:
        VAError: Features are missing or do not fit.
    """
    unique = {clip.id: clip for clip in clips}
    return windows.load(
        data.corpus,
        list(unique.values()),
        face=data.face,
        voice=data.voice,
        window_s=config.window_s,
        stride_s=config.stride_s,
        at_end=config.target == "end",
        device=device,
        memory_bytes=config.memory_gb * 1e9 or free_bytes(device) / 2,
    )


def read_truths(data: Data, clips: Iterable[Clip]) -> dict[str, Truth]:
    """Read the annotation of clips, each once."""
    return {clip.id: data.corpus.truth(clip) for clip in {clip.id: clip for clip in clips}.values()}


def moments(pool: WindowSet, windows_of: Tensor, *, modality: str) -> tuple[Tensor, Tensor]:
    """Measure features for `--standardise` (settled 12).

    Args:
        pool: The windows.
        windows_of: int64, those of the training clips.
        modality: "video" or "audio".

    Returns:
        float32 [dim] each, on the CPU: mean over valid steps, and 1 / standard deviation (1 for a feature that does not
        vary). A cell that several windows share counts once for video.
    """
    if modality == "video":
        rows = torch.unique(pool.cells[windows_of.to(pool.cells.device)])
        values, valid, rows = pool.frames, pool.frame_valid, rows[rows >= 0]
    else:
        values, valid, rows = pool.audio, pool.audio_valid, windows_of.to(pool.audio_valid.device)

    def mean_of(change: Callable[[Tensor], Tensor]) -> Tensor:
        total, count = torch.zeros(values.shape[-1], dtype=torch.float64), 0
        for some in torch.split(rows, _CHUNK):
            kept = values[some.to(values.device)].double()[valid[some].to(values.device)].cpu()
            total, count = total + change(kept).sum(dim=0), count + len(kept)
        return total / max(count, 1)

    # Two passes, because the variance of numbers far from zero is lost in a mean of squares.
    mean = mean_of(lambda kept: kept)
    deviation = mean_of(lambda kept: (kept - mean).square()).sqrt()
    return mean.float(), torch.where(deviation > 0, 1 / deviation.clamp(min=1e-12), 1.0).float()


def identity_of(config: TrainConfig, data: Data, division: Division) -> dict[str, Any]:
    """Collect everything that the weights depend on; paths are replaced by what lies there."""
    named = dataclasses.replace(config, face_encoder="", voice_encoder="")
    clips = (*division.train, *division.selection)
    values = settings.as_dict(named, digest_only=True)
    tower = {}
    if data.tower is None:
        del values["context"]  # a run without it is the one that it was before there was any
    else:
        tower["tower"] = settings.digest(dataclasses.asdict(data.tower.about))
    return {
        "schema": SCHEMA,
        "config": values,
        "corpus": data.corpus_digest,
        "face": data.face.digest,
        "voice": data.voice.digest,
        "features": settings.digest({clip.id: data.stamps(clip) for clip in clips}),
        "prototypes": settings.digest({"values": data.prototypes.values.tolist()}),
        **tower,
    }
