"""A lock is held by those who may hold it, and goes with them."""

from pathlib import Path

import pytest

from va import files, locks
from va.errors import VAError


def test_a_lock_is_held_by_one_or_shared_by_many(tmp_path: Path) -> None:
    lock = tmp_path / "lock"

    def free(*, shared: bool) -> bool:
        with locks.locked(lock, shared=shared, wait=False) as held:
            return held

    with locks.locked(lock, shared=False, wait=True) as held:
        assert held and not free(shared=False) and not free(shared=True)
    with locks.locked(lock, shared=True, wait=True) as held:
        assert held and free(shared=True) and not free(shared=False)
    assert free(shared=False)
    with pytest.raises(RuntimeError, match="inside"), locks.locked(lock, shared=False, wait=True):
        raise RuntimeError("inside")
    assert free(shared=False)
    with pytest.raises(FileNotFoundError), locks.locked(tmp_path / "none" / "lock", shared=False, wait=True):
        pass


def test_a_folder_that_became_read_only_is_left_with_its_own_message(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def vanish() -> None:
        (folder / ".lock").unlink()
        (folder / ".lock").mkdir()  # cannot be unlinked, which root's permissions do not allow to make otherwise

    with pytest.raises(VAError, match="the one that counts"), locks.alone(folder, doing="trained"):
        vanish()
        raise VAError("the one that counts", "")


def test_a_lock_that_was_removed_meanwhile_is_taken_anew(tmp_path: Path) -> None:
    with locks.alone(tmp_path, doing="trained"):
        (tmp_path / ".lock").unlink()
        with (
            locks.alone(tmp_path, doing="trained"),
            pytest.raises(VAError, match="is being trained by another process"),
            locks.alone(tmp_path, doing="trained"),
        ):
            pass
    assert not (tmp_path / ".lock").exists()


def test_what_a_killed_process_left_half_written_goes_once_nobody_else_can_be_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, whole = tmp_path / "state.safetensors", tmp_path / ".hidden"
    whole.touch()
    left = files.temporary_beside(state)
    left.touch()
    with locks.alone(tmp_path, doing="trained"):
        assert not left.exists() and whole.exists()
        left.touch()  # as if it was being written
        with pytest.raises(VAError, match="by another process"), locks.alone(tmp_path, doing="trained"):
            pass
        assert left.exists()
    monkeypatch.setattr(locks, "_lock_now", lambda descriptor: False)  # no locks here: somebody may be writing
    with locks.alone(tmp_path, doing="trained"):
        assert left.exists()
