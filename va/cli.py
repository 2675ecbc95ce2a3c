"""The command `va`: parse, call one function, print, exit code. No logic lives here.

Stages are imported inside their command, because NumPy, torch and transformers take seconds and
`va --help` must not wait for them.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from va import console, cores, options, settings, signals
from va.data.config import AffWild2Config, ImportConfig, SynthConfig
from va.errors import VAError
from va.evaluate.config import EvaluateConfig
from va.extract.config import ExtractConfig, PromptsConfig
from va.train.ablate_config import AblateConfig
from va.train.config import SweepConfig, TrainConfig
from va.version import __version__

app = typer.Typer(
    name="va",
    help="Valence and arousal over time from video and sound: extract once, train in seconds, report with intervals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
corpus_app = typer.Typer(no_args_is_help=True, help="Make a corpus manifest from a data set, or a synthetic corpus.")
app.add_typer(corpus_app, name="corpus")

weights_app = typer.Typer(no_args_is_help=True, help="Fetch encoders' weights, or say where they are.")
app.add_typer(weights_app, name="weights")

# typer re-exports or vendors click depending on its version; this is click's base of all usage errors in either.
_UsageError: Any = typer.BadParameter.__mro__[1]


def main() -> None:
    """Run the command line; a user's mistake becomes two lines and exit code 1 or 2, never a traceback."""
    try:
        status = app(standalone_mode=False)
    except VAError as error:
        console.error(error.message, error.hint)
        sys.exit(1)
    except _UsageError as error:
        command = error.ctx.command_path if error.ctx else "va"
        console.error(error.format_message(), f"See '{command} --help'.")
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        console.note("interrupted")
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        console.say(f"va {__version__}")
        raise typer.Exit


@options.stage(corpus_app, "synth", SynthConfig)
def synth(config: SynthConfig) -> None:
    """Draw a synthetic corpus with known truth: real mp4 files with faces, voices and annotations."""
    from va.data import affwild2, synthetic

    console.settings("corpus synth", settings.as_dict(config))
    with console.progress("drawing clips") as progress:
        synthetic.write_tree(
            config.directory,
            clips=config.clips,
            seconds=config.seconds,
            seed=config.seed,
            workers=config.processes,
            progress=progress,
        )
    with console.progress("reading the tree") as progress:
        made = affwild2.read_tree(
            config.directory, out=config.directory, name="synthetic", synthetic=True, progress=progress
        )
    console.say(str(made.path))


@options.stage(corpus_app, "affwild2", AffWild2Config)
def corpus_affwild2(config: AffWild2Config) -> None:
    """Read an Aff-Wild2 / ABAW tree into a manifest; nothing in the tree is changed."""
    from va.data import affwild2

    with console.progress("reading the tree") as progress:
        made = affwild2.read_tree(config.root, out=config.out, name=config.name, synthetic=False, progress=progress)
    console.say(str(made.path))


@options.stage(app, "extract", ExtractConfig)
def extract(config: ExtractConfig) -> None:
    """Stage one: run the encoders once over a corpus and keep their embeddings."""
    if not config.quiet:
        console.settings("extract", settings.as_dict(config))
    cores.share()
    with console.progress("loading libraries", quiet=config.quiet):
        from va.extract import pipeline
        from va.extract.progress import table
    bar = console.progress("extracting clips", quiet=config.quiet, estimate=False)
    with bar as progress, signals.finishing() as stop:
        summary = pipeline.run(config, progress=progress, stopping=lambda: stop.signal is not None)
    if summary.written and not config.quiet:
        console.table(*table(summary.stages, elapsed_s=summary.elapsed_s), aside=True)
    for line in summary.mended:
        console.note(line)
    for clip, reason in summary.failed.items():
        console.note(f"failed: {clip}: {reason}")
    console.say(f"{summary.written} written, {summary.present} already there, {len(summary.failed)} failed")
    for store in summary.stores:
        console.say(str(store))
    if stop.signal is not None and summary.left:
        console.note(f"stopped with {summary.left} clips to go; the same command goes on from here")
        raise typer.Exit(128 + stop.signal)
    if summary.failed:
        first = next(iter(summary.failed.values()))
        raise VAError(
            f"{len(summary.failed)} clips failed, the first because of {first}",
            f"The others are done. Mend or remove the media and run the same command again; see {config.out}/failures.",
        )


