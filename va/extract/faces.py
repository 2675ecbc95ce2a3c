"""Face crops at cell centres: from the corpus's own folders, or by following one face through a clip. A leaf.

A crop that jumps changes an encoder's features as much as an expression does, so the box is smoothed over time
and one person is kept. Everything is causal: a crop depends on frames up to its own only.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from va.data import timeline
from va.errors import VAError
from va.extract.detect import Detector, Face

Side: TypeAlias = Literal["largest", "left", "right"]
Box: TypeAlias = tuple[float, float, float, float]

SMOOTHING_S: Final = 0.3
"""Time constant of the box: at the grid's half seconds a new box counts 81%, at 25 frames per second 12%."""

HOLD_S: Final = 1.0
"""How long a box stays where it was while its face is not found."""

_SAME_FACE: Final = 0.1
"""Least intersection over union of one face in two consecutive frames; heads turn far within half a second."""

_COMPARABLE: Final = 0.2
"""A second face of less than this share of the largest one's area is background, not the clip's other person."""

_MOST_LAG: Final = 0.2
"""A smoothed centre stays within this share of the box's side of the face, however fast that moves."""


@dataclass(frozen=True, kw_only=True)
class Crop:
    """A face, cut out of a frame.

    Args:
        rgb: uint8 [side, side, 3] RGB at the frame's own resolution; beyond the frame its edge is repeated.
        box: Left, top, right, bottom of the crop in the frame's pixels, for drawing; may reach beyond the frame.
        score: The detector's, in [0, 1]; None where the face was not found and the box was held.
        frame_size: Width and height of the frame in pixels.
    """

    rgb: NDArray[np.uint8]
    box: Box
    score: float | None
    frame_size: tuple[int, int]

    @property
    def row(self) -> NDArray[np.float32]:
        """The box as shares of the frame's width and height, then the score, 0 where held: float32 [5]."""
        width, height = self.frame_size
        left, top, right, bottom = self.box
        return np.array([left / width, top / height, right / width, bottom / height, self.score or 0.0], np.float32)


class FaceTracker:
    """Follows one face through a clip; one tracker per clip.

    The first face is the largest, or the left or right one of the two largest. From then on it is the one that
    overlaps the last box most, whatever its size and place. A face that is not found is held, then given up; the
    next one is chosen like the first. A side that was chosen while one face was visible is chosen again as soon
    as two are.

    Args:
        detector: Finds the faces of a frame.
        side: `largest`, or `left` / `right` for one of two people.
        margin: Added at each edge, as a share of the face's longer side; 0 or more.
        smoothing_s: Time constant of the box in seconds; 0 takes each box as it comes.
        hold_s: How long a missed face's box is kept, in seconds.

    Raises:
        ValueError: A number is negative.
    """

    def __init__(self, *, detector: Detector, side: Side, margin: float, smoothing_s: float, hold_s: float) -> None:
        if min(margin, smoothing_s, hold_s) < 0:
            raise ValueError(f"margin {margin}, smoothing_s {smoothing_s} and hold_s {hold_s} must be 0 or more")
        self._detector = detector
        self._side = side
        self._margin = margin
        self._smoothing_s = smoothing_s
        self._hold_s = hold_s
        self._time_s = self._seen_s = -math.inf
        self._face: Face | None = None
        self._sure = False  # whether the side was chosen among two faces
        self._center = np.zeros(2)
        self._size = 0.0

    def update(self, time_s: float, rgb: NDArray[np.uint8] | None) -> Crop | None:
        """Take the next frame.

        Args:
            time_s: Its time in seconds; at or after the last one's.
            rgb: uint8 [H, W, 3] RGB, or None where there is no picture.

        Returns:
            The crop; None without a picture or without a face, now and within the last `hold_s`.

        Raises:
            ValueError: Time runs backwards.
        """
        if time_s < self._time_s:
            raise ValueError(f"frame at {time_s} s comes after one at {self._time_s} s")
        self._time_s = time_s
        if rgb is None:
            return None
        face = self._choose(self._detector(rgb))
        if face is not None:
            # After a miss more time has passed since the box was right, so it counts less.
            self._follow(face, time_s - self._seen_s)
            self._seen_s = time_s
        # The slack keeps a hold of whole cells from depending on how their times were rounded.
        elif self._face is None or time_s - self._seen_s > self._hold_s + 1e-6:
            self._face = None
            return None
        left, top = (round(float(value)) for value in self._center - self._size / 2)
        side = max(1, round(self._size))
        box = (float(left), float(top), float(left + side), float(top + side))
        score = None if face is None else face.score
        cut = cut_square(rgb, left=left, top=top, side=side)
        return Crop(rgb=cut, box=box, score=score, frame_size=(rgb.shape[1], rgb.shape[0]))

    def _choose(self, faces: list[Face]) -> Face | None:
        faces = sorted(faces, key=lambda face: -_area(face.box))
        pair = [face for face in faces[:2] if _area(face.box) >= _COMPARABLE * _area(faces[0].box)]
        unsure = self._side != "largest" and not self._sure and len(pair) == 2
        if self._face is None or unsure:
            self._sure = len(pair) == 2
            if self._side != "largest" and self._sure:
                order = sorted(pair, key=lambda face: face.box[0] + face.box[2])
                chosen = order[0 if self._side == "left" else 1]
                if self._face is not None and overlap(chosen.box, self._face.box) < _SAME_FACE:
                    self._face = None  # it was the other person: the box must not glide over
                return chosen
            return faces[0] if faces else None
        last = self._face.box
        best = max(faces, key=lambda face: overlap(face.box, last), default=None)
        return best if best is not None and overlap(best.box, last) >= _SAME_FACE else None

    def _follow(self, face: Face, elapsed_s: float) -> None:
        left, top, right, bottom = face.box
        longest = max(right - left, bottom - top)
        center, size = np.array([left + right, top + bottom]) / 2, longest * (1 + 2 * self._margin)
        if self._face is not None and self._smoothing_s > 0:
            kept = math.exp(-elapsed_s / self._smoothing_s)
            lag = np.clip(kept * (self._center - center), -_MOST_LAG * longest, _MOST_LAG * longest)
            center, size = center + lag, size * (self._size / size) ** kept
        self._face, self._center, self._size = face, center, size


