"""Small feature stores for tests, and a writer of its own that checks nothing."""

import hashlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from va import files
from va.data.features import SCHEMA, ClipFeatures, FeatureStore, Source

SOURCE = Source(size=1234, digest="ab" * 16)
SHAPES: dict[str, tuple[int, ...]] = {"frames": (6, 4), "audio": (3, 5, 4)}


def identity(kind: str = "frames", **changes: Any) -> dict[str, Any]:
    return {"schema": SCHEMA, "encoder": "eye", "kind": kind, "dim": 4, "weights": "none", **changes}


def features(kind: str = "frames", *, seed: int = 0) -> ClipFeatures:
    rng = np.random.default_rng(seed)
    shape = SHAPES[kind]
    valid = np.ones(shape[:-1], np.bool_)
    valid.flat[1] = False
    values = np.where(valid[..., None], rng.normal(size=shape), 0).astype(np.float16)
    return ClipFeatures(values=values, time_s=np.arange(shape[0]) * 0.5 + 0.25, valid=valid)


def make(root: Path, kind: str = "frames", **changes: Any) -> FeatureStore:
    return FeatureStore.create(root, identity(kind, **changes))


def checksum(array: np.ndarray[Any, Any]) -> str:
    """The documented hash, written down once more."""
    text = f"{array.dtype.str}{array.shape}".encode("ascii")
    return hashlib.blake2b(text + array.tobytes(order="C"), digest_size=16).hexdigest()


def write_raw(store: FeatureStore, clip_id: str, arrays: ClipFeatures, **changes: Any) -> None:
    """Write a clip by h5py alone, as a program that checks nothing; checksums hold."""
    file = store.path(clip_id)
    file.parent.mkdir(exist_ok=True)
    attributes = {"clip": clip_id, "encoder": store.encoder, "identity": store.digest, "kind": store.kind}
    attributes |= {"schema": 2, "source_size": SOURCE.size, "source_blake2b": SOURCE.digest} | changes
    time = {"frames": "time_s", "audio": "start_s"}[store.kind]
    with h5py.File(file, "w") as opened:
        group = opened.create_group(files.safe_name(clip_id))
        group.attrs.update(attributes)
        for name, array in (("values", arrays.values), (time, arrays.time_s), ("valid", arrays.valid)):
            group.create_dataset(name, data=array).attrs["blake2b"] = checksum(array)


def assert_same(found: ClipFeatures, expected: ClipFeatures) -> None:
    for name in ("values", "time_s", "valid"):
        left, right = getattr(found, name), getattr(expected, name)
        assert left.dtype == right.dtype and left.shape == right.shape
        assert left.tobytes() == right.tobytes()
