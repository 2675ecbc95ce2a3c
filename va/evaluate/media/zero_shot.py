"""Valence and arousal without any training: which description of a face is a picture most like?

p = softmax(scale cos(CLIP image feature, prototype)), as the authors' release compares them (docs/method.md, R4), and
valence and arousal are the regions' centres weighted by p. Nothing here has ever seen a label, and the numbers are no
measurement; they show what a trained head adds.
"""

import numpy as np
from numpy.typing import NDArray

from va.data import timeline
from va.data.features import ClipFeatures
from va.evaluate.assemble import ClipSeries
from va.evaluate.media.cells import Floats

_MIN_NORM = 1e-6


def read(face: ClipFeatures, *, prototypes: NDArray[np.float32], centers: Floats, scale: float) -> ClipSeries:
    """Compare every cell's picture with the prototypes.

    Args:
        face: CLIP image features, float16 [C, D].
        prototypes: float32 [R, D] of the same CLIP; only their directions matter.
        centers: float64 [R, 2], valence and arousal of the regions.
        scale: Before the softmax; 10 is the release's, 100 about CLIP's own.

    Returns:
        Columns valence, arousal and R probabilities per cell; not covered where there is no picture.
    """
    logits = scale * _directions(face.values) @ _directions(prototypes).T
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = weights / weights.sum(axis=1, keepdims=True)
    values = np.concatenate([probabilities @ centers, probabilities], axis=1)
    values[~face.valid] = np.nan
    time_s = timeline.cell_centers(len(face.values))
    return ClipSeries(id="", time_s=time_s, values=values, covered=face.valid.copy())


def _directions(vectors: NDArray[np.floating]) -> Floats:
    wide = vectors.astype(np.float64)
    return np.asarray(wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), _MIN_NORM))
