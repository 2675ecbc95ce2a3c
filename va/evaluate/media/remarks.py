"""What a person must know before believing a video's numbers, one sentence each."""

from typing import Final

from va.data import timeline
from va.evaluate.media.cells import Answer
from va.evaluate.pages.player import DEMO_BANNER, ZERO_SHOT
from va.evaluate.pages.sentences import NO_REGIONS
from va.extract.config import ExtractConfig
from va.extract.looking import Seen
from va.train import encoding
from va.train.checkpoint import Run

FEW_FACES: Final = 0.5
"""Below this share of cells with a face a person is warned."""

_DEAF: Final = {
    "both": "Its answers rest on the picture alone.",
    "face": "This run does not listen, so nothing is lost.",
    "voice": "This run only listens: what it says here means nothing.",
}


def of_run(run: Run, settings: ExtractConfig | None, answer: Answer) -> list[str]:
    """List what must be known about a run's answer.

    Args:
        run: The run.
        settings: Of stage one, where it made the features.
        answer: The answer.
    """
    modalities = run.config.modalities
    said = _about_pictures(answer, settings, blind=modalities == "voice")
    deaf = _DEAF[modalities]
    if modalities == "both" and not answer.has_face.any():
        deaf = "With nothing seen either, what is said rests on nothing."
    if not answer.has_sound.any():
        said.append(f"There is no sound. {deaf}")
    elif answer.silent:
        said.append(f"The sound is silent throughout. {deaf}")
    window_s = run.config.window_s
    short = answer.duration_s < window_s - timeline.CELL_S
    if short:
        said.append(
            f"The video lasts {answer.duration_s:.1f} s, less than the {window_s:g} s that the run learned to look at."
        )
    if run.config.target == "end" and not short:
        said.append(f"This run speaks of the end of each {window_s:g} s, so it says nothing about the time before.")
    differing = None if settings is None else encoding.pictures_differ(run, settings)
    return said + ([] if differing is None else [differing])


def of_zero_shot(settings: ExtractConfig, answer: Answer) -> list[str]:
    """List what must be known about a zero-shot answer, besides that it is one.

    Args:
        settings: Of stage one.
        answer: The answer.
    """
    return _about_pictures(answer, settings, blind=False)


def of_medium(seen: Seen) -> list[str]:
    """List what must be known about a file."""
    if not seen.turned:
        return []
    return ["The file asks for its pictures to be turned; they are looked at and shown upright."]


def of_model(*, source: str, is_demo: bool, has_regions: bool) -> list[str]:
    """List what a page says by itself, for those who read no page."""
    return [ZERO_SHOT] * (source == "zero-shot") + [DEMO_BANNER] * is_demo + [NO_REGIONS] * (not has_regions)


def _about_pictures(answer: Answer, settings: ExtractConfig | None, *, blind: bool) -> list[str]:
    cells, seen = len(answer.has_face), int(answer.has_face.sum())
    what = "face" if settings is not None and settings.faces == "detect" else "picture"
    end = " This run does not look, so nothing is lost." if blind else ""
    if not seen:
        return [f"No {what} was found.{end or ' Whatever is said does not come from one.'}"]
    if seen < FEW_FACES * cells:
        return [f"A {what} was found in {seen} of {cells} half-seconds only.{end}"]
    return []
