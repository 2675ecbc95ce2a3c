"""Where an evaluation's figures come from, in words and as attributes: for the page, for `predictions.h5`."""

from collections.abc import Sequence
from typing import Any

from va import settings
from va.data.corpus import Clip
from va.evaluate import predict
from va.evaluate.config import EvaluateConfig
from va.evaluate.figures import ReportFigures
from va.evaluate.predict import Inputs
from va.train.checkpoint import Run


def attributes(figures: ReportFigures, loaded: Run) -> dict[str, Any]:
    """Say in `predictions.h5` what its arrays are: run, versions, fill, smoothing; no time of writing."""
    smoothing = figures["smoothing"]
    return {
        "run": figures["run"],
        "corpus": figures["corpus"],
        "split": figures["split"],
        "demo_encoders": figures["is_demo"],
        "fill": figures["fill"],
        "label_shift_s": figures["label_shift_s"],
        "smoothing_kernel": smoothing["kernel"] if smoothing else "none",
        "smoothing_width_s": smoothing["width_s"] if smoothing else 0.0,
        "region_texts": {str(index): words for index, words in enumerate(figures["plane"]["region_texts"])},
        "versions": loaded.info["versions"],
    }


def pairs(config: EvaluateConfig, loaded: Run, inputs: Inputs, clips: Sequence[Clip]) -> list[tuple[str, str]]:
    """List everything that the figures depend on, as (key, value) in the order shown."""
    info = loaded.info
    found = [
        ("Corpus", f"{inputs.corpus.name} ({'synthetic' if inputs.corpus.synthetic else inputs.corpus.path})"),
        ("Scored split", f"{config.split}, {len(clips)} clips"),
        ("Selection", f"{info['selection']['split']}: {', '.join(info['selection']['clips'])}"),
        ("Frame features", predict.describe_identity(inputs.face)),
        ("Audio features", predict.describe_identity(inputs.voice)),
        ("Intervals", f"95%, bootstrap over clips, {config.resamples} resamples, seed {loaded.config.seed}"),
        ("Frames without a prediction of their own", config.fill),
        ("Label shift", f"{config.label_shift_s:g} s"),
        ("Trained", info["created"]),
    ]
    found += [
        (f"Setting {name}", str(value)) for name, value in settings.as_dict(loaded.config, digest_only=True).items()
    ]
    return found + [(f"Version of {name}", version) for name, version in info["versions"].items()]


def selected_on(loaded: Run) -> str:
    """Say in a sentence on what the run's epoch was chosen (settled 7)."""
    selected = loaded.info["selection"]
    if loaded.members:
        return (
            f"The mean of {loaded.members} members; the epoch of each was chosen on its own held-out training clips, "
            "by mean CCC of the abaw protocol."
        )
    return (
        f"Epoch {selected['epoch']} was chosen on {selected['split']} "
        f"({len(selected['clips'])} clips), by mean CCC of the abaw protocol."
    )
