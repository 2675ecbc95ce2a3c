"""Learned context in sweeps and tables of runs: which trials share a stack, what a stack holds, and what is refused."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import small_tower
import torch
from safetensors.torch import load_file
from small_corpus import Small, identity
from small_tower import store_of
from torch.profiler import ProfilerActivity, profile

from va import cli
from va.data import texttower
from va.data.features import FeatureStore
from va.errors import VAError
from va.train import ablate, context, loop, planning, runs, sweep
from va.train.ablate_config import AblateConfig
from va.train.config import SweepConfig, TrainConfig
from va.train.data import load_pool
from va.train.planning import Planned
from va.train.stack import Stack

CPU = torch.device("cpu")
PROTOTYPES = "region_head.prototypes"


def unheard(done: int, total: int, what: str) -> None:
    """Hear nothing."""


def make(small: Small, out: Path, **changes: Any) -> SweepConfig:
    quick = {"width": 16, "num_heads": 2, "epochs": 2, "learning_rate": 5e-3, "device": "cpu", "seeds": (0, 1)}
    grid = {"centers": (0.66, 1.0), "sigmas": (0.45,), "context": (0, 2, 3)}
    return SweepConfig(corpus=small.corpus, features=small.features, out=out, **{**quick, **grid, **changes})


# --- what is trained together


def test_trials_are_stacked_by_their_number_of_vectors_and_equal_the_same_trials_alone(
    towered: Small, tmp_path: Path
) -> None:
    """Two grids and two seeds share each stack: every grid's texts pass through the tower behind its own context."""
    config = make(towered, tmp_path / "sweep")
    results = sweep.run(config, progress=unheard)
    assert [row["trained_together"] for row in results["trials"]] == [4] * 12
    texts = context.load(texttower.find(store_of(towered), weights="0" * 32), CPU)
    for row, trial in zip(results["trials"], sweep.expand(config), strict=True):
        if not row["seed"]:
            continue  # its neighbours in the stack
        alone = towered.config(
            tmp_path / "alone",
            epochs=2,
            seed=row["seed"],
            context=row["context"],
            centers=(-row["center"], 0.0, row["center"]),
        )
        assert (trial.context, trial.seed, trial.centers) == (alone.context, alone.seed, alone.centers)
        (directory,) = runs.train([alone], epoch_done=lambda config, line: None)
        assert directory.name == Path(row["run"]).name, "an ordinary run of 'va train --context'"
        ours, theirs = (load_file(one / "model.safetensors") for one in (config.out / row["run"], directory))
        assert ours.keys() == theirs.keys()
        for name, tensor in theirs.items():
            assert ours[name].norm() == pytest.approx(float(tensor.norm()), rel=1e-4, abs=1e-7), name
        torch.testing.assert_close(ours[PROTOTYPES], theirs[PROTOTYPES], atol=1e-3, rtol=0)
        if row["context"]:
            torch.testing.assert_close(ours[PROTOTYPES], texts(ours["region_head.context"]), atol=1e-6, rtol=0)


def test_a_sweep_without_context_is_the_one_that_it_was(towered: Small, small: Small, tmp_path: Path) -> None:
    """Same names and same bits, whether a tower lies there or not."""
    one, other = (
        sweep.run(make(there, tmp_path / name, context=(0,), epochs=1), progress=unheard)
        for there, name in ((towered, "a"), (small, "b"))
    )
    for ours, theirs in zip(one["trials"], other["trials"], strict=True):
        assert ours["run"] == theirs["run"]
        files = [tmp_path / name / row["run"] / "model.safetensors" for name, row in (("a", ours), ("b", theirs))]
        assert files[0].read_bytes() == files[1].read_bytes()


# --- what a stack holds


