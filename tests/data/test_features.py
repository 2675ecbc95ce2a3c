"""The feature store: what is readable is whole and is what was written, whatever happens to the files."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from small_store import SOURCE, assert_same, checksum, features, identity, make, write_raw

from va import files, settings
from va.data import clipgroup
from va.data.features import SCHEMA, ClipFeatures, FeatureStore, Source, choose_store, folder_name, open_stores
from va.errors import VAError


@pytest.fixture(params=["frames", "audio"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureStore:
    """A store with one clip."""
    made = make(tmp_path, request.param)
    made.write("clip", features(request.param), SOURCE)
    return made


def test_round_trip(store: FeatureStore) -> None:
    assert_same(store.read("clip"), features(store.kind))
    again = FeatureStore(store.directory)
    assert_same(again.read("clip"), features(store.kind))
    assert (again.encoder, again.dim, again.identity) == ("eye", 4, identity(store.kind))
    assert again.clip_ids() == ("clip",) and again.count() == 1
    assert list(again.problems()) == []


def test_the_file_is_as_documented(store: FeatureStore) -> None:
    """Read by h5py alone, as a reader in another language would."""
    name = {"frames": "time_s", "audio": "start_s"}[store.kind]
    with h5py.File(store.directory / "clips" / "clip.h5") as opened:
        assert list(opened) == ["clip"]
        file = opened["clip"]
        assert set(file) == {"values", name, "valid"}
        expected = features(store.kind)
        np.testing.assert_array_equal(file["values"][()], expected.values)
        np.testing.assert_array_equal(file[name][()], expected.time_s)
        np.testing.assert_array_equal(file["valid"][()], expected.valid)
        assert file[name].attrs["unit"] == b"s"
        for dataset in file.values():
            assert dataset.attrs["blake2b"] == checksum(dataset[()]).encode()
            assert dataset.chunks is None and dataset.compression is None
        text = {key: value.decode() if isinstance(value, bytes) else value for key, value in file.attrs.items()}
    assert text.pop("written_by").startswith("va ")
    assert text == {
        "clip": "clip",
        "encoder": "eye",
        "identity": settings.digest(identity(store.kind)),
        "kind": store.kind,
        "schema": 2,
        "source_size": 1234,
        "source_blake2b": "ab" * 16,
    }


def test_writing_again_replaces(store: FeatureStore) -> None:
    store.write("clip", features(store.kind, seed=1), SOURCE)
    assert_same(store.read("clip"), features(store.kind, seed=1))
    assert store.count() == 1


def test_two_writes_give_the_same_bytes(store: FeatureStore, tmp_path: Path) -> None:
    other = make(tmp_path / "other", store.kind)
    other.write("clip", features(store.kind), SOURCE)
    assert other.path("clip").read_bytes() == store.path("clip").read_bytes()


# --- damage


def assert_refused_or_unchanged(store: FeatureStore, position: int, value: int) -> bool:
    """Put one wrong byte into the clip's file and read it; say whether it was refused."""
    file, expected = store.path("clip"), features(store.kind)
    whole = file.read_bytes()
    file.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
    try:
        found = store.read("clip")
    except VAError as error:
        assert str(file) in error.message
        assert not store.is_done("clip", SOURCE)
        return True
    else:
        assert_same(found, expected)
        return False
    finally:
        file.write_bytes(whole)


