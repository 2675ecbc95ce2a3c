"""Where weights are looked for, and what a machine without a network is told."""

import dataclasses
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from va import weights
from va.errors import VAError


@pytest.fixture
def no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Refuse the network, and note each time that it is asked."""
    asked: list[str] = []

    class Session:
        def head(self, url: str, **_: Any) -> None:
            asked.append(url)
            raise ConnectionError("no route")

    def download(*names: str) -> str:
        asked.append("/".join(names))
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


@pytest.mark.parametrize("file", weights.HUB_FILES, ids=lambda file: file.encoder)
def test_a_local_file_or_its_folder_is_taken(tmp_path: Path, network: list[str], file: weights.HubFile) -> None:
    path = tmp_path / file.filename
    path.touch()
    assert weights.find(file, local=path) == path
    assert weights.find(file, local=tmp_path) == path
    assert network == []


@pytest.mark.parametrize("file", weights.HUB_FILES, ids=lambda file: file.encoder)
@pytest.mark.parametrize("name", ["none.safetensors", "."])
def test_a_missing_local_file_is_named(tmp_path: Path, network: list[str], file: weights.HubFile, name: str) -> None:
    with pytest.raises(VAError, match=rf"^{file.option}: .*\.safetensors does not exist") as caught:
        weights.find(file, local=tmp_path / name)
    assert file.filename in caught.value.hint and file.repository in caught.value.hint
    assert network == []  # a wrong path must not silently become a download


@pytest.mark.parametrize("name", ["w.pt", "w.bin", "w.pth", "w.ckpt", "w"])
@pytest.mark.parametrize("there", [True, False])
def test_formats_that_can_execute_code_are_refused(tmp_path: Path, name: str, there: bool) -> None:
    if there:
        (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(VAError, match=rf"--clip-weights: .*{name} is not a .safetensors file"):
        weights.find(weights.CLIP, local=tmp_path / name)


@pytest.mark.usefixtures("no_cache")
@pytest.mark.parametrize("file", weights.HUB_FILES, ids=lambda file: file.encoder)
@pytest.mark.parametrize("value", ["1", "true", "YES"])
def test_offline_and_not_cached_asks_no_network(
    monkeypatch: pytest.MonkeyPatch, network: list[str], file: weights.HubFile, value: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(VAError, match=f"weights of '{file.encoder}' are not cached.*HF_HUB_OFFLINE is set") as caught:
        weights.find(file, local=None)
    assert network == []
    for needed in (file.filename, file.repository, file.option, "--preset tiny"):
        assert needed in caught.value.hint


@pytest.mark.usefixtures("no_cache")
def test_out_of_reach_says_so_after_one_question(monkeypatch: pytest.MonkeyPatch, network: list[str]) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(VAError, match="hub out of reach: ConnectionError"):
        weights.find(weights.AST, local=None)
    assert len(network) == 1 and weights.AST.repository in network[0]


@pytest.mark.usefixtures("no_cache")
def test_within_reach_it_is_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    class Session:
        def head(self, url: str, **_: Any) -> None:
            pass

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda repository, name: str(tmp_path / name))
    assert weights.find(weights.CLIP, local=None) == tmp_path / "open_clip_model.safetensors"


def test_the_hubs_cache_is_read_without_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, network: list[str]
) -> None:
    # The hub's own layout, so that its own reader is what is tested.
    repository = tmp_path / f"models--{weights.AST.repository.replace('/', '--')}"
    snapshot = repository / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot / weights.AST.filename).touch()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123")
    real = huggingface_hub.try_to_load_from_cache
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *names: real(*names, cache_dir=tmp_path))
    assert weights.find(weights.AST, local=None) == snapshot / weights.AST.filename
    assert weights.cached(dataclasses.replace(weights.AST, filename="config.json")) is None
    assert network == []
