"""Features that people already have, as a verified store: `va import-features DIR --corpus CORPUS --out FEATURES`.

`DIR` holds one file per clip: `<clip id>.npy`, [rows, dim], or `<clip id>.npz` with `features` and, where rows do not
follow a constant rate, their times in seconds (`times` or `time_s`). Rows are laid on the grid of half-second cells, so
that everything behind it works as with features of `va extract`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from va import files
from va.data import npfiles, timeline
from va.data.config import ImportConfig
from va.data.corpus import Clip, Corpus
from va.data.features import SCHEMA, ClipFeatures, FeatureStore, Kind, Source
from va.errors import VAError

_SUFFIXES: Final = (".npy", ".npz")
_TIMES: Final = ("times", "time_s")
_LARGEST: Final = float(np.finfo(np.float16).max)
_LARGEST_BYTES: Final = 4 << 30
"""Of one array: an hour of 1,024 numbers, a hundred a second, in double precision, is three quarters of it."""
_SLACK_S: Final = 1.0
_SLACK: Final = 0.02
"""Rows may be a second or 2% longer or shorter than the clip: beyond that, rate or clip are not those of the file."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What an import did.

    Args:
        written: Clips written.
        present: Clips that needed nothing.
        failed: Clip id -> why; a clip without a file is one.
        extra: Names of files that belong to no clip.
        store: The store's folder.
        mended: A line per damaged shard that was set aside.
    """

    written: int
    present: int
    failed: dict[str, str]
    extra: tuple[str, ...]
    store: Path
    mended: tuple[str, ...]


def run(config: ImportConfig, *, progress: Callable[[int, int, str], None]) -> Summary:
    """Import the features of every clip of a corpus.

    Args:
        config: The command's settings.
        progress: Called with (clips done, clips in all, clip id).

    Raises:
        VAError: The corpus or the folder cannot be read, or no file fits; nothing is written then.
    """
    corpus = Corpus.load(config.corpus)
    found, extra = _match(config.directory, corpus)
    identity = _identity(config, found)
    store = FeatureStore.create(config.out, identity)
    mended = tuple(store.mend())
    written, present, failed = 0, 0, {}
    for done, clip in enumerate(corpus.clips):
        progress(done, len(corpus.clips), clip.id)
        try:
            if clip.id not in found:
                raise VAError(f"{config.directory}: has no {clip.id}.npy or .npz", "Bring it, or leave the clip out.")
            file, source = found[clip.id], Source.of(found[clip.id])
            if store.is_done(clip.id, source):
                present += 1
                continue
            values, time_s = read(file, rate_hz=config.rate_hz)
            if values.shape[1] != store.dim:
                raise VAError(
                    f"{file}: has {values.shape[1]} features a row, others have {store.dim}", "Remove odd ones."
                )
            _check_length(file, clip, rows=len(values), time_s=time_s, rate_hz=config.rate_hz)
            store.write(clip.id, _on_grid(values, time_s, clip.duration_s, config), source)
            written += 1
        except VAError as error:
            failed[clip.id] = error.message
        store.pack()
    progress(len(corpus.clips), len(corpus.clips), "")
    return Summary(written=written, present=present, failed=failed, extra=extra, store=store.directory, mended=mended)


def read(file: Path, *, rate_hz: float | None) -> tuple[NDArray[Any], NDArray[np.float64] | None]:
    """Read one clip's file, without pickle.

    Args:
        file: `.npy`, or `.npz` with `features` and perhaps `times` or `time_s`.
        rate_hz: Rows per second, or None.

    Returns:
        Numbers [rows, dim] and the rows' times in seconds, float64 [rows]; None for a constant rate.

    Raises:
        VAError: It cannot be read, or its content is not of that form, finite and within float16.
    """
    try:
        arrays = npfiles.read(file, wanted=("features", *_TIMES), largest=_LARGEST_BYTES)
        arrays = {name or "features": array for name, array in arrays.items()}
    except Exception as error:  # NumPy, zipfile and zlib report damage as many types
        raise VAError(f"{file}: cannot be read as numbers ({error})", "Save arrays of numbers, not objects.") from None
    values = arrays.get("features")
    if values is None or values.dtype.kind not in "fiu" or values.ndim != 2 or 0 in values.shape:
        shown = "nothing of that name" if values is None else f"{values.dtype} {values.shape}"
        raise VAError(f"{file}: 'features' must be numbers [rows, dim], found {shown}", "Save it in that form.")
    if not (np.abs(values) <= _LARGEST).all():  # not-a-number fails this too
        raise VAError(f"{file}: holds values that are not finite or beyond {_LARGEST:g}", "Make the features again.")
    given = [arrays[name] for name in _TIMES if name in arrays]
    if not given:
        if rate_hz is None:
            raise VAError(f"{file}: holds no times, and --rate-hz was not given", "Give --rate-hz, or save 'times'.")
        return values, None
    time_s = given[0]
    if time_s.dtype.kind not in "fiu" or time_s.shape != (len(values),):
        raise VAError(f"{file}: times are {time_s.dtype} {time_s.shape}, expected [{len(values)}]", "One per row.")
    time_s = time_s.astype(np.float64)
    if not (np.isfinite(time_s).all() and (time_s >= 0).all() and (np.diff(time_s) > 0).all()):
        raise VAError(f"{file}: times must be finite, at least 0 and rising", "Sort the rows by their time in seconds.")
    return values, time_s


def frames_on_grid(
    values: NDArray[Any], *, time_s: NDArray[np.float64], hold_s: float, cells: int
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Give each cell the last row at or before its centre (settled 1).

    Args:
        values: Numbers [rows, dim].
        time_s: float64 [rows], ascending: when a row's picture appears, in seconds.
        hold_s: How long a row stands when no other follows, in seconds.
        cells: Number of cells.

    Returns:
        float16 [cells, dim], 0 where not valid, and bool [cells]: False before the first row and in a gap.
    """
    centers = timeline.cell_centers(cells)
    row = timeline.frame_at(time_s, centers)
    valid = (row >= 0) & (centers < time_s[np.maximum(row, 0)] + hold_s)
    return np.where(valid[:, None], values[np.maximum(row, 0)], 0).astype(np.float16), valid


