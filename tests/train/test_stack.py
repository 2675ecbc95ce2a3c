"""Trials trained together: each is what it is alone, whatever the company; and its optimiser is the library's."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_corpus import Small
from torch import Tensor

from va.data.corpus import Truth
from va.data.windows import WindowSet
from va.errors import VAError
from va.model import layers
from va.model.inference import predict_windows
from va.train import checkpoint, loop, planning, runs
from va.train import state as states
from va.train.config import TrainConfig
from va.train.data import divide, load_pool, open_data, read_truths
from va.train.stack import Stack, schedule_factor
from va.train.state import Epoch

CPU = torch.device("cpu")


def quiet(config: TrainConfig, line: Epoch) -> None:
    """Hear nothing."""


def log_of(directory: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]


def various(small: Small, out: Path, **changes: object) -> list[TrainConfig]:
    """Trials that differ in everything that trials of a stack may differ in."""
    return [
        small.config(out, seed=0, **changes),
        small.config(out, seed=1, sigma=0.3, region_weight=0.5, learning_rate=2e-3, **changes),
        small.config(out, seed=2, centers=(-0.8, 0.0, 0.8), weight_decay=0.1, clip_norm=0.5, **changes),
        small.config(out, seed=0, region_weight=0.0, schedule="cosine", warmup_steps=2, region_scale=5.0, **changes),
    ]


@pytest.mark.parametrize("changes", [{}, {"temporal": "tcn", "ema": 0.5}, {"modalities": "voice", "target": "end"}])
def test_a_trial_in_a_stack_equals_the_same_trial_alone(
    changes: dict[str, object], small: Small, tmp_path: Path
) -> None:
    """After 3 epochs: norms per tensor within 1e-4, predictions within 1e-3, other seeds, other numbers of batches."""
    configs = various(small, tmp_path / "together", epochs=3, patience=3, **changes)
    together = runs.train(configs, epoch_done=quiet)
    assert {json.loads((one / "run.json").read_text())["trained_together"] for one in together} == {4}
    for config, directory in zip(configs, together, strict=True):
        (alone,) = runs.train([dataclasses.replace(config, out=tmp_path / "alone")], epoch_done=quiet)
        assert alone.name == directory.name
        ours, theirs = (load_file(one / "model.safetensors") for one in (directory, alone))
        for name, tensor in theirs.items():
            assert ours[name].norm() == pytest.approx(float(tensor.norm()), rel=1e-4, abs=1e-7), name
        data = open_data(config)
        held_out = load_pool(config, data, data.corpus.split("val"), CPU)
        answers = [
            predict_windows(
                checkpoint.load_run(one).head,
                inputs=lambda index, pool=held_out: pool.batch(index)[:4],
                index=torch.arange(len(held_out)),
                batch_size=64,
            )
            for one in (directory, alone)
        ]
        assert abs(answers[0].va - answers[1].va).max() < 1e-3
        assert [line["best"] for line in log_of(directory)] == [line["best"] for line in log_of(alone)]


def test_trials_that_stop_early_leave_the_others_as_they_were(small: Small, tmp_path: Path) -> None:
    """Epochs and patience differ, so that the stack shrinks twice on the way."""
    configs = [
        small.config(tmp_path / "together", seed=0, epochs=2),
        small.config(tmp_path / "together", seed=1, epochs=5, patience=1, learning_rate=0.05),
        small.config(tmp_path / "together", seed=2, epochs=6),
    ]
    together = runs.train(configs, epoch_done=quiet)
    assert [len(log_of(one)) for one in together][::2] == [2, 6]
    for config, directory in zip(configs, together, strict=True):
        (alone,) = runs.train([dataclasses.replace(config, out=tmp_path / "alone")], epoch_done=quiet)
        for ours, theirs in zip(log_of(directory), log_of(alone), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-4)


def test_a_trial_that_fails_leaves_the_others_to_finish(small: Small, tmp_path: Path) -> None:
    configs = [small.config(tmp_path, seed=0), small.config(tmp_path, seed=1, learning_rate=1e30)]
    with pytest.raises(runs.TrialsFailed, match=r"1 of 2 trials failed, first gru-hierarchical-") as told:
        runs.train(configs, epoch_done=quiet)
    (failed,) = told.value.failures
    good, bad = (one.directory for one in planning.plan(configs))
    assert failed == bad and not checkpoint.is_finished(bad)
    assert checkpoint.is_finished(good)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temporal": "tcn", "ema": 0.9, "schedule": "cosine", "clip_norm": 1.0},
        {"standardise": True, "fusion": "gated"},
    ],
)
def test_a_run_that_was_interrupted_and_resumed_equals_one_that_was_not(
    changes: dict[str, object], small: Small, tmp_path: Path
) -> None:
    """Bit for bit on a CPU, whichever epoch the interruption came after."""

    class Interrupted(Exception):
        pass

    config = small.config(tmp_path / "whole", epochs=4, patience=4, **changes)
    (whole,) = runs.train([config], epoch_done=quiet)
    resumed = dataclasses.replace(config, out=tmp_path / "resumed")
    for stop in (1, 3):

        def interrupt(config: TrainConfig, line: Epoch, stop: int = stop) -> None:
            if line["epoch"] == stop:
                raise Interrupted

        with pytest.raises(Interrupted):
            runs.train([resumed], epoch_done=interrupt)
    heard: list[int] = []
    (directory,) = runs.train([resumed], epoch_done=lambda config, line: heard.append(line["epoch"]))
    assert heard == [4]
    assert (directory / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert (directory / "log.jsonl").read_bytes() == (whole / "log.jsonl").read_bytes()
    assert not (directory / states.NAME).exists(), "the state of a finished run goes"


def three_seeds(out: Path, small: Small) -> list[TrainConfig]:
    return [small.config(out, seed=seed, temporal="tcn", epochs=4, patience=4) for seed in range(3)]


@pytest.fixture(scope="module")
def never_killed(small: Small, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return runs.train(three_seeds(tmp_path_factory.mktemp("whole"), small), epoch_done=quiet)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("epoch", [1, 2, 4])
def test_a_stack_that_was_killed_between_two_saves_goes_on_to_the_same_bits(
    epoch: int, times: int, small: Small, never_killed: list[Path], tmp_path: Path
) -> None:
    """Sums are rounded differently in a stack of another size, so all must go on from the same epoch."""

    def kill(config: TrainConfig, line: Epoch) -> None:
        if line["epoch"] == epoch and config.seed == 1:
            raise KeyboardInterrupt

    for _ in range(times):  # again in the same epoch, when what was undone must not come back
        with pytest.raises(KeyboardInterrupt):
            runs.train(three_seeds(tmp_path, small), epoch_done=kill)
    killed = runs.train(three_seeds(tmp_path, small), epoch_done=quiet)
    for ours, theirs in zip(killed, never_killed, strict=True):
        for name in ("model.safetensors", "log.jsonl"):
            assert (ours / name).read_bytes() == (theirs / name).read_bytes()
        assert {file.name for file in ours.iterdir()} == {"model.safetensors", "log.jsonl", "run.json"}


def test_no_resume_begins_again_and_a_damaged_state_says_so(small: Small, tmp_path: Path) -> None:
    def interrupt(config: TrainConfig, line: Epoch) -> None:
        raise KeyboardInterrupt

    config = small.config(tmp_path, epochs=2)
    with pytest.raises(KeyboardInterrupt):
        runs.train([config], epoch_done=interrupt)
    (planned,) = planning.plan([config])
    file = planned.directory / states.NAME
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(VAError, match="cannot be resumed from"):
        runs.train([config], epoch_done=quiet)
    heard: list[int] = []
    runs.train([dataclasses.replace(config, resume=False)], epoch_done=lambda config, line: heard.append(line["epoch"]))
    assert heard == [1, 2]


def made(configs: list[TrainConfig]) -> tuple[list[loop.Trial], WindowSet, dict[str, Truth], Stack]:
    data = open_data(configs[0])
    pool = load_pool(configs[0], data, data.corpus.split("train"), CPU)
    planned = planning.plan(configs)
    trials = [runs.make_trial(one, pool) for one in planned]
    truths = read_truths(data, divide(configs[0], data.corpus).selection)
    head = runs.make_head(planned[0])
    return trials, pool, truths, Stack(head, configs=configs, states=[t.state for t in trials], device=CPU)


def objective(head: torch.nn.Module, config: TrainConfig, pool: WindowSet, index: Tensor) -> Tensor:
    """L of paper eq. 6, by the scalar functions."""
    from va.model.prompts import region_centers, soft_labels
    from va.train.losses import ccc_loss, region_kl

    batch = pool.batch(index)
    output = head(*batch[:4])
    soft = soft_labels(batch.target, region_centers(config.centers), config.sigma)
    return ccc_loss(output.va, batch.target, batch.target_valid) + config.region_weight * region_kl(
        output.region_logits, soft, batch.target_valid
    )


def test_steps_are_those_of_the_stock_optimiser_clipping_and_schedule(small: Small, tmp_path: Path) -> None:
    """Against torch.optim.AdamW, clip_grad_norm_ and LambdaLR on each head alone, with waiting steps in between."""
    configs = various(small, tmp_path)
    trials, pool, _, stack = made(configs)
    heads = []
    for trial, config in zip(trials, configs, strict=True):
        (planned,) = planning.plan([config])
        head = runs.make_head(planned)
        head.load_state_dict(trial.state.weights)
        optimiser = torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        factor = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step, config=config: schedule_factor(config, step=step, total_steps=6)
        )
        heads.append((head, optimiser, factor))
    generator = torch.Generator().manual_seed(0)
    for number in range(6):
        index = torch.randint(len(pool), (4, 8), generator=generator)
        active = [(number + place) % 3 != 0 for place in range(4)]
        stack.step(pool.batch(index), active=active, total_steps=[6] * 4)
        for place, (config, (head, optimiser, factor)) in enumerate(zip(configs, heads, strict=True)):
            if not active[place]:
                continue
            optimiser.zero_grad()
            objective(head, config, pool, index[place]).backward()
            if config.clip_norm:
                torch.nn.utils.clip_grad_norm_(head.parameters(), config.clip_norm)
            optimiser.step()
            factor.step()
    assert stack.steps == [4, 4, 4, 4]
    for place, (head, _, _) in enumerate(heads):
        for name, tensor in layers.trial_state(stack.head, place).items():
            torch.testing.assert_close(tensor, head.state_dict()[name], rtol=1e-4, atol=2e-5, msg=name)


def test_the_schedule_warms_up_and_falls_along_a_cosine(small: Small, tmp_path: Path) -> None:
    config = small.config(tmp_path, schedule="cosine", warmup_steps=4)
    factors = [schedule_factor(config, step=step, total_steps=14) for step in range(16)]
    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert factors[9] == pytest.approx(0.5)
    assert factors[13] == pytest.approx(0.5 * (1 + math.cos(0.9 * math.pi)))
    assert factors[14] == factors[15] == pytest.approx(0)
    assert schedule_factor(small.config(tmp_path), step=999, total_steps=10) == 1.0


def test_the_average_of_the_weights_is_what_is_validated_and_kept(small: Small, tmp_path: Path) -> None:
    trials, pool, _, stack = made([small.config(tmp_path, ema=0.75)])
    expected = {name: tensor.clone() for name, tensor in trials[0].state.weights.items()}
    for number in range(3):
        active = number != 1
        stack.step(pool.batch(torch.arange(8)[None] + number), active=[active], total_steps=[3])
        now = layers.trial_state(stack.head, 0)
        if active:
            expected = {name: 0.75 * tensor + 0.25 * now[name] for name, tensor in expected.items()}
    assert stack.answering is stack.averaged is not None
    for name, tensor in layers.trial_state(stack.answering, 0).items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-5, atol=1e-6)


def test_epochs_visit_each_window_once_in_batches_of_one_size(small: Small, tmp_path: Path) -> None:
    configs = [small.config(tmp_path, seed=seed, dev_fraction=fraction) for seed, fraction in ((0, 0.15), (1, 0.6))]
    trials, pool, _, _ = made(configs)
    labels = pool.num_labels()
    first, second = loop.draw_batches(trials, labels), loop.draw_batches(trials, labels)
    assert first.shape == second.shape and first.shape[1:] == (2, 16)
    assert not torch.equal(first, second)
    for place, trial in enumerate(trials):
        for epoch in (first, second):
            seen = epoch[:, place].flatten()
            assert sorted(seen[seen >= 0].tolist()) == sorted(loop.windows_of(trial.train).tolist())
    own = loop.windows_of(trials[0].train)
    order = own[torch.randperm(len(own), generator=torch.Generator().manual_seed(0))]
    assert torch.equal(first[:, 0].flatten()[: len(own)], order)


def test_folds_share_no_identity_and_cover_everyone(small: Small, tmp_path: Path) -> None:
    configs = planning.expand(small.config(tmp_path, folds=4, seeds=(0, 1)))
    assert [(config.fold, config.seed) for config in configs] == [(f, s) for f in range(4) for s in (0, 1)]
    data = open_data(configs[0])
    held = []
    for config in configs:
        division = divide(config, data.corpus)
        assert not {clip.identity for clip in division.train} & {clip.identity for clip in division.selection}
        held.append({clip.identity for clip in division.selection})
    assert held[0] == held[1] and set.union(*held) == {clip.identity for clip in data.corpus.split("train")}
    assert sum(len(fold) for fold in held[::2]) == 8


def test_features_in_a_file_give_the_same_run(small: Small, tmp_path: Path) -> None:
    """Larger than the memory they may take, they are read from a temporary file; the bits stay the same."""
    (first,) = runs.train([small.config(tmp_path / "a")], epoch_done=quiet)
    (second,) = runs.train([small.config(tmp_path / "b", memory_gb=1e-6)], epoch_done=quiet)
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    data = open_data(small.config(tmp_path))
    pool = load_pool(small.config(tmp_path, memory_gb=1e-6), data, data.corpus.split("val"), CPU)
    assert not torch.equal(pool.frames, torch.zeros_like(pool.frames)) and len(pool.frames) == 8 * 32 + 1


def test_every_parameter_is_in_one_group_at_its_rate(small: Small, tmp_path: Path) -> None:
    """Fine-tuning lets weight decay act on matrices only; cached training on everything (F14)."""
    configs = various(small, tmp_path)
    planned = planning.plan(configs)
    head = runs.make_head(planned[0])
    spans = load_pool(configs[0], planned[0].data, planned[0].data.corpus.split("train"), CPU)
    trials = [runs.make_trial(one, spans) for one in planned]
    for decays_vectors in (True, False):
        stack = Stack(
            head,
            configs=configs,
            states=[trial.state for trial in trials],
            device=CPU,
            decays_vectors=decays_vectors,
        )
        groups = stack._optimiser.param_groups
        grouped = [id(parameter) for group in groups for parameter in group["params"]]
        leaves = [id(leaf) for trial in stack._leaves for leaf in trial.values()]
        assert sorted(grouped) == sorted(leaves) and len(set(grouped)) == len(grouped)
        for group in groups:
            config = configs[group["trial"]]
            assert group["lr"] == config.learning_rate
            vectors = {parameter.ndim < 2 for parameter in group["params"]}
            assert decays_vectors or len(vectors) == 1
            assert group["weight_decay"] == (0.0 if vectors == {True} else config.weight_decay)
