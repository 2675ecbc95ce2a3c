"""What was decided about a corpus after its manifest was made: a section of `corpus.json`, honoured when it is read.

No original is changed, and neither are the sidecars that the adapter wrote: taking a decision back restores what was.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from va.errors import VAError

Do: TypeAlias = Literal["drop", "read-again", "swap", "labels-until"]
"""Leave the clip out; take the labels of its text read again; exchange valence and arousal; no label from a time on."""

AGAIN: Final = "labels-again"
"""Folder beside `labels/` for the labels that were read again."""

_HINT: Final = "Correct the section 'decisions', or take all decisions back with 'va corpus check CORPUS --unfix'."


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One decision about one clip.

    Args:
        clip: Its id.
        do: What happens to it.
        why: For people: what was found.
        until_s: Of `labels-until`: labels of frames shown at this time or later are not valid, in seconds.
        frames: Of `read-again`: how many frames the text has.
        reading: Of `read-again`, for people: file, encoding, columns and decimals, as the text was understood.
    """

    clip: str
    do: Do
    why: str
    until_s: float | None = None
    frames: int | None = None
    reading: dict[str, str] | None = None

    def row(self) -> dict[str, Any]:
        """Give it as plain JSON, without what is not set."""
        return {name: value for name, value in vars(self).items() if value is not None}


def parse(rows: Any, manifest: Path) -> tuple[Decision, ...]:
    """Read the section.

    Args:
        rows: What `corpus.json` holds under `decisions`.
        manifest: Named by errors.

    Raises:
        VAError: It is no list of decisions.
    """
    try:
        return tuple(_decision(row) for row in rows)
    except (TypeError, ValueError) as error:
        raise VAError(f"{manifest}: has a decision that cannot be read ({error})", _HINT) from None


def of_clip(found: Sequence[Decision], clip_id: str) -> dict[str, Decision]:
    """Give a clip's decisions by what they do."""
    return {one.do: one for one in found if one.clip == clip_id}


def apply(
    found: dict[str, Decision], *, time_s: NDArray[np.float64], va: NDArray[np.float32], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Change a clip's labels as was decided.

    Args:
        found: The clip's decisions, from `of_clip`.
        time_s: Presentation time of each frame in seconds, [frames].
        va: Valence and arousal in [-1, 1], [frames, 2]; not changed.
        valid: Which frames have a label, [frames]; not changed.

    Returns:
        `va`, 0 where not valid, and `valid`.
    """
    if "swap" in found:
        va = np.ascontiguousarray(va[:, ::-1])
    if "labels-until" in found:
        valid = valid & (time_s < (found["labels-until"].until_s or 0.0))
        va = np.where(valid[:, None], va, np.float32(0))
    return va, valid


def _decision(row: Any) -> Decision:
    found = Decision(**row)
    if not (isinstance(found.clip, str) and isinstance(found.why, str) and found.do in get_args(Do)):
        raise ValueError(f"{row!r}")
    until = found.until_s
    if (found.do == "labels-until") != (until is not None):
        raise ValueError(f"'{found.do}' of clip '{found.clip}' with until_s {until!r}")
    if until is not None and not (isinstance(until, int | float) and math.isfinite(until) and until >= 0):
        raise ValueError(f"until_s {until!r} of clip '{found.clip}'")
    if (found.do == "read-again") != (isinstance(found.frames, int) and found.frames > 0):
        raise ValueError(f"'{found.do}' of clip '{found.clip}' with frames {found.frames!r}")
    return found
