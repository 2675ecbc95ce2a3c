"""Reading `.npy` and `.npz` from elsewhere: what a file says of itself is checked before memory is given to it.

NumPy's own reader refuses pickles too, but believes a header: a small compressed file can then ask for any amount.
"""

import math
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

ALONE: Final = ""
"""The name of the array of an `.npy` file."""
_ZIP: Final = b"PK"
_VERSION: Final = (1, 0)


def read(path: Path, *, wanted: Collection[str], largest: int) -> dict[str, NDArray[Any]]:
    """Read the arrays that are wanted and there, of numbers, bools or texts; never of objects.

    Args:
        path: An `.npy`, whose array is called `ALONE`, or an `.npz`; the content decides, not the suffix.
        wanted: Names in an `.npz`; others are not looked at.
        largest: Bytes that one array may have.

    Raises:
        OSError: It cannot be read.
        ValueError: It is none of both, an array has objects, is too large, or has not the size that it says.
        Exception: An `.npz` is damaged; zipfile and zlib report that as many types.
    """
    with path.open("rb") as stream:
        packed = stream.read(len(_ZIP)) == _ZIP
        stream.seek(0)
        if not packed:
            return {ALONE: _array(stream, size=path.stat().st_size, largest=largest)}
        with zipfile.ZipFile(stream) as archive:
            there = {name: archive.getinfo(f"{name}.npy") for name in wanted if f"{name}.npy" in archive.NameToInfo}
            found = {}
            for name, info in there.items():
                with archive.open(info) as member:
                    found[name] = _array(member, size=info.file_size, largest=largest)
            return found


def _array(stream: IO[bytes], *, size: int, largest: int) -> NDArray[Any]:
    if np.lib.format.read_magic(stream) != _VERSION:  # later ones are for columns with names
        raise ValueError("it is of a version that arrays of numbers are not written in")
    shape, by_column, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.hasobject:
        raise ValueError("it holds objects")
    wanted, there = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if min(shape, default=0) < 0 or wanted != there:
        raise ValueError(f"an array of {dtype} {shape} has {wanted:,} bytes, the file has {there:,} for it")
    if wanted > largest:
        raise ValueError(f"an array has {wanted:,} bytes, more than {largest:,}")
    content = bytearray(wanted)
    view, done = memoryview(content), 0
    while done < wanted and (count := stream.readinto(view[done:])):  # type: ignore[attr-defined]
        done += count
    if done < wanted:
        raise ValueError(f"{wanted - done:,} bytes are missing")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if by_column else "C")
