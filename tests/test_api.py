"""`va.load` in Python: equal to the commands, and its page of documentation executed."""

import ast
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_corpus import Small, small
from support import make_video, sine
from tiny_run import make_run

import va
from va.api import Answer
from va.data import corpus as corpora
from va.data import media, showing
from va.data.corpus import Clip, Corpus, Truth
from va.data.features import FeatureStore
from va.errors import VAError
from va.evaluate import opening, predict
from va.evaluate.media import video
from va.evaluate.pages.sentences import NO_REGIONS
from va.evaluate.predict_config import PredictConfig
from va.extract import decode, pipeline
from va.extract.config import ExtractConfig
from va.train import checkpoint, ensemble, planning, runs

__all__ = ["small"]

ROOT = Path(__file__).resolve().parents[1]
CLIPS = ROOT.parent / "shared" / "clips"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run") / "gru-hierarchical-1a2b3c4d")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("media") / "talk.mp4"
    make_video(path, seconds=12.5, rate=10, audio=sine(hz=200, seconds=11))
    return path


def decoded(path: Path) -> dict[str, Any]:
    """The media as va decodes them."""
    info = media.probe(path)
    pictures = [
        picture.to_ndarray(format="rgb24", threads=1)
        for _, picture in showing.timed_pictures(path, threads=1, beat=lambda: None)
    ]
    blocks = list(decode.waveform_blocks(path, duration_s=info.duration_s, beat=lambda: None))
    sound = np.concatenate(blocks) if blocks else None
    return {"frames": np.stack(pictures), "frame_time_s": info.frame_time_s, "waveform": sound}


def assert_same(found: Answer, expected: Answer, *, within: float = 1e-3) -> None:
    for name in ("time_s", "valence", "arousal", "regions", "gate", "has_face", "has_sound"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=within, err_msg=name)


def test_importing_va_is_cheap() -> None:
    code = "import sys, va; va.load; print([m for m in ('numpy', 'torch', 'av') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_video_is_what_the_command_says_of_it(run: Path, clip: Path, tmp_path: Path) -> None:
    answer = va.load(run, device="cpu").predict(clip)
    config = PredictConfig(inputs=(run, clip), out=tmp_path, video="none", device="cpu")
    summary = video.run(config, progress=lambda *_: None)
    (found,) = summary.figures["videos"]
    rows = Path(found["csv"]).read_text().splitlines()[1:]
    written = np.array([[float(value) for value in row.split(",")[2:4]] for row in rows])
    times = media.probe(clip).frame_time_s
    np.testing.assert_allclose(answer.at(times), written, atol=1e-5)
    assert list(answer.notes) == [*summary.figures["model"]["notes"], *found["notes"]]
    assert any("Demo encoders" in note for note in answer.notes)
    assert len({*summary.notes}) == len(summary.notes), "each note once"
    assert sum("Demo encoders" in note for note in summary.notes) == 1
    assert np.ptp(answer.valence) > 0.01, "a head that always says the same shows nothing"


def test_arrays_are_what_the_file_is(run: Path, clip: Path) -> None:
    predictor = va.load(run, device="cpu")
    expected, media_of = predictor.predict(clip), decoded(clip)
    assert_same(predictor.predict_arrays(**media_of, duration_s=expected.duration_s), expected)
    assert_same(predictor.predict_arrays(**media_of), expected)
    deaf = predictor.predict_arrays(**(media_of | {"waveform": None}))
    assert not deaf.has_sound.any() and expected.has_sound.tolist() == [True] * 22 + [False] * 3
    assert not np.allclose(deaf.arousal, expected.arousal, atol=1e-3)
    assert any("no sound" in note for note in deaf.notes)


def test_a_run_without_the_region_term_says_nothing_about_regions(clip: Path, tmp_path: Path) -> None:
    answer = va.load(make_run(tmp_path / "run", region_weight=0.0), device="cpu").predict(clip)
    with_them = va.load(make_run(tmp_path / "other"), device="cpu").predict(clip)
    assert answer.regions is None and NO_REGIONS in answer.notes
    assert with_them.regions is not None and NO_REGIONS not in with_them.notes
    for name in ("valence", "arousal", "gate"):  # the same weights, and nothing else is lost
        np.testing.assert_allclose(getattr(answer, name), getattr(with_them, name), atol=1e-6)


