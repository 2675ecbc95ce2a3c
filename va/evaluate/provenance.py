"""Where an evaluation's figures come from, in words and as attributes: for the page, for `predictions.h5`."""

from collections.abc import Mapping, Sequence
from typing import Any

from va import settings
from va.data import tuned
from va.data.corpus import Clip
from va.evaluate import opening
from va.evaluate.config import EvaluateConfig
from va.evaluate.figures import ReportFigures
from va.evaluate.opening import Inputs
from va.train.checkpoint import Run


def attributes(figures: ReportFigures, loaded: Run) -> dict[str, Any]:
    """Say in `predictions.h5` what its arrays are: run, versions, fill, smoothing; no time of writing."""
    smoothing = figures["smoothing"]
    return {
        "run": figures["run"],
        "corpus": figures["corpus"],
        "split": figures["split"],
        "demo_encoders": bool(loaded.info["demo_encoders"]),
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
        # By its identity: a page is passed on, and a path says nothing to others but who made it.
        (
            "Corpus",
            f"{inputs.corpus.name}{' (synthetic)' if inputs.corpus.synthetic else ''}, identity "
            f"{inputs.corpus.digest()}",
        ),
        ("Scored split", f"{config.split}, {len(clips)} clips"),
        (
            "Selection",
            f"{info['selection']['split']}: {', '.join(info['selection']['clips']) or _selection_clips(info)}",
        ),
        ("Frame features", opening.describe_identity(inputs.face)),
        ("Audio features", opening.describe_identity(inputs.voice)),
        ("Intervals", f"95%, bootstrap over clips, {config.resamples} resamples, seed {loaded.config.seed}"),
        ("Frames without a prediction of their own", config.fill),
        ("Label shift", f"{config.label_shift_s:g} s"),
        ("Trained", info["created"]),
    ]
    found += _finetuning(info)
    found += [
        (f"Setting {name}", str(value)) for name, value in settings.as_dict(loaded.config, digest_only=True).items()
    ]
    return found + [(f"Version of {name}", version) for name, version in info["versions"].items()]


def _finetuning(info: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say how a run came by encoders that were fine-tuned; nothing for a run whose encoders were not."""
    found = []
    for kind, name in (("face", "Frame encoder"), ("voice", "Audio encoder")):
        said = tuned.describe(info["encoders"][kind])
        if said:
            found.append((name, f"{said}, where it saw the training clips of that run"))
    if "finetuned_from" in info:
        found.append(("Fine-tuning began from", info["finetuned_from"] or "a new head"))
    own = info.get("finetune", {})
    return found + [(f"Fine-tuning {name}", str(own[name])) for name in tuned.RECIPE if name in own]


def selected_on(loaded: Run) -> str:
    """Say in a sentence on what the run's epoch was chosen (settled 7)."""
    selected = loaded.info["selection"]
    split, clips = selected["split"], _selection_clips(loaded.info)
    if not loaded.members:
        return f"Epoch {selected['epoch']} was chosen on {split} ({clips}), by mean CCC of the abaw protocol."
    where = f"val ({clips})" if split == "val" else f"its own held-out training clips ({clips} between them)"
    return (
        f"The mean of {loaded.members} members; the epoch of each was chosen on {where}, by mean CCC of the abaw "
        "protocol."
    )


def warnings(loaded: Run, others: Sequence[Run], clips: Sequence[Clip]) -> list[str]:
    """Say in sentences why figures may be better than the truth: clips that were learned from or chosen on.

    Args:
        loaded: The run.
        others: The runs that it is compared with.
        clips: The clips scored.
    """
    found = []
    names = {clip.id for clip in clips}
    for run in (loaded, *others):
        own = run is loaded
        name, whose = ("This head", "these") if own else (run.directory.name, "its")
        start = "" if own else f"{name}: "
        if not run.info["train_clips"]:
            found.append(
                f"{name} was shared without the names of its training clips: whether it was trained on these clips "
                "cannot be checked."
            )
        learned = len(names & set(run.info["train_clips"]))
        if learned:
            it = "the run" if own else "it"
            found.append(
                f"{start}{learned} of the scored clips were trained on: {whose} figures say how well {it} remembers, "
                "not how well it predicts."
            )
        chosen = len(names & set(run.info["selection"]["clips"]))
        if chosen:
            the = "The" if own else "the"
            found.append(
                f"{start}{the} epoch was chosen on {chosen} of the scored clips: {whose} figures are flattered."
            )
    return found


def _selection_clips(info: Mapping[str, Any]) -> str:
    """How many clips a run was selected on; one that was shared names none, and says how many there were."""
    count = len(info["selection"]["clips"]) or info.get("counts", {}).get("selection", 0)
    return f"{count} clips" if count else "clips that it neither names nor counts"
