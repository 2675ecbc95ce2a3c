"""`va prompts`: new texts for old features, with the text tower that belongs to them and no other."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from va import files, weights
from va.data import features, prototypes
from va.data.features import FeatureStore
from va.data.regions import REGION_TEXTS, TEMPLATES
from va.errors import VAError
from va.extract import encoders, prompts
from va.extract.config import ExtractConfig, PromptsConfig
from va.extract.encoders import Encoder


@pytest.fixture(scope="module")
def tiny() -> Encoder:
    config = ExtractConfig(corpus=Path("c"), out=Path("o"))
    return encoders.build("tiny-clip", config=config, device=torch.device("cpu"))


@pytest.fixture
def store(tmp_path: Path, tiny: Encoder) -> FeatureStore:
    return FeatureStore.create(tmp_path / "features", tiny.identity)


def config(store: FeatureStore, texts: Path, **changes: Any) -> PromptsConfig:
    return PromptsConfig(features=store.directory.parent, texts=texts, device="cpu", **changes)


def test_the_default_texts_give_what_extraction_gives(tmp_path: Path, store: FeatureStore, tiny: Encoder) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("\n".join(REGION_TEXTS) + "\n")
    (path,), made = prompts.run(config(store, file))
    assert tiny.prototypes is not None
    np.testing.assert_array_equal(made.values, tiny.prototypes(REGION_TEXTS, TEMPLATES))
    found = prototypes.read(store.directory)
    assert path == store.directory / "prototypes.json"
    assert (found.texts, found.templates) == (REGION_TEXTS, TEMPLATES)
    np.testing.assert_array_equal(found.values, made.values)


def test_any_number_of_texts_and_own_templates(tmp_path: Path, store: FeatureStore) -> None:
    (tmp_path / "texts.txt").write_bytes("\ufeff\n  traurig, müde \r\n\n{glücklich}\n\n".encode())
    (tmp_path / "templates.txt").write_text("\nein Gesicht: {}\n")
    _, made = prompts.run(config(store, tmp_path / "texts.txt", templates=tmp_path / "templates.txt"))
    assert made.texts == ("traurig, müde", "{glücklich}")
    assert made.templates == ("ein Gesicht: {}",)
    np.testing.assert_allclose(np.linalg.norm(made.values, axis=1), 1, atol=1e-5)  # one template: unit vectors


def test_a_prototype_is_the_mean_over_templates(tmp_path: Path, store: FeatureStore) -> None:
    (tmp_path / "both.toml").write_text('texts = ["calm"]\ntemplates = ["a {} face", "{}, seen from afar"]\n')
    values = []
    for template in ("a {} face", "{}, seen from afar"):
        (tmp_path / "one.toml").write_text(f'texts = ["calm"]\ntemplates = ["{template}"]\n')
        values.append(prompts.run(config(store, tmp_path / "one.toml"))[1].values[0])
    _, made = prompts.run(config(store, tmp_path / "both.toml"))
    np.testing.assert_allclose(made.values[0], np.mean(values, axis=0), atol=1e-6)
    assert np.abs(values[0] - values[1]).max() > 1e-3


def test_the_option_wins_over_the_files_templates(tmp_path: Path, store: FeatureStore) -> None:
    (tmp_path / "both.toml").write_text('texts = ["calm"]\ntemplates = ["a {} face"]\n')
    (tmp_path / "templates.txt").write_text("so {}\n")
    made = prompts.run(config(store, tmp_path / "both.toml", templates=tmp_path / "templates.txt"))[1]
    assert made.templates == ("so {}",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b" \n\n", "holds no texts"),
        ("a.txt", b"caf\xe9", "is not UTF-8 text"),
        ("a.toml", b"texts = [", "is not valid TOML"),
        ("a.toml", b'text = ["a"]', "no setting named 'text'"),
        ("a.toml", b'texts = "a"', "'texts' is not a list of texts"),
        ("a.toml", b"texts = [1]", "'texts' is not a list of texts"),
        ("a.toml", b'templates = ["{}"]', "holds no texts"),
        ("a.toml", b'texts = ["a"]\ntemplates = ["no place"]', "does not have one place"),
        ("a.toml", b'texts = ["a"]\ntemplates = ["{} and {}"]', "does not have one place"),
        ("a.toml", b'texts = ["a"]\ntemplates = ["{} {0.__class__}"]', "does not have one place"),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing(
    tmp_path: Path, store: FeatureStore, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    before = sorted(store.directory.rglob("*"))
    with pytest.raises(VAError, match=re.escape(message)):
        prompts.run(config(store, tmp_path / name))
    assert sorted(store.directory.rglob("*")) == before


def test_a_text_that_would_be_cut_off_is_refused(tmp_path: Path, store: FeatureStore) -> None:
    (tmp_path / "one.txt").write_text("{}\n")
    for words, fits in ((22, True), (23, False)):
        (tmp_path / "texts.txt").write_text(" ".join(["calm"] * words))
        made = config(store, tmp_path / "texts.txt", templates=tmp_path / "one.txt")
        if fits:
            prompts.run(made)
        else:
            with pytest.raises(VAError, match="longer than the 22 tokens"):
                prompts.run(made)


def test_a_missing_file_is_named(tmp_path: Path, store: FeatureStore) -> None:
    with pytest.raises(VAError, match=r"nowhere\.txt: cannot be read"):
        prompts.run(config(store, tmp_path / "nowhere.txt"))


def test_other_weights_are_refused(
    tmp_path: Path, store: FeatureStore, tiny: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same architecture with one weight changed: it loads, and would give plausible nonsense."""
    (tmp_path / "texts.txt").write_text("calm\n")
    demo = tmp_path / "demo"
    shutil.copytree(weights.DEMO / "tiny-clip", demo / "tiny-clip")
    file = demo / "tiny-clip" / "model.safetensors"
    state = load_file(file)
    state["logit_scale"] = state["logit_scale"] + 1
    save_file(state, file)
    monkeypatch.setattr(weights, "DEMO", demo)
    with pytest.raises(VAError, match=f"was made with weights {tiny.identity['weights']}") as caught:
        prompts.run(config(store, tmp_path / "texts.txt"))
    assert files.hash_file(file) in caught.value.message
    assert "--clip-weights" in caught.value.hint
    assert not (store.directory / "prototypes.json").exists()


