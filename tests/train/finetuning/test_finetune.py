"""`va finetune` whole: what it starts from, what it equals, what it writes, and what a kill leaves."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import fine_run
import pytest
import tiny_run
import torch
from fine_run import Fine
from torch import Tensor

from va import files, locks
from va.data.features import FeatureStore
from va.errors import VAError
from va.evaluate import opening, predict, protocol
from va.extract import pipeline, tuned
from va.extract.config import ExtractConfig
from va.train import checkpoint, encoding
from va.train import state as states
from va.train.finetune_config import FinetuneConfig
from va.train.finetuning import finetune, inputs, keeping, recipe
from va.train.finetuning.inputs import InputStore
from va.train.finetuning.keeping import Keeper
from va.train.finetuning.learner import Learner
from va.train.finetuning.parallel import Parallel
from va.train.finetuning.start import Start, begin
from va.train.finetuning.towers import Towers
from va.train.stack import Stack

CPU = torch.device("cpu")
FROZEN: dict[str, Any] = {"thaw_face": 0, "thaw_voice": 0, "augment": False}
EVERYTHING: dict[str, Any] = {"ema": 0.5, "clip_norm": 1.0, "schedule": "cosine", "backbone_rate": 1e-3}


@pytest.fixture(scope="module")
def fine(tmp_path_factory: pytest.TempPathFactory) -> Fine:
    """The corpus, a run, and the model inputs of its clips."""
    made = fine_run.build(tmp_path_factory.mktemp("fine"))
    config = made.config(made.inputs)
    start = begin(config, device=CPU)
    clips = (*start.division.selection, *start.division.train)
    face, voice = start.pair
    inputs.prepare(
        clips, face=face, voice=voice, config=start.stage_one, directory=made.inputs, progress=lambda *told: None
    )
    return made


@pytest.fixture(autouse=True)
def prepared_once(fine: Fine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare each test a reader process that finds everything there."""

    def prepare(clips: object, *, directory: Path, **others: Any) -> InputStore:
        return InputStore(directory, face=others["face"], voice=others["voice"])

    monkeypatch.setattr(inputs, "prepare", prepare)


