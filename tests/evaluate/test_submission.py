"""The challenge's submission: exactly the sample's frames in its order, whole and checked, without labels."""

import csv
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_corpus import Small

from va import cli
from va.data import corpus
from va.data.corpus import Clip, Corpus, Truth
from va.data.sample import read_sample
from va.errors import VAError
from va.evaluate import score, submission
from va.evaluate.assemble import ClipSeries
from va.evaluate.config import EvaluateConfig
from va.train import runs

HEADER = "image_location,valence,arousal"


def ramp(name: str, *, slope: float = 0.1) -> tuple[ClipSeries, Truth]:
    """A clip of 2 s at 10 fps whose valence is `slope` times the time, its arousal the negative."""
    time_s = np.arange(4) * 0.5 + 0.25
    values = np.stack([slope * time_s, -slope * time_s], axis=1)
    truth = Truth(time_s=np.arange(20) / 10, va=np.zeros((20, 2), np.float32), valid=np.zeros(20, np.bool_))
    return ClipSeries(id=name, time_s=time_s, values=values, covered=np.ones(4, np.bool_)), truth


def write_sample(folder: Path, *locations: str) -> Path:
    file = folder / "sample.txt"
    file.write_text("\n".join([HEADER, *(f"{location},-5,-5" for location in locations)]) + "\n", encoding="utf-8")
    return file


def submit(folder: Path, sample: Path, *names: str, **changes: Any) -> list[str]:
    series, truths = zip(*map(ramp, names), strict=True)
    settings = {"fill": "interpolate", "label_shift_s": 0.0, **changes}
    submission.write_submission(folder / "out.txt", read_sample(sample), series, truths, **settings)
    return (folder / "out.txt").read_text(encoding="utf-8").splitlines()


def test_lines_are_those_of_the_sample_in_its_order(tmp_path: Path) -> None:
    names = ["b", "=a,b", "video\N{SNOWMAN}"]
    locations = [f"{name}/{frame:05}.jpg" for frame in (11, 4, 20) for name in names]
    lines = submit(tmp_path, write_sample(tmp_path, *locations), "unused", *names)
    assert lines[0] == HEADER
    assert [line.rsplit(",", 2)[0] for line in lines[1:]] == locations
    for line, frame in zip(lines[1:], np.repeat([11, 4, 20], 3), strict=True):
        valence, arousal = map(float, line.rsplit(",", 2)[1:])
        time_s = float(np.clip((frame - 1) / 10, 0.25, 1.75))  # held before the first and after the last centre
        assert valence == pytest.approx(0.1 * time_s, abs=1e-5) and arousal == -valence


def test_frames_beyond_the_video_keep_its_clock_and_its_last_value(tmp_path: Path) -> None:
    _, truth = ramp("a")
    np.testing.assert_allclose(submission.frame_times(truth, np.array([1, 20, 21, 25])), [0.0, 1.9, 2.0, 2.4])
    single = Truth(time_s=np.array([0.3]), va=truth.va[:1], valid=truth.valid[:1])
    np.testing.assert_allclose(submission.frame_times(single, np.array([1, 2])), [0.3, 0.8])
    lines = submit(tmp_path, write_sample(tmp_path, "a/00020.jpg", "a/00900.jpg"), "a")
    assert lines[1:] == ["a/00020.jpg,0.17500,-0.17500", "a/00900.jpg,0.17500,-0.17500"]


def test_a_clip_or_frame_without_a_prediction_names_line_and_file(tmp_path: Path) -> None:
    sample = write_sample(tmp_path, "a/00001.jpg", "b/00001.jpg", "a/00900.jpg")
    with pytest.raises(VAError, match=r"sample.txt, line 3: clip 'b' is not in the 'predicted' split"):
        submit(tmp_path, sample, "a")
    with pytest.raises(VAError, match=r"sample.txt, line 4: 'a/00900.jpg' has no prediction, one of 1"):
        submit(tmp_path, sample, "a", "b", fill="none")
    assert not (tmp_path / "out.txt").exists()


def test_what_is_wrong_is_found_when_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_sample(tmp_path, "a/00001.jpg", "a/00002.jpg")
    sample, good = read_sample(path), submit(tmp_path, path, "a")
    file = tmp_path / "tampered.txt"

    def problem(*lines: str) -> str:
        file.write_text("\n".join(lines) + "\n")
        return submission.check_file(file, sample)

    assert problem(*good) == ""
    assert problem("image,valence,arousal", *good[1:]) == f"line 1 is not '{HEADER}'"
    assert problem(*good[:2]) == "it has 1 lines, the sample 2"
    assert problem(*good, good[1]) == "it has 3 lines, the sample 2"
    assert problem(good[0], good[2], good[1]) == "line 2 is not about 'a/00001.jpg'"
    assert problem(good[0], good[1], good[1]) == "line 3 is not about 'a/00002.jpg'"
    assert problem(*good[:2], "a/00002.jpg,0.1") == "line 3 is not about 'a/00002.jpg'"
    for value in ("1.00001", "-5", "nan", "inf", ""):
        assert problem(*good[:2], f"a/00002.jpg,0.1,{value}") == "line 3 has a value outside [-1, 1]"
    (tmp_path / "out.txt").unlink()
    with pytest.raises(VAError, match=r"out.txt: was not kept: line 2 has a value outside \[-1, 1\]"):
        series, truth = ramp("a", slope=9.0)
        submission.write_submission(
            tmp_path / "out.txt", sample, [series], [truth], fill="interpolate", label_shift_s=0.0
        )
    assert not (tmp_path / "out.txt").exists() and not list(tmp_path.glob(".*.tmp"))


