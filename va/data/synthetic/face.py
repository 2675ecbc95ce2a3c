"""Draws a person's face with a given valence and arousal: a cartoon, but seen through a real camera's faults.

Valence shows in the mouth, the cheeks and the inner brows; arousal only faintly, in how wide the eyes are.
NumPy and OpenCV only, so that whoever needs pictures needs no video library.
"""

import math
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from va.data.synthetic.affect import Floats
from va.data.synthetic.person import Colour, FaceTraits, Person, _mix
from va.data.synthetic.scene import FrameState
from va.data.synthetic.style import Style, board, chalk

Image = NDArray[np.uint8]

_ANGLE: Final = np.linspace(0, 2 * math.pi, 28, endpoint=False)
_CIRCLE: Final = np.stack([np.cos(_ANGLE), np.sin(_ANGLE)], axis=1)
_ARC: Final = np.linspace(-1, 1, 9)
_SHIFT: Final = 4


class _Pen:
    """Draws polygons given in face coordinates (unit: half the face's height, y down) on an image."""

    def __init__(self, image: Image, state: FrameState) -> None:
        size = image.shape[0]
        self.image = image
        self.unit_px = 0.33 * size * state.zoom
        cos, sin = math.cos(state.roll) * self.unit_px, math.sin(state.roll) * self.unit_px
        self.matrix = np.array([[cos, sin], [-sin, cos]])
        self.origin = np.array([(0.5 + state.shift_x) * size, (0.5 + state.shift_y) * size])

    def _pixels(self, points: Floats) -> NDArray[np.int32]:
        pixels: NDArray[np.int32] = np.rint((points @ self.matrix + self.origin) * (1 << _SHIFT)).astype(np.int32)
        return pixels

    def fill(self, points: Floats, colour: Colour) -> None:
        """Paint an area."""
        cv2.fillPoly(self.image, [self._pixels(points)], colour, cv2.LINE_AA, _SHIFT)

    def oval(self, x: float, y: float, half_x: float, half_y: float, colour: Colour) -> None:
        self.fill(_CIRCLE * (half_x, half_y) + (x, y), colour)

    def line(self, points: Floats, weight: float, colour: Colour, *, closed: bool) -> None:
        """Paint a line; `weight` is its width."""
        width = max(1, round(weight * self.unit_px))
        cv2.polylines(self.image, [self._pixels(points)], closed, colour, width, cv2.LINE_AA, _SHIFT)


class _Chalk(_Pen):
    """Draws outlines only; the board shows inside them, and what is behind is wiped away."""

    def __init__(self, image: Image, state: FrameState) -> None:
        super().__init__(image, state)
        self.board = image.copy()

    def fill(self, points: Floats, colour: Colour) -> None:
        """Wipe an area and draw its outline."""
        inside = np.zeros(self.image.shape[:2], np.uint8)
        cv2.fillPoly(inside, [self._pixels(points)], 255, cv2.LINE_8, _SHIFT)
        cv2.copyTo(self.board, inside, self.image)
        self.line(points, 0.0, colour, closed=True)

    def line(self, points: Floats, weight: float, colour: Colour, *, closed: bool) -> None:
        """Draw a line as thin as it can be."""
        super().line(points, 0.0, chalk(colour), closed=closed)


@lru_cache(maxsize=4)
def _background(face: FaceTraits, size: int) -> Image:
    top, bottom = (np.asarray(colour, dtype=np.float32) for colour in face.background)
    share = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    image = np.repeat((top + (bottom - top) * share).astype(np.uint8), size, axis=1)
    for x, y, half_x, half_y, colour in face.clutter:
        corner, other = (x - half_x, y - half_y), (x + half_x, y + half_y)
        first = (round(corner[0] * size), round(corner[1] * size))
        cv2.rectangle(image, first, (round(other[0] * size), round(other[1] * size)), colour, cv2.FILLED)
    return image


def _head_outline(face: FaceTraits) -> Floats:
    power = np.where(_CIRCLE[:, 1] > 0, 2 / face.jaw, 0.95)
    x = np.sign(_CIRCLE[:, 0]) * np.abs(_CIRCLE[:, 0]) ** power
    return np.stack([face.half_width * x, _CIRCLE[:, 1]], axis=1)


