"""Sweeps: every cell of a grid of settings with every seed, trained together and ranked by its mean over seeds.

Run it as `va sweep-grid CORPUS FEATURES --out SWEEP`. Trials are ordinary runs below `SWEEP/runs`; training, resuming
and leaving alone what is finished are `va/train/runs.py`'s. This module lists the trials and compares their scores on
the selection split (settled 7); `va/evaluate/pages/sweep_page.py` draws what it finds.
"""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypedDict

from va import bounded, files, settings
from va.errors import VAError
from va.train.config import HeadSettings, SweepConfig, TrainConfig
from va.train.seeds import Figure, mean_with_interval
from va.train.state import Epoch
from va.train.trials import train_most

SCHEMA: Final = 1
DEFAULT: Final = (0.66, 0.45)
"""Outer centre and sigma that the paper chose (F7, F8)."""

PUBLISHED: Final = {
    DEFAULT: {"ccc_valence": 0.4655, "ccc_arousal": 0.6068, "ccc_mean": 0.5361},
    (1.0, 0.6): {"ccc_valence": 0.3656, "ccc_arousal": 0.5935, "ccc_mean": 0.4795},
}
"""Paper table 3 (F17), by outer centre and sigma."""

_SCORES: Final = ("ccc_valence", "ccc_arousal", "ccc_mean")


@dataclass(frozen=True, kw_only=True)
class Point:
    """What the trials of a cell share.

    Args:
        center: Outer centre of the region grid; None without a region term, like sigma.
        sigma: Width of the soft labels.
        region_weight: Weight lambda of the region term.
        learning_rate: AdamW's step size.
        context: Vectors learned before the regions' texts; 0 for the fixed texts.
    """

    center: float | None
    sigma: float | None
    region_weight: float
    learning_rate: float
    context: int


class Difference(TypedDict):
    """A cell's selection score minus another's, seed by seed.

    `of` says what differs: "grid" (against the paper's centres and sigma), "lambda" (against no region term) or
    "context" (against the fixed texts). `cell` and `against` are points; `by_seed` holds each common seed's difference.
    """

    of: Literal["grid", "lambda", "context"]
    cell: dict[str, Any]
    against: dict[str, Any]
    by_seed: dict[str, float]
    difference: Figure


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A finished trial.

    Args:
        point: Its cell.
        seed: Its seed.
        row: Its line of `results.json`.
        info: Its `run.json`.
    """

    point: Point
    seed: int
    row: dict[str, Any]
    info: dict[str, Any]


def expand(config: SweepConfig) -> list[TrainConfig]:
    """List a sweep's trials.

    Without a region term nothing that is trained depends on centres and sigma, and nothing trains context vectors, so
    those trials are made once, with the paper's grid and fixed texts.
    """
    common = {field.name: getattr(config, field.name) for field in fields(HeadSettings)}
    common |= {"out": config.out / "runs"}
    found = []
    rates = config.learning_rates or (config.learning_rate,)
    for rate, weight in itertools.product(rates, config.lambdas):
        grid = itertools.product(config.centers, config.sigmas, config.context) if weight else [(*DEFAULT, 0)]
        for (center, sigma, count), seed in itertools.product(grid, config.seeds):
            changes = {"learning_rate": rate, "region_weight": weight, "sigma": sigma, "context": count, "seed": seed}
            found.append(TrainConfig(**common | changes, centers=(-center, 0.0, center)))
    return found


def run(config: SweepConfig, *, progress: Callable[[int, int, str], None]) -> dict[str, Any]:
    """Train what is missing, rank everything and write `results.json`.

    Args:
        config: The sweep.
        progress: Called with (epochs done, epochs in all, the best score so far); a trial that stops early has then
            done all of its epochs.

    Returns:
        What `results.json` holds: finished trials, cells from best to worst, paired differences, the best run, and
        under "failed" the trials that failed.

    Raises:
        VAError: Corpus, features or a finished run cannot be used, or every trial failed; nothing is written then.
    """
    trials = expand(config)
    best = -math.inf

    def say(trial: TrainConfig, line: Epoch) -> str:
        nonlocal best
        best = max(best, line["ccc_mean"])
        return f"best {trial.select_on} CCC {best:.3f}"

    directories, failures = train_most(trials, engine=config, progress=progress, say=say)
    finished, failed = [], []
    for trial, directory in zip(trials, directories, strict=True):
        name = directory.relative_to(config.out).as_posix()
        place = {**asdict(point_of(trial)), "seed": trial.seed, "run": name}
        if directory in failures:
            failed.append({**place, "message": failures[directory].message, "fix": failures[directory].hint})
        else:
            finished.append(_read(directory, trial, place))
    results = _results(config, finished, failed)
    files.write_json(config.out / "results.json", results)
    return results


def require_all(results: dict[str, Any]) -> None:
    """Check that every trial finished.

    Raises:
        VAError: Some failed; says how many, and the first one's reason and mend.
    """
    failed = results["failed"]
    if failed:
        first, tried = failed[0], len(failed) + len(results["trials"])
        raise VAError(f"{len(failed)} of {tried} trials failed, first {first['run']}: {first['message']}", first["fix"])


def table(results: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Lay the cells out for a terminal: settings, then the mean CCC over seeds, its interval and the seeds."""
    rows = []
    # A column more is more than 80 characters, so only who asked for context pays for it.
    names = {"region_weight": "lambda", "learning_rate": "rate", "context": "context"}
    if not any(cell["context"] for cell in results["cells"]):
        del names["context"]
    for cell in results["cells"]:
        grid = "no region term" if cell["center"] is None else f"±{cell['center']:g}, sigma {cell['sigma']:g}"
        mean = cell["ccc_mean"]
        between = "one seed" if mean["low"] is None else f"{mean['low']:.3f} to {mean['high']:.3f}"
        tuned = (f"{cell[name]:g}" for name in names)
        rows.append((grid, *tuned, f"{mean['value']:.3f}", between, str(len(cell["seeds"]))))
    return ("centres, sigma", *names.values(), "CCC mean", "95% interval", "seeds"), rows


