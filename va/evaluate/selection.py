"""The smoothing of a run, chosen on clips that it was selected on and not trained on (settled 7).

`va/evaluate/smoothing.py` does the arithmetic; this module finds the clips and predicts them with the same head. Of an
ensemble each clip is predicted by the members that did not train on it, so that nothing is chosen on what was learned.
"""

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from va.data.corpus import Truth
from va.data.windows import WindowSet
from va.errors import VAError
from va.evaluate import opening, predict, smoothing
from va.evaluate.assemble import ClipSeries
from va.evaluate.figures import Smoothing
from va.evaluate.opening import Inputs
from va.evaluate.rows import Scoring
from va.evaluate.smoothing import Kernel
from va.train.checkpoint import Run


class SelectionSeries(NamedTuple):
    """Raw predictions of the selection clips, their annotations, and what these clips are in words."""

    series: list[ClipSeries]
    truths: list[Truth]
    described: str


def choose(
    run: Run, inputs: Inputs, *, kernel: str, width_s: float, split: str, device: torch.device, scoring: Scoring
) -> Smoothing:
    """Choose what is left open of the smoothing.

    Args:
        run: The run.
        inputs: Corpus and features.
        kernel: One of `smoothing.KERNELS` but "none", or "auto" for the best of all.
        width_s: In seconds; 0 for the best of `smoothing.WIDTHS_S`.
        split: The split that is reported.
        device: Where to compute.
        scoring: How candidates are scored.

    Returns:
        Kernel and width ("none" and 0 where nothing tried is better than none), and every candidate.

    Raises:
        VAError: The run does not name its selection clips, or the corpus or the features lack one.
    """
    check(run, kernel=kernel, width_s=width_s)
    if kernel != "auto" and width_s:
        return Smoothing(kernel=kernel, width_s=width_s, chosen_on="no clips: both were given", candidates=[])
    found = predict_selection(run, inputs, split=split, device=device)
    kernels = smoothing.KERNELS if kernel == "auto" else (cast(Kernel, kernel),)
    best, best_s, candidates = smoothing.choose(
        found.series,
        found.truths,
        kernels=kernels,
        widths_s=(width_s,) if width_s else smoothing.WIDTHS_S,
        fill=scoring.fill,
        label_shift_s=scoring.label_shift_s,
    )
    return Smoothing(kernel=best, width_s=best_s, chosen_on=found.described, candidates=candidates)


def check(run: Run, *, kernel: str, width_s: float) -> None:
    """Check that what is left open of the smoothing can be chosen, before anything is computed.

    Args:
        run: The run.
        kernel: As `choose` takes it, or "none".
        width_s: As there.

    Raises:
        VAError: It cannot: a shared head does not name its clips.
    """
    is_open = kernel != "none" and not (kernel != "auto" and width_s)
    if is_open and not any(_held_out(run)):
        raise VAError(
            f"{run.directory}: was shared without the names of its selection clips, so no smoothing can be chosen",
            "Give --smooth none, or kernel and width (--smooth median --smooth-s 3).",
        )


def apply(found: Smoothing, series: Sequence[ClipSeries]) -> list[ClipSeries]:
    """Smooth series as was chosen."""
    kernel = cast(Kernel, found["kernel"])
    return [smoothing.smooth(one, kernel=kernel, width_s=found["width_s"]) for one in series]


def predict_selection(run: Run, inputs: Inputs, *, split: str, device: torch.device) -> SelectionSeries:
    """Predict the clips that a run was selected on.

    Args:
        run: A run of one head, or an ensemble: then each clip is predicted by the members that held it out.
        inputs: Corpus and features.
        split: The split that is reported.
        device: Where to compute.

    Raises:
        VAError: The corpus or the features lack one of them.
    """
    selection = run.info["selection"]
    held_out = _held_out(run)
    clips = opening.clips_named(inputs, list(dict.fromkeys(name for names in held_out for name in names)))
    windows = opening.load_windows(run, inputs, clips, device=device)
    series = predict.series_of(windows, _held_out_means(run, windows, held_out))
    truths = [inputs.corpus.truth(clip) for clip in clips]
    used = sorted({clip.split for clip in clips})
    if used == ["train"]:
        described = f"{selection['split']}: {len(clips)} training clips that the run did not learn from"
        if run.members:
            described = f"{len(clips)} training clips, each predicted by the members that did not learn from it"
    else:
        described = f"{', '.join(used)} ({len(clips)} clips)"
    if split in used:
        described += ", of the split that is reported: the smoothed figures are flattered"
    return SelectionSeries(series=series, truths=truths, described=described)


def _held_out(run: Run) -> list[list[str]]:
    """The clips that each member held out, or the run; a shared run names none."""
    selection = run.info["selection"]
    found: list[list[str]] = selection.get("by_member", []) if run.members else [selection["clips"]]
    return found


def _held_out_means(run: Run, windows: WindowSet, held_out: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Average over members what each says about the windows of the clips that it held out."""
    spans = {span.clip.id: span.windows for span in windows.spans}
    numbers = [np.concatenate([np.arange(spans[name].start, spans[name].stop) for name in names]) for names in held_out]
    index = np.full((len(numbers), max(map(len, numbers))), -1, np.int64)
    for row, own in zip(index, numbers, strict=True):
        row[: len(own)] = own
    asked = torch.from_numpy(index if run.members else index[0]).to(windows.device)
    said = predict.predict_members(run, lambda some: windows.batch(some)[:4], index=asked).va
    said = said if run.members else said[None]
    total, count = np.zeros((len(windows), *said.shape[2:])), np.zeros(len(windows))
    for own, answers in zip(numbers, said, strict=True):
        total[own] += answers[: len(own)]
        count[own] += 1
    return total / count[:, None, None]
