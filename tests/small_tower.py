"""A tiny text tower with random weights beside the small corpus's features, made without open_clip."""

from pathlib import Path

import torch
from small_corpus import TEXT_DIM, Small
from torch import Tensor

from va.data import prototypes, texttower
from va.data.features import FeatureStore
from va.data.texttower import TextTower, TowerContent
from va.model.text import RegionTexts

WIDTH, PLACES = 12, 16


def random_tensors(*, regions: int = 9, longest: int = 5, dim: int = TEXT_DIM, seed: int = 0) -> dict[str, Tensor]:
    """A tower's tensors, float32: two blocks of two heads."""
    texts = RegionTexts(
        regions=regions,
        longest=longest,
        places=PLACES,
        width=WIDTH,
        hidden=2 * WIDTH,
        layers=2,
        heads=2,
        dim=dim,
        activation="quick_gelu",
        eps=1e-5,
    )
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: 0.5 * torch.randn(each.shape, generator=generator) for name, each in texts.state_dict().items()}
    lengths = torch.arange(regions) % longest + 1
    lengths[0] = longest
    return tensors | {"lengths": lengths}


def content(tensors: dict[str, Tensor], **changes: object) -> TowerContent:
    """Tensors as `texttower.write` takes them."""
    about = {
        "encoder": "eye",
        "weights": "0" * 32,
        "texts": tuple(f"text {region}" for region in range(len(tensors["words"]))),
        "tokens": tuple(tuple(range(1, length + 1)) for length in tensors["lengths"].tolist()),
        "heads": 2,
        "activation": "quick_gelu",
        "eps": 1e-5,
        "blake2b": texttower.checksum(tensors),
    }
    return TowerContent(TextTower(**(about | changes)), tensors)  # type: ignore[arg-type]


def add(small: Small, **changes: object) -> Path:
    """Write a tower beside a corpus's face features; returns their folder."""
    (folder,) = small.features.glob("eye-*")
    assert prototypes.read(folder).texts[0] == "text 0" and FeatureStore(folder).identity["weights"] == "0" * 32
    texttower.write(folder, content(random_tensors(), **changes))
    return folder
