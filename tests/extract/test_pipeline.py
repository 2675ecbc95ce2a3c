"""Stage one as a whole: real small videos, small encoders, and everything that can go wrong with a clip."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fake_inputs
import numpy as np
import open_clip
import pytest
import torch
from fakes import STEPS, ear, eye
from safetensors.torch import save_file
from support import make_video, sine
from transformers import ASTConfig, ASTModel

from va.data import corpus, prototypes
from va.data.corpus import Clip, Truth
from va.data.features import ClipFeatures, FeatureStore, open_stores
from va.data.prototypes import Prototypes
from va.data.regions import REGION_TEXTS
from va.errors import VAError
from va.extract import decode, encoders, pipeline
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder
from va.extract.pipeline import Summary

SECONDS = {"a": 2.2, "b": 5.0, "c": 0.7, "mute": 1.5}
WINDOW_S, STRIDE_S = 2.0, 1.0


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """Replace the registry by the two small encoders; notes the size of every batch."""
    seen: dict[str, list[int]] = {"eye": [], "ear": []}
    made = {"eye": eye, "ear": ear}

    def build(name: str, *, config: ExtractConfig, device: torch.device) -> Encoder:
        return made[name](config, calls=seen[name])

    monkeypatch.setattr(encoders, "build", build)
    return seen


@pytest.fixture(scope="module")
def media_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for number, (name, seconds) in enumerate(SECONDS.items()):
        rng = np.random.default_rng(number)
        base = rng.integers(0, 256, (64, 64, 3), np.uint8)
        audio = None if name == "mute" else sine(hz=200 + 100 * number, seconds=seconds, level=0.3)
        make_video(
            folder / f"{name}.mp4",
            rate=10,
            seconds=seconds,
            audio=audio,
            draw=lambda index, base=base: np.roll(base, 3 * index, axis=1),  # type: ignore[misc]
        )
    return folder


def make_corpus(root: Path, media: Path, names: list[str]) -> Path:
    """Copy some of the videos and write their manifest."""
    entries = []
    for name in names:
        (root / "media").mkdir(parents=True, exist_ok=True)
        shutil.copy(media / f"{name}.mp4", root / "media" / f"{name}.mp4")
        clip = Clip(
            id=name,
            media=root / "media" / f"{name}.mp4",
            split="train",
            identity=name,
            num_frames=1,
            duration_s=SECONDS.get(name, 1.5),
        )
        truth = Truth(time_s=np.zeros(1), va=np.zeros((1, 2), np.float32), valid=np.ones(1, np.bool_))
        entries.append((clip, truth))
    return corpus.save(root, name="x", synthetic=True, media_root=root / "media", entries=entries).path


def extract(manifest: Path, out: Path, **changes: Any) -> Summary:
    choices = {"encoders": ("eye", "ear"), "window_s": WINDOW_S, "stride_s": STRIDE_S, "frame_batch": 4}
    config = ExtractConfig(corpus=manifest, out=out, audio_batch=3, device="cpu", **(choices | changes))
    return pipeline.run(config, progress=lambda *_: None)


def stores(out: Path) -> dict[str, FeatureStore]:
    return {store.encoder: store for store in open_stores(out)}


def content(out: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time of writing."""
    files = (path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def assert_same(found: ClipFeatures, expected: ClipFeatures) -> None:
    for name in ("values", "time_s", "valid"):
        assert getattr(found, name).tobytes() == getattr(expected, name).tobytes()


# --- a run without trouble


def test_what_is_written(tmp_path: Path, media_folder: Path, calls: dict[str, list[int]]) -> None:
    manifest = make_corpus(tmp_path, media_folder, list(SECONDS))
    seen: list[tuple[int, int, str]] = []
    config = ExtractConfig(
        corpus=manifest,
        out=tmp_path / "f",
        encoders=("eye", "ear"),
        window_s=WINDOW_S,
        stride_s=STRIDE_S,
        frame_batch=4,
        audio_batch=3,
        device="cpu",
    )
    summary = pipeline.run(config, progress=lambda *what: seen.append(what))
    assert (summary.written, summary.present, summary.failed) == (4, 0, {})
    assert [path.parent for path in summary.stores] == [tmp_path / "f"] * 2
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)
    assert seen[-1][:2] == (4, 4) and seen[-1][2].startswith("20 frames, ")
    assert (summary.frames, summary.windows) == (20, 7)
    stages = {stage.name: stage for stage in summary.stages}
    assert set(stages) >= {"hash", "decode", "sound", "transform", "encode eye", "encode ear", "write"}
    assert all(0 <= stage.share <= 1 for stage in stages.values())
    found = stores(tmp_path / "f")
    for name, seconds in SECONDS.items():
        cells = -(-round(seconds * 10) // 5)
        windows = 1 + max(0, -(-(cells - STEPS) // 2))
        frames, audio = found["eye"].read(name), found["ear"].read(name)
        assert frames.values.shape == (cells, 33) and frames.valid.all()
        assert frames.time_s.tolist() == [cell * 0.5 + 0.25 for cell in range(cells)]
        assert audio.values.shape == (windows, STEPS, 17)
        assert audio.time_s.tolist() == [index * STRIDE_S for index in range(windows)]
        for index in range(windows):
            left_s = seconds - index * STRIDE_S
            expected = [name != "mute" and (step + 1) * 0.5 <= left_s + 1e-6 for step in range(STEPS)]
            assert audio.valid[index].tolist() == expected
        assert not audio.values[~audio.valid].any()
    assert not (tmp_path / "f" / "failures").exists()


def test_batches_all_have_one_size(tmp_path: Path, media_folder: Path, calls: dict[str, list[int]]) -> None:
    extract(make_corpus(tmp_path, media_folder, list(SECONDS)), tmp_path / "f")
    # 5 + 10 + 2 + 3 cells in batches of 4, 2 + 4 + 1 windows in batches of 3: only the last one is padded.
    assert calls["eye"] == [4] * 5
    assert calls["ear"] == [3] * 3


def test_the_last_batch_is_padded(tmp_path: Path, media_folder: Path, calls: dict[str, list[int]]) -> None:
    """Values of clip `c` (2 cells in a batch of 4), computed here from the same frames in a batch of 4."""
    manifest = make_corpus(tmp_path, media_folder, ["c"])
    extract(manifest, tmp_path / "f")
    encoder = eye(ExtractConfig(corpus=manifest, out=tmp_path), calls=[])
    medium = tmp_path / "media" / "c.mp4"
    frames = list(decode.frames_at_cells(medium, duration_s=SECONDS["c"], threads=1, beat=lambda: None))
    assert len(frames) == 2
    inputs = np.stack([encoder.transform(frame) for frame in frames if frame is not None])
    expected = encoder.encode(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(stores(tmp_path / "f")["eye"].read("c").values, expected, rtol=2e-3, atol=1e-4)


def test_values_do_not_depend_on_the_other_clips(
    tmp_path: Path, media_folder: Path, calls: dict[str, list[int]]
) -> None:
    together = make_corpus(tmp_path / "all", media_folder, list(SECONDS))
    extract(together, tmp_path / "f")
    for name in SECONDS:
        alone = make_corpus(tmp_path / name, media_folder, [name])
        extract(alone, tmp_path / f"f-{name}")
        for encoder, store in stores(tmp_path / f"f-{name}").items():
            assert_same(store.read(name), stores(tmp_path / "f")[encoder].read(name))


def test_encoders_are_independent(tmp_path: Path, media_folder: Path, calls: dict[str, list[int]]) -> None:
    manifest = make_corpus(tmp_path, media_folder, ["a", "b"])
    extract(manifest, tmp_path / "f", encoders=("eye",))
    assert set(stores(tmp_path / "f")) == {"eye"}
    before = content(tmp_path / "f")
    summary = extract(manifest, tmp_path / "f", encoders=("ear", "eye"))
    assert (summary.written, summary.present) == (2, 0)
    after = content(tmp_path / "f")
    assert {name: after[name] for name in before} == before  # the first encoder's files were not touched
    assert len(calls["eye"]) == 4  # 15 cells, once
    assert len(stores(tmp_path / "f")["ear"].clip_ids()) == 2


def test_another_window_needs_new_sound_but_no_new_pictures(
    tmp_path: Path, media_folder: Path, calls: dict[str, list[int]]
) -> None:
    manifest = make_corpus(tmp_path, media_folder, ["b"])
    extract(manifest, tmp_path / "f")
    extract(manifest, tmp_path / "f", stride_s=0.5)
    assert sorted(store.encoder for store in open_stores(tmp_path / "f")) == ["ear", "ear", "eye"]


# --- again


def test_a_second_run_writes_nothing(tmp_path: Path, media_folder: Path, calls: dict[str, list[int]]) -> None:
    manifest = make_corpus(tmp_path, media_folder, list(SECONDS))
    extract(manifest, tmp_path / "f")
    before = content(tmp_path / "f")
    for batches in calls.values():
        batches.clear()
    summary = extract(manifest, tmp_path / "f")
    assert (summary.written, summary.present, summary.failed) == (0, 4, {})
    assert content(tmp_path / "f") == before
    assert calls == {"eye": [], "ear": []}


def test_a_changed_source_is_redone(tmp_path: Path, media_folder: Path, calls: dict[str, list[int]]) -> None:
    manifest = make_corpus(tmp_path, media_folder, ["a", "b"])
    extract(manifest, tmp_path / "f")
    kept = stores(tmp_path / "f")["eye"].path("b").read_bytes()
    old = stores(tmp_path / "f")["eye"].read("a")
    shutil.copy(media_folder / "c.mp4", tmp_path / "media" / "a.mp4")
    summary = extract(manifest, tmp_path / "f")
    assert (summary.written, summary.present) == (1, 1)
    assert len(old.values) == 5 and len(stores(tmp_path / "f")["eye"].read("a").values) == 2
    assert stores(tmp_path / "f")["eye"].path("b").read_bytes() == kept


def test_damage_is_redone_and_nothing_else(tmp_path: Path, media_folder: Path, calls: dict[str, list[int]]) -> None:
    manifest = make_corpus(tmp_path, media_folder, ["a", "b"])
    extract(manifest, tmp_path / "f")
    before = content(tmp_path / "f")
    store = stores(tmp_path / "f")["ear"]
    file = store.path("b")
    damaged = bytearray(file.read_bytes())
    damaged[-5] ^= 4  # the last dataset's data
    file.write_bytes(damaged)
    assert len(list(store.problems())) == 1
    summary = extract(manifest, tmp_path / "f")
    assert (summary.written, summary.present) == (1, 1)
    after = content(tmp_path / "f")
    name = str(file.relative_to(tmp_path / "f"))
    assert after[name][1] == before[name][1]  # the same bytes again
    assert {key for key in before if after[key] != before[key]} == {name}
    assert list(store.problems()) == []


def test_prototypes_are_written_once_and_the_users_are_kept(
    tmp_path: Path, media_folder: Path, calls: dict[str, list[int]]
) -> None:
    manifest = make_corpus(tmp_path, media_folder, ["c"])
    extract(manifest, tmp_path / "f")
    folder = stores(tmp_path / "f")["eye"].directory
    found = prototypes.read(folder)
    assert found.texts == REGION_TEXTS and found.values.shape == (9, 33)
    own = Prototypes(texts=("glad", "sad"), templates=("{}",), values=np.ones((2, 33), np.float32))
    prototypes.write(folder, own)
    extract(manifest, tmp_path / "f")
    assert prototypes.read(folder).texts == ("glad", "sad")
    (folder / "prototypes.json").write_text("{")
    extract(manifest, tmp_path / "f")
    assert prototypes.read(folder).texts == REGION_TEXTS


# --- trouble


def failing(kind: str) -> Callable[[Path], None]:
    def text(file: Path) -> None:
        file.write_text("no pictures\n" * 100)

    def cut(file: Path) -> None:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])

    return {"missing": Path.unlink, "text": text, "cut off": cut}[kind]


@pytest.mark.parametrize("kind", ["missing", "text", "cut off"])
def test_a_failing_clip_is_recorded_and_loses_none_of_the_others(
    tmp_path: Path, media_folder: Path, calls: dict[str, list[int]], kind: str
) -> None:
    manifest = make_corpus(tmp_path, media_folder, ["a", "b", "c"])
    good = (tmp_path / "media" / "b.mp4").read_bytes()
    failing(kind)(tmp_path / "media" / "b.mp4")
    summary = extract(manifest, tmp_path / "f")
    assert (summary.written, summary.present, list(summary.failed)) == (2, 0, ["b"])
    assert "b.mp4: " in summary.failed["b"]
    record = tmp_path / "f" / "failures" / "b.json"
    assert json.loads(record.read_text()) == {
        "clip": "b",
        "media": str(tmp_path / "media" / "b.mp4"),
        "error": summary.failed["b"],
    }
    for store in stores(tmp_path / "f").values():
        assert store.clip_ids() == ("a", "c")
    # Once the medium is mended only it is done, and the record goes.
    (tmp_path / "media" / "b.mp4").write_bytes(good)
    summary = extract(manifest, tmp_path / "f")
    assert (summary.written, summary.present, summary.failed) == (1, 2, {})
    assert not record.exists()


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file whose reading fails")
def test_a_medium_that_cannot_be_read_fails_alone(
    tmp_path: Path, media_folder: Path, calls: dict[str, list[int]]
) -> None:
    manifest = make_corpus(tmp_path, media_folder, ["a", "b"])
    (tmp_path / "media" / "a.mp4").unlink()
    (tmp_path / "media" / "a.mp4").symlink_to("/proc/self/mem")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "linked_folders": ["/proc"]}))
    summary = extract(manifest, tmp_path / "f")
    assert summary.written == 1
    assert "a.mp4: cannot be read (Input/output error)" in summary.failed["a"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6], ids=["nan", "inf", "beyond float16"])