def peak_bytes(work: Callable[[], object], folder: Path) -> int:
    """Most bytes that tensors on the CPU held at once in some work, beyond what they held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        kept = work()
    del kept
    measured.export_chrome_trace(str(folder / "trace.json"))
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    changes = sorted((one["ts"], one["args"]["Bytes"]) for one in events if one["name"] == "[memory]")
    held = peak = 0
    for _, change in changes:
        held += change
        peak = max(peak, held)
    return peak


def add_tower(small: Small, *, layers: int, activation: str = "quick_gelu") -> None:
    """A tower with four hidden units per unit of its width, as CLIP's have."""
    tensors = small_tower.random_tensors(width=128, hidden=512, layers=layers)
    texttower.write(store_of(small), small_tower.content(tensors, activation=activation))


@pytest.mark.parametrize("layers", [1, 4])
def test_the_towers_part_of_a_trial_is_what_a_pass_there_and_back_holds(
    layers: int, own: Small, tmp_path: Path
) -> None:
    add_tower(own, layers=layers)
    found = texttower.find(store_of(own), weights="0" * 32)
    texts = context.load(found, CPU)
    for count in (1, 10):
        for trials in (1, 3):
            vectors = torch.zeros(trials, count, found.width, requires_grad=True)

            def there_and_back(vectors: torch.Tensor = vectors) -> None:
                texts(vectors).sum().backward()

            held = peak_bytes(there_and_back, tmp_path)
            expected = 4 * trials * context.floats_per_trial(found, count=count)
            assert held <= expected <= 1.1 * held, (count, trials)


def step_peak(configs: list[TrainConfig], planned: list[Planned], folder: Path) -> int:
    data = planned[0].data
    pool = load_pool(configs[0], data, data.corpus.split("train"), CPU)
    trials = [runs.make_trial(one, pool) for one in planned]
    head = runs.make_head(planned[0])
    assert data.tower is not None
    texts = context.load(data.tower, CPU)
    index = loop.draw_batches(trials, pool.num_labels())[0]

    def steps() -> Stack:
        states = [trial.state for trial in trials]
        stack = Stack(head, configs=configs, states=states, device=CPU, texts=texts)
        for _ in range(2):  # moments are there from the second on
            stack.step(pool.batch(index), active=[True] * len(configs), total_steps=[9] * len(configs))
        return stack

    return peak_bytes(steps, folder)


def test_a_trial_of_a_stack_is_expected_to_hold_what_it_does(own: Small, tmp_path: Path) -> None:
    add_tower(own, layers=4)
    peaks = {}
    for count in (2, 5):
        configs = [own.config(tmp_path, context=10, seed=seed) for seed in range(count)]
        planned = planning.plan(configs)
        peaks[count] = step_peak(configs, planned, tmp_path)
    each = (peaks[5] - peaks[2]) / 3
    expected = runs.trial_bytes(planned[0])
    (plain,) = planning.plan([own.config(tmp_path)])
    assert runs.trial_bytes(plain) < each <= expected <= 1.5 * each, "more than without the tower's part, not much more"


