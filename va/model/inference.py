"""Running a head over many windows without gradients; validation while training and the final score share it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from va.model.head import VAHead


class WindowPredictions(NamedTuple):
    """What a head says about W windows; T = 1 for the target `end`. A stacked head's arrays begin with its trials.

    Attributes:
        va: float64 [(N,) W, T, 2], clamped to [-1, 1] (R3).
        regions: float64 [(N,) W, T, R], probabilities.
        gate: float64 [(N,) W, T] in [0, 1], mean over the width.
    """

    va: NDArray[np.float64]
    regions: NDArray[np.float64]
    gate: NDArray[np.float64]


@torch.inference_mode()
def predict_windows(
    head: VAHead,
    *,
    inputs: Callable[[Tensor], tuple[Tensor, Tensor, Tensor, Tensor]],
    index: Tensor,
    batch_size: int,
) -> WindowPredictions:
    """Run a head over windows and leave it in the mode it was in.

    Args:
        head: On the inputs' device.
        inputs: int64 [(N,) B] window numbers -> frames, frame_valid, audio, audio_valid as `VAHead.forward` takes them.
        index: int64 [(N,) W], the windows, at least one; -1 is a window of padding, whose answer means nothing.
        batch_size: Windows of a trial at once.
    """
    training = head.training
    head.eval()
    parts = []
    for some in torch.split(index, batch_size, dim=-1):
        output = head(*inputs(some))
        parts.append((output.va.float().clamp(-1, 1), output.region_logits.float().softmax(dim=-1), output.gate))
    head.train(training)
    windows = index.ndim - 1
    columns = (torch.cat(column, dim=windows) for column in zip(*parts, strict=True))
    va, regions, gate = (column.double().cpu().numpy() for column in columns)
    return WindowPredictions(va=va, regions=regions, gate=gate)
