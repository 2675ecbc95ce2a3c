"""What is laid on cells and read off at any time, against loops; zero-shot against its formula."""

import math

import numpy as np
import pytest

from va.data.features import ClipFeatures
from va.evaluate.assemble import ClipSeries
from va.evaluate.media import cells, zero_shot
from va.evaluate.media.cells import Features


def frames_of(values: np.ndarray, valid: list[bool]) -> ClipFeatures:
    time_s = np.arange(len(values)) * 0.5 + 0.25
    return ClipFeatures(values=values.astype(np.float16), time_s=time_s, valid=np.array(valid))


def features(count: int) -> Features:
    face = frames_of(np.zeros((count, 2)), [True] * count)
    return Features(
        face=face,
        voice=None,
        has_sound=np.ones(count, np.bool_),
        silent=None,
        boxes=None,
        duration_s=count / 2,
    )


def series(time_s: list[float], values: list[list[float]], covered: list[bool] | None = None) -> ClipSeries:
    there = np.ones(len(time_s), np.bool_) if covered is None else np.array(covered)
    return ClipSeries(id="", time_s=np.array(time_s), values=np.array(values), covered=there)


def test_an_answer_is_linear_between_cells_and_held_outside() -> None:
    found = cells.answer(
        features(3), series([0.25, 0.75, 1.25], [[0, 1, 1, 0.5], [1, 0, 1, 0.25], [0.5, 0, 1, 0]]), regions=1
    )
    assert found.valence.tolist() == [0, 1, 0.5] and found.arousal.tolist() == [1, 0, 0]
    assert found.gate is not None and found.gate.tolist() == [0.5, 0.25, 0] and found.regions.shape == (3, 1)
    assert found.at([0.0, 0.25, 0.5, 1.0, 9.0]).tolist() == [[0, 1], [0, 1], [0.5, 0.5], [0.75, 0], [0.5, 0]]
    assert found.at(0.5).tolist() == [0.5, 0.5]
    with pytest.raises(ValueError, match="finite"):
        found.at(math.nan)


def test_window_ends_say_nothing_about_the_time_before_the_first() -> None:
    found = cells.answer(features(8), series([2.0, 3.5], [[0.0, 0, 1], [0.75, 0, 1]]), regions=1)
    assert np.isnan(found.valence[:4]).all()
    assert found.valence[4:7].tolist() == [0.125, 0.375, 0.625] and math.isnan(found.valence[7])
    assert found.gate is None
    assert found.at([2.75]).tolist() == [[0.375, 0]], "read off what was said, not its copy on the grid"


def test_one_window_end_at_the_very_end_has_the_last_cell() -> None:
    found = cells.answer(features(6), series([3.0], [[0.5, -0.5, 1]]), regions=1)
    assert np.isnan(found.valence[:5]).all() and found.valence[5] == 0.5


def test_nothing_said_is_nothing_read() -> None:
    found = cells.answer(features(2), series([0.25, 0.75], [[math.nan] * 3] * 2, [False, False]), regions=1)
    assert np.isnan(found.valence).all() and np.isnan(found.at([0.1, 5])).all()


def test_sound_of_cells_from_steps_of_windows() -> None:
    valid = np.zeros((3, 20), np.bool_)
    valid[0, :3] = valid[1, 15] = valid[2, 19] = True  # windows start at cells 0, 6, 12
    voice = ClipFeatures(values=np.zeros((3, 20, 1), np.float16), time_s=np.array([0.0, 3, 6]), valid=valid)
    found = cells.cells_with_sound(voice, count=30, window_s=10.0, stride_s=3.0)
    assert np.flatnonzero(found).tolist() == [0, 1, 2, 21]  # 31 lies beyond the clip


@pytest.mark.parametrize("steps", [1, 7, 20, 32, 499])
def test_a_step_is_heard_in_the_cell_that_holds_its_middle(steps: int) -> None:
    valid = np.random.default_rng(steps).random((3, steps)) < 0.2
    valid[1, -1] = True
    voice = ClipFeatures(values=np.zeros((3, steps, 1), np.float16), time_s=np.array([0.0, 3, 6]), valid=valid)
    found = cells.cells_with_sound(voice, count=30, window_s=10.0, stride_s=3.0)
    expected = {
        int((3 * window + (step + 0.5) * 10 / steps) / 0.5) for window, step in zip(*np.nonzero(valid), strict=True)
    }
    assert np.flatnonzero(found).tolist() == sorted(cell for cell in expected if cell < 30) != []


@pytest.mark.parametrize(("level", "valid", "silent"), [(-80, True, True), (-60, True, False), (-80, False, False)])
def test_silence_is_sound_with_nothing_in_it(level: float, valid: bool, silent: bool) -> None:
    values = np.full((1, 20, 1), level, np.float16)
    loudness = ClipFeatures(values=values, time_s=np.zeros(1), valid=np.full((1, 20), valid))
    assert cells.is_silent(loudness) is silent


def test_zero_shot_against_its_formula() -> None:
    rng = np.random.default_rng(0)
    values, prototypes = rng.normal(size=(4, 6)), rng.normal(size=(9, 6)).astype(np.float32)
    centers = np.array([(v, a) for v in (-0.66, 0, 0.66) for a in (-0.66, 0, 0.66)])
    face = frames_of(values, [True, True, False, True])
    found = zero_shot.read(face, prototypes=prototypes, centers=centers, scale=10.0)
    for cell in (0, 1, 3):
        seen = [float(value) for value in face.values[cell]]
        weights = []
        for prototype in prototypes.tolist():
            dot = sum(left * right for left, right in zip(seen, prototype, strict=True))
            weights.append(math.exp(10 * dot / math.hypot(*seen) / math.hypot(*prototype)))
        shares = [weight / sum(weights) for weight in weights]
        expected = [sum(share * center[axis] for share, center in zip(shares, centers, strict=True)) for axis in (0, 1)]
        assert found.values[cell].tolist() == pytest.approx([*expected, *shares], abs=1e-9)
    assert found.covered.tolist() == [True, True, False, True] and np.isnan(found.values[2]).all()


def test_a_zero_picture_is_finite_and_a_great_scale_points_at_one_region() -> None:
    face = frames_of(np.array([[0.0, 0.0], [3.0, 0.0]]), [True, True])
    found = zero_shot.read(face, prototypes=np.eye(2, dtype=np.float32), centers=np.eye(2), scale=1e4)
    assert found.values.tolist() == [[0.5, 0.5, 0.5, 0.5], [1, 0, 1, 0]]
