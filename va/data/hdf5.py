"""Reading and writing HDF5 so that damage is noticed, nothing leads out of the file and a full disk crashes nothing."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import h5py
import numpy as np
from numpy.typing import NDArray

LIBVER: Final = ("v110", "v110")
"""HDF5's format since 1.10: its metadata carry checksums. In older formats one wrong byte can hang or crash HDF5;
so can one in a text of variable length, which has no checksum in any format."""

BLOCK: Final = 4 << 20
"""Bytes of a dataset that are in memory at once while it is verified or copied."""


def reading(path: Path) -> h5py.File:
    """Open a file to read. Without locks, which many cluster file systems lack: no file is changed in place."""
    return h5py.File(path, "r", locking=False)


class Writing:
    """A new HDF5 file, as a context: closed at its end, and removed by the caller when it fails.

    HDF5 cannot close a file that it failed to write: the memory and the disk space stay taken, and the interpreter
    crashes at its end. So it writes through an object that keeps the error back, and `check` raises it.

    Args:
        path: The file; must not exist.

    Raises:
        OSError: The file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self._sink = _Sink(path)
        self.file = h5py.File(self._sink, "w", libver=LIBVER)

    def check(self) -> None:
        """Raise the error that HDF5 was not told of.

        Raises:
            OSError: What was written so far is not whole, e.g. because the disk is full.
        """
        if self._sink.error is not None:
            raise self._sink.error

    def close(self) -> None:
        """Write what is left and close; safe to call twice.

        Raises:
            OSError: As `check`.
        """
        self.discard()
        self.check()

    def discard(self) -> None:
        """Close, whether or not it is whole."""
        self.file.close()
        self._sink.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self.discard()


class _Sink:
    """What HDF5 needs of a Python file; after an error it takes everything and writes nothing."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("x+b", buffering=0)
        self.error: BaseException | None = None
        self.seek = self._file.seek
        self.tell = self._file.tell
        self.read = self._file.read
        self.close = self._file.close

    def readinto(self, buffer: Any) -> int:
        found = self._file.readinto(buffer) or 0
        buffer[found:] = bytes(len(buffer) - found)
        return len(buffer)

    def write(self, data: Any) -> int:
        view = memoryview(data)
        done = 0
        try:
            while done < len(view) and self.error is None:
                done += self._file.write(view[done:]) or 0
        except BaseException as error:  # HDF5 must not see a Ctrl-C either
            self.error = error
        return len(view)

    def truncate(self, size: int) -> int:
        try:
            if self.error is None:
                self._file.truncate(size)
        except BaseException as error:  # as in `write`
            self.error = error
        return size

    def flush(self) -> None: ...


def group(file: h5py.File, name: str) -> h5py.Group:
    """Get a group that lies in the file itself.

    Raises:
        ValueError: There is none, or it is a link, or something else.
    """
    _check_lies_in(file, name)
    found = file[name]
    if not isinstance(found, h5py.Group):
        raise ValueError(f"'{name}' is not a group")
    return found


def dataset(parent: h5py.Group, name: str) -> h5py.Dataset:
    """Get a dataset whose data lie in the file itself, in one piece.

    Raises:
        ValueError: There is none, or it could lead out of the file, or it is not stored whole and unpacked.
    """
    _check_lies_in(parent, name)
    found = parent[name]
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"'{name}' is not a dataset")
    if found.is_virtual or found.external:
        raise ValueError(f"'{name}' is not stored in the file itself")
    if found.chunks is not None or found.id.get_storage_size() != found.size * found.dtype.itemsize:
        raise ValueError(f"'{name}' is not stored in one piece")
    return found


def _check_lies_in(parent: h5py.Group, name: str) -> None:
    link = parent.get(name, getlink=True)
    if link is None:
        raise ValueError(f"'{name}' is not there")
    # A soft or an external link could lead out of the group or the file.
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"'{name}' is not stored in the file itself")


def row_blocks(rows: int, row_bytes: int) -> Iterator[slice]:
    """Cut rows into slices of at most `BLOCK` bytes, at least a row each."""
    step = max(1, BLOCK // max(1, row_bytes))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))


def text(value: str) -> NDArray[Any]:
    """Make an attribute of fixed length, the only kind of text whose damage HDF5 notices."""
    data = value.encode()
    return np.array(data, dtype=h5py.string_dtype("utf-8", len(data)))


def attributes(item: Any) -> dict[str, Any]:
    """Read a group's or dataset's attributes, texts as str."""
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in item.attrs.items()}


class Checksum:
    """BLAKE2b-128 over dtype, shape and values (`docs/feature-format.md`), block by block in C order.

    Args:
        dtype: Of the whole array.
        shape: Of the whole array.
    """

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._state = hashlib.blake2b(f"{dtype.str}{shape}".encode(), digest_size=16)

    def update(self, block: NDArray[Any]) -> None:
        """Add the next rows."""
        self._state.update(np.ascontiguousarray(block).data)

    def text(self) -> str:
        """Give 32 hexadecimal digits."""
        return self._state.hexdigest()
