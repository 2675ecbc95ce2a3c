"""Our CLIP against transformers' CLIP, given the same weights: another implementation of the same published model."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import QuickGELU
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from va import weights
from va.data.regions import REGION_TEXTS, TEMPLATES
from va.errors import VAError
from va.extract import clip
from va.extract.config import ExtractConfig

CPU = torch.device("cpu")
TINY: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49_408, "width": 32, "heads": 4, "layers": 2},
    "quick_gelu": True,
}
FULL: dict[str, Any] = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "head_width": 64, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49_408, "width": 512, "heads": 8, "layers": 12},
    "quick_gelu": True,
}
# Height and width. After resizing, the surplus to crop is even: for an odd one transformers rounds the middle down,
# OpenAI and open_clip to the nearest even number, so that the two differ by a pixel by definition.
PHOTOS = {32: [(48, 100), (90, 60), (32, 32), (300, 400)], 224: [(360, 640), (480, 360)]}


def config(**changes: Any) -> ExtractConfig:
    return ExtractConfig(corpus=Path("c"), out=Path("o"), **changes)


def random_model(size: dict[str, Any], *, seed: int = 0) -> Any:
    """An open_clip model in which no parameter is left at 0 or 1, so that a wrong one shows."""
    torch.manual_seed(seed)
    model = open_clip.CLIP(**size).eval().requires_grad_(False)
    for parameter in model.parameters():
        spread = 0.2 if parameter.ndim < 2 else 0.02
        parameter.add_(torch.randn_like(parameter) * spread)
    return model


def tower(state: dict[str, Tensor], prefix: str, layers: int) -> dict[str, Tensor]:
    """Rename a transformer's layers from open_clip's names to those of transformers."""
    renamed = {}
    for layer in range(layers):
        old, new = f"{prefix}transformer.resblocks.{layer}.", f"encoder.layers.{layer}."
        for kind in ("weight", "bias"):
            query, key, value = state[f"{old}attn.in_proj_{kind}"].chunk(3)
            renamed[f"{new}self_attn.q_proj.{kind}"] = query
            renamed[f"{new}self_attn.k_proj.{kind}"] = key
            renamed[f"{new}self_attn.v_proj.{kind}"] = value
            renamed[f"{new}self_attn.out_proj.{kind}"] = state[f"{old}attn.out_proj.{kind}"]
            renamed[f"{new}layer_norm1.{kind}"] = state[f"{old}ln_1.{kind}"]
            renamed[f"{new}layer_norm2.{kind}"] = state[f"{old}ln_2.{kind}"]
            renamed[f"{new}mlp.fc1.{kind}"] = state[f"{old}mlp.c_fc.{kind}"]
            renamed[f"{new}mlp.fc2.{kind}"] = state[f"{old}mlp.c_proj.{kind}"]
    return renamed


def as_transformers(model: Any, size: dict[str, Any], *, activation: str) -> CLIPModel:
    """Build transformers' model with an open_clip model's weights."""
    vision, text = size["vision_cfg"], size["text_cfg"]
    made = CLIPModel(
        CLIPConfig(
            projection_dim=size["embed_dim"],
            vision_config={
                "hidden_size": vision["width"],
                "intermediate_size": 4 * vision["width"],
                "num_hidden_layers": vision["layers"],
                "num_attention_heads": vision["width"] // vision["head_width"],
                "image_size": vision["image_size"],
                "patch_size": vision["patch_size"],
                "hidden_act": activation,
            },
            text_config={
                "hidden_size": text["width"],
                "intermediate_size": 4 * text["width"],
                "num_hidden_layers": text["layers"],
                "num_attention_heads": text["heads"],
                "vocab_size": text["vocab_size"],
                "max_position_embeddings": text["context_length"],
                "hidden_act": activation,
                "eos_token_id": 49_407,
            },
        )
    )
    state = model.state_dict()
    renamed = {
        "logit_scale": state["logit_scale"],
        "visual_projection.weight": state["visual.proj"].T,
        "text_projection.weight": state["text_projection"].T,
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
        "text_model.embeddings.token_embedding.weight": state["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
    }
    for kind in ("weight", "bias"):
        renamed[f"vision_model.pre_layrnorm.{kind}"] = state[f"visual.ln_pre.{kind}"]
        renamed[f"vision_model.post_layernorm.{kind}"] = state[f"visual.ln_post.{kind}"]
        renamed[f"text_model.final_layer_norm.{kind}"] = state[f"ln_final.{kind}"]
    renamed |= {f"vision_model.{k}": v for k, v in tower(state, "visual.", vision["layers"]).items()}
    renamed |= {f"text_model.{k}": v for k, v in tower(state, "", text["layers"]).items()}
    made.load_state_dict({name: tensor.contiguous() for name, tensor in renamed.items()}, strict=True)
    return made.eval().requires_grad_(False)


def photos(side: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in PHOTOS[side]]


def ours(model: Any, pictures: list[np.ndarray]) -> np.ndarray:
    encoder = clip.from_model(model, name="clip", weights_digest="w", config=config())
    inputs = torch.from_numpy(np.stack([encoder.transform(picture) for picture in pictures]))
    return encoder.encode(inputs).numpy()


def theirs(model: CLIPModel, pictures: list[np.ndarray], side: int) -> np.ndarray:
    processor = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    inputs = processor([Image.fromarray(picture) for picture in pictures], return_tensors="pt")["pixel_values"]
    return model.get_image_features(pixel_values=inputs).pooler_output.numpy()


def compare(size: dict[str, Any]) -> tuple[float, float]:
    """Give the largest difference to transformers with QuickGELU and with GELU."""
    side = size["vision_cfg"]["image_size"]
    model, pictures = random_model(size), photos(side)
    found = ours(model, pictures)
    assert found.shape == (len(pictures), size["embed_dim"]) and found.dtype == np.float32
    assert found.std() > 0.05  # features that are nearly 0 would agree with anything
    differences = []
    for activation in ("quick_gelu", "gelu"):
        expected = theirs(as_transformers(model, size, activation=activation), pictures, side)
        differences.append(float(np.abs(found - expected).max()))
    return differences[0], differences[1]


def test_images_equal_transformers_and_only_with_quick_gelu() -> None:
    quick, plain = compare(TINY)
    assert quick < 1e-4
    assert plain > 1e-3  # so a model with the wrong activation would be caught


@pytest.mark.slow
def test_images_of_the_full_size_equal_transformers_and_only_with_quick_gelu() -> None:
    quick, plain = compare(FULL)
    assert quick < 1e-4
    assert plain > 1e-3


@pytest.mark.parametrize(("height", "width"), [(50, 80), (80, 50), (47, 61), (32, 32), (20, 30)])
def test_the_transform_by_hand(height: int, width: int) -> None:
    """Shortest side to 32 by PIL's bicubic, and the middle cut out; OpenAI's figures normalise what the model sees."""
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    encoder = clip.from_model(random_model(TINY), name="clip", weights_digest="w", config=config())
    scale = 32 / min(height, width)
    tall, wide = (32, int(32 * width / height)) if height < width else (int(32 * height / width), 32)
    assert min(tall, wide) == 32 and max(tall, wide) == int(max(height, width) * scale + 1e-9)
    resized = np.asarray(Image.fromarray(picture).resize((wide, tall), Image.Resampling.BICUBIC))
    top, left = round((tall - 32) / 2), round((wide - 32) / 2)
    cut = resized[top : top + 32, left : left + 32]
    np.testing.assert_array_equal(encoder.transform(picture), cut)
    mean, std = (torch.tensor(clip.DEFAULTS[key]).view(3, 1, 1) for key in ("mean", "std"))
    found = clip.normalise(torch.from_numpy(cut.copy())[None], mean, std)[0]
    expected = (cut / 255 - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    np.testing.assert_allclose(found, expected.transpose(2, 0, 1), atol=1e-6)


# --- prototypes


def test_prototypes_against_a_loop_over_transformers() -> None:
    model = random_model(TINY)
    other = as_transformers(model, TINY, activation="quick_gelu")
    encoder = clip.from_model(model, name="clip", weights_digest="w", config=config())
    assert encoder.prototypes is not None
    found = encoder.prototypes(REGION_TEXTS, TEMPLATES)
    assert found.shape == (9, 24) and found.dtype == np.float32
    tokenizer = open_clip.get_tokenizer("ViT-B-16-quickgelu")
    for row, text in zip(found, REGION_TEXTS, strict=True):
        embeddings = []
        for template in TEMPLATES:
            tokens = tokenizer([template.replace("{}", text)])
            output = other.get_text_features(input_ids=tokens).pooler_output[0].numpy().astype(np.float64)
            embeddings.append(output / np.sqrt((output**2).sum()))
        expected = (embeddings[0] + embeddings[1] + embeddings[2]) / 3
        np.testing.assert_allclose(row, expected, atol=1e-5)
    assert (np.linalg.norm(found, axis=1) <= 1 + 1e-6).all()
    assert np.abs(found[0] - found[8]).max() > 1e-2  # texts make a difference


def test_a_prototype_does_not_depend_on_the_other_texts() -> None:
    model = random_model(TINY)
    every = clip.text_prototypes(model, REGION_TEXTS, TEMPLATES)
    alone = clip.text_prototypes(model, REGION_TEXTS[4:5], TEMPLATES)
    assert alone[0].tobytes() == every[4].tobytes()


# --- loading


def build_full_size_name(
    monkeypatch: pytest.MonkeyPatch, file: Path, model: Any
) -> tuple[Any, list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """Run `build` with open_clip's factory replaced by one that hands out a tiny model."""
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def create_model(*arguments: Any, **options: Any) -> Any:
        calls.append((arguments, options))
        return model

    monkeypatch.setattr(open_clip, "create_model", create_model)
    return clip.build("clip-vit-b-16", config=config(clip_weights=file), device=CPU), calls


