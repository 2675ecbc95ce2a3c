"""`va demo`: the whole pipeline on a synthetic corpus with the demo encoders, through the stages' own entry points."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from va.data import affwild2, synthetic
from va.evaluate import score, summary
from va.evaluate.config import EvaluateConfig
from va.evaluate.figures import ReportFigures
from va.evaluate.media import video
from va.evaluate.predict_config import PredictConfig
from va.extract import pipeline
from va.extract.config import ExtractConfig
from va.train import runs
from va.train.config import TrainConfig
from va.train.state import Epoch

Modalities = Literal["both", "face", "voice"]
Bar = Callable[[str], AbstractContextManager[Callable[..., None]]]

_MODALITIES: Final[tuple[Modalities, ...]] = ("both", "face", "voice")
_LEARNING_RATE: Final = 1e-3
_EPOCHS: Final = 25
"""Ten times the paper's rate, and 25 epochs instead of 15: the demo has less than a hundredth of Aff-Wild2's windows,
so far fewer steps."""


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the demo made.

    Args:
        figures: Per modality setting (`both`, `face`, `voice`).
        table: Header and rows for the terminal.
        page: The full model's report.
        player: A clip of somebody that the model has never seen, to be watched.
    """

    figures: dict[Modalities, ReportFigures]
    table: tuple[tuple[str, ...], list[tuple[str, ...]]]
    page: Path
    player: Path


def run(out: Path, *, clips: int, seconds: float, seed: int, bar: Bar) -> DemoResult:
    """Draw a corpus, extract it, train three heads, evaluate them on unseen identities, and predict one of these.

    Args:
        out: Folder for everything; what is already there is reused.
        clips: Clips to draw.
        seconds: Length of each.
        seed: Of the corpus and of training.
        bar: Opens a progress bar with a title; `console.progress`.

    Raises:
        VAError: A stage cannot do its work.
    """
    corpus, features = out / "corpus", out / "features"
    with bar("1/5 drawing clips") as progress:
        synthetic.write_tree(
            corpus, clips=clips, seconds=seconds, seed=seed, workers=os.cpu_count() or 1, progress=progress
        )
    with bar("1/5 reading the tree") as progress:
        drawn = affwild2.read_tree(corpus, out=corpus, name="synthetic", synthetic=True, sample=None, progress=progress)
    with bar("2/5 extracting") as progress:
        config = ExtractConfig(corpus=corpus, out=features, preset="tiny")
        pipeline.run(config, progress=progress)
    heads = {}
    for modalities in _MODALITIES:
        with bar(f"3/5 training ({modalities})") as progress:
            training = TrainConfig(
                corpus=corpus,
                features=features,
                out=out / "runs",
                modalities=modalities,
                learning_rate=_LEARNING_RATE,
                epochs=_EPOCHS,
                seed=seed,
            )
            (heads[modalities],) = runs.train([training], epoch_done=_epoch_progress(progress))
    figures = {}
    for modalities, head in heads.items():
        others = tuple(heads[name] for name in _MODALITIES[1:]) if modalities == "both" else ()
        with bar(f"4/5 evaluating ({modalities})") as progress:
            scoring = EvaluateConfig(
                run=head, out=out / "report" / modalities, compare=others, robustness=modalities == "both"
            )
            figures[modalities] = score.run(scoring, progress=progress)
    with bar("5/5 predicting a clip") as progress:
        unseen = drawn.split("val")[0].media
        watched = video.run(PredictConfig(inputs=(heads["both"], unseen), out=out / "player"), progress=progress)
    for failure in watched.failed:
        raise failure
    full = figures["both"]["rows"]
    rows = [row for row in full if row["kind"] in ("run", "smoothed", "reading")]
    rows += [figures[name]["rows"][0] for name in _MODALITIES[1:]]
    rows += [row for row in full if row["kind"] == "baseline"]
    return DemoResult(
        figures=figures,
        table=summary.table(rows),
        page=out / "report" / "both" / "index.html",
        player=watched.pages[0],
    )


def _epoch_progress(progress: Callable[..., Any]) -> runs.EpochDone:
    def epoch_done(config: TrainConfig, line: Epoch) -> None:
        progress(line["epoch"], config.epochs, f"dev CCC {line['ccc_mean']:.3f}")

    return epoch_done