def test_values_that_are_not_finite_fail_the_clip(
    tmp_path: Path, media_folder: Path, calls: dict[str, list[int]], monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    manifest = make_corpus(tmp_path, media_folder, ["a", "b"])
    medium = tmp_path / "media" / "a.mp4"
    third = list(decode.frames_at_cells(medium, duration_s=SECONDS["a"], threads=1, beat=lambda: None))[2]
    assert third is not None
    real = encoders.build

    def build(name: str, *, config: ExtractConfig, device: torch.device) -> Encoder:
        made = real(name, config=config, device=device)

        def poisoned(images: torch.Tensor) -> torch.Tensor:
            values = made.encode(images)
            values[(images == torch.from_numpy(fake_inputs.eye_input(third))).all(dim=1), 3] = bad
            return values

        return dataclasses.replace(made, encode=poisoned) if name == "eye" else made

    monkeypatch.setattr(encoders, "build", build)
    summary = extract(manifest, tmp_path / "f")
    assert summary.written == 1 and "'eye' gave values that are not finite" in summary.failed["a"]
    for store in stores(tmp_path / "f").values():
        assert store.clip_ids() == ("b",)
        assert len(list((store.directory / "clips").iterdir())) == 1  # and nothing half-written


def misbehaving(name: str) -> Callable[..., Encoder]:
    def build(_: str, *, config: ExtractConfig, device: torch.device) -> Encoder:
        made = eye(config, calls=[])
        return dataclasses.replace(made, transform=partial(fake_inputs.misbehave_on_white, how=name))

    return build


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("crash", r"white.mp4: the decoder crashed \(SIGSEGV\)"),
        ("hang", r"white.mp4: decoding made no progress for 1.5 s"),
        ("exhaust memory", r"white.mp4: decoding it takes more memory than --memory-gb allows"),
        ("killed", r"white.mp4: decoding was killed, probably because memory ran out"),
        ("exit", r"white.mp4: the reader process ended with exit code 3"),
        ("raise", r"white.mp4: ZeroDivisionError: division by zero"),
    ],
)
def test_a_decoder_that_misbehaves_costs_its_clip_only(
    tmp_path: Path, media_folder: Path, monkeypatch: pytest.MonkeyPatch, how: str, message: str
) -> None:
    (tmp_path / "more").mkdir()
    white = np.full((64, 64, 3), 255, np.uint8)
    make_video(tmp_path / "more" / "white.mp4", rate=10, seconds=1.5, draw=lambda index: white)
    for name in ("a", "b", "c"):
        shutil.copy(media_folder / f"{name}.mp4", tmp_path / "more" / f"{name}.mp4")
    manifest = make_corpus(tmp_path, tmp_path / "more", ["a", "white", "b", "c"])
    monkeypatch.setattr(encoders, "build", misbehaving(how))
    summary = extract(manifest, tmp_path / "f", encoders=("eye",), stall_s=1.5, memory_gb=0.5)
    assert (summary.written, summary.present, summary.left) == (3, 0, 0)
    assert list(summary.failed) == ["white"] and re.search(message, summary.failed["white"])
    assert (tmp_path / "f" / "failures" / "white.json").exists()
    store = stores(tmp_path / "f")["eye"]
    assert store.clip_ids() == ("a", "b", "c") and not list(store.problems())
    assert len(list((store.directory / "clips").iterdir())) == 3


