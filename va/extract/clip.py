"""CLIP image towers through open_clip, and the text prototypes that live beside their features.

OpenAI's weights were trained with QuickGELU. open_clip's plain `ViT-B-16` uses GELU and would load them without a
word, so the name here is `ViT-B-16-quickgelu` (settled 11). `openclip.py` builds open_clip's other models.
"""

import dataclasses
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import load_file, save
from torch import Tensor

from va import files, weights
from va.data.texttower import TowerContent
from va.errors import VAError
from va.extract import inputs, texttower
from va.extract.config import ExtractConfig
from va.extract.digests import digest_of
from va.extract.encoders import Encoder, make_identity

_OPENAI: Final = {
    weights.CLIP.encoder: ("ViT-B-16-quickgelu", weights.CLIP),
    weights.CLIP_32.encoder: ("ViT-B-32-quickgelu", weights.CLIP_32),
}
DEFAULTS: Final[Mapping[str, Any]] = {
    "mean": OPENAI_DATASET_MEAN,
    "std": OPENAI_DATASET_STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
    "fill_color": 0,
}
"""OpenAI's preprocessing, open_clip's default too."""


def build(name: str, *, config: ExtractConfig, device: torch.device, folder: Path | None = None) -> Encoder:
    """Load a CLIP encoder: OpenAI's ViT-B/16 (F1, R7), its ViT-B/32 (F15) or the tiny DEMO encoder.

    Args:
        name: Its name.
        config: The stage's settings.
        device: Where the model goes.
        folder: What `save` wrote, to be loaded instead of the published weights.

    Raises:
        VAError: The weights are missing, unreadable or do not fit the architecture.
    """
    if name == "tiny-clip":
        file = weights.DEMO / "tiny-clip" / "model.safetensors"
        model = _tiny(file.with_name("config.json"))
        if folder is not None:
            file = weights.find(weights.CLIP, local=folder)
    else:
        architecture, hub_file = _OPENAI[name]
        file = weights.find(hub_file, local=folder or config.clip_weights)
        model = make_model(architecture)
    digest = digest_of(file)  # before loading, whose errors say nothing of permissions
    load_weights(model, file, option=weights.CLIP.option)
    model = model.to(device).eval().requires_grad_(False)
    return from_model(model, name=name, weights_digest=digest, config=config)


def make_model(architecture: str) -> Any:
    """Make an open_clip model whose weights are loaded afterwards, without its warning that they are random."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        return open_clip.create_model(architecture, pretrained=None, load_weights=False, pretrained_text=False)
    finally:
        logging.disable(before)


def from_model(model: Any, *, name: str, weights_digest: str, config: ExtractConfig) -> Encoder:
    """Wrap a loaded open_clip model with OpenAI's preprocessing and tokenizer.

    Args:
        model: `open_clip.model.CLIP` in evaluation mode, on its device.
        name: Encoder name.
        weights_digest: Goes into the identity.
        config: The stage's settings.
    """

    def prototypes(texts: Sequence[str], templates: Sequence[str]) -> NDArray[np.float32]:
        return text_prototypes(model, texts, templates)

    def text_tower(texts: Sequence[str]) -> TowerContent:
        plain = prototypes(texts, ("{}",))
        return texttower.copy(model, _tokenizer(model), texts, plain=plain, encoder=name, weights=weights_digest)

    encoder = wrap(
        model,
        name=name,
        dim=int(model.visual.output_dim),
        weights_digest=weights_digest,
        settings=DEFAULTS,
        extra={},
        prototypes=prototypes,
        config=config,
    )
    return dataclasses.replace(encoder, text_tower=text_tower)


def wrap(
    model: Any,
    *,
    name: str,
    dim: int,
    weights_digest: str,
    settings: Mapping[str, Any],
    extra: Mapping[str, Any],
    prototypes: Callable[[Sequence[str], Sequence[str]], NDArray[np.float32]],
    config: ExtractConfig,
) -> Encoder:
    """Wrap any loaded open_clip model.

    Args:
        model: In evaluation mode, on its device.
        name: Encoder name.
        dim: Length of an image embedding.
        weights_digest: Goes into the identity.
        settings: Of the preprocessing, with the keys of `DEFAULTS`.
        extra: More for the identity's `preprocessing`, as plain JSON.
        prototypes: Texts and templates -> float32 [texts, dim].
        config: The stage's settings.
    """
    size = model.visual.image_size
    side = int(size[0] if isinstance(size, tuple) else size)
    kernel, fill = settings["interpolation"], int(settings["fill_color"])
    device = next(model.parameters()).device
    mean, std = (torch.tensor(settings[key], device=device).view(3, 1, 1) for key in ("mean", "std"))

    def encode(pictures: Tensor) -> Tensor:
        features: Tensor = model.encode_image(normalise(pictures, mean, std), normalize=False)
        return features.float()

    shapes = {
        "shortest": f"shortest side to {side}, {kernel} (PIL), centre crop",
        "longest": f"longest side to {side}, {kernel} (PIL), padded" + (f" with {fill}" if fill else ""),
        "squash": f"both sides to {side}, {kernel} (PIL)",
    }
    preprocessing = {
        "resize": shapes[settings["resize_mode"]],
        "mean": list(settings["mean"]),
        "std": list(settings["std"]),
        "output": "image embedding after projection, not normalised",
        **extra,
    }
    identity = make_identity(
        name, kind="frames", dim=dim, weights=weights_digest, preprocessing=preprocessing, config=config
    )
    return Encoder(
        name=name,
        kind="frames",
        identity=identity,
        dim=dim,
        transform=partial(
            inputs.clip_picture,
            side=side,
            resize_mode=settings["resize_mode"],
            interpolation=kernel,
            fill_color=fill,
        ),
        encode=encode,
        prototypes=prototypes,
        tower=model.visual,  # not the text tower: prototypes stay as they are
        save=partial(_save, model),
    )


def _save(model: Any, folder: Path) -> None:
    """Write both towers, so that texts of a fine-tuned encoder can be embedded too."""
    state = {name: tensor.detach().float().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    files.write_bytes(folder / weights.CLIP.filename, save(state))


def normalise(pictures: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Do what torchvision's ToTensor and Normalize do, with the same operations: equal to the last bit on a CPU.

    Args:
        pictures: uint8 [B, side, side, 3].
        mean: float32 [3, 1, 1], on the same device.
        std: float32 [3, 1, 1].

    Returns:
        float32 [B, 3, side, side].
    """
    scaled = pictures.permute(0, 3, 1, 2).contiguous().to(torch.float32).div_(255)
    return scaled.sub_(mean).div_(std)


