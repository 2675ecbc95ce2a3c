"""A tiny text tower with random weights beside the small corpus's features, made without open_clip."""

import shutil
from pathlib import Path

import pytest
import torch
from small_corpus import TEXT_DIM, Small, build
from torch import Tensor

from va.data import prototypes, texttower
from va.data.features import FeatureStore
from va.data.texttower import TextTower, TowerContent
from va.model.text import RegionTexts

WIDTH, PLACES = 12, 16


@pytest.fixture(scope="session")
def towered(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """The small corpus with a text tower beside its features; tests must not change it."""
    small = build(tmp_path_factory.mktemp("towered"))
    add(small)
    return small


@pytest.fixture
def own(towered: Small, tmp_path: Path) -> Small:
    """A copy of the features that a test may change."""
    shutil.copytree(towered.features, tmp_path / "features")
    return Small(towered.corpus, tmp_path / "features")


def store_of(small: Small) -> Path:
    """The folder of the face features, where the tower lies."""
    (folder,) = small.features.glob("eye-*")
    return folder


def random_tensors(
    *,
    regions: int = 9,
    longest: int = 5,
    dim: int = TEXT_DIM,
    width: int = WIDTH,
    hidden: int = 2 * WIDTH,
    layers: int = 2,
    seed: int = 0,
) -> dict[str, Tensor]:
    """A tower's tensors, float32: blocks of two heads."""
    texts = RegionTexts(
        regions=regions,
        longest=longest,
        places=PLACES,
        width=width,
        hidden=hidden,
        layers=layers,
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
    folder = store_of(small)
    assert prototypes.read(folder).texts[0] == "text 0" and FeatureStore(folder).identity["weights"] == "0" * 32
    texttower.write(folder, content(random_tensors(), **changes))
    return folder