def test_a_stack_has_fewer_trials_the_more_the_tower_holds(
    own: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tower(own, layers=4)
    monkeypatch.setattr(runs, "free_bytes", lambda device: 64_000_000)
    counts = []
    for planned in planning.plan([own.config(tmp_path, context=count) for count in (0, 2, 10)]):
        counts.append(runs.fitting(planned))
        assert counts[-1] == 32_000_000 // runs.trial_bytes(planned)
    assert counts[0] > counts[1] > counts[2] > 1


# --- what is refused before anything is trained


def test_without_a_tower_nothing_is_trained_and_the_command_is_named(small: Small, tmp_path: Path) -> None:
    again = f"Run 'va prompts {small.features} --tower --encoder {store_of(small).name}'."
    row = AblateConfig(corpus=small.corpus, features=small.features, out=tmp_path / "out", table=3, context=2)
    for run in (partial(sweep.run, make(small, tmp_path / "out")), partial(ablate.run, row)):
        with pytest.raises(VAError, match="has no text tower, which --context trains through") as told:
            run(progress=unheard)
        assert told.value.hint == again
        assert not (tmp_path / "out").exists()


def test_more_vectors_than_the_tower_has_room_for_stop_the_whole_sweep(towered: Small, tmp_path: Path) -> None:
    with pytest.raises(VAError, match=r"--context: 11 vectors .* more than the 16 places") as told:
        sweep.run(make(towered, tmp_path / "out", context=(0, 11)), progress=unheard)
    assert told.value.hint == "Give at most 10, or shorten the texts."
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("engine", [{}, {"engine": "ray", "ray_address": "127.0.0.1:9"}], ids=["local", "ray"])
def test_a_damaged_tower_is_found_before_the_trials_without_context_are_trained(
    engine: dict[str, str], own: Small, tmp_path: Path
) -> None:
    content = small_tower.content(small_tower.random_tensors())
    content.tensors["start"][0] += 1
    texttower.write(store_of(own), content)
    with pytest.raises(VAError, match="its checksum is another") as told:
        sweep.run(make(own, tmp_path / "out", **engine), progress=unheard)
    assert "va prompts" in told.value.hint and "--tower" in told.value.hint
    assert not (tmp_path / "out").exists()
    results = sweep.run(make(own, tmp_path / "out", context=(0,), epochs=1), progress=unheard)
    assert len(results["trials"]) == 4, "who asks for no context is not held up"


# --- rows of a table


def told(row: ablate.Row) -> tuple[Any, ...]:
    return row.name, row.note, row.changes, row.published, row.is_reference, [store.directory for store in row.pair]


@pytest.mark.parametrize("table", [1, 2, 3])
def test_a_table_has_one_more_row_which_is_ours(table: int, own: Small, tmp_path: Path) -> None:
    FeatureStore.create(own.features, identity("ear2", "audio", 4))
    pairs = ("eye+ear", "eye+ear2") if table == 1 else ("eye+ear",)
    config = AblateConfig(corpus=own.corpus, features=own.features, out=tmp_path, table=table, pairs=pairs)
    plain = ablate.rows_of(config)
    more = ablate.rows_of(replace(config, context=4))
    assert list(map(told, more[:-1])) == list(map(told, plain)), "the paper's rows stay as they are"
    (reference,) = (row for row in plain if row.is_reference)
    row = more[-1]
    assert (row.name, row.published, row.is_reference) == ("Learned context", None, False)
    assert row.note == f"{reference.name}, 4 context vectors"
    assert told(row)[-1] == told(reference)[-1]
    assert row.changes == {**reference.changes, "context": 4}


def test_a_table_with_learned_context_is_trained_scored_and_marked_as_ours(
    towered: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = runs.train

    def narrowed(trials: list[TrainConfig], *, epoch_done: runs.EpochDone) -> list[Path]:
        return train([replace(trial, width=16, num_heads=2) for trial in trials], epoch_done=epoch_done)

    monkeypatch.setattr(runs, "train", narrowed)
    given = ["--table", "3", "--context", "2", "--seeds", "0,1", "--epochs", "1", "--resamples", "20"]
    given += ["--device", "cpu", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["va", "ablate", str(towered.corpus), str(towered.features), *given])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code in (0, None)
    results = json.loads((tmp_path / "results.json").read_text())
    row = results["rows"][-1]
    assert (row["name"], row["published"]) == ("Learned context", None)
    for form in ("end", "frames"):
        for trial in row["forms"][form]["trials"]:
            assert "region_head.context" in load_file(tmp_path / trial["run"] / "model.safetensors")
        (difference,) = (
            one for one in results["differences"] if (one["minus"], one["target"]) == ("Learned context", form)
        )
        assert difference["row"] == "±0.66, sigma 0.45" and len(difference["by_seed"]) == 2
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    head = 'Learned context<span class="row-note">±0.66, sigma 0.45, 2 context vectors</span></th>'
    assert page.count(f'{head}<td colspan="3" class="split ours">not in the paper</td>') == 2
    assert "The paper's texts are fixed. In the row of that name 2 vectors before them are learned" in unescape(page)
    assert "Learned context" in capsys.readouterr().out


def test_a_negative_number_of_vectors_is_refused(small: Small, tmp_path: Path) -> None:
    with pytest.raises(VAError, match="--context: -1 is out of range"):
        AblateConfig(corpus=small.corpus, features=small.features, out=tmp_path, table=3, context=-1)
