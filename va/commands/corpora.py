"""Commands that make a corpus: `va corpus ...`."""

import typer

from va import console, options, settings
from va.data.config import AffWild2Config, SynthConfig

corpus_app = typer.Typer(no_args_is_help=True, help="Make a corpus manifest from a data set, or a synthetic corpus.")


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
            style=config.style,
        )
    name = "synthetic" if config.style == "cartoon" else f"synthetic-{config.style}"
    with console.progress("reading the tree") as progress:
        made = affwild2.read_tree(
            config.directory, out=config.directory, name=name, synthetic=True, sample=None, progress=progress
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
