"""Commands about new videos."""

import json

from va import console, cores, options, settings
from va.commands.app import app
from va.errors import VAError
from va.evaluate.predict_config import PredictConfig


@options.stage(app, "predict", PredictConfig)
def predict(config: PredictConfig) -> None:
    """Predict any videos with a run, or with CLIP and texts alone (--zero-shot); prints the pages' paths last."""
    console.settings("predict", settings.as_dict(config))
    cores.share()
    with console.progress("loading libraries"):
        from va.evaluate import video
    with console.progress("predicting videos", estimate=False) as progress:
        summary = video.run(config, progress=progress)
    for note in summary.notes:
        console.note(note)
    if config.json:
        console.say(json.dumps(summary.figures))
    elif summary.pages:
        console.table(summary.figures["model"]["name"], *summary.rows)
        for page in summary.pages:
            console.say(str(page))
    for reason in summary.failed.values():
        console.note(f"failed: {reason}")
    if summary.failed:
        first = next(iter(summary.failed.values()))
        if len(config.videos) == 1:
            raise VAError(first, "Give a video that a player plays; re-encode it if it does not play.")
        raise VAError(
            f"{len(summary.failed)} of {len(config.videos)} videos failed, the first because of {first}",
            "The others are done. Give videos that a player plays; re-encode those that do not.",
        )
