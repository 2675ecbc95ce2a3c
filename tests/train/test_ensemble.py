"""Folds and seeds as one run whose prediction is their mean."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from small_corpus import Small

from va.errors import VAError
from va.evaluate import predict, score
from va.evaluate.config import EvaluateConfig
from va.train import checkpoint, ensemble, planning, runs
from va.train.config import TrainConfig
from va.train.state import Epoch


def quiet(config: TrainConfig, line: Epoch) -> None:
    """Hear nothing."""


def test_an_ensemble_predicts_the_mean_of_its_members_and_is_a_run(small: Small, tmp_path: Path) -> None:
    config = small.config(tmp_path / "runs", epochs=2, folds=2, seeds=(0, 1), ensemble=True)
    members = runs.train(planning.expand(config), epoch_done=quiet)
    directory = ensemble.join(config, members)
    run = checkpoint.load_run(directory)
    assert run.members == 4
    inputs = predict.open_inputs(run, corpus=None, features_root=None)
    clips = inputs.corpus.split("val")
    official = {"device": torch.device("cpu"), "fill": "interpolate", "label_shift_s": 0.0}
    ours = predict.predict_clips(run, inputs, clips, **official)
    theirs = [
        predict.predict_clips(checkpoint.load_run(member), inputs, clips, **official).raw.va for member in members
    ]
    np.testing.assert_allclose(ours.raw.va, np.mean(theirs, axis=0), atol=1e-6)
    assert not np.allclose(theirs[0], theirs[1])
    report = EvaluateConfig(run=directory, out=tmp_path / "report", resamples=20, device="cpu")
    figures = score.run(report, progress=lambda done, total, what: None)
    assert figures["rows"][0]["abaw"]["coverage"] == 1.0
    assert (tmp_path / "report" / "index.html").is_file()


def test_an_ensemble_that_is_there_is_reused_and_names_its_members(small: Small, tmp_path: Path) -> None:
    config = small.config(tmp_path, epochs=1, seeds=(3, 4), ensemble=True)
    members = runs.train(planning.expand(config), epoch_done=quiet)
    directory = ensemble.join(config, members)
    written = (directory / "run.json").stat().st_mtime_ns
    assert ensemble.join(config, members) == directory
    assert (directory / "run.json").stat().st_mtime_ns == written
    info = json.loads((directory / "run.json").read_text())
    assert info["members"] == [member.name for member in members]
    scores = [checkpoint.load_run(member).info["selection"]["ccc_mean"] for member in members]
    assert info["selection"]["ccc_mean"] == pytest.approx(np.mean(scores))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ensemble": True}, "there is only one run to join"),
        ({"ensemble": True, "folds": 3, "fold": 1}, "there is only one run to join"),
        ({"folds": 1}, "--folds: 1 is out of range"),
        ({"folds": 3, "fold": 3}, "--fold: 3 is out of range"),
        ({"seeds": (1, 1)}, "--seeds"),
        ({"folds": 3, "select_on": "val"}, "not on val"),
    ],
)
def test_mistakes_are_told_before_anything_is_opened(
    changes: dict[str, object], message: str, small: Small, tmp_path: Path
) -> None:
    with pytest.raises(VAError, match=message):
        small.config(tmp_path, **changes)
