"""The runs of a table scored by both protocols, and compared row by row over seeds.

What `va ablate` and `va compare-encoders` have in common: `va/train/rows.py` makes the runs, this module what
`results.json` holds.

A figure is a mean over seeds and has two intervals, because it depends on two kinds of chance: Student's over seeds
(would another seed say the same), and a bootstrap over clips (would other clips). Differences are paired in both: the
same seed, and the same resampled clips.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypedDict

import numpy as np

from va import files
from va.device import choose_device
from va.errors import VAError
from va.evaluate import intervals, opening, predict, protocol
from va.evaluate.metrics import BoolArray, FloatArray
from va.evaluate.pages import markup, sentences
from va.evaluate.pages.report import NAMES
from va.evaluate.pages.table_parts import HEADLINE
from va.evaluate.predict import SplitPredictions
from va.evaluate.protocol import ClipFrames, ClipWindows
from va.train.seeds import mean_with_interval

SCHEMA: Final = 1
PROTOCOLS: Final = ("abaw", "paper")
_BOOTSTRAP_SEED: Final = 0


class Figure(TypedDict):
    """A mean over seeds with its 95% intervals: Student's over seeds, and the bootstrap over clips.

    None for the first with one seed, for the second with one clip; `value` is NaN without a defined CCC.
    """

    value: float
    over_seeds: tuple[float, float] | None
    over_clips: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """A run scored on the split.

    Args:
        seed: Its seed.
        line: What `results.json` holds of it.
        info: Its `run.json`.
        draws: By protocol, float64 [resamples, 3]: valence, arousal and mean of each resample of the clips.
    """

    seed: int
    line: dict[str, Any]
    info: dict[str, Any]
    draws: dict[str, FloatArray]


def run(
    trained: Mapping[str, Any],
    *,
    render: Callable[[Mapping[str, Any]], str],
    out: Path,
    corpus: Path,
    features_root: Path,
    split: str,
    resamples: int,
    device: str,
    progress: Callable[[int, int, str], None],
) -> dict[str, Any]:
    """Score the runs of a table and write `results.json` and `index.html`.

    Args:
        trained: What `va/train/ablate.py` or `va/train/compare.py` answered.
        render: Makes the page of the results.
        out: Its folder.
        corpus: Manifest.
        features_root: Features folder.
        split: Split to score.
        resamples: Bootstrap resamples of clips.
        device: Where to compute, as `choose_device` takes it.
        progress: Called with (runs scored, runs in all, what is next).

    Returns:
        What `results.json` holds.

    Raises:
        VAError: A run, the corpus or the features cannot be opened or do not fit; nothing is written then.
    """
    chosen = choose_device(device)
    wanted = [trial for row in trained["rows"] for trials in row["runs"].values() for trial in trials]
    scored: dict[str, Scored] = {}
    for trial in wanted:
        progress(len(scored), len(wanted), trial["run"])
        loaded, inputs, clips = opening.open_split(
            out / trial["run"], split=split, corpus=corpus, features_root=features_root
        )
        predictions = predict.predict_clips(loaded, inputs, clips, device=chosen, fill="interpolate", label_shift_s=0.0)
        scored[trial["run"]] = _score(trial, loaded.info, predictions, resamples=resamples)
    progress(len(wanted), len(wanted), "")
    results = _results(trained, scored)
    files.write_json(out / "results.json", results)
    files.write_text(out / "index.html", render(results))
    return results


def few_clips(results: Mapping[str, Any]) -> str:
    """Warn where the runs were scored on few clips, which are the same for all; "" where there are enough."""
    forms = [form for row in results["rows"] for form in row["forms"].values()]
    counted = [trial[name]["num_clips"] for form in forms for trial in form["trials"] for name in PROTOCOLS]
    return sentences.few_clips(sentences.fewest(counted))


def require_all(results: Mapping[str, Any]) -> None:
    """Check that every trial finished.

    Raises:
        VAError: Some failed; says how many, and the first one's reason and mend.
    """
    failed = results["failed"]
    if failed:
        tried = len(failed) + sum(len(found["seeds"]) for row in results["rows"] for found in row["forms"].values())
        message = f"{len(failed)} of {tried} trials failed, first {failed[0]['run']}: {failed[0]['message']}"
        raise VAError(message, failed[0]["fix"])


def _score(trial: Mapping[str, Any], info: dict[str, Any], found: SplitPredictions, *, resamples: int) -> Scored:
    seed = _BOOTSTRAP_SEED
    return Scored(
        seed=trial["seed"],
        line={
            **trial,
            "epoch": info["selection"]["epoch"],
            "selection_clips": len(info["selection"]["clips"]),
            "abaw": protocol.score_abaw(found.frames, resamples=resamples, seed=seed),
            "paper": protocol.score_paper(found.ends, resamples=resamples, seed=seed),
        },
        info=info,
        draws={
            "abaw": _draws(found.frames, [clip.valid & clip.covered for clip in found.frames], resamples=resamples),
            "paper": _draws(found.ends, [clip.valid for clip in found.ends], resamples=resamples),
        },
    )


def _draws(
    clips: Sequence[ClipFrames] | Sequence[ClipWindows], masks: list[BoolArray], *, resamples: int
) -> FloatArray:
    sums = intervals.clip_statistics(
        predictions=[clip.prediction for clip in clips], targets=[clip.target for clip in clips], masks=masks
    )
    return intervals.resampled_ccc(sums, resamples=resamples, seed=_BOOTSTRAP_SEED)


def _results(trained: Mapping[str, Any], scored: Mapping[str, Scored]) -> dict[str, Any]:
    rows = []
    members: dict[tuple[str, str], list[Scored]] = {}
    for row in trained["rows"]:
        forms = {}
        for form, trials in row["runs"].items():
            own = members[row["name"], form] = [scored[trial["run"]] for trial in trials]
            forms[form] = {
                "seeds": [one.seed for one in own],
                "trials": [one.line for one in own],
                **{name: _figures(own, name) for name in PROTOCOLS},
            }
        rows.append({**{key: value for key, value in row.items() if key != "runs"}, "forms": forms})
    infos = [one.info for one in scored.values()]
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "table": trained["table"],
        "corpus": {
            "name": infos[0]["corpus"]["name"],
            "synthetic": infos[0]["corpus"]["synthetic"],
            "digest": infos[0]["identity"]["corpus"],
        },
        "features": sorted({Path(path).name for info in infos for path in info["features"].values()}),
        "demo_encoders": any(info["demo_encoders"] for info in infos),
        "split": trained["settings"]["split"],
        "selected_on": trained["settings"]["select_on"],
        "rows": rows,
        "differences": _differences(trained["rows"], members),
        "not_run": trained["not_run"],
        "failed": trained["failed"],
        "settings": trained["settings"],
        "versions": {
            name: ", ".join(sorted({info["versions"][name] for info in infos})) for name in infos[0]["versions"]
        },
    }
    strict = markup.plain(found)
    assert isinstance(strict, dict)
    return strict


def _figures(members: Sequence[Scored], name: str) -> dict[str, Figure]:
    return {
        axis: figure_of(
            [one.line[name][axis]["value"] for one in members],
            [one.draws[name][:, column] for one in members],
            num_clips=members[0].line[name]["num_clips"] if members else 0,
            limit=1,
        )
        for column, axis in enumerate(NAMES)
    }


def _differences(rows: Sequence[Mapping[str, Any]], members: Mapping[tuple[str, str], list[Scored]]) -> list[Any]:
    """Subtract every other row's mean CCC from the reference row's, seed by seed."""
    (reference,) = (row["name"] for row in rows if row["reference"])
    found = []
    for row in rows:
        for form in row["runs"]:
            name = HEADLINE[form]
            ours = {one.seed: one for one in members[reference, form]}
            pairs = [(ours[one.seed], one) for one in members[row["name"], form] if one.seed in ours]
            if row["reference"] or not pairs:
                continue
            values = [a.line[name]["ccc_mean"]["value"] - b.line[name]["ccc_mean"]["value"] for a, b in pairs]
            drawn = [a.draws[name][:, -1] - b.draws[name][:, -1] for a, b in pairs]
            found.append(
                {
                    "row": reference,
                    "minus": row["name"],
                    "target": form,
                    "protocol": name,
                    "by_seed": {str(one.seed): value for (one, _), value in zip(pairs, values, strict=True)},
                    "difference": figure_of(values, drawn, num_clips=pairs[0][0].line[name]["num_clips"], limit=2),
                }
            )
    return found


def figure_of(values: Sequence[float], draws: Sequence[FloatArray], *, num_clips: int, limit: float) -> Figure:
    """Average over seeds, in each resample of the clips as well; nothing of a row without a defined CCC."""
    if not values or not all(math.isfinite(value) for value in values):
        return Figure(value=math.nan, over_seeds=None, over_clips=None)
    mean = mean_with_interval(values, limit=limit)
    low, high = intervals.interval(np.mean(draws, axis=0), num_clips=num_clips)
    return Figure(
        value=mean["value"],
        over_seeds=None if mean["low"] is None or mean["high"] is None else (mean["low"], mean["high"]),
        over_clips=(low, high) if math.isfinite(low) else None,
    )
