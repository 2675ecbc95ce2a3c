"""Commands that make, show and check a corpus: `va corpus ...`."""

import functools
import json
import shlex
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from va import console, options, settings
from va.commands.app import group
from va.data.check_config import CheckConfig, ShowConfig
from va.data.config import (
    AdapterConfig,
    AfewVaConfig,
    AffWild2Config,
    OmgConfig,
    RecolaConfig,
    RecordingsConfig,
    SewaConfig,
    SynthConfig,
    TableConfig,
    parse_scale,
)

if TYPE_CHECKING:  # NumPy and the video library are loaded by the commands that need them
    from va.data.corpus import Corpus
    from va.data.sources import Probe

corpus_app = group("Make, show and check the manifest of a corpus.")


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
    _made(made, following="va extract {} --out FEATURES --preset tiny")


@options.stage(corpus_app, "affwild2", AffWild2Config)
def corpus_affwild2(config: AffWild2Config) -> None:
    """Read an Aff-Wild2 / ABAW tree into a manifest; nothing in the tree is changed."""
    from va.data import affwild2

    with console.progress("looking at videos") as progress:
        made = affwild2.read_tree(
            config.root,
            out=config.out,
            name=config.name,
            synthetic=False,
            sample=config.sample,
            annotations=config.annotations,
            as_meant=config.as_meant,
            probe=_probe(config),
            progress=progress,
        )
    meant = 0 if config.as_meant else affwild2.count_readable(config.root, made.skipped)
    _made(made, f"{meant} of them may be readable: --as-meant; 'va corpus check {config.root}' says more" * bool(meant))


@options.stage(corpus_app, "afewva", AfewVaConfig)
def corpus_afewva(config: AfewVaConfig) -> None:
    """Read AFEW-VA into a manifest; its pictures are packed, unchanged, into one video per clip below --out."""
    from va.data import afewva

    console.note(f"{config.out / 'media'}: one video per clip, as large as its pictures, goes here")
    with console.progress("packing pictures, looking at videos") as progress:
        made = afewva.read_tree(
            config.root,
            out=config.out,
            name=config.name,
            rate_hz=config.rate_hz,
            val_share=config.val_share,
            probe=_probe(config),
            progress=progress,
        )
    _made(made)


@options.stage(corpus_app, "omg", OmgConfig)
def corpus_omg(config: OmgConfig) -> None:
    """Read OMG-Emotion into a manifest: one label per utterance, which each of its frames gets."""
    from va.data import omg

    with console.progress("looking at videos") as progress:
        made = omg.read_tree(config.root, out=config.out, name=config.name, probe=_probe(config), progress=progress)
    _made(made)


@options.stage(corpus_app, "recola", RecolaConfig)
def corpus_recola(config: RecolaConfig) -> None:
    """Read RECOLA, or any files of one axis each (ARFF or CSV in valence/ and arousal/), into a manifest."""
    from va.data import recola

    _recordings(config, config.name, recola.read_tree)


@options.stage(corpus_app, "sewa", SewaConfig)
def corpus_sewa(config: SewaConfig) -> None:
    """Read SEWA, or any labels/*.csv of name;time;arousal;valence, into a manifest."""
    from va.data import sewa

    _recordings(config, config.name, sewa.read_tree)


@options.stage(corpus_app, "table", TableConfig)
def corpus_table(config: TableConfig) -> None:
    """Read a CSV or Parquet file with a row per label into a manifest."""
    from va.data import table

    names = ("media", "time", "valence", "arousal", "split", "identity", "clip")
    with console.progress("looking at videos") as progress:
        made = table.read_table(
            config.table,
            out=config.out,
            name=config.name,
            columns=table.Columns(**{name: getattr(config, name) for name in names}),
            valence_scale=parse_scale(config.scale, option="--scale"),
            arousal_scale=parse_scale(config.arousal_scale or config.scale, option="--arousal-scale"),
            media_root=config.media_root,
            val_share=config.val_share,
            probe=_probe(config),
            progress=progress,
        )
    _made(made, _off_scale(made))


_MOST_ROWS = 10
"""Rows of the table for one reason; all are in the manifest."""


def _recordings(config: RecordingsConfig, name: str, read_tree: Callable[..., "Corpus"]) -> None:
    with console.progress("looking at videos") as progress:
        made = read_tree(
            config.root,
            out=config.out,
            name=name,
            scale=parse_scale(config.scale, option="--scale"),
            val_share=config.val_share,
            probe=_probe(config),
            progress=progress,
        )
    _made(made, _off_scale(made))


def _off_scale(made: "Corpus") -> str:
    """Say what to do about labels that are off the scale; "" where none are."""
    off = any("off the scale" in one.why for one in made.skipped)
    return "labels off the scale: give --scale, e.g. --scale 1..9" if off else ""


def _probe(config: AdapterConfig) -> "Probe":
    from va.extract import probing

    return functools.partial(probing.probe, workers=config.workers)


def _made(
    made: "Corpus", remark: str = "", following: str = "va corpus check {0}, then va extract {0} --out FEATURES"
) -> None:
    """Say what is not in a corpus and why, with an adapter's own remark, then what is, what comes next, where it is."""
    reasons = defaultdict(list)
    for one in made.skipped:
        reasons[one.why].append(one.what)
    rows = []
    for why, what in sorted(reasons.items(), key=lambda item: (len(item[1]), item[0])):
        rows += [(name, why) for name in what[:_MOST_ROWS]]
        if len(what) > _MOST_ROWS:
            rows.append((f"and {len(what) - _MOST_ROWS} more", why))
    if rows:
        console.table("not in the corpus", ["what", "why"], rows, aside=True, text=2)
        console.note(f"{len(made.skipped)} files or lines are left out; all are listed in corpus.json")
    if remark:
        console.note(remark)
    counts = Counter(clip.split for clip in made.clips)
    splits = ", ".join(f"{count} {split}" for split, count in sorted(counts.items()))
    minutes, people = sum(clip.duration_s for clip in made.clips) / 60, len({clip.identity for clip in made.clips})
    folder = made.path.parent
    clips = "1 clip" if len(made.clips) == 1 else f"{len(made.clips):,} clips"
    whose = "1 identity" if people == 1 else f"{people:,} identities"
    console.note(f"{clips}: {splits}; {minutes:,.1f} minutes of {whose}, in {folder}")
    for split in ("train", "val"):
        if not counts[split]:
            console.note(f"warning: the split {split} has no clip" + (" left" if made.skipped else ""))
    console.note(f"next: {following.format(shlex.quote(str(folder)))}")
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
        if end := said.decisions(checked):
            console.say(end)
        if config.out is not None:
            console.say(str(config.out / "findings.csv"))
    if checked.errors:
        raise typer.Exit(1)
