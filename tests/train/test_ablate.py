"""Ablations: which runs make each row of the paper's tables, and on which encoders."""

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small_corpus import Small, identity

from va.data.features import FeatureStore, Source
from va.errors import VAError
from va.train import ablate, checkpoint, planning, runs
from va.train.ablate_config import AblateConfig
from va.train.config import TrainConfig

METHOD = Path(__file__).resolve().parents[2] / "docs" / "method.md"
NAMES = ("ccc_valence", "ccc_arousal", "ccc_mean")


def make(small: Small, out: Path, table: int, **changes: Any) -> AblateConfig:
    settings = {"seeds": (0, 1), "epochs": 1, "device": "cpu", **changes}
    return AblateConfig(corpus=small.corpus, features=small.features, out=out, table=table, **settings)


def unheard(done: int, total: int, what: str) -> None:
    """Hear nothing."""


def add_stores(root: Path, *encoders: str) -> None:
    """Make stores without clips: enough to be chosen."""
    for encoder in encoders:
        audio = encoder in ("ast", "logmel", "tiny-ast", "ear", "loudness")
        baseline = {"baseline": encoder in ("pixels", "loudness")}
        FeatureStore.create(root, identity(encoder, "audio" if audio else "frames", 4, **baseline))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[TrainConfig]:
    """Trials that would be trained; nothing is."""
    heard: list[TrainConfig] = []

    def train(trials: Sequence[TrainConfig], *, epoch_done: runs.EpochDone) -> list[Path]:
        heard.extend(trials)
        return [trial.out / str(number) for number, trial in enumerate(trials)]

    monkeypatch.setattr(runs, "train", train)
    return heard


def published(table: int) -> list[tuple[float, ...]]:
    """Read the paper's figures from docs/method.md, in the order of its table."""
    found = []
    for line in METHOD.read_text().splitlines():
        row = re.fullmatch(r"\| (\d)(?: \(F\d+\))? \| .* \| (\.\d{4}) \| (\.\d{4}) \| (\.\d{4}) \|", line)
        if row and int(row[1]) == table:
            found.append(tuple(float(row[column]) for column in (2, 3, 4)))
    return found


# --- rows


@pytest.mark.parametrize(("table", "ours"), [(1, []), (2, ["Face alone", "Voice alone"]), (3, ["No region term"])])
def test_published_figures_are_the_papers(table: int, ours: list[str], small: Small, tmp_path: Path) -> None:
    add_stores(tmp_path, "clip-vit-b-32", "logmel", "clip-vit-b-16", "ast")
    rows = ablate.rows_of(replace(make(small, tmp_path, table), features=tmp_path))
    theirs = [tuple(row.published[name] for name in NAMES) for row in rows if row.published]
    assert theirs == published(table)
    assert [row.name for row in rows if row.published is None] == ours
    (reference,) = (row for row in rows if row.is_reference)
    assert reference.published is not None
    assert reference.published["ccc_mean"] == max(mean for *_, mean in theirs)


def test_table_1_is_attention_only_on_both_pairs(small: Small, tmp_path: Path, trained: list[TrainConfig]) -> None:
    features = tmp_path / "features"
    shutil.copytree(small.features, features)
    first = FeatureStore(next(features.glob("ear-*")))
    second = FeatureStore.create(features, identity("ear2", "audio", first.dim))
    for name in first.clip_ids():
        second.write(name, first.read(name), Source(size=1, digest="0"))
    config = replace(make(small, tmp_path, 1, pairs=("eye+ear", "eye+ear2")), features=features)
    found = ablate.run(config, progress=unheard)
    assert {(t.temporal, t.fusion, t.region_weight) for t in trained} == {("gru", "attention", 0.2)}
    voices = [trial.voice_encoder.split("-")[0] for trial in trained]
    assert voices == ["ear"] * 4 + ["ear2"] * 4
    assert [row["name"] for row in found["rows"]] == ["eye and ear", "eye and ear2"]
    assert [row["published"] for row in found["rows"]] == [None, None]
    assert [row["name"] for row in found["not_run"]] == ["ViT-B/32 and CNN audio", "ViT-B/16 and AST"]


def test_table_2_is_every_temporal_model_with_every_fusion_and_each_modality(
    small: Small, tmp_path: Path, trained: list[TrainConfig]
) -> None:
    ablate.run(make(small, tmp_path, 2), progress=unheard)
    made = {(t.temporal, t.fusion, t.modalities) for t in trained}
    both = {(temporal, fusion, "both") for temporal in ("gru", "tcn") for fusion in ("attention", "gated")}
    both |= {("gru", "hierarchical", "both"), ("tcn", "hierarchical", "both")}
    assert made == both | {("gru", "hierarchical", "face"), ("gru", "hierarchical", "voice")}
    assert {(t.centers, t.sigma, t.region_weight) for t in trained} == {((-0.66, 0.0, 0.66), 0.45, 0.2)}


