"""The file that the ABAW challenge takes: a prediction for exactly the frames of its sample file, in its order.

`va evaluate RUN --split test --submission SAMPLE --out DIR` writes it. A frame's number is that of the video's frame,
from 1; frames that a sample lists beyond a video's end keep their place on its clock, as surplus labels do, and get the
value held there.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from va import files
from va.data import timeline
from va.data.corpus import Truth
from va.data.sample import HEADER, Sample
from va.errors import VAError
from va.evaluate import assemble
from va.evaluate.assemble import ClipSeries, Fill

NAME: Final = "submission.txt"


def check_clips(sample: Sample, clip_ids: Sequence[str], *, split: str) -> None:
    """Check that every clip of the sample is one of the split, before anything is computed.

    Raises:
        VAError: One is not; names its first line and the file.
    """
    known = set(clip_ids)
    for number, name in enumerate(sample.names):
        if name not in known:
            line = sample.line_of(int(np.argmax(sample.clips == number)))
            raise VAError(
                f"{sample.path}, line {line}: clip '{name}' is not in the '{split}' split of the corpus",
                "Choose the sample's split with --split; 'va corpus affwild2 --sample' adds test clips to a corpus.",
            )


def write_submission(
    path: Path,
    sample: Sample,
    series: Sequence[ClipSeries],
    truths: Sequence[Truth],
    *,
    fill: Fill,
    label_shift_s: float,
) -> None:
    """Write the submission and read it back; it is there whole and checked, or not at all.

    Args:
        path: The file.
        sample: Which frames, in which order.
        series: Predictions of at least the sample's clips, raw or smoothed.
        truths: The same clips' frame times.
        fill: How frames without a prediction of their own get one; with "none" they are an error.
        label_shift_s: As in `assemble.frames_from_series`, so that values are those of `predictions.csv`.

    Raises:
        VAError: A listed clip or frame has no prediction, or the file cannot be written.
    """
    found = {one.id: (one, truth) for one, truth in zip(series, truths, strict=True)}
    check_clips(sample, list(found), split="predicted")
    values = np.full((len(sample.frames), 2), np.nan)
    for number, name in enumerate(sample.names):
        lines = np.flatnonzero(sample.clips == number)
        one, truth = found[name]
        listed = _unlabelled(frame_times(truth, sample.frames[lines]))
        read = assemble.frames_from_series(one, listed, fill=fill, label_shift_s=label_shift_s)
        values[lines] = read.prediction
    missing = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(missing):
        first = int(missing[0])
        raise VAError(
            f"{sample.path}, line {sample.line_of(first)}: '{sample.locations[first]}' has no prediction, "
            f"one of {len(missing)}",
            "Leave out '--fill none': a submission must name every frame.",
        )
    with files.replacing(path) as temporary:
        with temporary.open("w", encoding="utf-8", newline="") as out:
            out.write(HEADER + "\n")
            out.writelines(
                f"{location},{valence:z.5f},{arousal:z.5f}\n"
                for location, (valence, arousal) in zip(sample.locations, values.tolist(), strict=True)
            )
        problem = check_file(temporary, sample)
        if problem:
            raise VAError(f"{path}: was not kept: {problem}", "This is a defect of va; please report it.")


def beyond_the_end(sample: Sample, clip_ids: Sequence[str], truths: Sequence[Truth]) -> list[str]:
    """List the locations of a sample that lie beyond their video's known frames, in its order.

    Args:
        sample: Its clips are all among these.
        clip_ids: The clips.
        truths: Their frame times.
    """
    known = {name: len(truth.time_s) for name, truth in zip(clip_ids, truths, strict=True)}
    last = np.array([known[name] for name in sample.names])
    return [sample.locations[index] for index in np.flatnonzero(sample.frames > last[sample.clips])]


def frame_times(truth: Truth, numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give the time of frames of a video by number, from 1, on the clip's clock beyond its known frames.

    Args:
        truth: The clip's known frame times.
        numbers: int64 [N], each >= 1.

    Returns:
        float64 [N], seconds.
    """
    known = truth.time_s
    step_s = (known[-1] - known[0]) / (len(known) - 1) if len(known) > 1 else timeline.CELL_S
    later = np.maximum(numbers - len(known), 0)
    within = known[np.minimum(numbers, len(known)) - 1]
    return np.where(later > 0, timeline.times_after(float(known[-1]), later, step_s=float(step_s)), within)


def check_file(path: Path, sample: Sample) -> str:
    """Read a submission back and hold it against the sample, line by line.

    Args:
        path: The file.
        sample: The sample.

    Returns:
        What is wrong with it, with the line, or nothing.
    """
    lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    if lines[0] != HEADER:
        return f"line 1 is not '{HEADER}'"
    if len(lines) != len(sample.locations) + 1:
        return f"it has {len(lines) - 1} lines, the sample {len(sample.locations)}"
    return next(_problems(lines[1:], sample), "")


def _problems(lines: list[str], sample: Sample) -> Iterator[str]:
    # The sample names every frame once, so equal lines in equal order do too.
    for index, (line, location) in enumerate(zip(lines, sample.locations, strict=True)):
        found, *values = line.rsplit(",", 2)
        if found != location or len(values) != 2:
            yield f"line {index + 2} is not about '{location}'"
        elif not all(_in_range(value) for value in values):
            yield f"line {index + 2} has a value outside [-1, 1]"


def _in_range(text: str) -> bool:
    try:
        return -1.0 <= float(text) <= 1.0  # NaN fails both
    except ValueError:
        return False


def _unlabelled(time_s: NDArray[np.float64]) -> Truth:
    return Truth(time_s=time_s, va=np.zeros((len(time_s), 2), np.float32), valid=np.zeros(len(time_s), np.bool_))
