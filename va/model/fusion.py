"""How the two modalities become one sequence of features (paper section 3.4, eq. 3 to 5).

Attention brings the sound to the steps of the video, the gate decides how much of it is used. Both are
modules of their own because the paper's table 2 also compares each of them alone.

Shapes: B batch, T video steps, S audio steps, N steps of either, D width, H attention heads of d features each.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class CrossModalAttention(nn.Module):
    """Multi-head attention from video steps to audio steps (paper eq. 3; docs/method.md, F11 and settled 5).

    The key projection has no bias: it would add the same amount to every score of a query, which the softmax
    cancels, so it could never learn anything.

    Args:
        width: Features of both inputs and of the output.
        num_heads: Attention heads; divides `width`.

    Raises:
        ValueError: `num_heads` is not positive or does not divide `width`.
    """

    def __init__(self, *, width: int, num_heads: int) -> None:
        super().__init__()
        if num_heads < 1 or width % num_heads:
            raise ValueError(f"num_heads must divide width {width}, got {num_heads}")
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, video_BTD: Tensor, audio_BSD: Tensor, audio_valid_BS: Tensor) -> Tensor:
        """Let every video step look at the valid audio steps of its window.

        Args:
            video_BTD: Float, the queries (H_v).
            audio_BSD: Float, keys and values (H_a); finite at masked steps too.
            audio_valid_BS: Bool, False for steps that are not attended to.

        Returns:
            Float [B, T, D]: F_attn; exactly 0 in a window without a valid audio step
            (docs/method.md, settled 9).
        """
        has_audio_B = audio_valid_BS.any(dim=1)
        # A softmax over nothing is NaN, which only some of the library's backends avoid: a window without audio
        # attends to everything and is zeroed below.
        attended_to_BS = audio_valid_BS | ~has_audio_B[:, None]
        mixed_BHTd = scaled_dot_product_attention(
            self._split_heads(self.query(video_BTD)),
            self._split_heads(self.key(audio_BSD)),
            self._split_heads(self.value(audio_BSD)),
            attn_mask=attended_to_BS[:, None, None, :],
        )
        attended_BTD: Tensor = self.output(mixed_BHTd.transpose(1, 2).flatten(start_dim=2))
        return torch.where(has_audio_B[:, None, None], attended_BTD, 0.0)

    def _split_heads(self, x_BND: Tensor) -> Tensor:
        return x_BND.reshape(*x_BND.shape[:2], self.num_heads, -1).transpose(1, 2)


class GatedFusion(nn.Module):
    """A learned mix of the sound and the video, feature by feature (paper eq. 4 and 5; docs/method.md, F12).

    Args:
        width: Features of both inputs and of the output.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * width, width)

    def forward(self, sound_BTD: Tensor, video_BTD: Tensor, has_audio_B: Tensor) -> tuple[Tensor, Tensor]:
        """Mix two sequences that share their steps.

        Args:
            sound_BTD: Float, what the sound says at each video step (F_attn).
            video_BTD: Float, H_v.
            has_audio_B: Bool, False where the gate stays shut (docs/method.md, settled 9).

        Returns:
            The mix and the gate, each float [B, T, D]; the gate in [0, 1] is the share of `sound_BTD`. Where
            `has_audio_B` is False the gate is 0 and the mix is exactly `video_BTD`.
        """
        open_BTD = torch.sigmoid(self.linear(torch.cat((sound_BTD, video_BTD), dim=-1)))
        gate_BTD = torch.where(has_audio_B[:, None, None], open_BTD, 0.0)
        return gate_BTD * sound_BTD + (1 - gate_BTD) * video_BTD, gate_BTD


class HierarchicalFusion(nn.Module):
    """Attention, then the gate: the paper's fusion (paper section 3.4; docs/method.md, F11 and F12).

    Args:
        width: Features of both inputs and of the output.
        num_heads: Attention heads; divides `width`.

    Raises:
        ValueError: As `CrossModalAttention`.
    """

    def __init__(self, *, width: int, num_heads: int) -> None:
        super().__init__()
        self.attention = CrossModalAttention(width=width, num_heads=num_heads)
        self.gated = GatedFusion(width=width)

    def forward(self, video_BTD: Tensor, audio_BSD: Tensor, audio_valid_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Bring the sound to the video steps and mix it in.

        Args:
            video_BTD: Float, H_v.
            audio_BSD: Float, H_a; finite at masked steps too.
            audio_valid_BS: Bool, False for audio steps that may not be used.

        Returns:
            The fused features F and the gate, each float [B, T, D].
        """
        attended_BTD = self.attention(video_BTD, audio_BSD, audio_valid_BS)
        fused_BTD, gate_BTD = self.gated(attended_BTD, video_BTD, audio_valid_BS.any(dim=1))
        return fused_BTD, gate_BTD
