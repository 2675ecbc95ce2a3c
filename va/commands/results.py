"""Commands that end in figures."""

import json

from va import console, cores, options
from va.commands.app import app
from va.evaluate.config import EvaluateConfig


@options.stage(app, "evaluate", EvaluateConfig)
def evaluate(config: EvaluateConfig) -> None:
    """Score a run on a split by both protocols and write a report; prints the page's path last."""
    cores.train()
    with console.progress("loading libraries"):
        from va.evaluate import score, summary
    with console.progress("evaluating") as progress:
        figures = score.run(config, progress=progress)
    if config.json:
        console.say(json.dumps(summary.as_json(config.out)))
        return
    console.table(f"{figures['corpus']}, {figures['split']}", *summary.table(figures["rows"]))
    for remark in summary.remarks(figures):
        console.say(remark)
    console.say(str(config.out / "index.html"))
