"""Files are whole or absent, names are safe, hashes are those of the bytes."""

import hashlib
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from va import files
from va.errors import VAError


def test_a_file_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.txt"
    with files.replacing(target) as temporary:
        temporary.write_text("half")
        assert not target.exists()
        assert temporary.parent == target.parent  # a rename across file systems would not be atomic
    assert target.read_text() == "half"
    assert list(target.parent.iterdir()) == [target]


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="interrupted"), files.replacing(target) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError("interrupted")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target, order = tmp_path / "file.txt", []
    monkeypatch.setattr(files, "sync", lambda path: order.append((path.name, target.exists())))
    files.write_text(target, "text")
    assert [there for _, there in order] == [False, True]
    assert order[1][0] == tmp_path.name  # the folder, so that the new name itself survives a power cut


def test_what_cannot_be_written_is_a_mistake_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(VAError, match=r"file/inner.txt: cannot be written \(Not a directory|File exists"):
        files.write_text(tmp_path / "file" / "inner.txt", "text")


def test_json_round_trip(tmp_path: Path) -> None:
    data = {"name": "Åsa", "values": [0.1, 1e-30, -5], "none": None}
    files.write_json(tmp_path / "a.json", data)
    assert files.read_json(tmp_path / "a.json", what="x", hint="y") == data
    assert "Åsa" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_json_refuses_nan_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float values"):
        files.write_json(tmp_path / "a.json", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b'{"a": "\xff"}', b"3"])
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(VAError, match=r"a.json: is not a manifest") as caught:
        files.read_json(tmp_path / "a.json", what="a manifest", hint="Make it again.")
    assert caught.value.hint == "Make it again."


def test_missing_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VAError, match=r"a.json: cannot be read as a manifest \(No such file"):
        files.read_json(tmp_path / "a.json", what="a manifest", hint="Make it.")


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1])
def test_hash_is_that_of_all_bytes(tmp_path: Path, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "a").write_bytes(content[:size])
    assert files.hash_file(tmp_path / "a") == hashlib.blake2b(content[:size], digest_size=16).hexdigest()


LONG = "x" * 300
NAMES = [
    "video55_left",
    "1-30-1280x720",
    "a/b",
    "a\\b",
    "a%2Fb",
    "..",
    ".",
    ".hidden",
    "../../etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "Åsa 1",
    "名前",
    "a~b",
    "con\n",
    LONG,
    LONG + "y",
    "y" + LONG,
    "/" * 60,
    f"{'x' * 80}~{hashlib.blake2b(LONG.encode(), digest_size=16).hexdigest()}",  # what LONG itself becomes
]


def test_any_id_gives_a_safe_name_of_its_own(tmp_path: Path) -> None:
    names = [files.safe_name(text) for text in NAMES]
    assert len(set(names)) == len(NAMES)
    for name in names:
        assert name.isascii() and len(name) <= 120
        assert not set(name) & set('/\\:*?"<>|\n ')
        path = (tmp_path / f"{name}.h5").resolve()
        assert path.parent == tmp_path.resolve()
        path.write_text(name)  # the file system takes it
    assert all((tmp_path / f"{name}.h5").read_text() == name for name in names)


def test_plain_names_stay_readable() -> None:
    assert files.safe_name("video55_left") == "video55_left"
    assert files.safe_name("a b/c") == "a%20b%2Fc"
    assert files.safe_name(LONG).startswith("x" * 80)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(text, text)
def test_different_ids_never_share_a_name(first: str, second: str) -> None:
    assert (files.safe_name(first) == files.safe_name(second)) is (first == second)


def test_leftovers_of_killed_processes_are_swept_once_they_are_old(tmp_path: Path) -> None:
    old, young, whole = tmp_path / ".a.h5.00000000.tmp", tmp_path / ".b.h5.11111111.tmp", tmp_path / "c.h5"
    for file in (old, young, whole):
        file.write_bytes(b"x")
    for file in (old, whole):
        os.utime(file, (time.time() - 7200,) * 2)
    files.sweep(tmp_path, older_than_s=3600)
    assert sorted(tmp_path.iterdir()) == [young, whole]


def test_a_lock_is_held_by_one_or_shared_by_many(tmp_path: Path) -> None:
    lock = tmp_path / "lock"

    def free(*, shared: bool) -> bool:
        with files.locked(lock, shared=shared, wait=False) as held:
            return held

    with files.locked(lock, shared=False, wait=True) as held:
        assert held and not free(shared=False) and not free(shared=True)
    with files.locked(lock, shared=True, wait=True) as held:
        assert held and free(shared=True) and not free(shared=False)
    assert free(shared=False)
    with pytest.raises(RuntimeError, match="inside"), files.locked(lock, shared=False, wait=True):
        raise RuntimeError("inside")
    assert free(shared=False)
    with pytest.raises(FileNotFoundError), files.locked(tmp_path / "none" / "lock", shared=False, wait=True):
        pass


def test_a_fingerprint_tells_a_replaced_file(tmp_path: Path) -> None:
    file = tmp_path / "a"
    assert files.fingerprint(file) is None
    files.write_text(file, "x")
    first = files.fingerprint(file)
    assert first is not None and files.fingerprint(file) == first
    files.write_text(file, "y")  # as long, and in the same moment
    assert files.fingerprint(file) != first


def test_a_folder_that_became_read_only_is_left_with_its_own_message(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def vanish() -> None:
        (folder / ".lock").unlink()
        (folder / ".lock").mkdir()  # cannot be unlinked, which root's permissions do not allow to make otherwise

    with pytest.raises(VAError, match="the one that counts"), files.alone(folder, doing="trained"):
        vanish()
        raise VAError("the one that counts", "")


def test_what_cannot_be_removed_is_named(tmp_path: Path) -> None:
    files.remove(tmp_path / "nothing")
    (tmp_path / "folder").mkdir()
    with pytest.raises(VAError, match="folder: cannot be removed"):
        files.remove(tmp_path / "folder")


def test_what_a_killed_process_left_half_written_goes_once_nobody_else_can_be_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, whole = tmp_path / "state.safetensors", tmp_path / ".hidden"
    whole.touch()
    left = files.temporary_beside(state)
    left.touch()
    with files.alone(tmp_path, doing="trained"):
        assert not left.exists() and whole.exists()
        left.touch()  # as if it was being written
        with pytest.raises(VAError, match="by another process"), files.alone(tmp_path, doing="trained"):
            pass
        assert left.exists()
    monkeypatch.setattr(files, "_lock_now", lambda descriptor: False)  # no locks here: somebody may be writing
    with files.alone(tmp_path, doing="trained"):
        assert left.exists()


def test_a_lock_that_was_removed_meanwhile_is_taken_anew(tmp_path: Path) -> None:
    with files.alone(tmp_path, doing="trained"):
        (tmp_path / ".lock").unlink()
        with (
            files.alone(tmp_path, doing="trained"),
            pytest.raises(VAError, match="is being trained by another process"),
            files.alone(tmp_path, doing="trained"),
        ):
            pass
    assert not (tmp_path / ".lock").exists()
