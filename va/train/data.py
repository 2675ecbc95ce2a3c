"""What training reads: corpus, features, prototypes, and which clips it learns from or selects on."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from va import settings
from va.data import corpus as corpora
from va.data import features, prototypes, windows
from va.data.corpus import Clip, Corpus
from va.data.features import FeatureStore
from va.data.prototypes import Prototypes
from va.data.windows import WindowSet
from va.errors import VAError
from va.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Data:
    """Everything that training reads.

    Args:
        corpus: The corpus.
        face: Frame features.
        voice: Audio features.
        prototypes: Of the frame encoder.
        train: Clips that gradients come from.
        selection: Clips that choose the epoch.
    """

    corpus: Corpus
    face: FeatureStore
    voice: FeatureStore
    prototypes: Prototypes
    train: tuple[Clip, ...]
    selection: tuple[Clip, ...]


def open_data(config: TrainConfig) -> Data:
    """Open corpus and features and divide the clips.

    Raises:
        VAError: Something is missing or does not fit together.
    """
    corpus = Corpus.load(config.corpus)
    face = features.choose_store(config.features, kind="frames", name=config.face_encoder, option="--face-encoder")
    voice = features.choose_store(config.features, kind="audio", name=config.voice_encoder, option="--voice-encoder")
    found = prototypes.read(face.directory)
    regions = len(config.centers) ** 2
    if len(found.texts) != regions:
        raise VAError(
            f"--centers: {len(config.centers)} values make {regions} regions, but there are {len(found.texts)} texts",
            "Use as many texts as regions.",
        )
    everyone = corpus.split("train")
    if config.select_on == "val":
        train, selection = everyone, corpus.split("val")
    else:
        dev = corpora.dev_identities(everyone, fraction=config.dev_fraction, seed=config.seed)
        train = tuple(clip for clip in everyone if clip.identity not in dev)
        selection = tuple(clip for clip in everyone if clip.identity in dev)
    return Data(corpus=corpus, face=face, voice=voice, prototypes=found, train=train, selection=selection)


def load_windows(config: TrainConfig, data: Data, clips: tuple[Clip, ...], device: torch.device) -> WindowSet:
    """Load some clips as the config's windows.

    Raises:
        VAError: Features are missing or do not fit.
    """
    return windows.load(
        data.corpus,
        clips,
        face=data.face,
        voice=data.voice,
        window_s=config.window_s,
        stride_s=config.stride_s,
        at_end=config.target == "end",
        device=device,
    )


def identity_of(config: TrainConfig, data: Data) -> dict[str, Any]:
    """Collect everything that the weights depend on; paths are replaced by what lies there."""
    return {
        "config": settings.as_dict(dataclasses.replace(config, face_encoder="", voice_encoder=""), digest_only=True),
        "corpus": data.corpus.digest(),
        "face": data.face.digest,
        "voice": data.voice.digest,
        "features": settings.digest(
            {clip.id: [data.face.stamp(clip.id), data.voice.stamp(clip.id)] for clip in data.train + data.selection}
        ),
        "prototypes": settings.digest({"values": data.prototypes.values.tolist()}),
    }