def test_an_encoder_without_a_text_tower_is_refused(tmp_path: Path, tiny: Encoder) -> None:
    (tmp_path / "texts.txt").write_text("calm\n")
    for changes in ({"encoder": "pixels"}, {"encoder": "hf:dinov2"}, {"imported": True}):
        store = FeatureStore.create(tmp_path / str(changes), tiny.identity | changes)
        with pytest.raises(VAError, match="has no text tower"):
            prompts.run(config(store, tmp_path / "texts.txt", encoder=store.encoder))


def test_one_of_several_encoders_is_named(tmp_path: Path, store: FeatureStore, tiny: Encoder) -> None:
    (tmp_path / "texts.txt").write_text("calm\n")
    FeatureStore.create(store.directory.parent, tiny.identity | {"encoder": "other"})
    with pytest.raises(VAError, match="more than one frames encoder"):
        prompts.run(config(store, tmp_path / "texts.txt"))
    (path,), _ = prompts.run(config(store, tmp_path / "texts.txt", encoder="tiny-clip"))
    assert path.parent == store.directory


def test_the_identity_does_not_change(tmp_path: Path, store: FeatureStore) -> None:
    (tmp_path / "texts.txt").write_text("calm\n")
    before = store.digest
    prompts.run(config(store, tmp_path / "texts.txt"))
    assert features.FeatureStore(store.directory).digest == before
