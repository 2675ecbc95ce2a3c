"""One synthetic clip as a value: from a seed and two indices to labels, pictures and sound, without any file."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from va.data.synthetic.affect import (
    CORPUS_STREAM,
    AffectTrack,
    Floats,
    generator,
    inside,
    sample_affect,
    sample_stretches,
    smooth,
)
from va.data.synthetic.face import Image, draw_frame
from va.data.synthetic.person import Person, sample_person
from va.data.synthetic.scene import Scene, sample_scene
from va.data.synthetic.style import Style, hoarse
from va.data.synthetic.voice import synthesise_voice

FRAME_RATES: Final = (Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30), None)
"""Frames per second that clips cycle through; None is a variable rate about 27."""

TICKS_HZ: Final = 90000
"""Clock of the presentation times; all rates above are exact or rounded to it."""

FRAME_SIZE: Final = 128
SOUND_RATE_HZ: Final = 44100
NO_LABEL: Final = -5.0

_PERSON, _AFFECT, _SCENE, _NOISE, _VOICE, _LABELS, _CLOCK, _EXPRESSION = range(8)
_EXPRESSION_NOISE: Final = 0.35
"""How far expression strays from affect for a moment, standard deviation in valence/arousal units: no single frame
tells the truth, and a model that looks around it gains, as with real people."""
_AFFECT_RATE_HZ: Final = 25.0


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """What a clip depends on, and nothing else does.

    Args:
        seed: The corpus's seed, 0 or more.
        index: Number of the clip in the corpus.
        identity: Number of the person.
        seconds: Length.
        rate: Frames per second, or None for a variable rate.
        style: How it looks and sounds; nothing else depends on it.
    """

    seed: int
    index: int
    identity: int
    seconds: float
    rate: Fraction | None
    style: Style = "cartoon"

    def rng(self, kind: int) -> np.random.Generator:
        """Make the generator of one aspect of this clip."""
        return generator(stream=CORPUS_STREAM, seed=self.seed, keys=(kind, self.index))

    @property
    def person(self) -> Person:
        """The person in the clip, the same in every clip of the identity."""
        return sample_person(generator(stream=CORPUS_STREAM, seed=self.seed, keys=(_PERSON, self.identity)))

    @property
    def affect(self) -> AffectTrack:
        """The true valence and arousal at any time."""
        return sample_affect(self.rng(_AFFECT))

    def expressed(self, time_s: Floats) -> Floats:
        """What face and voice show at some times: the affect with momentary strays, float64 [N, 2] in [-1, 1]."""
        rng = self.rng(_EXPRESSION)
        strays = np.stack([smooth(rng, shortest_s=0.8, longest_s=3.0)(time_s) for _ in range(2)], axis=1)
        shown: Floats = np.clip(self.affect(time_s) + _EXPRESSION_NOISE * strays, -1, 1)
        return shown

    @property
    def scene(self) -> Scene:
        """Motion, light and so on."""
        return sample_scene(self.rng(_SCENE), seconds=self.seconds, absent_fraction=0.03)


def frame_ticks(spec: ClipSpec) -> NDArray[np.int64]:
    """Compute the presentation times of a clip's frames.

    Args:
        spec: The clip.

    Returns:
        int64 [F], strictly increasing from 0, in ticks of 1 / 90000 s.
    """
    if spec.rate is not None:
        count = round(spec.seconds * spec.rate)
        return np.array([round(i * TICKS_HZ / spec.rate) for i in range(count)], dtype=np.int64)
    count = round(spec.seconds * 27)
    jitter = spec.rng(_CLOCK).uniform(-0.35, 0.35, count)
    jitter[:1] = 0
    ticks: NDArray[np.int64] = np.rint((np.arange(count) + jitter) * TICKS_HZ / 27).astype(np.int64)
    return ticks


def frame_labels(spec: ClipSpec) -> Floats:
    """Compute a clip's annotation as it is written.

    Args:
        spec: The clip.

    Returns:
        float64 [F, 2], valence and arousal in [-1, 1] rounded to 3 decimals; -5 in both where unlabelled.
    """
    time_s = frame_ticks(spec) / TICKS_HZ
    labels = np.round(spec.affect(time_s), 3)
    gaps = sample_stretches(spec.rng(_LABELS), seconds=spec.seconds, fraction=0.025, shortest_s=0.3, longest_s=1.2)
    labels[inside(time_s, gaps)] = NO_LABEL
    return labels


def render_frames(spec: ClipSpec) -> Iterator[Image]:
    """Draw a clip's frames one by one.

    Args:
        spec: The clip.

    Yields:
        uint8 [128, 128, 3], RGB, one per presentation time.
    """
    time_s = frame_ticks(spec) / TICKS_HZ
    person, scene, noise = spec.person, spec.scene, spec.rng(_NOISE)
    values = spec.expressed(time_s)
    blink_arousal = spec.expressed(scene.blink_s)[:, 1]
    states = scene.states(time_s=time_s, blink_arousal=blink_arousal)
    for (valence, arousal), state in zip(values.tolist(), states, strict=True):
        yield draw_frame(
            person, valence=valence, arousal=arousal, state=state, size=FRAME_SIZE, rng=noise, style=spec.style
        )


def render_sound(spec: ClipSpec, *, rate_hz: int) -> NDArray[np.float32]:
    """Make a clip's sound.

    Args:
        spec: The clip.
        rate_hz: Samples per second, a multiple of 100.

    Returns:
        float32 [round(seconds * rate_hz)] in (-1, 1), mono.
    """
    rng = spec.rng(_VOICE)
    silences = sample_stretches(rng, seconds=spec.seconds, fraction=0.065, shortest_s=0.8, longest_s=2.5)
    grid_s = np.arange(int(spec.seconds * _AFFECT_RATE_HZ) + 2) / _AFFECT_RATE_HZ
    person = spec.person if spec.style == "cartoon" else replace(spec.person, voice=hoarse(spec.person.voice))
    return synthesise_voice(
        person,
        affect=spec.expressed(grid_s),
        affect_rate_hz=_AFFECT_RATE_HZ,
        silences=silences,
        seconds=spec.seconds,
        rate_hz=rate_hz,
        rng=rng,
    )
