"""A clip written block by block is the clip written at once, and a clip that is not committed is nothing."""

import itertools
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from small_store import SOURCE, assert_same, features, make

from va import files
from va.data import clipgroup, hdf5
from va.data.clipgroup import Layout
from va.data.features import ClipFeatures, ClipWriter, FeatureStore
from va.errors import VAError

SHAPES: dict[str, tuple[int, ...]] = {"frames": (50, 4), "audio": (50, 5, 4)}


@pytest.fixture(params=["frames", "audio"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureStore:
    return make(tmp_path, request.param)


def long(kind: str, *, gaps: tuple[slice, ...] = ()) -> ClipFeatures:
    rng = np.random.default_rng(5)
    valid = rng.random(SHAPES[kind][:-1]) < 0.8
    for gap in gaps:
        valid[gap] = False
    values = np.where(valid[..., None], rng.normal(size=SHAPES[kind]), 0).astype(np.float16)
    return ClipFeatures(values=values, time_s=np.arange(50) * 0.5, valid=valid)


def begin(store: FeatureStore, made: ClipFeatures, clip_id: str = "clip") -> ClipWriter:
    steps = None if store.kind == "frames" else made.valid.shape[1]
    return store.begin(clip_id, SOURCE, time_s=made.time_s, steps=steps)


def put(writer: ClipWriter, made: ClipFeatures, start: int, stop: int) -> None:
    writer.append(start, made.values[start:stop], made.valid[start:stop])


def left(store: FeatureStore) -> list[str]:
    folder = store.directory / "clips"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("cuts", [(0, 50), (0, 1, 2, 50), (0, 7, 14, 21, 28, 35, 42, 49, 50), tuple(range(51))])
def test_blocks_give_the_file_that_one_write_gives(
    store: FeatureStore, cuts: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = long(store.kind)
    whole = make(tmp_path / "whole", store.kind)
    whole.write("clip", made, SOURCE)
    monkeypatch.setattr(hdf5, "BLOCK", 100)  # verified in many blocks, too
    writer = begin(store, made)
    for start, stop in itertools.pairwise(cuts):
        put(writer, made, start, stop)
    writer.commit()
    assert_same(store.read("clip"), made)
    assert store.is_done("clip", SOURCE) and list(store.problems()) == []
    assert store.path("clip").read_bytes() == whole.path("clip").read_bytes()


def test_rows_skipped_and_left_are_zero_and_not_valid(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "BLOCK", 100)
    made = long(store.kind, gaps=(slice(0, 3), slice(10, 30), slice(41, 50)))
    writer = begin(store, made)
    put(writer, made, 3, 10)
    put(writer, made, 30, 30)
    put(writer, made, 30, 41)
    writer.commit()
    assert_same(store.read("clip"), made)


def test_a_clip_without_a_valid_row_and_one_without_rows(store: FeatureStore) -> None:
    made = long(store.kind, gaps=(slice(0, 50),))
    begin(store, made).commit()
    assert_same(store.read("clip"), made)
    empty = ClipFeatures(values=made.values[:0], time_s=made.time_s[:0], valid=made.valid[:0])
    begin(store, empty, "empty").commit()
    assert_same(store.read("empty"), empty)
    assert list(store.problems()) == []


def test_many_clips_grow_side_by_side(store: FeatureStore) -> None:
    made = long(store.kind)
    writers = {name: begin(store, made, name) for name in "abcdef"}
    for start in range(0, 50, 10):
        for writer in writers.values():
            put(writer, made, start, start + 10)
    assert store.count() == 0
    writers["c"].abandon()
    for name in "abdef":
        writers[name].commit()
    assert store.clip_ids() == tuple("abdef")
    for name in store.clip_ids():
        assert_same(store.read(name), made)
    assert left(store) == [f"{name}.h5" for name in "abdef"]


def test_an_abandoned_clip_leaves_nothing_and_keeps_the_old_one(store: FeatureStore) -> None:
    made = long(store.kind)
    begin(store, made).abandon()
    assert left(store) == []
    old = features(store.kind)
    store.write("clip", old, SOURCE)
    writer = begin(store, made)
    put(writer, made, 0, 20)
    writer.abandon()
    writer.abandon()
    assert left(store) == ["clip.h5"]
    assert_same(store.read("clip"), old)
    for late in (writer.commit, lambda: put(writer, made, 20, 30)):
        with pytest.raises(ValueError, match="already committed or abandoned"):
            late()
    finished = begin(store, made)
    finished.commit()
    finished.abandon()
    assert store.is_done("clip", SOURCE)


def test_rows_that_do_not_fit_are_refused_and_the_writer_goes_on(store: FeatureStore) -> None:
    made = long(store.kind)
    writer = begin(store, made)
    put(writer, made, 0, 10)
    values, valid = made.values[10:20], made.valid[10:20]
    infinite, beyond = values.copy(), values.copy()
    infinite[valid] = np.inf
    beyond[~valid] = 1
    wrong: list[tuple[int, Any, Any, str]] = [
        (9, values, valid, "rows 9 . 10 of 50, 10 are written"),
        (41, values, valid, "rows 41 . 10 of 50"),
        (-10, values, valid, "rows -10"),
        (10, values.astype(np.float32), valid, "values float32"),
        (10, values[..., :3], valid, "do not fit"),
        (10, values, valid[:9], "valid bool"),
        (10, values, valid.astype(np.uint8), "valid uint8"),
        (10, infinite, valid, "not finite"),
        (10, beyond, valid, "must be 0"),
    ]
    if store.kind == "audio":
        wrong.append((10, values[:, :4], valid[:, :4], "do not fit .5,. steps"))
    for first, some_values, some_valid, message in wrong:
        with pytest.raises(ValueError, match=message):
            writer.append(first, some_values, some_valid)
    put(writer, made, 10, 50)
    writer.commit()
    assert_same(store.read("clip"), made)


def test_what_does_not_fit_the_kind_is_refused_at_once(store: FeatureStore) -> None:
    steps = 5 if store.kind == "frames" else None
    with pytest.raises(ValueError, match="do not fit"):
        store.begin("clip", SOURCE, time_s=np.arange(3.0), steps=steps)
    for time_s in (np.arange(3, dtype=np.float32), np.zeros((3, 1))):
        with pytest.raises(ValueError, match="time_s"):
            store.begin("clip", SOURCE, time_s=time_s, steps=None if steps else 5)


def test_a_failed_commit_leaves_nothing_and_can_be_abandoned(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = long(store.kind)
    writer = begin(store, made)
    put(writer, made, 0, 20)

    def failing(path: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "sync", failing)
    with pytest.raises(VAError, match=r"clip.h5: cannot be written \(Input/output error\)") as caught:
        writer.commit()
    assert isinstance(caught.value.__cause__, OSError)
    writer.abandon()
    assert left(store) == []


FULL = """
import sys
from pathlib import Path
import numpy as np
from va.data.features import FeatureStore, Source
from va.errors import VAError

store, clips = FeatureStore(Path(sys.argv[1])), int(sys.argv[2])
for rows in map(int, sys.argv[3:]):
    time_s = np.arange(float(rows))
    writers = [store.begin(str(i), Source(size=1, digest="x"), time_s=time_s, steps=None) for i in range(clips)]
    failed = set()
    for step in ("append", "commit"):
        for writer in writers:
            try:
                if writer in failed:
                    writer.abandon()
                elif step == "commit":
                    writer.commit()
                else:
                    for start in range(0, rows // 2, 10):  # `commit` writes the rest
                        count = min(10, rows // 2 - start)
                        writer.append(start, np.ones((count, 4), np.float16), np.ones(count, np.bool_))
            except VAError as error:
                print(step, type(error.__cause__).__name__, error.message)
                failed.add(writer)
    print(rows, "committed", store.count(), "problems", len(list(store.problems())))
    for path in (store.directory / "clips").iterdir():
        path.unlink()
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        sys.platform != "linux"
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48k", "tmpfs", disk], capture_output=True).returncode
    ):
        pytest.skip("only root on Linux may mount a small file system")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize(("clips", "rows"), [(1, range(2000, 5000, 250)), (30, (2, 200))])
def test_a_full_disk_is_an_error_not_a_crash_and_takes_no_space(
    clips: int, rows: Sequence[int], small_disk: Path
) -> None:
    """HDF5 itself crashes the interpreter at its end, and keeps the space, after a file that it could not write."""
    store = make(small_disk)
    command = [sys.executable, "-c", FULL, store.directory, str(clips), *map(str, rows)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    failed = [line for line in lines if "committed" not in line]
    whole = r"(append|commit) OSError .*/clips/\d+.h5: cannot be written \(No space left on device\)"
    assert failed and all(re.fullmatch(whole, line) for line in failed)
    if clips == 1:
        assert {line.split()[0] for line in failed} == {"append", "commit"}  # the disk was full at either
    counts = [int(line.split()[2]) for line in lines if line not in failed]
    assert len(failed) + sum(counts) == clips * len(rows) and counts[0] > 0
    assert all(line.endswith("problems 0") for line in lines if line not in failed)
    assert left(store) == []


MEMORY = """
import resource, sys
from pathlib import Path
import numpy as np
from va.data.features import FeatureStore, Source

store, rows, source = FeatureStore(Path(sys.argv[1])), 100_000, Source(size=1, digest="x")
block = np.random.default_rng(0).random((1000, 1024)).astype(np.float16)

def write(clip_id, rows):
    writer = store.begin(clip_id, source, time_s=np.arange(float(rows)), steps=None)
    for start in range(0, rows // 2, 1000):  # the rest is filled up with zeros
        writer.append(start, block, np.ones(1000, np.bool_))
    writer.commit()
    assert store.is_done(clip_id, source)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

write("warm", 2000)
before = peak()
write("long", rows)
print("written", peak() - before)
assert store.pack(at_least=1) is not None
assert list(store.problems()) == []
print("packed", peak() - before)
print("bytes", sum(path.stat().st_size for path in store.directory.glob("shards/*.h5")))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory in the units of Linux")
def test_a_long_clip_never_lies_in_memory_whole(tmp_path: Path) -> None:
    """200 MB written, verified, packed and read back, with at most 50 MiB more at the peak."""
    store = make(tmp_path, dim=1024)
    done = subprocess.run([sys.executable, "-c", MEMORY, store.directory], capture_output=True, text=True, check=True)
    grown = dict(line.split() for line in done.stdout.splitlines())
    assert int(grown["bytes"]) > 200e6
    assert int(grown["written"]) < 50 and int(grown["packed"]) < 50, grown


def test_more_in_a_group_than_belongs_there_is_refused(store: FeatureStore) -> None:
    store.write("clip", features(store.kind), SOURCE)
    with h5py.File(store.path("clip"), "r+") as file:
        file["clip/more"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(VAError, match=r"is damaged \(it holds \['more', "):
        store.read("clip")


def test_a_clips_group_must_lie_in_the_file(store: FeatureStore, tmp_path: Path) -> None:
    made = features(store.kind)
    store.write("clip", made, SOURCE)
    store.path("clip").rename(tmp_path / "outside.h5")
    for link in (h5py.ExternalLink(str(tmp_path / "outside.h5"), "/clip"), h5py.SoftLink("/other")):
        with h5py.File(store.path("clip"), "w") as file:
            file["clip"] = link
        with pytest.raises(VAError, match="'clip' is not stored in the file itself"):
            store.read("clip")
        with pytest.raises(VAError, match="'clip' is not stored in the file itself"):
            store.stamp("clip")
        assert store.pack(at_least=1) is None


@pytest.mark.parametrize("how", [{"chunks": (2, 4)}, {"compression": "gzip"}])
def test_packed_datasets_are_refused(how: dict[str, Any], tmp_path: Path) -> None:
    """A few bytes could stand for more than any memory holds."""
    store = make(tmp_path)
    store.write("clip", features(), SOURCE)
    with h5py.File(store.path("clip"), "r+") as file:
        attributes = dict(file["clip/values"].attrs)
        del file["clip/values"]
        file.create_dataset("clip/values", data=features().values, **how).attrs.update(attributes)
    with pytest.raises(VAError, match="'values' is not stored in one piece"):
        store.read("clip")


@pytest.mark.parametrize(
    ("kind", "row", "dtype"), [("frames", (3, 5, 3), np.uint8), ("rows", (7,), np.float32), ("frames", (), np.float32)]
)
def test_values_of_any_shape_and_dtype_are_mapped_as_they_were_written(
    kind: Any, row: tuple[int, ...], dtype: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "BLOCK", 100)
    layout = Layout(encoder="eye", identity="0" * 8, kind=kind, row=row, dtype=np.dtype(dtype))
    made = (np.random.default_rng(0).random((20, *row)) * 255).astype(dtype)
    made[4:9] = 0
    valid = np.ones(20, np.bool_)
    valid[4:9] = False

    def begin() -> ClipWriter:
        return ClipWriter(
            layout,
            tmp_path / "clip.h5",
            "clip",
            SOURCE,
            time_s=np.arange(20) * 0.5,
            steps=None,
            commit_lock=tmp_path / ".lock",
            committed=lambda size: None,
        )

    writer = begin()
    for wrong in (made.astype(np.float16), made[:, None], made[:0].astype(np.float64)):
        with pytest.raises(ValueError, match="do not fit"):
            writer.append(0, wrong, valid[: len(wrong)])
    if dtype == np.float32:
        with pytest.raises(ValueError, match="not finite"):
            writer.append(0, np.full_like(made[:1], np.inf), valid[:1])
    with pytest.raises(ValueError, match="must be 0"):
        writer.append(0, made[:4], np.zeros(4, np.bool_))
    writer.append(0, made[:4], valid[:4])
    writer.append(9, made[9:], valid[9:])
    writer.commit()
    place = clipgroup.locate(tmp_path / "clip.h5", layout, "clip")
    with (tmp_path / "clip.h5").open("rb") as file:
        values, found = place.map(file), place.valid
    assert isinstance(values, np.memmap) and not values.flags.writeable
    assert values.dtype == made.dtype and np.array_equal(values, made) and np.array_equal(found, valid)