def test_a_stop_finishes_what_was_begun_and_begins_no_more(
    tmp_path: Path, media_folder: Path, calls: dict[str, list[int]]
) -> None:
    manifest = make_corpus(tmp_path, media_folder, list(SECONDS))
    asked: list[bool] = []

    def stopping() -> bool:
        asked.append(True)
        return len(asked) > 2

    config = ExtractConfig(
        corpus=manifest, out=tmp_path / "f", encoders=("eye", "ear"), window_s=2, stride_s=1, readers=1, device="cpu"
    )
    summary = pipeline.run(config, progress=lambda *_: None, stopping=stopping)
    assert (summary.written, summary.present, summary.left, summary.failed) == (2, 0, 2, {})
    assert all(store.clip_ids() == ("a", "b") for store in stores(tmp_path / "f").values())


def test_the_number_of_readers_changes_no_value(
    tmp_path: Path, media_folder: Path, calls: dict[str, list[int]]
) -> None:
    manifest = make_corpus(tmp_path, media_folder, list(SECONDS))
    extract(manifest, tmp_path / "one", readers=1)
    extract(manifest, tmp_path / "three", readers=3)
    for encoder, store in stores(tmp_path / "one").items():
        for name in SECONDS:
            assert_same(stores(tmp_path / "three")[encoder].read(name), store.read(name))


