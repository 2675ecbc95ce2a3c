"""`va reproduce affwild2`: from a licensed tree to the paper's tables, through the stages' own entry points.

Every step goes on where it was interrupted: extraction by clip, training by epoch, and a table or report that is done
costs its scoring only. Nothing here knows a figure: what is published is quoted by the pages that it is compared on.
"""

import functools
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from va import bounded, files, settings, signals
from va.data import affwild2, tree
from va.data.corpus import Corpus
from va.errors import VAError
from va.evaluate import ablation, score, summary
from va.evaluate.config import EvaluateConfig
from va.evaluate.pages import reproduction_page
from va.extract import pipeline, probing
from va.extract.config import ExtractConfig
from va.reproduce_config import ReproduceConfig
from va.train import ablate, ensemble, planning, runs
from va.train.ablate_config import AblateConfig
from va.train.config import TrainConfig
from va.train.state import Epoch
from va.version import __version__

Preset = Literal["paper", "table1", "tiny"]
Bar = Callable[[str], AbstractContextManager[Callable[..., None]]]

_CROPS: Final = "cropped_aligned"
"""Where the challenge's crops lie in a tree (`va/data/affwild2.py`)."""

_TINY_PAIR: Final = "tiny-clip+tiny-ast"


def run(config: ReproduceConfig, *, bar: Bar, note: Callable[[str], None]) -> dict[str, Any]:
    """Read the tree, extract, train and score every table and our own runs, and write one page over all.

    Args:
        config: The command's settings.
        bar: Opens a progress bar with a title; `console.progress`.
        note: Says something to a person.

    Returns:
        What `OUT/results.json` holds.

    Raises:
        VAError: A stage cannot do its work; what was done before is kept.
    """
    clock = _Clock()
    with clock.step("corpus"), bar("1/5 reading the tree") as progress:
        corpus = _corpus(config, progress, note)
    with clock.step("features"), bar("2/5 extracting") as progress:
        _extract(config, progress, note)
    tables = []
    for table in config.tables:
        with clock.step(f"table {table}"):
            tables.append(_table(config, table, bar))
    with clock.step("our own runs"):
        own = _own(config, bar)
    submission = None
    if config.sample is not None:
        with clock.step("submission"), bar("5/5 writing the submission") as progress:
            submission = _submission(config, own[-1], progress)
    results = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": __version__,
        "corpus": {"name": corpus.name, "clips": len(corpus.clips), "synthetic": corpus.synthetic},
        "settings": settings.without_paths(config),
        "seconds": clock.seconds,
        "tables": tables,
        "own": [_own_row(config, directory) for directory in own],
        "submission": submission,
        "demo_encoders": config.encoders == "tiny",
    }
    files.write_json(config.out / "results.json", results)
    files.write_text(config.out / "index.html", reproduction_page.render(results))
    return results


class _Clock:
    """How long each step took, this time."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._name, self._started = "", 0.0

    def step(self, name: str) -> "_Clock":
        self._name = name
        return self

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds[self._name] = round(time.perf_counter() - self._started, 1)


def _corpus(config: ReproduceConfig, progress: Callable[..., None], note: Callable[[str], None]) -> Corpus:
    """Read the tree, unless this very tree has been read already."""
    directory = config.out / "corpus"
    asked = {"name": config.name, "root": str(config.root.absolute()), "tree": _fingerprint(config.root)}
    if config.sample is not None:
        asked["sample"] = _hash_of(config.sample)
    record = directory / "asked.json"
    hint = f"Remove {directory} to read the tree again."
    if record.is_file() and bounded.read_json(record, what="what was read before", hint=hint) == asked:
        return Corpus.load(directory)
    corpus = affwild2.read_tree(
        config.root,
        out=directory,
        name=config.name,
        synthetic=False,
        sample=config.sample,
        probe=functools.partial(probing.probe, workers=0),
        progress=progress,
    )
    if corpus.skipped:
        note(f"{len(corpus.skipped)} things in the tree were skipped; {corpus.path} says what and why")
    files.write_json(record, asked)
    return corpus


def _fingerprint(root: Path) -> str:
    """Hash names, sizes and times of a tree's files, so that a mended or removed one is noticed."""
    found = tree.find_files(root, [])
    listed = {str(path): [path.stat().st_size, path.stat().st_mtime_ns] for path in found if path.is_file()}
    return settings.digest(listed)


def _hash_of(sample: Path) -> str:
    try:
        return files.hash_file(sample)
    except OSError as error:
        raise VAError(f"{sample}: cannot be read ({error.strerror})", "Check the path given to --sample.") from None


