"""Runs on cached features: what they write, what they may look at, and what stops them."""

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_corpus import FRAME_DIM, Small, build, identity

from va import files, locks
from va.data import identities
from va.data.corpus import Corpus, Truth
from va.data.features import FeatureStore, Source
from va.data.windows import WindowSet
from va.errors import VAError
from va.evaluate import opening, predict
from va.model.head import VAHead
from va.model.inference import predict_windows
from va.model.prompts import region_centers, soft_labels
from va.train import checkpoint, loop, planning, runs
from va.train.config import TrainConfig
from va.train.data import divide, load_pool, open_data, read_truths
from va.train.state import Epoch

CPU = torch.device("cpu")


def quiet(config: TrainConfig, line: Epoch) -> None:
    """Hear nothing."""


def train(config: TrainConfig) -> Path:
    return runs.train([config], epoch_done=quiet)[0]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def assert_same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name


def test_a_run_learns_and_says_how_it_was_made(small: Small, tmp_path: Path) -> None:
    directory = train(small.config(tmp_path, epochs=8))
    info = json.loads((directory / "run.json").read_text())
    log = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == list(range(1, len(log) + 1))
    assert log[-1]["loss"] < log[0]["loss"]
    assert info["selection"]["ccc_mean"] == max(line["ccc_mean"] for line in log) > 0.6
    assert info["selection"]["split"] == "dev"
    assert info["versions"]["torch"] == torch.__version__.split("+")[0] or info["versions"]["torch"]
    assert info["config"]["seed"] == 0
    clips = {clip.id: clip for clip in Corpus.load(small.corpus).clips}
    dev = {clips[name].identity for name in info["selection"]["clips"]}
    assert dev
    assert not dev & {clips[name].identity for name in info["train_clips"]}
    assert {clips[name].split for name in info["train_clips"] + info["selection"]["clips"]} == {"train"}


def test_colleagues_may_read_a_run_as_the_umask_says(small: Small, tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        directory = train(small.config(tmp_path, epochs=1))
    finally:
        os.umask(before)
    modes = {file.name: file.stat().st_mode & 0o777 for file in directory.iterdir()}
    assert modes == {"run.json": 0o644, "model.safetensors": 0o644, "log.jsonl": 0o644}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda info: info["shape"].update(frame_dim=10**12), "does not hold this run's weights"),
        (lambda info: info["shape"].update(text_dim=-1), "malformed"),
        (lambda info: info["config"].update(centers=[-0.5, 0.5]), "different numbers of regions"),
        (lambda info: info["region_texts"].pop(), "different numbers of regions"),
        (lambda info: info["encoders"].pop("face"), "malformed"),
        (lambda info: info.pop("members"), "malformed"),
    ],
)
def test_a_run_from_elsewhere_is_believed_only_as_far_as_its_weights_go(
    small: Small, tmp_path: Path, change: Callable[[dict[str, Any]], object], why: str
) -> None:
    directory = train(small.config(tmp_path, epochs=1))
    info = json.loads((directory / "run.json").read_text())
    change(info)
    (directory / "run.json").write_text(json.dumps(info))
    with pytest.raises(VAError, match=why):
        checkpoint.load_run(directory)


