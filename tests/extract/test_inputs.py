"""Model inputs: pictures against open_clip's own transform, bit for bit, and all of them without torch."""

import hashlib
import json
import pickle
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from open_clip.transform import PreprocessCfg, image_transform_v2, merge_preprocess_dict
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import ASTConfig, ASTModel

from va.extract import clip, encoders, inputs
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder

CPU = torch.device("cpu")
SIZES = [
    (20, 17),
    (17, 20),
    (1080, 1920),
    (1920, 1080),
    (32, 32),
    (224, 224),
    (223, 225),
    (101, 77),
    (37, 1000),
    (33, 32),
]
WAVE = np.sin(np.arange(3 * 16_000, dtype=np.float32) ** 1.3 / 50) / 2
PICTURE = (np.arange(90 * 61 * 3) * 7 % 256).astype(np.uint8).reshape(90, 61, 3)
SEEN = {"picture": PICTURE, "box": np.array([0.1, 0.2, 0.3, 0.4, 1], np.float32)}


def config(**changes: Any) -> ExtractConfig:
    return ExtractConfig(corpus=Path("c"), out=Path("o"), **changes)


class Seeing(nn.Module):
    """A model whose embedding is its input."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.visual = nn.Linear(1, 1)
        self.visual.image_size = (side, side)  # type: ignore[assignment]

    def encode_image(self, images: Tensor, *, normalize: bool) -> Tensor:
        assert not normalize
        return images


def seeing(side: int, **settings: Any) -> Encoder:
    return clip.wrap(
        Seeing(side),
        name="seeing",
        dim=1,
        weights_digest="w",
        settings={**clip.DEFAULTS, **settings},
        extra={},
        prototypes=lambda texts, templates: np.zeros((1, 1), np.float32),
        config=config(),
    )


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def assert_same_input(encoder: Encoder, theirs: Any, pictures: list[NDArray[np.uint8]]) -> None:
    """Hold what the model sees, in one batch, against open_clip's transform of each picture."""
    made = [encoder.transform(picture) for picture in pictures]
    assert {(each.dtype.name, each.shape) for each in made} == {("uint8", made[0].shape)}
    found = encoder.encode(torch.from_numpy(np.stack(made)))
    expected = torch.stack([theirs(Image.fromarray(picture)) for picture in pictures])
    assert found.dtype == expected.dtype == torch.float32
    assert torch.equal(found, expected)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("side", [32, 224])
def test_a_clip_model_sees_what_open_clip_would_show_it(side: int, resize_mode: str, interpolation: str) -> None:
    settings = {"resize_mode": resize_mode, "interpolation": interpolation, "fill_color": 113}
    theirs = open_clip.image_transform(side, is_train=False, mean=(0.4, 0.5, 0.45), std=(0.2, 0.3, 0.25), **settings)
    encoder = seeing(side, mean=(0.4, 0.5, 0.45), std=(0.2, 0.3, 0.25), **settings)
    assert_same_input(encoder, theirs, [noise(*size) for size in SIZES])


@pytest.mark.parametrize("resize_mode", ["shortest", "longest"])
def test_any_size_is_rounded_as_open_clip_rounds(resize_mode: str) -> None:
    rng = np.random.default_rng(1)
    for side in (7, 32, 33):
        encoder = seeing(side, resize_mode=resize_mode)
        theirs = open_clip.image_transform(side, is_train=False, resize_mode=resize_mode)
        sizes = rng.integers(12, 140, (150, 2)).tolist()
        assert_same_input(encoder, theirs, [noise(height, width) for height, width in sizes])