def _extract(config: ReproduceConfig, progress: Callable[..., None], note: Callable[[str], None]) -> None:
    """Extract the encoders of every preset that is needed; each brings a CLIP of its own, with weights of its own."""
    presets: list[tuple[Preset, Path | None]] = [(config.encoders, config.clip_weights)]
    if config.encoders == "paper" and 1 in config.tables:
        presets.append(("table1", config.clip_32_weights))
    crops = config.crops or config.root / _CROPS
    faces = config.faces
    if faces == "auto":
        faces = "crops" if crops.is_dir() else "detect"
        note(f"faces: {faces}" + (f", from {crops}" if faces == "crops" else f", since {crops} is not there"))
    for preset, clip_weights in presets:
        extraction = ExtractConfig(
            corpus=config.out / "corpus",
            out=config.out / "features",
            preset=preset,
            faces=faces,
            crops=crops if faces == "crops" else None,
            clip_weights=clip_weights,
            ast_weights=config.ast_weights,
            precision=config.precision,
            frame_batch=config.frame_batch,
            audio_batch=config.audio_batch,
            device=config.device,
        )
        _extract_preset(extraction, progress, note)


def _extract_preset(extraction: ExtractConfig, progress: Callable[..., None], note: Callable[[str], None]) -> None:
    with signals.finishing() as stop:
        found = pipeline.run(extraction, progress=progress, stopping=lambda: stop.signal is not None)
    if stop.signal is not None:
        note(f"stopped with {found.left} clips to go; the same command goes on from here")
        signal.raise_signal(stop.signal)
    if found.failed:
        clip, reason = next(iter(found.failed.items()))
        raise VAError(
            f"{len(found.failed)} clips failed in extraction, the first, '{clip}', because of {reason}",
            f"Mend or remove the media, or leave them out with 'va corpus check {extraction.corpus} --fix', and run "
            f"the same command again; see {extraction.out}/failures.",
        )


def _table(config: ReproduceConfig, table: int, bar: Bar) -> dict[str, Any]:
    out = config.out / f"table{table}"
    pairs: tuple[str, ...] = ()
    if config.encoders == "tiny":
        pairs = ("pixels+loudness", _TINY_PAIR) if table == 1 else (_TINY_PAIR,)
    wanted = AblateConfig(
        corpus=config.out / "corpus",
        features=config.out / "features",
        out=out,
        table=table,
        pairs=pairs,
        seeds=config.seeds,
        select_on=config.select_on,
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        resamples=config.resamples,
        device=config.device,
    )
    with bar(f"3/5 training table {table}") as progress:
        trained = ablate.run(wanted, progress=progress)
    with bar(f"3/5 scoring table {table}") as progress:
        results = ablation.run(
            trained,
            out=out,
            corpus=wanted.corpus,
            features_root=wanted.features,
            split=wanted.split,
            resamples=wanted.resamples,
            device=wanted.device,
            progress=progress,
        )
    ablation.require_all(results)
    return {**results, "page": f"table{table}/index.html"}


def _own(config: ReproduceConfig, bar: Bar) -> list[Path]:
    """Train and score our defaults: one run per seed and, for several, their mean as the last; gives their folders."""
    training = TrainConfig(
        corpus=config.out / "corpus",
        features=config.out / "features",
        out=config.out / "runs",
        face_encoder="tiny-clip" if config.encoders == "tiny" else "clip-vit-b-16",
        voice_encoder="tiny-ast" if config.encoders == "tiny" else "ast",
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        seeds=config.seeds,
        device=config.device,
    )
    with bar("4/5 training our own runs") as progress:
        total = config.epochs * len(config.seeds)
        done = 0

        def epoch_done(trial: TrainConfig, line: Epoch) -> None:
            nonlocal done
            done += 1
            progress(done, total, f"seed {trial.seed}, dev CCC {line['ccc_mean']:.3f}")

        found = runs.train(planning.expand(training), epoch_done=epoch_done)
    if len(found) > 1:
        found = [*found, ensemble.join(training, found)]
    for directory in found:
        with bar(f"4/5 evaluating {directory.name}") as progress:
            score.run(
                EvaluateConfig(
                    run=directory,
                    out=config.out / "reports" / directory.name,
                    robustness=directory == found[-1],
                    resamples=config.resamples,
                    device=config.device,
                ),
                progress=progress,
            )
    return found


def _own_row(config: ReproduceConfig, directory: Path) -> dict[str, Any]:
    """What the page shows of one of our own runs, read back from its report."""
    figures = summary.as_json(config.out / "reports" / directory.name)
    rows = [row for row in figures["rows"] if row["kind"] in ("run", "smoothed")]
    return {"run": directory.name, "page": f"reports/{directory.name}/index.html", "rows": rows}


def _submission(config: ReproduceConfig, directory: Path, progress: Callable[..., None]) -> dict[str, Any]:
    out = config.out / "submission"
    figures = score.run(
        EvaluateConfig(run=directory, out=out, split="test", submission=config.sample, device=config.device),
        progress=progress,
    )
    return {"run": directory.name, "said": figures["submission"], "file": "submission/submission.txt"}
