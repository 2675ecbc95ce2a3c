"""Sweeps: which trials there are, how they are compared, and that none is trained twice."""

import dataclasses
import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from safetensors.numpy import load_file
from small_corpus import Small

from va import cli
from va.errors import VAError
from va.train import checkpoint, planning, runs, seeds, sweep
from va.train.config import HeadSettings, SweepConfig, TrainConfig

DEFAULT = {"center": 0.66, "sigma": 0.45, "region_weight": 0.2, "learning_rate": 0.005, "context": 0}
WIDE = {**DEFAULT, "center": 1.0, "sigma": 0.6}
OFF = {"center": None, "sigma": None, "region_weight": 0.0, "learning_rate": 0.005, "context": 0}


def make(small: Small, out: Path, **changes: Any) -> SweepConfig:
    quick = {"width": 16, "num_heads": 2, "epochs": 2, "learning_rate": 5e-3, "device": "cpu", "seeds": (0, 1)}
    grid = {"centers": (0.66, 1.0), "sigmas": (0.45,)}
    return SweepConfig(corpus=small.corpus, features=small.features, out=out, **{**quick, **grid, **changes})


def unheard(done: int, total: int, what: str) -> None:
    """Hear nothing."""


class Heard:
    """Counts the epochs that were trained, and may interrupt."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, stop_after: int | None = None) -> None:
        self.epochs: list[tuple[TrainConfig, int]] = []
        train = runs.train

        def counting(configs: list[TrainConfig], *, epoch_done: runs.EpochDone) -> list[Path]:
            def both(trial: TrainConfig, line: runs.Epoch) -> None:
                self.epochs.append((trial, line["epoch"]))
                epoch_done(trial, line)
                if len(self.epochs) == stop_after:
                    raise KeyboardInterrupt

            return train(configs, epoch_done=both)

        monkeypatch.setattr(runs, "train", counting)


# --- which trials


def test_trials_are_the_product_and_carry_every_setting(small: Small, tmp_path: Path) -> None:
    config = make(small, tmp_path, sigmas=(0.3, 0.6), learning_rates=(1e-3, 2e-3), patience=3, temporal="tcn")
    trials = sweep.expand(config)
    assert len(trials) == len(set(trials)) == 2 * 2 * 2 * 2
    assert {(t.centers, t.sigma, t.learning_rate, t.seed) for t in trials} == {
        ((-c, 0.0, c), s, rate, seed)
        for c in (0.66, 1.0)
        for s in (0.3, 0.6)
        for rate in (1e-3, 2e-3)
        for seed in (0, 1)
    }
    for field in dataclasses.fields(HeadSettings):
        if field.name not in ("out", "learning_rate"):
            assert {getattr(trial, field.name) for trial in trials} == {getattr(config, field.name)}, field.name
    assert {(trial.out, trial.region_weight) for trial in trials} == {(tmp_path / "runs", 0.2)}


def test_without_a_region_term_there_is_one_cell(small: Small, tmp_path: Path) -> None:
    trials = sweep.expand(make(small, tmp_path, lambdas=(0.0, 0.2)))
    off = [trial for trial in trials if trial.region_weight == 0]
    assert (len(off), len(trials)) == (2, 2 + 4)
    usual = small.config(tmp_path / "runs", region_weight=0.0, epochs=2)
    assert off == planning.expand(dataclasses.replace(usual, seeds=(0, 1))), "what 'va train --region-weight 0' trains"
    points = [dataclasses.asdict(sweep.point_of(trial)) for trial in trials]
    assert [point for point in points if point["center"] is None] == [OFF, OFF]


def test_context_is_an_axis_of_every_grid_but_not_of_lambda_0(small: Small, tmp_path: Path) -> None:
    trials = sweep.expand(make(small, tmp_path, lambdas=(0.0, 0.2), context=(0, 4, 8)))
    found = [(t.region_weight, t.centers[-1], t.context, t.seed) for t in trials]
    assert len(set(found)) == len(found) == 2 + 2 * 3 * 2
    assert set(found) == {(0.0, 0.66, 0, seed) for seed in (0, 1)} | {
        (0.2, c, count, seed) for c in (0.66, 1.0) for count in (0, 4, 8) for seed in (0, 1)
    }
    assert {sweep.point_of(trial).context for trial in trials} == {0, 4, 8}
    assert {trial.context for trial in sweep.expand(make(small, tmp_path))} == {TrainConfig.context}


def test_without_a_region_term_centers_and_sigma_change_nothing(small: Small, tmp_path: Path) -> None:
    """Why those cells are one."""
    one = small.config(tmp_path, epochs=1, region_weight=0.0)
    other = dataclasses.replace(one, centers=(-1.0, 0.0, 1.0), sigma=0.3)
    left, right = (
        load_file(directory / "model.safetensors")
        for config in (one, other)
        for directory in runs.train([config], epoch_done=lambda trial, line: None)
    )
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigmas": (0.45, 0.0)}, r"--sigmas: \(0.45, 0.0\)"),
        ({"sigmas": ()}, r"--sigmas: \(\)"),
        ({"centers": (1.1,)}, "--centers"),
        ({"centers": (0.0,)}, "--centers"),
        ({"centers": (0.5, 0.5)}, "--centers"),
        ({"lambdas": (-0.1,)}, "--lambdas"),
        ({"learning_rates": (0.0,)}, "--learning-rates"),
        ({"context": ()}, r"--context: \(\)"),
        ({"context": (0, -1)}, r"--context: \(0, -1\)"),
        ({"context": (4, 4)}, "--context"),
        ({"context": (0, 4), "lambdas": (0.0,)}, "--context: only the region term trains it, and --lambdas 0"),
        ({"seeds": ()}, "--seeds"),
        ({"seeds": (3, 3)}, "--seeds"),
        ({"epochs": 0}, "--epochs"),
    ],
)
def test_settings_out_of_range(changes: dict[str, Any], message: str, small: Small, tmp_path: Path) -> None:
    with pytest.raises(VAError, match=message):
        make(small, tmp_path, **changes)


# --- intervals


@pytest.mark.parametrize("count", [2, 3, 6])
def test_the_interval_is_scipys(count: int) -> None:
    values = np.random.default_rng(count).normal(0.3, 0.01, count)
    figure = seeds.mean_with_interval(list(values), limit=1)
    low, high = scipy.stats.t.interval(0.95, count - 1, loc=values.mean(), scale=scipy.stats.sem(values))
    assert [figure["value"], figure["low"], figure["high"]] == pytest.approx([values.mean(), low, high])


def test_an_interval_needs_two_seeds_and_ends_where_values_do() -> None:
    assert seeds.mean_with_interval([0.25], limit=1) == {"value": 0.25, "low": None, "high": None}
    assert seeds.mean_with_interval([0.5, 0.5], limit=1) == {"value": 0.5, "low": 0.5, "high": 0.5}
    assert seeds.mean_with_interval([-0.5, 0.9], limit=1) == {"value": pytest.approx(0.2), "low": -1, "high": 1}


# --- ranking, of runs whose scores are known

Score = Callable[[TrainConfig], float]


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run directories with given scores; trials of which the score is NaN fail."""

    def pretend(score: Score) -> None:
        def directory_of(trial: TrainConfig) -> Path:
            parts = (trial.centers[-1], trial.sigma, trial.region_weight, trial.learning_rate, trial.seed)
            return trial.out / ("-".join(map(str, parts)) + f"-context{trial.context}" * (trial.context > 0))

        def train(trials: list[TrainConfig], *, epoch_done: runs.EpochDone) -> list[Path]:
            failures = {}
            for trial in trials:
                value, directory = score(trial), directory_of(trial)
                if math.isnan(value):
                    failures[directory] = VAError(f"no luck with seed {trial.seed}", "Try again.")
                    continue
                directory.mkdir(parents=True)
                lines = [{"epoch": n, "ccc_valence": value + n, "ccc_arousal": -value, "ccc_mean": 0} for n in (1, 2)]
                (directory / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
                info = {
                    "selection": {"epoch": 2, "ccc_mean": value},
                    "epochs": 2,
                    "seconds": {"train": 1.5},
                    "trained_together": 3,
                    "versions": {"va": "1"},
                    "corpus": {"name": "c", "path": "/nobody/p", "synthetic": True},
                    "identity": {"corpus": "0", "face": "1", "voice": "2"},
                    "features": {"face": "/nobody/f", "voice": "/nobody/v"},
                    "demo_encoders": False,
                }
                (directory / "run.json").write_text(json.dumps(info))
            if failures:
                raise runs.TrialsFailed(failures, of=len(trials))
            return [directory_of(trial) for trial in trials]

        def plan(trials: list[TrainConfig]) -> list[Any]:
            return [type("Planned", (), {"directory": directory_of(trial)}) for trial in trials]

        monkeypatch.setattr(runs, "train", train)
        monkeypatch.setattr(planning, "plan", plan)

    return pretend


def known_score(trial: TrainConfig) -> float:
    """Seeds move all cells alike and each a little of its own."""
    own = {(0.66, 0.45): 0.02, (1.0, 0.45): 0.01, (0.66, 0.6): 0.03, (1.0, 0.6): 0.04}[trial.centers[-1], trial.sigma]
    own = own if trial.region_weight else -0.01
    return 0.3 + own + 0.1 * trial.seed + 0.002 * math.sin(7 * trial.seed + 100 * own)


def test_cells_are_ranked_by_their_means_over_seeds(
    small: Small, tmp_path: Path, pretended: Callable[..., None]
) -> None:
    pretended(known_score)
    config = make(small, tmp_path, sigmas=(0.45, 0.6), seeds=(0, 1, 2), lambdas=(0.0, 0.2))
    results = sweep.run(config, progress=unheard)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    written = (tmp_path / "results.json").read_text()
    assert not [path for path in ("/nobody", str(tmp_path), str(small.corpus)) if path in written]
    assert results["features"]["face"] == {"folder": "f", "digest": "1"}
    order = [(cell["center"], cell["sigma"]) for cell in results["cells"]]
    assert order == [(1.0, 0.6), (0.66, 0.6), (0.66, 0.45), (1.0, 0.45), (None, None)]
    trials = {(t.centers[-1], t.sigma, t.seed): known_score(t) for t in sweep.expand(config) if t.region_weight}
    values = [trials[1.0, 0.6, seed] for seed in (0, 1, 2)]
    low, high = scipy.stats.t.interval(0.95, 2, loc=np.mean(values), scale=scipy.stats.sem(values))
    first = results["cells"][0]
    assert first["ccc_mean"] == {
        "value": pytest.approx(np.mean(values)),
        "low": pytest.approx(low),
        "high": pytest.approx(high),
    }
    assert first["ccc_arousal"]["value"] == pytest.approx(-np.mean(values)), "of the chosen epoch"
    assert first["seeds"] == [0, 1, 2]
    assert results["best"] == {**WIDE, "seed": 2, "run": "runs/1.0-0.6-0.2-0.005-2"}
    assert [(row["center"], row["ccc_mean"]) for row in results["published"]] == [(0.66, 0.5361), (1.0, 0.4795)]
    row = next(row for row in results["trials"] if row["run"] == "runs/1.0-0.6-0.2-0.005-2")
    assert (row["seed"], row["ccc_mean"], row["best_epoch"], row["epochs"]) == (2, trials[1.0, 0.6, 2], 2, 2)
    sweep.require_all(results)
    assert len(sweep.table(results)[1]) == 5


def test_differences_are_paired_by_seed(small: Small, tmp_path: Path, pretended: Callable[..., None]) -> None:
    pretended(known_score)
    config = make(small, tmp_path, sigmas=(0.45, 0.6), seeds=(0, 1, 2), lambdas=(0.2, 0.0))
    results = sweep.run(config, progress=unheard)
    found = {(row["of"], row["cell"]["center"], row["cell"]["sigma"]): row for row in results["differences"]}
    assert len(found) == len(results["differences"]) == 3 + 4
    scores = {(t.region_weight, t.centers[-1], t.sigma, t.seed): known_score(t) for t in sweep.expand(config)}
    own = np.array([scores[0.2, 1.0, 0.6, seed] for seed in range(3)])
    for kind, reference, against in (("grid", (0.2, 0.66, 0.45), DEFAULT), ("lambda", (0.0, 0.66, 0.45), OFF)):
        row, other = found[kind, 1.0, 0.6], np.array([scores[*reference, seed] for seed in range(3)])
        test = scipy.stats.ttest_rel(own, other)
        low, high = test.confidence_interval(0.95)
        assert (row["cell"], row["against"]) == (WIDE, against)
        assert list(row["by_seed"].values()) == pytest.approx(own - other)
        assert list(row["difference"].values()) == pytest.approx([(own - other).mean(), low, high])
        assert high - low < 0.1 * (results["cells"][0]["ccc_mean"]["high"] - results["cells"][0]["ccc_mean"]["low"])


def test_nothing_is_compared_with_what_was_not_trained(
    small: Small, tmp_path: Path, pretended: Callable[..., None]
) -> None:
    pretended(lambda trial: 0.5)
    results = sweep.run(make(small, tmp_path, centers=(0.5, 1.0), learning_rates=(1.0, 2.0)), progress=unheard)
    assert results["differences"] == results["published"] == []
    header, rows = sweep.table(results)
    assert "context" not in header and {len(row) for row in rows} == {len(header)}


def test_each_learning_rate_and_lambda_is_compared_with_its_own_default(
    small: Small, tmp_path: Path, pretended: Callable[..., None]
) -> None:
    pretended(lambda trial: 0.1 * trial.learning_rate + 0.01 * trial.region_weight + 0.001 * trial.centers[-1])
    config = make(small, tmp_path, learning_rates=(1.0, 2.0), lambdas=(0.2, 0.4), seeds=(0,))
    found = sweep.run(config, progress=unheard)["differences"]
    assert [row["difference"] for row in found] == 4 * [{"value": pytest.approx(0.00034), "low": None, "high": None}]
    assert all(row["cell"]["learning_rate"] == row["against"]["learning_rate"] for row in found)
    assert all(row["cell"]["region_weight"] == row["against"]["region_weight"] for row in found)


def test_learned_context_is_compared_with_the_fixed_texts_of_the_same_cell(
    small: Small, tmp_path: Path, pretended: Callable[..., None]
) -> None:
    def score(trial: TrainConfig) -> float:
        each = 0.003 if trial.centers[-1] == 1.0 else -0.001
        own = each * trial.context * (1 + 0.1 * trial.seed)
        return known_score(trial) + own

    pretended(score)
    config = make(small, tmp_path, sigmas=(0.45,), seeds=(0, 1, 2), lambdas=(0.0, 0.2), context=(0, 4))
    results = sweep.run(config, progress=unheard)
    scores = {(t.region_weight, t.centers[-1], t.context, t.seed): score(t) for t in sweep.expand(config)}
    found = {(row["of"], row["cell"]["center"], row["cell"]["context"]): row for row in results["differences"]}
    assert len(found) == len(results["differences"]) == 2 + 4 + 2
    for center in (0.66, 1.0):
        row = found["context", center, 4]
        cell = {**DEFAULT, "center": center}
        assert (row["cell"], row["against"]) == ({**cell, "context": 4}, cell)
        own, other = (np.array([scores[0.2, center, count, seed] for seed in range(3)]) for count in (4, 0))
        low, high = scipy.stats.ttest_rel(own, other).confidence_interval(0.95)
        assert list(row["by_seed"].values()) == pytest.approx(own - other)
        assert list(row["difference"].values()) == pytest.approx([(own - other).mean(), low, high])
    assert found["lambda", 1.0, 4]["against"] == OFF
    assert found["grid", 1.0, 4]["against"] == {**DEFAULT, "context": 4}, "grids are compared with the same texts"
    assert results["cells"][0]["context"] == 4
    header, rows = sweep.table(results)
    assert [row[header.index("context")] for row in rows] == [str(cell["context"]) for cell in results["cells"]]
    assert {len(row) for row in rows} == {len(header)}


def test_cells_with_learned_context_are_no_rows_of_the_paper(
    small: Small, tmp_path: Path, pretended: Callable[..., None]
) -> None:
    pretended(known_score)
    results = sweep.run(make(small, tmp_path, sigmas=(0.45, 0.6), context=(4,)), progress=unheard)
    assert results["published"] == []
    assert [row["of"] for row in results["differences"]] == 3 * ["grid"]


def test_a_cell_that_lacks_a_seed_is_ranked_last(small: Small, tmp_path: Path, pretended: Callable[..., None]) -> None:
    pretended(lambda trial: math.nan if (trial.centers[-1], trial.seed) == (1.0, 0) else trial.centers[-1] / 2)
    results = sweep.run(make(small, tmp_path), progress=unheard)
    assert [(cell["center"], cell["seeds"]) for cell in results["cells"]] == [(0.66, [0, 1]), (1.0, [1])]
    assert [row["by_seed"] for row in results["differences"]] == [{"1": pytest.approx(0.17)}]
    (failed,) = results["failed"]
    assert (failed["center"], failed["seed"], failed["message"]) == (1.0, 0, "no luck with seed 0")
    with pytest.raises(VAError, match=r"^1 of 4 trials failed, first runs/1\.0-0\.45-0\.2-0\.005-0: no luck"):
        sweep.require_all(results)


def test_a_run_that_lost_its_log_is_named(
    small: Small, tmp_path: Path, pretended: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretended(lambda trial: 0.5)
    train = runs.train

    def losing(trials: list[TrainConfig], *, epoch_done: runs.EpochDone) -> list[Path]:
        found = train(trials, epoch_done=epoch_done)
        (found[1] / "log.jsonl").write_text('{"epoch": 1}\n')
        return found

    monkeypatch.setattr(runs, "train", losing)
    with pytest.raises(VAError, match=r"0\.66-0\.45-0\.2-0\.005-1: does not hold a whole run"):
        sweep.run(make(small, tmp_path), progress=unheard)


# --- the real thing


@pytest.fixture(scope="module")
def swept(small: Small, tmp_path_factory: pytest.TempPathFactory) -> SweepConfig:
    """A finished sweep of two cells and two seeds; tests must not change it."""
    config = make(small, tmp_path_factory.mktemp("sweep"))
    sweep.run(config, progress=unheard)
    return config


def read_results(config: SweepConfig) -> dict[str, Any]:
    found = json.loads((config.out / "results.json").read_text())
    assert isinstance(found, dict)
    return found


def test_trials_are_ordinary_runs_with_their_own_scores(swept: SweepConfig) -> None:
    results = read_results(swept)
    assert len(results["trials"]) == 4
    for row in results["trials"]:
        run = checkpoint.load_run(swept.out / row["run"])
        log = [json.loads(line) for line in (swept.out / row["run"] / "log.jsonl").read_text().splitlines()]
        assert row["ccc_mean"] == run.info["selection"]["ccc_mean"] == max(line["ccc_mean"] for line in log)
        assert row["ccc_mean"] == pytest.approx((row["ccc_valence"] + row["ccc_arousal"]) / 2)
        assert (row["center"], row["sigma"], row["seed"]) == (run.config.centers[-1], run.config.sigma, run.config.seed)
        assert row["trained_together"] == 4
    assert results["corpus"]["name"] == "small"
    assert results["best"]["run"] in {row["run"] for row in results["trials"]}


def test_a_finished_sweep_is_not_trained_again(swept: SweepConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, before = Heard(monkeypatch), read_results(swept)
    again = sweep.run(swept, progress=unheard)
    assert heard.epochs == []
    assert {**again, "created": None} == {**before, "created": None}


def test_only_what_is_missing_is_trained(swept: SweepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(swept.out, tmp_path, dirs_exist_ok=True)
    config, before = dataclasses.replace(swept, out=tmp_path), read_results(swept)
    lost = before["trials"][2]
    shutil.rmtree(tmp_path / lost["run"])
    heard = Heard(monkeypatch)
    again = sweep.run(config, progress=unheard)
    assert [(trial.seed, trial.centers[-1], epoch) for trial, epoch in heard.epochs] == [
        (lost["seed"], lost["center"], epoch) for epoch in (1, 2)
    ]
    for row, old in zip(again["trials"], before["trials"], strict=True):
        assert row["run"] == old["run"]
        assert row["ccc_mean"] == pytest.approx(old["ccc_mean"], abs=1e-3)  # alone now, in a stack before
    wider = sweep.run(dataclasses.replace(config, seeds=(0, 1, 2)), progress=unheard)
    assert [trial.seed for trial, _ in heard.epochs[2:]] == [2, 2, 2, 2]
    assert len(wider["trials"]) == 6


@pytest.mark.parametrize(
    ("stack", "stop_after", "repeated"),
    [
        (2, 6, 0),  # the first stack has finished, the second stands between two epochs
        (0, 6, 2),  # the last epoch was kept of two trials of four, and is trained again for the sake of equal bits
    ],
)
def test_an_interrupted_sweep_goes_on_where_it_was(
    stack: int, stop_after: int, repeated: int, swept: SweepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = dataclasses.replace(swept, out=tmp_path, stack=stack)
    heard = Heard(monkeypatch, stop_after=stop_after)
    with pytest.raises(KeyboardInterrupt):
        sweep.run(config, progress=unheard)
    assert not (tmp_path / "results.json").exists()
    results = sweep.run(config, progress=unheard)
    assert len(set(heard.epochs)) == 4 * 2
    assert len(heard.epochs) <= 4 * 2 + repeated
    for row, straight in zip(results["trials"], read_results(swept)["trials"], strict=True):
        assert row["run"] == straight["run"]
        # Sums are rounded otherwise in a stack of two than in one of four.
        assert row["ccc_mean"] == pytest.approx(straight["ccc_mean"], abs=1e-3 if stack else 0)


def test_progress_counts_epochs_and_ends_full(small: Small, tmp_path: Path) -> None:
    config = make(small, tmp_path, centers=(0.66,), epochs=4, patience=1, learning_rates=(5e-3, 1e-12))
    told: list[tuple[int, int, str]] = []
    results = sweep.run(config, progress=lambda *said: told.append(said))
    early = sum(config.epochs - row["epochs"] for row in results["trials"])
    assert early > 0, "some trial must stop early for this test to say anything"
    done = [said[0] for said in told]
    assert done == sorted(done)
    assert {said[1] for said in told} == {4 * 4}
    assert done[-2] == done[-1] == 4 * 4, "a trial that stopped early is counted as done"
    assert told[-2][2].startswith("best dev CCC ")


def test_a_trial_that_fails_leaves_the_others(small: Small, tmp_path: Path) -> None:
    config = make(small, tmp_path / "some", centers=(0.66,), learning_rates=(5e-3, 1e30), epochs=1)
    results = sweep.run(config, progress=unheard)
    assert [(row["learning_rate"], row["seed"]) for row in results["trials"]] == [(5e-3, 0), (5e-3, 1)]
    assert [(row["learning_rate"], row["seed"]) for row in results["failed"]] == [(1e30, 0), (1e30, 1)]
    assert all("loss is" in row["message"] for row in results["failed"])
    with pytest.raises(VAError, match="2 of 4 trials failed, first runs/"):
        sweep.require_all(results)
    with pytest.raises(VAError, match="2 of 2 trials failed"):
        sweep.run(make(small, tmp_path / "all", centers=(0.66,), learning_rates=(1e30,), epochs=1), progress=unheard)
    assert not (tmp_path / "all" / "results.json").exists()


# --- the command


def run_va(monkeypatch: pytest.MonkeyPatch, config: SweepConfig, *more: str) -> int:
    given = ["--width", "16", "--num-heads", "2", "--device", "cpu", "--learning-rate", "5e-3", "--seeds", "0,1"]
    given += ["--centers", "0.66,1", "--sigmas", "0.45", "--out", str(config.out), *more]
    monkeypatch.setattr(sys, "argv", ["va", "sweep-grid", str(config.corpus), str(config.features), *given])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_the_command_prints_the_best_run_last(
    swept: SweepConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = Heard(monkeypatch)
    assert run_va(monkeypatch, swept, "--epochs", "2") == 0
    *_, page, best = capsys.readouterr().out.splitlines()
    assert heard.epochs == []
    assert best == str(swept.out / read_results(swept)["best"]["run"])
    assert Path(best).name in Path(page).read_text(encoding="utf-8")
    assert run_va(monkeypatch, swept, "--epochs", "2", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == read_results(swept)


def test_the_command_reports_failures_after_the_results(
    swept: SweepConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dataclasses.replace(swept, out=tmp_path)
    assert run_va(monkeypatch, config, "--epochs", "1", "--learning-rates", "5e-3,1e30") == 1
    said = capsys.readouterr()
    assert said.out.splitlines()[-1] == str(tmp_path / read_results(config)["best"]["run"])
    assert (tmp_path / "index.html").is_file()
    error, fix = said.err.splitlines()[-2:]
    assert error.startswith("error: 4 of 8 trials failed")
    assert fix.startswith("fix: Lower --learning-rate")
