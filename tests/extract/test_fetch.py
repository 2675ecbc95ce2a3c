"""`va weights get` and `va weights path`: what is there, what would be where, and exit codes that tell the truth."""

import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from va import cli, weights
from va.errors import VAError
from va.extract import fetch


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache with the client's own reader, and no network."""
    folder = tmp_path / "hub"
    real = huggingface_hub.try_to_load_from_cache
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *names: real(*names, cache_dir=folder))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return folder


def put(cache: Path, repository: str, *names: str) -> Path:
    """Lay files into the cache as the hub's client does."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    snapshot = folder / "snapshots" / "0123"
    snapshot.mkdir(parents=True, exist_ok=True)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text("0123")
    for name in names:
        (snapshot / name).touch()
    return snapshot


def no_progress(done: int, total: int, what: str) -> None:
    pass


def run_va(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["va", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_where_a_file_is(cache: Path) -> None:
    snapshot = put(cache, weights.CLIP.repository, weights.CLIP.filename)
    (place,) = fetch.locate("clip-vit-b-16")
    assert (place.path, place.there) == (snapshot / weights.CLIP.filename, True)


def test_where_a_file_would_be(cache: Path) -> None:
    (place,) = fetch.locate("clip-vit-b-32")
    assert not place.there
    assert place.path.is_relative_to(cache / "models--timm--vit_base_patch32_clip_224.openai")
    assert place.path.name == "open_clip_model.safetensors"


def test_asts_settings_are_needed_too(cache: Path) -> None:
    put(cache, weights.AST.repository, "model.safetensors")
    assert [(place.path.name, place.there) for place in fetch.locate("ast")] == [
        ("model.safetensors", True),
        ("config.json", False),
    ]


def test_demo_weights_ship_and_others_have_none() -> None:
    assert [place.there for place in fetch.locate("tiny-ast")] == [True]
    assert fetch.locate("logmel") == fetch.locate("pixels") == []


def test_a_checkpoint_counts_when_it_is_whole(cache: Path) -> None:
    snapshot = put(cache, "owner/model", "config.json", "preprocessor_config.json")
    assert [place.there for place in fetch.locate("hf:owner/model")] == [False]
    (snapshot / "model.safetensors").touch()
    assert [(place.path, place.there) for place in fetch.locate("hf:owner/model")] == [(snapshot, True)]


def test_a_checkpoint_in_several_files_needs_all(cache: Path) -> None:
    shards = [f"model-{number}-of-2.safetensors" for number in (1, 2)]
    snapshot = put(cache, "owner/model", "config.json", "preprocessor_config.json", shards[0])
    index = f'{{"weight_map": {{"a": "{shards[0]}", "b": "{shards[1]}"}}}}'
    (snapshot / "model.safetensors.index.json").write_text(index)
    assert weights.cached_folder("owner/model") is None
    (snapshot / shards[1]).touch()
    assert weights.cached_folder("owner/model") == snapshot


def test_a_tag_of_open_clip(cache: Path) -> None:
    snapshot = put(cache, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "open_clip_model.safetensors")
    (place,) = fetch.locate("open_clip:ViT-B-32/laion2b_s34b_b79k")
    assert (place.path.parent, place.there) == (snapshot, True)


@pytest.mark.parametrize("name", ["clip", "hf:a/b/c", "open_clip:none/x", "tiny-x"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(VAError):
        fetch.locate(name)


def test_get_fetches_only_what_is_missing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def head(self, url: str, **_: Any) -> None:
            pass

    asked = []

    def download(repository: str, name: str) -> str:
        asked.append(name)
        return str(put(cache, repository, name) / name)

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    put(cache, weights.AST.repository, "model.safetensors")
    places = fetch.get(["ast", "clip-vit-b-16", "loudness"], progress=no_progress)
    assert asked == ["config.json", "open_clip_model.safetensors"]
    assert [place.there for place in places] == [True, True, True]
    fetch.require(places)


def test_get_of_a_checkpoint_fetches_no_other_format(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def head(self, url: str, **_: Any) -> None:
            pass

    def snapshot(repository: str, *, allow_patterns: list[str]) -> str:
        assert not [pattern for pattern in allow_patterns if not pattern.endswith((".json", ".safetensors"))]
        return str(put(cache, repository, "config.json", "preprocessor_config.json", "model.safetensors"))

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert [place.there for place in fetch.get(["hf:owner/model"], progress=no_progress)] == [True]


@pytest.mark.parametrize("name", ["clip-vit-b-16", "hf:owner/model"])
def test_get_offline_says_so(name: str) -> None:
    with pytest.raises(VAError, match=f"'{name}' are not cached.*HF_HUB_OFFLINE is set"):
        fetch.get([name], progress=no_progress)


def test_a_wrong_name_shows_before_the_first_download() -> None:
    with pytest.raises(VAError, match="there is no encoder 'clop'"):
        fetch.get(["clip-vit-b-16", "clop"], progress=no_progress)


def test_the_commands_exit_codes(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_va("weights", "path", "clip-vit-b-16", monkeypatch=monkeypatch) == 1
    shown = capsys.readouterr()
    assert shown.out.strip().endswith("open_clip_model.safetensors")
    assert "fix: On a machine with a network: va weights get clip-vit-b-16" in shown.err
    snapshot = put(cache, weights.CLIP.repository, weights.CLIP.filename)
    for action in ("path", "get"):
        assert run_va("weights", action, "clip-vit-b-16", monkeypatch=monkeypatch) == 0
        assert capsys.readouterr().out.strip() == str(snapshot / weights.CLIP.filename)
    assert run_va("weights", "get", monkeypatch=monkeypatch) == 1  # the AST of the default is not there
    assert "'ast'" in capsys.readouterr().err
    assert run_va("weights", "path", monkeypatch=monkeypatch) == 1
    shown = capsys.readouterr()
    assert "weights of ast, clip-vit-b-32 are not there" in shown.err
    assert len(shown.out.splitlines()) == 6  # two CLIPs, the AST's two files, two demo encoders
