"""Running a head over many windows without gradients; validation while training and the final score share it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from va.model.head import VAHead


class WindowPredictions(NamedTuple):
    """What a head says about N windows; T = 1 for the target `end`.

    Attributes:
        va: float64 [N, T, 2], clamped to [-1, 1] (R3).
        regions: float64 [N, T, R], probabilities.
        gate: float64 [N, T] in [0, 1], mean over the width.
    """

    va: NDArray[np.float64]
    regions: NDArray[np.float64]
    gate: NDArray[np.float64]


@torch.inference_mode()
def predict_windows(
    head: VAHead,
    *,
    inputs: Callable[[Tensor], tuple[Tensor, Tensor, Tensor, Tensor]],
    num_windows: int,
    batch_size: int,
) -> WindowPredictions:
    """Run a head over windows 0 .. `num_windows` - 1 and leave it in the mode it was in.

    Args:
        head: On the inputs' device.
        inputs: int64 [B] window numbers -> frames, frame_valid, audio, audio_valid as `VAHead.forward` takes them.
        num_windows: At least 1.
        batch_size: Windows at once.
    """
    training = head.training
    head.eval()
    device = next(head.parameters()).device
    parts = []
    for index in torch.split(torch.arange(num_windows, device=device), batch_size):
        output = head(*inputs(index))
        parts.append((output.va.clamp(-1, 1), output.region_logits.softmax(dim=-1), output.gate))
    head.train(training)
    va, regions, gate = (torch.cat(column).double().cpu().numpy() for column in zip(*parts, strict=True))
    return WindowPredictions(va=va, regions=regions, gate=gate)
