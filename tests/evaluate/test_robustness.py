"""A run under conditions: the head gets what the condition says, and what it does not look at changes nothing."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from small_corpus import Small

from va.evaluate import opening, predict, robustness
from va.evaluate.predict import SplitPredictions
from va.evaluate.rows import Scoring
from va.train import runs
from va.train.checkpoint import Run

SCORING = Scoring(fill="interpolate", label_shift_s=0.0, resamples=100, seed=0)
SOUND = ("No sound", "Sound late", "Sound early")
FACE = ("No face", "Half of the faces lost")


def predicted(small: Small, out: Path, modalities: str) -> tuple[Run, SplitPredictions]:
    config = small.config(out, modalities=modalities, epochs=3)
    (directory,) = runs.train([config], epoch_done=lambda *_: None)
    run, inputs, clips = opening.open_split(directory, split="val", corpus=None, features_root=None)
    cpu = torch.device("cpu")
    return run, predict.predict_clips(run, inputs, clips, device=cpu, fill="interpolate", label_shift_s=0.0)


@pytest.fixture(scope="module")
def full(small: Small, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, SplitPredictions]:
    return predicted(small, tmp_path_factory.mktemp("full"), "both")


@pytest.mark.parametrize(("modalities", "deaf_to"), [("face", SOUND), ("voice", FACE)])
def test_a_head_of_one_modality_does_not_feel_the_other(
    modalities: str, deaf_to: tuple[str, ...], small: Small, tmp_path: Path
) -> None:
    run, found = predicted(small, tmp_path, modalities)
    answers = {one["name"]: one for one in robustness.measure(run, found.windows, found.truths, found.frames, SCORING)}
    assert set(answers) == {*SOUND, *FACE}
    undisturbed = SCORING.abaw(found.frames)
    for name, answer in answers.items():
        if name in deaf_to:
            assert answer["abaw"] == undisturbed
            assert answer["change"] == {"value": 0.0, "low": 0.0, "high": 0.0}
        else:
            assert answer["abaw"] != undisturbed
            assert answer["change"]["value"] < 0


def test_a_full_model_loses_by_every_condition_what_its_scores_say(full: tuple[Run, SplitPredictions]) -> None:
    run, found = full
    undisturbed = SCORING.abaw(found.frames)["ccc_mean"]["value"]
    for answer in robustness.measure(run, found.windows, found.truths, found.frames, SCORING):
        change = answer["change"]
        assert change["value"] == pytest.approx(answer["abaw"]["ccc_mean"]["value"] - undisturbed, abs=1e-12)
        assert change["low"] <= change["value"] <= change["high"]
        assert change["value"] < 0 if answer["name"] in ("No sound", "No face") else change["value"] != 0
        assert answer["abaw"]["coverage"] == 1.0


def test_conditions_mask_what_they_say_and_nothing_else(full: tuple[Run, SplitPredictions]) -> None:
    windows = full[1].windows
    index = torch.arange(len(windows))
    frames, frame_valid, audio, audio_valid = windows.batch(index)[:4]
    found = {one.name: one.inputs(index) for one in robustness.conditions(windows, seed=3)}
    assert not found["No sound"][3].any() and not found["No face"][1].any()
    torch.testing.assert_close(found["No sound"][1], frame_valid)
    torch.testing.assert_close(found["No face"][3], audio_valid)
    half = found["Half of the faces lost"]
    assert not (half[1] & ~frame_valid).any()
    lost = robustness.lost_faces(windows, seed=3)
    torch.testing.assert_close(half[1], frame_valid & ~lost[windows.cells[:-1]])  # shared by overlapping windows
    torch.testing.assert_close(half[3], audio_valid)
    for name in found:
        torch.testing.assert_close(found[name][0], frames)
    # The third window, of cells 12 to 31: each cell hears what belonged to the one a second before.
    torch.testing.assert_close(found["Sound late"][2][2, 2:], audio[2, :-2])
    torch.testing.assert_close(found["Sound late"][2][2, :2], audio[1, 4:6])  # cells 10 and 11, of the window before
    assert found["Sound late"][3][0].tolist() == [False] * 2 + [True] * 18  # nothing comes before a clip
    torch.testing.assert_close(found["Sound early"][2][0, :-2], audio[0, 2:])
    torch.testing.assert_close(found["Sound early"][2][0, -2:], audio[1, 14:16])
    assert not found["Sound early"][3][2, -2:].any()  # nor after it


def test_half_of_the_faces_are_lost_in_stretches_drawn_for_each_clip() -> None:
    def spans(*names: str) -> SimpleNamespace:
        clips = tuple(SimpleNamespace(cells=1000, clip=SimpleNamespace(id=name)) for name in names)
        return SimpleNamespace(spans=clips, frame_valid=torch.ones(1))

    lost = robustness.lost_faces(spans("a", "b"), seed=1).numpy()
    assert len(lost) == 2001 and not lost[-1]
    first, second = lost[:1000], lost[1000:-1]
    assert (first != second).any()
    assert 0.4 < lost.mean() < 0.6
    lengths = np.diff(np.flatnonzero(np.diff(first)))
    assert lengths.min() >= 2 and lengths.max() <= 10
    np.testing.assert_array_equal(robustness.lost_faces(spans("b"), seed=1).numpy()[:-1], second)
    assert (robustness.lost_faces(spans("b"), seed=2).numpy()[:-1] != second).any()


@pytest.mark.parametrize("cells", [2, -2, 1, -9, 0, 25])
@pytest.mark.parametrize("stride", [1, 3, 6, 20])
def test_shifted_steps_are_those_found_by_looking(cells: int, stride: int) -> None:
    counts, steps = (4, 1, 2), 20
    starts = [np.arange(count) * stride for count in counts]
    local = np.concatenate([start[:, None] + np.arange(steps) for start in starts])
    edges = np.cumsum([0, *counts])
    spans = tuple(SimpleNamespace(windows=slice(a, b)) for a, b in itertools.pairwise(edges))
    windows = SimpleNamespace(local_cells=torch.from_numpy(local), spans=spans)
    source, taken = robustness.shifted_steps(windows, cells)
    assert (source[-1] == -1).all()
    for span in spans:
        own = range(span.windows.start, span.windows.stop)
        for window in own:
            for step in range(steps):
                wanted = local[window, step] - cells
                holders = [other for other in own if local[other, 0] <= wanted <= local[other, -1]]
                nearest = min(holders, key=lambda other: abs(other - window), default=-1)
                assert source[window, step] == nearest
                if holders:
                    assert local[nearest, taken[step]] == wanted
