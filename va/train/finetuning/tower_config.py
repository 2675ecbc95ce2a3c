"""How the towers learn. Standard library only."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TowerSettings:
    """How the towers learn; defaults are the paper's (F14).

    Args:
        learning_rate: AdamW's step size at the top of each tower.
        weight_decay: AdamW's weight decay; none on norms, biases and other parameters of one axis.
        thaw_face: Blocks of the frame encoder that learn: -1 for all and the embedding below them, 0 for none, N for
            the last N and what is above them.
        thaw_voice: The same for the audio encoder.
        layer_decay: Factor on the learning rate from each block to the one below it; 1 for none.
        micro_batch: Windows that are encoded at once.
        checkpointing: Keep only what enters each block for the backward pass, and compute the rest again.
        precision: Of products; weights, gradients and moments are float32.
        ema: Decay per update of an average of the trained weights, which then answers; 0 for none.
        clip_norm: Largest norm of both towers' gradients together; 0 does not clip.
    """

    learning_rate: float = 3e-6
    weight_decay: float = 1e-4
    thaw_face: int = -1
    thaw_voice: int = -1
    layer_decay: float = 1.0
    micro_batch: int = 1
    checkpointing: bool = True
    precision: Literal["float32", "bfloat16"] = "float32"
    ema: float = 0.0
    clip_norm: float = 0.0
