"""Commands of stage one: features, prototypes, weights."""

from pathlib import Path
from typing import Annotated

import typer

from va import console, cores, options, settings, signals
from va.commands.app import app, group
from va.data.config import ImportConfig
from va.errors import VAError
from va.extract.config import ExtractConfig, PromptsConfig

weights_app = group("Fetch encoders' weights, or say where they are.")


@options.stage(app, "extract", ExtractConfig)
def extract(config: ExtractConfig) -> None:
    """Stage one: run the encoders once over a corpus and keep their embeddings."""
    if not config.quiet:
        console.settings("extract", settings.as_dict(config))
    cores.share()
    with console.progress("loading libraries", quiet=config.quiet):
        from va.extract import pipeline, scaleout
        from va.extract.progress import table
    run = scaleout.run if config.engine == "ray" else pipeline.run
    bar = console.progress("extracting clips", quiet=config.quiet, estimate=False)
    with bar as progress, signals.finishing() as stop:
        summary = run(config, progress=progress, stopping=lambda: stop.signal is not None)
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
    kept = "clips imported so far are kept; the same command goes on with the others"
    with console.stoppable(lambda: kept), console.progress("importing clips") as progress:
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
    """Make new text prototypes beside CLIP features, or keep the text tower there; no frame is encoded again."""
    with console.progress("loading libraries"):
        from va.extract import prompts as prototypes
    written = prototypes.run(config)
    made = written.prototypes
    console.note(f"{len(made.texts)} texts in {len(made.templates)} templates")
    for path in written.files:
        console.say(str(path))


@app.command("verify")
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
