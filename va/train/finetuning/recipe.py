"""The stage's settings -> what its parts take, and what a run's weights depend on."""

import dataclasses
from typing import Any, Literal

import torch

from va import files, settings
from va.train import checkpoint
from va.train.finetune_config import FROM_RUN, TRAINING, FinetuneConfig
from va.train.finetuning import keeping
from va.train.finetuning.augment import AugmentSettings
from va.train.finetuning.inputs import InputStore
from va.train.finetuning.start import Start
from va.train.finetuning.tower_config import TowerSettings

_STRENGTHS = ("flip", "crop", "colour", "time_mask", "mel_mask")


def tower_settings(config: FinetuneConfig, start: Start, *, device: torch.device) -> TowerSettings:
    """Say how the towers learn."""
    head, pair = start.config, start.pair
    return TowerSettings(
        learning_rate=config.backbone_rate,
        weight_decay=config.weight_decay,
        # A tower that the head does not look at gets no gradient, and one without weights has nothing to learn.
        thaw_face=config.thaw_face if head.modalities != "voice" and pair.face.tower is not None else 0,
        thaw_voice=config.thaw_voice if head.modalities != "face" and pair.voice.tower is not None else 0,
        layer_decay=config.layer_decay,
        micro_batch=config.micro_batch,
        checkpointing=config.checkpointing,
        precision=precision(config, device),
        ema=config.ema,
        clip_norm=config.clip_norm,
    )


def precision(config: FinetuneConfig, device: torch.device) -> Literal["float32", "bfloat16"]:
    """Say in what the towers' products are computed."""
    if config.precision != "auto":
        return config.precision
    return "bfloat16" if device.type == "cuda" else "float32"


def strengths(config: FinetuneConfig) -> AugmentSettings:
    """Say how strongly windows are changed."""
    if not config.augment:
        return AugmentSettings()
    return AugmentSettings(
        flip=config.flip,
        crop=config.crop,
        brightness=config.colour,
        contrast=config.colour,
        saturation=config.colour,
        mel_mask=config.mel_mask,
        time_mask=config.time_mask,
    )


def identity_of(config: FinetuneConfig, start: Start, store: InputStore, *, device: torch.device) -> dict[str, Any]:
    """Collect everything that the weights depend on; paths are replaced by what lies there."""
    own = settings.as_dict(config, digest_only=True)
    own = {name: each for name, each in own.items() if name not in (*FROM_RUN, *TRAINING, *_STRENGTHS, "seed")}
    own |= {"precision": precision(config, device), "augment": dataclasses.asdict(strengths(config))}
    division = (start.division.train, start.division.selection)
    media = {clip.id: keeping.source_of(store, clip.id) for part in division for clip in part}
    return {
        "schema": checkpoint.SCHEMA,
        "config": settings.as_dict(start.config, digest_only=True),
        "corpus": start.corpus.digest(),
        "face": settings.digest(start.pair.face.identity),
        "voice": settings.digest(start.pair.voice.identity),
        "media": settings.digest(media),
        "division": settings.digest({"parts": [[clip.id for clip in part] for part in division]}),
        "texts": list(start.region_texts),
        "finetune": own,
        "start": files.hash_file(start.run.directory / "model.safetensors") if start.run is not None else None,
    }