def text_prototypes(model: Any, texts: Sequence[str], templates: Sequence[str]) -> NDArray[np.float32]:
    """Average each text's normalised embeddings over the templates (paper section 3.3; F9).

    Args:
        model: `open_clip.model.CLIP`.
        texts: One per region.
        templates: Each with one `{}` for the text.

    Returns:
        float32 [texts, dim]; means of unit vectors, so of length at most 1.
    """
    return embed_texts(model, _tokenizer(model), texts, templates)


def _tokenizer(model: Any) -> Any:
    return open_clip.SimpleTokenizer(context_length=int(model.context_length))


@torch.no_grad()
def embed_texts(model: Any, tokenizer: Any, texts: Sequence[str], templates: Sequence[str]) -> NDArray[np.float32]:
    """Do the same with another tokenizer: a list of sentences -> int64 [sentences, context]."""
    device = next(model.parameters()).device
    _check_lengths(tokenizer, [template.format(text) for text in texts for template in templates])
    rows = []
    for text in texts:
        tokens = tokenizer([template.format(text) for template in templates]).to(device)
        rows.append(model.encode_text(tokens, normalize=True).float().mean(dim=0))
    prototypes: NDArray[np.float32] = torch.stack(rows).cpu().numpy()
    return prototypes


def _check_lengths(tokenizer: Any, sentences: Sequence[str]) -> None:
    """Refuse what the tokenizer would cut off without a word."""
    if not isinstance(tokenizer, open_clip.SimpleTokenizer):
        return
    room = int(tokenizer.context_length) - 2  # for the marks of start and end
    for sentence in sentences:
        if len(tokenizer.encode(sentence)) > room:
            raise VAError(
                f"'{sentence[:60]}...' is longer than the {room} tokens that the encoder reads",
                "Shorten the text, or its template.",
            )


def _tiny(config_file: Path) -> Any:
    settings = json.loads(config_file.read_text(encoding="utf-8"))
    return open_clip.CLIP(**settings)


def load_weights(model: Any, file: Path, *, option: str) -> None:
    """Load a safetensors file into a model, every tensor of it.

    Raises:
        VAError: It does not fit the architecture; `option` is what to give another file to.
    """
    try:
        state = {name: tensor.float() for name, tensor in load_file(file).items()}
        model.load_state_dict(state, strict=True)
    except Exception as error:  # safetensors and torch raise several types for a file that does not fit
        reason = str(error).splitlines()[0]
        raise VAError(
            f"{file}: does not hold weights of this CLIP architecture ({reason})",
            f"Give an open_clip file such as {weights.CLIP.repository}: {weights.CLIP.filename} to {option}.",
        ) from None
