"""open_clip's other models by their own names, with a tiny model that the test registers."""

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from va import files, weights
from va.errors import VAError
from va.extract import encoders, openclip
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder

CPU = torch.device("cpu")
TEXT = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VISION = {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8}


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tell open_clip of a tiny architecture, with either activation."""
    folder = tmp_path_factory.mktemp("models")
    for name, quick in (("va-test", False), ("va-test-quickgelu", True)):
        shape = {"embed_dim": 8, "quick_gelu": quick, "vision_cfg": VISION, "text_cfg": TEXT}
        (folder / f"{name}.json").write_text(json.dumps(shape))
    open_clip.add_model_config(folder)


def settings(**changes: Any) -> ExtractConfig:
    return ExtractConfig(corpus=Path("c"), out=Path("o"), **changes)


def saved(folder: Path, architecture: str = "va-test") -> tuple[Any, Path]:
    torch.manual_seed(0)
    model = open_clip.create_model(architecture, pretrained=None, load_weights=False).eval()
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, folder / "w.safetensors")
    return model, folder / "w.safetensors"


def pictures(side: int, count: int = 2) -> torch.Tensor:
    """Model inputs: uint8 [count, side, side, 3]."""
    return torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8)


def shown(images: torch.Tensor) -> torch.Tensor:
    """What OpenAI's preprocessing makes of pictures that have the right size already."""
    resize = open_clip.image_transform(images.shape[1], is_train=False)
    return torch.stack([resize(Image.fromarray(image.numpy())) for image in images])


def build(name: str, file: Path) -> Encoder:
    return encoders.build(name, config=settings(clip_weights=file), device=CPU)


@torch.no_grad()
def test_a_local_file_under_any_name_open_clip_knows(tmp_path: Path) -> None:
    model, file = saved(tmp_path)
    encoder = build("open_clip:va-test", file)
    images = pictures(32)
    torch.testing.assert_close(encoder.encode(images), model.encode_image(shown(images)))
    assert (encoder.name, encoder.dim) == ("open_clip:va-test", 8)
    assert encoder.prototypes is not None
    tokens = open_clip.SimpleTokenizer(context_length=16)(["a happy face", "so happy"])
    expected = model.encode_text(tokens, normalize=True).mean(dim=0)
    np.testing.assert_allclose(encoder.prototypes(["happy"], ["a {} face", "so {}"])[0], expected, atol=1e-6)


def test_nobody_is_told_that_loaded_weights_are_random(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, file = saved(tmp_path)
    assert "initialized randomly" in caplog.text  # open_clip's own words
    caplog.clear()
    build("open_clip:va-test", file)
    assert caplog.records == []


@torch.no_grad()
def test_the_name_decides_the_activation(tmp_path: Path) -> None:
    _, file = saved(tmp_path)
    images = pictures(32)
    plain, quick = build("open_clip:va-test", file), build("open_clip:va-test-quickgelu", file)
    assert (plain.encode(images) - quick.encode(images)).abs().max() > 1e-4
    assert plain.identity != quick.identity


@torch.no_grad()
def test_a_tags_preprocessing_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SigLIP's tag squashes and centres at 0.5; its weights are far too large for a test."""
    tag = dict(open_clip.get_pretrained_cfg("ViT-B-16-SigLIP", "webli"))
    assert (tag["resize_mode"], tag["mean"]) == ("squash", (0.5, 0.5, 0.5))
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda model, name: tag if name == "webli" else {})
    _, file = saved(tmp_path)
    encoder = build("open_clip:va-test/webli", file)
    flat = encoder.transform(np.full((10, 90, 3), 255, np.uint8))
    np.testing.assert_array_equal(flat, np.full((32, 32, 3), 255))
    halves = np.zeros((10, 90, 3), np.uint8)
    halves[:, :45] = 255  # a centre crop would lose both ends' balance: squashed, half of every row stays white
    assert (encoder.transform(halves) > 127).mean() == pytest.approx(0.5, abs=0.02)
    assert encoder.identity["preprocessing"]["resize"] == "both sides to 32, bicubic (PIL)"
    assert encoder.identity["preprocessing"]["mean"] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("name", "repository", "filename"),
    [
        ("ViT-B-32-quickgelu/openai", "timm/vit_base_patch32_clip_224.openai", "open_clip_model.safetensors"),
        ("ViT-B-32/laion2b_s34b_b79k", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_model.safetensors"),
        ("ViT-B-16-SigLIP/webli", "timm/ViT-B-16-SigLIP", "open_clip_model.safetensors"),
    ],
)
def test_a_tag_names_its_hub_file(name: str, repository: str, filename: str) -> None:
    file = openclip.hub_file(f"open_clip:{name}")
    assert (file.repository, file.filename, file.option) == (repository, filename, "--clip-weights")


