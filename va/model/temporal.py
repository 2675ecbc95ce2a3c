"""Sequence models that give every step of one modality its context (paper eq. 1).

They are separate from `head` so that the head takes any module of the form `[B, T, D] -> [B, T, D]`.
Masked steps arrive here already replaced (docs/method.md, settled 9), so none of them needs a mask.

Shapes: B batch, T steps, D width.
"""

from torch import Tensor, nn


class BiGRU(nn.Module):
    """One bidirectional GRU layer that keeps its width (paper eq. 1; docs/method.md, F6 and settled 5).

    Args:
        width: Features in and out; even, because each direction gives half of them.

    Raises:
        ValueError: `width` is not a positive even number.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise ValueError(f"width must be a positive even number, got {width}")
        self.gru = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Run both directions over every step.

        Args:
            x_BTD: Float, steps in time order.

        Returns:
            Float [B, T, D]: the forward state, then the backward state, of each step.
        """
        states_BTD: Tensor = self.gru(x_BTD)[0]
        return states_BTD
