"""One clip in HDF5: what its group holds, and how it is checked (`docs/feature-format.md`).

Features of an encoder and the model inputs that fine-tuning reads lie in groups of this one form.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from va import files
from va.data import hdf5
from va.errors import VAError
from va.version import __version__

SCHEMA: Final = 2
REDO: Final = "Run 'va extract' again: it redoes only what is missing or damaged."
Kind = Literal["frames", "audio"]
"""Of an encoder."""

EMBEDDING: Final[np.dtype[Any]] = np.dtype(np.float16)
UNITS: Final = {"values": "encoder units", "time_s": "s", "start_s": "s", "valid": "bool"}
_TIME: Final = {"frames": "time_s", "audio": "start_s", "rows": "time_s"}
_LEADING: Final = {"frames": 1, "audio": 2, "rows": 1}
"""Axes of `valid`: cells, or windows and steps, or rows of a spectrum."""


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


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What all clips of a store have in common, and the checks that follow from it.

    Args:
        encoder: Encoder name.
        identity: The store's eight hexadecimal digits.
        kind: An encoder's, or `rows` for the rows of a clip's spectrum.
        row: Shape of what one cell, step or row holds: (dim,) for embeddings, a model input's own.
        dtype: Of the values.
    """

    encoder: str
    identity: str
    kind: Kind | Literal["rows"]
    row: tuple[int, ...]
    dtype: np.dtype[Any] = EMBEDDING

    @property
    def time(self) -> str:
        """Name of the dataset of times."""
        return _TIME[self.kind]

    def attributes(self, clip_id: str, source: Source) -> dict[str, Any]:
        """Give a group's attributes."""
        return {
            "clip": hdf5.text(clip_id),
            "encoder": hdf5.text(self.encoder),
            "identity": hdf5.text(self.identity),
            "kind": hdf5.text(self.kind),
            "schema": SCHEMA,
            "source_size": source.size,
            "source_blake2b": hdf5.text(source.digest),
            "written_by": hdf5.text(f"va {__version__}"),
        }

    def check_form(self, values: Any, time_s: Any, valid: Any) -> None:
        """Check dtypes and shapes, of arrays or of datasets.

        Raises:
            ValueError: They do not fit the contract or each other.
        """
        shape, leading = values.shape, _LEADING[self.kind]
        if len(shape) < leading or shape[leading:] != self.row or values.dtype != self.dtype:
            raise ValueError(f"values {values.dtype} {shape} do not fit {self.kind} of {self.dtype} {self.row}")
        if valid.shape != shape[:leading] or valid.dtype != np.bool_:
            raise ValueError(f"valid {valid.dtype} {valid.shape} does not fit values {shape}")
        if time_s.shape != shape[:1] or time_s.dtype != np.float64:
            raise ValueError(f"time_s {time_s.dtype} {time_s.shape} does not fit values {shape}")


def check_content(values: NDArray[Any], valid: NDArray[np.bool_]) -> None:
    """Check some rows' values.

    Raises:
        ValueError: Some are not finite, or not 0 where they are not valid.
    """
    if values.dtype == np.float16:
        # A float16 is not finite when its exponent is all ones; np.isfinite takes ten times as long.
        finite = (values.view(np.uint16) & 0x7C00).max(initial=0) != 0x7C00
    else:
        finite = values.dtype.kind != "f" or bool(np.isfinite(values).all())
    if not finite:
        raise ValueError("values are not finite")
    if values[~valid].any():
        raise ValueError("values that are not valid must be 0")


def read(group: h5py.Group, layout: Layout, clip_id: str) -> ClipFeatures:
    """Read a clip's group, every checksum verified.

    Raises:
        VAError: It is another clip's or another identity's.
        Exception: It is damaged; h5py reports that as many types.
    """
    opened = _Opened(group, layout, clip_id)
    values = np.empty(opened.values.shape, np.float16)
    valid = np.empty(opened.valid.shape, np.bool_)
    for rows, some_values, some_valid in opened.blocks():
        values[rows], valid[rows] = some_values, some_valid
    return ClipFeatures(values=values, time_s=opened.time_s, valid=valid)