def audio_on_grid(
    values: NDArray[Any], *, center_s: NDArray[np.float64], cells: int
) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
    """Average the rows whose centre lies in a cell.

    Args:
        values: Numbers [rows, dim].
        center_s: float64 [rows], middle of the sound that a row describes, in seconds.
        cells: Number of cells; rows beyond them are left out.

    Returns:
        float16 [cells, dim], 0 where not valid, and bool [cells]: False for a cell without a row.
    """
    # The slack keeps a centre that lies on a border, and was rounded, out of the cell before it.
    cell = np.floor(center_s / timeline.CELL_S + 1e-9).astype(np.int64)
    inside = cell < cells
    total = np.zeros((cells, values.shape[1]))
    np.add.at(total, cell[inside], values[inside])
    count = np.bincount(cell[inside], minlength=cells)
    return (total / np.maximum(count, 1)[:, None]).astype(np.float16), count > 0


def _on_grid(
    values: NDArray[Any], time_s: NDArray[np.float64] | None, duration_s: float, config: ImportConfig
) -> ClipFeatures:
    cells = timeline.num_cells(duration_s)
    index = np.arange(len(values), dtype=np.float64)
    if config.kind == "frames":
        at = index / config.rate_hz if time_s is None and config.rate_hz else time_s
        assert at is not None  # `read` refuses a file with neither
        # A row stands for the usual distance to the next, at least a cell: a gap is a picture that is not there.
        usual_s = float(np.median(np.diff(at))) if len(at) > 1 else timeline.CELL_S
        grid, valid = frames_on_grid(values, time_s=at, hold_s=max(usual_s, timeline.CELL_S), cells=cells)
        return ClipFeatures(values=grid, time_s=timeline.cell_centers(cells), valid=valid)
    at = (index + 0.5) / config.rate_hz if time_s is None and config.rate_hz else time_s
    assert at is not None
    grid, valid = audio_on_grid(values, center_s=at, cells=cells)
    starts_s = timeline.window_starts(duration_s, window_s=config.window_s, stride_s=config.stride_s)
    of_window = timeline.window_cells(duration_s, window_s=config.window_s, stride_s=config.stride_s)
    heard = (of_window >= 0) & valid[of_window]
    return ClipFeatures(
        values=np.where(heard[..., None], grid[of_window], 0).astype(np.float16), time_s=starts_s, valid=heard
    )


