"""The feature store: the HDF5 contract that stages one and two meet through.

One folder per encoder, `features/<encoder>-<8 hex>/`, holds `identity.json` and one HDF5 file per clip. A clip
is committed alone: written to a temporary file, synced, reopened, verified and renamed, so that whatever is
readable is whole. `docs/feature-format.md` is the format for readers in other languages.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from va import files, settings
from va.data import hdf5
from va.errors import VAError
from va.version import __version__

SCHEMA: Final = 1
Kind = Literal["frames", "audio"]

_DATASETS: Final = {"frames": ("values", "time_s", "valid"), "audio": ("values", "start_s", "valid")}
_UNITS: Final = {"values": "encoder units", "time_s": "s", "start_s": "s", "valid": "bool"}
_LONGEST_WRITE_S: Final = 3600.0
_REDO: Final = "Run 'va extract' again: it redoes only what is missing or damaged."


@dataclass(frozen=True, kw_only=True)
class ClipFeatures:
    """One clip's embeddings from one encoder.

    Args:
        values: float16 [cells, dim] for frames, [windows, steps, dim] for audio; 0 where not valid.
        time_s: float64, cell centres [cells] or window starts [windows], in seconds.
        valid: bool [cells] or [windows, steps]; False for no picture, no sound or padding.
    """

    values: NDArray[np.float16]
    time_s: NDArray[np.float64]
    valid: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Source:
    """The medium that features came from.

    Args:
        size: Bytes.
        digest: BLAKE2b-128 of the bytes, hexadecimal.
    """

    size: int
    digest: str

    @classmethod
    def of(cls, path: Path, *more: Path) -> "Source":
        """Hash a medium and, where there are any, the other files that features come from, in their order.

        Raises:
            VAError: One cannot be read.
        """
        paths = (path, *more)
        try:
            digests = [files.hash_file(file) for file in paths]
            size = sum(file.stat().st_size for file in paths)
        except OSError as error:
            raise VAError(f"{path}: cannot be read ({error.strerror})", "Check the disk and permissions.") from None
        # A medium alone keeps its plain hash, so that anyone can check it.
        digest = digests[0] if not more else hashlib.blake2b("".join(digests).encode(), digest_size=16).hexdigest()
        return cls(size=size, digest=digest)


class FeatureStore:
    """One encoder's features of a corpus; readable while another process writes.

    Args:
        directory: `features/<encoder>-<8 hex>`.

    Raises:
        VAError: The folder has no valid `identity.json`, or its name does not match it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        file = directory / "identity.json"
        self.identity: dict[str, Any] = files.read_json(file, what="a feature store's identity", hint=_REDO)
        try:
            belongs = self.identity["schema"] == SCHEMA and directory.name == folder_name(self.identity)
            self.encoder: str = self.identity["encoder"]
            self.kind: Kind = self.identity["kind"]
            self.dim = int(self.identity["dim"])
            self.digest = settings.digest(self.identity)
        except (KeyError, TypeError, ValueError):
            belongs = False
        if not belongs:
            raise VAError(f"{file}: does not belong to this folder or version", _REDO)

    @classmethod
    def create(cls, root: Path, identity: Mapping[str, Any]) -> "FeatureStore":
        """Make or reopen the store of an encoder below `root`; the identity decides the folder's name."""
        directory = root / folder_name(identity)
        files.sweep(directory / "clips", older_than_s=_LONGEST_WRITE_S)
        try:
            return cls(directory)
        except VAError:  # missing or damaged; the folder's name says what it must be
            files.write_json(directory / "identity.json", dict(identity))
            return cls(directory)

    def path(self, clip_id: str) -> Path:
        """Where a clip's file lies, or would lie."""
        return self.directory / "clips" / f"{files.safe_name(clip_id)}.h5"

    def clip_ids(self) -> tuple[str, ...]:
        """List the committed clips, sorted, from what their files say."""
        return tuple(sorted(self._clip_id(file) for file in self._files()))

    def count(self) -> int:
        """Count the committed clips."""
        return len(self._files())

    def write(self, clip_id: str, features: ClipFeatures, source: Source) -> None:
        """Commit one clip: whole and verified, or not at all.

        Raises:
            ValueError: Shapes or finite values do not fit the contract.
        """
        self._check(features)
        with files.replacing(self.path(clip_id)) as temporary:
            with h5py.File(temporary, "w", libver=hdf5.LIBVER) as file:
                file.attrs.update(
                    clip=hdf5.text(clip_id),
                    encoder=hdf5.text(self.encoder),
                    identity=hdf5.text(self.digest),
                    kind=hdf5.text(self.kind),
                    schema=SCHEMA,
                    source_size=source.size,
                    source_blake2b=hdf5.text(source.digest),
                    written_by=hdf5.text(f"va {__version__}"),
                )
                arrays: tuple[NDArray[Any], ...] = (features.values, features.time_s, features.valid)
                for name, array in zip(_DATASETS[self.kind], arrays, strict=True):
                    dataset = file.create_dataset(name, data=array, track_times=False)
                    dataset.attrs["blake2b"] = hdf5.text(hdf5.checksum(array))
                    dataset.attrs["unit"] = hdf5.text(_UNITS[name])
            self._load(temporary, clip_id)

    def is_done(self, clip_id: str, source: Source) -> bool:
        """Say whether a clip opens, its checksums and identity hold, and its source is this one."""
        file = self.path(clip_id)
        if not file.exists():
            return False
        try:
            attributes = self._load(file, clip_id)[1]
        except VAError:
            return False
        found = (attributes.get("source_size"), attributes.get("source_blake2b"))
        return bool(found == (source.size, source.digest))

    def read(self, clip_id: str) -> ClipFeatures:
        """Read a clip, every checksum verified.

        Raises:
            VAError: Not there, damaged, or written under another identity.
        """
        file = self.path(clip_id)
        if not file.exists():
            raise VAError(f"{self.directory}: has no features of clip '{clip_id}'", _REDO)
        return self._load(file, clip_id)[0]

    def stamp(self, clip_id: str) -> str:
        """Give the stored checksum of a clip's values without reading them: equal stamps, equal features.

        Raises:
            VAError: Not there, or damaged.
        """
        file = self.path(clip_id)
        if not file.exists():
            raise VAError(f"{self.directory}: has no features of clip '{clip_id}'", _REDO)
        try:
            with h5py.File(file, "r") as opened:
                return str(hdf5.attributes(opened["values"])["blake2b"])
        except Exception as error:  # as in _load
            raise VAError(f"{file}: is damaged ({error})", _REDO) from None

    def problems(self) -> Iterator[VAError]:
        """Re-read everything and yield what cannot be trusted; nothing for a sound store."""
        for file in self._files():
            try:
                clip_id = self._clip_id(file)
                if file != self.path(clip_id):
                    raise VAError(f"{file}: holds clip '{clip_id}', which belongs elsewhere", _REDO)
                self._load(file, clip_id)
            except VAError as error:
                yield error

    def _files(self) -> list[Path]:
        return sorted(file for file in (self.directory / "clips").glob("*.h5") if not file.name.startswith("."))

    def _clip_id(self, path: Path) -> str:
        try:
            with h5py.File(path, "r") as file:
                return str(hdf5.attributes(file)["clip"])
        except Exception as error:  # as in _load
            raise VAError(f"{path}: is damaged ({error})", _REDO) from None

    def _check(self, features: ClipFeatures) -> None:
        shape, rank = features.values.shape, {"frames": 2, "audio": 3}[self.kind]
        if len(shape) != rank or shape[-1] != self.dim or features.values.dtype != np.float16:
            raise ValueError(f"values {features.values.dtype} {shape} do not fit {self.kind} of dim {self.dim}")
        if features.valid.shape != shape[:-1] or features.valid.dtype != np.bool_:
            raise ValueError(f"valid {features.valid.dtype} {features.valid.shape} does not fit values {shape}")
        if features.time_s.shape != shape[:1] or features.time_s.dtype != np.float64:
            raise ValueError(f"time_s {features.time_s.dtype} {features.time_s.shape} does not fit values {shape}")
        if not np.isfinite(features.values).all():
            raise ValueError("values are not finite")
        if features.values[~features.valid].any():
            raise ValueError("values that are not valid must be 0")

    def _load(self, path: Path, clip_id: str) -> tuple[ClipFeatures, dict[str, Any]]:
        try:
            with h5py.File(path, "r") as file:
                attributes = hdf5.attributes(file)
                arrays = [hdf5.read_array(file, name) for name in _DATASETS[self.kind]]
            features = ClipFeatures(values=arrays[0], time_s=arrays[1], valid=arrays[2])
            self._check(features)
        except Exception as error:  # h5py reports damage as many types, depending on which byte is wrong
            raise VAError(f"{path}: is damaged ({error})", _REDO) from None
        if attributes.get("identity") != self.digest or attributes.get("clip") != clip_id:
            raise VAError(
                f"{path}: holds clip {attributes.get('clip')!r} of identity {attributes.get('identity')!r}, "
                f"expected '{clip_id}' of '{self.digest}'",
                "Features of different identities must not be mixed; remove the file and run 'va extract' again.",
            )
        return features, attributes