def test_table_3_is_the_model_on_two_grids_and_without_the_term(
    small: Small, tmp_path: Path, trained: list[TrainConfig]
) -> None:
    ablate.run(make(small, tmp_path, 3), progress=unheard)
    assert {(t.temporal, t.fusion) for t in trained} == {("gru", "hierarchical")}
    assert {(t.centers, t.sigma, t.region_weight) for t in trained} == {
        ((-1.0, 0.0, 1.0), 0.6, 0.2),
        ((-0.66, 0.0, 0.66), 0.45, 0.2),
        ((-0.66, 0.0, 0.66), 0.45, 0.0),
    }


def test_every_row_is_trained_in_both_forms_with_every_seed_and_setting(
    small: Small, tmp_path: Path, trained: list[TrainConfig]
) -> None:
    settings = {"epochs": 7, "learning_rate": 0.02, "batch_size": 8, "select_on": "val", "stack": 3}
    found = ablate.run(make(small, tmp_path, 3, seeds=(4, 9), **settings), progress=unheard)
    assert [(trial.target, trial.seed) for trial in trained] == [
        (target, seed) for target in ("end", "frames") for seed in (4, 9)
    ] * 3
    for name, value in settings.items():
        assert {getattr(trial, name) for trial in trained} == {value}, name
    assert {trial.out for trial in trained} == {tmp_path / "runs"}
    listed = [trial for row in found["rows"] for form in ("end", "frames") for trial in row["runs"][form]]
    assert [(one["seed"], one["run"]) for one in listed] == [
        (trial.seed, f"runs/{number}") for number, trial in enumerate(trained)
    ]


# --- encoders


def pair_of(config: AblateConfig) -> list[tuple[str, str]]:
    return [(face.encoder, voice.encoder) for face, voice in ablate.find_pairs(config)]


def test_the_papers_encoders_win_over_others(small: Small, tmp_path: Path) -> None:
    add_stores(tmp_path, "tiny-clip", "tiny-ast", "pixels", "loudness")
    config = replace(make(small, tmp_path, 2), features=tmp_path)
    assert pair_of(config) == [("tiny-clip", "tiny-ast")]
    add_stores(tmp_path, "ast")
    assert pair_of(config) == [("tiny-clip", "ast")]
    add_stores(tmp_path, "clip-vit-b-16")
    assert pair_of(config) == [("clip-vit-b-16", "ast")]
    assert pair_of(replace(config, pairs=("tiny-clip+ast",))) == [("tiny-clip", "ast")]


def test_two_identities_of_an_encoder_are_told_apart_by_folder(small: Small, tmp_path: Path) -> None:
    add_stores(tmp_path, "eye", "ear")
    other = FeatureStore.create(tmp_path, identity("ear", "audio", 5))
    config = replace(make(small, tmp_path, 2), features=tmp_path)
    with pytest.raises(VAError, match="more than one audio encoder") as raised:
        ablate.find_pairs(config)
    assert "--pairs" in raised.value.hint
    (pair,) = ablate.find_pairs(replace(config, pairs=(f"eye+{other.directory.name}",)))
    assert pair[1].digest == other.digest


