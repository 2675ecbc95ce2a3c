"""Sequence models that give every step of one modality its context (paper eq. 1).

They are separate from `head` so that the head takes any module of the form `[(N,) B, T, D] -> [(N,) B, T, D]`.
Masked steps arrive here already replaced (docs/method.md, settled 9), so none of them needs a mask.

Shapes: N trials (the axis may be missing, see `layers`), B batch, T steps, D width.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from va.model.layers import Dropout, Linear
from va.model.recurrence import GRUScan


class BiGRU(nn.Module):
    """One bidirectional GRU layer that keeps its width (paper eq. 1; docs/method.md, F6 and settled 5).

    The equations, and with one seed the initial values, are those of `torch.nn.GRU`.

    Args:
        width: Features in and out; even, because each direction gives half of them.

    Attributes:
        input_weight: Float [(N,) 2, 3 width / 2, width]: forward and backward, gates r, z, n.
        hidden_weight: Float [(N,) 2, 3 width / 2, width / 2].
        input_bias: Float [(N,) 2, 3 width / 2].
        hidden_bias: Float [(N,) 2, 3 width / 2].

    Raises:
        ValueError: `width` is not a positive even number.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise ValueError(f"width must be a positive even number, got {width}")
        hidden = width // 2
        bound = 1 / math.sqrt(hidden)
        shapes = ((3 * hidden, width), (3 * hidden, hidden), (3 * hidden,), (3 * hidden,))
        drawn = [[torch.empty(shape).uniform_(-bound, bound) for shape in shapes] for _ in range(2)]
        both = [nn.Parameter(torch.stack(direction)) for direction in zip(*drawn, strict=True)]
        self.input_weight, self.hidden_weight, self.input_bias, self.hidden_bias = both

    def forward(self, x: Tensor) -> Tensor:
        """Run both directions over every step.

        Args:
            x: Float [(N,) B, T, D], steps in time order.

        Returns:
            Float [(N,) B, T, D]: the forward state, then the backward state, of each step.
        """
        return scan_together([self], [x])[0]


def scan_together(modules: Sequence[BiGRU], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Run GRUs of one width over sequences of one shape in one scan; each gives what it gives by itself.

    Args:
        modules: At least one.
        inputs: Float [(N,) B, T, D] of each, steps in time order.

    Returns:
        Float [(N,) B, T, D] of each: the forward state, then the backward state, of each step.
    """
    groups = inputs[0].ndim - 3  # the axis of modules and directions, behind that of trials
    steps_first = [x.transpose(-3, -2) for x in inputs]
    both_ways = torch.stack([way for x in steps_first for way in (x, x.flip(-3))], dim=groups)
    names = ("input_weight", "input_bias", "hidden_weight", "hidden_bias")
    parameters: list[Tensor] = [getattr(modules[0], name) for name in names]
    if len(modules) > 1:
        parameters = [torch.cat([getattr(module, name) for module in modules], dim=groups) for name in names]
    if groups:  # all are independent: one axis
        both_ways, *parameters = (tensor.flatten(0, 1) for tensor in (both_ways, *parameters))
    with torch.autocast(both_ways.device.type, enabled=False):  # errors of 16 bit would add up from step to step
        states: Tensor = GRUScan.apply(both_ways.to(parameters[0].dtype), *parameters)
    if groups:
        states = states.view(len(inputs[0]), -1, *states.shape[1:])
    ways = states.transpose(-3, -2).unbind(dim=groups)
    pairs = zip(ways[::2], ways[1::2], strict=True)
    return [torch.cat((forward, backward.flip(-2)), dim=-1) for forward, backward in pairs]


class TCN(nn.Module):
    """Dilated residual temporal convolutions that keep their width (paper table 2; docs/method.md, settled 10).

    The architecture of Bai, Kolter and Koltun (2018, arXiv:1803.01271): level l convolves twice with dilation 2^l,
    each time followed by ReLU and dropout, adds its input and applies ReLU once more. Two things differ: there is no
    weight normalisation, and unless `causal` the kernels are centred, for a window is seen whole. Steps outside
    the window count as zeros.

    Args:
        width: Features in and out.
        levels: Residual levels.
        kernel: Steps under a kernel; odd unless `causal`, or it would have no middle.
        dropout: Share of the features dropped after each convolution, in [0, 1).
        causal: Look only at the past.

    Attributes:
        receptive_field: Steps of the input that one step of the output depends on:
            1 + 2 (kernel - 1) (2^levels - 1); half of the others on each side or, if `causal`, all of them before.

    Raises:
        ValueError: A number outside the ranges above.
    """

    def __init__(self, *, width: int, levels: int, kernel: int, dropout: float, causal: bool) -> None:
        super().__init__()
        for name, number in (("width", width), ("levels", levels), ("kernel", kernel)):
            if number < 1:
                raise ValueError(f"{name} must be positive, got {number}")
        if not causal and kernel % 2 == 0:
            raise ValueError(f"kernel must be odd unless causal, got {kernel}")
        self.receptive_field = 1 + 2 * (kernel - 1) * (2**levels - 1)
        self.levels = nn.Sequential(
            *(
                _Level(width=width, kernel=kernel, dilation=2**level, dropout=dropout, causal=causal)
                for level in range(levels)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Convolve every sequence over its steps.

        Args:
            x: Float [(N,) B, T, D], steps in time order.

        Returns:
            Float [(N,) B, T, D]; at least 0, as it comes from a ReLU.
        """
        convolved: Tensor = self.levels(x)
        return convolved


class _Level(nn.Module):
    """Two convolutions and the way around them."""

    def __init__(self, *, width: int, kernel: int, dilation: int, dropout: float, causal: bool) -> None:
        super().__init__()
        self.first = _Convolution(width=width, kernel=kernel, dilation=dilation, causal=causal)
        self.second = _Convolution(width=width, kernel=kernel, dilation=dilation, causal=causal)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.dropout(self.first(x).relu())
        inner = self.dropout(self.second(inner).relu())
        out: Tensor = (x + inner).relu()
        return out


class _Convolution(Linear):
    """A dilated `nn.Conv1d` over the steps, as one product with the kernel's shifted copies of the input side by side.

    So the trial axis is that of a batched product. The weight is [(N,) width, kernel * width], `kernel` blocks of
    `width` inputs, earliest step first. Weight and bias start as those of `nn.Conv1d(width, width, kernel)` do,
    uniform within 1 / sqrt(kernel * width): both modules go by the inputs per output.
    """

    def __init__(self, *, width: int, kernel: int, dilation: int, causal: bool) -> None:
        super().__init__(kernel * width, width)
        self.shifts = [dilation * place for place in range(kernel)]
        outside = dilation * (kernel - 1)
        self.padding = (outside, 0) if causal else (outside // 2, outside // 2)

    def forward(self, x: Tensor) -> Tensor:
        steps = x.shape[-2]
        padded = pad(x, (0, 0, *self.padding))
        return super().forward(torch.cat([padded.narrow(-2, shift, steps) for shift in self.shifts], dim=-1))
