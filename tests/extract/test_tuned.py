"""Fine-tuned encoders: kept in a run's directory, loaded again as `run:DIR`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_run
import torch
import tuned_run
from safetensors.torch import load_file, save_file

from va import files, settings, weights
from va.data.tuned import base_name, describe
from va.errors import VAError
from va.extract import encoders, tuned
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder

CPU = torch.device("cpu")
CLIP_FILE = "encoders/face/open_clip_model.safetensors"


def config(**changes: Any) -> ExtractConfig:
    return ExtractConfig(corpus=Path("c"), out=Path("o"), **changes)


def build(*names: str, **changes: Any) -> list[Encoder]:
    return encoders.build_all(names, config=config(**changes), device=CPU)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tuned_run.make_run(tmp_path_factory.mktemp("runs") / "tuned-0123abcd")


@pytest.fixture
def run(tmp_path: Path, made: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "tuned-0123abcd"))


def change(run: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    info = json.loads((run / "run.json").read_text())
    edit(info["encoders"])
    files.write_json(run / "run.json", info)


@torch.inference_mode()
def embed(encoder: Encoder) -> Any:
    rng = np.random.default_rng(0)
    if encoder.spectrum is None:
        pictures = [encoder.transform(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)) for _ in range(2)]
        return encoder.encode(torch.from_numpy(np.stack(pictures))).numpy()
    rows = encoder.spectrum(rng.normal(size=160_000).astype(np.float32) * 0.1)
    return encoder.encode(torch.from_numpy(encoder.transform(rows))[None], torch.tensor([len(rows)])).numpy()


def test_what_was_kept_is_what_is_loaded_to_the_bit(made: Path) -> None:
    for loaded, name in zip(build(f"run:{made}"), ("tiny-clip", "tiny-ast"), strict=True):
        np.testing.assert_array_equal(embed(loaded), embed(tuned_run.nudged(name)))
        (base,) = build(name)
        assert np.abs(embed(loaded) - embed(base)).max() > 1e-3
        assert loaded.name == f"{name}@tuned-0123abcd"
        changed = {key for key in loaded.identity if loaded.identity[key] != base.identity.get(key)}
        assert changed == {"encoder", "weights", "tuned"}
        assert loaded.identity["demo"] and loaded.folder is not None
        assert base_name(loaded.identity) == base_name(base.identity) == name
        assert (describe(base.identity), base.folder) == ("", None)
        assert describe(loaded.identity) == f"fine-tuned from {name} in tuned-0123abcd"


def test_the_texts_are_embedded_by_the_same_tower(made: Path) -> None:
    loaded, base = build(f"run:{made}")[0], build("tiny-clip")[0]
    assert loaded.prototypes is not None and base.prototypes is not None and loaded.text_tower is not None
    np.testing.assert_array_equal(loaded.prototypes(["calm"], ["{}"]), base.prototypes(["calm"], ["{}"]))
    about = loaded.text_tower(["calm"]).about
    assert (about.encoder, about.weights) == ("tiny-clip@tuned-0123abcd", loaded.identity["weights"])


def test_a_run_stands_among_other_encoders(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.parent)
    found = build("pixels", "run:tuned-0123abcd", "loudness")
    assert [each.name for each in found] == [
        "pixels",
        "tiny-clip@tuned-0123abcd",
        "tiny-ast@tuned-0123abcd",
        "loudness",
    ]
    monkeypatch.chdir(made)
    assert [each.identity for each in build("run:.")] == [each.identity for each in found[1:3]]


def test_a_frozen_tower_is_the_base_encoder(tmp_path: Path) -> None:
    run = tuned_run.make_run(tmp_path / "half", kinds=("voice",))
    face, voice = build(f"run:{run}")
    assert (face.name, voice.name) == ("tiny-clip", "tiny-ast@half")
    assert face.identity == build("tiny-clip")[0].identity
    change(run, lambda found: found["face"].update(weights="0" * 32))
    with pytest.raises(VAError, match=r"half: was made with another 'tiny-clip' \(its weights differ\)"):
        build(f"run:{run}")


def test_a_renamed_run_has_the_encoders_it_had(tmp_path: Path, run: Path) -> None:
    before = [each.identity for each in build(f"run:{run}")]
    moved = run.rename(tmp_path / "a new, odd näme")
    assert [each.identity for each in build(f"run:{moved}")] == before


def test_a_name_with_odd_letters_becomes_portable(tmp_path: Path) -> None:
    run = tuned_run.make_run(tmp_path / "a, b <c>\n+d", kinds=("voice",))
    assert build(f"run:{run}")[1].name == "tiny-ast@a%2C%20b%20%3Cc%3E%0A%2Bd"


def test_a_path_with_a_comma_is_named_in_a_file(tmp_path: Path) -> None:
    run = tuned_run.make_run(tmp_path / "a,b", kinds=("voice",))
    (tmp_path / "va.toml").write_text(f"[extract]\nencoders = [{json.dumps(f'run:{run}')}]\n")

    def chosen(file: Path | None, **flags: str) -> tuple[str, ...]:
        given = {"corpus": "c", "out": "o", **flags}
        return settings.resolve(ExtractConfig, section="extract", sections={"extract"}, file=file, flags=given).chosen

    assert build(*chosen(tmp_path / "va.toml"))[1].name == "tiny-ast@a%2Cb"
    with pytest.raises(VAError, match="/a: there is no such directory") as caught:
        build(*chosen(None, encoders=f"run:{run}"))
    assert "one with a comma in it needs a --config file" in caught.value.hint


def test_trained_further_it_keeps_its_base(made: Path, tmp_path: Path) -> None:
    first, again = build(f"run:{made}")[0], tmp_path / "again"
    identity = tuned.keep(again, first, kind="face")
    assert identity["encoder"] == "tiny-clip@again"
    assert identity["tuned"] == {**first.identity["tuned"], "run": "again"}
    assert identity["weights"] == first.identity["weights"]  # nothing was learned in between


def test_keeping_again_replaces_and_failing_leaves_what_was_there(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tuned_run.nudged("tiny-clip", seed=1)
    before = (run / CLIP_FILE).read_bytes()
    (run / "encoders" / ".face.0badc0de.tmp").mkdir()  # as a killed process leaves it

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(VAError, match=r"face: cannot be written.*No space left"):
        patch.setattr("va.extract.clip.files.write_bytes", full)
        tuned.keep(run, other, kind="face")
    assert (run / CLIP_FILE).read_bytes() == before
    tuned.keep(run, other, kind="face")
    assert (run / CLIP_FILE).read_bytes() != before
    assert sorted(path.name for path in (run / "encoders").iterdir()) == ["face", "voice"]


def test_an_encoder_without_weights_cannot_be_kept(tmp_path: Path) -> None:
    with pytest.raises(VAError, match="'pixels' has no weights to keep"):
        tuned.keep(tmp_path, build("pixels")[0], kind="face")
    assert not any(tmp_path.iterdir())


def test_settings_of_an_extraction_reach_a_tuned_encoder(made: Path) -> None:
    voice = build(f"run:{made}", window_s=8.0, stride_s=2.0, precision="bfloat16")[1]
    sampling = voice.identity["sampling"]
    assert (sampling["window_s"], sampling["stride_s"], voice.identity["compute_dtype"]) == (8.0, 2.0, "bfloat16")


def test_the_published_weights_options_serve_a_frozen_base(tmp_path: Path) -> None:
    """`ast` has no weights here; the tiny AST's files stand for them, as a user's do."""
    run = tuned_run.make_run(tmp_path / "half", kinds=("face",))
    folder = weights.DEMO / "tiny-ast"
    (ast,) = build("ast", ast_weights=folder)
    change(run, lambda found: found.update(voice=ast.identity))
    assert [each.name for each in build(f"run:{run}", ast_weights=folder)] == ["tiny-clip@half", "ast"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("run:", "'run:' names no run"),
        ("run:nowhere", "run:nowhere: there is no such directory"),
        ("run:a", "run:a: there is no such directory"),
        ("run:empty", r"empty/run.json: cannot be read as a finished run"),
        ("run:bad", r"bad/run.json: is not a finished run"),
        ("run:other", r"other/run.json: does not name its face encoder \(KeyError\('encoders'\)\)"),
        ("run:plain", "run:plain: was not fine-tuned, so it has no encoders of its own"),
        ("tiny-clip@plain", "there is no encoder 'tiny-clip@plain'"),
    ],
)
def test_what_is_no_fine_tuned_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, text in (("empty", None), ("bad", "[1"), ("other", "{}")):
        (tmp_path / folder).mkdir()
        if text is not None:
            (tmp_path / folder / "run.json").write_text(text)
    if name == "run:plain":
        tiny_run.make_run(tmp_path / "plain")
    with pytest.raises(VAError, match=message) as caught:
        build(name)
    if name == "run:plain":
        assert caught.value.hint == "Name those that it was trained on: --encoders tiny-clip,tiny-ast."
    if name.startswith("tiny"):
        assert caught.value.hint.endswith("run:plain")


def _flip(run: Path) -> None:
    content = bytearray((run / CLIP_FILE).read_bytes())
    content[-1] ^= 1
    (run / CLIP_FILE).write_bytes(content)


def _pickle(run: Path) -> None:
    (run / CLIP_FILE).write_bytes(b"\x80\x04cos\nsystem\n(S'touch executed'\ntR.")


def _foreign(run: Path) -> None:
    state = load_file(run / CLIP_FILE)
    save_file({name: tensor + 1 for name, tensor in state.items()}, run / CLIP_FILE)


def _settings(run: Path) -> None:
    file = run / "encoders" / "voice" / "config.json"
    file.write_text(file.read_text().replace('"num_attention_heads": 3', '"num_attention_heads": 1'))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_flip, "is damaged, or not the file of 'tiny-clip@tuned-0123abcd'"),
        (_pickle, "is damaged, or not the file of"),
        (_foreign, "is damaged, or not the file of"),
        (_settings, r"voice/config.json: is damaged, or not the file of"),
        (lambda run: (run / CLIP_FILE).unlink(), "open_clip_model.safetensors of 'tiny-clip@.*' is missing"),
        (lambda run: shutil.rmtree(run / "encoders"), "the files of its encoder 'tiny-clip@.*' are not there"),
    ],
)
def test_files_that_are_not_the_runs(run: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(run)
    with pytest.raises(VAError, match=message):
        build(f"run:{run}")


@pytest.mark.parametrize(
    "edit",
    [
        lambda about: about.clear(),
        lambda about: about.update(files={}),
        lambda about: about.update(files=[1]),
        lambda about: about.update(files={"../../run.json": "0" * 32}),
        lambda about: about.update(base=["tiny-clip"]),
    ],
)
def test_a_malformed_description(run: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    change(run, lambda found: edit(found["face"]["tuned"]))
    with pytest.raises(VAError, match="does not say what 'tiny-clip@tuned-0123abcd' was fine-tuned from"):
        build(f"run:{run}")


def test_another_base_than_the_weights(run: Path) -> None:
    change(run, lambda found: found["face"]["tuned"].update(base="clip-vit-b-16"))
    with pytest.raises(VAError, match="does not hold weights of this CLIP architecture"):
        build(f"run:{run}")
    change(run, lambda found: found["face"]["tuned"].update(base="run:elsewhere"))
    with pytest.raises(VAError, match="there is no encoder 'run:elsewhere'"):
        build(f"run:{run}")


def test_another_preprocessing_is_another_encoder(run: Path) -> None:
    change(run, lambda found: found["voice"]["preprocessing"].update(mean=0.0))
    with pytest.raises(VAError, match=r"another 'tiny-ast@tuned-0123abcd' \(its preprocessing differ\)"):
        build(f"run:{run}")
