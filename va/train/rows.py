"""Rows of a table as lists of runs: each trained in every form with every seed, what fails listed beside the rest.

What `va ablate` and `va compare-encoders` have in common; `va/evaluate/row_scores.py` scores what is trained here.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from va.data.corpus import Corpus
from va.data.features import FeatureStore
from va.engine.config import EngineSettings
from va.errors import VAError
from va.train import planning
from va.train.ablate_config import RowSettings
from va.train.config import TrainConfig
from va.train.trials import train_most

Form = Literal["end", "frames"]
"""Target that a row is trained for."""

Pair = tuple[FeatureStore, FeatureStore]
"""Frame and audio features."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table.

    Args:
        name: What it is called; no two rows of a table have one name.
        note: What it is, in a few words.
        pair: Its frame and audio features.
        changes: Its settings, where they are not `TrainConfig`'s defaults.
    """

    name: str
    note: str
    pair: Pair
    changes: dict[str, Any]


def train_rows(
    config: RowSettings,
    rows: Sequence[Row],
    *,
    forms: Sequence[Form],
    engine: EngineSettings,
    progress: Callable[[int, int, str], None],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Train what is missing of a table, after checking that all of it can be reported.

    Args:
        config: What all rows have in common.
        rows: The table.
        forms: Targets that every row is trained for.
        engine: Where they are trained.
        progress: Called with (epochs done, epochs in all, what was trained); a trial that stops early has then done
            all of its epochs.

    Returns:
        Plain data: each row with its finished runs by form and seed; and the failed trials with their reasons.

    Raises:
        VAError: Corpus or features are missing or do not fit, nothing is written then; or every trial failed.
    """
    check_reported(config, rows)
    cells = list(itertools.product(rows, forms, config.seeds))
    trials = [_trial(config, row, form, seed) for row, form, seed in cells]
    directories, failures = train_most(
        trials,
        engine=engine,
        progress=progress,
        say=lambda trial, line: f"{planning.describe(trial)}, {trial.target}",
    )
    found = [_describe(row, forms) for row in rows]
    failed = []
    for (row, form, seed), directory in zip(cells, directories, strict=True):
        name = directory.relative_to(config.out).as_posix()
        if directory in failures:
            reason = {"message": failures[directory].message, "fix": failures[directory].hint}
            failed.append({"row": row.name, "target": form, "seed": seed, "run": name, **reason})
        else:
            found[rows.index(row)]["runs"][form].append({"seed": seed, "run": name})
    return found, failed


def check_reported(config: RowSettings, rows: Sequence[Row]) -> None:
    """Check what is only needed after training: the reported split's labels and features.

    Raises:
        VAError: Too few labels, or features of a clip are missing.
    """
    corpus = Corpus.load(config.corpus)
    clips = corpus.split(config.split)
    labels = sum(int(corpus.truth(clip).valid.sum()) for clip in clips)
    if labels < 2:
        raise VAError(
            f"{corpus.path}: the '{config.split}' clips ({len(clips)}) have {labels} valid labels, a CCC needs two",
            "Choose another --split, or check the annotations (-5 is invalid).",
        )
    for store in {store.directory: store for row in rows for store in row.pair}.values():
        for clip in clips:
            store.stamp(clip.id)


def _trial(config: RowSettings, row: Row, form: Form, seed: int) -> TrainConfig:
    common: dict[str, Any] = {
        "corpus": config.corpus,
        "features": config.features,
        "out": config.out / "runs",
        "select_on": config.select_on,
        "epochs": config.epochs,
        "learning_rate": config.learning_rate,
        "batch_size": config.batch_size,
        "stack": config.stack,
        "device": config.device,
    }
    # Folders, because an encoder may be there with two identities.
    common |= {"face_encoder": row.pair[0].directory.name, "voice_encoder": row.pair[1].directory.name}
    return TrainConfig(**common | row.changes, target=form, seed=seed)


def _describe(row: Row, forms: Sequence[Form]) -> dict[str, Any]:
    return {
        "name": row.name,
        "note": row.note,
        "encoders": [store.encoder for store in row.pair],
        "runs": {form: [] for form in forms},
    }
