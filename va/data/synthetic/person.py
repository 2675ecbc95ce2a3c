"""Who is in a synthetic clip: the traits of a face and of a voice that stay the same over all their clips.

Identity is nuisance here: nothing about a person says anything about valence or arousal.
"""

import colorsys
from dataclasses import dataclass
from typing import Final

import numpy as np

Colour = tuple[int, int, int]

_SKINS: Final = (
    (250, 220, 196),
    (241, 198, 165),
    (226, 172, 130),
    (198, 138, 96),
    (160, 104, 70),
    (120, 76, 50),
    (90, 58, 42),
)
_HAIRS: Final = (
    (32, 26, 24),
    (70, 44, 28),
    (120, 74, 38),
    (196, 150, 82),
    (150, 62, 30),
    (150, 150, 154),
    (84, 60, 96),
)
HAIR_STYLES: Final = ("bald", "short", "side", "long", "bob", "curly", "bun")


@dataclass(frozen=True, kw_only=True)
class FaceTraits:
    """The constant looks of a person; lengths in units of half the face's height, colours RGB 0..255."""

    skin: Colour
    hair: Colour
    iris: Colour
    lips: Colour
    shirt: Colour
    background: tuple[Colour, Colour]
    clutter: tuple[tuple[float, float, float, float, Colour], ...]
    """Background rectangles: centre x, y and half sizes as parts of the frame, colour."""
    hair_style: str
    fringe: float
    glasses: float
    """0 without, else the radius of a lens."""
    moustache: bool
    half_width: float
    jaw: float
    """Exponent of the lower head outline: 2 is an ellipse, more is squarer."""
    eye_distance: float
    eye_size: float
    eye_rest: float
    """Resting eye opening relative to the usual."""
    brow_height: float
    brow_weight: float
    brow_rest: float
    nose_length: float
    nose_width: float
    mouth_width: float
    mouth_height: float
    mouth_rest: float
    """Resting curvature of the mouth, in units of valence."""
    lip_weight: float
    blush_rest: float


@dataclass(frozen=True, kw_only=True)
class VoiceTraits:
    """The constant sound of a person."""

    pitch_hz: float
    tract: float
    """Scale of all formant frequencies."""
    syllables_hz: float
    tilt_db: float
    """Offset of the spectral slope, dB per octave."""
    breath: float
    """Share of noise in voiced sound, 0 to 1."""
    accent_semitones: float


@dataclass(frozen=True, kw_only=True)
class Person:
    """One identity: a face and a voice."""

    face: FaceTraits
    voice: VoiceTraits


def _near(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    jittered = np.clip(np.asarray(colour) + rng.normal(0, spread, 3), 8, 250)
    return int(jittered[0]), int(jittered[1]), int(jittered[2])


def _any_colour(rng: np.random.Generator, *, saturation: float, low: float, high: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(rng.uniform(), rng.uniform(0.1, saturation), rng.uniform(low, high))
    return int(255 * red), int(255 * green), int(255 * blue)


def _mix(first: Colour, second: tuple[int, ...], share: float) -> Colour:
    mixed = [round(a + (b - a) * share) for a, b in zip(first, second, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def _sample_face(rng: np.random.Generator) -> FaceTraits:
    skin = _near(rng, _SKINS[rng.integers(len(_SKINS))], 6)
    return FaceTraits(
        skin=skin,
        hair=_near(rng, _HAIRS[rng.integers(len(_HAIRS))], 8),
        iris=_any_colour(rng, saturation=0.6, low=0.2, high=0.6),
        lips=_mix(skin, (176, 52, 62), rng.uniform(0.35, 0.8)),
        shirt=_any_colour(rng, saturation=0.8, low=0.25, high=0.95),
        background=(
            _any_colour(rng, saturation=0.5, low=0.3, high=0.95),
            _any_colour(rng, saturation=0.5, low=0.3, high=0.95),
        ),
        clutter=tuple(
            (
                rng.uniform(0, 1),
                rng.uniform(0, 1),
                rng.uniform(0.05, 0.2),
                rng.uniform(0.05, 0.2),
                _any_colour(rng, saturation=0.6, low=0.2, high=0.95),
            )
            for _ in range(int(rng.integers(1, 5)))
        ),
        hair_style=HAIR_STYLES[rng.integers(len(HAIR_STYLES))],
        fringe=rng.uniform(0.0, 0.18),
        glasses=rng.uniform(0.23, 0.29) if rng.uniform() < 0.25 else 0.0,
        moustache=bool(rng.uniform() < 0.15),
        half_width=rng.uniform(0.7, 0.86),
        jaw=rng.uniform(1.8, 2.7),
        eye_distance=rng.uniform(0.3, 0.38),
        eye_size=rng.uniform(0.85, 1.15),
        eye_rest=rng.uniform(0.82, 1.18),
        brow_height=rng.uniform(0.3, 0.38),
        brow_weight=rng.uniform(0.035, 0.07),
        brow_rest=rng.normal(0, 0.02),
        nose_length=rng.uniform(0.22, 0.34),
        nose_width=rng.uniform(0.07, 0.13),
        mouth_width=rng.uniform(0.27, 0.37),
        mouth_height=rng.uniform(0.5, 0.58),
        mouth_rest=rng.normal(0, 0.1),
        lip_weight=rng.uniform(0.035, 0.065),
        blush_rest=rng.uniform(0.0, 0.25),
    )


def _sample_voice(rng: np.random.Generator) -> VoiceTraits:
    height = rng.uniform(-1, 1)
    return VoiceTraits(
        pitch_hz=150.0 * 2 ** (0.65 * height + rng.normal(0, 0.12)),
        tract=1.0 + 0.11 * height + rng.normal(0, 0.03),
        syllables_hz=rng.uniform(3.6, 4.8),
        tilt_db=rng.normal(0, 1.0),
        breath=rng.uniform(0.05, 0.25),
        accent_semitones=rng.uniform(0.6, 1.4),
    )


def sample_person(rng: np.random.Generator) -> Person:
    """Draw a person.

    Args:
        rng: Source of the draws.

    Returns:
        The face and voice of one identity.
    """
    return Person(face=_sample_face(rng), voice=_sample_voice(rng))
