"""What a report shows beside scores, from predictions whose inputs have known holes."""

import numpy as np
import pytest
import torch
from small_corpus import Small

from va.data import prototypes, timeline
from va.data.features import ClipFeatures, FeatureStore, Source
from va.evaluate import metrics, opening, predict, tracks
from va.evaluate.predict import SplitPredictions
from va.evaluate.rows import Scoring
from va.train import runs
from va.train.checkpoint import Run

SCORING = Scoring(fill="interpolate", label_shift_s=0.0, resamples=20, seed=0)


@pytest.fixture(scope="module", params=["frames", "end"])
def found(
    request: pytest.FixtureRequest, small: Small, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, SplitPredictions]:
    """A run on the corpus, of which clip16 has no picture in cells 0 to 3 and 31, and clip17 no sound at all."""
    root = tmp_path_factory.mktemp("holes")
    old = [FeatureStore(folder.parent) for folder in sorted(small.features.glob("*/identity.json"))]
    for store in old:
        new = FeatureStore.create(root / "features", store.identity)
        for name in store.clip_ids():
            read = store.read(name)
            valid = read.valid.copy()
            if name == "clip16" and store.kind == "frames":
                valid[[0, 1, 2, 3, 31]] = False
            if name == "clip17" and store.kind == "audio":
                valid[:] = False
            values = np.where(valid[..., None], read.values, 0).astype(np.float16)
            new.write(name, ClipFeatures(values=values, time_s=read.time_s, valid=valid), Source(size=1, digest="0"))
        if store.kind == "frames":
            prototypes.write(new.directory, prototypes.read(store.directory))
    config = Small(small.corpus, root / "features").config(root / "runs", epochs=1, target=request.param)
    (directory,) = runs.train([config], epoch_done=lambda *_: None)
    run, inputs, clips = opening.open_split(directory, split="val", corpus=None, features_root=None)
    cpu = torch.device("cpu")
    return run, predict.predict_clips(run, inputs, clips, device=cpu, fill="interpolate", label_shift_s=0.0)


def test_holes_are_where_they_are(found: tuple[Run, SplitPredictions]) -> None:
    _, predictions = found
    own = tracks.own_metrics(predictions.frames)
    shown = {track["id"]: track for track in tracks.clip_tracks(predictions, None, own, has_regions=True)}
    assert shown["clip16"]["no_face"] == [(0.0, 2.0), (15.5, 16.0)] and shown["clip16"]["no_sound"] == []
    assert shown["clip17"]["no_face"] == [] and shown["clip17"]["no_sound"] == [(0.0, 16.0)]
    assert shown["clip18"]["no_face"] == shown["clip18"]["no_sound"] == []
    for track in shown.values():
        assert track["labelled"] == pytest.approx(0.98)
        assert track["regions"] is not None
        assert track["regions"].shape == (len(track["cell_time_s"]), 9) and track["smoothed"] is None
        np.testing.assert_allclose(track["regions"].sum(axis=1), 1.0, atol=1e-6)
        assert (track["gate"] >= 0).all() and (track["gate"] <= 1).all()
        np.testing.assert_allclose(track["cell_time_s"] % timeline.CELL_S, 0.25)
    bare = tracks.clip_tracks(predictions, None, own, has_regions=False)[0]
    assert bare["regions"] is None
    np.testing.assert_array_equal(bare["gate"], shown["clip16"]["gate"])
    # Without sound the gate lets none of it through (settled 9).
    assert (shown["clip17"]["gate"] == 0).all() and shown["clip18"]["gate"].mean() > 0.1
    track, clip = shown["clip16"], predictions.frames[0]
    assert track["metrics"]["ccc_mean"] == metrics.evaluate(clip.prediction, clip.target, clip.valid)["ccc_mean"]


@pytest.mark.parametrize(
    ("marked", "expected"),
    [
        ([], []),
        ([False, False], []),
        ([True, True, True], [(0.0, 1.3)]),
        ([True, False, True], [(0.0, 0.5), (1.0, 1.3)]),
        ([False, True, False], [(0.5, 1.0)]),
    ],
)
def test_stretches(marked: list[bool], expected: list[tuple[float, float]]) -> None:
    assert tracks.stretches(np.array(marked, np.bool_), end_s=1.3) == expected


def test_plane_and_diagnostics_are_of_the_labelled_frames(found: tuple[Run, SplitPredictions]) -> None:
    run, predictions = found
    plane = tracks.plane(run, predictions.frames)
    assert plane["centers"].tolist()[:3] == [[-0.66, -0.66], [-0.66, 0.0], [-0.66, 0.66]]
    assert plane["density_target"].sum() == pytest.approx(1.0)
    # All labels within +-0.8, and nothing beyond it on the plane: 0 where invalid would be a spike in the middle.
    target = np.concatenate([clip.target[clip.valid] for clip in predictions.frames])
    expected, *_ = np.histogram2d(target[:, 1], target[:, 0], bins=[plane["edges"]] * 2)
    np.testing.assert_allclose(plane["density_target"], expected / len(target), atol=1e-12)
    labelled = sum(int(clip.valid.sum()) for clip in predictions.frames)
    for name in ("valence", "arousal"):
        assert tracks.calibration(predictions.frames)[name]["count"].sum() == labelled
    over_time = tracks.error_over_time(predictions.frames)
    assert over_time is not None and over_time["count"].sum() == labelled
    lag = tracks.lag(predictions, SCORING)
    at_zero = list(lag["shift_s"]).index(0.0)
    assert lag["ccc_mean"][at_zero] == pytest.approx(SCORING.abaw(predictions.frames)["ccc_mean"]["value"], abs=1e-12)
    pooled = tracks.pooled_metrics(predictions.frames)
    assert pooled["ccc_mean"] == pytest.approx(lag["ccc_mean"][at_zero], abs=1e-12)