@pytest.fixture(scope="module")
def whole(fine: Fine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with all that there is to keep: averages, clipping, a schedule, augmentation."""
    return fine.finetune(tmp_path_factory.mktemp("whole"), **EVERYTHING)


def log_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]


def info_of(directory: Path) -> dict[str, Any]:
    return dict(json.loads((directory / "run.json").read_text()))


def weights_of(directory: Path) -> dict[str, bytes]:
    """All files of a run that do not name it."""
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for file in directory.rglob("*")
        if file.is_file() and file.name != "run.json"
    }


def prepared(config: FinetuneConfig) -> tuple[Learner, Start]:
    """Everything up to the first step."""
    start, alone = begin(config, device=CPU), Parallel.alone(CPU)
    assert config.inputs is not None
    store = InputStore(config.inputs, face=start.pair.face, voice=start.pair.voice)
    pool, trial = finetune._trial(config, start, config.out / "none", alone)
    learner = Learner(
        pool,
        trial=trial,
        store=store,
        towers=Towers(
            *start.pair, settings=recipe.tower_settings(config, start, device=CPU), device=CPU, parallel=alone
        ),
        stage_one=start.stage_one,
        strengths=recipe.strengths(config),
        parallel=alone,
        report=lambda *told: None,
        save=lambda stack, lost: None,
    )
    return learner, start


def test_step_0_sees_the_features_of_the_cached_run_and_gives_its_score(fine: Fine, tmp_path: Path) -> None:
    """Features to the last bit of float16, so that predictions are those of `va evaluate`."""
    learner, start = prepared(fine.config(tmp_path))
    learner.renew()
    info = info_of(fine.run)
    assert [clip.id for clip in start.division.selection] == info["selection"]["clips"]
    assert [clip.id for clip in start.division.train] == info["train_clips"]
    run, cached, _ = opening.open_split(fine.run, split="train", corpus=None, features_root=None)
    found = opening.load_windows(run, cached, start.division.selection, device=CPU)
    for name in ("frames", "audio", "frame_valid", "audio_valid"):
        assert torch.equal(getattr(learner.pool, name), getattr(found, name)), name
    assert found.frames.count_nonzero() and not found.audio_valid[:-1].all()
    heard: list[str] = []
    fine_run.tune(fine.config(tmp_path, epochs=1, **FROZEN), heard.append)
    assert heard == [f"as it came: dev CCC mean {info['selection']['ccc_mean']:.3f}"]


def test_frozen_towers_train_the_head_that_cached_features_train(fine: Fine, tmp_path: Path) -> None:
    """From scratch, with one seed: the same first weights and batches; only float16 is between the two."""
    cached = fine.train(tmp_path / "cached", epochs=3, seed=3)
    alike = {**fine_run.WINDOWS, **fine_run.HEAD, "encoders": fine_run.ENCODERS, "start": None, "seed": 3}
    frozen = fine.finetune(tmp_path / "frozen", epochs=3, **alike, **FROZEN)
    ours, theirs = log_of(frozen), log_of(cached)
    assert len(ours) == len(theirs) == 3
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, abs=2e-3)
    info, other_info = info_of(frozen), info_of(cached)
    for key in ("train_clips", "encoders", "region_texts", "shape"):
        assert info[key] == other_info[key], key
    assert info["finetuned_from"] is None
    assert not (frozen / "encoders").exists()


def test_a_run_is_an_ordinary_one_that_holds_its_encoders(fine: Fine, whole: Path) -> None:
    info, started = info_of(whole), info_of(fine.run)
    assert info["finetuned_from"] == fine.run.name
    assert info["finetune"]["ema"] == 0.5 and str(fine.run.parent) not in json.dumps(info["finetune"])
    assert (info["train_clips"], info["selection"]["clips"]) == (started["train_clips"], started["selection"]["clips"])
    run = checkpoint.load_run(whole)
    assert run.config.width == 16 and run.config.learning_rate == 1e-4
    stage_one = begin(fine.config(whole.parent), device=CPU).stage_one
    pair = tuned.load(whole, config=stage_one, device=CPU)
    before = begin(fine.config(whole.parent), device=CPU).pair
    for kind, encoder, base in zip(tuned.KINDS, pair, before, strict=True):
        assert encoder.identity == info["encoders"][kind]
        assert encoder.identity["weights"] != base.identity["weights"]
        assert encoder.tower is not None and base.tower is not None
        changed = [
            not torch.equal(*two) for two in zip(encoder.tower.parameters(), base.tower.parameters(), strict=True)
        ]
        assert sum(changed) > len(changed) / 2
    left = {file.name for file in whole.iterdir()}
    assert left == {"run.json", "model.safetensors", "log.jsonl", "encoders"}


def test_the_features_at_its_end_give_the_score_that_chose_its_epoch(fine: Fine, whole: Path) -> None:
    """Kept weights, loaded encoders and cached features together are what was validated."""
    done = fine_run.tune(fine.config(whole.parent, **{**EVERYTHING, "extract": True}))
    assert done.directory == whole, "a finished run is reused, and only its features are made"
    assert done.extracted is not None and done.extracted.written == 8
    info = info_of(whole)
    run, cached, _ = opening.open_split(whole, split="train", corpus=None, features_root=None)
    clips = opening.clips_named(cached, info["selection"]["clips"])
    found = predict.predict_clips(run, cached, clips, device=CPU, fill="interpolate", label_shift_s=0.0)
    score = protocol.score_abaw(found.frames, resamples=1, seed=0)["ccc_mean"]["value"]
    assert score == pytest.approx(info["selection"]["ccc_mean"], abs=1e-9)
    store = FeatureStore(Path(info["features"]["face"]))
    assert store.identity == info["encoders"]["face"]


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("step", [2, 6])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    fine: Fine, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """In the first epoch and in the second, from a state that was saved inside it."""
    saved, steps = Keeper.save_now_and_then, 0

    def killed(keeper: Keeper, stack: Stack, lost: Sequence[Tensor]) -> None:
        nonlocal steps
        steps += 1
        if steps > step:
            raise Killed
        saved(keeper, stack, lost)

    config = fine.config(tmp_path, **EVERYTHING, save_minutes=1e-9)
    with monkeypatch.context() as during:
        during.setattr(Keeper, "save_now_and_then", killed)
        with pytest.raises(Killed):
            fine_run.tune(config)
    (directory,) = tmp_path.glob("gru-*")
    state = states.load(directory)
    assert state is not None and (state.epoch, len(state.lost)) == divmod(step, 4), "of 16 windows in batches of 4"
    assert fine_run.tune(config).directory.name == whole.name
    assert weights_of(directory) == {
        name: content for name, content in weights_of(whole).items() if not name.startswith("features")
    }


def test_an_interrupted_run_says_what_is_kept_and_where_it_goes_on(
    fine: Fine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved, left = Keeper.save_now_and_then, 0

    def interrupted(keeper: Keeper, stack: Stack, lost: Sequence[Tensor]) -> None:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt
        saved(keeper, stack, lost)

    said: list[str] = []
    config = fine.config(tmp_path, **FROZEN)
    for steps in (2, 6):
        left = steps
        with monkeypatch.context() as during:
            during.setattr(Keeper, "save_now_and_then", interrupted)
            with pytest.raises(KeyboardInterrupt):
                fine_run.tune(config, said.append)
    fine_run.tune(config, said.append)
    assert [line for line in said if not line.startswith("as it came")] == [
        "no epoch is kept yet; the same command begins with the first",
        "epoch 1 of 2 is kept, and the same command goes on from there",
        "going on after epoch 1 of 2",
    ]


def test_a_failure_says_what_it_leaves_and_how_to_be_rid_of_it(
    fine: Fine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(keeper: Keeper, stack: Stack, lost: Sequence[Tensor]) -> None:
        if keeper.begun:
            raise VAError("the loss is not finite", "Give a smaller --learning-rate.")

    said: list[str] = []
    monkeypatch.setattr(Keeper, "save_now_and_then", failing)
    with pytest.raises(VAError, match="the loss is not finite"):
        fine_run.tune(fine.config(tmp_path, epochs=2, **FROZEN), said.append)
    (directory,) = tmp_path.glob("gru-*")
    size = sum(file.stat().st_size for file in directory.glob("*.safetensors"))
    assert size and said[-1] == (
        f"{directory}: holds {size / 1e9:.2g} GB to go on from with the same settings; "
        "if you train with others, remove that folder"
    )


def test_an_interrupt_before_and_after_training_says_what_is_kept(
    fine: Fine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    said: list[str] = []
    for where, name in ((inputs, "prepare"), (pipeline, "run")):
        with monkeypatch.context() as during:
            during.setattr(where, name, interrupted)
            with pytest.raises(KeyboardInterrupt):
                fine_run.tune(fine.config(tmp_path, epochs=1, extract=True, **FROZEN), said.append)
    (directory,) = tmp_path.glob("gru-*")
    assert said[0] == "the clips decoded so far are kept, and the same command goes on with the others"
    assert said[-1] == f"{directory}: is finished; the same command goes on with the features of its encoders"


def test_damaged_best_weights_are_not_made_a_run(fine: Fine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was best lies on the disk until the end: cut off, of a wrong bit, or gone, it is named."""

    def killed(*given: object) -> None:
        raise Killed

    config = fine.config(tmp_path, epochs=1)
    with monkeypatch.context() as during:
        during.setattr(Keeper, "finish", killed)
        with pytest.raises(Killed):
            fine_run.tune(config)
    (best,) = tmp_path.glob("gru-*/best-1.safetensors")
    whole = best.read_bytes()
    for damaged in (whole[:-5], whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:], None):
        best.unlink() if damaged is None else best.write_bytes(damaged)
        with pytest.raises(VAError, match=r"best-1\.safetensors: cannot be used"):
            fine_run.tune(config)
    best.write_bytes(whole)
    directory = fine_run.tune(config).directory
    (directory / "log.jsonl").unlink()
    with pytest.raises(VAError, match=r"log\.jsonl: cannot be read"):
        fine_run.tune(config)