def test_the_architecture_is_vit_b_16_with_quick_gelu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    save_file(random_model(TINY).state_dict(), tmp_path / "w.safetensors")
    _, calls = build_full_size_name(monkeypatch, tmp_path / "w.safetensors", open_clip.CLIP(**TINY))
    ((arguments, options),) = calls
    # Nothing is fetched behind the user's back.
    assert options == {"pretrained": None, "load_weights": False, "pretrained_text": False}
    (name,) = arguments
    settings = open_clip.get_model_config(name)
    with torch.device("meta"):
        model = open_clip.CLIP(**settings)
        plain = open_clip.CLIP(**open_clip.get_model_config("ViT-B-16"))
        published = open_clip.CLIP(**FULL)
    for transformer in (model.visual.transformer, model.transformer):
        assert [type(block.mlp.gelu) for block in transformer.resblocks] == [QuickGELU] * 12
    assert type(plain.visual.transformer.resblocks[0].mlp.gelu) is nn.GELU  # the trap that the name avoids
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    assert shapes == {key: value.shape for key, value in published.state_dict().items()}


def test_loaded_weights_are_the_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original = random_model(TINY)
    save_file(original.state_dict(), tmp_path / "w.safetensors")
    encoder, _ = build_full_size_name(monkeypatch, tmp_path / "w.safetensors", open_clip.CLIP(**TINY))
    pictures = photos(32)
    inputs = torch.from_numpy(np.stack([encoder.transform(picture) for picture in pictures]))
    np.testing.assert_array_equal(encoder.encode(inputs).numpy(), ours(original, pictures))
    assert encoder.name == "clip-vit-b-16" and encoder.kind == "frames" and encoder.dim == 24


