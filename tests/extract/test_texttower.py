"""Text towers copied from open_clip: those of CLIP's kind to open_clip's own values, others refused with a reason."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from va import cli
from va.data import prototypes, texttower
from va.data.features import FeatureStore
from va.data.regions import REGION_TEXTS, TEMPLATES
from va.data.texttower import TowerFile
from va.errors import VAError
from va.extract import encoders, prompts
from va.extract import texttower as copying
from va.extract.config import ExtractConfig, PromptsConfig
from va.extract.encoders import Encoder
from va.model.text import RegionTexts, from_tensors

VISION = {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 8}
TEXT = {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}


def custom(**text: Any) -> Any:
    """A model with its text tower apart, as open_clip's newer ones have it, with values that are not all small."""
    torch.manual_seed(0)
    model = open_clip.CustomTextCLIP(embed_dim=8, vision_cfg=VISION, text_cfg=TEXT | text).eval()
    with torch.no_grad():
        for parameter in model.text.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@torch.no_grad()
def copied(model: Any) -> tuple[texttower.TowerContent, torch.Tensor]:
    tokenizer = open_clip.SimpleTokenizer(context_length=24)
    plain = model.encode_text(tokenizer(list(REGION_TEXTS)), normalize=True)
    return copying.copy(model, tokenizer, REGION_TEXTS, plain=plain.numpy(), encoder="m", weights="w"), plain


def built(found: texttower.TowerContent | TowerFile) -> RegionTexts:
    about = found.about
    tensors = found.load() if isinstance(found, TowerFile) else found.tensors
    return from_tensors(tensors, heads=about.heads, activation=about.activation, eps=about.eps)


@pytest.mark.parametrize("text", [{}, {"pool_type": "eos", "eos_id": 49407}, {"norm_kwargs": {"eps": 1e-3}}])
def test_a_text_tower_of_its_own_is_copied(text: dict[str, Any]) -> None:
    found, plain = copied(custom(**text))
    torch.testing.assert_close(built(found)(torch.zeros(0, 16)), plain, atol=1e-5, rtol=0)
    assert found.about.eps == text.get("norm_kwargs", {}).get("eps", 1e-5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ({"pool_type": "last"}, "it reads its 'last' token"),
        ({"no_causal_mask": True}, "embeddings differ by"),
        ({"embed_cls": True}, "embeddings differ by"),
        ({"ls_init_value": 0.5}, "embeddings differ by"),
        ({"proj_type": "none"}, "its projection is not a matrix"),
        ({"proj_bias": True}, "its projection is not a matrix"),
        ({"act_kwargs": {"approximate": "tanh"}}, "its activation is GELU"),
    ],
)
def test_towers_of_other_kinds_are_refused(text: dict[str, Any], reason: str) -> None:
    with pytest.raises(VAError) as told:
        copied(custom(**text))
    assert "--tower: the text tower of 'm' is not of CLIP's kind" in told.value.message
    assert reason in told.value.message
    assert "Leave out --tower" in told.value.hint


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    config = ExtractConfig(corpus=Path("c"), out=Path("o"))
    return encoders.build("tiny-clip", config=config, device=torch.device("cpu"))


@pytest.fixture
def store(tmp_path: Path, tiny: Encoder) -> FeatureStore:
    made = FeatureStore.create(tmp_path / "features", tiny.identity)
    assert tiny.prototypes is not None
    values = tiny.prototypes(REGION_TEXTS, TEMPLATES)
    prototypes.write(made.directory, prototypes.Prototypes(texts=REGION_TEXTS, templates=TEMPLATES, values=values))
    return made


def config(store: FeatureStore, **changes: Any) -> PromptsConfig:
    return PromptsConfig(features=store.directory.parent, device="cpu", **changes)


def opened(store: FeatureStore) -> TowerFile:
    return texttower.find(store.directory, weights=store.identity["weights"])


