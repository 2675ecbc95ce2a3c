"""Any model that open_clip knows: `open_clip:MODEL/TAG`, or `open_clip:MODEL` with `--clip-weights FILE`.

A tag of `open_clip.list_pretrained()` gives weights and preprocessing; without one, preprocessing is OpenAI's.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray

from va import weights
from va.data.texttower import TowerContent
from va.errors import VAError
from va.extract import clip, texttower
from va.extract.config import OPEN_CLIP, ExtractConfig
from va.extract.digests import digest_of
from va.extract.encoders import Encoder

_FILE = weights.CLIP.filename


def build(name: str, *, config: ExtractConfig, device: torch.device, folder: Path | None = None) -> Encoder:
    """Load an open_clip model by its own name.

    Args:
        name: `open_clip:MODEL` or `open_clip:MODEL/TAG`.
        config: The stage's settings.
        device: Where the model goes.
        folder: What `save` wrote, to be loaded instead of the tag's weights.

    Raises:
        VAError: There is no such model or tag, or its weights are missing, unreadable or do not fit.
    """
    architecture, settings = _look_up(name)
    given = folder or config.clip_weights
    if given is None:
        file = weights.find(hub_file(name), local=None)
    else:
        local = weights.HubFile(
            encoder=name, repository=f"'{name}' on the hub", filename=_FILE, option=weights.CLIP.option
        )
        file = weights.find(local, local=given)
    digest = digest_of(file)
    model = clip.make_model(architecture)
    clip.load_weights(model, file, option=weights.CLIP.option)
    model = model.to(device).eval().requires_grad_(False)
    size = model.visual.image_size
    height, width = size if isinstance(size, tuple) else (size, size)

    def prototypes(texts: Sequence[str], templates: Sequence[str]) -> NDArray[np.float32]:
        return clip.embed_texts(model, _tokenizer(architecture), texts, templates)

    def text_tower(texts: Sequence[str]) -> TowerContent:
        plain = prototypes(texts, ("{}",))
        return texttower.copy(model, _tokenizer(architecture), texts, plain=plain, encoder=name, weights=digest)

    encoder = clip.wrap(
        model,
        name=name,
        dim=int(model.encode_image(torch.zeros(1, 3, height, width, device=device)).shape[-1]),
        weights_digest=digest,
        settings={key: settings.get(key, default) for key, default in clip.DEFAULTS.items()},
        extra={"model": architecture},
        prototypes=prototypes,
        config=config,
    )
    return dataclasses.replace(encoder, text_tower=text_tower)


def hub_file(name: str) -> weights.HubFile:
    """Say which hub file `open_clip:MODEL/TAG` loads.

    Raises:
        VAError: There is no such model or tag, or no safetensors file of it is published.
    """
    repository, _, filename = str(_look_up(name)[1].get("hf_hub", "")).rpartition("/")
    if not repository:
        raise VAError(
            f"--encoders: '{name}' does not say where safetensors weights of it are",
            f"Add a tag that open_clip has on the hub (open_clip:MODEL/TAG), or give a file to {weights.CLIP.option}.",
        )
    return weights.HubFile(
        encoder=name,
        repository=repository,
        # open_clip lists some files by their pickled name; the same weights lie beside them as safetensors.
        filename=str(PurePosixPath(filename or _FILE).with_suffix(".safetensors")),
        option=weights.CLIP.option,
    )


def _look_up(name: str) -> tuple[str, dict[str, Any]]:
    """Give the architecture and the tag's settings, checked against each other (settled 11)."""
    architecture, _, tag = name.removeprefix(OPEN_CLIP).partition("/")
    if architecture not in open_clip.list_models():
        raise VAError(
            f"--encoders: open_clip has no model '{architecture}'",
            "Print the names with: python -c 'import open_clip; print(open_clip.list_pretrained())'",
        )
    if not tag:
        return architecture, {}
    settings = open_clip.get_pretrained_cfg(architecture, tag)
    if not settings:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none; give --clip-weights FILE"
        raise VAError(f"--encoders: '{architecture}' has no pretrained tag '{tag}'", f"Its tags: {tags}.")
    quick = bool(settings.get("quick_gelu"))
    if quick != bool(open_clip.get_model_config(architecture).get("quick_gelu")):
        plain = architecture.removesuffix("-quickgelu")
        raise VAError(
            f"--encoders: '{tag}' was trained with {'QuickGELU' if quick else 'GELU'}, which '{architecture}' has not",
            f"Use {OPEN_CLIP}{plain}{'-quickgelu' if quick else ''}/{tag}.",
        )
    return architecture, dict(settings)


def _tokenizer(architecture: str) -> Any:
    try:
        return open_clip.get_tokenizer(architecture)
    except Exception as error:  # some tokenizers are files on a hub, others need another package
        reason = str(error).splitlines()[0]
        raise VAError(
            f"the tokenizer of '{architecture}' cannot be had ({reason})",
            "Run once on a machine that reaches the hub, or choose a model with CLIP's own tokenizer.",
        ) from None
