"""Reading and writing HDF5 so that damage is noticed and nothing leads out of the file."""

import hashlib
from typing import Any, Final

import h5py
import numpy as np
from numpy.typing import NDArray

LIBVER: Final = ("v110", "v110")
"""HDF5's format since 1.10: its metadata carry checksums. In older formats one wrong byte can hang or crash HDF5;
so can one in a text of variable length, which has no checksum in any format."""


def read_array(file: h5py.File, name: str) -> NDArray[Any]:
    """Read a dataset and hold it against its `blake2b` attribute.

    Raises:
        KeyError: No such dataset, or it has no checksum.
        ValueError: The checksum does not match, or the data do not lie in the file itself.
    """
    # A link, a virtual or an external dataset could lead out of the file; only data that lie in it are read.
    linked = not isinstance(file.get(name, getlink=True), h5py.HardLink)
    if linked or file[name].is_virtual or file[name].external:
        raise ValueError(f"'{name}' is not stored in the file itself")
    array: NDArray[Any] = file[name][()]
    if attributes(file[name])["blake2b"] != checksum(array):
        raise ValueError(f"checksum of '{name}' does not match")
    return array


def text(value: str) -> NDArray[Any]:
    """Make an attribute of fixed length, the only kind of text whose damage HDF5 notices."""
    data = value.encode()
    return np.array(data, dtype=h5py.string_dtype("utf-8", len(data)))


def attributes(item: Any) -> dict[str, Any]:
    """Read a file's or dataset's attributes, texts as str."""
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in item.attrs.items()}


def checksum(array: NDArray[Any]) -> str:
    """Hash dtype, shape and values with BLAKE2b-128 (`docs/feature-format.md`); 32 hexadecimal digits."""
    header = f"{array.dtype.str}{array.shape}".encode()
    return hashlib.blake2b(header + np.ascontiguousarray(array).tobytes(), digest_size=16).hexdigest()
