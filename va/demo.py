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
    """

    figures: dict[Modalities, ReportFigures]
    table: tuple[tuple[str, ...], list[tuple[str, ...]]]
    page: Path


def run(out: Path, *, clips: int, seconds: float, seed: int, bar: Bar) -> DemoResult:
    """Draw a corpus, extract it, train three heads and evaluate them on unseen identities.

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
    with bar("1/4 drawing clips") as progress:
        synthetic.write_tree(
            corpus, clips=clips, seconds=seconds, seed=seed, workers=os.cpu_count() or 1, progress=progress
        )
    with bar("1/4 reading the tree") as progress:
        affwild2.read_tree(corpus, out=corpus, name="synthetic", synthetic=True, sample=None, progress=progress)
    with bar("2/4 extracting") as progress:
        config = ExtractConfig(corpus=corpus, out=features, preset="tiny")
        pipeline.run(config, progress=progress)
    figures = {}
    for modalities in _MODALITIES:
        with bar(f"3/4 training ({modalities})") as progress:
            training = TrainConfig(
                corpus=corpus,
                features=features,
                out=out / "runs",
                modalities=modalities,
                learning_rate=_LEARNING_RATE,
                epochs=_EPOCHS,
                seed=seed,
            )
            (directory,) = runs.train([training], epoch_done=_epoch_progress(progress))
        with bar(f"4/4 evaluating ({modalities})") as progress:
            page = out / "report" / modalities
            figures[modalities] = score.run(EvaluateConfig(run=directory, out=page), progress=progress)
    rows = [figures[name]["rows"][0] for name in _MODALITIES] + list(figures["both"]["rows"][1:])
    return DemoResult(figures=figures, table=summary.table(rows), page=out / "report" / "both" / "index.html")


def _epoch_progress(progress: Callable[..., Any]) -> runs.EpochDone:
    def epoch_done(config: TrainConfig, line: Epoch) -> None:
        progress(line["epoch"], config.epochs, f"dev CCC {line['ccc_mean']:.3f}")

    return epoch_done