def test_half_precision_files_are_computed_in_single(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    half = {name: tensor.half() for name, tensor in random_model(TINY).state_dict().items()}
    save_file(half, tmp_path / "w.safetensors")
    encoder, _ = build_full_size_name(monkeypatch, tmp_path / "w.safetensors", open_clip.CLIP(**TINY))
    single = open_clip.CLIP(**TINY).eval()
    single.load_state_dict({name: tensor.float() for name, tensor in half.items()})
    pictures = photos(32)
    inputs = torch.from_numpy(np.stack([encoder.transform(picture) for picture in pictures]))
    np.testing.assert_array_equal(encoder.encode(inputs).numpy(), ours(single.requires_grad_(False), pictures))


@pytest.mark.parametrize("damage", ["missing", "surplus", "shape", "text"])
def test_a_file_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "w.safetensors"
    state = random_model(TINY).state_dict()
    if damage == "missing":
        del state["visual.proj"]
    elif damage == "surplus":
        state["visual.extra"] = torch.zeros(3)
    elif damage == "shape":
        state["visual.proj"] = state["visual.proj"][:, :8].contiguous()
    save_file(state, file)
    if damage == "text":
        file.write_text("no tensors")
    with pytest.raises(VAError, match=r"w.safetensors: does not hold weights of this CLIP") as caught:
        build_full_size_name(monkeypatch, file, open_clip.CLIP(**TINY))
    assert "--clip-weights" in caught.value.hint


def test_the_demo_encoder_is_read_from_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = tmp_path / "tiny-clip"
    folder.mkdir()
    model = random_model(TINY)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(TINY))
    monkeypatch.setattr(weights, "DEMO", tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder = clip.build("tiny-clip", config=config(), device=CPU)
    assert encoder.identity["demo"] is True
    pictures = photos(32)
    inputs = torch.from_numpy(np.stack([encoder.transform(picture) for picture in pictures]))
    np.testing.assert_array_equal(encoder.encode(inputs).numpy(), ours(model, pictures))


def test_the_identity_depends_on_weights_and_not_on_windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    identities = []
    for seed in (0, 1):
        file = tmp_path / f"{seed}.safetensors"
        save_file(random_model(TINY, seed=seed).state_dict(), file)
        identities.append(build_full_size_name(monkeypatch, file, open_clip.CLIP(**TINY))[0].identity)
    assert identities[0] != identities[1]
    assert {**identities[0], "weights": ""} == {**identities[1], "weights": ""}
    made = [
        clip.from_model(random_model(TINY), name="x", weights_digest="w", config=config(**changes)).identity
        for changes in ({}, {"window_s": 4.0, "stride_s": 2.0})
    ]
    assert made[0] == made[1]