def test_no_wrong_byte_changes_data_unnoticed(store: FeatureStore) -> None:
    """An eighth of all bytes, another eighth for each kind: `read` refuses, or gives what was written."""
    whole = store.path("clip").read_bytes()
    positions = range({"frames": 0, "audio": 4}[store.kind], len(whole), 8)
    refused = [assert_refused_or_unchanged(store, at, whole[at] ^ 1 << at // 8 % 8) for at in positions]
    assert sum(refused) > len(refused) / 2  # the rest is unused space


@pytest.mark.slow
def test_no_wrong_byte_at_all_changes_data_or_hangs(store: FeatureStore) -> None:
    for at, byte in enumerate(store.path("clip").read_bytes()):
        for value in {byte ^ 1 << at % 8, byte ^ 255, 0 if byte else 1}:
            assert_refused_or_unchanged(store, at, value)


def test_a_wrong_value_is_refused_redone_and_reported(store: FeatureStore) -> None:
    file = store.path("clip")
    with h5py.File(file, "r+") as opened:
        opened["clip/values"][0, ...] = 1
    with pytest.raises(VAError, match=r"clip.h5: is damaged \(checksum of 'values' does not match\)"):
        store.read("clip")
    assert not store.is_done("clip", SOURCE)
    assert [str(file) in problem.message for problem in store.problems()] == [True]


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_off_is_refused(store: FeatureStore, part: float) -> None:
    file = store.path("clip")
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(VAError, match=r"clip.h5: is damaged"):
        store.read("clip")
    with pytest.raises(VAError, match=r"clip.h5: is damaged"):
        store.clip_ids()
    assert not store.is_done("clip", SOURCE)
    assert len(list(store.problems())) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"values": np.zeros((6, 5), np.float16)},
        {"values": np.zeros((6, 4), np.float32)},
        {"values": np.full((6, 4), np.nan, np.float16)},
        {"values": np.full((6, 4), -np.inf, np.float16)},
        {"values": np.ones((6, 4), np.float16)},
        {"time_s": np.zeros(5)},
        {"time_s": np.zeros(6, np.float32)},
        {"valid": np.ones(5, np.bool_)},
        {"valid": np.ones(6, np.uint8)},
    ],
    ids=[
        "dim",
        "dtype",
        "nan",
        "infinite",
        "not zero where invalid",
        "times",
        "times dtype",
        "validity",
        "validity dtype",
    ],
)
def test_arrays_that_break_the_contract_are_refused_by_write_and_by_read(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    store = make(tmp_path)
    good = features()
    write_raw(store, "good", good)
    assert_same(store.read("good"), good)
    wrong = ClipFeatures(**({"values": good.values, "time_s": good.time_s, "valid": good.valid} | change))
    with pytest.raises(ValueError, match=r"fit|finite|must be 0"):
        store.write("clip", wrong, SOURCE)
    assert store.count() == 1
    write_raw(store, "clip", wrong)
    with pytest.raises(VAError, match=r"clip.h5: is damaged \((values|time_s|valid) "):
        store.read("clip")
    assert not store.is_done("clip", SOURCE)
    assert len(list(store.problems())) == 1


def test_one_dataset_in_the_place_of_another_is_refused(store: FeatureStore) -> None:
    """Its checksum holds, since it moved with it."""
    name = {"frames": "time_s", "audio": "start_s"}[store.kind]
    with h5py.File(store.path("clip"), "r+") as opened:
        file = opened["clip"]
        file.move("valid", "other")
        file.move("values", "valid")
        file.move("other", "values")
        assert name in file
    with pytest.raises(VAError, match=r"clip.h5: is damaged \(values bool"):
        store.read("clip")


def test_data_outside_the_file_are_refused(store: FeatureStore, tmp_path: Path) -> None:
    file = store.path("clip")
    outside = tmp_path / "outside.h5"
    shutil.copy(file, outside)
    values = features(store.kind).values
    values.tofile(tmp_path / "raw")

    def soft(opened: h5py.File) -> None:
        opened.parent.move(f"{opened.name}/values", "/moved")
        opened["values"] = h5py.SoftLink("/moved")

    def external_link(opened: h5py.File) -> None:
        del opened["values"]
        opened["values"] = h5py.ExternalLink(str(outside), "/clip/values")

    def replace(opened: h5py.File, make_new: Any) -> None:
        attributes = dict(opened["values"].attrs)
        del opened["values"]
        make_new().attrs.update(attributes)

    def external_storage(opened: h5py.File) -> None:
        raw = [(str(tmp_path / "raw"), 0, values.nbytes)]
        replace(opened, lambda: opened.create_dataset("values", values.shape, values.dtype, external=raw))

    def virtual(opened: h5py.File) -> None:
        layout = h5py.VirtualLayout(values.shape, values.dtype)
        layout[:] = h5py.VirtualSource(str(outside), "clip/values", values.shape)
        replace(opened, lambda: opened.create_virtual_dataset("values", layout))

    whole = file.read_bytes()
    for change in (soft, external_link, external_storage, virtual):
        file.write_bytes(whole)
        with h5py.File(file, "r+") as opened:
            change(opened["clip"])
        with h5py.File(file) as opened:  # whoever follows finds the right values
            np.testing.assert_array_equal(opened["clip/values"][()], values)
        with pytest.raises(VAError, match=r"'values' is not stored in the file itself"):
            store.read("clip")


# --- commits


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make(tmp_path)

    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError("Can't write data (No space left on device)")

    monkeypatch.setattr(h5py.Group, "create_dataset", full_disk)
    with pytest.raises(VAError, match=r"clip.h5: cannot be written \(Can't write data"):
        store.write("clip", features(), SOURCE)
    assert list((store.directory / "clips").iterdir()) == []
    assert store.count() == 0 and not store.is_done("clip", SOURCE)
    with pytest.raises(VAError, match="has no features of clip 'clip'"):
        store.read("clip")


def test_a_failed_rewrite_keeps_what_was_there(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(clipgroup, "verify", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.write("clip", features(store.kind, seed=1), SOURCE)
    monkeypatch.undo()
    assert_same(store.read("clip"), features(store.kind))
    assert [path.name for path in (store.directory / "clips").iterdir()] == ["clip.h5"]


def test_what_was_not_written_whole_gets_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file is read back before it is renamed: a disk that lies is noticed."""
    store = make(tmp_path)

    def damaging(path: Path) -> None:
        content = path.read_bytes()
        path.write_bytes(content.replace(features().values.tobytes(), bytes(features().values.nbytes)))

    monkeypatch.setattr(files, "sync", damaging)
    with pytest.raises(VAError, match=r"clip.h5: was not written as it should be \(checksum of 'values' does"):
        store.write("clip", features(), SOURCE)
    assert list((store.directory / "clips").iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from va import files
from va.data.features import ClipFeatures, FeatureStore, Source

store = FeatureStore(Path(sys.argv[1]))
made = ClipFeatures(values=np.ones((6, 4), np.float16), time_s=np.arange(6.0), valid=np.ones(6, np.bool_))
store.write("first", made, Source(size=1, digest="x"))
files.sync = lambda path: os.kill(os.getpid(), signal.SIGKILL)  # written, but not yet renamed
store.write("second", made, Source(size=1, digest="x"))
"""


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_a_killed_process_leaves_only_whole_clips(tmp_path: Path) -> None:
    store = make(tmp_path)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(store.directory)], check=False)
    assert killed.returncode == -9
    left = list((store.directory / "clips").iterdir())
    assert len(left) == 2  # the temporary file is there, under a name that no reader looks at
    assert store.clip_ids() == ("first",) and store.count() == 1
    assert list(store.problems()) == []
    assert not store.is_done("second", Source(size=1, digest="x"))


# --- identities, sources, ids


def test_a_clip_of_another_identity_is_refused(store: FeatureStore, tmp_path: Path) -> None:
    other = make(tmp_path, store.kind, weights="others")
    other.path("clip").parent.mkdir()
    shutil.copy(store.path("clip"), other.path("clip"))
    message = f"holds clip 'clip' of identity '{store.digest}', expected 'clip' of '{other.digest}'"
    with pytest.raises(VAError, match=message):
        other.read("clip")
    assert not other.is_done("clip", SOURCE)
    assert len(list(other.problems())) == 1


def test_a_file_under_another_clips_name_is_refused(store: FeatureStore) -> None:
    store.path("clip").rename(store.path("another"))
    with pytest.raises(VAError, match=r"another.h5: is damaged \('another' is not there\)"):
        store.read("another")
    assert ["another.h5: is damaged" in problem.message for problem in store.problems()] == [True]
    with h5py.File(store.path("another"), "r+") as file:
        file.move("clip", "another")
    message = f"holds clip 'clip' of identity '{store.digest}', expected 'another' of '{store.digest}'"
    with pytest.raises(VAError, match=message):
        store.read("another")
    assert [message in problem.message for problem in store.problems()] == [True]


def test_done_means_this_source(store: FeatureStore) -> None:
    assert store.is_done("clip", SOURCE)
    assert not store.is_done("clip", Source(size=1235, digest=SOURCE.digest))
    assert not store.is_done("clip", Source(size=1234, digest="cd" * 16))
    assert not store.is_done("other", SOURCE)


def test_a_source_is_size_and_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"abd")
    first, second = Source.of(tmp_path / "a"), Source.of(tmp_path / "b")
    assert first.size == second.size == 3 and first.digest != second.digest
    with pytest.raises(VAError, match=r"none: cannot be read \(No such file"):
        Source.of(tmp_path / "none")
    with pytest.raises(VAError, match="cannot be read"):
        Source.of(tmp_path)


