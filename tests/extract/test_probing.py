"""Many media looked at in processes: the same answer as at home, and a process that dies costs its file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lying
import messy_tree
import numpy as np
import pytest

from va.data import sources
from va.data.media import MediaInfo
from va.errors import VAError
from va.extract import probing, process


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = messy_tree.make_media(tmp_path_factory.mktemp("media"))
    (folder / "cut.mp4").write_bytes((folder / "a.mp4").read_bytes()[:-100])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "playlist.mp4").write_text("#EXTM3U\n#EXTINF:1\n/etc/passwd\n")
    return [*sorted(folder.iterdir()), folder / "gone.mp4"]


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_say_what_this_one_says(files: list[Path], workers: int) -> None:
    seen: list[tuple[int, int]] = []
    found = probing.probe([*files, files[0]], lambda *done: seen.append(done), workers=workers)
    expected = sources.probe_here(files, lambda *_: None)
    assert set(found) == set(files)
    for path in files:
        one, other = found[path], expected[path]
        if isinstance(other, VAError):
            assert isinstance(one, VAError) and (one.message, one.hint) == (other.message, other.hint)
        else:
            assert isinstance(one, MediaInfo)
            np.testing.assert_array_equal(one.frame_time_s, other.frame_time_s)
            assert (one.duration_s, one.has_audio) == (other.duration_s, other.has_audio)
    assert sum(isinstance(answer, MediaInfo) for answer in found.values()) == 3
    assert seen == [(done, len(files)) for done in range(len(files) + 1)]


def test_no_media_take_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "start", None)
    assert probing.probe([], lambda *_: None, workers=0) == {}


def replace_child(monkeypatch: pytest.MonkeyPatch, target: Callable[..., None], *arguments: object) -> None:
    """Start another function than usual in the first child; later ones are honest."""
    honest, started = process.start, []

    def start(*usual: Any) -> Any:
        started.append(1)
        chosen = (target, *arguments) if len(started) == 1 else usual
        return honest(*chosen)

    monkeypatch.setattr(process, "start", start)


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("crash", "the decoder crashed (SIGSEGV)"),
        ("list", "its process sent a header that is no object"),
        ("no times", "its process sent no frame times"),
        ("no number", "its process sent 'dtype'"),
    ],
)
def test_a_process_that_fails_costs_its_file_and_is_replaced(
    files: list[Path], monkeypatch: pytest.MonkeyPatch, how: str, why: str
) -> None:
    replace_child(monkeypatch, lying.serve, how)
    found = probing.probe(files[:3], lambda *_: None, workers=1)
    first, *others = (found[path] for path in files[:3])
    assert isinstance(first, VAError) and first.message == f"{files[0]}: {why}"
    assert all(isinstance(answer, MediaInfo) for answer in others)


def test_a_decoder_that_hangs_is_ended(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    replace_child(monkeypatch, lying.hang)
    found = probing.probe(files[:2], lambda *_: None, workers=1)
    first, second = found.values()
    assert isinstance(first, VAError) and "decoding made no progress" in first.message
    assert isinstance(second, MediaInfo)


def test_no_process_outlives_an_interrupt(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    honest, started = process.start, []

    def start(*usual: Any) -> Any:
        started.append(honest(*usual))
        return started[-1]

    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    monkeypatch.setattr(process, "start", start)
    with pytest.raises(KeyboardInterrupt):
        probing.probe(files, interrupt, workers=2)
    assert started and not any(child.is_alive() for _, child in started)
