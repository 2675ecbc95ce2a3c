"""An open_clip model's text tower as the file that `va train --context` reads (`va/data/texttower.py`)."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from va.data import texttower
from va.data.texttower import TextTower, TowerContent
from va.errors import VAError
from va.model import text

_CLOSE: Final = 1e-4
"""Largest difference from open_clip's own unit vectors; another architecture differs in the first digit."""


@torch.no_grad()
def copy(
    model: Any, tokenizer: Any, texts: Sequence[str], *, plain: NDArray[np.float32], encoder: str, weights: str
) -> TowerContent:
    """Copy the text tower of an open_clip model, with the embeddings of some texts' tokens.

    Args:
        model: `open_clip.model.CLIP`, or another with a `TextTransformer` as `text`.
        tokenizer: A list of sentences -> int64 [sentences, context].
        texts: The regions' texts, without a template.
        plain: float32 [texts, dim], the model's own normalised embeddings of the texts, which the copy must give too.
        encoder: The encoder's name.
        weights: Hash of its weights.

    Raises:
        VAError: The tower is of another kind, which our own does not reproduce.
    """
    try:
        tower = getattr(model, "text", model)
        tokens = tokenizer(list(texts)).cpu()
        ends = _ends(tower, tokens)
        tensors = _tensors(tower, tokens, ends)
        activation, eps = _activation(tower), float(tower.ln_final.eps)
        heads = int(tower.transformer.resblocks[0].attn.num_heads)
        ours = text.from_tensors(tensors, heads=heads, activation=activation, eps=eps)
    except (AttributeError, TypeError, ValueError, KeyError) as error:
        raise _other(encoder, str(error)) from None
    # What the checks above do not know of (another mask, another pooling) shows here.
    difference = float((ours(torch.zeros(0, ours.start.shape[0])) - torch.from_numpy(plain)).abs().max())
    if not difference <= _CLOSE:
        raise _other(encoder, f"our copy's embeddings differ by {difference:.1g}")
    return TowerContent(
        TextTower(
            encoder=encoder,
            weights=weights,
            texts=tuple(texts),
            tokens=tuple(tuple(row[1 : end + 1].tolist()) for row, end in zip(tokens, ends.tolist(), strict=True)),
            heads=heads,
            activation=activation,
            eps=eps,
            blake2b=texttower.checksum(tensors),
        ),
        tensors,
    )


def _ends(tower: Any, tokens: Tensor) -> Tensor:
    """Give the place of each text's end token, where the tower looks: int64 [texts]."""
    pooling = tower.text_pool_type if hasattr(tower, "text_pool_type") else tower.pool_type
    if pooling == "argmax":
        ends: Tensor = tokens.argmax(dim=-1)
        return ends
    if pooling == "eos":
        end = tower.text_eos_id if hasattr(tower, "text_eos_id") else tower.eos_id
        ends = (tokens == end).int().argmax(dim=-1)
        return ends
    raise ValueError(f"it reads its '{pooling}' token")


def _tensors(tower: Any, tokens: Tensor, ends: Tensor) -> dict[str, Tensor]:
    if not isinstance(tower.text_projection, Tensor):
        raise ValueError("its projection is not a matrix")
    embedding = tower.token_embedding.weight.cpu()
    words = torch.zeros(len(tokens), int(ends.max()), embedding.shape[1])
    for row, (text_tokens, end) in enumerate(zip(tokens, ends.tolist(), strict=True)):
        words[row, :end] = embedding[text_tokens[1 : end + 1]]
    found = {
        "start": embedding[tokens[0, 0]],
        "words": words,
        "lengths": ends,
        "positions": tower.positional_embedding,
        "projection": tower.text_projection,
        "norm.weight": tower.ln_final.weight,
        "norm.bias": tower.ln_final.bias,
    }
    for number, block in enumerate(tower.transformer.resblocks):
        parts = {
            "norm_1.weight": block.ln_1.weight,
            "norm_1.bias": block.ln_1.bias,
            "in_proj.weight": block.attn.in_proj_weight,
            "in_proj.bias": block.attn.in_proj_bias,
            "out_proj.weight": block.attn.out_proj.weight,
            "out_proj.bias": block.attn.out_proj.bias,
            "norm_2.weight": block.ln_2.weight,
            "norm_2.bias": block.ln_2.bias,
            "up.weight": block.mlp.c_fc.weight,
            "up.bias": block.mlp.c_fc.bias,
            "down.weight": block.mlp.c_proj.weight,
            "down.bias": block.mlp.c_proj.bias,
        }
        found |= {f"blocks.{number}.{name}": tensor for name, tensor in parts.items()}
    return {name: each.detach().cpu().contiguous().clone() for name, each in found.items()}


def _activation(tower: Any) -> str:
    layer = tower.transformer.resblocks[0].mlp.gelu
    if type(layer).__name__ == "QuickGELU":
        return "quick_gelu"
    if isinstance(layer, nn.GELU) and layer.approximate == "none":
        return "gelu"
    raise ValueError(f"its activation is {layer}")


def _other(encoder: str, reason: str) -> VAError:
    return VAError(
        f"--tower: the text tower of '{encoder}' is not of CLIP's kind ({reason})",
        "Leave out --tower; --context needs a CLIP encoder whose texts end in an end token and are read causally.",
    )
