"""Whose region texts a head is compared with: its frame encoder's own or, where it has none, another's (settled 13)."""

from dataclasses import dataclass

import numpy as np

from va.data import features, prototypes
from va.data.features import FeatureStore
from va.data.prototypes import Prototypes
from va.errors import VAError
from va.train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What the region term compares with (F9), and where it comes from.

    Args:
        prototypes: One per region.
        source: Folder name of the feature store that they lie beside; empty where no encoder has texts, and the
            prototypes are then unit vectors that no loss looks at.
        borrowed: They are another encoder's than the frame encoder's own.
    """

    prototypes: Prototypes
    source: str
    borrowed: bool

    @property
    def note(self) -> str:
        """What a user should know about them, in a few words; empty for the frame encoder's own."""
        if not self.source:
            return "no region term: no encoder here has texts"
        return f"region texts of {self.source}" if self.borrowed else ""


def choose_face(config: TrainConfig) -> FeatureStore:
    """Open the frame features.

    Raises:
        VAError: Not there, or not only one.
    """
    return features.choose_store(config.features, kind="frames", name=config.face_encoder, option="--face-encoder")


def choose_texts(config: TrainConfig, face: FeatureStore) -> Texts:
    """Find the embedded region texts for a frame encoder (settled 13).

    Its own, or where it has none (DINOv2, pixels, imported features) those of the only encoder in the features folder
    that has some. W maps F to the size of the prototypes (settled 3), so they need not be of the frame encoder.

    Raises:
        VAError: Another encoder's are needed and there are none, unless `region_weight` is 0, or several.
    """
    option = "--prototypes-from"
    if config.prototypes_from:
        store = features.choose_store(config.features, kind="frames", name=config.prototypes_from, option=option)
    elif (face.directory / prototypes.NAME).exists():
        store = face
    else:
        there = [one for one in features.open_stores(config.features) if (one.directory / prototypes.NAME).exists()]
        if len(there) > 1:
            names = ", ".join(one.directory.name for one in there)
            raise VAError(
                f"{face.directory}: has no text prototypes of its own, and several others here have some",
                f"Name one with {option}: {names}.",
            )
        if not there and config.region_weight:
            raise VAError(
                f"{face.directory}: has no text prototypes, nor has another encoder in {config.features}",
                "Extract with a CLIP encoder as well, whose prototypes are then used, or give --region-weight 0.",
            )
        if not there:
            return _no_texts(config)
        (store,) = there
    found = prototypes.read(store.directory)
    return Texts(prototypes=found, source=store.directory.name, borrowed=store.directory != face.directory)


def _no_texts(config: TrainConfig) -> Texts:
    valence, arousal = config.axes
    names = tuple(f"no text (valence {v:g}, arousal {a:g})" for v in valence for a in arousal)
    values = np.eye(len(names), dtype=np.float32)
    return Texts(prototypes=Prototypes(texts=names, templates=(), values=values), source="", borrowed=False)


def texts_note(config: TrainConfig) -> str:
    """Say whose region texts a run will use, where they are not its frame encoder's own (settled 13); else nothing.

    Raises:
        VAError: The frame features or texts are missing.
    """
    return choose_texts(config, choose_face(config)).note
