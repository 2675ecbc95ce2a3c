"""Writing one clip, block by block: whole and verified under its name, or not there at all."""

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from va import files, locks
from va.data import clipgroup, hdf5
from va.data.clipgroup import Layout, Source
from va.errors import VAError


class ClipWriter:
    """One clip on its way into a store; memory holds a block of it, whatever its length.

    Nothing is on the disk before the first `append` or `commit`. Use it from one thread at a time; many may be open at
    once. After `commit`, `abandon` or an error of the disk it is finished, and has left nothing temporary.

    Args:
        layout: What the store's clips have in common.
        path: Where the clip's file will lie.
        clip_id: The clip.
        source: The medium that the features come from.
        time_s: float64 [rows], cell centres or window starts in seconds.
        steps: Steps per window, None for frames and rows.
        commit_lock: Held, shared, while the file gets its name.
        committed: Called with the file's size in bytes once it has its name.

    Raises:
        ValueError: `time_s` or `steps` do not fit the contract.
    """

    def __init__(
        self,
        layout: Layout,
        path: Path,
        clip_id: str,
        source: Source,
        *,
        time_s: NDArray[np.float64],
        steps: int | None,
        commit_lock: Path,
        committed: Callable[[int], None],
    ) -> None:
        if (steps is None) != (layout.kind != "audio") or (steps is not None and steps < 1):
            raise ValueError(f"steps {steps} do not fit {layout.kind}")
        self._layout, self._path, self._clip_id, self._source = layout, path, clip_id, source
        self._time_s = time_s
        self._steps: tuple[int, ...] = () if steps is None else (steps,)
        self._commit_lock, self._committed = commit_lock, committed
        self._check_form(*self._nothing(0))
        self._next = 0
        self._finished = False
        self._temporary: Path | None = None
        self._writing: hdf5.Writing | None = None
        self._streams: tuple[_Stream, _Stream] | None = None

    def append(self, first_row: int, values: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        """Write the next rows; rows skipped over are 0 and not valid.

        Args:
            first_row: Index of the first; at or after the end of what was appended before.
            values: float16 [n, dim] for frames, [n, steps, dim] for audio; in general the layout's dtype, [n, *row] or
                [n, steps, *row]; 0 where not valid.
            valid: bool [n] or [n, steps].

        Raises:
            ValueError: Shapes, order or values do not fit the contract; nothing was written.
            VAError: The disk fails, e.g. is full; its cause is the OSError.
        """
        self._check_open()
        self._check_form(values, valid)
        if not self._next <= first_row <= len(self._time_s) - len(values):
            raise ValueError(f"rows {first_row} + {len(values)} of {len(self._time_s)}, {self._next} are written")
        for rows in hdf5.row_blocks(len(values), self._row_bytes):
            clipgroup.check_content(values[rows], valid[rows])
        with self._cleaning():
            self._skip_to(first_row)
            self._put(values, valid)

    def commit(self) -> None:
        """Give the clip its name, after it was synced, reopened and verified; rows left are 0 and not valid.

        Raises:
            VAError: The disk fails, and nothing is there; or it gave back something else than was written.
        """
        self._check_open()
        with self._cleaning():
            self._skip_to(len(self._time_s))
            for stream in self._open():
                stream.finish()
            assert self._writing is not None and self._temporary is not None  # `_open` made them
            self._writing.close()
            files.sync(self._temporary)
            self._verify(self._temporary)
            size = self._temporary.stat().st_size
            # Packing removes files under this lock, and so never one that has just taken the place of another.
            with locks.locked(self._commit_lock, shared=True, wait=True):
                self._temporary.replace(self._path)
            files.sync(self._path.parent)
        self._finished = True
        self._committed(size)

    def abandon(self) -> None:
        """Leave nothing; does nothing after `commit`, an error or another `abandon`."""
        self._finished = True
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.discard()
        if self._temporary is not None:
            temporary, self._temporary = self._temporary, None
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)

    @property
    def _row_bytes(self) -> int:
        return self._layout.dtype.itemsize * math.prod((*self._steps, *self._layout.row))

    def _nothing(self, rows: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Make rows that are 0 and not valid."""
        shape = (rows, *self._steps)
        return np.zeros((*shape, *self._layout.row), self._layout.dtype), np.zeros(shape, np.bool_)

    def _check_open(self) -> None:
        if self._finished:
            raise ValueError(f"clip '{self._clip_id}' is already committed or abandoned")

    def _check_form(self, values: NDArray[Any], valid: NDArray[Any]) -> None:
        self._layout.check_form(values, self._time_s[: len(values)], valid)
        if valid.shape[1:] != self._steps:
            raise ValueError(f"values {values.shape} do not fit {self._steps} steps")

    def _open(self) -> tuple["_Stream", "_Stream"]:
        if self._streams is None:
            self._temporary = files.temporary_beside(self._path)
            self._writing = hdf5.Writing(self._temporary)
            group = self._writing.file.create_group(files.safe_name(self._clip_id))
            group.attrs.update(self._layout.attributes(self._clip_id, self._source))
            shape = (len(self._time_s), *self._steps)
            times = _Stream(group, self._layout.time, self._time_s.shape, np.dtype(np.float64))
            times.put(self._time_s)
            times.finish()
            self._streams = (
                _Stream(group, "values", (*shape, *self._layout.row), self._layout.dtype),
                _Stream(group, "valid", shape, np.dtype(np.bool_)),
            )
        return self._streams

    def _skip_to(self, row: int) -> None:
        for rows in hdf5.row_blocks(row - self._next, self._row_bytes):
            self._put(*self._nothing(rows.stop - rows.start))

    def _put(self, values: NDArray[Any], valid: NDArray[np.bool_]) -> None:
        for stream, block in zip(self._open(), (values, valid), strict=True):
            stream.put(block)
        assert self._writing is not None  # `_open` made it
        self._writing.check()
        self._next += len(values)

    def _verify(self, path: Path) -> None:
        try:
            with hdf5.reading(path) as file:
                clipgroup.verify(hdf5.group(file, files.safe_name(self._clip_id)), self._layout, self._clip_id)
        except Exception as error:  # h5py reports damage as many types
            raise VAError(
                f"{self._path}: was not written as it should be ({error})", "Check the disk, it may be failing."
            ) from None

    @contextlib.contextmanager
    def _cleaning(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.abandon()
            raise files.cannot_write(self._path, error) from error
        except BaseException:
            self.abandon()
            raise


class _Stream:
    """A dataset that is written from its first row to its last, and hashed on the way."""

    def __init__(self, group: h5py.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._dataset = group.create_dataset(name, shape, dtype, track_times=False)
        self._dataset.attrs["unit"] = hdf5.text(clipgroup.UNITS[name])
        self._checksum = hdf5.Checksum(dtype, shape)
        self._next = 0

    def put(self, block: NDArray[Any]) -> None:
        end = self._next + len(block)
        if len(block):
            self._dataset[self._next : end] = block
        self._checksum.update(block)
        self._next = end

    def finish(self) -> None:
        self._dataset.attrs["blake2b"] = hdf5.text(self._checksum.text())