def test_any_id_can_be_stored(tmp_path: Path) -> None:
    store = make(tmp_path)
    ids = ["a", "a/b", "a%2Fb", "..", "../../x", "/abs", ".hidden", "名前 Å", "x" * 300, "x" * 299 + "y", "a\nb"]
    for seed, clip_id in enumerate(ids):
        store.write(clip_id, features(seed=seed), SOURCE)
    assert store.clip_ids() == tuple(sorted(ids)) and store.count() == len(ids)
    assert list(store.problems()) == []
    for seed, clip_id in enumerate(ids):
        assert_same(store.read(clip_id), features(seed=seed))
        assert store.path(clip_id).resolve().parent == (store.directory / "clips").resolve()
    assert len(list(tmp_path.rglob("*.h5"))) == len(ids)


def test_a_missing_clip_is_named(store: FeatureStore) -> None:
    with pytest.raises(VAError, match=r"eye-[0-9a-f]{8}: has no features of clip 'nobody'"):
        store.read("nobody")


# --- folders


def test_a_folder_is_named_by_everything_its_values_depend_on() -> None:
    names = {
        folder_name(identity()),
        folder_name(identity(weights="other")),
        folder_name(identity(kind="audio")),
        folder_name(identity(dim=5)),
        folder_name(identity(encoder="ear")),
        folder_name(identity(sampling={"window_s": 10.0})),
    }
    assert len(names) == 6
    assert all(name.rsplit("-", 1)[0] in ("eye", "ear") and len(name.rsplit("-", 1)[1]) == 8 for name in names)


