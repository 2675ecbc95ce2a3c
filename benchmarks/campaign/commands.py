"""The commands that are disturbed: one small entry each."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from campaign import looking

HEAD: Final = ("--device", "cpu", "--width", "16", "--num-heads", "2", "--learning-rate", "3e-3")
TINY: Final = ("--temporal", "tcn", "--ema", "0.9", "--schedule", "cosine", *HEAD)


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command with small inputs.

    Args:
        name: Its row in the table.
        needs: Folders of the material that it reads.
        argv: Arguments, given the folder of the inputs and that of the outputs.
        units: Counts the pieces of work that can be seen in the output folder and in what was said.
        kept: Counts the same pieces in the output folder and in what is readable there after the process has ended.
        inputs: Patterns of files that it reads and that may be damaged, below the inputs.
        outputs: Patterns of its files that may be damaged between two runs, below the outputs.
        blind: Inputs in which a wrong bit cannot be told from another input.
    """

    name: str
    needs: tuple[str, ...]
    argv: Callable[[Path, Path], list[str]]
    units: Callable[[Path, str], int]
    kept: Callable[[Path, dict[str, str]], int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    blind: tuple[str, ...] = ()

    def pick(self, patterns: tuple[str, ...], root: Path, rng: random.Random) -> Path | None:
        """Draw a pattern that has files, then one of them; None where nothing is there."""
        found = [sorted(file for file in root.glob(pattern) if file.is_file()) for pattern in patterns]
        there = [files for files in found if files]
        return rng.choice(rng.choice(there)) if there else None


@dataclass
class Commits:
    """Counts commits of clips: loose files are packed away, so those that were seen are kept."""

    patterns: tuple[str, ...] = ("*/clips/*.h5",)
    seen: set[str] = field(default_factory=set)

    def __call__(self, out: Path, said: str) -> int:
        """Look."""
        for pattern in self.patterns:
            self.seen |= {str(file) for file in out.glob(pattern) if not file.name.startswith(".")}
        return len([name for name in self.seen if name.startswith(str(out))])


@dataclass
class Tuning:
    """Counts clips that are decoded or extracted, and epochs."""

    commits: Commits = field(default_factory=lambda: Commits(("inputs/*/clips/*", "*/features/*/clips/*")))

    def __call__(self, out: Path, said: str) -> int:
        """Look."""
        return self.commits(out, said) + epochs("*/log.jsonl")(out, said)


def epochs(pattern: str) -> Callable[[Path, object], int]:
    """Count the lines of logs."""

    def count(out: Path, other: object = None) -> int:
        found = 0
        for file in out.glob(pattern):
            found += file.read_bytes().count(b"\n")
        return found

    return count


@dataclass
class Steps:
    """Counts the steps that `va evaluate` says, and the files that it makes."""

    seen: set[str] = field(default_factory=set)

    def __call__(self, out: Path, said: str) -> int:
        """Look."""
        self.seen |= {str(file).removesuffix(".tmp") for file in out.glob("*")}
        return len([name for name in self.seen if name.startswith(str(out))]) + said.count("evaluating:")


def _train(*more: str) -> Callable[[Path, Path], list[str]]:
    def argv(given: Path, out: Path) -> list[str]:
        return ["train", str(given / "small"), str(given / "small/features"), "--out", str(out), *TINY, *more]

    return argv


NOTHING: Final = 1 << 20
"""More than can be lost: a command that is done again as a whole keeps nothing."""

RUN: Final = ("*/model.safetensors", "*/log.jsonl", "*/run.json", "*/state.safetensors", "*/previous.safetensors")
CACHED: Final = ("small/corpus.json", "small/labels/*.npz", "small/features/*/clips/*.h5", "small/features/*/shards/*")

COMMANDS: Final = {
    command.name: command
    for command in (
        Command(
            name="extract",
            needs=("media",),
            argv=lambda given, out: [
                *("extract", str(given / "media"), "--out", str(out), "--preset", "tiny", "--device", "cpu"),
                *("--readers", "2", "--shard-mb", "0.02"),
            ],
            units=Commits(),
            kept=lambda out, found: looking.values(found),
            inputs=("media/corpus.json", "media/**/*.mp4"),
            outputs=("*/shards/*.h5", "*/clips/*.h5", "*/identity.json", "*/prototypes*"),
            blind=(".mp4",),
        ),
        Command(
            name="train",
            needs=("small",),
            argv=_train("--epochs", "20", "--patience", "20"),
            units=epochs("*/log.jsonl"),
            kept=epochs("*/log.jsonl"),
            inputs=CACHED,
            outputs=RUN,
        ),
        Command(
            name="train, stack",
            needs=("small",),
            argv=_train("--epochs", "8", "--patience", "8", "--seeds", "0,1,2", "--ensemble"),
            units=epochs("*/log.jsonl"),
            kept=epochs("*/log.jsonl"),
            inputs=CACHED,
            outputs=RUN,
        ),
        Command(
            name="sweep-grid",
            needs=("small",),
            argv=lambda given, out: [
                *("sweep-grid", str(given / "small"), str(given / "small/features"), "--out", str(out), *TINY),
                *("--centers", "0.66,1.0", "--sigmas", "0.45", "--lambdas", "0,0.2", "--seeds", "0,1"),
                *("--epochs", "6", "--patience", "6"),
            ],
            units=epochs("runs/*/log.jsonl"),
            kept=epochs("runs/*/log.jsonl"),
            inputs=CACHED,
            outputs=(*(f"runs/{pattern}" for pattern in RUN), "results.json", "index.html"),
        ),
        Command(
            name="evaluate",
            needs=("small", "runs"),
            argv=lambda given, out: [
                *("evaluate", str(next((given / "runs").glob("tcn-*"))), "--out", str(out), "--device", "cpu"),
                *("--corpus", str(given / "small"), "--features", str(given / "small/features")),
            ],
            units=Steps(),
            kept=lambda out, found: NOTHING,
            inputs=(*CACHED, "runs/*/model.safetensors", "runs/*/model.safetensors", "runs/*/run.json"),
            outputs=("metrics.json", "predictions.csv", "predictions.h5", "index.html"),
        ),
        Command(
            name="finetune",
            needs=("fine",),
            argv=lambda given, out: [
                *("finetune", str(given / "fine/corpus"), "--from", str(next((given / "fine/runs").glob("gru-*")))),
                *("--out", str(out), "--ast-weights", str(given / "fine/ast"), "--readers", "1", "--device", "cpu"),
                *("--batch-size", "4", "--micro-batch", "4", "--no-checkpointing", "--epochs", "3", "--patience", "3"),
                *("--save-minutes", "0.000001", "--ema", "0.5"),
            ],
            units=Tuning(),
            kept=lambda out, found: (
                looking.values(found) + sum("/clips/" in name for name in found) + epochs("*/log.jsonl")(out)
            ),
            inputs=("fine/corpus/**/*.mp4", "fine/corpus/labels/*.npz", "fine/runs/*/model.safetensors", "fine/ast/*"),
            outputs=(
                *(*RUN, "*/best-*.safetensors", "*/encoders/**/*.safetensors"),
                *("inputs/*/clips/*", "inputs/*/identity.json", "*/features/*/clips/*"),
            ),
            blind=(".mp4",),
        ),
    )
}
