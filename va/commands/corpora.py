"""Commands that make, show and check a corpus: `va corpus ...`."""

import json

import typer

from va import console, options, settings
from va.data.check_config import CheckConfig, ShowConfig
from va.data.config import AffWild2Config, SynthConfig

corpus_app = typer.Typer(no_args_is_help=True, help="Make, show and check the manifest of a corpus.")


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
            config.directory, out=config.directory, name="synthetic", synthetic=True, sample=None, progress=progress
        )
    console.say(str(made.path))


@options.stage(corpus_app, "affwild2", AffWild2Config)
def corpus_affwild2(config: AffWild2Config) -> None:
    """Read an Aff-Wild2 / ABAW tree into a manifest; nothing in the tree is changed."""
    from va.data import affwild2

    with console.progress("reading the tree") as progress:
        made = affwild2.read_tree(
            config.root, out=config.out, name=config.name, synthetic=False, sample=config.sample, progress=progress
        )
    console.say(str(made.path))


@options.stage(corpus_app, "show", ShowConfig)
def show(config: ShowConfig) -> None:
    """Say what a corpus holds, from its manifest; --out writes a page and prints its path last."""
    from va.data import overview
    from va.data.corpus import Corpus
    from va.evaluate.pages import corpus_page, corpus_tables

    with console.progress("reading labels") as progress:
        found = overview.overview(Corpus.load(config.corpus), progress=progress)
    if config.json:
        console.say(json.dumps(found))
    else:
        for title, header, rows in corpus_tables.printed(found):
            console.table(title, header, rows)
        for remark in corpus_tables.remarks(found):
            console.say(remark)
    if config.out is not None:
        page = corpus_page.write_page(found, config.out)
        (console.note if config.json else console.say)(str(page))


@options.stage(corpus_app, "check", CheckConfig)
def check(config: CheckConfig) -> None:
    """Look for what would go wrong later: media, annotations, crops, doubles; exit code 1 if there are errors."""
    with console.progress("loading libraries", quiet=True):
        from va.extract.checking import run, said
    if config.unfix:
        taken = run.unfix(config)
        console.say(f"decisions taken back: {taken}")
        return
    with console.progress("checking") as progress:
        checked = run.run(config, progress=progress)
    if config.json:
        console.say(json.dumps(checked.as_json()))
    else:
        rows = said.rows(checked)
        if rows:
            console.table(checked.name, said.HEADER, rows, text=len(said.HEADER))
        console.say(said.summary(checked))
        for one in checked.decided:
            console.say(f"decided: {one.do} {one.clip}: {one.why}")
        if config.out is not None:
            console.say(str(config.out / "findings.csv"))
    if checked.errors:
        raise typer.Exit(1)
