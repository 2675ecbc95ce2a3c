"""The ABAW challenge's sample file: which frames a submission has to name, and in which order.

Its first line is `image_location,valence,arousal` (or `image_location` alone); each other line begins with
`<name>/<number>.jpg`, where the number counts the frames of the video from 1. What else is on a line is not looked at.
It also says which clips the test split has, whose annotation nobody holds (`va corpus affwild2 --sample`).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from va import bounded
from va.errors import VAError

HEADER: Final = "image_location,valence,arousal"
_LOCATION: Final = re.compile(r"(?P<name>.+)/(?P<frame>[0-9]{1,9})\.(jpg|jpeg|png)")
_HINT: Final = "Give the sample file of the challenge as it was handed out."


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """A sample file.

    Args:
        path: The file.
        locations: `<name>/<number>.jpg` of each line after the first, exactly as written.
        names: The clips, in the order in which they appear first.
        clips: int64 [lines], which of `names` each line is about.
        frames: int64 [lines], its frame number, from 1.
    """

    path: Path
    locations: tuple[str, ...]
    names: tuple[str, ...]
    clips: NDArray[np.int64]
    frames: NDArray[np.int64]

    def line_of(self, index: int) -> int:
        """Give the number of a line in the file, from 1; the header is line 1."""
        return index + 2


def read_sample(path: Path) -> Sample:
    """Read a sample file.

    Args:
        path: UTF-8 text.

    Raises:
        VAError: Unreadable, another header, a line that names no frame, a frame named twice, or none at all; names file
            and line.
    """
    try:
        text = bounded.read_text(path, largest=bounded.LARGEST_TEXT, encoding="utf-8-sig")
    except OSError as error:
        raise VAError(f"{path}: cannot be read ({error.strerror})", "Check the path and permissions.") from None
    except UnicodeDecodeError:
        raise VAError(f"{path}: is not UTF-8 text", _HINT) from None
    except ValueError as error:
        raise VAError(f"{path}: is not a sample file ({error})", _HINT) from None
    # Not splitlines: a name may hold what Unicode calls a line break.
    lines = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    header = lines[0].replace(" ", "").lower()
    if header not in (HEADER, "image_location"):
        raise VAError(f"{path}, line 1: expected the header '{HEADER}', found {lines[0][:60]!r}", _HINT)
    if header == HEADER:
        lines[1:] = [line.rsplit(",", 2)[0] for line in lines[1:]]
    return _parse(path, lines[1:])


def _parse(path: Path, locations: list[str]) -> Sample:
    names: dict[str, int] = {}
    clips, frames = np.zeros(len(locations), np.int64), np.zeros(len(locations), np.int64)
    seen: dict[tuple[int, int], int] = {}
    for index, location in enumerate(locations):
        found = _LOCATION.fullmatch(location)
        if found is None or not int(found["frame"]):
            raise VAError(
                f"{path}, line {index + 2}: expected '<name>/<number from 1>.jpg', found {location[:60]!r}", _HINT
            )
        clip, frame = names.setdefault(found["name"], len(names)), int(found["frame"])
        first = seen.setdefault((clip, frame), index)
        if first != index:
            raise VAError(f"{path}, line {index + 2}: names {location!r} again, after line {first + 2}", _HINT)
        clips[index], frames[index] = clip, frame
    if not locations:
        raise VAError(f"{path}: lists no frame", _HINT)
    return Sample(path=path, locations=tuple(locations), names=tuple(names), clips=clips, frames=frames)
