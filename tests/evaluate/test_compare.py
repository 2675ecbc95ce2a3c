"""Runs side by side: paired differences, the sentence about them, and what must not be compared."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from small_corpus import Small

from va.data import corpus
from va.data.corpus import Corpus
from va.errors import VAError
from va.evaluate import compare, intervals, opening, predict, score
from va.evaluate.config import EvaluateConfig
from va.evaluate.pages.sentences import DEMO_ON_DRAWN
from va.evaluate.protocol import Figure
from va.train import runs


@pytest.fixture(scope="module")
def trained(small: Small, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("runs")
    wanted = {
        "both": small.config(out, epochs=6),
        "face": small.config(out, epochs=6, modalities="face"),
        "end": small.config(out, epochs=3, target="end", region_weight=0.0),
    }
    return dict(zip(wanted, runs.train(list(wanted.values()), epoch_done=lambda *_: None), strict=True))


def evaluate(run: Path, out: Path, *others: Path, **changes: object) -> dict[str, object]:
    settings = {"resamples": 200, "smooth": "none", "robustness": False, **changes}
    config = EvaluateConfig(run=run, out=out, device="cpu", compare=others, **settings)
    return score.run(config, progress=lambda *_: None)


def test_differences_are_paired_over_the_same_resamples(trained: dict[str, Path], tmp_path: Path) -> None:
    figures = evaluate(trained["both"], tmp_path, trained["face"], trained["end"])
    found = [row for row in figures["rows"] if row["kind"] == "compared"]
    assert [row["name"] for row in found] == [trained["face"].name, trained["end"].name]
    assert found[0]["note"] == "Face only; modalities face (this run: both)"
    assert "target end (this run: frames)" in found[1]["note"] and "region_weight 0 (this" in found[1]["note"]
    assert found[1]["paper"]["num_clips"] == 8
    draws = {}
    for name in ("both", "face"):
        run, inputs, clips = opening.open_split(trained[name], split="val", corpus=None, features_root=None)
        frames = predict.predict_clips(
            run, inputs, clips, device=torch.device("cpu"), fill="interpolate", label_shift_s=0.0
        ).frames
        sums = intervals.clip_statistics(
            predictions=[clip.prediction for clip in frames],
            targets=[clip.target for clip in frames],
            masks=[clip.valid for clip in frames],
        )
        draws[name] = intervals.resampled_ccc(sums, resamples=200, seed=0)
    low, high = intervals.interval(draws["both"][:, 2] - draws["face"][:, 2], num_clips=8)
    first = figures["comparisons"][0]
    ours, theirs = figures["rows"][0]["abaw"], found[0]["abaw"]
    for axis in ("ccc_valence", "ccc_arousal", "ccc_mean"):
        assert first[axis]["value"] == pytest.approx(ours[axis]["value"] - theirs[axis]["value"], abs=1e-12)
    assert (first["ccc_mean"]["low"], first["ccc_mean"]["high"]) == pytest.approx((low, high), abs=1e-12)
    direction = "ahead of" if first["ccc_mean"]["value"] > 0 else "behind"
    assert first["sentence"].startswith(f"The run is {direction} {trained['face'].name} by")
    assert {one["name"] for one in figures["smoothness"]} >= {"This run", "Annotation", trained["face"].name}


def test_a_run_is_level_with_itself(trained: dict[str, Path], tmp_path: Path) -> None:
    (found,) = evaluate(trained["both"], tmp_path, trained["both"])["comparisons"]
    assert found["ccc_mean"] == Figure(value=0.0, low=0.0, high=0.0)
    assert "level with" in found["sentence"] and "cannot tell them apart" in found["sentence"]


@pytest.mark.parametrize(
    ("figure", "expected"),
    [
        (
            (0.031, 0.012, 0.05),
            "ahead of B by 0.031 in mean CCC (95% interval 0.012 to 0.050): the difference is real at",
        ),
        ((-0.2, -0.3, -0.1), "behind B by 0.200 in mean CCC (95% interval 0.100 to 0.300): the difference is real at"),
        ((0.01, -0.02, 0.04), "(95% interval -0.020 to 0.040): the interval includes 0: these clips cannot tell them"),
        ((-0.01, -0.04, 0.02), "behind B by 0.010 in mean CCC (95% interval -0.020 to 0.040): the interval includes 0"),
        ((0.01, 0.0, 0.02), "the interval includes 0"),
        ((0.02, 0.00004, 0.04), "(95% interval 0.00004 to 0.040): the difference is real"),
        ((0.02, float("nan"), float("nan")), "fewer than two labelled clips there is no interval"),
        ((float("nan"),) * 3, "cannot be compared with B: on these clips a CCC is not defined"),
    ],
)
def test_the_sentence(figure: tuple[float, float, float], expected: str) -> None:
    value, low, high = figure
    assert expected in compare.sentence(Figure(value=value, low=low, high=high), name="B", num_clips=5)


def test_nothing_is_called_real_over_few_clips() -> None:
    said = compare.sentence(Figure(value=0.4, low=0.3, high=0.5), name="B", num_clips=2)
    assert said.endswith("(95% interval 0.300 to 0.500): 2 clips are too few to say whether that is real.")


def relabelled(small: Small, folder: Path, *, by: float) -> Path:
    made = Corpus.load(small.corpus)
    entries = [(clip, made.truth(clip)) for clip in made.clips]
    for _, truth in entries[-2:]:
        truth.va[:] = np.clip(truth.va + by, -1, 1)
    return corpus.save(folder, name="small", synthetic=True, media_root=small.corpus.parent, entries=entries).path


def elsewhere(run: Path, folder: Path, manifest: Path) -> Path:
    """The same run, which says that its corpus lies there."""
    copy = folder / run.name
    shutil.copytree(run, copy)
    info = json.loads((copy / "run.json").read_text())
    info["corpus"]["path"] = str(manifest)
    (copy / "run.json").write_text(json.dumps(info))
    return copy


def test_another_corpus_is_refused_and_a_copy_is_not(trained: dict[str, Path], small: Small, tmp_path: Path) -> None:
    other = elsewhere(trained["face"], tmp_path / "a", relabelled(small, tmp_path / "changed", by=0.1))
    with pytest.raises(VAError, match=r"its corpus .*changed.* has identity [0-9a-f]{16}, that of the run"):
        evaluate(trained["both"], tmp_path / "out", other)
    assert not (tmp_path / "out").exists()
    same = elsewhere(trained["face"], tmp_path / "b", relabelled(small, tmp_path / "copied", by=0.0))
    assert len(evaluate(trained["both"], tmp_path / "out", same)["comparisons"]) == 1


def test_what_was_trained_on_is_not_scored_as_another_split(trained: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / trained["face"].name
    shutil.copytree(trained["face"], copy)
    info = json.loads((copy / "run.json").read_text())
    info["train_clips"].append("clip16")
    (copy / "run.json").write_text(json.dumps(info))
    for run, others in ((copy, ()), (trained["both"], (copy,))):
        with pytest.raises(VAError, match="was trained on 1 of the 'val' clips, first 'clip16'"):
            evaluate(run, tmp_path / "out", *others)


def marked(run: Path, folder: Path, **changes: object) -> Path:
    """The same run, which says something else of itself."""
    copy = folder / run.name
    shutil.copytree(run, copy)
    info = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps(info | changes))
    return copy


def test_a_compared_run_on_demo_encoders_is_called_so(trained: dict[str, Path], tmp_path: Path) -> None:
    demo = marked(trained["face"], tmp_path / "demo", demo_encoders=True)
    for name, other, is_demo in (("a", trained["face"], False), ("b", demo, True)):
        figures = evaluate(trained["both"], tmp_path / name, other)
        (row,) = [row for row in figures["rows"] if row["kind"] == "compared"]
        assert ("demo encoders" in row["note"]) is figures["is_demo"] is is_demo
        assert (DEMO_ON_DRAWN in (tmp_path / name / "index.html").read_text()) is is_demo
        with h5py.File(tmp_path / name / "predictions.h5") as file:
            assert not file.attrs["demo_encoders"]  # the run itself is none


def test_a_compared_run_that_names_no_clips_or_learned_from_the_scored_ones_is_told(
    trained: dict[str, Path], tmp_path: Path
) -> None:
    shared = marked(trained["face"], tmp_path / "shared", train_clips=[])
    figures = evaluate(trained["both"], tmp_path / "out", shared)
    (warning,) = figures["warnings"]
    assert warning == (
        f"{shared.name} was shared without the names of its training clips: whether it was trained on these clips "
        "cannot be checked."
    )
    assert warning in (tmp_path / "out" / "index.html").read_text()
    learned = len(json.loads((trained["face"] / "run.json").read_text())["train_clips"])
    found = evaluate(trained["both"], tmp_path / "train", trained["face"], split="train")["warnings"]
    assert f"{trained['face'].name}: {learned} of the scored clips were trained on: its figures say how well it" in (
        " ".join(found)
    )


def test_runs_that_predict_other_frames_are_refused(trained: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(VAError, match="does not predict the same frames of clip 'clip16'"):
        evaluate(trained["both"], tmp_path / "out", trained["end"], fill="none")
    assert not (tmp_path / "out").exists()
