"""Shards: whatever is packed, killed, damaged or mended, a clip is read as it was written or not at all."""

import contextlib
import errno
import fcntl
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import pytest
from small_store import SOURCE, assert_same, features, make

from va import files, locks
from va.data import hdf5, shards
from va.data.features import ClipFeatures, FeatureStore, Source
from va.errors import VAError

KINDS = ("frames", "audio")
NAME = re.compile(r"(\d{5})-([0-9a-f]{32})\.h5")


def fill(store: FeatureStore, names: str, *, seed: int = 0) -> dict[str, ClipFeatures]:
    """Write a clip per letter, each with values of its own."""
    made = {name: features(store.kind, seed=seed + ord(name)) for name in names}
    for name, clip in made.items():
        store.write(name, clip, SOURCE)
    return made


def packed(root: Path, names: str, kind: str = "frames") -> tuple[FeatureStore, dict[str, ClipFeatures], Path]:
    """A store whose clips are all in one shard."""
    store = make(root, kind)
    made = fill(store, names)
    shard = store.pack(at_least=1)
    assert shard is not None
    return store, made, shard


def again(store: FeatureStore) -> FeatureStore:
    """As a process sees it that has just started."""
    return FeatureStore(store.directory)


def loose(store: FeatureStore) -> list[str]:
    return [path.stem for path in shards.list_h5(store.directory / "clips")]


def shard_names(store: FeatureStore) -> list[str]:
    folder = store.directory / "shards"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def assert_holds(store: FeatureStore, expected: dict[str, ClipFeatures]) -> None:
    assert store.clip_ids() == tuple(sorted(expected)) and store.count() == len(expected)
    for name, clip in expected.items():
        assert_same(store.read(name), clip)
        assert store.is_done(name, SOURCE)
    assert list(store.problems()) == []


# --- packing


@pytest.mark.parametrize("kind", KINDS)
def test_packed_clips_are_those_that_were_written(kind: str, tmp_path: Path) -> None:
    store = make(tmp_path, kind)
    made = fill(store, "abcdefghijkl")
    stamps = {name: store.stamp(name) for name in made}
    shard = store.pack(at_least=1)
    assert shard is not None and loose(store) == [] and shard_names(store) == [shard.name]
    for opened in (store, again(store)):
        assert_holds(opened, made)
        assert {name: opened.stamp(name) for name in made} == stamps
        with pytest.raises(VAError, match="has no features of clip 'nobody'"):
            opened.read("nobody")
        assert not opened.is_done("a", Source(size=1, digest=SOURCE.digest))


def test_a_shard_is_as_documented(tmp_path: Path) -> None:
    """Read by h5py and hashlib alone; a group is that of the loose file, bit for bit."""
    store = make(tmp_path)
    made = fill(store, "ab")
    store.write("c/d", features(), SOURCE)
    kept = tmp_path / "kept"
    shutil.copytree(store.directory / "clips", kept)
    shard = store.pack(at_least=1)
    assert shard is not None
    found = NAME.fullmatch(shard.name)
    assert found and found[1] == "00000"
    assert found[2] == hashlib.blake2b(shard.read_bytes(), digest_size=16).hexdigest()
    with h5py.File(shard) as file:
        assert set(file) == {"a", "b", "c%2Fd"}
        for name in file:
            with h5py.File(kept / f"{name}.h5") as single:
                assert dict(file[name].attrs) == dict(single[name].attrs)
                for dataset in ("values", "time_s", "valid"):
                    assert dict(file[name][dataset].attrs) == dict(single[name][dataset].attrs)
                    assert file[name][dataset][()].tobytes() == single[name][dataset][()].tobytes()
    assert_holds(store, made | {"c/d": features()})


