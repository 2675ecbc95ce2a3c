"""Smoothing is chosen on clips that nothing was learned from and nothing is reported on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from small_corpus import Small

from va.errors import VAError
from va.evaluate import opening, predict, score, selection, smoothing, summary
from va.evaluate.config import EvaluateConfig
from va.evaluate.rows import Scoring
from va.train import checkpoint, ensemble, planning, runs

CPU = torch.device("cpu")
SCORING = Scoring(fill="interpolate", label_shift_s=0.0, resamples=20, seed=0)
OFFICIAL = {"device": CPU, "fill": "interpolate", "label_shift_s": 0.0}


def opened(directory: Path) -> tuple[checkpoint.Run, opening.Inputs]:
    run, inputs, _ = opening.open_split(directory, split="val", corpus=None, features_root=None)
    return run, inputs


@pytest.fixture(scope="module")
def one(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.train([small.config(tmp_path_factory.mktemp("one"))], epoch_done=lambda *_: None)[0]


def test_a_run_predicts_its_own_selection_clips(one: Path) -> None:
    run, inputs = opened(one)
    found = selection.predict_selection(run, inputs, split="val", device=CPU)
    held_out = run.info["selection"]["clips"]
    assert [series.id for series in found.series] == held_out
    assert not set(held_out) & set(run.info["train_clips"])
    again = predict.predict_clips(run, inputs, opening.clips_named(inputs, held_out), **OFFICIAL)
    for ours, theirs in zip(found.series, again.series, strict=True):
        np.testing.assert_allclose(ours.values, theirs.values, atol=1e-6)
    assert found.described == f"dev: {len(held_out)} training clips that the run did not learn from"


@pytest.mark.parametrize(
    "changes",
    [{"folds": 4, "seeds": (0, 1)}, {"seeds": (0, 1, 2), "dev_fraction": 0.4}],
    ids=["folds and seeds", "seeds with dev"],
)
def test_an_ensemble_predicts_each_clip_by_members_that_did_not_learn_from_it(
    changes: dict[str, object], small: Small, tmp_path: Path
) -> None:
    config = small.config(tmp_path, epochs=1, ensemble=True, **changes)
    members = runs.train(planning.expand(config), epoch_done=lambda *_: None)
    run, inputs = opened(ensemble.join(config, members))
    found = selection.predict_selection(run, inputs, split="val", device=CPU)
    assert found.described.endswith("each predicted by the members that did not learn from it")
    sizes = set()
    for series in found.series:
        said = []
        for directory in members:
            member = checkpoint.load_run(directory)
            if series.id not in member.info["train_clips"]:
                (clip,) = opening.clips_named(inputs, [series.id])
                said.append(predict.predict_clips(member, inputs, [clip], **OFFICIAL).series[0].values)
        sizes.add(len(said))
        np.testing.assert_allclose(series.values, np.mean(said, axis=0), atol=1e-5)
    assert 0 not in sizes
    # Dev clips of several seeds overlap, some and not all.
    assert sizes == {2} if "folds" in changes else len(sizes) > 1


def test_the_choice_is_the_best_candidate_on_those_clips(one: Path) -> None:
    run, inputs = opened(one)
    found = selection.choose(run, inputs, kernel="auto", width_s=0.0, split="val", device=CPU, scoring=SCORING)
    assert len(found["candidates"]) == 1 + 3 * len(smoothing.WIDTHS_S)
    best = max(found["candidates"], key=lambda candidate: candidate[2])
    assert (found["kernel"], found["width_s"]) == best[:2]
    narrower = selection.choose(run, inputs, kernel="median", width_s=0, split="val", device=CPU, scoring=SCORING)
    assert {kernel for kernel, _, _ in narrower["candidates"]} == {"none", "median"}
    wide = selection.choose(run, inputs, kernel="auto", width_s=2.5, split="val", device=CPU, scoring=SCORING)
    assert {width for _, width, _ in wide["candidates"]} == {0.0, 2.5}


def test_what_is_given_is_not_chosen(one: Path) -> None:
    run, inputs = opened(one)
    run.info["selection"]["clips"] = ["gone"]
    found = selection.choose(run, inputs, kernel="hamming", width_s=3.0, split="val", device=CPU, scoring=SCORING)
    assert found == {"kernel": "hamming", "width_s": 3.0, "chosen_on": "no clips: both were given", "candidates": []}
    with pytest.raises(VAError, match="has no clip 'gone', which the run was trained or selected on"):
        selection.choose(run, inputs, kernel="auto", width_s=0.0, split="val", device=CPU, scoring=SCORING)


def test_selection_on_the_reported_split_is_told(small: Small, tmp_path: Path) -> None:
    (directory,) = runs.train([small.config(tmp_path, epochs=1, select_on="val")], epoch_done=lambda *_: None)
    run, inputs = opened(directory)
    found = selection.predict_selection(run, inputs, split="val", device=CPU)
    assert found.described == "val (8 clips), of the split that is reported: the smoothed figures are flattered"
    assert "flattered" not in selection.predict_selection(run, inputs, split="test", device=CPU).described


def evaluate(run: Path, out: Path, **changes: object) -> dict[str, object]:
    config = EvaluateConfig(run=run, out=out, device="cpu", resamples=20, robustness=False, **changes)
    return score.run(config, progress=lambda *_: None)


def test_the_smoothed_run_stands_second_and_the_raw_one_is_the_headline(one: Path, tmp_path: Path) -> None:
    plain = evaluate(one, tmp_path / "a", smooth="none")
    assert plain["smoothing"] is None and [row["kind"] for row in plain["rows"]] == ["run", "reading", "baseline"]
    assert set(plain["pooled"]) == set(plain["per_video"]) == {"raw"}
    smoothed = evaluate(one, tmp_path / "b", smooth="median", smooth_s=3.0)
    assert [row["kind"] for row in smoothed["rows"]] == ["run", "smoothed", "reading", "baseline"]
    assert smoothed["rows"][0] == plain["rows"][0]
    assert smoothed["rows"][1]["abaw"]["ccc_mean"] != plain["rows"][0]["abaw"]["ccc_mean"]
    for kind, row in zip(("raw", "smoothed"), smoothed["rows"], strict=False):
        assert smoothed["pooled"][kind]["ccc_mean"] == pytest.approx(row["abaw"]["ccc_mean"]["value"], abs=1e-12)
    moved = {found["name"]: found["tv_valence"] for found in smoothed["smoothness"]}
    assert moved["This run, smoothed"] < moved["This run"]


def test_where_nothing_helps_nothing_is_smoothed(one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoothing, "WIDTHS_S", (12.0,))
    figures = evaluate(one, tmp_path, smooth="gaussian")
    assert figures["smoothing"]["kernel"] == "none" and figures["smoothing"]["width_s"] == 0.0
    assert "smoothed" not in [row["kind"] for row in figures["rows"]]
    assert all(clip["smoothed"] is None for clip in figures["clips"])
    assert any("none, because none helped" in remark for remark in summary.remarks(figures))


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"smooth_s": -1.0}, "--smooth-s"),
        ({"smooth": "none", "smooth_s": 2.0}, "--smooth-s"),
        ({"label_shift_s": 61.0}, "--label-shift-s"),
        ({"submit": "raw"}, "--submit"),
        ({"submission": Path("s"), "smooth": "none", "submit": "smoothed"}, "--submit"),
    ],
)
def test_settings_out_of_range(changes: dict[str, object], option: str) -> None:
    with pytest.raises(VAError, match=f"{option}: .* is out of range"):
        EvaluateConfig(run=Path("run"), out=Path("out"), **changes)
