"""What a fine-tuned run's encoders are for everything after extraction: an encoder like any other, found again."""

import contextlib
import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import fake_hub
import numpy as np
import pytest
import torch
import tuned_run
from support import make_video, sine

import va
from va import hub, hub_pack
from va.data import corpus, features, media, prototypes
from va.data.corpus import Clip, Truth
from va.data.features import FeatureStore
from va.data.regions import REGION_TEXTS, TEMPLATES
from va.errors import VAError
from va.evaluate import score
from va.evaluate.config import EvaluateConfig
from va.evaluate.media import stream, video
from va.evaluate.predict_config import PredictConfig
from va.extract import encoders, fetch, pipeline, prompts
from va.extract.config import ExtractConfig, PromptsConfig
from va.train import checkpoint, compare, encoding, runs
from va.train.compare_config import CompareConfig
from va.train.config import TrainConfig
from va.train.finetune_config import FinetuneConfig
from va.train.finetuning import finetune

CPU = torch.device("cpu")
FACE, VOICE = "tiny-clip@tuned-0123abcd", "tiny-ast@tuned-0123abcd"


class Made(NamedTuple):
    """A corpus, a fine-tuned run, its encoders' features beside those of the demo encoders, a head on the former."""

    corpus: Path
    tuned: Path
    features: Path
    head: Path
    clip: Path

    def store(self, name: str) -> FeatureStore:
        return {store.encoder: store for store in features.open_stores(self.features)}[name]

    def training(self, out: Path, **changes: Any) -> TrainConfig:
        settings = {"face_encoder": FACE, "voice_encoder": VOICE, "width": 16, "num_heads": 2, "epochs": 1, **changes}
        return TrainConfig(corpus=self.corpus, features=self.features, out=out, device="cpu", **settings)