@options.stage(app, "import-features", ImportConfig)
def import_features(config: ImportConfig) -> None:
    """Make a verified store of features that were made elsewhere, one .npy or .npz per clip."""
    console.settings("import-features", settings.as_dict(config))
    with console.progress("loading libraries"):
        from va.data import imported
    with console.progress("importing clips") as progress:
        summary = imported.run(config, progress=progress)
    for line in summary.mended:
        console.note(line)
    for name in summary.extra:
        console.note(f"not a clip of the corpus: {name}")
    for clip, reason in summary.failed.items():
        console.note(f"failed: {clip}: {reason}")
    console.say(f"{summary.written} written, {summary.present} already there, {len(summary.failed)} failed")
    console.say(str(summary.store))
    if summary.failed:
        first = next(iter(summary.failed.values()))
        raise VAError(
            f"{len(summary.failed)} clips failed, the first because of {first}",
            "The others are done. Mend the files and run the same command again.",
        )


@options.stage(app, "prompts", PromptsConfig)
def prompts(config: PromptsConfig) -> None:
    """Make new text prototypes beside CLIP features; no frame is encoded again."""
    with console.progress("loading libraries"):
        from va.extract import prompts as prototypes
    path, made = prototypes.run(config)
    console.note(f"{len(made.texts)} texts in {len(made.templates)} templates")
    console.say(str(path))


@app.command()
def verify(features: Annotated[Path, typer.Argument(metavar="FEATURES", help="Features folder.")]) -> None:
    """Read every stored value again; exit code 0 only if all can be trusted."""
    from va.data.features import open_stores

    damaged = 0
    for store in open_stores(features):
        problems = list(store.problems())
        damaged += len(problems)
        for problem in problems:
            console.note(problem.message)
        console.say(f"{store.directory.name}: {store.count()} clips, {len(problems)} problems")
    if damaged:
        raise VAError(
            f"{features}: {damaged} clips or shards cannot be trusted",
            "Run 'va extract' again: it keeps what is whole in them and redoes only the rest.",
        )


_Encoders = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ENCODER]...", help="Encoder names as in 'va extract --encoders'.", show_default=False),
]


@weights_app.command("get")
def weights_get(encoders: _Encoders = None) -> None:
    """Download weights into the hub's cache, by default those of the paper's encoders."""
    from va.extract import fetch

    names = encoders or fetch.PAPER
    with console.progress("fetching weights") as progress:
        places = fetch.get(names, progress=progress)
    for place in places:
        console.say(str(place.path))
    fetch.require(places)


@weights_app.command("path")
def weights_path(encoders: _Encoders = None) -> None:
    """Print where weights are or would be, by default of all named encoders; exit code 1 if some are not there."""
    from va.extract import fetch

    places = [place for name in encoders or fetch.KNOWN for place in fetch.locate(name)]
    for place in places:
        console.say(str(place.path))
        console.note(f"{place.encoder}: {'there' if place.there else 'not there'}")
    fetch.require(places)


@options.stage(app, "train", TrainConfig)
def train(config: TrainConfig) -> None:
    """Stage two: train a head on cached features; prints the run directory last."""
    console.settings("train", settings.as_dict(config))
    cores.train()
    with console.progress("loading libraries"):
        from va.train import ensemble, runs
        from va.train.state import Epoch

    configs = runs.expand(config)

    def epoch_done(trial: TrainConfig, line: Epoch) -> None:
        which = "" if len(configs) == 1 else f"seed {trial.seed} " + (f"fold {trial.fold} " if trial.folds else "")
        console.note(
            f"{which}epoch {line['epoch']:>3}/{trial.epochs}  loss {line['loss']:.4f}  "
            f"ccc_loss {line['ccc_loss']:.4f}  kl {line['region_kl']:.4f}  "
            f"{'fold' if trial.folds else trial.select_on} CCC V {line['ccc_valence']:.3f}  "
            f"A {line['ccc_arousal']:.3f}  mean {line['ccc_mean']:.3f}" + (" best" if line["best"] else "")
        )

    found = runs.train(configs, epoch_done=epoch_done)
    if config.ensemble:
        console.say(str(ensemble.join(config, found)))
    else:
        for directory in found:
            console.say(str(directory))


