"""Encoders compared: the same head trained on every pair of cached encoders, ranked on the split that chose the epochs.

Run it as `va compare-encoders CORPUS FEATURES --out DIR`. Runs are ordinary runs below `DIR/runs`. Who comes first is
decided here, on dev (settled 7), before `va/evaluate/comparison.py` scores anything on the split that is reported.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from va import bounded, settings
from va.data import features, prototypes
from va.data.features import FeatureStore, Kind
from va.errors import VAError
from va.train.compare_config import CompareConfig
from va.train.config import TrainConfig
from va.train.rows import Pair, Row, train_rows
from va.train.seeds import mean_with_interval
from va.train.texts import choose_texts

_KINDS: Final[tuple[Kind, Kind]] = ("frames", "audio")


def run(config: CompareConfig, *, progress: Callable[[int, int, str], None]) -> dict[str, Any]:
    """Train what is missing, and rank the rows on the selection split.

    Args:
        config: The stage's settings.
        progress: As `rows.train_rows` calls it.

    Returns:
        Plain data: "rows" from best to worst, each with its runs, the selection scores behind its rank ("selection")
        and what its encoders are ("stores"); "failed" trials; the settings. The best row is the "reference" that others
        are compared with. Rows that miss a seed come last.

    Raises:
        VAError: Fewer than two rows, encoders or features that are missing or do not fit, nothing is written then; or
            every trial failed.
    """
    rows = rows_of(config)
    found, failed = train_rows(config, rows, forms=[config.target], engine=config, progress=progress)
    for line, row in zip(found, rows, strict=True):
        line["selection"] = _selection(config, line["runs"][config.target])
        line["stores"] = [_describe(store) for store in seen_by(config, row.pair)]
    found.sort(key=_rank)
    for place, line in enumerate(found):
        line |= {"reference": place == 0}
        line["selection"]["difference"] = _difference(found[0]["selection"], line["selection"]) if place else None
    return {
        "table": None,
        "rows": found,
        "failed": failed,
        "not_run": [],
        "settings": settings.without_paths(config),
    }


def rows_of(config: CompareConfig) -> list[Row]:
    """List the rows: a pair of encoders each, or one encoder where the heads see one modality.

    Raises:
        VAError: Fewer than two, or an encoder is not there.
    """
    pairs = find_pairs(config)
    stores = [seen_by(config, pair) for pair in pairs]
    if len(pairs) < 2:
        there = " and ".join(store.encoder for store in stores[0]) if stores else "none"
        raise VAError(
            f"{config.features}: has only {there} to compare (baselines do not count)",
            f"Add another with 'va extract {config.corpus} --out {config.features} --encoders NAME', or train this one "
            "with 'va train'.",
        )
    has_texts = any(
        (one.directory / prototypes.NAME).exists()
        for one in features.open_stores(config.features)
        if one.kind == "frames"
    )
    common = {
        "modalities": config.modalities,
        "temporal": config.temporal,
        "fusion": config.fusion,
        "width": config.width,
        "standardise": config.standardise,
        # One term for all rows, else they would differ in more than their encoders.
        "region_weight": config.region_weight if has_texts else 0.0,
        "prototypes_from": "",
    }
    names = [" and ".join(_name(store, stores) for store in seen) for seen in stores]
    return [_row(config, name, pair, common) for name, pair in zip(names, pairs, strict=True)]


def _row(config: CompareConfig, name: str, pair: Pair, common: Mapping[str, Any]) -> Row:
    own = (pair[0].directory / prototypes.NAME).exists()
    changes = {**common, "prototypes_from": "" if own else config.prototypes_from}
    trial = TrainConfig(
        corpus=config.corpus,
        features=config.features,
        out=config.out,
        region_weight=changes["region_weight"],
        prototypes_from=changes["prototypes_from"],
    )
    demo = "demo encoders" if any(store.identity.get("demo") for store in seen_by(config, pair)) else ""
    note = "; ".join(filter(None, (demo, choose_texts(trial, pair[0]).note)))
    return Row(name=name, note=note, pair=pair, changes=changes)


def find_pairs(config: CompareConfig) -> list[Pair]:
    """Open the pairs that were asked for or, without any, every frame encoder with every audio encoder.

    Raises:
        VAError: An encoder that was asked for is not there, or there is none of a kind.
    """
    if config.pairs:
        asked = [pair.split("+") for pair in config.pairs]
        return [(_store(config, "frames", face), _store(config, "audio", voice)) for face, voice in asked]
    stores = [store for store in features.open_stores(config.features) if not store.identity.get("baseline")]
    faces, voices = ([store for store in stores if store.kind == kind] for kind in _KINDS)
    for kind, there in zip(_KINDS, (faces, voices), strict=True):
        if not there:
            raise VAError(
                f"{config.features}: has no {kind} encoder that is no baseline",
                f"Add one with 'va extract {config.corpus} --out {config.features} --encoders NAME'.",
            )
    # The unseen half of a row must be some store: stage two reads both. Texts are in one of the frame encoders.
    faces.sort(key=lambda store: not (store.directory / prototypes.NAME).exists())
    if config.modalities == "face":
        return [(face, voices[0]) for face in _by_name(faces)]
    if config.modalities == "voice":
        return [(faces[0], voice) for voice in voices]
    return list(itertools.product(_by_name(faces), voices))


def seen_by(config: CompareConfig, pair: Pair) -> tuple[FeatureStore, ...]:
    """Give the stores of a pair that the heads see."""
    return {"both": pair, "face": pair[:1], "voice": pair[1:]}[config.modalities]


def _by_name(stores: Sequence[FeatureStore]) -> list[FeatureStore]:
    return sorted(stores, key=lambda store: store.directory.name)


def _store(config: CompareConfig, kind: Kind, name: str) -> FeatureStore:
    return features.choose_store(config.features, kind=kind, name=name, option="--pairs")


def _name(store: FeatureStore, all_seen: Sequence[Sequence[FeatureStore]]) -> str:
    """Name a store by its encoder, or by its folder where that encoder is compared with itself."""
    alike = {one.directory for seen in all_seen for one in seen if one.encoder == store.encoder}
    return store.encoder if len(alike) == 1 else store.directory.name


def _describe(store: FeatureStore) -> dict[str, Any]:
    """What is known of an encoder's cost and nature from its identity."""
    return {
        "encoder": store.encoder,
        "kind": store.kind,
        "dim": store.dim,
        "demo": bool(store.identity.get("demo")),
        "baseline": bool(store.identity.get("baseline")),
        "folder": store.directory.name,
    }


