"""The hidden truth of a synthetic clip: random streams, smooth processes and the valence/arousal trajectory.

Everything that varies in time is a `Smooth` process, a function of seconds: frames, sound and labels ask
the same function at their own times, so a clip's frame rate cannot change what happens in it.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CORPUS_STREAM: Final = 0
"""First spawn key of every generator behind `write_tree`."""

ENCODER_STREAM: Final = 1
"""First spawn key reserved for training the demo encoders.

Seed sequences with different spawn keys never coincide, whatever the seed, so no person, scene or voice
that an encoder was trained on can turn up in a corpus.
"""


def generator(*, stream: int, seed: int, keys: tuple[int, ...]) -> np.random.Generator:
    """Make the generator of one thing, independent of all others and of the order of drawing.

    Args:
        stream: `CORPUS_STREAM` or `ENCODER_STREAM`.
        seed: The user's seed, 0 or more.
        keys: What the numbers are for: a kind and its indices, each 0 or more.

    Returns:
        A new PCG64 generator.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream, *keys)))


@dataclass(frozen=True, eq=False)
class Smooth:
    """A band-limited random function of time: a sum of cosines, about standard normal over time.

    Args:
        frequency_hz: float64 [K].
        phase: float64 [K], radians.
        amplitude: float64 [K]; half the sum of squares is the variance.
    """

    frequency_hz: Floats
    phase: Floats
    amplitude: Floats

    def __call__(self, time_s: Floats) -> Floats:
        """Evaluate at any times.

        Args:
            time_s: float64 [N], seconds.

        Returns:
            float64 [N], without unit.
        """
        angle = 2 * math.pi * np.outer(time_s, self.frequency_hz) + self.phase
        values: Floats = np.cos(angle) @ self.amplitude
        return values


def smooth(rng: np.random.Generator, *, shortest_s: float, longest_s: float) -> Smooth:
    """Draw a band-limited process with periods between two limits.

    Args:
        rng: Source of the draws.
        shortest_s: Shortest period, seconds.
        longest_s: Longest period, seconds.

    Returns:
        A process of mean 0 and variance 1 over many draws.
    """
    count = 10
    frequency_hz = np.exp(rng.uniform(-math.log(longest_s), -math.log(shortest_s), count))
    amplitude = rng.uniform(0.5, 1.0, count)
    amplitude *= math.sqrt(2 / float(amplitude @ amplitude))
    return Smooth(frequency_hz, rng.uniform(0, 2 * math.pi, count), amplitude)


def uniform_from_normal(value: Floats) -> Floats:
    """Map about standard-normal values to about uniform ones in (-1, 1), keeping their order.

    Args:
        value: float64 [N].

    Returns:
        float64 [N] in (-1, 1); the logistic approximation of the normal distribution function.
    """
    squashed: Floats = np.tanh(0.7978845608 * (value + 0.044715 * value**3))
    return squashed


@dataclass(frozen=True, eq=False)
class AffectTrack:
    """The true valence and arousal of a clip at any time; the two are independent.

    Args:
        valence: Process behind valence.
        arousal: Process behind arousal.
    """

    valence: Smooth
    arousal: Smooth

    def __call__(self, time_s: Floats) -> Floats:
        """Evaluate at any times.

        Args:
            time_s: float64 [N], seconds.

        Returns:
            float64 [N, 2], valence and arousal in (-1, 1).
        """
        pair = np.stack([self.valence(time_s), self.arousal(time_s)], axis=1)
        return uniform_from_normal(pair)


def sample_affect(rng: np.random.Generator) -> AffectTrack:
    """Draw a trajectory that covers the valence-arousal square and changes over several seconds.

    Args:
        rng: Source of the draws.

    Returns:
        The trajectory.
    """
    return AffectTrack(
        valence=smooth(rng, shortest_s=5.0, longest_s=40.0), arousal=smooth(rng, shortest_s=5.0, longest_s=40.0)
    )


def sample_stretches(
    rng: np.random.Generator, *, seconds: float, fraction: float, shortest_s: float, longest_s: float
) -> Floats:
    """Draw stretches of time that cover a fraction of a clip on average.

    Args:
        rng: Source of the draws.
        seconds: Length of the clip.
        fraction: Expected share of the clip inside a stretch (where stretches do not overlap), 0 to 1.
        shortest_s: Shortest stretch, seconds.
        longest_s: Longest stretch, seconds.

    Returns:
        float64 [K, 2], start and end in seconds, ends exclusive; K may be 0.
    """
    expected = fraction * seconds / (0.5 * (shortest_s + longest_s))
    count = int(expected + rng.uniform())
    length_s = rng.uniform(shortest_s, longest_s, count)
    start_s = rng.uniform(0, 1, count) * np.maximum(seconds - length_s, 0)
    return np.stack([start_s, start_s + length_s], axis=1)


def inside(time_s: Floats, stretches: Floats) -> NDArray[np.bool_]:
    """Say which times lie in any stretch.

    Args:
        time_s: float64 [N], seconds.
        stretches: float64 [K, 2], start (inclusive) and end (exclusive), seconds.

    Returns:
        bool [N].
    """
    after = time_s[:, None] >= stretches[None, :, 0]
    before = time_s[:, None] < stretches[None, :, 1]
    hit: NDArray[np.bool_] = np.logical_or.reduce(after & before, axis=1)
    return hit
