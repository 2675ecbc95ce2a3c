"""Commands that repeat a publication: `va reproduce ...`."""

import json

from va import console, cores, options, settings
from va.commands.app import group
from va.reproduce_config import ReproduceConfig

reproduce_app = group("Repeat the paper's tables from a licensed data set.")


@options.stage(reproduce_app, "affwild2", ReproduceConfig, section="reproduce")
def reproduce_affwild2(config: ReproduceConfig) -> None:
    """From an Aff-Wild2 tree to the paper's tables, our own runs and a submission; prints the page's path last.

    The same command goes on where it was stopped.
    """
    console.settings("reproduce", settings.as_dict(config))
    cores.share()
    with console.progress("loading libraries"):
        from va import reproduce
        from va.evaluate import ablation, row_scores
    with console.stoppable(lambda: "what is finished is kept; the same command goes on from there"):
        results = reproduce.run(config, bar=console.progress, note=console.note)
    if config.json:
        console.say(json.dumps(results))
        return
    for table in results["tables"]:
        for title, header, rows in ablation.tables(table):
            console.table(title, header, rows)
    for few in {row_scores.few_clips(table) for table in results["tables"]} - {""}:
        console.note(few)
    console.note("published: CCC mean on Aff-Wild2, quoted and not verified here; the page says what differs")
    if results["submission"] is not None:
        console.say(results["submission"]["said"])
    console.say(str(config.out / "index.html"))