def _selection(config: CompareConfig, trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean CCC (abaw protocol) by which each seed chose its epoch, and their mean over seeds."""
    by_seed = {str(trial["seed"]): _score(config.out / trial["run"]) for trial in trials}
    mean = mean_with_interval(list(by_seed.values()), limit=1) if by_seed else None
    return {
        "split": config.select_on,
        "by_seed": by_seed,
        "value": mean["value"] if mean else None,
        "over_seeds": None if mean is None or mean["low"] is None else [mean["low"], mean["high"]],
        "over_clips": None,
    }


def _difference(best: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """The best row's selection score minus another's, seed by seed: one seed holds out the same clips in both."""
    by_seed = {
        seed: best["by_seed"][seed] - value for seed, value in other["by_seed"].items() if seed in best["by_seed"]
    }
    if not by_seed:
        return None
    mean = mean_with_interval(list(by_seed.values()), limit=2)
    over_seeds = None if mean["low"] is None else [mean["low"], mean["high"]]
    return {
        "by_seed": by_seed,
        "difference": {"value": mean["value"], "over_seeds": over_seeds, "over_clips": None},
    }


def _score(directory: Path) -> float:
    info = bounded.read_json(directory / "run.json", what="a finished run", hint="Remove its folder and run again.")
    return float(info["selection"]["ccc_mean"])


def _rank(row: Mapping[str, Any]) -> tuple[int, float]:
    """Best first; a row that misses seeds was not measured like the others and comes after them."""
    selection = row["selection"]
    value = selection["value"]
    return -len(selection["by_seed"]), 0.0 if value is None else -value