def point_of(trial: TrainConfig) -> Point:
    """Name the cell of a trial."""
    used = trial.region_weight > 0
    return Point(
        center=trial.centers[-1] if used else None,
        sigma=trial.sigma if used else None,
        region_weight=trial.region_weight,
        learning_rate=trial.learning_rate,
        context=trial.context,
    )


def _read(directory: Path, trial: TrainConfig, place: dict[str, Any]) -> Scored:
    """Read what a finished run says about itself."""
    info = bounded.read_json(directory / "run.json", what="a finished run", hint="Run the same command again.")
    try:
        selection = info["selection"]
        text = bounded.read_text(directory / "log.jsonl", largest=bounded.LARGEST_JSON)
        log = [json.loads(line) for line in text.splitlines()]  # a loss may be NaN
        chosen = next(line for line in log if line["epoch"] == selection["epoch"])
        row = {
            **place,
            "ccc_valence": float(chosen["ccc_valence"]),
            "ccc_arousal": float(chosen["ccc_arousal"]),
            "ccc_mean": float(selection["ccc_mean"]),
            "best_epoch": selection["epoch"],
            "epochs": info["epochs"],
            "seconds": info["seconds"],
            "trained_together": info["trained_together"],
        }
    except (OSError, KeyError, TypeError, ValueError, StopIteration, RecursionError) as error:
        raise VAError(
            f"{directory}: does not hold a whole run ({error!r})", "Remove that folder and run the same command again."
        ) from None
    return Scored(point=point_of(trial), seed=trial.seed, row=row, info=info)


def _results(config: SweepConfig, finished: list[Scored], failed: list[dict[str, Any]]) -> dict[str, Any]:
    """Compare the finished trials, at least one."""
    by_point: dict[Point, list[Scored]] = {}
    for one in finished:
        by_point.setdefault(one.point, []).append(one)
    cells = [_cell(point, members) for point, members in by_point.items()]
    # Seeds draw dev, so a mean that lacks a seed is not of the same dev splits: such cells come last.
    cells.sort(key=lambda cell: (len(cell["seeds"]) < len(config.seeds), -cell["ccc_mean"]["value"]))
    first = {name: cells[0][name] for name in asdict(finished[0].point)}
    best = max(by_point[Point(**first)], key=lambda one: one.row["ccc_mean"])
    info = finished[0].info
    versions = [one.info["versions"] for one in finished]
    return {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        # By name and identity, as the page shows them: it is passed on, and paths say nothing to others.
        "corpus": {
            "name": info["corpus"]["name"],
            "synthetic": info["corpus"]["synthetic"],
            "digest": info["identity"]["corpus"],
        },
        "features": {
            name: {"folder": Path(info["features"][name]).name, "digest": info["identity"][name]}
            for name in ("face", "voice")
        },
        "demo_encoders": any(one.info["demo_encoders"] for one in finished),
        "ranked_on": {
            "split": config.select_on,
            "score": "mean CCC, abaw protocol",
            "interval": "95%, Student, over seeds",
        },
        "best": {**first, "seed": best.seed, "run": best.row["run"]},
        "cells": cells,
        "differences": _differences(by_point),
        "published": [
            {"center": center, "sigma": sigma, **figures}
            for (center, sigma), figures in PUBLISHED.items()
            if any((point.center, point.sigma, point.context) == (center, sigma, 0) for point in by_point)
        ],
        "trials": [one.row for one in finished],
        "failed": failed,
        "settings": settings.without_paths(config),
        "versions": {name: ", ".join(sorted({found[name] for found in versions})) for name in versions[0]},
    }


def _cell(point: Point, members: list[Scored]) -> dict[str, Any]:
    scores = {name: mean_with_interval([one.row[name] for one in members], limit=1) for name in _SCORES}
    return {**asdict(point), "seeds": [one.seed for one in members], **scores}


def _differences(by_point: dict[Point, list[Scored]]) -> list[Difference]:
    """Compare each cell with the paper's grid, no region term and the fixed texts, where those were trained."""
    scores = {point: {one.seed: one.row["ccc_mean"] for one in members} for point, members in by_point.items()}
    found = []
    for point, own in scores.items():
        if point.center is None:
            continue
        center, sigma = DEFAULT
        references: dict[Literal["grid", "lambda", "context"], Point] = {
            "grid": replace(point, center=center, sigma=sigma),
            "lambda": replace(point, center=None, sigma=None, region_weight=0.0, context=0),
            "context": replace(point, context=0),
        }
        for kind, against in references.items():
            other = scores.get(against, {})
            values = {str(seed): own[seed] - other[seed] for seed in own if seed in other}
            if values and against != point:
                found.append(
                    Difference(
                        of=kind,
                        cell=asdict(point),
                        against=asdict(against),
                        by_seed=values,
                        difference=mean_with_interval(list(values.values()), limit=2),
                    )
                )
    return found
