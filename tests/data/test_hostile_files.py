"""Files made to harm: each loader answers with two lines, gives them little memory, and nothing in them runs."""

import contextlib
import io
import json
import pickle
import resource
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_store import SOURCE, features, identity, make, write_raw

from va import files, weights
from va.data import corpus, hdf5, imported, prototypes, sample, texttower
from va.data.corpus import Clip, Corpus, Truth
from va.data.features import FeatureStore
from va.errors import VAError
from va.extract import prompts
from va.settings import resolve
from va.train import checkpoint, state
from va.train.config import TrainConfig


class Evil:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, (f"open({str(self.trace)!r}, 'w')",))


Loader = Callable[[Path, bytes], object]


def sidecar(root: Path, content: bytes) -> object:
    clip = Clip(id="a", media=root / "a.mp4", split="train", identity="p", num_frames=4, duration_s=2.0)
    truth = Truth(time_s=np.arange(4) / 2, va=np.zeros((4, 2), np.float32), valid=np.ones(4, np.bool_))
    made = corpus.save(root, name="x", synthetic=True, media_root=root, entries=[(clip, truth)])
    (root / "labels" / "a.npz").write_bytes(content)
    return made.truth(made.clips[0])


def named(name: str, read: Callable[[Path], object]) -> Loader:
    def load(root: Path, content: bytes) -> object:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
        return read(root / name)

    return load


def clip_file(root: Path, content: bytes) -> object:
    store = make(root)
    store.path("a").parent.mkdir(exist_ok=True)
    store.path("a").write_bytes(content)
    return store.read("a")


def weight_file(root: Path, content: bytes) -> object:
    from tiny_run import make_run

    make_run(root / "run")
    (root / "run" / "model.safetensors").write_bytes(content)
    return checkpoint.load_run(root / "run")


def tower_file(root: Path, content: bytes) -> object:
    (root / texttower.NAME).write_bytes(content)
    return texttower.find(root, weights="0" * 32).load()


def settings_file(root: Path, content: bytes) -> object:
    (root / "run.toml").write_bytes(content)
    return resolve(TrainConfig, section="train", sections=["train"], file=root / "run.toml", flags={})


LOADERS: dict[str, Loader] = {
    "labels .npz": sidecar,
    "imported .npz": named("a.npz", lambda path: imported.read(path, rate_hz=2.0)),
    "imported .npy": named("a.npy", lambda path: imported.read(path, rate_hz=2.0)),
    "features .h5": clip_file,
    "weights .safetensors": weight_file,
    "state .safetensors": named(state.NAME, lambda path: state.load(path.parent)),
    "tower .safetensors": tower_file,
    "manifest .json": named("corpus.json", Corpus.load),
    "identity .json": named("identity.json", lambda path: FeatureStore(path.parent)),
    "prototypes .json": named(prototypes.NAME, lambda path: prototypes.read(path.parent)),
    "run .json": named("run.json", lambda path: checkpoint.load_run(path.parent)),
    "settings .toml": settings_file,
    "texts .toml": named("texts.toml", prompts.read_texts),
    "sample .txt": named("sample.txt", sample.read_sample),
}
JSON = [name for name in LOADERS if name.endswith(".json")]
TOML = [name for name in LOADERS if name.endswith(".toml")]
SAFETENSORS = [name for name in LOADERS if name.endswith(".safetensors")]
NUMPY = [name for name in LOADERS if name.endswith((".npz", ".npy"))]


