"""Learned context before the region texts, seen through CLIP's frozen text tower (CoOp).

M vectors of the tower's width, the same for all regions, stand between the start token and a region's words, and are
what is trained; the tower is not (Zhou, Yang, Loy and Liu: Learning to Prompt for Vision-Language Models, 2022: its
unified context, class at the end; docs/method.md, "Learned context"). The tower is open_clip's, written out here
because stage two reads features and files, not encoders. The tests hold it against open_clip's `encode_text`.

Shapes: N trials (the axis may be missing, see `layers`), R regions, M context vectors, L the longest text's tokens,
its end included, C the tower's places, W its width, P prototype dimension.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, scaled_dot_product_attention

ACTIVATIONS: Final = ("gelu", "quick_gelu")
_MIN_NORM: Final = 1e-6
_INIT_STD: Final = 0.02


def initial_context(*, count: int, width: int, generator: torch.Generator) -> Tensor:
    """Draw first context vectors as CoOp does: float32 [M, W], normal, deviation 0.02."""
    return _INIT_STD * torch.randn(count, width, generator=generator)


class RegionTexts(nn.Module):
    """A frozen text tower and the words of the regions' texts.

    Args:
        regions: R.
        longest: L.
        places: C.
        width: W.
        hidden: Units between the two linear layers of a block.
        layers: Blocks.
        heads: Attention heads of a block; divides `width`.
        dim: P.
        activation: "gelu" or "quick_gelu" (docs/method.md, settled 11).
        eps: Of all layer norms.

    Attributes:
        start: Float [W], embedding of the start token.
        words: Float [R, L, W], embeddings of each text's tokens, then of the end token, then anything finite.
        lengths: int64 [R], a text's tokens and its end; 1 to L.
        positions: Float [C, W].
        projection: Float [W, P].

    Raises:
        ValueError: An unknown activation, or `heads` does not divide `width`.
    """

    start: Tensor
    words: Tensor
    lengths: Tensor
    positions: Tensor
    projection: Tensor

    def __init__(
        self,
        *,
        regions: int,
        longest: int,
        places: int,
        width: int,
        hidden: int,
        layers: int,
        heads: int,
        dim: int,
        activation: str,
        eps: float,
    ) -> None:
        super().__init__()
        self.register_buffer("start", torch.zeros(width))
        self.register_buffer("words", torch.zeros(regions, longest, width))
        self.register_buffer("lengths", torch.ones(regions, dtype=torch.int64))
        self.register_buffer("positions", torch.zeros(places, width))
        self.register_buffer("projection", torch.zeros(width, dim))
        self.blocks = nn.ModuleList(
            _Block(width=width, hidden=hidden, heads=heads, activation=activation, eps=eps) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width, eps=eps)
        self.requires_grad_(False)

    @property
    def room(self) -> int:
        """Most context vectors that fit between the start token and the longest text."""
        return len(self.positions) - 1 - self.words.shape[1]

    def forward(self, context: Tensor) -> Tensor:
        """Embed every region's text behind the context.

        Nothing comes after a text's end that it could see, so the sequences are only as long as the longest text.

        Args:
            context: Float [(N,) M, W]; M may be 0, which gives the plain texts.

        Returns:
            Float [(N,) R, P], unit vectors. Trial i's depend on trial i's context alone.

        Raises:
            ValueError: M is more than `room`, or the width is another.
        """
        count, width = context.shape[-2:]
        if count > self.room or width != len(self.start):
            raise ValueError(f"context {tuple(context.shape)} does not fit {self.room} places of {len(self.start)}")
        stacked = context if context.ndim == 3 else context[None]
        regions, trials = len(self.words), len(stacked)
        parts = (
            self.start.expand(trials, regions, 1, width),
            stacked[:, None].expand(trials, regions, count, width),
            self.words.expand(trials, *self.words.shape),
        )
        x = torch.cat(parts, dim=2).flatten(0, 1)
        x = x + self.positions[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        ends = (count + self.lengths).repeat(trials)
        pooled = self.norm(x[torch.arange(len(x), device=x.device), ends])
        return normalize(pooled @ self.projection, dim=-1, eps=_MIN_NORM).view(*context.shape[:-2], regions, -1)


class _Block(nn.Module):
    """A causal transformer block with its norms before the sublayers, on float [sequences, tokens, W]."""

    def __init__(self, *, width: int, hidden: int, heads: int, activation: str, eps: float) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation!r}")
        if heads < 1 or width % heads:
            raise ValueError(f"heads must divide width {width}, got {heads}")
        self.heads = heads
        self.activation = activation
        self.norm_1 = nn.LayerNorm(width, eps=eps)
        self.in_proj = nn.Linear(width, 3 * width)
        self.out_proj = nn.Linear(width, width)
        self.norm_2 = nn.LayerNorm(width, eps=eps)
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.in_proj(self.norm_1(x)).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out_proj(mixed.transpose(1, 2).reshape(x.shape))
        inner = self.up(self.norm_2(x))
        inner = gelu(inner) if self.activation == "gelu" else inner * torch.sigmoid(1.702 * inner)
        result: Tensor = x + self.down(inner)
        return result


def from_tensors(tensors: Mapping[str, Tensor], *, heads: int, activation: str, eps: float) -> RegionTexts:
    """Build a tower from its state dict, which also says every size; draws no random numbers.

    Args:
        tensors: As `RegionTexts.state_dict` gives them; used as they are, not copied.
        heads: Attention heads of a block.
        activation: "gelu" or "quick_gelu".
        eps: Of all layer norms.

    Raises:
        ValueError: A tensor is missing, left over, of another shape or dtype, or a length is out of range.
    """
    try:
        regions, longest, width = tensors["words"].shape
        layers = sum(name.endswith(".up.weight") for name in tensors)
        with torch.device("meta"):
            texts = RegionTexts(
                regions=regions,
                longest=longest,
                places=len(tensors["positions"]),
                width=width,
                hidden=len(tensors["blocks.0.up.weight"]),
                layers=layers,
                heads=heads,
                dim=tensors["projection"].shape[1],
                activation=activation,
                eps=eps,
            )
        expected = {name: tensor.dtype for name, tensor in texts.state_dict().items()}
        texts.load_state_dict(dict(tensors), strict=True, assign=True)
    except (KeyError, IndexError, RuntimeError) as error:
        raise ValueError(f"not a text tower: {' '.join(str(error).split())[:200]}") from None
    other = [name for name, dtype in expected.items() if tensors[name].dtype != dtype]
    if other:
        raise ValueError(f"{other[0]} is {tensors[other[0]].dtype}, not {expected[other[0]]}")
    if not ((texts.lengths >= 1) & (texts.lengths <= longest)).all():
        raise ValueError(f"lengths must lie in 1 to {longest}")
    return texts