def follow(
    frames: Iterable[NDArray[np.uint8] | None],
    *,
    detector: Detector,
    side: Side,
    margin: float,
    smoothing_s: float,
    hold_s: float,
) -> Iterator[Crop | None]:
    """Crop the face of every cell of a clip.

    Args:
        frames: Frame of each cell in turn, uint8 [H, W, 3] RGB or None, as `decode.frames_at_cells` yields them.
        detector: As in `FaceTracker`, like all that follow.
        side: See there.
        margin: See there.
        smoothing_s: See there.
        hold_s: See there.

    Yields:
        The crop; None masks the cell (settled 9).
    """
    tracker = FaceTracker(detector=detector, side=side, margin=margin, smoothing_s=smoothing_s, hold_s=hold_s)
    for cell, rgb in enumerate(frames):
        yield tracker.update((cell + 0.5) * timeline.CELL_S, rgb)


def tracking_identity(*, margin: float, smoothing_s: float, hold_s: float) -> dict[str, Any]:
    """Write down, as plain JSON, everything besides the detector that `follow`'s crops depend on."""
    return {
        "margin": float(margin),
        "smoothing_s": float(smoothing_s),
        "hold_s": float(hold_s),
        "same_face": _SAME_FACE,
        "comparable": _COMPARABLE,
        "most_lag": _MOST_LAG,
        "border": "edge",
    }


def side_of(clip_id: str) -> Side:
    """Say which face a clip is about: its name's `_left` or `_right`, otherwise the largest."""
    if clip_id.endswith("_left"):
        return "left"
    return "right" if clip_id.endswith("_right") else "largest"


def crops_at_cells(
    folder: Path, *, frame_time_s: NDArray[np.float64], duration_s: float
) -> Iterator[NDArray[np.uint8] | None]:
    """Yield, for each cell in turn, the corpus's own crop of the frame on screen at its centre (settled 1).

    Args:
        folder: `cropped_aligned/<clip id>`, with `00001.jpg` for the first frame of the video.
        frame_time_s: float64 [frames], presentation time of every frame of the video in seconds, ascending.
        duration_s: Clip length in seconds; decides the number of cells.

    Yields:
        uint8 [height, width, 3] RGB; None masks a cell whose frame has no crop, or that has no frame.

    Raises:
        VAError: The folder is missing, or an image cannot be read.
    """
    if not folder.is_dir():
        raise VAError(
            f"{folder}: no such folder of face crops",
            "Name the folder that holds one folder per clip, e.g. cropped_aligned, or use --faces detect.",
        )
    centers = timeline.cell_centers(timeline.num_cells(duration_s))
    for index in timeline.frame_at(frame_time_s, centers).tolist():
        file = folder / f"{index + 1:05d}.jpg"
        yield _read(file) if index >= 0 and file.exists() else None


def cut_square(rgb: NDArray[np.uint8], *, left: int, top: int, side: int) -> NDArray[np.uint8]:
    """Cut a square; beyond the picture its edge is repeated.

    Args:
        rgb: uint8 [H, W, 3].
        left: First column, may be negative.
        top: First row, may be negative.
        side: Rows and columns, in pixels, 1 or more.

    Returns:
        uint8 [side, side, 3], a copy.
    """
    rows = np.clip(np.arange(top, top + side), 0, rgb.shape[0] - 1)
    columns = np.clip(np.arange(left, left + side), 0, rgb.shape[1] - 1)
    return rgb[np.ix_(rows, columns)]


def overlap(first: Box, second: Box) -> float:
    """Compute intersection over union of two boxes (left, top, right, bottom); 0 where both are empty."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(0.0, width) * max(0.0, height)
    union = _area(first) + _area(second) - shared
    return shared / union if union > 0 else 0.0


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def _read(file: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as image:
            return np.array(image.convert("RGB"), np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise VAError(f"{file}: cannot be read as an image ({error})", "Copy it again, or remove it.") from None
