"""What happens to a face in front of a camera, apart from affect: motion, light, lens, gaze, talk and blinks.

All of it is nuisance, independent of the affect, except that blinks are a little more frequent with arousal.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from va.data.synthetic.affect import Floats, Smooth, inside, sample_stretches, smooth


@dataclass(frozen=True, kw_only=True)
class FrameState:
    """Everything besides identity and affect that one picture shows."""

    shift_x: float
    """Head position, parts of the frame, right positive."""
    shift_y: float
    zoom: float
    """Head size relative to the usual."""
    roll: float
    """In-plane rotation, radians."""
    turn_x: float
    """Shift of the inner features in the head: a small turn, units of half the face's height."""
    turn_y: float
    gaze_x: float
    gaze_y: float
    talk: float
    """Opening of the mouth by speech, 0 to 1."""
    blink: float
    """Closure of the lids, 0 to 1."""
    squint: float
    """Wandering of the lids' opening, standard normal."""
    light: float
    """Overall gain of brightness."""
    slope_x: float
    """Brightness difference across the frame relative to its mean."""
    slope_y: float
    cast: tuple[float, float, float]
    """Gain of red, green and blue."""
    blur_px: float
    """Standard deviation of the lens blur at a frame of 128 pixels."""
    noise: float
    """Standard deviation of the camera's noise, grey levels of 255."""
    face: bool
    """False: an empty background."""


@dataclass(frozen=True, eq=False)
class Scene:
    """The course of all nuisance over a clip, a function of time like the affect.

    Args:
        processes: Smooth processes by name.
        offsets: Constants by name.
        absent: float64 [K, 2], stretches without a face, seconds.
        blink_s: float64 [B], candidate blinks, seconds.
        blink_threshold: float64 [B] in 0..1: a candidate happens when the arousal then allows it.
    """

    processes: dict[str, Smooth]
    offsets: dict[str, float]
    absent: Floats
    blink_s: Floats
    blink_threshold: Floats

    def states(self, *, time_s: Floats, blink_arousal: Floats) -> list[FrameState]:
        """Evaluate the scene at frame times.

        Args:
            time_s: float64 [N], seconds.
            blink_arousal: float64 [B] in -1..1 at the times `blink_s`.

        Returns:
            One state per frame.

        Raises:
            ValueError: The lengths do not agree.
        """
        if len(blink_arousal) != len(self.blink_s):
            raise ValueError(f"{len(self.blink_s)} blinks, but {len(blink_arousal)} arousal values for them")
        column = {name: process(time_s) for name, process in self.processes.items()}
        offset = self.offsets
        blink = self._blinks(time_s, blink_arousal)
        face = ~inside(time_s, self.absent)
        talk = np.clip(0.25 + 0.35 * column["talk"], 0, 1)
        warm = offset["warm"] + 0.02 * column["warm"]
        return [
            FrameState(
                shift_x=offset["shift_x"] + 0.035 * column["shift_x"][i],
                shift_y=offset["shift_y"] + 0.03 * column["shift_y"][i],
                zoom=offset["zoom"] * (1 + 0.04 * column["zoom"][i]),
                roll=offset["roll"] + 0.09 * column["roll"][i],
                turn_x=0.06 * column["turn_x"][i],
                turn_y=0.04 * column["turn_y"][i],
                gaze_x=0.5 * column["gaze_x"][i],
                gaze_y=0.3 * column["gaze_y"][i],
                talk=float(talk[i]),
                blink=float(blink[i]),
                squint=column["squint"][i],
                light=offset["light"] * (1 + 0.08 * column["light"][i]),
                slope_x=offset["slope_x"] + 0.1 * column["slope_x"][i],
                slope_y=offset["slope_y"] + 0.1 * column["slope_y"][i],
                cast=(1 + warm[i], 1 + offset["tint"], 1 - warm[i]),
                blur_px=offset["blur"],
                noise=offset["noise"],
                face=bool(face[i]),
            )
            for i in range(len(time_s))
        ]

    def _blinks(self, time_s: Floats, blink_arousal: Floats) -> Floats:
        happens = self.blink_threshold < 0.45 * 2 ** (0.8 * blink_arousal)
        start_s = self.blink_s[happens]
        if not len(start_s):
            return np.zeros(len(time_s))
        closure = 1.25 - np.abs(time_s[:, None] - start_s[None, :]) / 0.1
        shut: NDArray[np.float64] = np.clip(closure.max(axis=1), 0, 1)
        return shut


def sample_scene(rng: np.random.Generator, *, seconds: float, absent_fraction: float) -> Scene:
    """Draw the nuisance of one clip.

    Args:
        rng: Source of the draws.
        seconds: Length of the clip.
        absent_fraction: Expected share of time without a face, 0 to 1.

    Returns:
        The scene.
    """
    slow = ("light", "slope_x", "slope_y", "warm", "zoom", "squint")
    medium = ("shift_x", "shift_y", "roll", "turn_x", "turn_y")
    fast = ("gaze_x", "gaze_y")
    processes = {name: smooth(rng, shortest_s=6.0, longest_s=40.0) for name in slow}
    processes |= {name: smooth(rng, shortest_s=2.0, longest_s=15.0) for name in medium}
    processes |= {name: smooth(rng, shortest_s=1.0, longest_s=6.0) for name in fast}
    processes["talk"] = smooth(rng, shortest_s=0.2, longest_s=0.8)
    offsets = {
        "shift_x": rng.uniform(-0.06, 0.06),
        "shift_y": rng.uniform(-0.04, 0.06),
        "zoom": rng.uniform(0.94, 1.08),
        "roll": rng.normal(0, 0.05),
        "light": rng.uniform(0.65, 1.15),
        "slope_x": rng.uniform(-0.35, 0.35),
        "slope_y": rng.uniform(-0.25, 0.25),
        "warm": rng.uniform(-0.12, 0.12),
        "tint": rng.uniform(-0.05, 0.05),
        "blur": rng.uniform(0.2, 0.9),
        "noise": rng.uniform(1.5, 7.0),
    }
    candidates = rng.poisson(seconds * 0.6)
    return Scene(
        processes=processes,
        offsets=offsets,
        absent=sample_stretches(rng, seconds=seconds, fraction=absent_fraction, shortest_s=0.6, longest_s=1.8),
        blink_s=rng.uniform(0, seconds, candidates),
        blink_threshold=rng.uniform(0, 1, candidates),
    )
