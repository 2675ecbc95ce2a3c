"""`va predict` on real files of every awkward kind, with the demo encoders and a head of random weights."""

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import make_video, sine
from tiny_run import make_run

from va import cli
from va.data import media
from va.errors import VAError
from va.evaluate.media import video, video_features
from va.evaluate.pages.sentences import NO_REGIONS
from va.evaluate.predict_config import PredictConfig

CLIPS = Path(__file__).resolve().parents[3].parent / "shared" / "clips"


def quiet(*_: Any) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "gru-hierarchical-00000000")


@pytest.fixture(scope="module")
def media_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("media")
    tone = sine(hz=300, seconds=3, level=0.4)
    make_video(root / "plain.mp4", seconds=3, audio=tone)
    make_video(root / "deaf.mp4", seconds=3)
    make_video(root / "silent.mp4", seconds=3, audio=np.zeros_like(tone))
    (root / "words.mp4").write_text("no video at all")
    hostile = root / "<img src=x onerror=alert(1)> ünï, 'q\".mp4"
    make_video(hostile, seconds=1, audio=tone[:44100])
    (root / "twin").mkdir()
    make_video(root / "twin" / "PLAIN.mp4", seconds=1)
    return root


@pytest.fixture(scope="module")
def several(run: Path, media_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[video.Summary, Path]:
    """All of them at once."""
    out = tmp_path_factory.mktemp("out")
    paths = sorted(path for path in media_folder.rglob("*.mp4"))
    summary = video.run(
        PredictConfig(inputs=(run, *paths), out=out, video="none", device="cpu", readers=1), progress=quiet
    )
    return summary, out


def shown(summary: video.Summary, name: str) -> dict[str, Any]:
    (found,) = (each for each in summary.figures["videos"] if each["name"] == name)
    return found


def rows_of(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_frame_has_a_row_and_the_page_is_there(several: tuple[video.Summary, Path], media_folder: Path) -> None:
    found = shown(several[0], "plain.mp4")
    rows, times = rows_of(found["csv"]), media.probe(media_folder / "plain.mp4").frame_time_s
    assert [int(row["frame"]) for row in rows] == list(range(1, 76))
    assert [float(row["time_s"]) for row in rows] == pytest.approx(times.tolist(), abs=1e-4)
    for row in rows:
        assert -1 <= float(row["valence"]) <= 1 and 0 <= float(row["gate"]) <= 1
        assert sum(float(row[f"region_{number}"]) for number in range(9)) == pytest.approx(1, abs=1e-4)
        assert (row["face"], row["sound"]) == ("1", "1")
    assert Path(found["page"]).read_text().startswith("<!")
    assert found["cells"] == found["cells_with_sound"] == 6


def test_a_broken_file_costs_only_itself(several: tuple[video.Summary, Path]) -> None:
    summary, out = several
    assert [Path(each["video"]).name for each in summary.figures["failed"]] == ["words.mp4"]
    assert "words.mp4: cannot be decoded" in summary.failed[0].message
    assert len(summary.figures["videos"]) == 5 and not (out / "words.csv").exists()


def test_what_is_wrong_with_a_video_is_said(several: tuple[video.Summary, Path]) -> None:
    summary = several[0]
    assert "There is no sound." in " ".join(shown(summary, "deaf.mp4")["notes"])
    assert shown(summary, "deaf.mp4")["cells_with_sound"] == 0
    assert "silent throughout" in " ".join(shown(summary, "silent.mp4")["notes"])
    assert "less than the 10 s" in " ".join(shown(summary, "plain.mp4")["notes"])
    assert "sound" not in " ".join(shown(summary, "plain.mp4")["notes"])
    page = Path(shown(summary, "deaf.mp4")["page"]).read_text()
    assert "There is no sound." in page
    assert any("Demo encoders" in note for note in summary.notes)


def test_hostile_and_equal_names_each_have_files_inside_the_folder(
    several: tuple[video.Summary, Path], media_folder: Path
) -> None:
    summary, out = several
    pages = [Path(each["page"]) for each in summary.figures["videos"]]
    assert len({page.name.casefold() for page in pages}) == 5
    assert all(page.parent == out and page.is_file() for page in pages)
    assert {page.name for page in pages} >= {"plain.html", "2-PLAIN.html"} or {page.name for page in pages} >= {
        "PLAIN.html",
        "2-plain.html",
    }
    (hostile,) = (each for each in summary.figures["videos"] if "onerror" in each["name"])
    page = Path(hostile["page"]).read_text()
    assert "<img src=x" not in page and "&lt;img src=x" in page


def test_names_keep_their_ends_and_must_be_text() -> None:
    found = video_features.named([Path("a/v_left.mp4"), Path("b/V_LEFT.mov"), Path("c/2-v_left.avi"), Path(".mp4")])
    assert [each.name for each in found] == ["v_left", "2-V_LEFT", "2-2-v_left", ".mp4"]
    with pytest.raises(VAError, match="not UTF-8"):
        video_features.named([Path("\udcff.mp4")])


@pytest.mark.parametrize(
    ("name", "start"),
    [
        ("talk", ""), ("Café 1", ""), ("日本 (2)", ""), ("100%", ""), ("a.b", ""), ("x" * 120, ""),
        ("a:b", "a_b"), ("../../x", "_.._x"), ("..", "_"), (".hidden", "hidden"), ("a ", "a"), ("a~b", "a_b"),
        ("con", "_con"), ("LPT1.x", "_LPT1.x"), ("\u202egpj", "_gpj"), ("a\nb", "a_b"), ("é" * 61, "é" * 60),
    ],
)  # fmt: skip
def test_files_have_names_that_people_read_and_every_system_takes(name: str, start: str, tmp_path: Path) -> None:
    made = video_features.file_name(name)
    assert made == name if not start else re.fullmatch(re.escape(start) + "~[0-9a-f]{8}", made)
    (tmp_path / f"{made}.preview.mp4").touch()
    assert [file.name for file in tmp_path.iterdir()] == [f"{made}.preview.mp4"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=2, max_size=2, unique=True))
def test_two_names_never_become_one(names: list[str]) -> None:
    first, second = map(video_features.file_name, names)
    assert first != second
    for made in (first, second):
        assert made.isprintable() and not set(made) & set('<>:"/\\|?*') and made[0] not in " ." and made[-1] not in " ."
        assert len(made.encode()) <= 130


def test_videos_whose_names_differ_in_capitals_or_what_is_refused_stay_apart() -> None:
    paths = [Path("a/v:1.mp4"), Path("b/V:1.mp4"), Path("c/v?1.mp4"), Path("d/e\u0301.mp4"), Path("e/\u00c9.mp4")]
    found = video_features.named(paths)
    assert [each.name for each in found] == ["v:1", "2-V:1", "v?1", "e\u0301", "2-\u00c9"]


def test_smoothing_adds_columns_and_kept_features_are_kept(run: Path, media_folder: Path, tmp_path: Path) -> None:
    config = PredictConfig(
        inputs=(run, media_folder / "plain.mp4"),
        out=tmp_path / "out",
        video="none",
        smooth="gaussian",
        smooth_s=2.0,
        keep_features=tmp_path / "kept",
        device="cpu",
    )
    rows = rows_of(video.run(config, progress=quiet).figures["videos"][0]["csv"])
    raw, smooth = (np.array([float(row[name]) for row in rows]) for name in ("valence", "valence_smoothed"))
    assert np.ptp(smooth) < np.ptp(raw)
    kept = {path.name.split("-")[0] for path in (tmp_path / "kept").iterdir()}
    assert {"tiny", "loudness"} <= kept


def test_a_run_without_the_region_term_says_nothing_about_regions(media_folder: Path, tmp_path: Path) -> None:
    silent = make_run(tmp_path / "run", region_weight=0.0)
    config = PredictConfig(
        inputs=(silent, media_folder / "plain.mp4"), out=tmp_path / "out", video="none", device="cpu"
    )
    summary = video.run(config, progress=quiet)
    row = rows_of(summary.figures["videos"][0]["csv"])[0]
    assert list(row) == ["frame", "time_s", "valence", "arousal", "gate", "face", "sound"]
    assert 0 <= float(row["gate"]) <= 1 and -1 <= float(row["arousal"]) <= 1
    assert summary.figures["regions"] == []
    assert summary.notes.count(NO_REGIONS) == 1
    assert NO_REGIONS in Path(summary.figures["videos"][0]["page"]).read_text()


def test_window_ends_leave_the_time_before_empty(media_folder: Path, tmp_path: Path) -> None:
    ends = make_run(tmp_path / "ends", target="end")
    make_video(tmp_path / "long.mp4", rate=5, seconds=14)
    config = PredictConfig(inputs=(ends, tmp_path / "long.mp4"), out=tmp_path / "out", video="none", device="cpu")
    (found,) = video.run(config, progress=quiet).figures["videos"]
    rows = rows_of(found["csv"])
    assert all((row["valence"] != "") == (float(row["time_s"]) >= 10) for row in rows if float(row["time_s"]) < 13.9)
    assert "the end of each 10 s" in " ".join(found["notes"])
    assert "One value per window of 10 s, at its end; windows end 3 s apart." in Path(found["page"]).read_text()


def test_zero_shot_says_what_it_is(media_folder: Path, tmp_path: Path) -> None:
    config = PredictConfig(
        inputs=(media_folder / "plain.mp4",),
        out=tmp_path,
        zero_shot=True,
        encoder="tiny-clip",
        faces="none",
        video="none",
        device="cpu",
    )
    summary = video.run(config, progress=quiet)
    (found,) = summary.figures["videos"]
    rows = rows_of(found["csv"])
    assert "zero_shot_valence" in rows[0] and "valence" not in rows[0] and "gate" not in rows[0]
    assert "never trained on valence or arousal" in summary.notes[0]
    assert "never trained on valence or arousal" in Path(found["page"]).read_text()


def test_zero_shot_without_a_face_says_nothing_and_says_so(media_folder: Path, tmp_path: Path) -> None:
    config = PredictConfig(
        inputs=(media_folder / "plain.mp4",),
        out=tmp_path,
        zero_shot=True,
        encoder="tiny-clip",
        video="none",
        smooth="median",
        device="cpu",
    )
    (found,) = video.run(config, progress=quiet).figures["videos"]
    assert found["valence"] is None and "No face was found." in " ".join(found["notes"])
    for row in rows_of(found["csv"]):
        assert {value for name, value in row.items() if name not in ("frame", "time_s", "face", "sound")} == {""}
    assert "Nothing could be predicted" in Path(found["page"]).read_text()


def test_a_video_without_a_face_is_written_and_says_so(media_folder: Path, tmp_path: Path) -> None:
    detecting = make_run(tmp_path / "detecting", faces="detect")
    deaf = tmp_path / "plain.mp4"
    shutil.copyfile(media_folder / "deaf.mp4", deaf)
    config = PredictConfig(
        inputs=(detecting, media_folder / "plain.mp4", deaf), out=tmp_path / "out", video="none", device="cpu"
    )
    summary = video.run(config, progress=quiet)
    found, other = summary.figures["videos"]
    assert [row[0] for row in summary.rows[1]] == [str(media_folder / "plain.mp4"), str(deaf)], "one name, two paths"
    assert summary.rows[0][-2:] == ("face", "sound")
    assert "With nothing seen either, what is said rests on nothing." in " ".join(other["notes"])
    assert "picture alone" not in " ".join(other["notes"])
    assert found["cells_with_face"] == 0 and "No face was found." in " ".join(found["notes"])
    assert not any("sees" in note for note in found["notes"]), "the run learned from detected faces too"
    assert {row["face"] for row in rows_of(found["csv"])} == {"0"}
    assert rows_of(found["csv"])[0]["valence"] != ""


@pytest.mark.skipif(not CLIPS.is_dir(), reason="needs real recordings, which are not part of the product")
def test_a_real_face_is_boxed_on_the_page(run: Path, tmp_path: Path) -> None:
    config = PredictConfig(inputs=(run, CLIPS / "bbaf2n.mpg"), out=tmp_path, faces="detect", video="none", device="cpu")
    (found,) = video.run(config, progress=quiet).figures["videos"]
    assert found["cells_with_face"] == found["cells"] == 6
    assert any("learned from whole frames and sees detected faces" in note for note in found["notes"])
    assert '"boxes":[[0.' in Path(found["page"]).read_text().replace(" ", "")


# --- the command


def run_va(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str | Path
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["va", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr()
    return int(stop.value.code or 0), said.out, said.err


def test_no_video_is_two_lines_and_exit_code_1(
    run: Path, media_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run_va(
        capsys, monkeypatch, "predict", run, media_folder / "words.mp4", "--out", tmp_path, "--device", "cpu"
    )
    lines = err.strip().splitlines()[-2:]
    assert code == 1 and out == ""
    assert lines[0].startswith("error:") and "words.mp4" in lines[0] and lines[1].startswith("fix:")
    assert "Traceback" not in err


def test_json_on_standard_output_and_the_rest_beside_it(
    run: Path, media_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["predict", run, media_folder / "deaf.mp4", "--out", tmp_path, "--video", "none", "--json"]
    code, out, err = run_va(capsys, monkeypatch, *words, "--device", "cpu")
    assert code == 0 and "There is no sound." in err
    assert json.loads(out) == json.loads((tmp_path / "predict.json").read_text())
    assert json.loads(out)["model"]["demo_encoders"] is True


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inputs": (Path("run"),)}, "no video is named"),
        ({"inputs": (), "zero_shot": True}, "no video is named"),
        ({"inputs": (Path("run"), Path("v")), "texts": Path("t")}, "--texts: is for --zero-shot"),
        ({"inputs": (Path("run"), Path("v")), "encoder": "tiny-clip"}, "--encoder: is for --zero-shot"),
        ({"inputs": (Path("v"),), "zero_shot": True, "scale": 0.0}, "--scale"),
        ({"inputs": (Path("v"),), "zero_shot": True, "centers": (0.5, 0.0)}, "--centers"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(VAError, match=message):
        PredictConfig(**{"out": Path("o"), **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "pixels"}, "has no text tower"),
        ({"centers": (-0.5, 0.5)}, "9 texts, but --centers makes 2 x 2"),
    ],
)
def test_zero_shot_needs_texts_for_its_regions(settings: dict[str, Any], message: str) -> None:
    config = PredictConfig(**{"inputs": (Path("v"),), "out": Path("o"), "zero_shot": True, **settings})
    with pytest.raises(VAError, match=message):
        video.predictor_for(config)