@pytest.mark.parametrize("kind", ["frames", "audio"])
def test_no_wrong_byte_of_an_identity_is_believed(tmp_path: Path, kind: str) -> None:
    store = make(tmp_path, kind)
    file = store.directory / "identity.json"
    whole = file.read_bytes()
    refused = 0
    for position in range(len(whole)):
        for value in (whole[position] ^ 1, whole[position] ^ 32, 255):
            file.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
            try:
                assert FeatureStore(store.directory).identity == identity(kind)
            except VAError:
                refused += 1
    assert refused > len(whole)


@pytest.mark.parametrize(
    "content", ["{}", '{"schema": 1}', '{"schema": 2, "encoder": "eye", "kind": [], "dim": {}}', '{"a": NaN}', "[]"]
)
def test_a_folder_without_a_valid_identity_is_refused(tmp_path: Path, content: str) -> None:
    store = make(tmp_path)
    (store.directory / "identity.json").write_text(content)
    with pytest.raises(VAError, match=r"identity.json: "):
        FeatureStore(store.directory)
    # Making it again mends it, because the folder's name says what belongs there.
    assert make(tmp_path).identity == identity()


def test_a_renamed_folder_is_refused(store: FeatureStore) -> None:
    renamed = store.directory.rename(store.directory.with_name("eye-00000000"))
    with pytest.raises(VAError, match="does not belong to this folder or version"):
        FeatureStore(renamed)


def test_another_schema_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VAError, match="does not belong to this folder or version"):
        make(tmp_path, schema=SCHEMA + 1)


def test_open_stores_finds_all_and_refuses_none(tmp_path: Path) -> None:
    with pytest.raises(VAError, match="holds no features"):
        open_stores(tmp_path)
    made = [make(tmp_path), make(tmp_path, "audio", encoder="ear")]
    (tmp_path / "failures").mkdir()
    assert [found.encoder for found in open_stores(tmp_path)] == ["ear", "eye"]
    assert {found.directory for found in open_stores(tmp_path)} == {store.directory for store in made}


def test_choosing_a_store(tmp_path: Path) -> None:
    def choose(name: str = "", kind: Any = "frames") -> str:
        return choose_store(tmp_path, kind=kind, name=name, option="--face").directory.name

    eye = make(tmp_path)
    ear = make(tmp_path, "audio", encoder="ear")
    pixels = make(tmp_path, encoder="pixels", baseline=True)
    assert choose() == eye.directory.name
    assert choose(kind="audio") == choose("ear", "audio") == ear.directory.name
    assert choose("pixels") == pixels.directory.name
    with pytest.raises(VAError, match="has no frames encoder 'ear'") as caught:
        choose("ear")
    assert caught.value.hint == "Set --face to one that is there: eye, pixels (a trivial baseline)."
    second = make(tmp_path, weights="other")
    for name in ("", "eye"):
        with pytest.raises(VAError, match="holds more than one frames encoder") as caught:
            choose(name)
        both = ", ".join(sorted([eye.directory.name, second.directory.name]))
        assert caught.value.hint == f"Name one with --face: {both}, pixels (a trivial baseline)."
    make(tmp_path, encoder="big")
    with pytest.raises(VAError, match="holds more than one frames encoder") as caught:
        choose()
    assert caught.value.hint == f"Name one with --face: big, {both}, pixels (a trivial baseline)."
    assert choose(second.directory.name) == second.directory.name