def verify(group: h5py.Group, layout: Layout, clip_id: str | None = None) -> dict[str, Any]:
    """Check all of a clip's group, a block in memory at a time.

    Args:
        group: The group.
        layout: What the store's clips have in common.
        clip_id: The clip that it must hold; None for the one that the group's name stands for.

    Returns:
        Its attributes.

    Raises:
        VAError: It is another clip's or another identity's.
        Exception: It is damaged; h5py reports that as many types.
    """
    opened = _Opened(group, layout, clip_id)
    for _ in opened.blocks():
        pass
    return opened.attributes


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """Where a clip's values lie in its own file.

    Args:
        offset: Of the first byte; None where there are no rows.
        shape: Of the values.
        dtype: Of them.
        valid: bool, which of them mean something.
    """

    offset: int | None
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    valid: NDArray[np.bool_]

    def map(self, file: IO[bytes]) -> NDArray[Any]:
        """Map the values into memory, read-only, without reading them; a descriptor is in use while they are.

        Raises:
            ValueError: The file ends before they do.
        """
        if self.offset is None:
            return np.zeros(self.shape, self.dtype)
        return np.memmap(file, self.dtype, mode="r", offset=self.offset, shape=self.shape)


def locate(path: Path, layout: Layout, clip_id: str) -> Place:
    """Find a clip's values in its own file, without reading them.

    They were verified when they were written, and files are replaced, never changed: this does not verify again.

    Args:
        path: The file.
        layout: What the store's clips have in common.
        clip_id: The clip that it must hold.

    Raises:
        VAError: It is another clip's or another identity's.
        Exception: It is damaged or not there; h5py reports that as many types.
    """
    with hdf5.reading(path) as file:
        opened = _Opened(hdf5.group(file, files.safe_name(clip_id)), layout, clip_id)
        values = opened.values
        offset = values.id.get_offset()  # None for no rows
        return Place(offset=offset, shape=values.shape, dtype=layout.dtype, valid=opened.valid[()])


class _Opened:
    """A group whose attributes and shapes fit."""

    def __init__(self, group: h5py.Group, layout: Layout, clip_id: str | None) -> None:
        self.attributes = hdf5.attributes(group)
        _check_owner(self.attributes, group, layout, clip_id)
        if set(group) != {"values", layout.time, "valid"}:
            raise ValueError(f"it holds {sorted(group)}")
        self.values, self.valid = hdf5.dataset(group, "values"), hdf5.dataset(group, "valid")
        times = hdf5.dataset(group, layout.time)
        layout.check_form(self.values, times, self.valid)
        self.time_s: NDArray[np.float64] = times[()]
        checksum = hdf5.Checksum(times.dtype, times.shape)
        checksum.update(self.time_s)
        _check_sum(times, checksum)

    def blocks(self) -> Iterator[tuple[slice, NDArray[Any], NDArray[np.bool_]]]:
        """Read rows, `values` and `valid`; what was given may be used once it ends without an error."""
        arrays = (self.values, self.valid)
        sums = [hdf5.Checksum(array.dtype, array.shape) for array in arrays]
        wrong: ValueError | None = None
        row_bytes = self.values.dtype.itemsize * int(np.prod(self.values.shape[1:]))
        for rows in hdf5.row_blocks(len(self.values), row_bytes):
            values, valid = self.values[rows], self.valid[rows]
            for checksum, block in zip(sums, (values, valid), strict=True):
                checksum.update(block)
            try:
                check_content(values, valid)
            except ValueError as error:  # a checksum that does not match says more
                wrong = wrong or error
            yield rows, values, valid
        for array, checksum in zip(arrays, sums, strict=True):
            _check_sum(array, checksum)
        if wrong is not None:
            raise wrong


def _check_owner(attributes: dict[str, Any], group: h5py.Group, layout: Layout, clip_id: str | None) -> None:
    held, name = attributes["clip"], group.name.lstrip("/")
    if clip_id is None and files.safe_name(held) == name:
        clip_id = held
    if attributes["identity"] != layout.identity or held != clip_id:
        raise VAError(
            f"{group.file.filename}: holds clip {held!r} of identity {attributes['identity']!r}, "
            f"expected {name if clip_id is None else clip_id!r} of {layout.identity!r}",
            "Features of different identities must not be mixed; remove the file and run 'va extract' again.",
        )


def _check_sum(dataset: h5py.Dataset, checksum: hdf5.Checksum) -> None:
    if hdf5.attributes(dataset)["blake2b"] != checksum.text():
        raise ValueError(f"checksum of '{dataset.name.rsplit('/', 1)[-1]}' does not match")