def test_a_run_file_nested_without_end_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[" * 200_000)
    with pytest.raises(VAError, match="is not a finished run"):
        checkpoint.load_run(tmp_path)


def test_two_runs_are_equal_bit_for_bit(small: Small, tmp_path: Path) -> None:
    assert_same(weights(train(small.config(tmp_path / "a"))), weights(train(small.config(tmp_path / "b"))))


def test_another_seed_is_another_run(small: Small, tmp_path: Path) -> None:
    first, second = train(small.config(tmp_path, epochs=1)), train(small.config(tmp_path, epochs=1, seed=1))
    assert first != second
    assert not torch.equal(weights(first)["output.weight"], weights(second)["output.weight"])


def test_a_finished_run_is_reused(small: Small, tmp_path: Path) -> None:
    directory = train(small.config(tmp_path, epochs=1))
    heard: list[int] = []
    again = runs.train([small.config(tmp_path, epochs=1)], epoch_done=lambda config, line: heard.append(1))
    assert again == [directory]
    assert heard == []


def test_other_feature_values_are_another_run(small: Small, tmp_path: Path) -> None:
    """The same encoder on changed media has the same identity; a finished run must not be reused for it."""
    first = train(small.config(tmp_path / "runs", epochs=1))
    shutil.copytree(small.features, tmp_path / "features")
    store = FeatureStore(next((tmp_path / "features").glob("eye-*")))
    kept = store.read("clip00")
    store.write("clip00", dataclasses.replace(kept, values=kept.values * np.float16(2)), Source(size=2, digest="1"))
    second = train(Small(small.corpus, tmp_path / "features").config(tmp_path / "runs", epochs=1))
    assert first != second


def test_an_unfinished_run_is_not_taken_for_finished(small: Small, tmp_path: Path) -> None:
    directory = train(small.config(tmp_path, epochs=1))
    (directory / "run.json").unlink()
    with pytest.raises(VAError, match=r"run\.json"):
        checkpoint.load_run(directory)
    assert train(small.config(tmp_path, epochs=1)) == directory
    assert checkpoint.is_finished(directory)


def test_the_reported_split_is_never_looked_at(small: Small, tmp_path: Path) -> None:
    """Ruined validation labels change neither weights nor selection (settled 7)."""
    ruined = build(tmp_path / "ruined", label_noise_in_val=5.0)
    first, second = train(small.config(tmp_path / "a")), train(ruined.config(tmp_path / "b"))
    assert first.name != second.name, "another corpus is another run"
    assert_same(weights(first), weights(second))


def test_selection_on_val_is_an_option_that_is_named(small: Small, tmp_path: Path) -> None:
    info = checkpoint.load_run(train(small.config(tmp_path, epochs=1, select_on="val"))).info
    assert info["selection"]["split"] == "val"
    assert len(info["train_clips"]) == 16


def test_early_stopping_keeps_the_best_epoch(small: Small, tmp_path: Path) -> None:
    directory = train(small.config(tmp_path, epochs=40, patience=1, learning_rate=0.05))
    log = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    best = max(log, key=lambda line: line["ccc_mean"])
    assert len(log) == best["epoch"] + 1 < 40
    run = checkpoint.load_run(directory)
    assert run.info["selection"]["epoch"] == best["epoch"]
    data = open_data(run.config)
    clips = divide(run.config, data.corpus).selection
    selection = load_pool(run.config, data, clips, CPU)
    found = predict_windows(
        run.head, inputs=lambda i: selection.batch(i)[:4], index=torch.arange(len(selection)), batch_size=16
    )
    score = loop.score_windows(found.va, selection.spans, selection, read_truths(data, clips))
    assert score["ccc_mean"]["value"] == pytest.approx(best["ccc_mean"], abs=1e-6)


@pytest.mark.parametrize("modalities", ["both", "face", "voice"])
@pytest.mark.parametrize("target", ["frames", "end"])
def test_every_architecture_trains_loads_and_predicts(
    modalities: str, target: str, small: Small, tmp_path: Path
) -> None:
    run = checkpoint.load_run(train(small.config(tmp_path, epochs=1, modalities=modalities, target=target)))
    inputs = opening.open_inputs(run, corpus=None, features_root=None)
    found = predict.predict_clips(
        run,
        inputs,
        inputs.corpus.split("val"),
        device=torch.device("cpu"),
        fill="interpolate",
        label_shift_s=0.0,
    )
    assert found.raw.va.shape[1] == (20 if target == "frames" else 1)
    assert (np.abs(found.raw.va) <= 1).all()
    np.testing.assert_allclose(found.raw.regions.sum(axis=-1), 1, atol=1e-6)
    assert all(clip.covered.all() for clip in found.frames)
    # A clip of 16 s has full windows from 0, 3 and 6 s.
    assert [list(clip.end_time_s) for clip in found.ends] == [[10.0, 13.0, 16.0]] * 8


def test_the_region_term_teaches_the_regions(small: Small, tmp_path: Path) -> None:
    """Over seeds, KL lowers the cross-entropy of held-out regions (paired by seed)."""
    differences = []
    for seed in range(3):
        entropy = {}
        for weight in (0.0, 0.2):
            run = checkpoint.load_run(train(small.config(tmp_path, seed=seed, region_weight=weight)))
            data = open_data(run.config)
            held_out = load_pool(run.config, data, data.corpus.split("val"), CPU)
            everything = held_out.batch(torch.arange(len(held_out)))
            regions = torch.from_numpy(
                predict_windows(
                    run.head,
                    inputs=lambda index, s=held_out: s.batch(index)[:4],
                    index=torch.arange(len(held_out)),
                    batch_size=64,
                ).regions
            )
            soft = soft_labels(everything.target, region_centers(run.config.centers), run.config.sigma).double()
            entropy[weight] = float(-(soft * regions.log()).sum(-1)[everything.target_valid].mean())
        differences.append(entropy[0.0] - entropy[0.2])
    assert min(differences) > 0


def prepared(config: TrainConfig) -> tuple[loop.Trial, WindowSet, dict[str, Truth], VAHead]:
    """Everything that `loop.fit` takes, for one trial."""
    data = open_data(config)
    division = divide(config, data.corpus)
    pool = load_pool(config, data, (*division.train, *division.selection), CPU)
    (planned,) = planning.plan([config])
    return runs.make_trial(planned, pool), pool, read_truths(data, division.selection), runs.make_head(planned)


def test_batches_without_two_labels_are_skipped_and_counted(small: Small, tmp_path: Path) -> None:
    trial, pool, truths, head = prepared(small.config(tmp_path, epochs=1, batch_size=1))
    pool.target_valid[:] = False
    pool.target_valid[:20] = True  # cells of the first window of the first clip
    before = {name: tensor.clone() for name, tensor in trial.state.weights.items()}
    loop.fit([trial], pool, truths, head, epoch_done=lambda trial, best: None)
    # Windows from 0, 3 and 6 s see labels of the first 10 s.
    assert trial.state.log[0]["skipped_batches"] == len(loop.windows_of(trial.train)) - 3
    assert trial.state.steps == 3
    assert not torch.equal(trial.state.weights["output.weight"], before["output.weight"])
    trial, pool, truths, head = prepared(small.config(tmp_path, epochs=1, batch_size=1))
    pool.target_valid[:] = False
    loop.fit([trial], pool, truths, head, epoch_done=lambda trial, best: None)
    assert trial.failure is not None and "no training batch has two valid labels" in trial.failure.message


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_clips(small: Small, tmp_path: Path) -> None:
    """One clip's features are ruined after the first epoch: its batch is named, the good weights stay."""
    config = small.config(tmp_path, epochs=3)
    trial, pool, truths, head = prepared(config)
    ruined = trial.train[2]
    kept: list[dict[str, torch.Tensor]] = []

    def ruin(trial: loop.Trial, best: dict[str, torch.Tensor] | None) -> None:
        kept.append({name: tensor.clone() for name, tensor in (best or {}).items()})
        pool.frames[int(pool.cells[ruined.windows.start, 0])] = float("nan")

    loop.fit([trial], pool, truths, head, epoch_done=ruin)
    assert trial.failure is not None
    told = r"the loss is nan in step \d+ \(clips .*" + ruined.clip.id + r".*\) of epoch 2"
    assert re.search(told, trial.failure.message)
    assert "the weights of epoch 1 are kept" in trial.failure.message
    assert len(kept) == 1 and all(tensor.isfinite().all() for tensor in kept[0].values())


def test_a_learning_rate_that_explodes_is_told_in_two_lines(small: Small, tmp_path: Path) -> None:
    with pytest.raises(VAError, match=r"(the loss|a prediction) is .* epoch 1; no weights are kept"):
        train(small.config(tmp_path, learning_rate=1e30))


def test_padding_and_other_windows_in_the_batch_change_nothing(small: Small, tmp_path: Path) -> None:
    run = checkpoint.load_run(train(small.config(tmp_path, epochs=1)))
    data = open_data(run.config)
    held_out = load_pool(run.config, data, data.corpus.split("val"), CPU)
    together = run.head(*held_out.batch(torch.arange(len(held_out)))[:4]).va
    alone = torch.cat([run.head(*held_out.batch(torch.tensor([i]))[:4]).va for i in range(len(held_out))])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)
    held_out.frames[-1] = 7.0  # the masked row that padding points at
    torch.testing.assert_close(run.head(*held_out.batch(torch.arange(len(held_out)))[:4]).va, together, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_s": 8.0}, "has windows of 10 s every 3 s, not 8 s every 3 s"),
        ({"centers": (-0.66, 0.66)}, "2 x 2 make 4 regions, but .* has 9 texts"),
        ({"folds": 9}, "9 folds need as many identities, the training split has 8"),
        ({"precision": "bfloat16"}, "needs a GPU"),
        ({"face_encoder": "clip-vit-b-16"}, "has no frames encoder 'clip-vit-b-16'"),
        ({"device": "warp"}, "--device"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    changes: dict[str, object], message: str, small: Small, tmp_path: Path
) -> None:
    with pytest.raises(VAError, match=message):
        train(small.config(tmp_path / "runs", **changes))
    assert not (tmp_path / "runs").exists()


def test_missing_and_mixed_features_are_refused(small: Small, tmp_path: Path) -> None:
    shutil.copytree(small.features, tmp_path / "features")
    store = FeatureStore(next((tmp_path / "features").glob("eye-*")))
    config = Small(small.corpus, tmp_path / "features").config(tmp_path / "runs")
    other = FeatureStore.create(tmp_path / "other", identity("eye", "frames", FRAME_DIM, weights="other"))
    kept = store.read("clip03")
    store.path("clip03").unlink()
    with pytest.raises(VAError, match="no features of clip 'clip03'"):
        train(config)
    other.write("clip03", kept, Source(size=1, digest="0"))
    shutil.copy(other.path("clip03"), store.path("clip03"))
    with pytest.raises(VAError, match=f"identity '{other.digest}'"):
        train(config)
    assert not (tmp_path / "runs").exists()


def flip(file: Path) -> None:
    """Turn a bit of the last byte but one round; in a file of tensors that is a number, and the file still opens."""
    content = file.read_bytes()
    file.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])


