"""What the towers are given and what they give, for the windows of a batch.

Shapes: B windows, T cells, S audio steps.
"""

from typing import NamedTuple

from torch import Tensor


class WindowInputs(NamedTuple):
    """Model inputs of some windows, on any device.

    Attributes:
        pictures: uint8 or float32 [B, T, ...], of the frame encoder ([B, T, H, W, 3] for CLIP); 0 where not seen.
        seen: bool [B, T].
        spectra: float32 [B, ...], of the audio encoder ([B, rows, bins] for AST); 0 where there is no sound.
        rows: int64 [B], rows of spectrum in each window, 0 for none; on the CPU.
    """

    pictures: Tensor
    seen: Tensor
    spectra: Tensor
    rows: Tensor


class WindowFeatures(NamedTuple):
    """Embeddings of some windows, as a head takes them.

    Attributes:
        frames: float32 [B, T, Dv], 0 where not valid.
        frame_valid: bool [B, T].
        audio: float32 [B, S, Da], 0 where not valid.
        audio_valid: bool [B, S].
    """

    frames: Tensor
    frame_valid: Tensor
    audio: Tensor
    audio_valid: Tensor
