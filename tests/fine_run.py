"""A drawn corpus of real mp4 files, its features by two small encoders, and a run on them: where fine-tuning starts.

The audio encoder is an AST of two blocks for two seconds of sound: the demo encoder's ten take most of a test's time.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import ASTConfig, ASTModel

from va.data import affwild2, synthetic
from va.extract import pipeline
from va.extract.config import ExtractConfig
from va.train import runs
from va.train.config import TrainConfig
from va.train.finetune_config import FinetuneConfig
from va.train.finetuning import finetune
from va.train.finetuning.finetune import Finetuned, Screen

WINDOWS: dict[str, Any] = {"window_s": 2.0, "stride_s": 1.0}
HEAD: dict[str, Any] = {"width": 16, "num_heads": 2}
ENCODERS = ("tiny-clip", "ast")
AST: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_length": 208,
}


class Fine(NamedTuple):
    """Where things are."""

    corpus: Path
    features: Path
    inputs: Path
    ast: Path
    run: Path

    def train(self, out: Path, **changes: Any) -> Path:
        """Train a head on cached features."""
        given = {**WINDOWS, **HEAD, "batch_size": 4, "epochs": 2, "device": "cpu", **changes}
        config = TrainConfig(corpus=self.corpus, features=self.features, out=out, **given)
        return runs.train([config], epoch_done=lambda config, line: None)[0]

    def config(self, out: Path, **changes: Any) -> FinetuneConfig:
        """Settings of a fine-tuning of some seconds, from the run unless told otherwise."""
        given: dict[str, Any] = {"batch_size": 4, "epochs": 2, "device": "cpu", "extract": False, "micro_batch": 4}
        given |= {
            "checkpointing": False,
            "inputs": self.inputs,
            "start": self.run,
            "readers": 1,
            "ast_weights": self.ast,
        }
        given |= changes
        return FinetuneConfig(corpus=self.corpus, out=out, **given)

    def finetune(self, out: Path, **changes: Any) -> Path:
        """Fine-tune; gives the run directory."""
        return tune(self.config(out, **changes)).directory


def tune(config: FinetuneConfig, heard: Callable[[str], object] = lambda text: None) -> Finetuned:
    """Fine-tune; `heard` takes notes."""
    return finetune.run(config, screen=Screen(bars=quiet, note=heard, epoch_done=lambda config, line: None))


def quiet(title: str) -> AbstractContextManager[Callable[..., None]]:
    """Show no progress."""
    return nullcontext(lambda *told: None)


def build(root: Path) -> Fine:
    """Make eight clips of four and a half seconds; of their four windows the last is padded."""

    def ignore(*told: object) -> None:
        """Hear nothing."""

    corpus = root / "corpus"
    synthetic.write_tree(corpus, clips=8, seconds=4.5, seed=0, workers=1, progress=ignore)
    affwild2.read_tree(corpus, out=corpus, name="synthetic", synthetic=True, sample=None, progress=ignore)
    torch.manual_seed(0)
    ASTModel(ASTConfig(**AST)).save_pretrained(root / "ast")
    extract = ExtractConfig(
        corpus=corpus,
        out=root / "features",
        encoders=ENCODERS,
        ast_weights=root / "ast",
        device="cpu",
        readers=1,
        **WINDOWS,
    )
    assert not pipeline.run(extract, progress=ignore).failed
    made = Fine(corpus, root / "features", root / "inputs", root / "ast", root)
    return made._replace(run=made.train(root / "runs"))
