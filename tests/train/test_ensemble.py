"""Folds and seeds as one run whose prediction is their mean."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from small_corpus import Small

from va.data.corpus import Clip, Corpus
from va.data.features import FeatureStore
from va.errors import VAError
from va.evaluate import compare, opening, predict, provenance, rows, score
from va.evaluate.config import EvaluateConfig
from va.evaluate.rows import Scoring
from va.train import checkpoint, ensemble, planning, runs
from va.train.config import TrainConfig
from va.train.state import Epoch

SCORING = Scoring(fill="interpolate", label_shift_s=0.0, resamples=20, seed=0)


def quiet(config: TrainConfig, line: Epoch) -> None:
    """Hear nothing."""


def test_an_ensemble_predicts_the_mean_of_its_members_and_is_a_run(small: Small, tmp_path: Path) -> None:
    config = small.config(tmp_path / "runs", epochs=2, folds=2, seeds=(0, 1), ensemble=True)
    members = runs.train(planning.expand(config), epoch_done=quiet)
    directory = ensemble.join(config, members)
    run = checkpoint.load_run(directory)
    assert run.members == 4
    inputs = opening.open_inputs(run, corpus=None, features_root=None)
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


def joined(small: Small, out: Path, **changes: object) -> tuple[checkpoint.Run, list[checkpoint.Run]]:
    config = small.config(out, epochs=1, ensemble=True, **changes)
    members = runs.train(planning.expand(config), epoch_done=quiet)
    return checkpoint.load_run(ensemble.join(config, members)), [checkpoint.load_run(member) for member in members]


@pytest.mark.parametrize(
    ("changes", "split", "said"),
    [
        ({"seeds": (0, 1), "dev_fraction": 0.4}, "dev", "its own held-out training clips ({} clips between them)"),
        ({"seeds": (0, 1), "select_on": "val"}, "val", "val ({} clips)"),
        ({"folds": 4}, "each member's own fold", "its own held-out training clips ({} clips between them)"),
    ],
    ids=["dev", "val", "folds"],
)
def test_an_ensemble_names_all_that_its_members_learned_from_and_were_chosen_on(
    changes: dict[str, object], split: str, said: str, small: Small, tmp_path: Path
) -> None:
    run, members = joined(small, tmp_path, **changes)
    for ours, theirs in (
        (run.info["train_clips"], [member.info["train_clips"] for member in members]),
        (run.info["selection"]["clips"], [member.info["selection"]["clips"] for member in members]),
    ):
        assert sorted(ours) == sorted(set().union(*theirs))
    if split != "val":
        # A case in which the first member's clips alone would not do.
        assert set(run.info["train_clips"]) > set(members[0].info["train_clips"])
    assert run.info["selection"]["split"] == split
    assert said.format(len(run.info["selection"]["clips"])) in provenance.selected_on(run)


def test_clips_that_any_member_learned_from_are_not_scored_as_unseen(small: Small, tmp_path: Path) -> None:
    run, (first, _) = joined(small, tmp_path, seeds=(0, 1), dev_fraction=0.4)
    inputs = opening.open_inputs(run, corpus=None, features_root=None)
    (hidden, *_) = sorted(set(run.info["train_clips"]) - set(first.info["train_clips"]))
    with pytest.raises(VAError, match=f"was trained on 1 of the 'val' clips, first '{hidden}'"):
        compare.check_unseen(run, opening.clips_named(inputs, [hidden]), split="val")
    del run.info["train_by_member"]
    with pytest.raises(VAError, match="names the training clips of one of its members only"):
        compare.check_unseen(run, inputs.corpus.split("val"), split="val")


def test_the_baselines_of_an_ensemble_are_chosen_on_clips_that_they_were_not_fitted_on(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, members = joined(small, tmp_path, folds=4)
    inputs = opening.open_inputs(run, corpus=None, features_root=None)
    clips = inputs.corpus.split("val")
    asked: list[set[str]] = []
    plain = rows.labelled_cells

    def noted(corpus: Corpus, some: Sequence[Clip], stores: Sequence[FeatureStore]) -> object:
        asked.append({clip.id for clip in some})
        return plain(corpus, some, stores)

    monkeypatch.setattr(rows, "labelled_cells", noted)
    truths = [inputs.corpus.truth(clip) for clip in clips]
    (row,) = rows.ridge_rows(run, inputs, clips, truths, SCORING)
    fitted, chosen = asked
    assert fitted and chosen and not fitted & chosen
    assert fitted == set(members[0].info["train_clips"])
    assert f"fitted on the first member's {len(fitted)} clips, alpha" in row["note"]
    assert row["note"].endswith("chosen on its fold")
