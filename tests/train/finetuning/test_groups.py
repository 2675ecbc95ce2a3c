"""Every parameter in exactly one group, at its rate; at the full size without any memory."""

import contextlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import transformers
from tiny_towers import config, plain, rates_of, small_ast, vit
from torch import nn
from transformers import ASTConfig, ASTModel

from va.errors import VAError
from va.extract import ast, clip, encoders
from va.extract.encoders import Encoder
from va.train import weight_decay
from va.train.finetuning import groups

CPU, META = torch.device("cpu"), torch.device("meta")
RATE, DECAY = 3e-6, 1e-4


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """A device without memory, for which torch has no autocast that could be switched off."""
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: contextlib.nullcontext())
    return META


@cache
def full_clip() -> Encoder:
    with META:
        model = open_clip.CLIP(
            512,
            {"image_size": 224, "layers": 12, "width": 768, "head_width": 64, "patch_size": 16},
            {"context_length": 77, "vocab_size": 49_408, "width": 512, "heads": 8, "layers": 12},
            quick_gelu=True,
        )
    return clip.from_model(model.eval(), name="clip-vit-b-16", weights_digest="w", config=config())


@cache
def full_ast() -> Encoder:
    with META:
        model = ASTModel(ASTConfig())
    return ast.from_model(
        model.eval(), name="ast", weights_digest="w", normalisation=ast.AUDIOSET, config=config(window_s=10.0)
    )


def height_by_name(name: str) -> int:
    """Where a parameter of ViT-B/16 or of AST lies, as their papers have it: 0 below the blocks, 1 to 12, 13 above."""
    parts = name.split(".")
    if name.startswith(("transformer.resblocks.", "layers.")):
        return int(parts[2 if parts[0] == "transformer" else 1]) + 1
    return 13 if parts[0] in ("ln_post", "proj", "layernorm") else 0


def grouped(encoder: Encoder, device: torch.device = CPU, **changes: Any) -> list[dict[str, Any]]:
    settings = {"thaw": -1, "learning_rate": RATE, "weight_decay": DECAY, "layer_decay": 1.0} | changes
    return groups.learning_groups(encoder, groups.study(encoder, device), option="--thaw-face", **settings)


@pytest.mark.parametrize(("make", "parameters"), [(full_clip, 86_192_640), (full_ast, 86_187_264)])
@pytest.mark.parametrize("layer_decay", [1.0, 0.75])
def test_every_parameter_of_the_full_size_in_one_group(
    make: Callable[[], Encoder], parameters: int, layer_decay: float, meta: torch.device
) -> None:
    encoder = make()
    assert encoder.tower is not None
    named = dict(encoder.tower.named_parameters())
    found = rates_of(grouped(encoder, meta, layer_decay=layer_decay))
    assert found.keys() == named.keys()
    assert sum(parameter.numel() for parameter in named.values()) == parameters
    for name, (rate, decay) in found.items():
        assert rate == pytest.approx(RATE * layer_decay ** max(0, 12 - height_by_name(name)), rel=1e-12)
        flat = name.endswith("bias") or any(each in name for each in ("ln_", "layernorm", "class_embedding"))
        assert decay == (0.0 if flat else DECAY), name
    ids = [id(parameter) for group in grouped(encoder, meta) for parameter in group["params"]]
    assert len(ids) == len(set(ids)) == len(named)


@pytest.mark.parametrize("make", [full_clip, full_ast])
@pytest.mark.parametrize("thaw", [0, 5, 12])
def test_the_last_blocks_and_what_is_above_them_thaw(
    make: Callable[[], Encoder], thaw: int, meta: torch.device
) -> None:
    encoder = make()
    assert encoder.tower is not None
    expected = {name for name, _ in encoder.tower.named_parameters() if thaw and height_by_name(name) > 12 - thaw}
    assert rates_of(grouped(encoder, meta, thaw=thaw)).keys() == expected


def test_the_demo_encoders_at_their_rates() -> None:
    pair = [encoders.build(name, config=config(), device=CPU) for name in ("tiny-clip", "tiny-ast")]
    face, voice = (rates_of(grouped(each, layer_decay=0.5)) for each in pair)
    assert face.keys() == dict(pair[0].tower.named_parameters()).keys()  # type: ignore[union-attr]
    assert voice.keys() == dict(pair[1].tower.named_parameters()).keys()  # type: ignore[union-attr]
    # A ResNet: its four stages are the blocks, its stem lies below, its attention pool above.
    assert face["conv1.weight"] == (RATE / 16, DECAY) and face["bn1.weight"] == (RATE / 16, 0.0)
    assert face["layer1.0.conv1.weight"] == (RATE / 8, DECAY) and face["layer4.0.bn3.bias"] == (RATE, 0.0)
    assert face["attnpool.positional_embedding"] == (RATE, DECAY)
    assert voice["embeddings.cls_token"] == (RATE / 16, DECAY)
    assert voice["layers.2.mlp.fc1.weight"] == (RATE / 2, DECAY) and voice["layernorm.weight"] == (RATE, 0.0)


