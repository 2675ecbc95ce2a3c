"""Predictions as CSV and HDF5: every value where it belongs, whatever a clip is called, and the same bytes again."""

import csv
from pathlib import Path

import h5py
import numpy as np
import pytest

from va import files
from va.errors import VAError
from va.evaluate import outputs
from va.evaluate.figures import ClipTrack
from va.evaluate.protocol import ClipFrames

HOSTILE = (
    '=HYPERLINK("http://x";"y")',
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    'quote " and, comma',
    "line\nbreak",
    "../../etc/passwd",
    ".hidden",
    "/",
    "video\N{SNOWMAN}\u2028",
    "<script>alert(1)</script>",
    "a" * 300,
)


def clip(name: str, *, seed: int = 0) -> ClipFrames:
    rng = np.random.default_rng(seed)
    covered, valid = np.array([True, True, False, True]), np.array([True, False, True, True])
    return ClipFrames(
        id=name,
        time_s=np.arange(4) / 30,
        prediction=np.where(covered[:, None], rng.uniform(-1, 1, (4, 2)), np.nan),
        target=np.where(valid[:, None], rng.uniform(-1, 1, (4, 2)), 0.0),
        valid=valid,
        covered=covered,
        filled=np.array([False, True, False, False]),
    )


def track(frames: ClipFrames, smoothed: ClipFrames | None) -> ClipTrack:
    return ClipTrack(
        id=frames.id,
        duration_s=2.0,
        time_s=frames.time_s,
        target=frames.target,
        valid=frames.valid,
        prediction=frames.prediction,
        smoothed=None if smoothed is None else smoothed.prediction,
        no_face=[],
        no_sound=[(0.0, 0.5)],
        cell_time_s=np.array([0.25, 0.75]),
        regions=np.array([[0.25, 0.75], [np.nan, np.nan]]),
        gate=np.array([0.5, np.nan]),
        metrics={},
        labelled=0.75,
    )


def test_the_csv_has_every_frame_and_no_name_that_a_spreadsheet_runs(tmp_path: Path) -> None:
    clips = [clip(name, seed=index) for index, name in enumerate(HOSTILE)]
    smoothed = [clip(name, seed=100 + index) for index, name in enumerate(HOSTILE)]
    outputs.write_csv(tmp_path / "p.csv", clips, smoothed)
    with (tmp_path / "p.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4 * len(HOSTILE)
    assert not any(row["clip"].startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows)
    for index, row in enumerate(rows):
        own, frame = index // 4, index % 4
        name, protected = HOSTILE[own], HOSTILE[own].startswith(("=", "+", "-", "@", "\t", "\r"))
        assert row["clip"] == ("'" if protected else "") + name
        assert row["frame"] == str(frame + 1) and row["time_s"] == f"{frame / 30:.4f}"
        wanted = {
            "valence": clips[own].prediction[frame, 0] if clips[own].covered[frame] else None,
            "arousal": clips[own].prediction[frame, 1] if clips[own].covered[frame] else None,
            "label_valence": clips[own].target[frame, 0] if clips[own].valid[frame] else None,
            "label_arousal": clips[own].target[frame, 1] if clips[own].valid[frame] else None,
            "smoothed_valence": smoothed[own].prediction[frame, 0] if smoothed[own].covered[frame] else None,
            "smoothed_arousal": smoothed[own].prediction[frame, 1] if smoothed[own].covered[frame] else None,
        }
        for column, value in wanted.items():
            assert (row[column] == "") if value is None else float(row[column]) == pytest.approx(value, abs=6e-5)


def test_without_smoothing_the_csv_has_no_smoothed_columns(tmp_path: Path) -> None:
    outputs.write_csv(tmp_path / "p.csv", [clip("a")], None)
    header = (tmp_path / "p.csv").read_text().splitlines()[0]
    assert header == "clip,frame,time_s,valence,arousal,label_valence,label_arousal"


def test_a_name_that_is_no_unicode_is_written_all_the_same(tmp_path: Path) -> None:
    outputs.write_csv(tmp_path / "p.csv", [clip("caf\udce9")], None)
    assert (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()[1].startswith("caf?,1,")


def test_hdf5_holds_every_array_with_its_unit_under_a_portable_name(tmp_path: Path) -> None:
    clips = [clip(name, seed=index) for index, name in enumerate(HOSTILE)]
    tracks = [track(frames, clips[0]) for frames in clips]
    about = {"run": "gru-1", "versions": {"va": "1", "python": "3"}, "label_shift_s": 0.5}
    outputs.write_hdf5(tmp_path / "p.h5", tracks, clips, about)
    with h5py.File(tmp_path / "p.h5") as file:
        assert file.attrs["run"] == b"gru-1" and file.attrs["versions"] == b'{"python": "3", "va": "1"}'
        assert file.attrs["schema"] == 1 and file.attrs["label_shift_s"] == 0.5
        assert set(file) == {files.safe_name(name) for name in HOSTILE}
        for name, frames in zip(HOSTILE, clips, strict=True):
            group = file[files.safe_name(name)]
            assert group.attrs["clip"].decode() == name
            assert all(isinstance(item, h5py.Dataset) and item.attrs["unit"] for item in group.values())
            np.testing.assert_array_equal(group["time_s"], frames.time_s)
            np.testing.assert_array_equal(group["prediction"], frames.prediction.astype(np.float32))
            np.testing.assert_array_equal(group["smoothed"], clips[0].prediction.astype(np.float32))
            label = np.where(frames.valid[:, None], frames.target, np.nan).astype(np.float32)
            np.testing.assert_array_equal(group["label"], label)
            np.testing.assert_array_equal(group["valid"], frames.valid)
            np.testing.assert_array_equal(group["filled"], frames.filled)
            np.testing.assert_array_equal(group["regions"], np.float32([[0.25, 0.75], [np.nan, np.nan]]))
            np.testing.assert_array_equal(group["gate"], np.float32([0.5, np.nan]))
            np.testing.assert_array_equal(group["cell_time_s"], [0.25, 0.75])


def test_the_same_predictions_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        clips = [clip("x"), clip("y", seed=1)]
        outputs.write_hdf5(tmp_path / f"{name}.h5", [track(one, None) for one in clips], clips, {"run": "r"})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    with h5py.File(tmp_path / "a.h5") as file:
        assert "smoothed" not in file["x"]


def test_a_file_is_whole_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for write in (
        lambda: outputs.write_csv(tmp_path / "file" / "p.csv", [clip("a")], None),
        lambda: outputs.write_hdf5(tmp_path / "file" / "p.h5", [track(clip("a"), None)], [clip("a")], {}),
    ):
        with pytest.raises(VAError, match="cannot be written"):
            write()
    monkeypatch.setattr(outputs, "_arrays", lambda *_: {"time_s": object()})
    with pytest.raises(TypeError):
        outputs.write_hdf5(tmp_path / "p.h5", [track(clip("a"), None)], [clip("a")], {"run": "r"})
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