def test_the_tower_alone_leaves_the_prototypes_as_they_are(store: FeatureStore, tiny: Encoder) -> None:
    file = store.directory / prototypes.NAME
    before = file.read_bytes()
    written = prompts.run(config(store, tower=True))
    assert written.files == (store.directory / "text_tower.safetensors",)
    assert file.read_bytes() == before
    found = opened(store)
    assert (found.about.encoder, found.about.texts) == ("tiny-clip", REGION_TEXTS)
    assert found.about.weights == tiny.identity["weights"]
    assert (found.width, found.dim, found.places, found.layers) == (32, 128, 24, 2)
    assert tiny.prototypes is not None
    plain = tiny.prototypes(REGION_TEXTS, ("{}",))
    np.testing.assert_allclose(built(found)(torch.zeros(0, 32)).numpy(), plain, atol=1e-5)
    decoded = open_clip.SimpleTokenizer().decode(found.about.tokens[0][:-1])
    assert decoded.strip() == "sad , tired , and low - energy"
    assert found.about.tokens[0][-1] == 49407
    assert found.path.stat().st_size < 200_000, "the vocabulary is left out"


def test_new_texts_and_their_tower(tmp_path: Path, store: FeatureStore) -> None:
    (tmp_path / "texts.txt").write_text("calm\nhappy and pleasant\n")
    written = prompts.run(config(store, texts=tmp_path / "texts.txt", tower=True))
    assert [file.name for file in written.files] == ["text_tower.safetensors", "prototypes.json"]
    assert opened(store).about.texts == prototypes.read(store.directory).texts == ("calm", "happy and pleasant")


def test_new_templates_for_the_texts_that_are_there(tmp_path: Path, store: FeatureStore) -> None:
    (tmp_path / "templates.txt").write_text("{}\n")
    prompts.run(config(store, templates=tmp_path / "templates.txt"))
    found = prototypes.read(store.directory)
    assert (found.texts, found.templates) == (REGION_TEXTS, ("{}",))
    assert not (store.directory / texttower.NAME).exists()


def test_nothing_to_make_says_what_could_be(store: FeatureStore) -> None:
    with pytest.raises(VAError, match="nothing to make") as told:
        config(store)
    assert "--tower" in told.value.hint


def test_no_prototypes_and_no_texts(tmp_path: Path, tiny: Encoder) -> None:
    bare = FeatureStore.create(tmp_path / "features", tiny.identity)
    with pytest.raises(VAError, match="cannot be read as text prototypes"):
        prompts.run(config(bare, tower=True))
    assert not (bare.directory / texttower.NAME).exists()


def test_the_command_prints_what_it_wrote(
    tmp_path: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("calm\n")
    arguments = ["prompts", str(store.directory.parent), "--texts", str(tmp_path / "texts.txt"), "--tower"]
    monkeypatch.setattr(sys, "argv", ["va", *arguments, "--device", "cpu"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert not stop.value.code
    names = ("text_tower.safetensors", "prototypes.json")
    assert capsys.readouterr().out.split() == [str(store.directory / name) for name in names]


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", ["ViT-B-16-quickgelu", "ViT-B-32"])
def test_full_size_towers_are_open_clips(name: str) -> None:
    """Random weights of the published shapes, with both activations, and a context that stands for words."""
    torch.manual_seed(0)
    model = open_clip.create_model(name, pretrained=None, load_weights=False).eval()
    tokenizer = open_clip.SimpleTokenizer(context_length=77)
    plain = model.encode_text(tokenizer(list(REGION_TEXTS)), normalize=True)
    found = copying.copy(model, tokenizer, REGION_TEXTS, plain=plain.numpy(), encoder=name, weights="w")
    texts = built(found)
    torch.testing.assert_close(texts(torch.zeros(0, 512)), plain, atol=1e-5, rtol=0)
    words = tokenizer.encode("a photo of a")
    context = model.token_embedding.weight[words]
    expected = model.encode_text(tokenizer([f"a photo of a {text}" for text in REGION_TEXTS]), normalize=True)
    torch.testing.assert_close(texts(context), expected, atol=1e-5, rtol=0)