@pytest.mark.skipif(not CLIPS.is_dir(), reason="needs real recordings, which are not part of the product")
def test_arrays_with_a_real_face_are_what_the_file_is(run: Path) -> None:
    predictor = va.load(run, device="cpu", faces="detect")
    expected = predictor.predict(CLIPS / "bbaf2n.mpg")
    found = predictor.predict_arrays(**decoded(CLIPS / "bbaf2n.mpg"), duration_s=expected.duration_s)
    assert_same(found, expected)
    assert expected.boxes is not None and found.boxes is not None and expected.has_face.all()
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    assert ((expected.boxes > 0) & (expected.boxes < 1)).all(), "on the picture"


@pytest.fixture(scope="module")
def trained(small: Small, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("runs")
    config = small.config(out, epochs=1)
    (end,) = runs.train([replace(config, target="end")], epoch_done=lambda *_: None)
    several = replace(config, seeds=(0, 1), ensemble=True)
    members = runs.train(planning.expand(several), epoch_done=lambda *_: None)
    return {"frames": members[0], "end": end, "ensemble": ensemble.join(several, members)}


@pytest.mark.parametrize("which", ["frames", "end", "ensemble"])
def test_a_clip_is_what_evaluation_scores(small: Small, trained: dict[str, Path], which: str) -> None:
    loaded = checkpoint.load_run(trained[which])
    inputs = opening.open_inputs(loaded, corpus=None, features_root=None)
    clips = inputs.corpus.split("val")[:2]
    scored = predict.predict_clips(loaded, inputs, clips, device=CPU, fill="interpolate", label_shift_s=0.0)
    predictor = va.load(trained[which], device="cpu")
    for each, frames in zip(clips, scored.frames, strict=True):
        answer = predictor.predict_clip(small.corpus, small.features, each.id)
        np.testing.assert_allclose(answer.at(frames.time_s), frames.prediction, atol=1e-6)
        face, voice = inputs.face.read(each.id), inputs.voice.read(each.id)
        again = predictor.predict_features(
            frames=np.where(face.valid[:, None], face.values.astype(np.float32), np.nan),
            frame_valid=face.valid,
            audio=voice.values,
            audio_valid=voice.valid,
            duration_s=each.duration_s,
        )
        np.testing.assert_allclose(again.at(frames.time_s), frames.prediction, atol=1e-6)


def test_an_ensemble_is_the_mean_of_its_members_on_a_video(clip: Path, tmp_path: Path) -> None:
    joined = va.load(make_run(tmp_path / "joined", members=2), device="cpu").predict(clip)
    alone = [va.load(make_run(tmp_path / f"{seed}", seed=seed), device="cpu").predict(clip) for seed in range(2)]
    np.testing.assert_allclose(joined.valence, (alone[0].valence + alone[1].valence) / 2, atol=1e-5)
    assert joined.regions is not None and alone[0].regions is not None and alone[1].regions is not None
    np.testing.assert_allclose(joined.regions, (alone[0].regions + alone[1].regions) / 2, atol=1e-5)


def test_other_encoders_than_the_runs_are_refused(run: Path, clip: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other")
    text = (other / "run.json").read_text()
    (other / "run.json").write_text(re.sub(r'"weights": "[0-9a-f]{4}', '"weights": "0000', text, count=1))
    with pytest.raises(VAError, match=r"another 'tiny-clip' \(its weights differ\)"):
        va.load(other, device="cpu").predict(clip)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": np.zeros((2, 8, 8, 3), np.float32)}, "frames must be uint8"),
        ({"frames": np.zeros((0, 8, 8, 3), np.uint8), "frame_time_s": np.zeros(0)}, "frames must be uint8"),
        ({"frame_time_s": np.array([0.5, 0.0])}, "ascending"),
        ({"frame_time_s": np.array([0.0, np.nan])}, "finite"),
        ({"waveform": np.zeros(9)}, "float32"),
        ({"waveform": np.full(9, np.inf, np.float32)}, "not finite"),
        ({"duration_s": 0.0}, "cannot last"),
    ],
)
def test_arrays_that_cannot_be_are_refused(run: Path, changes: dict[str, Any], message: str) -> None:
    given = {"frames": np.zeros((2, 32, 32, 3), np.uint8), "frame_time_s": np.array([0.0, 0.5]), "waveform": None}
    with pytest.raises(ValueError, match=message):
        va.load(run, device="cpu").predict_arrays(**(given | changes))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"frames": np.zeros((32, 3), np.float16)}, VAError, "embeddings of 12 and 10 numbers, these have 3 and 10"),
        ({"frame_valid": np.ones(31, np.bool_)}, ValueError, "frame_valid must be bool"),
        ({"audio": np.zeros((2, 20, 10)), "audio_valid": np.ones((2, 20), np.bool_)}, ValueError, "3 windows, not 2"),
        ({"duration_s": 20.0}, ValueError, "40 cells, not 32"),
    ],
)
def test_features_that_do_not_fit_are_refused(
    trained: dict[str, Path], changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    given = {"frames": np.zeros((32, 12), np.float16), "frame_valid": np.ones(32, np.bool_)}
    given |= {"audio": np.zeros((3, 20, 10), np.float16), "audio_valid": np.ones((3, 20), np.bool_)}
    with pytest.raises(error, match=message):
        va.load(trained["frames"], device="cpu").predict_features(**(given | changes))


def test_a_choice_of_faces_that_is_none_is_refused_at_once(run: Path) -> None:
    with pytest.raises(ValueError, match="faces must be one of auto, none, detect, not 'what'"):
        va.load(run, faces="what")


def test_a_clip_that_is_not_there(small: Small, trained: dict[str, Path]) -> None:
    with pytest.raises(VAError, match="has no clip 'nobody'"):
        va.load(trained["frames"], device="cpu").predict_clip(small.corpus, small.features, "nobody")


def test_a_script_needs_no_guard(clip: Path, tmp_path: Path) -> None:
    """Reader processes would run a user's script again, and it would start readers again."""
    script = tmp_path / "mine.py"
    script.write_text(
        "from pathlib import Path\n"
        "from va.extract import looking\n"  # the process that `predict` starts first, without what takes long to load
        f"print(looking.look(Path({str(clip)!r}), memory_gb=4, stall_s=60).width)\n"
    )
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "64\n"), done.stderr


