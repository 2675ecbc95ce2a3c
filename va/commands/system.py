"""Commands about the tool itself: a demonstration, and whether it can work here."""

import json
from pathlib import Path
from typing import Annotated

import typer

from va import console, cores
from va.commands.app import app
from va.errors import VAError


@app.command("demo")
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the corpus, features, runs and pages.")],
    clips: Annotated[int, typer.Option(help="Clips to draw.")] = 48,
    seconds: Annotated[float, typer.Option(help="Length of each clip in seconds.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Seed of the corpus and of training.")] = 0,
) -> None:
    """Run everything on a synthetic corpus with the demo encoders: draw, extract, train, evaluate, predict.

    Prints a table, then the paths of the report and of a page that plays a clip with its prediction.
    """
    cores.share()
    with console.progress("loading libraries"):
        from va import demo as chain
    result = chain.run(out, clips=clips, seconds=seconds, seed=seed, bar=console.progress)
    console.table("Demo encoders on a synthetic corpus, unseen identities, abaw protocol", *result.table)
    for warning in result.figures["both"]["warnings"]:
        console.note(warning)
    console.say(str(result.page))
    console.say(str(result.player))


@app.command("doctor")
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
