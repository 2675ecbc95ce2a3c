"""What the charts of an evaluation report are drawn from, as JSON: clips packed small, the plane, the diagnostics.

A split has millions of frames, and a page must open at once: each clip's series are quantised, coded as differences
and compressed, one base64 text per clip, which `templates/clips.js` decodes when the clip is chosen.
"""

import base64
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from va.evaluate.figures import Bools, ClipTrack, Floats, Plane, ReportFigures

TIME_UNIT_S: Final = 1e-4
"""Resolution of packed times."""

UNIT: Final = 1e-4
"""Resolution of packed values, unless a clip has values beyond +-3.2: then as fine as 16 bits allow."""

GAP: Final = -32768
"""The packed value that stands for "nothing here"."""

COLUMNS: Final = ("ccc_valence", "ccc_arousal", "ccc_mean", "mae_mean", "rmse_mean")
"""A clip's own figures, in the order of the table's columns."""


def chart_data(figures: ReportFigures, order: Sequence[int]) -> dict[str, object]:
    """Everything that the page's scripts read.

    Args:
        figures: Of the page.
        order: Of the clips in it, by index: where the table has them without a script.

    Returns:
        A value for `markup.script_json`.
    """
    shares = [clip["regions"] for clip in figures["clips"] if clip["regions"] is not None]
    tops = [float(np.nanmax(found)) for found in shares if np.isfinite(found).any()]
    lag, over_time = figures["lag"], figures["over_time"]
    return {
        "clips": [_clip(figures["clips"][index]) for index in order],
        "time_unit": TIME_UNIT_S,
        "gap": GAP,
        # One scale for all clips, so that they can be compared.
        "region_top": math.ceil(10 * max(tops, default=1.0)) / 10,
        "plane": _plane(figures["plane"]),
        "calibration": {name: _four_digits(found) for name, found in figures["calibration"].items()},
        "over_time": over_time and _four_digits(over_time),
        "lag": lag and _four_digits(lag),
    }


def stretches(marked: Bools, time_s: Floats, end_s: float) -> list[tuple[float, float]]:
    """Runs of marked frames as stretches of time.

    Args:
        marked: [F].
        time_s: Of each frame, [F] s.
        end_s: Where the last frame ends.

    Returns:
        (from, to) in seconds: each run lasts until the next frame that is not marked.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marked, [False]])))
    ends_s = np.append(time_s, max(end_s, *time_s[-1:]) if len(time_s) else end_s)
    return [(float(ends_s[first]), float(ends_s[after])) for first, after in zip(edges[::2], edges[1::2], strict=True)]


def region_labels(texts: Sequence[str]) -> list[str]:
    """Short names for the charts: "sad, tired, and low-energy" -> "sad". The page lists the whole texts.

    Args:
        texts: Of the regions.
    """
    return [re.split(r",| and ", words)[0].strip()[:16] for words in texts]


def _clip(clip: ClipTrack) -> dict[str, object]:
    """A clip as the scripts read it: what is sorted by, stretches, and its series packed."""
    series = [np.where(clip["valid"][:, None], clip["target"], np.nan), clip["prediction"]]
    if clip["smoothed"] is not None:
        series.append(clip["smoothed"])
    # frames first, one column after the other, then the regions' columns and the gate
    cells = [] if clip["regions"] is None else list(clip["regions"].T)
    columns = [values.T.ravel() for values in series] + [*cells, clip["gate"]]
    values = np.concatenate(columns).astype(np.float64)
    unit = max([UNIT, *(np.abs(values[np.isfinite(values)]).max(initial=0.0)[None] / 32767)])
    lengths = [len(clip["time_s"])] * (2 * len(series)) + [len(clip["cell_time_s"])] * (len(cells) + 1)
    return {
        "id": clip["id"],
        "sort": [clip["duration_s"], clip["labelled"], *(clip["metrics"][name] for name in COLUMNS)],
        "frames": len(clip["time_s"]),
        "cells": len(clip["cell_time_s"]),
        "smoothed": clip["smoothed"] is not None,
        "end": round(clip["duration_s"], 3),
        "unit": float(unit),
        "no_label": _rounded(stretches(~clip["valid"], clip["time_s"], clip["duration_s"])),
        "no_face": _rounded(clip["no_face"]),
        "no_sound": _rounded(clip["no_sound"]),
        "packed": pack([clip["time_s"], clip["cell_time_s"]], values, lengths=lengths, unit=float(unit)),
    }


def pack(times: Sequence[Floats], values: Floats, *, lengths: Sequence[int], unit: float) -> str:
    """Pack series for `templates/clips.js`.

    Each series is rounded to its unit, and coded as the first value followed by the differences, which wrap around in
    its integer type: neighbours are alike, so they compress well. Rounding comes first, so no error adds up.

    Args:
        times: Series of times in seconds, stored as int32 in units of `TIME_UNIT_S`.
        values: All series of values, one after the other, stored as int16 in units of `unit`; what is not finite is
            stored as `GAP`.
        lengths: Of each series in `values`.
        unit: Such that no value is beyond 32767 of it.

    Returns:
        Base64 of the zlib stream.
    """
    found = np.isfinite(values)
    whole = np.where(found, np.round(np.where(found, values, 0.0) / unit), GAP).astype("<i2")
    parts = [np.diff(np.round(series / TIME_UNIT_S).astype("<i4"), prepend=np.int32(0)) for series in times]
    parts += [np.diff(series, prepend=np.int16(0)) for series in np.split(whole, np.cumsum(lengths)[:-1])]
    return base64.b64encode(zlib.compress(b"".join(part.tobytes() for part in parts), 9)).decode("ascii")


def _rounded(found: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(round(first, 3), round(last, 3)) for first, last in found]


def _plane(plane: Plane) -> dict[str, object]:
    """The plane as the charts draw it: boundaries halfway between centres, labels at their regions' tops."""
    centers = np.asarray(plane["centers"], dtype=np.float64)
    splits = [np.unique(centers[:, axis]) for axis in range(2)]
    splits = [(values[1:] + values[:-1]) / 2 for values in splits]
    tops = np.append(splits[1], 1.0)
    densities: list[npt.NDArray[np.float64]] = [plane["density_target"], plane["density_prediction"]]
    return {
        "centers": centers,
        "texts": list(plane["region_texts"]),
        "labels": region_labels(plane["region_texts"]),
        "label_at": [(valence, tops[np.searchsorted(splits[1], arousal)]) for valence, arousal in centers],
        "valence_splits": splits[0],
        "arousal_splits": splits[1],
        "edges": plane["edges"],
        # Nothing there is drawn as nothing, not as the palest colour.
        "densities": [np.where(found > 0, found, np.nan).round(7) for found in densities],
        "top": max([0.0, *(float(found.max()) for found in densities if found.size)]),
    }


def _four_digits(found: Mapping[str, object]) -> dict[str, object]:
    return {name: np.round(np.asarray(values), 4) for name, values in found.items()}
