"""A clip's labels and frame times beside the manifest: `labels/<clip>.npz`, arrays that are read without pickle."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from va import files
from va.data import decisions, npfiles
from va.errors import VAError

REMAKE: Final = "Make it again with 'va corpus synth', 'va corpus affwild2' or another adapter."
_SLACK_BYTES: Final = 1 << 20
"""Labels of a few more frames than the manifest has are an error of their own."""


def path_of(manifest: Path, clip_id: str, *, again: bool = False) -> Path:
    """Name a clip's sidecar; `again` for labels that were read again (`decisions.py`)."""
    return manifest.parent / (decisions.AGAIN if again else "labels") / f"{files.safe_name(clip_id)}.npz"


def check_names(ids: Sequence[str]) -> None:
    """Check that sidecars and features have names of their own where capital and small letters are one.

    Raises:
        VAError: Two have not, or one is no text.
    """
    names: dict[str, str] = {}
    for clip_id in ids:
        try:
            other = names.setdefault(files.safe_name(clip_id).lower(), clip_id)
        except ValueError:
            raise VAError(f"clip {clip_id!r} has a name that is not UTF-8", "Rename it.") from None
        if other != clip_id:
            raise VAError(
                f"clips '{other}' and '{clip_id}' differ in capital letters only, which some file systems do not tell "
                "apart",
                "Rename one of them.",
            )


def write(file: Path, *, time_s: NDArray[np.float64], va: NDArray[np.float32], valid: NDArray[np.bool_]) -> None:
    """Write a sidecar, whole or not at all; the arrays are those of `corpus.Truth`.

    Raises:
        VAError: It cannot be written.
    """
    with files.replacing(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, time_s=time_s, va=va, valid=valid)


def read(file: Path, *, clip_id: str, frames: int) -> dict[str, NDArray[Any]]:
    """Read a sidecar.

    Args:
        file: The sidecar.
        clip_id: Whose it is, for the errors.
        frames: How many the manifest says.

    Returns:
        `time_s` float64 [frames], `va` float32 [frames, 2] and `valid` bool [frames].

    Raises:
        VAError: It is missing, or does not fit the manifest.
    """
    wanted = {"time_s": (np.float64, (frames,)), "va": (np.float32, (frames, 2)), "valid": (np.bool_, (frames,))}
    try:
        found = npfiles.read(file, wanted=wanted, largest=8 * frames + _SLACK_BYTES)
        arrays = {name: found[name] for name in wanted}
    except Exception as error:  # NumPy, zipfile and zlib report damage as many types
        raise VAError(f"{file}: cannot be read as labels of clip '{clip_id}' ({error})", REMAKE) from None
    for name, (dtype, shape) in wanted.items():
        if arrays[name].dtype != dtype or arrays[name].shape != shape:
            raise VAError(f"{file}: '{name}' does not have the {frames} frames of '{clip_id}'", REMAKE)
    return arrays
