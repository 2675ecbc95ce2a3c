"""The paper's tables as lists of runs: finds the encoders, trains every row in both forms with every seed.

Run it as `va ablate CORPUS FEATURES --table 1|2|3 --out DIR`. Each row is trained first as the release scored it (a
single prediction at the window's end, R2) and then with one per cell (settled 4, 12). Runs are ordinary runs below
`DIR/runs`; `va/evaluate/ablation.py` scores them and writes the page.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final

from va import settings
from va.data import features
from va.data.features import FeatureStore, Kind
from va.errors import VAError
from va.train import rows as engine
from va.train import sweep
from va.train.ablate_config import AblateConfig
from va.train.rows import Form, Pair, train_rows

FORMS: Final[tuple[Form, Form]] = ("end", "frames")
"""Targets that every row is trained for, in the order of settled 12."""

PAPER_PAIR: Final = ("clip-vit-b-16", "ast")
"""Frame and audio encoder of the paper's tables 2 and 3 (F1, F2)."""

_KINDS: Final[tuple[Kind, Kind]] = ("frames", "audio")


def _ccc(valence: float, arousal: float, mean: float) -> dict[str, float]:
    return {"ccc_valence": valence, "ccc_arousal": arousal, "ccc_mean": mean}


_TEMPORAL: Final = {
    ("tcn", "attention"): _ccc(0.3068, 0.5876, 0.4472),
    ("tcn", "gated"): _ccc(0.3021, 0.6017, 0.4519),
    ("tcn", "hierarchical"): _ccc(0.4573, 0.5679, 0.5126),
    ("gru", "attention"): _ccc(0.3623, 0.6115, 0.4869),
    ("gru", "gated"): _ccc(0.3326, 0.5657, 0.4491),
    ("gru", "hierarchical"): sweep.PUBLISHED[sweep.DEFAULT],
}
"""Table 2 (F16)."""

_BACKBONES: Final = {
    ("clip-vit-b-32", "logmel"): ("ViT-B/32 and CNN audio", _ccc(0.2854, 0.5054, 0.3954)),
    PAPER_PAIR: ("ViT-B/16 and AST", _TEMPORAL["gru", "attention"]),
}
"""Table 1 (F15), whose better row is one of table 2's (F19)."""


@dataclass(frozen=True, kw_only=True)
class Row(engine.Row):
    """A row of the paper's tables, or ours beside them.

    Args:
        published: The paper's CCC (F15 to F17); None for a row that the paper does not have.
        is_reference: The row that the others are compared with: the paper's best.
    """

    published: dict[str, float] | None
    is_reference: bool


def run(config: AblateConfig, *, progress: Callable[[int, int, str], None]) -> dict[str, Any]:
    """Train what is missing of a table.

    Args:
        config: The stage's settings.
        progress: Called with (epochs done, epochs in all, what was trained); a trial that stops early has then done
            all of its epochs.

    Returns:
        Plain data: "rows" with, for each form, the finished runs by seed; "failed" trials with their reasons; published
        rows under "not_run" whose encoders were not asked for; the settings.

    Raises:
        VAError: Corpus, encoders or features are missing or do not fit, nothing is written then; or every trial failed.
    """
    rows = rows_of(config)
    found, failed = train_rows(config, rows, forms=FORMS, engine=config, progress=progress)
    for line, row in zip(found, rows, strict=True):
        line |= {"published": row.published, "reference": row.is_reference}
    shown = [row.name for row in rows]
    absent = [{"name": name, **scores} for name, scores in _BACKBONES.values() if name not in shown]
    return {
        "table": config.table,
        "rows": found,
        "failed": failed,
        "not_run": absent if config.table == 1 else [],
        "settings": settings.without_paths(config),
    }


def rows_of(config: AblateConfig) -> list[Row]:
    """List a table's rows in the paper's order, then ours.

    Raises:
        VAError: Encoders are missing, or it is not clear which are meant.
    """
    pairs = find_pairs(config)
    if config.table == 1:
        rows = [_backbone_row(pair, is_reference=pair is pairs[-1]) for pair in pairs]
    else:
        rows = _fusion_rows(pairs[0]) if config.table == 2 else _grid_rows(pairs[0])
    if not config.context:
        return rows
    (reference,) = (row for row in rows if row.is_reference)
    return [*rows, _context_row(reference, config.context)]


