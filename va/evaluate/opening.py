"""A run, and what it was trained on, opened again: corpus, features, clips, windows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from va import settings
from va.data import features, tuned, windows
from va.data.corpus import Clip, Corpus
from va.data.features import FeatureStore
from va.data.windows import WindowSet
from va.device import free_bytes
from va.errors import VAError
from va.train import checkpoint
from va.train.checkpoint import Run


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a run was trained on, opened again.

    Args:
        corpus: The corpus.
        face: Frame features.
        voice: Audio features.
    """

    corpus: Corpus
    face: FeatureStore
    voice: FeatureStore


def open_inputs(run: Run, *, corpus: Path | None, features_root: Path | None) -> Inputs:
    """Open a run's corpus and features where they were, or where they are now.

    Args:
        run: The run.
        corpus: Manifest, when it has moved.
        features_root: Features folder, when it has moved.

    Raises:
        VAError: Not there, or of another identity than those the run was trained on.
    """
    if not run.info["corpus"]["path"] and (corpus is None or features_root is None):
        raise VAError(
            f"{run.directory}: was shared without its corpus and features",
            "Name yours with --corpus and --features; features must come from the same encoders.",
        )
    opened = Corpus.load(_there(corpus or Path(run.info["corpus"]["path"]), what="the corpus", option="--corpus"))
    stores = {}
    for name, digest in (("face", run.info["identity"]["face"]), ("voice", run.info["identity"]["voice"])):
        folder = Path(run.info["features"][name])
        if features_root is not None:
            folder = features_root / folder.name
        store = features.FeatureStore(_there(folder, what="the features", option="--features"))
        if store.digest != digest:
            raise VAError(
                f"{folder}: has identity {store.digest}, the run was trained on {digest}",
                "Extract with the settings of the run, or train again on these features.",
            )
        stores[name] = store
    return Inputs(corpus=opened, **stores)


def _there(path: Path, *, what: str, option: str) -> Path:
    """Check that what a run was trained on is still where it was, before anything suggests to make it again."""
    if not path.exists():
        raise VAError(
            f"{path}: no such file or folder ({what} of the run)", f"Name the place it has now with {option}."
        )
    return path


def open_split(
    directory: Path, *, split: str, corpus: Path | None, features_root: Path | None
) -> tuple[Run, Inputs, tuple[Clip, ...]]:
    """Load a run, open what it was trained on, and list a split's clips.

    Args:
        directory: The run.
        split: Of its corpus; must have clips.
        corpus: Manifest, when it has moved.
        features_root: Features folder, when it has moved.

    Raises:
        VAError: The run, its corpus or its features cannot be opened or do not fit, or the split is empty.
    """
    loaded = checkpoint.load_run(directory)
    inputs = open_inputs(loaded, corpus=corpus, features_root=features_root)
    clips = inputs.corpus.split(split)
    if not clips:
        raise VAError(f"{inputs.corpus.path}: has no '{split}' clips", "Choose another --split.")
    return loaded, inputs, clips


def clips_named(inputs: Inputs, names: Sequence[str]) -> tuple[Clip, ...]:
    """Find clips that a run names, e.g. those it was trained on.

    Raises:
        VAError: The corpus does not have one.
    """
    by_id = {clip.id: clip for clip in inputs.corpus.clips}
    for name in names:
        if name not in by_id:
            raise VAError(
                f"{inputs.corpus.path}: has no clip '{name}', which the run was trained or selected on",
                "Give the manifest of the training with --corpus.",
            )
    return tuple(by_id[name] for name in names)


def load_windows(run: Run, inputs: Inputs, clips: Sequence[Clip], *, device: torch.device) -> WindowSet:
    """Load clips' features as the windows a run was trained on.

    Args:
        run: Its settings say how.
        inputs: Corpus and features.
        clips: At least one.
        device: Where batches go.

    Raises:
        VAError: Features are missing or do not fit.
    """
    return windows.load(
        inputs.corpus,
        clips,
        face=inputs.face,
        voice=inputs.voice,
        window_s=run.config.window_s,
        stride_s=run.config.stride_s,
        at_end=run.config.target == "end",
        device=device,
        memory_bytes=free_bytes(device) / 2,
    )


def describe_identity(store: FeatureStore) -> str:
    """Name a store for the report: encoder, identity digest, what it was fine-tuned from, whether for show only."""
    said = ", ".join(tuned.notes_on(store.identity))
    return f"{store.encoder}-{settings.digest(store.identity)}{f' ({said})' if said else ''}"
