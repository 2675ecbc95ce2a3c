"""`va reproduce affwild2` on a small drawn tree: every table, a submission, and nothing done twice."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import inside
import pytest

from va import reproduce
from va.data.sample import HEADER


def run_va(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "va.cli", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def sample_of(tree: Path, name: str) -> tuple[Path, list[str]]:
    """Make a validation clip a test clip: a sample file that lists its frames, and no annotation."""
    annotation = next(tree.rglob(f"Validation_Set/{name}.txt"))
    count = len(annotation.read_text().splitlines()) - 1
    annotation.unlink()
    locations = [f"{name}/{number:05d}.jpg" for number in range(1, count + 1)]
    sample = tree.parent / "sample.txt"
    sample.write_text("\n".join([HEADER, *(f"{location},-5,-5" for location in locations)]) + "\n")
    return sample, locations


@pytest.mark.slow
def test_one_command_from_a_tree_to_the_tables_and_again(tmp_path: Path) -> None:
    tree, out = tmp_path / "tree", tmp_path / "out"
    run_va("corpus", "synth", str(tree), "--clips", "10", "--seconds", "12")
    for made in ("corpus.json", "labels"):
        made_path = tree / made
        shutil.rmtree(made_path) if made_path.is_dir() else made_path.unlink()
    sample, locations = sample_of(tree, "synth_0007")
    command = ["reproduce", "affwild2", str(tree), "--out", str(out), "--name", "rehearsal", "--sample", str(sample)]
    command += ["--encoders", "tiny", "--faces", "none", "--epochs", "1", "--seeds", "0,1", "--resamples", "20"]
    first = run_va(*command)
    assert first.stdout.splitlines()[-1] == str(out / "index.html")
    results = json.loads((out / "results.json").read_text())
    assert [table["table"] for table in results["tables"]] == [1, 2, 3]
    assert [len(table["rows"]) for table in results["tables"]] == [2, 8, 3]
    assert len(results["own"]) == 3  # two seeds and their mean
    lines = (out / "submission" / "submission.txt").read_text().splitlines()
    assert [line.rsplit(",", 2)[0] for line in lines[1:]] == locations
    for page in ("index.html", "table1/index.html", "table3/index.html", results["own"][-1]["page"]):
        assert (out / page).is_file()

    weights = {file: file.stat().st_mtime_ns for file in out.rglob("model.safetensors")}
    assert len(weights) == 2 * 2 * (2 + 8 + 3) + 3
    run_va(*command)
    assert {file: file.stat().st_mtime_ns for file in out.rglob("model.safetensors")} == weights


def test_a_folder_that_is_no_tree_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert inside.va("reproduce", "affwild2", tmp_path / "missing", "--out", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert "no such folder" in said
    assert "Traceback" not in said


def test_a_tree_that_changed_is_read_again(tmp_path: Path) -> None:
    for name in ("batch1/a.mp4", "batch1/b.mp4", "cropped_aligned/a/00001.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"1")
    before = reproduce._fingerprint(tmp_path)
    (tmp_path / "cropped_aligned/a/00002.jpg").write_bytes(b"1")  # millions of them, and none is a clip
    assert reproduce._fingerprint(tmp_path) == before
    (tmp_path / "batch1/a.mp4").write_bytes(b"12")
    grown = reproduce._fingerprint(tmp_path)
    (tmp_path / "batch1/b.mp4").unlink()
    assert len({before, grown, reproduce._fingerprint(tmp_path)}) == 3
