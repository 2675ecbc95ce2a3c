"""Shards: many clips in one file, so that a corpus of a hundred thousand clips is not as many files.

A shard is never changed. Its name ends in the hash of its bytes, so that a wrong byte anywhere in it is noticed, and
begins with its number: of two copies of a clip, that of the shard that sorts last counts, and a loose file before
every shard. `FeatureStore` is the way in.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from va import files, locks
from va.data import clipgroup, hdf5
from va.data.clipgroup import Layout
from va.errors import VAError

SHARD_BYTES: Final = 256 << 20
DAMAGED: Final = ".damaged"
_FAILING: Final = "Check the disk, it may be failing; the clips are still there as they were."


class Shards:
    """The shards of one store, and the loose files that they are made from.

    Args:
        directory: The store's folder.
        layout: What the store's clips have in common.
    """

    def __init__(self, directory: Path, layout: Layout) -> None:
        self.directory = directory / "shards"
        self.commit_lock = directory / ".commit.lock"
        self._pack_lock = directory / ".pack.lock"
        self._clips = directory / "clips"
        self._layout = layout
        self._names: dict[Path, frozenset[str]] = {}
        self._loose_bytes: int | None = None

    def files(self) -> list[Path]:
        """List the shards, the one whose copies count last; looked up anew, because others pack too."""
        return list_h5(self.directory)

    def names(self, shard: Path) -> frozenset[str]:
        """List the groups of a shard.

        Raises:
            FileNotFoundError: It was moved away meanwhile.
            VAError: It is damaged.
        """
        if shard not in self._names:
            try:
                with hdf5.reading(shard) as file:
                    self._names[shard] = frozenset(file)
            except FileNotFoundError:
                raise
            except Exception as error:  # h5py reports damage as many types
                raise VAError(f"{shard}: is damaged ({error})", clipgroup.REDO) from None
        return self._names[shard]

    def all_names(self, *, after: Path | None = None) -> set[str]:
        """List the groups of all shards, or of those after one; those that cannot be listed are left out."""
        found: set[str] = set()
        for shard in self.files():
            if after is None or shard > after:
                with contextlib.suppress(VAError, FileNotFoundError):
                    found |= self.names(shard)
        return found

    def find(self, name: str) -> Path | None:
        """Give the shard whose copy of a group counts.

        Raises:
            FileNotFoundError: A shard was moved away meanwhile.
            VAError: A shard that might hold it is damaged.
        """
        return next((shard for shard in reversed(self.files()) if name in self.names(shard)), None)

    def grown(self, size: int) -> None:
        """Take note of a loose file that this process has written."""
        if self._loose_bytes is not None:
            self._loose_bytes += size

    # --- packing

    def pack(self, at_least: int) -> Path | None:
        """Move loose clips into a new shard; see `FeatureStore.pack`."""
        if self._loose_bytes is None:
            self._loose_bytes = sum(_size(path) for path in list_h5(self._clips))
        if not self._loose_bytes or self._loose_bytes < at_least:
            return None
        try:
            with locks.locked(self._pack_lock, shared=False, wait=False) as held:
                return self._pack(at_least) if held else None
        except OSError as error:
            raise files.cannot_write(self.directory, error) from error

    def _pack(self, at_least: int) -> Path | None:
        loose = list_h5(self._clips)
        self._loose_bytes = sum(map(_size, loose))
        if self._loose_bytes < at_least:
            return None
        temporary = files.temporary_beside(self.directory / "pack")
        try:
            with hdf5.Writing(temporary) as writing:
                copied, left = self._copy(loose, writing)
            # A damaged file stays, and is not looked at again before that many more bytes were written.
            self._loose_bytes = sum(map(_size, left))
            if not copied:
                return None
            files.sync(temporary)
            self._verify(temporary, expected={path.stem for path in copied})
            number = 1 + max((_number(path) for path in self.directory.glob("[0-9]*")), default=-1)
            shard = self.directory / f"{number:05d}-{files.hash_file(temporary)}.h5"
            temporary.replace(shard)
            files.sync(self.directory)
            files.sync(self.directory.parent)
        finally:
            temporary.unlink(missing_ok=True)
        with locks.locked(self.commit_lock, shared=False, wait=True):
            for path, fingerprint in copied.items():
                if files.fingerprint(path) == fingerprint:
                    path.unlink()
        files.sync(self._clips)
        return shard

    def _copy(
        self, loose: list[Path], writing: hdf5.Writing
    ) -> tuple[dict[Path, tuple[int, int, int] | None], list[Path]]:
        """Copy loose clips until the shard is full; give what was copied, and what was not come to."""
        copied: dict[Path, tuple[int, int, int] | None] = {}
        total = 0
        for index, path in enumerate(loose):
            if total >= SHARD_BYTES:
                return copied, loose[index:]
            fingerprint = files.fingerprint(path)
            if fingerprint is not None and self._copy_clip(path, path.stem, writing):
                copied[path] = fingerprint
                total += fingerprint[1]
        return copied, []

    def _copy_clip(self, path: Path, name: str, writing: hdf5.Writing) -> bool:
        """Copy one group as it is; False when it is damaged."""
        try:
            file = hdf5.reading(path)
        except Exception:  # h5py reports damage as many types
            return False
        with file:
            try:
                group = hdf5.group(file, name)
                clipgroup.verify(group, self._layout)
            except Exception:  # as above
                return False
            try:
                file.copy(group, writing.file, name=name)
            except Exception as error:  # as above
                raise VAError(f"{path}: cannot be copied ({error})", _FAILING) from None
            writing.check()
            return True

    def _verify(self, path: Path, *, expected: set[str]) -> None:
        try:
            with hdf5.reading(path) as file:
                if set(file) != expected:
                    raise ValueError(f"it holds {len(file)} clips of {len(expected)}")
                for name in expected:
                    clipgroup.verify(hdf5.group(file, name), self._layout)
        except Exception as error:  # h5py reports damage as many types
            raise VAError(f"{self.directory}: a shard was not written as it should be ({error})", _FAILING) from None

    # --- damage

    def damaged(self) -> Iterator[Path]:
        """Read every shard and give those whose bytes are not those of their name.

        Raises:
            VAError: One cannot be read for a reason that is not damage, e.g. permissions.
        """
        for shard in self.files():
            with contextlib.suppress(FileNotFoundError):  # moved away by another process
                if not _sound(shard):
                    yield shard

    def mend(self) -> list[str]:
        """Save what can be saved of damaged shards; see `FeatureStore.mend`."""
        if not list(self.damaged()):  # the usual case needs no lock and writes nothing
            return []
        try:
            with locks.locked(self._pack_lock, shared=False, wait=True):
                # From the first: of two damaged shards the earlier one's copy must not come back in the place of
                # the later one's.
                lines = []
                for shard in self.damaged():
                    with contextlib.suppress(FileNotFoundError):  # where there are no locks, another one mended it
                        lines.append(self._mend(shard))
                return lines
        except OSError as error:
            raise files.cannot_write(self.directory, error) from error

    def _mend(self, shard: Path) -> str:
        try:
            names = sorted(self.names(shard) - self.all_names(after=shard))
        except VAError:
            names = None
        saved = sum(self._save(shard, name) for name in names or () if not self._loose(name).exists())
        self._loose_bytes = None
        moved = _free(shard.with_name(shard.name + DAMAGED))
        shard.replace(moved)
        files.sync(self.directory)
        what = "none of its clips can be read" if names is None else f"{saved} clips that only it held were saved"
        return f"{shard}: is damaged; {what}, and it was set aside as {moved.name}"

    def _save(self, shard: Path, name: str) -> bool:
        """Make a loose file of a group, unless it is damaged or a newer one is there."""
        path = self._loose(name)
        temporary, copied = files.temporary_beside(path), False
        try:
            with hdf5.Writing(temporary) as writing:
                with contextlib.suppress(VAError):
                    copied = self._copy_clip(shard, name, writing)
                if not copied:
                    return False
            files.sync(temporary)
            self._verify(temporary, expected={name})
            with locks.locked(self.commit_lock, shared=False, wait=True):
                if path.exists():
                    return False
                temporary.replace(path)
            files.sync(self._clips)
            return True
        finally:
            temporary.unlink(missing_ok=True)

    def _loose(self, name: str) -> Path:
        return self._clips / f"{name}.h5"


def list_h5(directory: Path) -> list[Path]:
    """List a folder's HDF5 files, sorted, those that are being written left out; none for a missing folder."""
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(".h5") and not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
    return [directory / name for name in sorted(names)]


def _size(path: Path) -> int:
    found = files.fingerprint(path)
    return found[1] if found else 0


def _sound(shard: Path) -> bool:
    try:
        return files.hash_file(shard) == shard.stem.rpartition("-")[2]
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno == errno.EIO:  # what a disk says of a sector that it has lost
            return False
        raise VAError(f"{shard}: cannot be read ({error.strerror})", "Check permissions and the disk.") from error


def _number(path: Path) -> int:
    digits = path.name.split("-")[0]
    return int(digits) if digits.isdecimal() else -1


def _free(path: Path) -> Path:
    candidates = (path.with_name(f"{path.name}{suffix}") for suffix in ("", *map(".{}".format, range(2, 1000))))
    return next(candidate for candidate in candidates if not candidate.exists())
