"""Annotation text -> arrays: the Aff-Wild2 / ABAW format, with -5 turned into a mask.

First line `valence,arousal`; then line i (from 1) belongs to frame i: two comma-separated numbers in
[-1, 1], or -5 in either for "no valid label" (the ABAW challenge's convention). A byte-order mark, Windows line ends
and blank lines at the end are read over.
"""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from va import bounded
from va.errors import VAError

HEADER: Final = "valence,arousal"
NO_LABEL: Final = -5.0
MOST_BYTES: Final = 64 << 20
"""Of a text: three million lines, a day at 30 frames a second."""


def read_annotation(path: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read one annotation file.

    Args:
        path: The text file.

    Returns:
        `va` float32 [frames, 2] in [-1, 1] (0 where invalid) and `valid` bool [frames].

    Raises:
        VAError: Unreadable, a wrong header, or a line that is not two numbers in range; names file and line.
    """
    try:
        lines = bounded.read_text(path, largest=MOST_BYTES, encoding="utf-8-sig").rstrip().splitlines()
    except OSError as error:
        raise VAError(f"{path}: cannot be read ({error.strerror})", "Check the path and permissions.") from None
    except UnicodeDecodeError:
        raise VAError(f"{path}: is not UTF-8 text", "An annotation is a text file; is this the right one?") from None
    except ValueError as error:
        raise VAError(f"{path}: cannot be an annotation ({error})", "Is this the right file?") from None
    if not lines or lines[0].replace(" ", "").replace('"', "").strip().lower() != HEADER:
        found = lines[0][:60] if lines else "an empty file"
        raise VAError(
            f"{path}, line 1: expected the header '{HEADER}', found {found!r}",
            "Use a VA_Estimation_Challenge annotation, not one of another challenge.",
        )
    rows = np.array([_row(path, number, line) for number, line in enumerate(lines[1:], start=2)], np.float32)
    if not len(rows):
        raise VAError(f"{path}: has a header but no frames", "Remove the file or restore its lines.")
    valid = (rows != NO_LABEL).all(axis=1)
    return np.where(valid[:, None], rows, np.float32(0)), valid


def _row(path: Path, number: int, line: str) -> tuple[float, float]:
    parts = line.split(",")
    try:
        valence, arousal = (float(part) for part in parts)
    except ValueError:
        raise VAError(
            f"{path}, line {number}: expected two comma-separated numbers, found {line[:60]!r}",
            "Correct the line; write -5,-5 for a frame without a label.",
        ) from None
    for value in (valence, arousal):
        # NaN fails both comparisons, so it is caught here too.
        if not (-1.0 <= value <= 1.0 or value == NO_LABEL):
            raise VAError(
                f"{path}, line {number}: {value} is outside [-1, 1] and not {NO_LABEL:g}",
                "Correct the line; labels on another scale must be rescaled to [-1, 1].",
            )
    return valence, arousal
