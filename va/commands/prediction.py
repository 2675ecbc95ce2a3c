"""Commands about new videos."""

import json
import os
import sys
from typing import Any, Final

import typer

from va import console, cores, options, settings
from va.commands.app import app
from va.errors import VAError
from va.evaluate.predict_config import PredictConfig

_CLOSED_OUTPUT: Final = 128 + 13
"""Exit code of a program whose output nobody reads any more, as shells give it for SIGPIPE."""


@options.stage(app, "predict", PredictConfig)
def predict(config: PredictConfig) -> None:
    """Predict any videos with a run, or with CLIP and texts alone (--zero-shot); prints the pages' paths last.

    With --stream, one video while it comes.
    """
    console.settings("predict", settings.as_dict(config))
    cores.share()
    if config.stream:
        _stream(config)
        return
    with console.progress("loading libraries"):
        from va.evaluate.media import video
    with console.stoppable(lambda: _kept(config)), console.progress("predicting videos", estimate=False) as progress:
        summary = video.run(config, progress=progress)
    for note in summary.notes:
        console.note(note)
    if config.json:
        console.say(json.dumps(summary.figures))
    elif summary.pages:
        console.table(summary.figures["model"]["name"], *summary.rows)
        for page in summary.pages:
            console.say(str(page))
    if len(config.videos) == 1:
        for error in summary.failed:
            raise error
    for error in summary.failed:
        console.note(f"failed: {error.message}")
    if summary.failed:
        first = summary.failed[0]
        raise VAError(
            f"{len(summary.failed)} of {len(config.videos)} videos failed, the first because of {first.message}",
            f"{'The others are done. ' if summary.pages else ''}{first.hint}",
        )


def _kept(config: PredictConfig) -> str:
    if config.keep_features is None:
        return (
            "finished pages are kept, features are not: the same command begins again, --keep-features DIR would go on"
        )
    return f"finished pages are kept; the same command goes on from the features in {config.keep_features}"


def _stream(config: PredictConfig) -> None:
    with console.progress("loading libraries"):
        from va.evaluate.media import stream
    assert config.run is not None  # checked when the config was read
    stream.run(
        directory=config.run,
        source=str(config.videos[0]),
        step_s=config.step_s,
        realtime=config.realtime,
        faces=config.faces,
        clip_weights=config.clip_weights,
        ast_weights=config.ast_weights,
        face_weights=config.face_weights,
        device=config.device,
        emit=_emit,
        note=console.note,
    )


def _emit(answer: dict[str, Any]) -> None:
    """Print a line at once; end quietly when nobody reads on."""
    try:
        print(json.dumps(answer), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        raise typer.Exit(_CLOSED_OUTPUT) from None