def test_what_no_embedding_depends_on_is_in_no_group() -> None:
    face, _ = plain()
    anatomy = groups.study(face, CPU)
    assert anatomy.unused == ("idle.weight", "idle.bias")
    assert anatomy.dtype == torch.float64
    assert anatomy.heights["top.weight"] == 4 and anatomy.heights["bottom.bias"] == 0
    assert rates_of(grouped(face)).keys() == anatomy.heights.keys()


SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}


def wav2vec() -> tuple[Any, Any]:
    shape = transformers.Wav2Vec2Config(
        **SMALL, conv_dim=(8,) * 7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=2
    )
    return transformers.Wav2Vec2Model(shape), transformers.Wav2Vec2FeatureExtractor(do_normalize=False)


def dinov2() -> tuple[Any, Any]:
    shape = transformers.Dinov2Config(**SMALL, image_size=28, patch_size=14)
    return transformers.Dinov2Model(shape), transformers.BitImageProcessor(size={"shortest_edge": 28}, crop_size=28)


def convnext() -> tuple[Any, Any]:
    shape = transformers.ConvNextConfig(hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 1, 1])
    return transformers.ConvNextModel(shape), transformers.ViTImageProcessor(size={"height": 64, "width": 64})


@pytest.mark.parametrize(
    ("make", "blocks", "unused"),
    [
        (wav2vec, 2, ("masked_spec_embed",)),
        (dinov2, 2, ("embeddings.mask_token",)),
        (convnext, 4, ()),
    ],
)
def test_models_of_transformers(
    make: Callable[[], tuple[Any, Any]], blocks: int, unused: tuple[str, ...], tmp_path: Path
) -> None:
    for part in make():
        part.save_pretrained(tmp_path)
    encoder = encoders.build(f"hf:{tmp_path}", config=config(), device=CPU)
    anatomy = groups.study(encoder, CPU)
    assert len(anatomy.blocks) == blocks and anatomy.unused == unused
    assert not any(parameter.requires_grad for parameter in encoder.tower.parameters())  # type: ignore[union-attr]
    ends = {anatomy.heights[name] for name in anatomy.heights if "patch_embed" in name or "feature_extractor" in name}
    assert ends == {0}


def test_a_tower_that_draws_random_numbers_is_refused() -> None:
    with pytest.raises(VAError, match=r"'plain-eye' draws random numbers outside training mode"):
        groups.study(plain(noise=0.1)[0], CPU)


def test_a_compiled_tower_is_refused() -> None:
    encoder = vit()
    encoder.identity["compiled"] = True
    with pytest.raises(VAError, match="was compiled"):
        groups.study(encoder, CPU)


def test_more_blocks_than_there_are() -> None:
    with pytest.raises(VAError, match="--thaw-face: 'small-ast' has 2 blocks, not 3") as error:
        grouped(small_ast(), thaw=3)
    assert error.value.hint == "Give -1, or 0 to 2."


@pytest.mark.parametrize("changes", [{"thaw": 1}, {"layer_decay": 0.9}])
def test_a_tower_without_blocks(changes: dict[str, Any]) -> None:
    face, _ = plain()
    assert isinstance(face.tower, nn.Module)
    face.tower.blocks = nn.ModuleList()
    with pytest.raises(VAError, match="'plain-eye' has no row of blocks"):
        grouped(face, **changes)
    assert {rate for rate, _ in rates_of(grouped(face)).values()} == {RATE}


def test_a_head_is_split_by_decay() -> None:
    head = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    head.scale = nn.Parameter(torch.tensor(10.0))
    found = weight_decay.split(dict(head.named_parameters()), learning_rate=1e-4, weight_decay=0.5)
    assert [(group["names"], group["weight_decay"]) for group in found] == [
        (["0.weight"], 0.5),
        (["scale", "0.bias", "1.weight", "1.bias"], 0.0),
    ]
    torch.optim.AdamW(found)
    assert weight_decay.split({"b": torch.zeros(2)}, learning_rate=1.0, weight_decay=0.5)[0]["weight_decay"] == 0.0


def test_stages_after_a_stem_are_the_blocks() -> None:
    class Convolutions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Linear(3, 40), nn.LayerNorm(40))
            self.stages = nn.Sequential(*(nn.ModuleList([nn.Linear(2, 2), nn.LayerNorm(2)]) for _ in range(3)))

    tower = Convolutions()
    assert groups.find_blocks(tower) == list(tower.stages)
    assert groups.find_blocks(nn.ModuleList([nn.Linear(2, 2)])) == []
