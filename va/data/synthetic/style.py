"""Other ways to draw the same people: what happens in a clip stays the same, what it looks and sounds like does not.

`chalk` is for encoders that learned from `cartoon`: bright outlines on a dark, grained board, and a hoarse voice an
octave down. Valence still bends mouth, cheeks and brows and arousal still quickens and brightens the voice, as far as
before.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from va.data.synthetic.person import Colour, FaceTraits, VoiceTraits, _mix

Style = Literal["cartoon", "chalk"]

_CHALK: Final = (236, 240, 232)
_BOARD: Final = (34, 58, 50)


@lru_cache(maxsize=4)
def board(face: FaceTraits, size: int) -> NDArray[np.uint8]:
    """Make the board that a person is drawn on: grain and wiped smears, the same in all their clips.

    Args:
        face: Whose; nothing but the place of the grain depends on it.
        size: Side, pixels.

    Returns:
        uint8 [size, size, 3].
    """
    rng = np.random.default_rng([*face.background[0], *face.background[1]])
    grain = rng.normal(0, 1, (size, size)).astype(np.float32)
    smears = cv2.GaussianBlur(rng.normal(0, 1, (size, size)).astype(np.float32), (0, 0), size / 10, sigmaY=size / 40)
    texture = 9 * grain + 11 * smears / max(float(smears.std()), 1e-6)
    tint = np.asarray(_mix(_BOARD, face.background[0], 0.15), dtype=np.float32)
    made: NDArray[np.uint8] = np.clip(tint + texture[:, :, None], 0, 255).astype(np.uint8)
    return made


def chalk(colour: Colour) -> Colour:
    """Turn a colour into that of a piece of chalk: mostly white."""
    return _mix(_CHALK, colour, 0.25)


def hoarse(voice: VoiceTraits) -> VoiceTraits:
    """Turn a voice into one of another timbre: lower, with a smaller mouth, bright and breathy."""
    return replace(
        voice, pitch_hz=voice.pitch_hz * 0.5, tract=voice.tract * 1.4, tilt_db=voice.tilt_db + 5.0, breath=0.8
    )
