"""Predictions as files: `predictions.csv` for spreadsheets and scripts, `predictions.h5` for arrays.

Names of clips come from outside. In the CSV one that a spreadsheet would run as a formula (it begins with `=`, `+`,
`-`, `@`, a tab or a carriage return) gets an apostrophe in front, which spreadsheets do not show; in the HDF5 a group's
name is portable (`files.safe_name`) and its attribute `clip` has the name as it is. Neither file holds a time of
writing: the same predictions give the same bytes.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from va import files
from va.data import hdf5
from va.evaluate.figures import ClipTrack
from va.evaluate.protocol import ClipFrames

SCHEMA: Final = 1
_COLUMNS: Final = ("clip", "frame", "time_s", "valence", "arousal", "label_valence", "label_arousal")
_SMOOTHED: Final = ("smoothed_valence", "smoothed_arousal")

_UNITS: Final = {
    "time_s": "s, presentation time of each annotated frame",
    "prediction": "valence, arousal in [-1, 1]; NaN where there is none",
    "smoothed": "valence, arousal in [-1, 1]; NaN where there is none",
    "label": "valence, arousal in [-1, 1]; NaN where not valid",
    "valid": "the label is one",
    "filled": "the prediction is not the frame's own",
    "cell_time_s": "s, centre of each half-second cell",
    "regions": "probabilities",
    "gate": "share of the sound, 0 to 1",
}


def write_csv(path: Path, clips: Sequence[ClipFrames], smoothed: Sequence[ClipFrames] | None) -> None:
    """Write every annotated frame: empty cells where there is no label or no prediction.

    Args:
        path: The file, whole or absent.
        clips: Raw.
        smoothed: The same clips smoothed, or None for a file without those two columns.

    Raises:
        VAError: It cannot be written.
    """
    columns = (*_COLUMNS, *(_SMOOTHED if smoothed is not None else ()))
    # A lone surrogate, from a file name that is not UTF-8, has no place in UTF-8 text.
    with files.replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="replace", newline="") as out:
        out.write(",".join(columns) + "\n")
        for index, clip in enumerate(clips):
            parts = [
                _texts(clip.prediction, clip.covered, "{:.5f},{:.5f}"),
                _texts(clip.target, clip.valid, "{:.4f},{:.4f}"),
            ]
            if smoothed is not None:
                parts.append(_texts(smoothed[index].prediction, smoothed[index].covered, "{:.5f},{:.5f}"))
            name = _quoted(files.safe_cell(clip.id))
            times = enumerate(clip.time_s.tolist(), start=1)
            out.writelines(
                f"{name},{frame},{time_s:.4f},{','.join(cells)}\n"
                for (frame, time_s), *cells in zip(times, *parts, strict=True)
            )


def write_hdf5(
    path: Path, tracks: Sequence[ClipTrack], frames: Sequence[ClipFrames], attributes: Mapping[str, Any]
) -> None:
    """Write a group per clip with its arrays, each with its unit as an attribute.

    Args:
        path: The file, whole or absent.
        tracks: The clips.
        frames: The same clips' raw predictions, for which are filled.
        attributes: Of the file: texts, numbers, and mappings, which are stored as JSON.

    Raises:
        VAError: It cannot be written.
    """
    with files.replacing(path) as temporary, hdf5.Writing(temporary) as writing:
        _describe(writing.file, {"schema": SCHEMA, **attributes})
        for track, clip in zip(tracks, frames, strict=True):
            group = writing.file.create_group(files.safe_name(track["id"]))
            _describe(group, {"clip": track["id"], "duration_s": track["duration_s"]})
            for name, values in _arrays(track, clip).items():
                group.create_dataset(name, data=values).attrs["unit"] = hdf5.text(_UNITS[name])
            writing.check()


def _arrays(track: ClipTrack, clip: ClipFrames) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {
        "time_s": track["time_s"],
        "prediction": track["prediction"].astype(np.float32),
        "label": np.where(track["valid"][:, None], track["target"], np.nan).astype(np.float32),
        "valid": track["valid"],
        "filled": clip.filled,
        "cell_time_s": track["cell_time_s"],
        "gate": track["gate"].astype(np.float32),
    }
    if track["regions"] is not None:
        found["regions"] = track["regions"].astype(np.float32)
    if track["smoothed"] is not None:
        found["smoothed"] = track["smoothed"].astype(np.float32)
    return found


def _describe(item: Any, attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        if isinstance(value, Mapping):
            value = json.dumps(value, sort_keys=True)
        item.attrs[name] = hdf5.text(value.encode(errors="replace").decode()) if isinstance(value, str) else value


def _texts(values: NDArray[np.float64], there: NDArray[np.bool_], form: str) -> list[str]:
    return [form.format(*pair) if kept else "," for pair, kept in zip(values.tolist(), there.tolist(), strict=True)]


def _quoted(name: str) -> str:
    """Write a name as the csv module does, once per clip."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow([name])  # what is quoted depends on what ends a line
    return text.getvalue().removesuffix("\r\n")
