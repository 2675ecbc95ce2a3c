"""How the two modalities become one sequence of features (paper section 3.4, eq. 3 to 5).

Attention brings the sound to the steps of the video, the gate decides how much of it is used. The paper's table 2
compares both together with each of them alone; the three fusions are built and called alike.

Shapes: N trials (the axis may be missing, see `layers`), B batch, T video steps, S audio steps, D width,
H attention heads of d features each.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from va.model.layers import Linear


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
        self.query = Linear(width, width)
        self.key = Linear(width, width, bias=False)
        self.value = Linear(width, width)
        self.output = Linear(width, width)

    def forward(self, video: Tensor, audio: Tensor, audio_valid: Tensor) -> Tensor:
        """Let every video step look at the valid audio steps of its window.

        Args:
            video: Float [(N,) B, T, D], the queries (H_v).
            audio: Float [(N,) B, S, D], keys and values (H_a); finite at masked steps too.
            audio_valid: Bool [(N,) B, S], False for steps that are not attended to.

        Returns:
            Float [(N,) B, T, D]: F_attn; exactly 0 in a window without a valid audio step
            (docs/method.md, settled 9).
        """
        has_audio = audio_valid.any(dim=-1, keepdim=True)
        # A softmax over nothing is NaN, which only some of the library's backends avoid: a window without audio
        # attends to everything and is zeroed below.
        attended_to = audio_valid | ~has_audio
        mixed = scaled_dot_product_attention(
            self._split_heads(self.query(video)),
            self._split_heads(self.key(audio)),
            self._split_heads(self.value(audio)),
            attn_mask=attended_to.flatten(0, -2)[:, None, None],
        )
        joined = mixed.transpose(1, 2).reshape(video.shape)
        attended: Tensor = self.output(joined)
        return torch.where(has_audio[..., None], attended, 0.0)

    def _split_heads(self, x: Tensor) -> Tensor:
        # One axis for trials and batch: with five, the library has only its slow path.
        steps, width = x.shape[-2:]
        return x.reshape(-1, steps, self.num_heads, width // self.num_heads).transpose(1, 2)


class GatedFusion(nn.Module):
    """A learned mix of the sound and the video, feature by feature (paper eq. 4 and 5; docs/method.md, F12).

    Args:
        width: Features of both inputs and of the output.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.linear = Linear(2 * width, width)

    def forward(self, sound: Tensor, video: Tensor, has_sound: Tensor) -> tuple[Tensor, Tensor]:
        """Mix two sequences that share their steps.

        Args:
            sound: Float [(N,) B, T, D], what the sound says at each video step (F_attn); finite everywhere.
            video: Float [(N,) B, T, D], H_v.
            has_sound: Bool [(N,) B, T], or 1 for T; False where the gate stays shut (docs/method.md, settled 9).

        Returns:
            The mix and the gate, each float [(N,) B, T, D]; the gate in [0, 1] is the share of `sound`. Where
            `has_sound` is False the gate is 0 and the mix is exactly `video`.
        """
        opened = torch.sigmoid(self.linear(torch.cat((sound, video), dim=-1)))
        gate = torch.where(has_sound[..., None], opened, 0.0)
        return gate * sound + (1 - gate) * video, gate


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

    def forward(self, video: Tensor, audio: Tensor, audio_valid: Tensor) -> tuple[Tensor, Tensor]:
        """Bring the sound to the video steps and mix it in.

        Args:
            video: Float [(N,) B, T, D], H_v.
            audio: Float [(N,) B, S, D], H_a; finite at masked steps too.
            audio_valid: Bool [(N,) B, S], False for audio steps that may not be used.

        Returns:
            The fused features F and the gate, each float [(N,) B, T, D]. Without any valid audio step F is `video`
            and the gate 0.
        """
        attended = self.attention(video, audio, audio_valid)
        fused, gate = self.gated(attended, video, audio_valid.any(dim=-1, keepdim=True))
        return fused, gate


class AttentionFusion(nn.Module):
    """Attention alone: F = F_attn, and the video only asks (paper table 2; docs/method.md, F11 and F19).

    Args:
        width: Features of both inputs and of the output.
        num_heads: Attention heads; divides `width`.

    Raises:
        ValueError: As `CrossModalAttention`.
    """

    def __init__(self, *, width: int, num_heads: int) -> None:
        super().__init__()
        self.attention = CrossModalAttention(width=width, num_heads=num_heads)

    def forward(self, video: Tensor, audio: Tensor, audio_valid: Tensor) -> tuple[Tensor, Tensor]:
        """Bring the sound to the video steps; arguments as `HierarchicalFusion.forward`.

        Returns:
            The fused features F and the gate, each float [(N,) B, T, D]. The gate is 1, for F is the sound alone;
            without any valid audio step both are 0 (docs/method.md, settled 9).
        """
        attended = self.attention(video, audio, audio_valid)
        has_audio = audio_valid.any(dim=-1)[..., None, None]
        return attended, has_audio.to(attended.dtype).expand_as(attended)


class GatedAlone(nn.Module):
    """The gate alone: the sound of the same moment is mixed in (paper table 2; docs/method.md, F12 and settled 10).

    Args:
        width: Features of both inputs and of the output.
        num_heads: Not used: there is no attention. It is here so that all fusions are built alike.
    """

    def __init__(self, *, width: int, num_heads: int) -> None:
        super().__init__()
        self.gated = GatedFusion(width=width)

    def forward(self, video: Tensor, audio: Tensor, audio_valid: Tensor) -> tuple[Tensor, Tensor]:
        """Interpolate the sound to the video steps and mix it in; arguments as `HierarchicalFusion.forward`.

        Returns:
            The fused features F and the gate, each float [(N,) B, T, D]. At a video step that has no valid audio
            step beside it F is `video` and the gate 0.
        """
        weights = _interpolation(audio_valid, num_steps=video.shape[-2], dtype=audio.dtype)
        sound = weights @ audio.masked_fill(~audio_valid[..., None], 0.0)  # 0 x NaN is NaN
        fused, gate = self.gated(sound, video, (weights > 0).any(dim=-1))
        return fused, gate


def _interpolation(audio_valid: Tensor, *, num_steps: int, dtype: torch.dtype) -> Tensor:
    """Give the weights of linear interpolation in time from audio steps to video steps, over valid ones only.

    Both sequences divide one window evenly: step i of n is centred at (i + 0.5) / n of it. A video step takes from the
    two audio steps around it, or from the outermost where there is none further out. If one of the two is masked the
    other is taken whole; if both are, nothing is, rather than the sound of another moment.

    Args:
        audio_valid: Bool [(N,) B, S].
        num_steps: T.
        dtype: Of the weights.

    Returns:
        Float [(N,) B, T, S]: rows that sum to 1, or to 0 without a valid step beside.
    """
    num_audio, device = audio_valid.shape[-1], audio_valid.device
    # In units of 1 / (2 T) of an audio step all times are whole numbers: a weight of 0 is 0 and not a rounding error,
    # which a masked neighbour would blow up to 1.
    step = 2 * num_steps
    audio_time = step * torch.arange(num_audio, device=device)
    video_time = (2 * torch.arange(num_steps, device=device) + 1) * num_audio - num_steps
    closeness = (step - (video_time[:, None] - audio_time).abs()).clamp(min=0)
    share = (closeness * audio_valid[..., None, :]).to(dtype)
    return share / share.sum(dim=-1, keepdim=True).clamp(min=1)
