"""The small 2-D CNN over the cached log-mel: the audio model of the paper's table 1 (docs/method.md, settled 10).

It stands where a linear projection stands for other encoders' features, and is trained with the head.

Shapes: N trials (the axis may be missing, see `layers`), B batch, S audio steps, D width.
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, max_pool2d

from va.model.layers import Linear

# The layout of the stored log-mel: facts of `va/extract/logmel.py`, which no model may import; a test compares them.
ROWS_PER_STEP: Final = 50
BINS: Final = 64
SILENCE_DB: Final = -100.0

_SCALE_DB: Final = 50.0
_CHANNELS: Final = (16, 32, 64)
_POOLS: Final = ((2, 2), (5, 2), (5, 2))  # rows and bins: their rows multiply to ROWS_PER_STEP
_POOLED_BINS: Final = BINS // 8


class LogMelCNN(nn.Module):
    """Convolutions over a window's log-mel picture, one vector per audio step (paper table 1; docs/method.md, F15).

    The window is one picture, so that a step sees what sounds around it. Three 3 x 3 convolutions with ReLU, each
    followed by pooling: the maximum twice, then the mean over what is left of a step's rows. Bins are pooled to 8
    and kept apart, because pitch and timbre are positions on that axis. 154,624 parameters at a width of 256.

    Args:
        width: Features of a step afterwards.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        first, second, third = _CHANNELS
        self.first = Conv2d(1, first)
        self.second = Conv2d(first, second)
        self.third = Conv2d(second, third)
        self.output = Linear(third * _POOLED_BINS, width)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        """Look at a batch of windows.

        Args:
            features: Float [(N,) B, S, 3200], each step 50 rows of 10 ms x 64 mel bins, row by row, in dB
                from -100 to about 0; anything, NaN too, where `valid` is False.
            valid: Bool [(N,) B, S]; a masked step counts as silence.

        Returns:
            Float [(N,) B, S, D]; finite at masked steps.

        Raises:
            ValueError: A step is not 3200 numbers.
        """
        if features.shape[-1] != ROWS_PER_STEP * BINS:
            raise ValueError(f"a log-mel step has {ROWS_PER_STEP * BINS} numbers, got {features.shape[-1]}")
        # In [0, 2], with silence at the zero that the convolutions also see outside the picture.
        levels = ((features - SILENCE_DB) / _SCALE_DB).masked_fill(~valid[..., None], 0.0)
        batch, steps = features.shape[-3:-1]
        x = levels.reshape(-1, batch, steps * ROWS_PER_STEP, BINS).transpose(0, 1)  # trials are groups of channels
        # 1.7 times as fast on a CPU. Not `contiguous`, which would leave a picture of one channel as it is.
        x = x.to(memory_format=torch.channels_last)
        x = max_pool2d(self.first(x), _POOLS[0]).relu()
        x = max_pool2d(self.second(x), _POOLS[1]).relu()
        x = avg_pool2d(self.third(x).relu(), _POOLS[2])
        x = x.reshape(batch, -1, _CHANNELS[-1], steps, _POOLED_BINS).permute(1, 0, 3, 2, 4)
        pooled = x.reshape(*features.shape[:-1], _CHANNELS[-1] * _POOLED_BINS)
        projected: Tensor = self.output(pooled)
        return projected


class Conv2d(nn.Conv2d):
    """A 3 x 3 `nn.Conv2d` with zeros outside the picture, same initialisation, that may hold N trials.

    Its weight is then [N, O, I, 3, 3] and its bias [N, O], and the trials' pictures are groups of channels.

    Args:
        inputs: Channels in, I.
        outputs: Channels out, O.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map float [B, (N *) I, rows, bins] to [B, (N *) O, rows, bins]."""
        weight = self.weight.flatten(0, -4)
        bias = None if self.bias is None else self.bias.flatten()
        return conv2d(x, weight, bias, padding=1, groups=len(weight) // self.out_channels)
