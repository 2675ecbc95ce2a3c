"""CLIP image towers through open_clip, and the text prototypes that live beside their features.

OpenAI's weights were trained with QuickGELU. open_clip's plain `ViT-B-16` uses GELU and would load them without a
word, so the name here is `ViT-B-16-quickgelu` (settled 11).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from va import files, weights
from va.errors import VAError
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder, make_identity

_ARCHITECTURE: Final = "ViT-B-16-quickgelu"


def build(name: str, *, config: ExtractConfig, device: torch.device) -> Encoder:
    """Load a CLIP encoder: OpenAI's ViT-B/16 (F1, R7) or the tiny DEMO encoder.

    Raises:
        VAError: The weights are missing or do not fit the architecture.
    """
    if name == "tiny-clip":
        file = weights.DEMO / "tiny-clip" / "model.safetensors"
        model = _tiny(file.with_name("config.json"))
    else:
        file = weights.find(weights.CLIP, local=config.clip_weights)
        model = open_clip.create_model(_ARCHITECTURE, pretrained=None, load_weights=False)
    _load(model, file, option=weights.CLIP.option)
    model = model.to(device).eval().requires_grad_(False)
    return from_model(model, name=name, weights_digest=files.hash_file(file), config=config)


def from_model(model: Any, *, name: str, weights_digest: str, config: ExtractConfig) -> Encoder:
    """Wrap a loaded open_clip model.

    Args:
        model: `open_clip.model.CLIP` in evaluation mode, on its device.
        name: Encoder name.
        weights_digest: Goes into the identity.
        config: The stage's settings.
    """
    size = model.visual.image_size
    side = int(size[0] if isinstance(size, tuple) else size)
    resize = open_clip.image_transform(
        side, is_train=False, mean=OPENAI_DATASET_MEAN, std=OPENAI_DATASET_STD, interpolation="bicubic"
    )

    def transform(rgb: NDArray[Any]) -> NDArray[np.float32]:
        image: NDArray[np.float32] = resize(Image.fromarray(rgb)).numpy()
        return image

    def encode(images: Tensor) -> Tensor:
        features: Tensor = model.encode_image(images, normalize=False)
        return features.float()

    def prototypes(texts: Sequence[str], templates: Sequence[str]) -> NDArray[np.float32]:
        return text_prototypes(model, texts, templates)

    dim = int(model.visual.output_dim)
    preprocessing = {
        "resize": f"shortest side to {side}, bicubic (PIL), centre crop",
        "mean": list(OPENAI_DATASET_MEAN),
        "std": list(OPENAI_DATASET_STD),
        "output": "image embedding after projection, not normalised",
    }
    identity = make_identity(
        name, kind="frames", dim=dim, weights=weights_digest, preprocessing=preprocessing, config=config
    )
    return Encoder(
        name=name,
        kind="frames",
        identity=identity,
        dim=dim,
        transform=transform,
        encode=encode,
        prototypes=prototypes,
    )


@torch.no_grad()
def text_prototypes(model: Any, texts: Sequence[str], templates: Sequence[str]) -> NDArray[np.float32]:
    """Average each text's normalised embeddings over the templates (paper section 3.3; F9).

    Args:
        model: `open_clip.model.CLIP`.
        texts: One per region.
        templates: Each with one `{}` for the text.

    Returns:
        float32 [texts, dim]; means of unit vectors, so of length at most 1.
    """
    tokenizer = open_clip.SimpleTokenizer(context_length=int(model.context_length))
    device = next(model.parameters()).device
    rows = []
    for text in texts:
        tokens = tokenizer([template.format(text) for template in templates]).to(device)
        rows.append(model.encode_text(tokens, normalize=True).float().mean(dim=0))
    prototypes: NDArray[np.float32] = torch.stack(rows).cpu().numpy()
    return prototypes


def _tiny(config_file: Path) -> Any:
    settings = json.loads(config_file.read_text(encoding="utf-8"))
    return open_clip.CLIP(**settings)


def _load(model: Any, file: Path, *, option: str) -> None:
    try:
        state = {name: tensor.float() for name, tensor in load_file(file).items()}
        model.load_state_dict(state, strict=True)
    except Exception as error:  # safetensors and torch raise several types for a file that does not fit
        reason = str(error).splitlines()[0]
        raise VAError(
            f"{file}: does not hold weights of this CLIP architecture ({reason})",
            f"Give an open_clip file such as {weights.CLIP.repository}: {weights.CLIP.filename} to {option}.",
        ) from None
