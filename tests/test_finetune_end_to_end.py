"""Fine-tuning in the whole pipeline, through the real command line, on real mp4 files with the demo encoders."""

import json
from pathlib import Path

import pytest
from test_end_to_end import va


@pytest.mark.slow
def test_tuned_encoders_go_back_to_stage_one_and_on(tmp_path: Path) -> None:
    corpus, out = tmp_path / "corpus", tmp_path / "tuned"
    va("corpus", "synth", corpus, "--clips", "8", "--seconds", "6")
    va("extract", corpus, "--out", tmp_path / "features", "--preset", "tiny")
    trained = va("train", corpus, tmp_path / "features", "--out", tmp_path / "runs", "--epochs", "3")
    started = trained.stdout.splitlines()[-1]
    fast = ("--epochs", "2", "--micro-batch", "4", "--no-checkpointing")
    tuned = va("finetune", corpus, "--from", started, "--out", out, *fast, "--backbone-rate", "1e-4")
    run = Path(tuned.stdout.splitlines()[-1])
    info, before = (json.loads((Path(one) / "run.json").read_text()) for one in (run, started))
    assert f"as it came: dev CCC mean {before['selection']['ccc_mean']:.3f}" in tuned.stderr
    assert info["finetuned_from"] == Path(started).name
    again = va("finetune", corpus, "--from", started, "--out", out, *fast, "--backbone-rate", "1e-4")
    assert again.stdout == tuned.stdout and "epoch   1/2" not in again.stderr, "a finished run is reused"
    va("verify", run / "features")
    va("evaluate", run, "--split", "val", "--out", tmp_path / "report", "--resamples", "50")
    va("evaluate", run, "--split", "val", "--compare", started, "--out", tmp_path / "compared", "--resamples", "50")
    va("extract", corpus, "--out", tmp_path / "again", "--encoders", f"run:{run}")
    second = va("train", corpus, tmp_path / "again", "--out", tmp_path / "runs", "--epochs", "2").stdout.splitlines()[
        -1
    ]
    va("evaluate", second, "--split", "val", "--out", tmp_path / "second", "--resamples", "50")
    video = next(corpus.rglob("*.mp4"))
    va("predict", run, video, "--out", tmp_path / "watch")
    va("predict", second, video, "--out", tmp_path / "watch_second")
    # A run on tuned features, and a tuned run itself, can be tuned further.
    further = va("finetune", corpus, "--from", second, "--out", out, *fast, "--no-extract").stdout.splitlines()[-1]
    assert json.loads((Path(further) / "run.json").read_text())["finetuned_from"] == Path(second).name
    further = va("finetune", corpus, "--from", run, "--out", out, *fast, "--no-extract").stdout.splitlines()[-1]
    face = json.loads((Path(further) / "run.json").read_text())["encoders"]["face"]
    assert face["tuned"]["base"] == "tiny-clip" and face["encoder"] == f"tiny-clip@{Path(further).name}"
