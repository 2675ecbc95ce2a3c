"""One encoder's model inputs of clips on the disk: a file per clip, whole or absent, in the feature store's own form.

Pictures are kept as the encoder takes them, one per cell. Of sound the rows of spectrum are kept, once per clip, and
the encoder's own `transform` makes windows of them when they are read: 51 kB per second of sound for AST, where its
windows, which overlap, would take 175 kB.
"""

import errno
import math
import os
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from va import files
from va.data import clipgroup, features, hdf5, timeline
from va.data.clipgroup import Layout, Place, Source
from va.data.clipwriter import ClipWriter
from va.errors import VAError
from va.extract.decode import SAMPLE_RATE_HZ
from va.extract.encoders import Encoder
from va.extract.spectrum import ROW_SAMPLES, ROWS_PER_S, count_rows
from va.settings import digest

_SCHEMA: Final = 1
_LONGEST_WRITE_S: Final = 3600.0
_AGAIN: Final = "Run the same command again: it decodes only what is missing, damaged or changed."


class ClipInputs:
    """The folder `<directory>/<encoder>-<8 hex>` of one encoder.

    Args:
        directory: Holds one folder per encoder.
        encoder: Whose inputs. An encoder that was fine-tuned has those of the one that it was made from, because they
            depend neither on weights nor on the precision of the arithmetic.

    Attributes:
        shape: Of what one cell or one row of spectrum holds.
        dtype: Of it.
    """

    def __init__(self, directory: Path, encoder: Encoder) -> None:
        example = _example(encoder)
        self.shape, self.dtype = example.shape, example.dtype
        identity = _identity(encoder, example)
        self.directory = directory / features.folder_name(identity)
        self._identity = identity
        self._layout = Layout(
            encoder=identity["encoder"],
            identity=digest(identity),
            kind="frames" if encoder.kind == "frames" else "rows",
            row=example.shape,
            dtype=example.dtype,
        )
        self._places: dict[str, tuple[tuple[int, int, int], Place]] = {}

    def open(self) -> None:
        """Make the folder ready to be written to, and remove what a killed process has left in it."""
        files.sweep(self.directory / "clips", older_than_s=_LONGEST_WRITE_S)
        files.write_json(self.directory / "identity.json", self._identity)

    def path(self, clip_id: str) -> Path:
        """Where a clip's file lies, or would lie."""
        return self.directory / "clips" / f"{files.safe_name(clip_id)}.h5"

    def is_done(self, clip_id: str, source: Source) -> bool:
        """Say whether a clip is there, its checksums and identity hold, and its source is this one; reads all of it."""
        try:
            with hdf5.reading(self.path(clip_id)) as file:
                group = hdf5.group(file, files.safe_name(clip_id))
                attributes = clipgroup.verify(group, self._layout, clip_id)
        except Exception:  # h5py reports damage as many types; whatever it is, the clip is decoded again
            return False
        return bool((attributes["source_size"], attributes["source_blake2b"]) == (source.size, source.digest))

    def begin(self, clip_id: str, source: Source, *, duration_s: float) -> ClipWriter:
        """Start to write a clip of that many seconds block by block; nothing is there before it is committed."""
        return ClipWriter(
            self._layout,
            self.path(clip_id),
            clip_id,
            source,
            time_s=self._times(duration_s),
            steps=None,
            commit_lock=self.directory / ".commit.lock",
            committed=lambda size: None,
        )

    def bytes_for(self, duration_s: float) -> int:
        """Say how many bytes the values of a clip take."""
        return len(self._times(duration_s)) * math.prod(self.shape) * self.dtype.itemsize

    def values(self, clip_id: str) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Map a clip's values, [cells or rows, ...], and give which are valid.

        A descriptor is in use while the values are, and no longer: a corpus may have more clips than a process may
        have open files. Where they lie in their file is kept, because HDF5 takes far longer to say so.

        Raises:
            VAError: Not there, unreadable, damaged, or another clip's.
        """
        path = self.path(clip_id)
        try:
            with path.open("rb") as file:
                now = files.fingerprint_of(file.fileno())
                before, place = self._places.get(clip_id, (None, None))
                if place is None or before != now:
                    place = clipgroup.locate(path, self._layout, clip_id)
                    self._places[clip_id] = now, place
                return place.map(file), place.valid
        except FileNotFoundError:
            raise VAError(f"{self.directory}: has no model inputs of clip '{clip_id}'", _AGAIN) from None
        except VAError:
            raise
        except Exception as error:  # as in `is_done`
            if isinstance(error, OSError) and error.errno:  # the system's own; of damage HDF5 gives no number
                full = error.errno in (errno.EMFILE, errno.ENFILE)
                hint = "Raise the limit (ulimit -n 4096)" if full else "Check the disk and permissions"
                raise VAError(
                    f"{path}: cannot be read ({os.strerror(error.errno)})", f"{hint} and run the same command again."
                ) from None
            raise VAError(f"{path}: is damaged ({error})", _AGAIN) from None

    def _times(self, duration_s: float) -> NDArray[np.float64]:
        """Give the times of cells' centres or of rows' starts, in seconds."""
        if self._layout.kind == "frames":
            return timeline.cell_centers(timeline.num_cells(duration_s))
        return np.arange(count_rows(round(duration_s * SAMPLE_RATE_HZ)), dtype=np.float64) / ROWS_PER_S


def _example(encoder: Encoder) -> NDArray[Any]:
    """Make what one cell or row holds, of a picture or of sound that say nothing."""
    if encoder.kind == "audio":
        assert encoder.spectrum is not None  # true for every audio encoder
        row: NDArray[Any] = encoder.spectrum(np.zeros(ROW_SAMPLES, np.float32))[0]
        return row
    seen = np.zeros(5, np.float32) if encoder.sees == "box" else np.zeros((64, 64, 3), np.uint8)
    return encoder.transform(seen)


def _identity(encoder: Encoder, example: NDArray[Any]) -> dict[str, Any]:
    """Write down everything that an encoder's inputs depend on."""
    whole = encoder.identity
    return {
        "schema": _SCHEMA,
        "encoder": whole.get("tuned", {}).get("base", whole["encoder"]),
        "holds": "model inputs" if encoder.kind == "frames" else "rows of spectrum",
        "shape": list(example.shape),
        "dtype": example.dtype.name,
        "preprocessing": whole["preprocessing"],
        "sampling": whole["sampling"],
    }