def _draw_behind(pen: _Pen, face: FaceTraits) -> None:
    wide = face.half_width
    if face.hair_style == "long":
        pen.fill(_CIRCLE * (wide + 0.2, 1.15) + (0, -0.05), face.hair)
        side = wide + 0.2
        pen.fill(np.array([[-side, -0.1], [side, -0.1], [side + 0.05, 1.25], [-side - 0.05, 1.25]]), face.hair)
    elif face.hair_style == "bob":
        pen.fill(_CIRCLE * (wide + 0.22, 0.95) + (0, -0.15), face.hair)
    elif face.hair_style == "curly":
        for angle in np.linspace(math.pi * 0.95, math.pi * 2.05, 9):
            pen.oval(float(math.cos(angle)) * (wide + 0.02), float(math.sin(angle)) * 0.9 - 0.1, 0.3, 0.3, face.hair)
    elif face.hair_style == "bun":
        pen.oval(0, -1.15, 0.3, 0.26, face.hair)
    shade = _mix(face.skin, (40, 20, 20), 0.2)
    pen.fill(np.array([[-0.3, 0.6], [0.3, 0.6], [0.36, 1.4], [-0.36, 1.4]]), shade)
    pen.fill(np.array([[-0.36, 1.15], [0.36, 1.15], [1.2, 1.5], [1.5, 3.0], [-1.5, 3.0], [-1.2, 1.5]]), face.shirt)
    for side in (-1.0, 1.0):
        pen.oval(side * wide, 0.0, 0.11, 0.18, shade)


def _draw_head(pen: _Pen, face: FaceTraits) -> None:
    pen.fill(_head_outline(face), face.skin)
    if face.hair_style == "bald":
        return
    wide = face.half_width
    angle = np.linspace(math.pi * 1.0, math.pi * 2.0, 15)
    crown = np.stack([(wide + 0.05) * np.cos(angle), 1.08 * np.sin(angle) - 0.02], axis=1)
    line = -0.62 + face.fringe
    part = 0.3 if face.hair_style == "side" else 0.0
    hairline = np.array(
        [[wide * 0.9, -0.3], [wide * 0.6 + part * 0.3, line - part], [-wide * 0.6, line], [-wide * 0.9, -0.3]]
    )
    pen.fill(np.concatenate([crown, hairline]), face.hair)


def _draw_eyes(pen: _Pen, face: FaceTraits, state: FrameState, *, valence: float, arousal: float) -> None:
    # The lids wander by more than arousal moves them: a faint cue, which no model can average out.
    opening = (face.eye_rest + 0.08 * arousal + 0.08 * state.squint - 0.08 * max(valence, 0.0)) * (1 - state.blink)
    half_x, half_y = 0.15 * face.eye_size, 0.115 * face.eye_size * max(opening, 0.0)
    dark = _mix(face.skin, (30, 16, 16), 0.75)
    y = -0.1 + state.turn_y
    for side in (-1.0, 1.0):
        x = side * face.eye_distance + state.turn_x
        if half_y > 0.025:
            pen.oval(x, y, half_x, half_y, (246, 246, 244))
            look_x, look_y = x + 0.05 * state.gaze_x, y + 0.3 * half_y * state.gaze_y
            radius = 0.078 * face.eye_size
            pen.oval(look_x, look_y, radius, min(radius, half_y), face.iris)
            pen.oval(look_x, look_y, radius * 0.5, min(radius * 0.5, half_y), (16, 14, 18))
        lid = np.stack([x + half_x * _ARC, y - half_y * np.sqrt(1 - _ARC**2)], axis=1)
        pen.line(lid, 0.05, dark, closed=False)
        inner, outer = x - side * 0.15, x + side * 0.19
        height = y - face.brow_height - 0.012 * (arousal + state.squint)
        inner_y = height + face.brow_rest + 0.1 * min(valence, 0.0)
        middle_y = height - 0.05 - 0.03 * max(valence, 0.0)
        brow = np.array([[inner, inner_y], [0.5 * (inner + outer), middle_y], [outer, height + 0.03]])
        pen.line(brow, face.brow_weight * 1.4, _mix(face.hair, (20, 14, 14), 0.3), closed=False)
        if face.glasses:
            pen.line(_CIRCLE * face.glasses + (x, y), 0.04, (40, 40, 46), closed=True)
    if face.glasses:
        gap = face.eye_distance - face.glasses
        pen.line(np.array([[state.turn_x - gap, y], [state.turn_x + gap, y]]), 0.04, (40, 40, 46), closed=False)