def test_what_a_kill_left_beside_a_finished_run_goes(
    fine: Fine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between `run.json` and the end: gigabytes that nothing would ever read."""

    def killed(directory: Path) -> None:
        raise Killed

    with monkeypatch.context() as during:
        during.setattr(keeping, "discard", killed)
        with pytest.raises(Killed):
            fine.finetune(tmp_path, epochs=1, **FROZEN)
    (directory,) = tmp_path.glob("gru-*")
    assert {"run.json", "state.safetensors", "best-1.safetensors"} <= {file.name for file in directory.iterdir()}
    heard: list[str] = []
    fine_run.tune(fine.config(tmp_path, epochs=1, **FROZEN), heard.append)
    assert {file.name for file in directory.iterdir()} == {"run.json", "model.safetensors", "log.jsonl"}
    assert heard == [f"{directory}: is already finished, nothing to train"]


@pytest.mark.parametrize("rate", ["backbone_rate", "learning_rate"])
def test_a_rate_that_explodes_is_told_in_two_lines(fine: Fine, tmp_path: Path, rate: str) -> None:
    with pytest.raises(VAError, match=r"(the loss|a prediction) is .* epoch 1; no run is made of it") as caught:
        fine.finetune(tmp_path, **{rate: 1e30})
    assert "Lower --backbone-rate" in caught.value.hint and "va verify" not in caught.value.hint
    assert not list(tmp_path.glob("*/run.json"))


def test_one_process_fine_tunes_a_run(fine: Fine, tmp_path: Path) -> None:
    directory = fine.finetune(tmp_path, epochs=1, **FROZEN)
    (directory / "run.json").unlink()
    with (
        locks.alone(directory, doing="trained"),
        pytest.raises(VAError, match="is being trained by another process"),
    ):
        fine.finetune(tmp_path, epochs=1, **FROZEN)


def test_only_the_head_and_one_tower_learn_when_the_other_is_frozen(fine: Fine, tmp_path: Path) -> None:
    directory = fine.finetune(tmp_path, epochs=1, thaw_voice=0)
    info = info_of(directory)
    assert (directory / "encoders" / "face").is_dir() and not (directory / "encoders" / "voice").exists()
    assert info["encoders"]["voice"] == info_of(fine.run)["encoders"]["voice"]


def test_no_name_is_given_twice(fine: Fine, tmp_path: Path) -> None:
    """What changes results changes the directory; what does not, does not."""
    start = begin(fine.config(tmp_path), device=CPU)
    store = InputStore(fine.inputs, face=start.pair.face, voice=start.pair.voice)

    def name(begun: Start = start, **changes: Any) -> str:
        config = fine.config(tmp_path, **changes)
        return json.dumps(recipe.identity_of(config, begun, store, device=CPU), sort_keys=True)

    same = [name(), name(micro_batch=1), name(checkpointing=True), name(device="cpu", readers=2), name(save_minutes=0)]
    assert len(set(same)) == 1
    others = [name(backbone_rate=1e-5), name(thaw_face=1), name(augment=False), name(flip=0.0), name(layer_decay=0.5)]
    assert len({*same, *others}) == 6
    assert name(augment=False) == name(augment=False, flip=0.1), "strengths mean nothing without augmentation"
    run = tiny_run.make_run(tmp_path / "other", seed=5)
    assert start.run is not None
    other = dataclasses.replace(start, run=dataclasses.replace(start.run, directory=run))
    assert name(other) not in same, "other first weights"


def test_what_comes_from_the_run_cannot_be_given(fine: Fine, tmp_path: Path) -> None:
    with pytest.raises(VAError, match="--width: comes from the run that --from names"):
        fine.config(tmp_path, width=32)
    with pytest.raises(VAError, match="--encoders: comes from the run"):
        fine.config(tmp_path, encoders=("a", "b"))
    with pytest.raises(VAError, match="--crop: 1 is out of range"):
        fine.config(tmp_path, crop=1)


def test_an_ensemble_has_no_encoders_to_train(fine: Fine, tmp_path: Path) -> None:
    run = tiny_run.make_run(tmp_path / "joined", members=2)
    with pytest.raises(VAError, match="is an ensemble of 2 heads"):
        begin(fine.config(tmp_path, start=run), device=CPU)


def changed(fine: Fine, tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of the run whose `run.json` was changed."""
    run = tmp_path / fine.run.name
    run.mkdir()
    (run / "model.safetensors").write_bytes((fine.run / "model.safetensors").read_bytes())
    info = info_of(fine.run)
    change(info)
    files.write_json(run / "run.json", info)
    return run


def test_imported_features_have_no_encoder_to_train(fine: Fine, tmp_path: Path) -> None:
    run = changed(fine, tmp_path, lambda info: info["encoders"]["face"].update(imported=True))
    with pytest.raises(VAError, match="trained on imported features"):
        begin(fine.config(tmp_path, start=run), device=CPU)


def test_another_corpus_than_the_runs_draws_dev_anew_and_says_so(fine: Fine, tmp_path: Path) -> None:
    run = changed(fine, tmp_path, lambda info: info["identity"].update(corpus="another"))
    start = begin(fine.config(tmp_path, start=run), device=CPU)
    assert "is not the corpus that" in start.notes[0]
    assert [clip.id for clip in start.division.selection] == info_of(run)["selection"]["clips"], "its seed"


def test_another_seed_learns_in_another_order_on_the_runs_own_division(fine: Fine, tmp_path: Path) -> None:
    start, other = (begin(fine.config(tmp_path, seed=seed), device=CPU) for seed in (None, 5))
    assert (start.config.seed, other.config.seed) == (0, 5)
    assert start.division == other.division


def test_a_run_on_compiled_encoders_starts_from_what_they_were_compiled_from(fine: Fine, tmp_path: Path) -> None:
    def compile_both(info: dict[str, Any]) -> None:
        for identity in info["encoders"].values():
            identity["compiled"] = True

    run = changed(fine, tmp_path, compile_both)
    start = begin(fine.config(tmp_path, start=run), device=CPU)
    assert "compiled" not in start.pair.face.identity and not start.stage_one.compile


def test_a_run_on_16_bit_features_learns_in_the_precision_that_is_asked_for(fine: Fine, tmp_path: Path) -> None:
    """Its encoders compute in 16 bit by themselves, so they are built anew; the new run is one of float32."""
    extract = ExtractConfig(
        corpus=fine.corpus,
        out=tmp_path / "features",
        encoders=fine_run.ENCODERS,
        ast_weights=fine.ast,
        precision="bfloat16",
        device="cpu",
        readers=1,
        **fine_run.WINDOWS,
    )
    assert not pipeline.run(extract, progress=lambda *told: None).failed
    run = fine._replace(features=extract.out).train(tmp_path / "runs", epochs=1)
    assert {each["compute_dtype"] for each in info_of(run)["encoders"].values()} == {"bfloat16"}
    (learner, start), (plain, _) = (prepared(fine.config(tmp_path, start=each)) for each in (run, fine.run))
    assert "computed in bfloat16" in start.notes[0]
    window = torch.tensor([[[len(learner.pool) - 1]]])
    for each in (learner, plain):
        each.begin(window)
    assert torch.equal(learner.batch(0).frames, plain.batch(0).frames), "float32, to the last bit"
    done = fine_run.tune(fine.config(tmp_path, start=run, epochs=1, extract=True))
    info = info_of(done.directory)
    assert {each["compute_dtype"] for each in info["encoders"].values()} == {"float32"}
    stores = [FeatureStore(Path(info["features"][kind])).identity for kind in tuned.KINDS]
    assert stores == [info["encoders"][kind] for kind in tuned.KINDS]


@pytest.mark.parametrize("kind", ["face", "voice"])
def test_the_encoder_that_has_weights_tells_the_precision(fine: Fine, tmp_path: Path, kind: str) -> None:
    """The other one is float32 and not compiled whatever the settings were."""
    change = {"compute_dtype": "bfloat16", "compiled": True}
    run = checkpoint.load_run(changed(fine, tmp_path, lambda info: info["encoders"][kind].update(change)))
    weights: dict[str, Any] = dict.fromkeys(("clip_weights", "ast_weights", "face_weights"))
    found = encoding.settings_for(run, corpus=fine.corpus, out=tmp_path, faces="auto", device="cpu", **weights)
    assert (found.precision, found.compile) == ("bfloat16", True)


def test_what_cannot_be_trained_is_said_before_anything_is_decoded(
    fine: Fine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "_prepare", None)
    with pytest.raises(VAError, match="--thaw-voice"):
        fine.finetune(tmp_path, thaw_voice=99)
    given = {**fine_run.WINDOWS, "start": None, "encoders": ("pixels", "ast"), "region_weight": 0.0}
    with pytest.raises(VAError, match="--flip, --crop, --colour: need pictures"):
        fine.finetune(tmp_path, **given)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"encoders": ("tiny-clip", "pixels")}, "not one frame encoder and one audio encoder"),
        ({"encoders": ("pixels", "ast")}, "'pixels' has no text tower"),
        ({"encoders": fine_run.ENCODERS, "centers": (-0.5, 0.5)}, "4 regions, but there are 9 texts"),
    ],
)
def test_from_scratch_the_encoders_must_serve(fine: Fine, tmp_path: Path, given: dict[str, Any], why: str) -> None:
    with pytest.raises(VAError, match=why):
        begin(fine.config(tmp_path, start=None, **fine_run.WINDOWS, **given), device=CPU)


def test_padding_reaches_neither_loss_nor_towers(fine: Fine, tmp_path: Path) -> None:
    """A window of padding holds nothing, and augmentation depends on window and epoch alone."""
    learner, start = prepared(fine.config(tmp_path))
    window = len(learner.pool) - 1
    learner.begin(torch.tensor([[[window, -1]], [[-1, window]]]))
    one, other = learner.batch(0), learner.batch(1)
    assert not one.frame_valid[0, 1].any() and not one.audio_valid[0, 1].any() and not one.target_valid[0, 1].any()
    assert one.frames[0, 1].count_nonzero() == 0
    assert torch.allclose(one.frames[0, 0], other.frames[0, 1], atol=1e-6)
    plain, _ = prepared(fine.config(tmp_path, augment=False))
    plain.begin(torch.tensor([[[window, -1]]]))
    assert not torch.allclose(plain.batch(0).frames[0, 0], one.frames[0, 0], atol=1e-3)
    assert start.config.batch_size == 4