def find_pairs(config: AblateConfig) -> list[Pair]:
    """Open the encoders that were asked for or, without any, the paper's.

    Tables 2 and 3 take the only other encoder of a kind where the paper's is not there; table 1 compares encoders, so
    it takes no others unasked.

    Raises:
        VAError: They are not there; names the command that makes them.
    """
    stores = features.open_stores(config.features)
    asked = [tuple(pair.split("+")) for pair in config.pairs]
    wanted = asked or ([PAPER_PAIR] if config.table != 1 else list(_BACKBONES))
    there = [(store.kind, name) for store in stores for name in (store.encoder, store.directory.name)]
    missing = [both for pair in wanted for both in zip(_KINDS, pair, strict=True) if both not in there]
    if not asked and config.table != 1:
        usable = {store.kind for store in stores if not store.identity.get("baseline")}
        wanted = [tuple("" if both in missing else both[1] for both in zip(_KINDS, PAPER_PAIR, strict=True))]
        missing = [(kind, name) for kind, name in missing if kind not in usable]
    if missing:
        names = list(dict.fromkeys(name for _, name in missing))
        present = ", ".join(f"{store.encoder} ({store.kind})" for store in stores)
        raise VAError(
            f"{config.features}: has no features of {', '.join(names)} for table {config.table}, only {present}",
            f"Make them with 'va extract {config.corpus} --out {config.features} --encoders {','.join(names)}', "
            "or name others with --pairs.",
        )
    return [(_store(config, "frames", face), _store(config, "audio", voice)) for face, voice in wanted]


def _store(config: AblateConfig, kind: Kind, name: str) -> FeatureStore:
    return features.choose_store(config.features, kind=kind, name=name, option="--pairs")


def _context_row(reference: Row, count: int) -> Row:
    """The table's best row again, with learned context before the regions' texts."""
    return replace(
        reference,
        name="Learned context",
        note=f"{reference.name}, {count} context vector{'s' * (count > 1)}",
        published=None,
        is_reference=False,
        changes={**reference.changes, "context": count},
    )


def _backbone_row(pair: Pair, *, is_reference: bool) -> Row:
    encoders = (pair[0].encoder, pair[1].encoder)
    name, published = _BACKBONES.get(encoders, (" and ".join(encoders), None))
    return Row(
        name=name,
        note="GRU, attention only",  # docs/method.md, F19
        published=published,
        is_reference=is_reference,
        pair=pair,
        changes={"fusion": "attention"},
    )


def _fusion_rows(pair: Pair) -> list[Row]:
    """Table 2 (F16), and a head for each modality alone."""
    words = {"attention": "attention", "gated": "gated", "hierarchical": "attn + gated"}
    rows = []
    for (temporal, fusion), published in _TEMPORAL.items():
        is_model = (temporal, fusion) == ("gru", "hierarchical")
        rows.append(
            Row(
                name=f"{temporal.upper()}, {words[fusion]}",
                note="the paper's model" if is_model else "",
                published=published,
                is_reference=is_model,
                pair=pair,
                changes={"temporal": temporal, "fusion": fusion},
            )
        )
    for modality in ("face", "voice"):
        rows.append(
            Row(
                name=f"{modality.capitalize()} alone",
                note="GRU, no fusion",
                published=None,
                is_reference=False,
                pair=pair,
                changes={"modalities": modality},
            )
        )
    return rows


def _grid_rows(pair: Pair) -> list[Row]:
    """Table 3 (F17), and no region term."""
    rows = []
    for center, sigma in ((1.0, 0.6), sweep.DEFAULT):
        is_model = (center, sigma) == sweep.DEFAULT
        rows.append(
            Row(
                name=f"±{center:g}, sigma {sigma:g}",
                note="the paper's model" if is_model else "",
                published=sweep.PUBLISHED[center, sigma],
                is_reference=is_model,
                pair=pair,
                changes={"centers": (-center, 0.0, center), "sigma": sigma},
            )
        )
    return [
        *rows,
        Row(
            name="No region term",
            note="lambda 0",
            published=None,
            is_reference=False,
            pair=pair,
            changes={"region_weight": 0.0},
        ),
    ]
