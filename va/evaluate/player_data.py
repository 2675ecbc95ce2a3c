"""What a player page shows: the contract between `video.py`, which predicts, and `player.py`, which draws.

Shapes: F video frames, C half-second cells, R regions. In pairs of columns valence comes first. NaN is "nothing there".
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class PlayerData(TypedDict):
    """One video and what was predicted for it.

    Args:
        title: The video's name, to be shown.
        video: The medium, or None when it is not to be shown.
        duration_s: Its length.
        width: Of its pictures, upright, in pixels.
        height: Likewise.
        cell_time_s: Cell centres, [C] s.
        va: Valence and arousal per cell in [-1, 1], [C, 2].
        smoothed: The same smoothed, or None.
        windows_s: Length and distance of the windows at whose ends values were predicted, in seconds, `va` being read
            off between them; None where they were predicted for the cells themselves.
        regions: Probabilities, [C, R]; None for a run that says nothing about regions.
        gate: Share of the sound in [0, 1], [C]; None without a head (zero-shot).
        boxes: Face box per cell as shares of width and height, (left, top, right, bottom), may lie outside [0, 1],
            [C, 4]; NaN where no face; None when no faces were looked for.
        has_face: Cells with a valid picture, [C].
        has_sound: Cells with valid sound, [C].
        centers: Region centres, [R, 2].
        region_texts: [R].
        source: "run" or "zero-shot".
        model: What predicted, in a few words, e.g. the run's name.
        is_demo: A demo encoder took part.
        notes: Sentences that a person must know: no sound, no face, and so on.
        provenance: (key, value) pairs in the order shown.
    """

    title: str
    video: Path | None
    duration_s: float
    width: int
    height: int
    cell_time_s: Floats
    va: Floats
    smoothed: Floats | None
    windows_s: tuple[float, float] | None
    regions: Floats | None
    gate: Floats | None
    boxes: Floats | None
    has_face: npt.NDArray[np.bool_]
    has_sound: npt.NDArray[np.bool_]
    centers: Floats
    region_texts: Sequence[str]
    source: Literal["run", "zero-shot"]
    model: str
    is_demo: bool
    notes: Sequence[str]
    provenance: Sequence[tuple[str, str]]