def refused(name: str, root: Path, content: bytes) -> VAError:
    """Load; the answer must be two lines that name a file of the folder."""
    with pytest.raises(VAError) as caught:
        LOADERS[name](root, content)
    assert str(root) in caught.value.message and caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Let this process take a gigabyte more than it has, and not a byte beyond."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    now = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData"))
    before = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (now + (1 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_DATA, before)


# --- pickles under other names


@pytest.mark.parametrize("name", LOADERS)
@pytest.mark.parametrize("form", ["pickle", "torch", "torch.legacy", "npz of objects", "npy of objects"])
def test_a_pickle_under_another_name_is_refused_and_does_not_run(name: str, form: str, tmp_path: Path) -> None:
    trace, made = tmp_path / "ran", io.BytesIO()
    evil = Evil(trace)
    if form == "pickle":
        pickle.dump(evil, made)
    elif form.startswith("torch"):
        torch.save({"a": evil}, made, _use_new_zipfile_serialization=form == "torch")
    elif form.startswith("npz"):
        objects = np.array([evil], dtype=object)
        np.savez(made, time_s=objects, va=objects, valid=objects, features=objects, times=objects)
    else:
        np.save(made, np.array([evil], dtype=object), allow_pickle=True)
    refused(name, tmp_path, made.getvalue())
    assert not trace.exists()
    with contextlib.suppress(Exception):  # that it would have run
        pickle.loads(pickle.dumps(evil))  # noqa: S301
    assert trace.exists()


# --- arrays


def npy(shape: tuple[int, ...], dtype: str, data: bytes, *, version: tuple[int, int] = (1, 0)) -> bytes:
    """An .npy whose header says what it likes."""
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    size = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + size + header + data


def npz(**members: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return made.getvalue()


LIES = {
    "a shape of terabytes": npy((1 << 40,), "'<f8'", bytes(64)),
    "a shape beyond 64 bits": npy((1 << 40, 1 << 40), "'<f8'", bytes(64)),
    "a negative shape": npy((-1,), "'<f8'", bytes(64)),
    "a dtype of terabytes": npy((1,), "('<f8', (1099511627776,))", bytes(64)),
    "objects": npy((1,), "'|O'", pickle.dumps([1])),
    "columns that hold objects": npy((1,), "[('a', '|O')]", bytes(8)),
    "more than it says": npy((2, 2), "'<f4'", bytes(4096)),
    "less than it says": npy((100, 2), "'<f4'", bytes(64)),
    "a header that is code": npy((1,), "__import__('os').getpid()", bytes(8)),
    "a header nested deeply": npy((1,), "[" * 60_000, bytes(8)),
    "a long header": npy((1,), "'<f8'" + " " * 60_000, bytes(8)),
    "a later version": npy((4, 2), "'<f4'", bytes(32), version=(3, 0)),
    "no version": npy((4, 2), "'<f4'", bytes(32), version=(9, 9)),
    "nothing": b"",
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("name", NUMPY)
def test_an_array_that_lies_is_refused(name: str, lie: str, tmp_path: Path, little_memory: None) -> None:
    content = LIES[lie]
    if name.endswith(".npz"):
        content = npz(time_s=content, va=content, valid=content, features=content)
    refused(name, tmp_path, content)


@pytest.mark.parametrize("name", [name for name in NUMPY if name.endswith(".npz")])
def test_zeros_packed_a_thousand_times_smaller_are_not_unpacked(
    name: str, tmp_path: Path, little_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an array may be 4 GiB that is a limit too; here it is 100 MB, so that the test is quick."""
    monkeypatch.setattr(imported, "_LARGEST_BYTES", 100 << 20)
    made = io.BytesIO()
    size = 256 << 20
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for member in ("features", "time_s"):
            with archive.open(f"{member}.npy", "w") as stream:
                stream.write(npy((size // 8, 2), "'<f4'", b""))
                for _ in range(size >> 20):
                    stream.write(bytes(1 << 20))
    assert len(made.getvalue()) < size // 100
    message = refused(name, tmp_path, made.getvalue()).message
    assert "more than" in message


def test_arrays_of_every_order_are_read_as_numpy_reads_them(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    for number, array in enumerate([values, np.asfortranarray(values), values[:, ::2], values.astype(">f8")]):
        np.save(tmp_path / f"{number}.npy", array)
        np.savez_compressed(tmp_path / f"{number}.npz", features=array, unused=array)
        for suffix in ("npy", "npz"):
            found, _ = imported.read(tmp_path / f"{number}.{suffix}", rate_hz=1.0)
            np.testing.assert_array_equal(found, array)


# --- JSON and TOML

BAD_JSON = {
    "nested 100,000 deep": (b'{"a":' + b"[" * 100_000, "nested too deeply|too many"),
    "nested and closed": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply|too many"),
    "NaN": (b'{"a": NaN}', "NaN is not a number"),
    "infinity": (b'{"a": [-Infinity]}', "-Infinity is not a number"),
    "a number beyond all": (b'{"a": 1e999}', "1e999 is too large"),
    "thousands of digits": (b'{"a": ' + b"9" * 5000 + b"}", "integer string conversion"),
    "a name twice": (b'{"schema": 1, "b": {"c": 1, "c": 2}}', "'c' stands twice"),
    "a list": (b"[1]", "no JSON object"),
    "UTF-16": ('{"a": 1}'.encode("utf-16"), "utf-8"),
    "half a pair": (b'{"a": "\\ud800"', "delimiter"),
    "nothing": (b"", "Expecting value"),
}


@pytest.mark.parametrize("bad", BAD_JSON)
@pytest.mark.parametrize("name", JSON)
def test_json_that_is_none_is_refused(name: str, bad: str, tmp_path: Path, little_memory: None) -> None:
    content, why = BAD_JSON[bad]
    import re

    assert re.search(why, refused(name, tmp_path, content).message)


@pytest.mark.parametrize("name", [*JSON, *TOML, "sample .txt"])
def test_text_without_end_is_not_read(name: str, tmp_path: Path, little_memory: None) -> None:
    """Ten gigabytes, most of them a hole in the file."""
    made = tmp_path / "hole"
    with made.open("wb") as stream:
        stream.write(b'{"a": 1}')
        stream.truncate(10 << 30)
    load = LOADERS[name]
    with pytest.raises(VAError, match=r"has more than [\d,]+ bytes"):
        load(tmp_path, Linked(made))


class Linked(bytes):
    """Stands for a file's content: writing it makes a link to the file."""

    def __new__(cls, path: Path) -> "Linked":
        made = super().__new__(cls, b"")
        made.path = path  # type: ignore[attr-defined]
        return made


@pytest.fixture(autouse=True)
def _links(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.write_bytes

    def write_bytes(self: Path, data: Any) -> int:
        if isinstance(data, Linked):
            self.symlink_to(data.path)  # type: ignore[attr-defined]
            return 0
        return real(self, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)


BAD_TOML = {
    "half a megabyte of dots": b"a." * 250_000 + b"a = 1",
    "dots in a table's name": b"[" + b"'a' . " * 100_000 + b"a]",
    "nested arrays": b"a = " + b"[" * 100_000,
    "nested tables": b"a = " + b"{a = " * 100_000,
    "thousands of digits": b"a = " + b"9" * 5000,
    "a name twice": b"[train]\nepochs = 1\nepochs = 2",
    "Latin-1": b"a = '\xff'",
}


@pytest.mark.parametrize("bad", BAD_TOML)
@pytest.mark.parametrize("name", TOML)
def test_toml_that_is_none_is_refused(name: str, bad: str, tmp_path: Path, little_memory: None) -> None:
    assert "is not valid TOML" in refused(name, tmp_path, BAD_TOML[bad]).message


def test_texts_full_of_dots_are_toml(tmp_path: Path) -> None:
    texts = ["e.g. " * 20 + "...", "a.b.c. " * 15, "1.2.3.4"]
    (tmp_path / "a.toml").write_text(f"texts = {json.dumps(texts)}\n")
    assert prompts.read_texts(tmp_path / "a.toml")[0] == tuple(text.strip() for text in texts)


def test_an_index_of_weights_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for content in (b"{}", b'{"weight_map": [1]}'):
        (tmp_path / "model.safetensors.index.json").write_bytes(content)
        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda _, name: str(tmp_path / name))
        assert weights.cached_folder("a/b") == tmp_path
    (tmp_path / "model.safetensors.index.json").write_bytes(b"[" * 100_000)
    with pytest.raises(VAError, match="is not an index of weights"):
        weights.cached_folder("a/b")


# --- safetensors


def tensors(header: Any, data: bytes = bytes(16), *, size: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def one(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **changes}}


BAD_TENSORS = {
    "a header of exabytes": tensors(one(), size=1 << 60),
    "a header beyond the file": tensors(one(), size=1 << 26),
    "a header of nothing": tensors(b""),
    "offsets beyond the file": tensors(one(shape=[1 << 40], data_offsets=[0, 1 << 42])),
    "offsets that run backwards": tensors(one(data_offsets=[16, 0])),
    "offsets that overlap": tensors({**one(), "b": one()["a"]}),
    "a hole": tensors(one(data_offsets=[4, 20]), bytes(20)),
    "a shape beyond 64 bits": tensors(one(shape=[1 << 62, 1 << 62])),
    "a shape below 0": tensors(one(shape=[-4])),
    "a dtype of objects": tensors(one(dtype="OBJ")),
    "nested deeply": tensors(b'{"a":' + b"[" * 100_000),
    "metadata that are no text": tensors({"__metadata__": {"blake2b": 1}, **one()}),
    "not all of its data": tensors(one(), bytes(3)),
    "more data": tensors(one(), bytes(99)),
}


@pytest.mark.parametrize("bad", BAD_TENSORS)
@pytest.mark.parametrize("name", SAFETENSORS)
def test_safetensors_that_lie_are_refused(name: str, bad: str, tmp_path: Path, little_memory: None) -> None:
    refused(name, tmp_path, BAD_TENSORS[bad])


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "3", '{"schema": 1}', "", '{"schema": 1, "schema": 1}'])
@pytest.mark.parametrize(("name", "key"), [("state .safetensors", "state"), ("tower .safetensors", "tower")])
def test_descriptions_inside_safetensors_are_believed_no_more(name: str, key: str, text: str, tmp_path: Path) -> None:
    save_file({"order": torch.zeros(1)}, tmp_path / "made", metadata={key: text})
    refused(name, tmp_path, (tmp_path / "made").read_bytes())


# --- HDF5


def spoiled(root: Path, change: Callable[[h5py.Group], None]) -> FeatureStore:
    """A sound clip whose group somebody changed."""
    store = make(root)
    write_raw(store, "a", features())
    with h5py.File(store.path("a"), "r+") as opened:
        change(opened["a"])
    return store


def replace(group: h5py.Group, name: str, **how: Any) -> None:
    attributes = dict(group[name].attrs)
    data = group[name][()]
    del group[name]
    made = group.create_dataset(name, **({"data": data} if "shape" not in how else {}), **how)
    made.attrs.update(attributes)


def with_filter(group: h5py.Group, *, number: int) -> None:
    """Make `values` a dataset that only a plug-in, or a filter of HDF5's own, can read."""
    plan = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_chunk((6, 4))
    plan.set_filter(number, h5py.h5z.FLAG_OPTIONAL, (1, 2, 3))
    attributes = dict(group["values"].attrs)
    data = group["values"][()]
    del group["values"]
    space = h5py.h5s.create_simple(data.shape)
    made = h5py.Dataset(h5py.h5d.create(group.id, b"values", h5py.h5t.py_create(data.dtype), space, plan))
    made[()] = data
    made.attrs.update(attributes)


def committed_type(group: h5py.Group) -> None:
    group.file["kind"] = np.dtype("<f2")
    group["extra"] = np.dtype("<f8")


def references(group: h5py.Group) -> None:
    reference = group.file["a/values"].ref
    del group["valid"]
    group.create_dataset("valid", data=np.array([reference] * 6, dtype=h5py.ref_dtype)).attrs["blake2b"] = "x"


HARM: dict[str, Callable[[h5py.Group], None]] = {
    "chunks": lambda group: replace(group, "values", chunks=(2, 4)),
    "a bomb of zeros": lambda group: replace(
        group, "values", shape=(1 << 40, 4), dtype="<f2", chunks=(1 << 20, 4), compression="gzip"
    ),
    "an array that was never written": lambda group: replace(group, "values", shape=(1 << 40, 4), dtype="<f2"),
    "a filter that only a plug-in has": lambda group: with_filter(group, number=32_015),
    "a filter without a number of its own": lambda group: with_filter(group, number=300),
    "a named type beside the arrays": committed_type,
    "references in the place of masks": references,
    "texts without length in the place of masks": lambda group: replace(
        group, "valid", shape=(6,), dtype=h5py.string_dtype()
    ),
    "a reference for a name": lambda group: group.attrs.__setitem__("clip", group.ref),
    "a name that is a list": lambda group: group.attrs.__setitem__("clip", np.arange(3)),
    "a group in the place of an array": lambda group: (group.pop("values"), group.create_group("values"))[0],
    "itself": lambda group: (group.pop("values"), group.__setitem__("values", group))[0],
    "a link to the root": lambda group: (group.pop("values"), group.__setitem__("values", h5py.SoftLink("/")))[0],
}


@pytest.mark.parametrize("harm", HARM)
def test_a_group_that_was_changed_is_refused(
    harm: str, tmp_path: Path, little_memory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = spoiled(tmp_path, HARM[harm])
    looked: list[str] = []
    monkeypatch.setattr(hdf5, "_check_lies_in", spying(hdf5._check_lies_in, looked))
    with pytest.raises(VAError) as caught:
        store.read("a")
    assert "a.h5: " in caught.value.message and "\n" not in caught.value.message and caught.value.hint
    assert looked, "it was opened"
    assert [problem.message[:20] for problem in store.problems()] == [caught.value.message[:20]]
    assert not store.is_done("a", SOURCE)
    assert store.pack(at_least=0) is None, "it is not packed either"


def spying(real: Callable[..., Any], looked: list[str]) -> Callable[..., Any]:
    def look(parent: Any, name: str) -> Any:
        looked.append(name)
        return real(parent, name)

    return look


def test_the_command_loads_no_plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import os
    import subprocess
    import sys

    code = "import sys; sys.argv = ['va', '--version']\nfrom va import cli\ntry: cli.main()\nexcept SystemExit: pass\n"
    code += "import h5py; print([h5py.h5pl.get(i) for i in range(h5py.h5pl.size())])"
    environment = {**os.environ, "HDF5_PLUGIN_PATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_identities_that_differ_from_their_folder(tmp_path: Path) -> None:
    store = make(tmp_path)
    for change in ({"dim": 10**30}, {"dim": "x"}, {"encoder": "../../x"}, {"encoder": ["x"]}, {"kind": None}):
        files.write_json(store.directory / "identity.json", {**identity(), **change})
        with pytest.raises(VAError, match="does not belong to this folder"):
            FeatureStore(store.directory)