def _check_length(
    file: Path, clip: Clip, *, rows: int, time_s: NDArray[np.float64] | None, rate_hz: float | None
) -> None:
    slack_s = max(_SLACK_S, _SLACK * clip.duration_s)
    if time_s is None and rate_hz is not None:
        length_s = rows / rate_hz
        if abs(length_s - clip.duration_s) > slack_s:
            raise VAError(
                f"{file}: {rows} rows at {rate_hz:g} a second last {length_s:.2f} s, the clip {clip.duration_s:.2f} s",
                "Correct --rate-hz; where rows were left out, save their times in an .npz.",
            )
    elif time_s is not None and time_s[-1] > clip.duration_s + slack_s:
        raise VAError(
            f"{file}: its last row is at {time_s[-1]:.2f} s, the clip lasts {clip.duration_s:.2f} s",
            "Times are in seconds from the clip's start.",
        )


def _match(directory: Path, corpus: Corpus) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Find each clip's file by its id, or by the id's portable form, and the files left over."""
    if not directory.is_dir():
        raise VAError(f"{directory}: is not a folder", "Give the folder that holds a .npy or .npz per clip.")
    there = {file.name: file for file in sorted(directory.iterdir()) if file.suffix in _SUFFIXES and file.is_file()}
    found: dict[str, Path] = {}
    for clip in corpus.clips:
        names = {f"{stem}{suffix}" for stem in (clip.id, files.safe_name(clip.id)) for suffix in _SUFFIXES}
        fitting = sorted(names & set(there))
        if len(fitting) > 1:
            raise VAError(f"{directory}: has {' and '.join(fitting)} of one clip", "Remove all but one.")
        if fitting:
            found[clip.id] = there[fitting[0]]
    if not found:
        raise VAError(f"{directory}: has no .npy or .npz named like a clip of the corpus", "Name the files by clip id.")
    used = {file.name for file in found.values()}
    return found, tuple(sorted(set(there) - used))


def _identity(config: ImportConfig, found: dict[str, Path]) -> dict[str, Any]:
    digest = hashlib.blake2b(digest_size=16)
    dim = None
    for clip_id, file in sorted(found.items()):
        digest.update(f"{clip_id}\0{Source.of(file).digest}\0".encode())
        if dim is None:
            try:
                dim = read(file, rate_hz=config.rate_hz or 1.0)[0].shape[1]
            except VAError:  # `run` reports it
                continue
    if dim is None:
        raise VAError(f"{config.directory}: none of {len(found)} files can be read", "Save arrays [rows, dim].")
    kind: Kind = config.kind
    sampling: dict[str, Any] = {"cell_s": timeline.CELL_S, "rate_hz": config.rate_hz}
    if kind == "audio":
        sampling |= {"window_s": float(config.window_s), "stride_s": float(config.stride_s)}
    return {
        "schema": SCHEMA,
        "encoder": config.name,
        "kind": kind,
        "dim": dim,
        "weights": "none",
        "preprocessing": {"files": digest.hexdigest()},
        "sampling": sampling,
        "compute_dtype": "unknown",
        "demo": False,
        "baseline": False,
        "imported": True,
    }