def _draw_cheeks_and_nose(pen: _Pen, face: FaceTraits, state: FrameState, *, valence: float) -> None:
    blush = _mix(face.skin, (226, 84, 84), min(0.6, max(0.02, 0.22 + face.blush_rest + 0.2 * valence)))
    lift = 0.04 * valence
    for side in (-1.0, 1.0):
        x = side * (face.eye_distance + 0.12) + state.turn_x * 0.8
        pen.oval(x, 0.26 - lift + state.turn_y, 0.14, 0.1 + 0.02 * valence, blush)
    shade = _mix(face.skin, (70, 30, 24), 0.32)
    x, y = state.turn_x * 1.3, state.turn_y * 1.3
    tip = face.nose_length
    nose = np.array(
        [[x, y + 0.02], [x + face.nose_width, y + tip], [x, y + tip + 0.04], [x - face.nose_width, y + tip]]
    )
    pen.fill(nose, shade)


def mouth_curves(face: FaceTraits, *, valence: float, talk: float) -> tuple[Floats, Floats]:
    """Compute the outlines of the mouth.

    Args:
        face: The person's face.
        valence: -1..1; corners rise with it.
        talk: Opening by speech, 0..1.

    Returns:
        Upper and lower outline, each float64 [9, 2] from left to right, x and y (down) relative to the
        middle of the mouth, in units of half the face's height.
    """
    curve = valence + face.mouth_rest
    half_width = face.mouth_width * (1 + 0.12 * valence - 0.15 * talk)
    bend = 0.115 * curve * (1 - 2 * _ARC**2)
    gap = (0.02 + 0.15 * talk) * (1 - _ARC**2)
    upper = np.stack([half_width * _ARC, bend - gap * 0.6], axis=1)
    lower = np.stack([half_width * _ARC, bend + gap * 1.2], axis=1)
    return upper, lower


def _draw_mouth(pen: _Pen, face: FaceTraits, state: FrameState, *, valence: float) -> None:
    middle = np.array([state.turn_x, face.mouth_height + state.turn_y])
    upper, lower = mouth_curves(face, valence=valence, talk=state.talk)
    outline = np.concatenate([upper, lower[::-1]]) + middle
    pen.fill(outline, (92, 28, 34))
    if state.talk > 0.3:
        teeth = np.concatenate([upper, (upper * 0.62 + lower * 0.38)[::-1]]) * (0.8, 1.0) + middle
        pen.fill(teeth, (240, 236, 228))
    pen.line(outline, face.lip_weight, face.lips, closed=True)
    if face.moustache:
        hair = np.array([[-0.26, -0.08], [0, -0.2], [0.26, -0.08], [0, -0.1]]) + middle
        pen.fill(hair, face.hair)


def _camera(image: Image, state: FrameState, rng: np.random.Generator) -> Image:
    size = image.shape[0]
    sigma = state.blur_px * size / 128
    if sigma > 0.15:
        image = cv2.GaussianBlur(image, (0, 0), sigma)
    ramp = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    light = np.maximum(1 + state.slope_x * ramp[None, :] + state.slope_y * ramp[:, None], 0) * state.light
    gain = light[:, :, None] * np.asarray(state.cast, dtype=np.float32)
    lit = cv2.multiply(image, gain.astype(np.float32), dtype=cv2.CV_32F)
    # The difference of two uniform bytes (deviation 104.5) is near enough to a bell and far cheaper than normal draws.
    grain = np.frombuffer(rng.bytes(2 * image.size), dtype=np.uint8).reshape(2, *image.shape)
    share = state.noise / 104.5
    noise = cv2.addWeighted(grain[0], share, grain[1], -share, 0.0, dtype=cv2.CV_32F)
    shown: Image = cv2.add(lit, noise, dtype=cv2.CV_8U)
    return shown


def draw_frame(
    person: Person,
    *,
    valence: float,
    arousal: float,
    state: FrameState,
    size: int,
    rng: np.random.Generator,
    style: Style = "cartoon",
) -> Image:
    """Draw one picture of a person.

    Args:
        person: Who.
        valence: -1..1.
        arousal: -1..1.
        state: Pose, light, camera and so on.
        size: Side of the picture, pixels.
        rng: Source of the camera's noise and of nothing else.
        style: How.

    Returns:
        uint8 [size, size, 3], RGB.
    """
    image = (_background if style == "cartoon" else board)(person.face, size).copy()
    if state.face:
        pen = (_Pen if style == "cartoon" else _Chalk)(image, state)
        _draw_behind(pen, person.face)
        _draw_head(pen, person.face)
        _draw_cheeks_and_nose(pen, person.face, state, valence=valence)
        _draw_eyes(pen, person.face, state, valence=valence, arousal=arousal)
        _draw_mouth(pen, person.face, state, valence=valence)
    return _camera(image, state, rng)
