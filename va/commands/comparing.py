"""The command that compares encoders."""

import json

from va import console, cores, options, settings
from va.commands.app import app
from va.train.compare_config import CompareConfig


@options.stage(app, "compare-encoders", CompareConfig)
def compare_encoders(config: CompareConfig) -> None:
    """Train the same head on every pair of cached encoders and rank them on dev; prints the page's path last."""
    console.settings("compare-encoders", settings.as_dict(config))
    cores.train()
    with console.progress("loading libraries"):
        from va.evaluate import comparison
        from va.train import compare
    with console.progress("training epochs of all trials") as progress:
        trained = compare.run(config, progress=progress)
    with console.progress("scoring runs") as progress:
        results = comparison.run(
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
        console.table(*comparison.table(results))
        console.note(f"ranked on {results['selected_on']}; {results['split']} is shown beside it and ranks nothing")
        console.say(str(config.out / "index.html"))
    comparison.require_all(results)