def folder_name(identity: Mapping[str, Any]) -> str:
    """Name a store's folder: encoder and eight hexadecimal digits of everything that its values depend on."""
    # Encoders of libraries have colons and slashes in their names; two that become alike still differ in the digits.
    return f"{re.sub('[^A-Za-z0-9._-]', '-', str(identity['encoder']))}-{settings.digest(identity)}"


def open_stores(root: Path) -> tuple[FeatureStore, ...]:
    """Open every encoder's store below a features folder, sorted by name.

    Raises:
        VAError: The folder is missing or holds no store.
    """
    found = tuple(FeatureStore(file.parent) for file in sorted(root.glob("*/identity.json")))
    if not found:
        raise VAError(f"{root}: holds no features", f"Make them with 'va extract CORPUS --out {root}'.")
    return found


def choose_store(root: Path, *, kind: Kind, name: str, option: str) -> FeatureStore:
    """Pick one store by encoder name or folder name, or the only one that is no baseline.

    Args:
        root: A features folder.
        kind: `frames` or `audio`.
        name: Encoder name (`tiny-clip`) or, where two identities of it exist, folder name; empty for the only
            encoder of its kind, trivial baselines not counted.
        option: The option that the name came from, for the error.

    Raises:
        VAError: None fits, or more than one does; says which there are.
    """
    stores = [store for store in open_stores(root) if store.kind == kind]
    fitting = [
        store
        for store in stores
        if (name in (store.encoder, store.directory.name) if name else not store.identity.get("baseline"))
    ]
    if len(fitting) == 1:
        return fitting[0]
    there = ", ".join(store.directory.name for store in stores) or "none"
    wanted = f"{kind} encoder '{name}'" if name else f"{kind} encoder"
    if fitting:
        raise VAError(f"{root}: holds more than one {wanted}", f"Name one with {option}: {there}.")
    raise VAError(f"{root}: has no {wanted}", f"Set {option} to one that is there: {there}.")
