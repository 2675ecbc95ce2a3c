"""A run scored on a split: files, figures, baselines and what must be told."""

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import audmetric
import h5py
import numpy as np
import pytest
import torch
from small_corpus import Small

from va import cli
from va.data import corpus, features
from va.data.corpus import Corpus
from va.errors import VAError
from va.evaluate import opening, predict, rows, score, summary
from va.evaluate.config import EvaluateConfig
from va.evaluate.pages import sentences
from va.evaluate.pages.sentences import NO_REGIONS
from va.evaluate.protocol import Figure
from va.train import checkpoint, runs

OFFICIAL: dict[str, Any] = {"device": torch.device("cpu"), "fill": "interpolate", "label_shift_s": 0.0}


@pytest.fixture(scope="module")
def run(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = small.config(tmp_path_factory.mktemp("runs"), epochs=8)
    return runs.train([config], epoch_done=lambda config, line: None)[0]


def evaluate(run: Path, out: Path, **changes: object) -> dict[str, Any]:
    config = EvaluateConfig(run=run, out=out, device="cpu", resamples=200, **changes)
    return score.run(config, progress=lambda done, total, what: None)


@pytest.fixture(scope="module")
def scored(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The run scored as it comes, once, and the folder with its files; tests must not change either."""
    out = tmp_path_factory.mktemp("report")
    return evaluate(run, out), out


def test_figures_and_files_agree(scored: tuple[dict[str, Any], Path], small: Small) -> None:
    figures, out = scored
    written = json.loads((out / "metrics.json").read_text())
    own = written["rows"][0]
    assert own["abaw"] == figures["rows"][0]["abaw"]
    assert own["abaw"]["coverage"] == 1.0
    with (out / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    clips = Corpus.load(small.corpus).split("val")
    assert len(rows) == sum(clip.num_frames for clip in clips)
    labelled = [row for row in rows if row["label_valence"]]
    assert len(labelled) == own["abaw"]["num_frames"]
    # The score recomputed from the file by another implementation, up to its five decimals.
    for axis in ("valence", "arousal"):
        prediction = np.array([float(row[axis]) for row in labelled])
        truth = np.array([float(row[f"label_{axis}"]) for row in labelled])
        figure = own["abaw"][f"ccc_{axis}"]
        assert figure["value"] == pytest.approx(audmetric.concordance_cc(truth, prediction), abs=1e-4)
        assert figure["low"] < figure["value"] < figure["high"]
    assert own["paper"]["num_clips"] == len(clips)
    assert "<html" in (out / "index.html").read_text()


def test_the_report_says_what_was_selected_where(scored: tuple[dict[str, Any], Path]) -> None:
    figures, _ = scored
    assert "dev" in figures["selected_on"]
    keys = [key for key, _ in figures["provenance"]]
    assert {"Scored split", "Selection", "Frame features", "Setting seed", "Version of torch"} <= set(keys)


def test_no_path_of_this_machine_is_on_the_page_or_in_the_figures(run: Path, small: Small, tmp_path: Path) -> None:
    """Of a corpus of recordings: its name and identity say which it was."""
    manifest = shutil.copytree(small.corpus.parent, tmp_path / "real") / small.corpus.name
    entries = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(entries | {"synthetic": False}))
    figures = evaluate(run, tmp_path / "out", corpus=manifest)
    assert figures["synthetic"] is False
    assert ("Corpus", f"small, identity {Corpus.load(manifest).digest()}") in figures["provenance"]
    for name in ("index.html", "metrics.json"):
        written = (tmp_path / "out" / name).read_text()
        for folder in (tmp_path, small.corpus.parent, run.parent):
            assert str(folder) not in written, (name, folder)


def test_ridge_on_embeddings_stands_beside_the_model(scored: tuple[dict[str, Any], Path]) -> None:
    found = [row for row in scored[0]["rows"] if row["kind"] == "baseline"]
    assert [row["name"] for row in found] == ["Ridge on frozen embeddings"]
    assert found[0]["abaw"]["ccc_mean"]["value"] > 0.5


def test_the_second_reading_is_the_centres_weighted_by_region_probabilities(
    run: Path, scored: tuple[dict[str, Any], Path]
) -> None:
    loaded = checkpoint.load_run(run)
    inputs = opening.open_inputs(loaded, corpus=None, features_root=None)
    found = predict.predict_clips(loaded, inputs, inputs.corpus.split("val"), **OFFICIAL)
    # By hand, in the first half second of the first clip, which the first window alone covers.
    probabilities, axis = found.raw.regions[0, 0], (-0.66, 0.0, 0.66)
    valence = sum(p * axis[region // 3] for region, p in enumerate(probabilities))
    arousal = sum(p * axis[region % 3] for region, p in enumerate(probabilities))
    np.testing.assert_allclose(found.reading[0].prediction[0], [valence, arousal], atol=1e-6)
    found_rows = scored[0]["rows"]
    (row,) = (row for row in found_rows if row["kind"] == "reading")
    assert "regions" in row["name"] and row["paper"] is None
    assert row["abaw"] != found_rows[0]["abaw"]


def test_a_run_of_window_ends_without_the_region_term_is_shown_as_one(small: Small, tmp_path: Path) -> None:
    config = small.config(tmp_path / "runs", epochs=1, region_weight=0.0, target="end")
    (directory,) = runs.train([config], epoch_done=lambda *_: None)
    figures = evaluate(directory, tmp_path / "out")
    assert all(clip["regions"] is None for clip in figures["clips"])
    assert len(figures["plane"]["region_texts"]) == len(figures["plane"]["centers"]) == 0
    with h5py.File(tmp_path / "out" / "predictions.h5") as file:
        assert all("regions" not in group and "gate" in group for group in file.values())
        assert json.loads(file.attrs["region_texts"]) == {}
    page = (tmp_path / "out" / "index.html").read_text()
    assert NO_REGIONS in page and "region probabilities" not in page
    assert "what each window says of its end" in page and "overlapping windows averaged" not in page


def test_cell_features_average_overlapping_windows(small: Small) -> None:
    clip = Corpus.load(small.corpus).clips[0]
    voice = features.choose_store(small.features, kind="audio", name="", option="--voice-encoder")
    stored = voice.read(clip.id)
    found = rows.cell_features(clip, [voice])
    for cell in range(len(found)):
        heard = [
            stored.values[window, cell - 6 * window].astype(float)
            for window in range(len(stored.values))
            if 0 <= cell - 6 * window < 20 and stored.valid[window, cell - 6 * window]
        ]
        np.testing.assert_allclose(found[cell], np.mean(heard, axis=0), atol=1e-12)


def test_moved_corpus_and_features_are_found_again(run: Path, small: Small, tmp_path: Path) -> None:
    shutil.copytree(small.features, tmp_path / "moved")
    info = json.loads((run / "run.json").read_text())
    info["features"] = {name: f"/gone/{Path(path).name}" for name, path in info["features"].items()}
    info["corpus"]["path"] = "/gone/corpus.json"
    lost = tmp_path / "run"
    shutil.copytree(run, lost)
    (lost / "run.json").write_text(json.dumps(info))
    with pytest.raises(VAError, match=r"/gone/corpus.json: no such") as error:
        evaluate(lost, tmp_path / "out")
    assert "--corpus" in error.value.hint
    with pytest.raises(VAError, match="/gone/eye") as error:
        evaluate(lost, tmp_path / "out", corpus=small.corpus)
    assert "--features" in error.value.hint
    assert not (tmp_path / "out").exists()
    figures = evaluate(lost, tmp_path / "out", corpus=small.corpus, features=tmp_path / "moved")
    assert figures["rows"][0]["abaw"]["coverage"] == 1.0


def test_a_split_without_clips_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(VAError, match="has no 'test' clips"):
        evaluate(run, tmp_path / "out", split="test")
    assert not (tmp_path / "out").exists()


def test_train_clips_can_be_scored_too(run: Path, scored: tuple[dict[str, Any], Path], tmp_path: Path) -> None:
    figures = evaluate(run, tmp_path, split="train")
    assert figures["rows"][0]["abaw"]["num_clips"] == len(
        checkpoint.load_run(run).info["train_clips"] + checkpoint.load_run(run).info["selection"]["clips"]
    )
    info = checkpoint.load_run(run).info
    learned, chosen = len(info["train_clips"]), len(info["selection"]["clips"])
    said = [
        f"{learned} of the scored clips were trained on: these figures say how well the run remembers, not how well it "
        "predicts.",
        f"The epoch was chosen on {chosen} of the scored clips: these figures are flattered.",
    ]
    page = (tmp_path / "index.html").read_text()
    assert all(sentence in page and sentence in summary.remarks(figures) for sentence in said)
    assert figures["smoothing"]["chosen_on"].endswith(
        "of the split that is reported: the smoothed figures are flattered"
    )
    assert scored[0]["warnings"] == []


@pytest.mark.parametrize(
    ("clips", "said"),
    [
        (1, "Only 1 clip has labels, so there is no 95% interval"),
        (2, "Only 2 clips have labels: a 95% interval over so few is too narrow"),
        (4, "in 88 of 100 cases"),
        (5, None),
    ],
)
def test_few_clips_are_told_where_their_interval_is_shown(
    run: Path, small: Small, tmp_path: Path, clips: int, said: str | None
) -> None:
    made = Corpus.load(small.corpus)
    val = made.split("val")
    kept = [clip for clip in made.clips if clip.split != "val" or clip in val[:clips]]
    few = corpus.save(
        tmp_path / "corpus",
        name=made.name,
        synthetic=True,
        media_root=small.corpus.parent,
        entries=[(clip, made.truth(clip)) for clip in kept],
    )
    figures = evaluate(run, tmp_path / "report", corpus=few.path, robustness=False)
    page = (tmp_path / "report" / "index.html").read_text()
    assert figures["rows"][0]["abaw"]["num_clips"] == clips
    if said is None:
        assert figures["warnings"] == [] and sentences.few_clips(clips) == ""
        return
    (warning,) = figures["warnings"]
    assert said in warning
    assert warning in page and warning in summary.remarks(figures)
    assert warning in json.loads((tmp_path / "report" / "metrics.json").read_text())["warnings"]


def test_the_table_and_what_is_said_below_it() -> None:
    def figure(value: float) -> Figure:
        return Figure(value=value, low=value - 0.1, high=value + 0.1)

    nan = float("nan")
    empty = Figure(value=nan, low=nan, high=nan)
    known = {"ccc_valence": figure(0.5), "ccc_arousal": figure(-0.0001), "ccc_mean": figure(0.25)}
    unknown = {"ccc_valence": empty, "ccc_arousal": empty, "ccc_mean": empty}
    counted = {"filled": 0.0, "num_frames": 9, "num_clips": 2}
    header, lines = summary.table(
        [
            {"kind": "run", "name": "A", "note": "", "abaw": {**known, "coverage": 0.995, **counted}, "paper": None},
            {
                "kind": "smoothed",
                "name": "B",
                "note": "",
                "abaw": {**unknown, "coverage": nan, **counted},
                "paper": None,
            },
        ]
    )
    assert header == ("model", "CCC V", "CCC A", "CCC mean", "95% interval", "coverage")
    assert lines[0] == ("A", "0.500", "0.000", "0.250", "0.150 to 0.350", "99.5%")
    assert lines[1] == ("B", "n/a", "n/a", "n/a", "n/a", "n/a")


def test_a_shift_of_the_labels_is_applied_to_everything_and_told(
    run: Path, scored: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    (plain, _), shifted = scored, evaluate(run, tmp_path, label_shift_s=1.0)
    lag = dict(zip(plain["lag"]["shift_s"], plain["lag"]["ccc_mean"], strict=True))
    assert shifted["rows"][0]["abaw"]["ccc_mean"]["value"] == pytest.approx(lag[1.0], abs=1e-12)
    for ours, theirs in zip(plain["rows"], shifted["rows"], strict=False):
        assert ours["abaw"]["ccc_mean"] != theirs["abaw"]["ccc_mean"]
    assert plain["rows"][0]["paper"]["ccc_mean"] != shifted["rows"][0]["paper"]["ccc_mean"]
    assert any("no figure is the official score" in remark for remark in summary.remarks(shifted))
    assert not any("official" in remark for remark in summary.remarks(plain))
    assert dict(shifted["provenance"])["Label shift"] == "1 s"


def test_what_is_filled_is_counted(small: Small, tmp_path: Path) -> None:
    (end,) = runs.train([small.config(tmp_path, epochs=1, target="end")], epoch_done=lambda config, line: None)
    interpolated = evaluate(end, tmp_path / "a")
    nearest = evaluate(end, tmp_path / "b", fill="nearest")
    none = evaluate(end, tmp_path / "c", fill="none", smooth="none")
    # Window ends at 10, 13 and 16 s have half a second of frames around each; the last is half beyond the clip.
    assert interpolated["filled"] == nearest["filled"] == pytest.approx(1 - 2.5 / 2 / 16, abs=0.01)
    assert none["filled"] == 0.0
    assert none["rows"][0]["abaw"]["coverage"] == pytest.approx(1 - nearest["filled"], abs=1e-12)
    assert nearest["rows"][0]["abaw"]["ccc_mean"] != interpolated["rows"][0]["abaw"]["ccc_mean"]
    assert (nearest["fill"], none["fill"]) == ("nearest", "none")
    with (tmp_path / "c" / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert np.mean([row["valence"] != "" for row in rows]) == pytest.approx(2.5 / 2 / 16, abs=0.01)


def test_json_is_what_is_written(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["va", "evaluate", str(run), "--out", str(tmp_path), "--json", "--no-robustness", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures == json.loads((tmp_path / "metrics.json").read_text())
    assert figures["robustness"] == [] and len(figures["published"]) == 4
    assert figures["rows"][0]["kind"] == "run"


def test_two_evaluations_write_the_same_predictions(run: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        evaluate(run, tmp_path / name, robustness=False)
    for name in ("predictions.csv", "predictions.h5"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