def test_every_snippet_of_the_documentation_runs(
    run: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In order, in one namespace, in a folder that has what they name."""
    (tmp_path / "talk.mp4").symlink_to(clip)
    unknown = Truth(time_s=np.zeros(1), va=np.zeros((1, 2), np.float32), valid=np.zeros(1, np.bool_))
    entry = Clip(
        id="synth_0000", media=clip, split="val", identity="a", num_frames=1, duration_s=media.probe(clip).duration_s
    )
    made = corpora.save(
        tmp_path / "corpus", name="c", synthetic=True, media_root=clip.parent, entries=[(entry, unknown)]
    )
    assert isinstance(made, Corpus)
    summary = pipeline.run(
        ExtractConfig(
            corpus=made.path, out=tmp_path / "features", encoders=("tiny-clip", "tiny-ast"), faces="none", device="cpu"
        ),
        progress=lambda *_: None,
    )
    stores = {store.kind: store for store in map(FeatureStore, summary.stores)}
    mine = make_run(tmp_path / "runs" / run.name)
    text = (mine / "run.json").read_text()
    for kind, store in (("face", stores["frames"]), ("voice", stores["audio"])):
        text = text.replace(f"nowhere/{kind}", str(store.directory))
    (mine / "run.json").write_text(text)
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(snippets) == 7
    names: dict[str, Any] = {}
    answers = []
    for snippet in snippets:
        exec(compile(ast.parse(snippet), "docs/python.md", "exec"), names)
        answers.append(names["answer"])
    said = capsys.readouterr().out
    assert "most aroused at" in said and "missing.mp4: no such file - Check the path" in said
    assert names["trajectory"].shape == (4, 2)
    assert_same(answers[-1], answers[0])
