"""A run scored on a split: files, figures, baselines and what must be told."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import audmetric
import numpy as np
import pytest
import torch
from small_corpus import Small

from va.data import features
from va.data.corpus import Corpus
from va.errors import VAError
from va.evaluate import predict, rows, score
from va.evaluate.config import EvaluateConfig
from va.train import checkpoint, runs

OFFICIAL: dict[str, Any] = {"device": torch.device("cpu"), "fill": "interpolate", "label_shift_s": 0.0}


@pytest.fixture(scope="module")
def run(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = small.config(tmp_path_factory.mktemp("runs"), epochs=8)
    return runs.train([config], epoch_done=lambda config, line: None)[0]


def evaluate(run: Path, out: Path, **changes: object) -> dict[str, object]:
    config = EvaluateConfig(run=run, out=out, device="cpu", resamples=200, **changes)
    return score.run(config, progress=lambda done, total, what: None)


def test_figures_and_files_agree(run: Path, small: Small, tmp_path: Path) -> None:
    figures = evaluate(run, tmp_path)
    written = json.loads((tmp_path / "metrics.json").read_text())
    own = written["rows"][0]
    assert own["abaw"] == figures["rows"][0]["abaw"]
    assert own["abaw"]["coverage"] == 1.0
    with (tmp_path / "predictions.csv").open(newline="") as stream:
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
    assert "<html" in (tmp_path / "index.html").read_text()


def test_the_report_says_what_was_selected_where(run: Path, tmp_path: Path) -> None:
    figures = evaluate(run, tmp_path)
    assert "dev" in figures["selected_on"]
    keys = [key for key, _ in figures["provenance"]]
    assert {"Scored split", "Selection", "Frame features", "Setting seed", "Version of torch"} <= set(keys)


def test_ridge_on_embeddings_stands_beside_the_model(run: Path, tmp_path: Path) -> None:
    found = [row for row in evaluate(run, tmp_path)["rows"] if row["kind"] == "baseline"]
    assert [row["name"] for row in found] == ["Ridge on frozen embeddings"]
    assert found[0]["abaw"]["ccc_mean"]["value"] > 0.5


def test_the_second_reading_is_the_centres_weighted_by_region_probabilities(run: Path, tmp_path: Path) -> None:
    loaded = checkpoint.load_run(run)
    inputs = predict.open_inputs(loaded, corpus=None, features_root=None)
    found = predict.predict_clips(loaded, inputs, inputs.corpus.split("val"), **OFFICIAL)
    # By hand, in the first half second of the first clip, which the first window alone covers.
    probabilities, axis = found.raw.regions[0, 0], (-0.66, 0.0, 0.66)
    valence = sum(p * axis[region // 3] for region, p in enumerate(probabilities))
    arousal = sum(p * axis[region % 3] for region, p in enumerate(probabilities))
    np.testing.assert_allclose(found.reading[0].prediction[0], [valence, arousal], atol=1e-6)
    found_rows = evaluate(run, tmp_path)["rows"]
    (row,) = (row for row in found_rows if row["kind"] == "reading")
    assert "regions" in row["name"] and row["paper"] is None
    assert row["abaw"] != found_rows[0]["abaw"]


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
    with pytest.raises(VAError, match="/gone"):
        evaluate(lost, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    figures = evaluate(lost, tmp_path / "out", corpus=small.corpus, features=tmp_path / "moved")
    assert figures["rows"][0]["abaw"]["coverage"] == 1.0


def test_a_split_without_clips_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(VAError, match="has no 'test' clips"):
        evaluate(run, tmp_path / "out", split="test")
    assert not (tmp_path / "out").exists()


def test_train_clips_can_be_scored_too(run: Path, tmp_path: Path) -> None:
    figures = evaluate(run, tmp_path, split="train")
    assert figures["rows"][0]["abaw"]["num_clips"] == len(
        checkpoint.load_run(run).info["train_clips"] + checkpoint.load_run(run).info["selection"]["clips"]
    )