@options.stage(app, "sweep-grid", SweepConfig)
def sweep_grid(config: SweepConfig) -> None:
    """Train many trials together and rank them on dev over seeds; prints the best one's run directory last."""
    console.settings("sweep-grid", settings.as_dict(config))
    cores.train()
    with console.progress("loading libraries"):
        from va.evaluate import sweep_page
        from va.train import sweep
    with console.progress("training epochs of all trials") as progress:
        results = sweep.run(config, progress=progress)
    page = sweep_page.write_page(results, config.out)
    for trial in results["failed"]:
        console.note(f"failed: {trial['run']}: {trial['message']}")
    if config.json:
        console.say(json.dumps(results))
    else:
        console.table(f"{results['corpus']['name']}, {results['ranked_on']['split']}", *sweep.table(results))
        console.say(str(page))
        console.say(str(config.out / results["best"]["run"]))
    sweep.require_all(results)


@options.stage(app, "ablate", AblateConfig)
def ablate(config: AblateConfig) -> None:
    """Run a table of the paper again on a corpus, beside the published figures; prints the page's path last."""
    console.settings("ablate", settings.as_dict(config))
    cores.train()
    with console.progress("loading libraries"):
        from va.evaluate import ablation
        from va.train import ablate as trials
    with console.progress("training epochs of all trials") as progress:
        trained = trials.run(config, progress=progress)
    with console.progress("scoring runs") as progress:
        results = ablation.run(
            trained,
            out=config.out,
            corpus=config.corpus,
            features_root=config.features,
            split=config.split,
            resamples=config.resamples,
            device=config.device,
            progress=progress,
        )
    for trial in results["failed"]:
        console.note(f"failed: {trial['run']}: {trial['message']}")
    if config.json:
        console.say(json.dumps(results))
    else:
        for title, header, rows in ablation.tables(results):
            console.table(title, header, rows)
        console.note("published: CCC mean on Aff-Wild2, quoted and not verified here; the page says what differs")
        console.say(str(config.out / "index.html"))
    ablation.require_all(results)


@options.stage(app, "evaluate", EvaluateConfig)
def evaluate(config: EvaluateConfig) -> None:
    """Score a run on a split by both protocols and write a report; prints the page's path last."""
    cores.train()
    with console.progress("loading libraries"):
        from va.evaluate import score
    with console.progress("evaluating") as progress:
        figures = score.run(config, progress=progress)
    console.table(f"{figures['corpus']}, {figures['split']}", *score.table(figures["rows"]))
    console.say(str(config.out / "index.html"))


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the corpus, features, runs and the report.")],
    clips: Annotated[int, typer.Option(help="Clips to draw.")] = 48,
    seconds: Annotated[float, typer.Option(help="Length of each clip in seconds.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Seed of the corpus and of training.")] = 0,
) -> None:
    """Run everything on a synthetic corpus with the demo encoders: draw, extract, train, evaluate, report."""
    cores.share()
    with console.progress("loading libraries"):
        from va import demo as chain
    result = chain.run(out, clips=clips, seconds=seconds, seed=seed, bar=console.progress)
    console.table("Demo encoders on a synthetic corpus, unseen identities, abaw protocol", *result.table)
    console.say(str(result.page))


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table.")] = False,
) -> None:
    """Check Python, torch, device, codecs, weights and free disk, and say how to mend what is missing."""
    from va import doctor as checks

    found = checks.run()
    if as_json:
        console.say(json.dumps([check._asdict() for check in found]))
    else:
        rows = [(check.name, check.status, check.detail) for check in found]
        console.table("va doctor", ("check", "status", "detail"), rows)
    if any(check.status == "missing" for check in found):
        raise VAError("something that va needs is missing", "Mend the lines marked 'missing' above.")


if __name__ == "__main__":
    main()