def test_damaged_files_of_a_finished_run_are_refused(small: Small, tmp_path: Path) -> None:
    config = small.config(tmp_path, epochs=1)
    directory = train(config)
    model, log = directory / "model.safetensors", directory / "log.jsonl"
    whole = model.read_bytes()
    for damaged in (whole[:-5], whole[:-2] + bytes([whole[-2] ^ 1]) + whole[-1:]):
        model.write_bytes(damaged)
        with pytest.raises(VAError, match="does not hold this run's weights"):
            checkpoint.load_run(directory)
        with pytest.raises(VAError, match=r"model\.safetensors: is damaged"):
            train(config)
    model.unlink()
    with pytest.raises(VAError, match=r"model\.safetensors: cannot be read"):
        train(config)
    model.write_bytes(whole)
    assert train(config) == directory, "as it was"
    flip(log)
    checkpoint.load_run(directory)  # no prediction needs the log
    with pytest.raises(VAError, match=r"log\.jsonl: is damaged"):
        train(config)


def test_a_wrong_bit_in_a_state_is_not_learned_from(small: Small, tmp_path: Path) -> None:
    config = small.config(tmp_path, epochs=2)

    def stop(config: TrainConfig, line: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.train([config], epoch_done=stop)
    (state,) = tmp_path.glob("*/state.safetensors")
    flip(state)
    with pytest.raises(VAError, match="cannot be resumed from"):
        train(config)


def test_a_log_that_a_kill_left_short_is_written_before_the_run_is_finished(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small.config(tmp_path / "killed", epochs=2)

    def killed(path: Path, data: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(files, "write_json", killed)  # of `run.json`
        with pytest.raises(KeyboardInterrupt):
            train(config)
    (log,) = tmp_path.glob("killed/*/log.jsonl")
    whole = log.read_text()
    log.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    train(config)
    assert log.read_text() == whole


def test_two_processes_do_not_train_one_run(small: Small, tmp_path: Path) -> None:
    config = small.config(tmp_path, epochs=1)
    directory = train(config)
    for file in directory.iterdir():
        file.unlink()
    with (
        locks.alone(directory, doing="trained"),
        pytest.raises(VAError, match="is being trained by another process"),
    ):
        train(config)
    assert list(directory.iterdir()) == [], "no lock stays"
    assert train(config) == directory


def test_features_of_another_identity_are_refused_at_evaluation(small: Small, tmp_path: Path) -> None:
    run = checkpoint.load_run(train(small.config(tmp_path, epochs=1)))
    run.info["identity"]["face"] = "00000000"
    with pytest.raises(VAError, match="the run was trained on 00000000"):
        opening.open_inputs(run, corpus=None, features_root=None)


def test_dev_is_stable_and_seeded(small: Small) -> None:
    clips = Corpus.load(small.corpus).split("train")
    first = identities.dev_identities(clips, fraction=0.3, seed=0)
    assert first == identities.dev_identities(clips[::-1], fraction=0.3, seed=0)
    assert any(identities.dev_identities(clips, fraction=0.3, seed=seed) != first for seed in range(1, 6))
