"""Made-up predictions for a video, for tests of the player's page."""

from pathlib import Path
from typing import Any

import numpy as np

from va.data import timeline
from va.data.regions import CENTERS, REGION_TEXTS
from va.evaluate.player_data import PlayerData


def make_data(*, duration_s: float = 6.0, **changed: Any) -> PlayerData:
    """Sinusoidal valence and arousal, a box that moves, no face in cells 4 and 5, no sound in cell 7.

    Args:
        duration_s: Length in seconds.
        changed: Entries to replace.
    """
    count = timeline.num_cells(duration_s)
    time_s = timeline.cell_centers(count)
    va = np.stack([0.8 * np.sin(time_s), 0.6 * np.cos(time_s / 2)], axis=1)
    centers = np.array([(valence, arousal) for valence in CENTERS for arousal in CENTERS])
    near = np.exp(-((va[:, None] - centers) ** 2).sum(axis=2) / 0.3)
    has_face, has_sound = np.ones(count, dtype=bool), np.ones(count, dtype=bool)
    has_face[4:6], has_sound[7:8] = False, False
    left, top = 0.2 + 0.05 * time_s, 0.3 - 0.02 * time_s
    boxes = np.where(has_face[:, None], np.stack([left, top, left + 0.3, top + 0.5], axis=1), np.nan)
    data = PlayerData(
        title="a video",
        video=None,
        duration_s=duration_s,
        width=128,
        height=64,
        cell_time_s=time_s,
        va=va,
        smoothed=None,
        windows_s=None,
        regions=near / near.sum(axis=1, keepdims=True),
        gate=0.5 + 0.4 * np.sin(time_s),
        boxes=boxes,
        has_face=has_face,
        has_sound=has_sound,
        centers=centers,
        region_texts=REGION_TEXTS,
        source="run",
        model="a run",
        is_demo=False,
        notes=[],
        provenance=[("run", "a run"), ("seed", "7")],
    )
    return PlayerData(**{**data, **changed})  # type: ignore[typeddict-item]


def write(data: PlayerData, out: Path, video: Any) -> Path:
    """Write a page."""
    from va.evaluate.pages.player import write_player

    return write_player(data, out, video=video, progress=lambda done, total, what: None)