def test_the_documented_reader_finds_the_copy_that_counts(tmp_path: Path) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "feature-format.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope: dict[str, Any] = {}
    exec(example, scope)
    store, made, first = packed(tmp_path, "abc")
    made |= fill(store, "b", seed=1)
    second = store.pack(at_least=1)
    made |= fill(store, "c", seed=2)
    where = {"a": first, "b": second, "c": store.path("c")}
    for name, path in where.items():
        assert scope["copy_that_counts"](store.directory, name) == path
        with h5py.File(path) as file:
            assert file[name]["values"][()].tobytes() == made[name].values.tobytes()
    assert scope["copy_that_counts"](store.directory, "nobody") is None


def test_packing_waits_for_enough_and_stops_when_the_shard_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(tmp_path)
    made = fill(store, "abcde")
    size = store.path("a").stat().st_size
    assert store.pack() is None and store.pack(at_least=5 * size + 1) is None
    assert loose(store) == list("abcde") and shard_names(store) == []
    monkeypatch.setattr(shards, "SHARD_BYTES", 2 * size)
    assert store.pack(at_least=5 * size) is not None
    assert loose(store) == list("cde")
    assert store.pack(at_least=3 * size + 1) is None
    assert store.pack(at_least=3 * size) is not None
    assert store.pack(at_least=1) is not None and store.pack(at_least=1) is None
    assert [name[:5] for name in shard_names(store)] == ["00000", "00001", "00002"]
    assert_holds(store, made)


def test_packing_looks_at_the_folder_only_where_enough_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(tmp_path)
    looks = []
    real = shards.list_h5
    monkeypatch.setattr(shards, "list_h5", lambda path: looks.append(path) or real(path))
    fill(store, "a")
    limit = 4 * store.path("a").stat().st_size
    for name in "bc":
        fill(store, name)
        assert store.pack(at_least=limit) is None
    assert len(looks) == 1  # what earlier runs left
    fill(store, "d")
    assert store.pack(at_least=limit) is not None and len(looks) == 2
    fill(store, "efg")
    assert store.pack(at_least=limit) is None and len(looks) == 2


def test_of_several_copies_the_newest_counts(tmp_path: Path) -> None:
    store, first, _ = packed(tmp_path, "abc")
    reader = again(store)
    assert_holds(reader, first)
    second = first | fill(store, "b", seed=1)
    for opened in (store, reader, again(store)):
        assert_holds(opened, second)
    assert store.pack(at_least=1) is not None and len(shard_names(store)) == 2
    for opened in (store, reader, again(store)):
        assert_holds(opened, second)
    third = second | fill(store, "a", seed=2)
    for opened in (store, reader, again(store)):
        assert_holds(opened, third)