# --- through the command


@pytest.fixture(scope="module")
def trained(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.train([small.config(tmp_path_factory.mktemp("runs"))], epoch_done=lambda *_: None)[0]


@pytest.fixture(scope="module")
def with_test(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus again, its last two validation clips as test clips without labels."""
    made = Corpus.load(small.corpus)
    entries = []
    for clip in made.clips:
        truth, hidden = made.truth(clip), clip.id in ("clip22", "clip23")
        if hidden:
            clip = Clip(**{**vars(clip), "split": "test"})
            truth = Truth(time_s=truth.time_s, va=0 * truth.va, valid=np.zeros_like(truth.valid))
        entries.append((clip, truth))
    folder = tmp_path_factory.mktemp("with_test")
    return corpus.save(folder, name="small", synthetic=True, media_root=small.corpus.parent, entries=entries).path


def test_the_test_split_is_submitted_without_labels(
    trained: Path, with_test: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    locations = [f"{name}/{frame:05}.jpg" for name in ("clip23", "clip22") for frame in (*range(400, 0, -7), 405)]
    sample = write_sample(tmp_path, *locations)
    monkeypatch.setenv("COLUMNS", "160")
    command = ["evaluate", str(trained), "--split", "test", "--corpus", str(with_test), "--submission", str(sample)]
    command += ["--smooth", "median", "--smooth-s", "2", "--device", "cpu", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["va", *command])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "The 'test' split has no labels: it was predicted, and nothing can be scored." in said
    assert "n/a" in said and "nan" not in said
    assert f"submission.txt ({len(locations)} frames, smoothed)" in said
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["rows"][0]["abaw"]["ccc_mean"]["value"] is None
    assert metrics["robustness"] == [] and metrics["lag"] is None and metrics["calibration"] == {}
    assert metrics["submission"].startswith("submission.txt (")
    assert str(tmp_path) not in (tmp_path / "out" / "index.html").read_text()
    with (tmp_path / "out" / "predictions.csv").open(newline="") as stream:
        by_frame = {f"{row['clip']}/{int(row['frame']):05}.jpg": row for row in csv.DictReader(stream)}
    assert not any(row["label_valence"] for row in by_frame.values())
    lines = (tmp_path / "out" / "submission.txt").read_text().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == locations
    for line in lines[1:]:
        location, valence, arousal = line.split(",")
        if location in by_frame:  # frame 405 is beyond the clip
            row = by_frame[location]
            assert (valence, arousal) == (row["smoothed_valence"], row["smoothed_arousal"])
            assert not math.isnan(float(row["valence"]))


def test_raw_can_be_submitted_and_mistakes_are_told_first(trained: Path, with_test: Path, tmp_path: Path) -> None:
    def evaluate(sample: Path, **changes: Any) -> dict[str, Any]:
        config = EvaluateConfig(
            run=trained,
            out=tmp_path / "out",
            corpus=with_test,
            submission=sample,
            device="cpu",
            resamples=20,
            **changes,
        )
        return score.run(config, progress=lambda *_: None)

    sample = write_sample(tmp_path, "clip22/00001.jpg", "clip16/00001.jpg")
    with pytest.raises(VAError, match=r"sample.txt, line 3: clip 'clip16' is not in the 'test' split of the corpus"):
        evaluate(sample, split="test")
    assert not (tmp_path / "out").exists()
    sample = write_sample(tmp_path, "clip16/00200.jpg")
    figures = evaluate(sample, split="val", smooth="hamming", smooth_s=5.0, submit="raw")
    assert figures["submission"].endswith("(1 frames, raw)")
    (line,) = (tmp_path / "out" / "submission.txt").read_text().splitlines()[1:]
    clip = next(clip for clip in figures["clips"] if clip["id"] == "clip16")
    assert line == "clip16/00200.jpg,{:z.5f},{:z.5f}".format(*clip["prediction"][199])
    sample = write_sample(tmp_path, "clip16/00400.jpg", "clip16/00401.jpg", "clip16/09999.jpg")
    figures = evaluate(sample, split="val", smooth="none")
    assert figures["submission"].endswith(
        "; 2 of them lie beyond their video's end and hold its last value, first clip16/00401.jpg"
    )
    score.run(
        EvaluateConfig(run=trained, out=tmp_path / "out", corpus=with_test, smooth="none", device="cpu", resamples=20),
        progress=lambda *_: None,
    )
    assert not (tmp_path / "out" / "submission.txt").exists()  # it would be another evaluation's
