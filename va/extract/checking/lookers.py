"""What checking processes are asked, and what they say, seen from the parent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from numpy.typing import NDArray

from va.data.findings import SEVERITIES, Severity
from va.extract import asking
from va.extract.checking import opening

_MOST_PROBLEMS: Final = 1000


@dataclass(frozen=True, kw_only=True)
class Look:
    """What one medium is asked.

    Args:
        media: Its path.
        crops: The clip's folder of crops; None for no crops.
        hash: Whether its content is compared with another's.
    """

    media: Path
    crops: Path | None
    hash: bool


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What a checking process said of a medium.

    Args:
        frames: Number of pictures; None where it could not be opened.
        duration_s: Length in seconds, likewise.
        digest: BLAKE2b-128 of its bytes, where it was asked for.
        problems: Severity, kind, file, what, do.
    """

    frames: int | None
    duration_s: float | None
    digest: str | None
    problems: tuple[tuple[Severity, str, str, str, str], ...]


def look_at(
    looks: Sequence[Look],
    *,
    processes: int,
    stall_s: float,
    memory_gb: float,
    deep: bool,
    progress: Callable[[int, int, str], None],
) -> list[Seen]:
    """Look at media in several processes.

    Args:
        looks: What to look at.
        processes: How many, 1 or more.
        stall_s: Seconds without progress after which a decoder counts as hung.
        memory_gb: Memory that one medium may take, in GB.
        deep: Decode everything.
        progress: Called with (media done, media in all, name of the last).

    Returns:
        For each look in turn what was seen; a medium that ends its process says so.
    """
    answers = asking.ask_all(
        [{"media": str(one.media), "hash": one.hash, "crops": str(one.crops) if one.crops else None} for one in looks],
        serve=opening.serve,
        arguments=(stall_s, memory_gb, deep),
        processes=processes,
        stall_s=stall_s,
        understand=_seen,
        progress=progress,
    )
    return [
        _lost(one.media, answer) if isinstance(answer, str) else answer
        for one, answer in zip(looks, answers, strict=True)
    ]


def _lost(media: Path, said: str) -> Seen:
    do = "Play the file in a video player; re-encode it, or leave the clip out."
    problem: tuple[Severity, str, str, str, str] = ("error", "medium-unreadable", str(media), said, do)
    return Seen(frames=None, duration_s=None, digest=None, problems=(problem,))


def _seen(answer: dict[str, Any], _: NDArray[Any] | None = None) -> Seen:
    """Take an answer apart without trusting it.

    Raises:
        KeyError, TypeError, ValueError: It is no answer.
    """
    frames, duration_s, digest = answer["frames"], answer["duration_s"], answer["digest"]
    problems = [tuple(map(str, row)) for row in answer["problems"][:_MOST_PROBLEMS]]
    if any(len(row) != 5 or row[0] not in SEVERITIES for row in problems):
        raise ValueError("problems of another form")
    return Seen(
        frames=None if frames is None else int(frames),
        duration_s=None if duration_s is None else float(duration_s),
        digest=None if digest is None else str(digest),
        problems=cast("tuple[tuple[Severity, str, str, str, str], ...]", tuple(problems)),
    )
