"""Ray's folder: gone with the block, and after a SIGKILL with the next one; nothing else is removed."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from va.engine import scratch

CHILD = """
import sys
from va.engine import scratch
scratch._LONGEST = 1000
with scratch.folder() as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(scratch, "_LONGEST", 1000)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def other(root: Path) -> "Iterator[subprocess.Popen[str]]":
    """A command with a folder of its own."""
    environment = os.environ | {"TMPDIR": str(root)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", CHILD], env=environment, **pipes) as process:
        yield process
        process.kill()


def folder_of(process: "subprocess.Popen[str]") -> Path:
    assert process.stdout is not None
    return Path(process.stdout.readline().strip())


def test_a_folder_is_there_inside_the_block_only(root: Path) -> None:
    with scratch.folder() as made:
        assert Path(made).parent == root
        (Path(made) / "session" / "logs").mkdir(parents=True)
    assert list(root.iterdir()) == []


def test_what_a_killed_command_left_goes_with_the_next(root: Path, other: "subprocess.Popen[str]") -> None:
    left = folder_of(other)
    (left / "session").mkdir()
    with scratch.folder() as made:
        assert sorted(root.iterdir()) == sorted([left, Path(made)]), "its command lives"
    other.send_signal(signal.SIGKILL)
    other.wait(60)
    assert (left / "session").exists()
    with scratch.folder() as made:
        assert list(root.iterdir()) == [Path(made)]


def test_folders_that_are_not_surely_ours_stay(
    root: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "va-notes").mkdir()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in (elsewhere / "va-command.lock", root / "other" / "va-command.lock"):
        name.parent.mkdir(exist_ok=True)
        name.touch()
    (root / "va-link").symlink_to(elsewhere)
    scratch.remove_dead(root)
    assert sorted(path.name for path in root.iterdir()) == ["other", "va-link", "va-notes"]
    assert (elsewhere / "va-command.lock").exists()
    (root / "va-notes" / "va-command.lock").touch()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 12345)
        scratch.remove_dead(root)
    assert (root / "va-notes").exists(), "another user's"
    scratch.remove_dead(root)
    assert not (root / "va-notes").exists()


def test_a_long_tmpdir_is_too_long_for_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "_LONGEST", 30)
    monkeypatch.setattr(tempfile, "tempdir", "/tmp/" + "x" * 30)
    with scratch.folder() as made:
        assert Path(made).parent == Path("/tmp")