def test_no_sound_is_all_invalid_and_no_failure(
    tmp_path: Path, media_folder: Path, calls: dict[str, list[int]]
) -> None:
    summary = extract(make_corpus(tmp_path, media_folder, ["mute"]), tmp_path / "f")
    assert (summary.written, summary.failed) == (1, {})
    audio = stores(tmp_path / "f")["ear"].read("mute")
    assert audio.values.shape == (1, STEPS, 17) and not audio.valid.any() and not audio.values.any()
    assert stores(tmp_path / "f")["eye"].read("mute").valid.all()
    assert calls["ear"] == []


def test_pictures_that_start_late_are_invalid_until_then(tmp_path: Path, calls: dict[str, list[int]]) -> None:
    (tmp_path / "made").mkdir()
    late = tmp_path / "made" / "mute.mp4"
    make_video(late, rate=10, seconds=1, video_offset_s=1.1, audio=sine(hz=300, seconds=2.1))
    extract(make_corpus(tmp_path, tmp_path / "made", ["mute"]), tmp_path / "f")
    audio, frames = (stores(tmp_path / "f")[name].read("mute") for name in ("ear", "eye"))
    assert frames.valid.tolist() == [False, False, True, True, True]
    assert not frames.values[:2].any() and frames.values[2:].any(axis=1).all()
    assert audio.valid[0].all()