def test_every_tag_on_the_hub_has_a_safetensors_name() -> None:
    for model, tag in open_clip.list_pretrained():
        if not open_clip.get_pretrained_cfg(model, tag).get("hf_hub"):
            continue
        try:
            file = openclip.hub_file(f"open_clip:{model}/{tag}")
        except VAError as error:
            assert "was trained with" in error.message
        else:
            assert file.filename.endswith(".safetensors") and "/" in file.repository


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("ViT-B-32/openai", "trained with QuickGELU, which 'ViT-B-32' has not", "ViT-B-32-quickgelu/openai"),
        ("ViT-B-16/dfn2b", "trained with QuickGELU, which 'ViT-B-16' has not", "ViT-B-16-quickgelu/dfn2b"),
        ("ViT-B-32/none", "'ViT-B-32' has no pretrained tag 'none'", "laion2b_s34b_b79k"),
        ("ViT-Z-1", "open_clip has no model 'ViT-Z-1'", "list_pretrained"),
        ("hf-hub:x/y", "open_clip has no model 'hf-hub:x'", "list_pretrained"),
        ("va-test", "does not say where safetensors weights of it are", "--clip-weights"),
    ],
)
def test_names_that_do_not_work_say_which_would(name: str, message: str, hint: str) -> None:
    with pytest.raises(VAError) as caught:
        encoders.build(f"open_clip:{name}", config=settings(), device=CPU)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    save_file({"visual.proj": torch.zeros(16, 8)}, file)
    with pytest.raises(VAError, match="does not hold weights of this CLIP architecture"):
        build("open_clip:va-test", file)


@pytest.mark.parametrize("name", ["w.pt", "w.bin"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(VAError, match=r"is not a \.safetensors file"):
        build("open_clip:va-test", tmp_path / name)


def test_offline_says_which_file_to_bring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(weights, "cached", lambda file: None)
    with pytest.raises(VAError, match="weights of 'open_clip:ViT-B-32/laion2b_s34b_b79k' are not cached") as caught:
        encoders.build("open_clip:ViT-B-32/laion2b_s34b_b79k", config=settings(), device=CPU)
    assert "laion/CLIP-ViT-B-32-laion2B-s34B-b79K" in caught.value.hint


def test_a_tokenizer_that_is_not_there_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, file = saved(tmp_path)
    encoder = build("open_clip:va-test", file)

    def absent(name: str) -> Any:
        raise OSError("no route")

    monkeypatch.setattr(open_clip, "get_tokenizer", absent)
    assert encoder.prototypes is not None
    with pytest.raises(VAError, match="tokenizer of 'va-test' cannot be had"):
        encoder.prototypes(["a"], ["{}"])


@pytest.mark.slow
@torch.no_grad()
def test_vit_b_32_at_full_size_is_quickgelu(tmp_path: Path) -> None:
    """Random weights of the published shape, through the name of table 1's encoder."""
    model, file = saved(tmp_path, "ViT-B-32-quickgelu")
    encoder = build("clip-vit-b-32", file)
    images = pictures(224, count=1)
    torch.testing.assert_close(encoder.encode(images), model.encode_image(shown(images)))
    assert encoder.dim == 512


def test_weights_that_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, file = saved(tmp_path)
    build("open_clip:va-test", file)
    monkeypatch.setattr(files, "hash_file", Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(VAError, match=r"w\.safetensors: cannot be read \(Permission denied\)"):
        build("open_clip:va-test", file)
