"""A small corpus with cached features that hold a signal, made through the data layer's own writers, no media."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from va.data import corpus, prototypes, timeline
from va.data.corpus import Clip, Corpus, Truth
from va.data.features import SCHEMA, ClipFeatures, FeatureStore, Source
from va.data.prototypes import Prototypes
from va.train.config import TrainConfig

SECONDS, FRAME_DIM, AUDIO_DIM, TEXT_DIM = 16.0, 12, 10, 8


class Small(NamedTuple):
    """Where things are."""

    corpus: Path
    features: Path

    def config(self, out: Path, **changes: object) -> TrainConfig:
        """A config that trains in about a second."""
        settings = {"width": 16, "num_heads": 2, "epochs": 4, "learning_rate": 5e-3, "device": "cpu", **changes}
        return TrainConfig(corpus=self.corpus, features=self.features, out=out, **settings)


def identity(encoder: str, kind: str, dim: int, **changes: object) -> dict[str, object]:
    sampling = {"cell_s": 0.5} | ({"window_s": 10.0, "stride_s": 3.0} if kind == "audio" else {})
    return {"schema": SCHEMA, "encoder": encoder, "kind": kind, "dim": dim, "sampling": sampling, **changes}


def build(root: Path, *, label_noise_in_val: float = 0.0) -> Small:
    rng = np.random.default_rng(7)
    see, hear = rng.normal(size=(2, FRAME_DIM)), rng.normal(size=(2, AUDIO_DIM))
    see[1] *= 0.1  # arousal shows faintly in the face
    hear[0] *= 0.1  # valence sounds faintly in the voice
    entries: list[tuple[Clip, Truth]] = []
    face = FeatureStore.create(root / "features", identity("eye", "frames", FRAME_DIM, weights="0" * 32))
    voice = FeatureStore.create(root / "features", identity("ear", "audio", AUDIO_DIM))
    time_s = np.arange(round(SECONDS * 25)) / 25
    centers = timeline.cell_centers(timeline.num_cells(SECONDS))
    starts_s = timeline.window_starts(SECONDS, window_s=10.0, stride_s=3.0)
    cells = timeline.window_cells(SECONDS, window_s=10.0, stride_s=3.0)
    for number in range(24):
        phase, rate = rng.uniform(0, 6.28, 2), rng.uniform(0.3, 0.9, 2)
        truth = 0.8 * np.sin(time_s[:, None] * rate + phase)
        latent = 0.8 * np.sin(centers[:, None] * rate + phase)
        clip = Clip(
            id=f"clip{number:02}",
            media=root / f"clip{number:02}.mp4",
            split="train" if number < 16 else "val",
            identity=f"person{number // 2:02}",
            num_frames=len(time_s),
            duration_s=SECONDS,
        )
        seen = latent @ see + 0.1 * rng.normal(size=(len(centers), FRAME_DIM))
        heard = latent @ hear + 0.1 * rng.normal(size=(len(centers), AUDIO_DIM))
        valid = cells >= 0
        windows = np.where(valid[..., None], heard[cells], 0)
        source = Source(size=1, digest="0")
        everywhere = np.ones(len(centers), bool)
        face.write(clip.id, ClipFeatures(values=seen.astype(np.float16), time_s=centers, valid=everywhere), source)
        voice.write(clip.id, ClipFeatures(values=windows.astype(np.float16), time_s=starts_s, valid=valid), source)
        if clip.split == "val":
            truth = truth + label_noise_in_val * rng.normal(size=truth.shape)
        labelled = np.arange(len(time_s)) % 50 != 0
        entries.append((clip, Truth(time_s=time_s, va=np.clip(truth, -1, 1).astype(np.float32), valid=labelled)))
    prototypes.write(
        face.directory,
        Prototypes(
            texts=tuple(f"text {region}" for region in range(9)),
            templates=("{}",),
            values=np.random.default_rng(3).normal(size=(9, TEXT_DIM)).astype(np.float32),
        ),
    )
    made = corpus.save(root, name="small", synthetic=True, media_root=root, entries=entries)
    assert isinstance(made, Corpus)
    return Small(made.path, root / "features")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The corpus; tests must not change it."""
    return build(tmp_path_factory.mktemp("small"))