def test_every_published_open_clip_tag_is_shown_pictures_its_own_way() -> None:
    """Preprocessing merged as `create_model_and_transforms` does, over defaults, with the architecture's size."""
    seen = set()
    for architecture, tag in open_clip.list_pretrained():
        given = open_clip.get_pretrained_cfg(architecture, tag)
        size = open_clip.get_model_config(architecture)["vision_cfg"]["image_size"]
        merged = PreprocessCfg(**merge_preprocess_dict(asdict(PreprocessCfg(size=size)), given))
        if str(merged) in seen:
            continue
        seen.add(str(merged))
        settings = {key: given.get(key, default) for key, default in clip.DEFAULTS.items()}
        assert_same_input(seeing(size, **settings), image_transform_v2(merged, is_train=False), [noise(90, 140)])
    assert any("squash" in text and "mean=(0.5, 0.5, 0.5)" in text for text in seen)  # SigLIP's
    assert len(seen) > 10


def test_a_picture_is_a_quarter_of_the_bytes() -> None:
    assert seeing(224).transform(noise(300, 400)).nbytes == 224 * 224 * 3


def test_extreme_aspects_leave_at_least_a_line() -> None:
    """open_clip would ask for a height of 0."""
    settings = {"side": 32, "resize_mode": "longest", "interpolation": "bicubic", "fill_color": 9}
    found = inputs.clip_picture(np.full((1, 500, 3), 200, np.uint8), **settings)  # type: ignore[arg-type]
    assert (found == 200).all(axis=(1, 2)).sum() == 1
    assert (found == 9).all(axis=(1, 2)).sum() == 31


# --- in other processes

READER = """
import hashlib, json, pickle, sys
import numpy as np
encoders, seen, wave = pickle.load(sys.stdin.buffer)
made = {}
for name, (transform, spectrum, sees) in encoders.items():
    array = transform(seen[sees] if spectrum is None else spectrum(wave))
    made[name] = [array.dtype.name, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()]
heavy = [name for name in sys.modules if name in ("torch", "open_clip", "torchvision") or "transformers.models" in name]
print(json.dumps([made, heavy]))
"""


@pytest.fixture
def built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Encoder]:
    """Every encoder of `NAMES`; random tiny weights stand in for those that are downloaded."""
    shape = {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8}
    text = {"context_length": 16, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    model = open_clip.CLIP(embed_dim=8, vision_cfg=shape, text_cfg=text)
    save_file(model.state_dict(), tmp_path / "clip.safetensors")
    monkeypatch.setattr(open_clip, "create_model", lambda *_, **__: model)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ASTModel(ASTConfig(**sizes)).save_pretrained(tmp_path / "ast")
    settings = config(clip_weights=tmp_path / "clip.safetensors", ast_weights=tmp_path / "ast", faces="detect")
    return {name: encoders.build(name, config=settings, device=CPU) for name in encoders.NAMES}


def test_readers_need_no_torch(built_in: dict[str, Encoder]) -> None:
    """A fresh process gets every transform and spectrum by pickle and uses them."""
    sent = {name: (encoder.transform, encoder.spectrum, encoder.sees) for name, encoder in built_in.items()}
    data = pickle.dumps((sent, SEEN, WAVE))
    assert len(data) < 500_000  # settings, not weights
    root = Path(__file__).resolve().parents[2]
    answer = subprocess.run([sys.executable, "-c", READER], input=data, capture_output=True, cwd=root, check=False)
    assert answer.returncode == 0, answer.stderr.decode()
    made, heavy = json.loads(answer.stdout)
    assert heavy == []
    for name, (transform, spectrum, sees) in sent.items():
        array = transform(SEEN[sees] if spectrum is None else spectrum(WAVE))
        assert made[name] == [array.dtype.name, list(array.shape), hashlib.sha256(array.tobytes()).hexdigest()], name


def test_inputs_of_an_encoder_have_one_shape_and_dtype(built_in: dict[str, Encoder]) -> None:
    for name, encoder in built_in.items():
        if encoder.sees == "box":
            continue
        if encoder.spectrum is None:
            made = [encoder.transform(noise(*size)) for size in SIZES]
        else:
            made = [encoder.transform(encoder.spectrum(WAVE[:samples])) for samples in (400, 7000, 48_000)]
        kinds = {(array.dtype.name, array.shape) for array in made}
        assert len(kinds) == 1, name
        assert kinds.pop()[0] == ("uint8" if "clip" in name else "float32")