def test_an_unknown_encoder_stops_before_anything_is_written(tmp_path: Path, media_folder: Path) -> None:
    manifest = make_corpus(tmp_path, media_folder, ["a"])
    with pytest.raises(VAError, match="--encoders: there is no encoder 'nose'") as caught:
        extract(manifest, tmp_path / "f", encoders=("pixels", "nose"))
    assert "loudness" in caught.value.hint
    assert not (tmp_path / "f").exists()


def test_the_trivial_encoders_are_in_the_registry(tmp_path: Path, media_folder: Path) -> None:
    summary = extract(make_corpus(tmp_path, media_folder, ["a"]), tmp_path / "f", encoders=("pixels", "loudness"))
    assert summary.written == 1
    found = stores(tmp_path / "f")
    pixels, loudness = found["pixels"].read("a").values, found["loudness"].read("a").values
    assert pixels.min() > 0 and pixels.max() <= 1
    # A sine at level 0.3 has -13.5 dB.
    np.testing.assert_allclose(loudness[0, 1:, 0].astype(np.float32), 20 * np.log10(0.3) - 3.01, atol=0.3)


# --- the paper's encoders at full size


@pytest.mark.slow
def test_the_real_classes_at_full_size_through_the_command_line(tmp_path: Path) -> None:
    """Random weights of the published shapes: loading, encoding and storing, not what the values mean."""
    torch.manual_seed(0)
    clip = open_clip.CLIP(**open_clip.get_model_config("ViT-B-16-quickgelu"))
    save_file(clip.state_dict(), tmp_path / "clip.safetensors")
    ASTModel(ASTConfig()).save_pretrained(tmp_path / "ast")
    media = tmp_path / "media"
    media.mkdir()
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (30, 9, 16, 3), np.uint8).repeat(20, axis=1).repeat(20, axis=2)
    make_video(media / "a.mp4", rate=10, seconds=3, draw=lambda index: pictures[index], audio=sine(hz=300, seconds=3))
    clip_entry = Clip(id="a", media=media / "a.mp4", split="train", identity="a", num_frames=1, duration_s=3.0)
    truth = Truth(time_s=np.zeros(1), va=np.zeros((1, 2), np.float32), valid=np.ones(1, np.bool_))
    corpus.save(tmp_path, name="x", synthetic=True, media_root=media, entries=[(clip_entry, truth)])
    command = [sys.executable, "-m", "va.cli", "extract", str(tmp_path), "--out", str(tmp_path / "f")]
    command += ["--clip-weights", str(tmp_path / "clip.safetensors"), "--ast-weights", str(tmp_path / "ast")]
    command += ["--device", "cpu", "--frame-batch", "6", "--audio-batch", "1"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "1 written, 0 already there, 0 failed" in run.stdout
    found = stores(tmp_path / "f")
    assert set(found) == {"clip-vit-b-16", "ast", "pixels", "loudness"}
    frames, audio = found["clip-vit-b-16"].read("a"), found["ast"].read("a")
    assert frames.values.shape == (6, 512) and frames.valid.all() and np.ptp(frames.values, axis=0).max() > 1e-2
    assert audio.values.shape == (1, 20, 768)
    # 298 rows: tokens up to 28 end in sound, the last centred at 2.88 s.
    assert audio.valid[0].tolist() == [True] * 6 + [False] * 14
    assert prototypes.read(found["clip-vit-b-16"].directory).values.shape == (9, 512)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0 and "0 written, 1 already there, 0 failed" in again.stdout
    shutil.rmtree(tmp_path)  # a gigabyte, which pytest would keep