@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda whole: whole[:-300] + bytes(300)])
def test_a_damaged_loose_clip_stays_where_it_is(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    store = make(tmp_path)
    made = fill(store, "abc")
    store.path("b").write_bytes(damage(store.path("b").read_bytes()))
    shutil.copy(store.path("a"), store.path("misnamed"))
    assert store.pack(at_least=1) is not None
    assert loose(store) == ["b", "misnamed"]
    assert_same(store.read("a"), made["a"])
    assert len(list(store.problems())) == 2
    assert store.pack(at_least=1) is None and len(shard_names(store)) == 1
    assert not store.is_done("b", SOURCE)
    store.write("b", made["b"], SOURCE)
    store.path("misnamed").unlink()
    assert_holds(store, made)


def test_a_clip_written_again_while_it_is_packed_is_not_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make(tmp_path)
    made = fill(store, "abc")
    real = files.hash_file

    def rewriting(path: Path) -> str:  # after the copy, before the loose files are removed
        made.update(fill(again(store), "b", seed=1))
        return real(path)

    monkeypatch.setattr(files, "hash_file", rewriting)
    assert store.pack(at_least=1) is not None
    monkeypatch.undo()
    assert loose(store) == ["b"]
    assert_holds(store, made)


def test_nobody_packs_while_another_does_and_commits_wait_for_removals(tmp_path: Path) -> None:
    store = make(tmp_path)
    made = fill(store, "ab")
    with locks.locked(store.directory / ".pack.lock", shared=False, wait=False) as held:
        assert held
        assert store.pack(at_least=1) is None
        made |= fill(store, "c")
    with locks.locked(store.directory / ".commit.lock", shared=True, wait=False) as held:
        assert held
        made |= fill(store, "d")  # commits do not wait for each other
        with locks.locked(store.directory / ".commit.lock", shared=False, wait=False) as busy:
            assert not busy
    assert store.pack(at_least=1) is not None
    assert_holds(store, made)


def test_file_systems_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is packed, and everything else works; HDF5's own locks are not used at all."""

    def refused(*_: Any) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", refused)
    store = make(tmp_path)
    made = fill(store, "ab")
    assert store.pack(at_least=1) is None
    monkeypatch.undo()
    shard = store.pack(at_least=1)
    assert shard is not None
    monkeypatch.setattr(fcntl, "flock", refused)
    shard.write_bytes(shard.read_bytes() + b"x")
    assert len(store.mend()) == 1
    assert_holds(store, made)
    monkeypatch.undo()
    with store.path("a").open() as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        assert_holds(store, made)


def test_a_full_disk_while_packing_loses_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("only root may mount a small file system")
    try:
        store = make(disk)
        made = fill(store, "abcdefghijklmnopq")
        rest = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        (disk / "other").write_bytes(bytes(rest - 8192))
        with pytest.raises(VAError, match=r"cannot be written \(No space left on device\)") as caught:
            store.pack(at_least=1)
        assert isinstance(caught.value.__cause__, OSError)
        assert shard_names(store) == []
        assert_holds(again(store), made)
        (disk / "other").unlink()
        assert store.pack(at_least=1) is not None
        assert_holds(again(store), made)
    finally:
        subprocess.run(["umount", disk], check=True)


# --- readers beside a packer


def test_a_file_that_is_packed_between_two_steps_of_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make(tmp_path)
    made = fill(store, "ab")
    reader, real = again(store), hdf5.reading
    assert reader.count() == 2

    def packing(path: Path) -> h5py.File:
        monkeypatch.undo()
        assert store.pack(at_least=1) is not None
        return real(path)

    monkeypatch.setattr(hdf5, "reading", packing)
    assert_same(reader.read("a"), made["a"])
    assert loose(store) == [] and len(shard_names(store)) == 1


def test_a_shard_that_is_set_aside_between_two_steps_of_a_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, made, shard = packed(tmp_path, "ab")
    shard.write_bytes(shard.read_bytes() + b"x")
    reader = again(store)
    assert reader.count() == 2
    real = hdf5.reading

    def mending(path: Path) -> h5py.File:
        monkeypatch.undo()
        assert len(store.mend()) == 1
        return real(path)

    monkeypatch.setattr(hdf5, "reading", mending)
    assert_same(reader.read("a"), made["a"])
    assert loose(store) == ["a", "b"]


READER = """
import sys
from pathlib import Path
from va.data.features import FeatureStore

store, reads = FeatureStore(Path(sys.argv[1])), 0
expected = {name: store.read(name).values.tobytes() for name in "abcd"}
print("ready", flush=True)
while not (store.directory / "stop").exists():
    for name, values in expected.items():
        assert store.read(name).values.tobytes() == values
        reads += 1
    assert set("abcd") <= set(store.clip_ids()), store.clip_ids()
print(reads)
"""


def test_a_reader_never_misses_a_clip_while_another_process_packs(tmp_path: Path) -> None:
    store = make(tmp_path)
    made = fill(store, "abcd")
    reader = subprocess.Popen([sys.executable, "-c", READER, store.directory], stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None and reader.stdout.readline() == "ready\n"
    end = time.monotonic() + 3
    rounds = 0
    while time.monotonic() < end or rounds <= 10:  # a busy machine makes few in three seconds
        assert store.pack(at_least=1) is not None
        if rounds % 4 == 3:  # back to loose files
            for shard in (store.directory / "shards").glob("*.h5"):
                wrong = store.directory / "wrong"
                wrong.write_bytes(shard.read_bytes() + b"x")
                wrong.replace(shard)  # nothing ever changes a shard in place
            assert store.mend()
        fill(store, "abcd"[rounds % 4])
        rounds += 1
    (store.directory / "stop").touch()
    output, _ = reader.communicate(timeout=60)
    assert reader.returncode == 0
    assert int(output) > 20 and rounds > 10, (output, rounds)
    assert_holds(store, made)


PACKER = """
import sys
from pathlib import Path
import numpy as np
from va.data.features import ClipFeatures, FeatureStore, Source

store, who, count = FeatureStore(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
shards = 0
for index in range(count):
    values = np.full((6, 4), index, np.float16)
    clip = ClipFeatures(values=values, time_s=np.arange(6.0), valid=np.ones(6, np.bool_))
    store.write(f"{who}{index}", clip, Source(size=index, digest=who))
    print(f"{who}{index}", flush=True)
    shards += store.pack(at_least=1) is not None
"""


def pack_in_a_process(store: FeatureStore, who: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PACKER, store.directory, who, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def assert_written(store: FeatureStore, clip_id: str) -> None:
    index = int(re.sub(r"\D", "", clip_id))
    assert (store.read(clip_id).values == index).all()
    assert store.is_done(clip_id, Source(size=index, digest=re.sub(r"\d", "", clip_id)))


def test_two_processes_pack_at_once(tmp_path: Path) -> None:
    store, count = make(tmp_path), 25
    both = [pack_in_a_process(store, who, count) for who in ("x", "y")]
    printed = [line for process in both for line in process.communicate(timeout=120)[0].split()]
    assert [process.returncode for process in both] == [0, 0] and len(printed) == 2 * count
    store.pack(at_least=1)
    assert loose(store) == []
    held: list[str] = []
    for shard in (store.directory / "shards").iterdir():
        with h5py.File(shard) as file:
            held += file
    assert sorted(held) == sorted(printed), "every clip in exactly one shard"
    for clip_id in printed:
        assert_written(store, clip_id)
    assert list(store.problems()) == []


# --- kills


STEPS = """
import os, signal, sys
from pathlib import Path
from va import files
from va.data import hdf5
from va.data.features import FeatureStore

store, left = FeatureStore(Path(sys.argv[1])), int(sys.argv[2])

def counted(real):
    def wrapper(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*arguments, **options)
    return wrapper

Path.replace, Path.unlink = counted(Path.replace), counted(Path.unlink)
files.sync, files.hash_file = counted(files.sync), counted(files.hash_file)
hdf5._Sink.write, hdf5.reading = counted(hdf5._Sink.write), counted(hdf5.reading)
getattr(store, sys.argv[3])(**({"at_least": 1} if sys.argv[3] == "pack" else {}))
"""


def kill_at_every_step(root: Path, prepare: Callable[[Path], FeatureStore], what: str, stride: int) -> int:
    """Kill a process at the first, the second, ... of its steps, each in a store of its own, until it ends."""
    for step in range(0, 10_000, stride):
        store = prepare(root / str(step))
        command = [sys.executable, "-c", STEPS, store.directory, str(step), what]
        code = subprocess.run(command, check=False).returncode
        assert code in (0, -signal.SIGKILL)
        opened = again(store)
        for name in "abc":
            assert_same(opened.read(name), features(seed=ord(name)))
        assert opened.clip_ids() == ("a", "b", "c")
        if what == "pack" or code == 0:
            assert list(opened.problems()) == []
        assert opened.mend() == [] or (what, code) == ("mend", -signal.SIGKILL)
        opened.pack(at_least=1)
        assert_holds(opened, {name: features(seed=ord(name)) for name in "abc"})
        assert loose(opened) == []
        if code == 0:
            return step
    raise AssertionError("it never ended")


def loose_store(root: Path) -> FeatureStore:
    store = make(root)
    fill(store, "abc")
    return store


def damaged_store(root: Path) -> FeatureStore:
    """Two copies of a clip, the newer in a shard with a wrong byte that is part of no clip."""
    store = make(root)
    fill(store, "ab", seed=7)
    store.pack(at_least=1)
    fill(store, "abc")
    shard = store.pack(at_least=1)
    assert shard is not None
    shard.write_bytes(shard.read_bytes() + b"x")
    return store


@pytest.mark.parametrize("stride", [8, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_step_of_packing_nothing_is_lost(stride: int, tmp_path: Path) -> None:
    assert kill_at_every_step(tmp_path, loose_store, "pack", stride) >= 15


@pytest.mark.parametrize("stride", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_any_step_of_mending_nothing_is_lost(stride: int, tmp_path: Path) -> None:
    assert kill_at_every_step(tmp_path, damaged_store, "mend", stride) >= 20


@pytest.mark.parametrize("kills", [8, pytest.param(60, marks=pytest.mark.slow)])
def test_killed_at_any_time_while_packing_nothing_is_lost(kills: int, tmp_path: Path) -> None:
    store, rng = make(tmp_path), random.Random(0)
    committed: set[str] = set()
    for number in range(kills):
        process = pack_in_a_process(store, "abcdefghijklmnopqrstuvwxyz"[number % 26] * (1 + number // 26), 10_000)
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(rng.random() * 0.15)
        process.send_signal(signal.SIGKILL)
        committed |= {first.strip(), *process.communicate()[0].split()}
        assert process.returncode == -signal.SIGKILL
    assert len(committed) >= kills and len(shard_names(store)) > kills / 2
    found = set(store.clip_ids())
    assert committed <= found
    for clip_id in found:  # those too whose name was not printed any more
        assert_written(store, clip_id)
    assert list(store.problems()) == [] and store.mend() == []


# --- damage


@contextlib.contextmanager
def wrong_byte(shard: Path, position: int, value: int) -> Iterator[None]:
    whole = shard.read_bytes()
    shard.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
    try:
        yield
    finally:
        shard.write_bytes(whole)


def assert_noticed(*stores: FeatureStore, shard: Path, made: dict[str, ClipFeatures], position: int, value: int) -> int:
    """Put one wrong byte into a shard; give how many clips it made unreadable to a store opened then."""
    refused = 0
    with wrong_byte(shard, position, value):
        cold = FeatureStore(shard.parents[1])
        assert next(cold.problems(), None) is not None, position
        for opened in (*stores, cold):
            for name, clip in made.items():
                try:
                    found = opened.read(name)
                except VAError as error:
                    assert str(shard) in error.message
                    refused += opened is cold
                else:
                    assert_same(found, clip)
        cold.count()
    return refused


@pytest.mark.parametrize("kind", KINDS)
def test_no_wrong_byte_of_a_shard_goes_unnoticed(kind: str, tmp_path: Path) -> None:
    """An eighth of all bytes, another eighth for each kind."""
    store, made, shard = packed(tmp_path, "ab", kind)
    whole = shard.read_bytes()
    positions = range({"frames": 0, "audio": 4}[kind], len(whole), 8)
    refused = [
        assert_noticed(shard=shard, made=made, position=at, value=whole[at] ^ 1 << at // 8 % 8) for at in positions
    ]
    assert sum(map(bool, refused)) > len(refused) / 2  # the rest is unused space
    assert_holds(again(store), made)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_wrong_byte_at_all_of_a_shard_goes_unnoticed(kind: str, tmp_path: Path) -> None:
    store, made, shard = packed(tmp_path, "ab", kind)
    for at, byte in enumerate(shard.read_bytes()):
        for value in {byte ^ 1 << at % 8, byte ^ 255}:
            assert_noticed(shard=shard, made=made, position=at, value=value)
    assert_holds(again(store), made)


@pytest.mark.slow
def test_no_wrong_byte_of_a_shard_of_many_groups_goes_unnoticed(tmp_path: Path) -> None:
    """More than eight groups are found through a heap and a tree. Every eleventh byte."""
    store, made, shard = packed(tmp_path, "abcdefghi")
    whole = shard.read_bytes()
    for at in range(0, len(whole), 11):
        assert_noticed(shard=shard, made=made, position=at, value=whole[at] ^ 255)
    assert_holds(again(store), made)


@pytest.mark.parametrize("stride", [32, pytest.param(1, marks=pytest.mark.slow)])
def test_an_older_copy_never_stands_in_for_a_damaged_one(stride: int, tmp_path: Path) -> None:
    store, _, _ = packed(tmp_path, "ab")
    made = fill(store, "ab", seed=1)
    shard = store.pack(at_least=1)
    assert shard is not None
    whole = shard.read_bytes()
    for at in range(0, len(whole), stride):
        assert_noticed(store, shard=shard, made=made, position=at, value=whole[at] ^ 255)


@pytest.mark.parametrize("stride", [128, pytest.param(8, marks=pytest.mark.slow)])
def test_mending_saves_every_clip_that_is_whole(stride: int, tmp_path: Path) -> None:
    store, made, shard = packed(tmp_path / "one", "abc")
    whole, saved_once = shard.read_bytes(), 0
    for at in range(0, len(whole), stride):
        root = tmp_path / str(at)
        shutil.copytree(tmp_path / "one", root)
        hurt = FeatureStore(root / store.directory.name)
        file = hurt.directory / "shards" / shard.name
        wrong = whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]
        file.write_bytes(wrong)
        readable = set()
        for name in made:
            with contextlib.suppress(VAError):
                assert_same(hurt.read(name), made[name])
                readable.add(name)
        (line,) = hurt.mend()
        assert str(file) in line and f"set aside as {shard.name}.damaged" in line
        assert shard_names(hurt) == [f"{shard.name}.damaged"]
        assert (hurt.directory / "shards" / f"{shard.name}.damaged").read_bytes() == wrong
        assert set(loose(hurt)) == readable
        assert f"{len(readable)} clips" in line or (not readable and "none of its clips can be read" in line)
        saved_once += bool(readable)
        for opened in (hurt, again(hurt)):
            assert_holds(opened, {name: made[name] for name in readable})
        assert hurt.mend() == []
        shutil.rmtree(root)
    assert saved_once > len(whole) / stride / 2


def test_mending_a_sound_store_does_nothing(tmp_path: Path) -> None:
    store = make(tmp_path)
    assert store.mend() == []
    fill(store, "ab")
    store.pack(at_least=1)
    (store.directory / ".pack.lock").unlink()
    before = sorted(store.directory.rglob("*"))
    assert store.mend() == [] and sorted(store.directory.rglob("*")) == before


def test_mending_saves_only_copies_that_count(tmp_path: Path) -> None:
    store, first, shard = packed(tmp_path, "abcd")
    expected = first | fill(store, "b", seed=1)
    second = store.pack(at_least=1)
    assert second is not None
    expected |= fill(store, "c", seed=2)
    for file in (shard, second):
        file.write_bytes(file.read_bytes() + b"x")
    lines = again(store).mend()
    assert ["2 clips that only it held" in lines[0], "1 clips that only it held" in lines[1]] == [True, True]
    assert loose(store) == list("abcd")
    for opened in (store, again(store)):
        assert_holds(opened, expected)
    third = store.pack(at_least=1)
    assert third is not None and third.name.startswith("00002-"), "no number comes twice"


def test_of_two_damaged_shards_the_older_copy_does_not_come_back(tmp_path: Path) -> None:
    store, _, shard = packed(tmp_path, "ab")
    newer = fill(store, "b", seed=1)["b"]
    second = store.pack(at_least=1)
    assert second is not None
    shard.write_bytes(shard.read_bytes() + b"x")
    values = newer.values.tobytes()
    second.write_bytes(second.read_bytes().replace(values, bytes(len(values))))
    assert len(store.mend()) == 2
    assert loose(store) == ["a"] and store.clip_ids() == ("a",)
    with pytest.raises(VAError, match="has no features of clip 'b'"):
        store.read("b")


def test_mending_never_replaces_a_clip_that_was_written_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, made, shard = packed(tmp_path, "ab")
    shard.write_bytes(shard.read_bytes() + b"x")
    real = files.sync

    def writing(path: Path) -> None:  # the old copy is ready, but has no name yet
        monkeypatch.undo()
        real(path)
        made.update(fill(again(store), "a", seed=1))

    monkeypatch.setattr(files, "sync", writing)
    (line,) = store.mend()
    assert "1 clips that only it held" in line
    assert_holds(again(store), made)


def test_a_lost_sector_is_damage_and_a_refused_permission_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, made, shard = packed(tmp_path, "ab")

    def failing(number: int) -> Callable[[Path], str]:
        def hash_file(path: Path) -> str:
            raise OSError(number, os.strerror(number), str(path))

        return hash_file

    monkeypatch.setattr(files, "hash_file", failing(errno.EACCES))
    with pytest.raises(VAError, match=r"\.h5: cannot be read \(Permission denied\)"):
        store.mend()
    assert ["cannot be read" in problem.message for problem in store.problems()] == [True]
    assert shard_names(store) == [shard.name]
    monkeypatch.setattr(files, "hash_file", failing(errno.EIO))
    assert ["is damaged" in problem.message for problem in store.problems()] == [True]
    assert len(store.mend()) == 1
    assert loose(store) == ["a", "b"]
    monkeypatch.undo()
    assert_holds(store, made)


def test_a_shard_without_its_name_is_reported_and_mended(tmp_path: Path) -> None:
    store, made, shard = packed(tmp_path, "ab")
    shard.rename(shard.with_name("mine.h5"))
    for name, clip in made.items():
        assert_same(store.read(name), clip)
    assert [str(problem.message) for problem in store.problems()] == [
        f"{shard.with_name('mine.h5')}: is damaged (its bytes are not those of its name)"
    ]
    assert len(store.mend()) == 1
    assert_holds(store, made)


def test_what_is_no_hdf5_at_all_hides_no_newer_copy(tmp_path: Path) -> None:
    """It might hold any clip, so only what is loose or in a later shard can be trusted."""
    store, made, shard = packed(tmp_path, "ab")
    content = b"not HDF5"
    name = f"00005-{hashlib.blake2b(content, digest_size=16).hexdigest()}.h5"
    shard.with_name(name).write_bytes(content)
    reader = again(store)
    with pytest.raises(VAError, match=rf"{name}: is damaged"):
        reader.read("a")
    assert not reader.is_done("a", SOURCE)
    assert len(list(reader.problems())) == 2
    made |= fill(reader, "a", seed=1)
    assert_same(reader.read("a"), made["a"])


def test_a_shard_of_another_store_is_refused(tmp_path: Path) -> None:
    store, _, shard = packed(tmp_path, "ab")
    other = make(tmp_path, weights="others")
    shutil.copytree(shard.parent, other.directory / "shards")
    message = f"holds clip 'a' of identity '{store.digest}', expected 'a' of '{other.digest}'"
    with pytest.raises(VAError, match=message):
        other.read("a")
    assert len(list(other.problems())) == 2


def test_leftovers_of_killed_packers_are_swept_once_they_are_old(tmp_path: Path) -> None:
    store, made, shard = packed(tmp_path, "ab")
    old, young = shard.with_name(".pack.00000000.tmp"), shard.with_name(".pack.11111111.tmp")
    for file in (old, young):
        file.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    assert_holds(make(tmp_path), made)
    assert shard_names(store) == [young.name, shard.name]
