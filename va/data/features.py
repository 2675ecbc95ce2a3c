"""The feature store: the HDF5 contract that stages one and two meet through.

One folder per encoder, `features/<encoder>-<8 hex>/`, holds `identity.json` and the clips, an HDF5 group each. A clip
is committed alone: written to a temporary file, synced, reopened, verified and renamed, so that whatever is
readable is whole. As clips become many they are packed into shards. `docs/feature-format.md` is the format for readers
in other languages.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from va import bounded, files, settings
from va.data import clipgroup, hdf5, shards
from va.data.clipgroup import SCHEMA, ClipFeatures, Kind, Layout, Source
from va.data.clipwriter import ClipWriter
from va.errors import VAError

__all__ = [
    "SCHEMA",
    "ClipFeatures",
    "ClipWriter",
    "FeatureStore",
    "Kind",
    "Source",
    "choose_store",
    "folder_name",
    "open_stores",
]

_LONGEST_WRITE_S: Final = 3600.0
_LOOKS: Final = 5
T = TypeVar("T")


class FeatureStore:
    """One encoder's features of a corpus; readable while another process writes or packs.

    Args:
        directory: `features/<encoder>-<8 hex>`.

    Raises:
        VAError: The folder has no valid `identity.json`, or its name does not match it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        file = directory / "identity.json"
        self.identity: dict[str, Any] = bounded.read_json(file, what="a feature store's identity", hint=clipgroup.REDO)
        try:
            belongs = self.identity["schema"] == SCHEMA and directory.name == folder_name(self.identity)
            self.encoder: str = self.identity["encoder"]
            self.kind: Kind = self.identity["kind"]
            self.dim = int(self.identity["dim"])
            self.digest = settings.digest(self.identity)
        except (KeyError, TypeError, ValueError):
            belongs = False
        if not belongs:
            raise VAError(f"{file}: does not belong to this folder or version", clipgroup.REDO)
        self._layout = Layout(encoder=self.encoder, identity=self.digest, kind=self.kind, row=(self.dim,))
        self._shards = shards.Shards(directory, self._layout)

    @classmethod
    def create(cls, root: Path, identity: Mapping[str, Any]) -> "FeatureStore":
        """Make or reopen the store of an encoder below `root`; the identity decides the folder's name."""
        directory = root / folder_name(identity)
        for folder in ("clips", "shards"):
            files.sweep(directory / folder, older_than_s=_LONGEST_WRITE_S)
        try:
            return cls(directory)
        except VAError:  # missing or damaged; the folder's name says what it must be
            files.write_json(directory / "identity.json", dict(identity))
            return cls(directory)

    # --- writing

    def path(self, clip_id: str) -> Path:
        """Where a clip's own file lies, or would lie; a packed clip has none."""
        return self.directory / "clips" / f"{files.safe_name(clip_id)}.h5"

    def begin(self, clip_id: str, source: Source, *, time_s: NDArray[np.float64], steps: int | None) -> ClipWriter:
        """Start to write one clip block by block; nothing is there before it is committed.

        Args:
            clip_id: The clip.
            source: The medium that the features come from.
            time_s: float64 [rows], cell centres or window starts in seconds.
            steps: Steps per window, None for frames.

        Raises:
            ValueError: `time_s` or `steps` do not fit the contract.
        """
        return ClipWriter(
            self._layout,
            self.path(clip_id),
            clip_id,
            source,
            time_s=time_s,
            steps=steps,
            commit_lock=self._shards.commit_lock,
            committed=self._shards.grown,
        )

    def write(self, clip_id: str, features: ClipFeatures, source: Source) -> None:
        """Commit one clip that is in memory: whole and verified, or not at all.

        Raises:
            ValueError: Shapes or values do not fit the contract.
            VAError: The disk fails; its cause is the OSError.
        """
        self._layout.check_form(features.values, features.time_s, features.valid)
        steps = features.valid.shape[1] if self.kind == "audio" else None
        writer = self.begin(clip_id, source, time_s=features.time_s, steps=steps)
        try:
            writer.append(0, features.values, features.valid)
            writer.commit()
        finally:
            writer.abandon()

    def pack(self, *, at_least: int = shards.SHARD_BYTES) -> Path | None:
        """Move loose clips into a new shard of about 256 MiB; cheap where they are fewer bytes than that.

        Killed at any instant it loses nothing. A damaged file is left where it is.

        Args:
            at_least: Do nothing below that many bytes.

        Returns:
            The shard, or None where there was nothing to do or another process is packing.

        Raises:
            VAError: The disk fails, e.g. is full; the clips are still there as they were.
        """
        return self._shards.pack(at_least)

    def mend(self) -> list[str]:
        """Set damaged shards aside as `<name>.damaged`, after what is whole in them was saved as loose files.

        It reads every shard. Nothing is deleted. Where a damaged clip had replaced an older copy in another shard, that
        one counts again; `is_done` tells when it comes from another medium.

        Returns:
            One line per damaged shard, for the user.

        Raises:
            VAError: The disk fails, e.g. is full.
        """
        return self._shards.mend()

    # --- reading

    def clip_ids(self) -> tuple[str, ...]:
        """List the committed clips, sorted, from what their groups say.

        Raises:
            VAError: One is damaged.
        """
        return tuple(
            sorted(self._use(name, lambda group: str(hdf5.attributes(group)["clip"])) for name in self._names())
        )

    def count(self) -> int:
        """Count the committed clips, without those of a shard that is too damaged to list them."""
        return len(self._names())

    def is_done(self, clip_id: str, source: Source) -> bool:
        """Say whether a clip opens, its checksums and identity hold, and its source is this one."""
        try:
            attributes = self._use_clip(clip_id, lambda group: clipgroup.verify(group, self._layout, clip_id))
        except VAError:
            return False
        return bool((attributes["source_size"], attributes["source_blake2b"]) == (source.size, source.digest))

    def read(self, clip_id: str) -> ClipFeatures:
        """Read a clip, every checksum verified.

        Raises:
            VAError: Not there, damaged, or written under another identity.
        """
        return self._use_clip(clip_id, lambda group: clipgroup.read(group, self._layout, clip_id))

    def stamp(self, clip_id: str) -> str:
        """Give the stored checksum of a clip's values without reading them: equal stamps, equal features.

        Raises:
            VAError: Not there, or damaged.
        """
        return self._use_clip(clip_id, lambda group: str(hdf5.attributes(hdf5.dataset(group, "values"))["blake2b"]))

    def problems(self) -> Iterator[VAError]:
        """Re-read everything and yield what cannot be trusted; nothing for a sound store."""
        try:
            for shard in self._shards.damaged():
                yield VAError(f"{shard}: is damaged (its bytes are not those of its name)", clipgroup.REDO)
        except VAError as error:
            yield error
        for name in sorted(self._names()):
            try:
                self._use(name, lambda group: clipgroup.verify(group, self._layout))
            except VAError as error:
                yield error

    def _names(self) -> set[str]:
        """Give the names of all groups."""
        found = self._shards.all_names()
        found |= {path.stem for path in shards.list_h5(self.directory / "clips")}
        # Once more, because another process may have moved some in between.
        return found | self._shards.all_names()

    def _use_clip(self, clip_id: str, use: Callable[[h5py.Group], T]) -> T:
        return self._use(files.safe_name(clip_id), use, clip_id)

    def _use(self, name: str, use: Callable[[h5py.Group], T], clip_id: str = "") -> T:
        found = self._look(name, use)
        if found is None:
            raise VAError(f"{self.directory}: has no features of clip '{clip_id or name}'", clipgroup.REDO)
        return found

    def _look(self, name: str, use: Callable[[h5py.Group], T]) -> T | None:
        """Use the copy of a group that counts; None where there is none.

        Another process may pack the file, or set the shard aside, between any two steps: then look again.
        """
        missed = False
        for _ in range(_LOOKS):
            loose = self.directory / "clips" / f"{name}.h5"
            try:
                path = loose if loose.exists() else self._shards.find(name)
            except FileNotFoundError:
                continue
            if path is None:
                if missed:
                    return None
                missed = True
                continue
            before = files.fingerprint(path)
            try:
                with hdf5.reading(path) as file:
                    return use(hdf5.group(file, name))
            except VAError:
                raise
            except Exception as error:  # h5py reports damage as many types, depending on which byte is wrong
                if before is not None and files.fingerprint(path) == before:
                    where = "" if path == loose else f"clip '{name}': "
                    raise VAError(f"{path}: is damaged ({where}{error})", clipgroup.REDO) from None
        return None


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
    wanted = f"{kind} encoder '{name}'" if name else f"{kind} encoder"
    if fitting:
        raise VAError(f"{root}: holds more than one {wanted}", f"Name one with {option}: {_choices(stores)}.")
    raise VAError(f"{root}: has no {wanted}", f"Set {option} to one that is there: {_choices(stores)}.")


def _choices(stores: Sequence[FeatureStore]) -> str:
    """List stores by the shortest name that means one of them, trivial baselines last."""
    encoders = Counter(store.encoder for store in stores)
    said = [
        (store.encoder if encoders[store.encoder] == 1 else store.directory.name)
        + (" (a trivial baseline)" if store.identity.get("baseline") else "")
        for store in sorted(stores, key=lambda store: bool(store.identity.get("baseline")))
    ]
    return ", ".join(said) or "none"