def quiet(*_: Any) -> None:
    """No progress."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    root = tmp_path_factory.mktemp("tuned")
    entries = []
    for number in range(8):
        path = root / f"clip{number}.mp4"
        make_video(path, rate=10, seconds=2, audio=sine(hz=150 + 60 * number, seconds=2))
        times = media.probe(path).frame_time_s
        clip = Clip(
            id=path.stem,
            media=path,
            split="train" if number < 6 else "val",
            identity=f"person{number}",
            num_frames=len(times),
            duration_s=2.0,
        )
        truth = np.sin(times[:, None] * [2.0, 3.0] + number).astype(np.float32)
        entries.append((clip, Truth(time_s=times, va=truth, valid=np.ones(len(times), np.bool_))))
    manifest = corpus.save(root, name="videos", synthetic=True, media_root=root, entries=entries).path
    run = tuned_run.make_run(root / "runs" / "tuned-0123abcd")
    names = ("pixels", f"run:{run}", "tiny-clip", "tiny-ast", "loudness")
    config = ExtractConfig(corpus=manifest, out=root / "features", encoders=names, device="cpu", readers=1)
    assert not pipeline.run(config, progress=quiet).failed
    part = Made(manifest, run, root / "features", run, root / "clip0.mp4")
    (head,) = runs.train([part.training(root / "runs")], epoch_done=quiet)
    return part._replace(head=head)


def test_its_features_are_stores_like_any_other(made: Made) -> None:
    assert {store.encoder for store in features.open_stores(made.features)} == {
        "pixels",
        "loudness",
        "tiny-clip",
        "tiny-ast",
        FACE,
        VOICE,
    }
    info = json.loads((made.tuned / "run.json").read_text())
    for kind, name in (("face", FACE), ("voice", VOICE)):
        store = made.store(name)
        assert store.identity == info["encoders"][kind]
        assert store.digest == info["identity"][kind]
        assert store.count() == 8 and not list(store.problems())
        base = made.store(name.partition("@")[0])
        assert np.abs(store.read("clip0").values - base.read("clip0").values).max() > 1e-3
    assert prototypes.read(made.store(FACE).directory).texts == REGION_TEXTS


def test_a_second_extraction_finds_everything(made: Made) -> None:
    config = ExtractConfig(
        corpus=made.corpus, out=made.features, encoders=(f"run:{made.tuned}",), device="cpu", readers=1
    )
    summary = pipeline.run(config, progress=quiet)
    assert (summary.written, summary.present) == (0, 8)
    with pytest.raises(VAError, match="two of them are called 'tiny-clip@tuned-0123abcd'"):
        pipeline.run(dataclasses.replace(config, encoders=config.encoders * 2), progress=quiet)


def test_the_weights_are_where_the_run_is(made: Made, tmp_path: Path) -> None:
    found = fetch.locate(f"run:{made.tuned}")
    assert [(place.encoder, place.path, place.there) for place in found] == [
        (FACE, made.tuned / "encoders" / "face", True),
        (VOICE, made.tuned / "encoders" / "voice", True),
    ]
    assert fetch.get([f"run:{made.tuned}"], progress=quiet) == found
    with pytest.raises(VAError, match="there is no such directory"):
        fetch.locate(f"run:{tmp_path / 'nowhere'}")


def test_its_texts_come_from_its_own_file(made: Made, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(REGION_TEXTS))
    asked = {"features": made.features, "texts": tmp_path / "texts.txt", "encoder": FACE, "device": "cpu"}
    written = prompts.run(PromptsConfig(**asked, tower=True))
    assert [path.parent for path in written.files] == [made.store(FACE).directory] * 2
    (face, _) = encoders.build_all(
        (f"run:{made.tuned}",), config=ExtractConfig(corpus=Path("c"), out=Path("o")), device=CPU
    )
    assert face.prototypes is not None
    np.testing.assert_array_equal(written.prototypes.values, face.prototypes(REGION_TEXTS, TEMPLATES))
    (learned,) = runs.train([made.training(tmp_path / "runs", context=2)], epoch_done=quiet)
    assert checkpoint.load_run(learned).config.context == 2


@pytest.fixture
def moved(made: Made, tmp_path: Path) -> Made:
    """Everything in another place, and the fine-tuned run gone from where it was noted."""
    shutil.copytree(made.features, tmp_path / "features")
    shutil.copytree(made.tuned, tmp_path / "elsewhere")
    shutil.copytree(made.head, tmp_path / made.head.name)
    for note in (tmp_path / "features").glob("*/tuned.json"):
        note.write_text(json.dumps({"folder": str(tmp_path / "gone" / "encoders")}))
    info = json.loads((made.head / "run.json").read_text())
    info["encoder_folders"] = {kind: str(tmp_path / "gone") for kind in info["encoder_folders"]}
    (tmp_path / made.head.name / "run.json").write_text(json.dumps(info))
    return Made(made.corpus, tmp_path / "elsewhere", tmp_path / "features", tmp_path / made.head.name, made.clip)


def test_a_run_that_moved_is_named_with_the_weights(moved: Made, made: Made, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(REGION_TEXTS))
    asked = {"features": moved.features, "texts": tmp_path / "texts.txt", "encoder": FACE, "device": "cpu"}
    with pytest.raises(VAError, match=f"the files of its encoder '{FACE}' are not there") as caught:
        prompts.run(PromptsConfig(**asked))
    assert caught.value.hint == ("Give encoders/face in the directory of its run, 'tuned-0123abcd', to --clip-weights.")
    file = moved.tuned / "encoders" / "face" / "open_clip_model.safetensors"
    assert prompts.run(PromptsConfig(**asked, clip_weights=file)).prototypes.texts == REGION_TEXTS
    with pytest.raises(VAError, match="the files of its encoder"):
        va.load(moved.head, device="cpu").predict(moved.clip)
    kept = moved.tuned / "encoders"
    folders = {"clip_weights": kept / "face", "ast_weights": kept / "voice"}
    found = va.load(moved.head, device="cpu", **folders).predict(moved.clip)
    np.testing.assert_array_equal(found.valence, va.load(made.head, device="cpu").predict(made.clip).valence)
    swapped = {"clip_weights": folders["ast_weights"], "ast_weights": folders["clip_weights"]}
    with pytest.raises(VAError, match=f"open_clip_model.safetensors of '{FACE}' is missing"):
        va.load(moved.head, device="cpu", **swapped).predict(moved.clip)


def test_a_video_is_encoded_as_the_features_were(made: Made, tmp_path: Path) -> None:
    loaded = va.load(made.head, device="cpu")
    expected = loaded.predict_clip(made.corpus, made.features, "clip0")
    answer = loaded.predict(made.clip)
    for name in ("valence", "arousal", "gate"):
        np.testing.assert_allclose(getattr(answer, name), getattr(expected, name), atol=1e-3)
    config = PredictConfig(inputs=(made.head, made.clip), out=tmp_path, video="none", device="cpu", readers=1)
    figures = video.run(config, progress=quiet).figures
    assert figures["model"]["demo_encoders"]
    page = Path(figures["videos"][0]["page"]).read_text()
    assert "fine-tuned from tiny-clip in tuned-0123abcd, demo encoder" in page


def test_the_fine_tuned_run_itself_predicts_and_streams(made: Made) -> None:
    answer = va.load(made.tuned, device="cpu").predict(made.clip)
    run = checkpoint.load_run(made.tuned)
    settings = encoding.settings_for(
        run,
        corpus=made.clip,
        out=made.clip,
        faces="auto",
        clip_weights=None,
        ast_weights=None,
        face_weights=None,
        device="cpu",
    )
    pair = encoding.load(run, settings, device=CPU)
    assert (pair.face.name, pair.voice.name) == (FACE, VOICE)
    lines = list(stream.answers(run, pair, settings, source=str(made.clip), step_s=1.0, realtime=False, device=CPU))
    assert lines and np.isfinite(answer.valence).all()


def test_zero_shot_takes_the_run_too(made: Made, tmp_path: Path) -> None:
    asked = {"inputs": (made.clip,), "zero_shot": True, "faces": "none", "video": "none", "device": "cpu", "readers": 1}
    found = video.run(PredictConfig(**asked, encoder=f"run:{made.tuned}", out=tmp_path / "tuned"), progress=quiet)
    base = video.run(PredictConfig(**asked, encoder="tiny-clip", out=tmp_path / "base"), progress=quiet)
    assert found.figures["model"]["name"] == f"zero-shot, {FACE}"
    texts = [(Path(each.figures["videos"][0]["csv"]).read_text()) for each in (found, base)]
    assert texts[0] != texts[1]


def test_a_report_says_what_it_was_fine_tuned_from(made: Made, tmp_path: Path) -> None:
    config = EvaluateConfig(run=made.head, out=tmp_path, device="cpu", resamples=50)
    figures = score.run(config, progress=quiet)
    assert "fine-tuned from tiny-clip in tuned-0123abcd, demo encoder" in dict(figures["provenance"])["Frame features"]
    (page,) = [path.read_text() for path in tmp_path.glob("*.html")]
    assert "Demo encoders on a synthetic corpus" in page and "fine-tuned from tiny-ast in tuned-0123abcd" in page
    assert "Ridge on fine-tuned embeddings" in [row["name"] for row in figures["rows"]]


def test_it_stands_beside_its_base_in_a_comparison(made: Made, tmp_path: Path) -> None:
    config = CompareConfig(
        corpus=made.corpus,
        features=made.features,
        out=tmp_path,
        pairs=(f"{FACE}+{VOICE}", "tiny-clip+tiny-ast"),
        width=16,
        epochs=1,
        seeds=(0,),
        device="cpu",
    )
    rows = compare.run(config, progress=quiet)["rows"]
    assert {tuple(row["encoders"]) for row in rows} == {(FACE, VOICE), ("tiny-clip", "tiny-ast")}


def test_its_encoders_travel_with_a_shared_head(made: Made, tmp_path: Path) -> None:
    packed = hub_pack.pack(made.head, repo_id="me/head", license_name="", metrics=None, verified=False)
    assert sorted(packed.encoders) == [
        "encoders/face/open_clip_model.safetensors",
        "encoders/voice/config.json",
        "encoders/voice/model.safetensors",
    ]
    assert packed.sizes()["encoders/voice/model.safetensors"] > 100_000
    card = packed.contents["README.md"].decode()
    assert "on features of encoders that were fine-tuned, and that are here beside it." in card
    assert "Fine-tuned from `tiny-clip` (weights `" in card and "The base: A demo encoder that ships with `va`." in card
    assert str(made.tuned.parent) not in packed.contents["run.json"].decode()
    hub_pack.save(packed, tmp_path / "head")
    made.tuned.rename(made.tuned.with_name("hidden"))
    try:
        found = va.load(tmp_path / "head", device="cpu").predict(made.clip)
    finally:
        made.tuned.with_name("hidden").rename(made.tuned)
    np.testing.assert_array_equal(found.valence, va.load(made.head, device="cpu").predict(made.clip).valence)
    names = [
        each.name
        for each in encoders.build_all(
            (f"run:{tmp_path / 'head'}",), config=ExtractConfig(corpus=Path("c"), out=Path("o")), device=CPU
        )
    ]
    assert names == [FACE, VOICE]


def test_a_head_whose_encoders_are_gone_is_not_shared(moved: Made) -> None:
    with pytest.raises(VAError, match=f"the files of its encoder '{FACE}' are not there"):
        hub_pack.pack(moved.head, repo_id="me/head", license_name="", metrics=None, verified=False)


def test_it_is_pushed_and_fetched_with_its_encoders(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_TOKEN", fake_hub.TOKEN)
    packed = hub_pack.pack(made.head, repo_id="me/head", license_name="", metrics=None, verified=False)
    about = {"repo_id": "me/head", "private": False, "revision": "", "message": "A head"}
    with fake_hub.running() as server:
        hub.push(packed, **about, endpoint=server.address)
        there = server.repositories["me/head"]["main"]
        assert set(packed.sizes()) == set(there) - {".gitattributes"}
        there |= {"encoders/face/code.py": b"x", "encoders/voice/model.bin": b"x", "encoders/other/config.json": b"{}"}
        found = hub.fetch("me/head", cache_dir=tmp_path / "cache", endpoint=server.address)
        assert sorted(server.downloads) == sorted(packed.sizes())
        answer = va.load(found, device="cpu").predict(made.clip)
        np.testing.assert_array_equal(answer.valence, va.load(made.head, device="cpu").predict(made.clip).valence)
        monkeypatch.setitem(hub._LARGEST_ENCODER, ".safetensors", 1000)
        with pytest.raises(VAError, match=r"encoders/face/open_clip_model.safetensors has .* more than the 1,000"):
            hub.fetch("me/head", cache_dir=tmp_path / "other", endpoint=server.address)


@pytest.mark.slow
def test_fine_tuning_goes_on_from_fine_tuned_encoders(made: Made, tmp_path: Path) -> None:
    """And what `run:DIR` extracts is what fine-tuning cached; an encoder frozen there is found where it was."""

    @contextlib.contextmanager
    def bars(title: str) -> Iterator[Any]:
        del title
        yield quiet

    config = FinetuneConfig(
        corpus=made.corpus, start=made.head, out=tmp_path, epochs=1, thaw_voice=0, device="cpu", readers=1
    )
    run = finetune.run(config, screen=finetune.Screen(bars=bars, note=quiet, epoch_done=quiet)).directory
    face, voice = encoders.build_all((f"run:{run}",), config=made_config(), device=CPU)
    assert (face.name, voice.name) == (f"tiny-clip@{run.name}", VOICE)
    out = tmp_path / "again"
    pipeline.run(
        ExtractConfig(corpus=made.corpus, out=out, encoders=(f"run:{run}",), device="cpu", readers=1), progress=quiet
    )
    for store in features.open_stores(out):
        cached = FeatureStore(run / "features" / store.directory.name)
        np.testing.assert_array_equal(store.read("clip0").values, cached.read("clip0").values)
    packed = hub_pack.pack(run, repo_id="me/head", license_name="", metrics=None, verified=False)
    assert {name.split("/")[1] for name in packed.encoders} == {"face", "voice"}
    assert re.search(r"\| backbone.*rate \| 3e-06 \|", packed.contents["README.md"].decode())
    assert str(tmp_path) not in packed.contents["run.json"].decode()
    report = score.run(EvaluateConfig(run=run, out=tmp_path / "report", device="cpu", resamples=50), progress=quiet)
    about = dict(report["provenance"])
    assert about["Fine-tuning began from"] == made.head.name and about["Fine-tuning thaw_voice"] == "0"


def made_config() -> ExtractConfig:
    return ExtractConfig(corpus=Path("c"), out=Path("o"))