@pytest.mark.parametrize(
    ("there", "table", "pairs", "missing"),
    [
        (("clip-vit-b-16", "ast"), 1, (), "clip-vit-b-32,logmel"),
        (("tiny-clip", "tiny-ast"), 1, (), "clip-vit-b-32,logmel,clip-vit-b-16,ast"),
        (("clip-vit-b-32", "logmel", "clip-vit-b-16"), 1, (), "ast"),
        (("tiny-clip", "loudness"), 2, (), "ast"),
        (("tiny-clip", "tiny-ast"), 3, ("tiny-clip+ast",), "ast"),
        # There, but of the other kind.
        (("tiny-clip", "tiny-ast"), 3, ("tiny-ast+tiny-clip",), "tiny-ast,tiny-clip"),
    ],
)
def test_missing_encoders_are_named_with_the_command_that_makes_them(
    there: tuple[str, ...],
    table: int,
    pairs: tuple[str, ...],
    missing: str,
    small: Small,
    tmp_path: Path,
    trained: list[TrainConfig],
) -> None:
    add_stores(tmp_path / "f", *there)
    config = replace(make(small, tmp_path / "out", table, pairs=pairs), features=tmp_path / "f")
    with pytest.raises(VAError, match=f"{missing.split(',')[0]}.* for table {table}") as raised:
        ablate.run(config, progress=unheard)
    assert f"'va extract {small.corpus} --out {tmp_path / 'f'} --encoders {missing}'" in raised.value.hint
    assert "\n" not in raised.value.message + raised.value.hint
    assert not trained
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"table": 4}, "--table"),
        ({"pairs": ("eye",)}, "--pairs"),
        ({"pairs": ("eye+",)}, "--pairs"),
        ({"pairs": ("eye+ear", "eye+ear2")}, "--pairs"),
        ({"table": 1, "pairs": ("eye+ear",)}, "--pairs"),
        ({"table": 1, "pairs": ("eye+ear", "eye+ear")}, "--pairs"),
        ({"seeds": ()}, "--seeds"),
        ({"seeds": (1, 1)}, "--seeds"),
        ({"epochs": 0}, "--epochs"),
        ({"learning_rate": 0.0}, "--learning-rate"),
        ({"resamples": 0}, "--resamples"),
        ({"stack": -1}, "--stack"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], named: str, small: Small, tmp_path: Path) -> None:
    with pytest.raises(VAError, match=named):
        make(small, tmp_path, **{"table": 2, **changes})


# --- before, during and after training


def test_a_split_that_cannot_be_reported_stops_before_training(
    small: Small, tmp_path: Path, trained: list[TrainConfig]
) -> None:
    with pytest.raises(VAError, match=r"'test' clips \(0\) have 0 valid labels"):
        ablate.run(make(small, tmp_path, 3, split="test"), progress=unheard)
    shutil.copytree(small.features, tmp_path / "f")
    store = FeatureStore(next((tmp_path / "f").glob("ear-*")))
    store.path("clip20").unlink()  # of val, so training alone would not miss it
    with pytest.raises(VAError, match="clip20"):
        ablate.run(replace(make(small, tmp_path, 3), features=tmp_path / "f"), progress=unheard)
    assert not trained


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that train in no time."""
    train = runs.train

    def narrowed(trials: Sequence[TrainConfig], *, epoch_done: runs.EpochDone) -> list[Path]:
        return train([replace(trial, width=16, num_heads=2) for trial in trials], epoch_done=epoch_done)

    monkeypatch.setattr(runs, "train", narrowed)


def test_runs_are_ordinary_and_never_trained_twice(small: Small, tmp_path: Path, narrow: None) -> None:
    heard: list[tuple[int, int]] = []

    def progress(done: int, total: int, what: str) -> None:
        heard.append((done, total))

    config = make(small, tmp_path, 3, seeds=(0,), epochs=2)
    found = ablate.run(config, progress=progress)
    assert heard[-1] == (12, 12)
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert len(heard) == 2 * 6 + 1
    for row in found["rows"]:
        for form in ablate.FORMS:
            (trial,) = row["runs"][form]
            assert checkpoint.load_run(tmp_path / trial["run"]).config.target == form
    heard.clear()
    assert ablate.run(config, progress=progress) == found
    assert heard == [(12, 12)]


def test_failed_trials_are_listed_beside_the_finished(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def name(trial: TrainConfig) -> Path:
        return trial.out / f"{trial.target}-{trial.region_weight}-{trial.sigma}-{trial.seed}"

    spared = {0}

    def failing(trial: TrainConfig) -> bool:
        return not spared or (trial.seed not in spared and not trial.region_weight)

    def train(trials: Sequence[TrainConfig], *, epoch_done: runs.EpochDone) -> list[Path]:
        failures = {name(trial): VAError("no luck", "Try again.") for trial in trials if failing(trial)}
        raise runs.TrialsFailed(failures, of=len(trials))

    monkeypatch.setattr(runs, "train", train)
    monkeypatch.setattr(planning, "plan", lambda trials: [SimpleNamespace(directory=name(trial)) for trial in trials])
    found = ablate.run(make(small, tmp_path, 3), progress=unheard)
    assert [(one["row"], one["target"], one["seed"]) for one in found["failed"]] == [
        ("No region term", "end", 1),
        ("No region term", "frames", 1),
    ]
    assert (found["failed"][0]["message"], found["failed"][0]["fix"]) == ("no luck", "Try again.")
    assert [len(row["runs"]["end"]) for row in found["rows"]] == [2, 2, 1]
    spared.clear()
    with pytest.raises(runs.TrialsFailed, match="12 of 12"):
        ablate.run(make(small, tmp_path, 3), progress=unheard)
