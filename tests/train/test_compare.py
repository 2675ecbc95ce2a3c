"""Comparisons of encoders: which pairs, whose region texts, and a ranking by the selection split alone."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from small_corpus import TEXT_DIM, Small, identity

from va import bounded
from va.data import prototypes
from va.data.features import ClipFeatures, FeatureStore, Source
from va.data.prototypes import Prototypes
from va.errors import VAError
from va.train import checkpoint, compare, planning, runs
from va.train.compare_config import CompareConfig
from va.train.config import TrainConfig
from va.train.state import Epoch
from va.train.texts import texts_note


def unheard(done: int, total: int, what: str) -> None:
    """Hear nothing."""


def deaf(config: TrainConfig, line: Epoch) -> None:
    """Hear nothing."""


def make(small: Small, out: Path, **changes: Any) -> CompareConfig:
    settings = {"seeds": (0, 1), "epochs": 2, "learning_rate": 5e-3, "width": 16, "device": "cpu", **changes}
    return CompareConfig(corpus=small.corpus, features=small.features, out=out, **settings)


def copy_store(root: Path, source: str, name: str, *, noise: float = 0.0, **more: Any) -> FeatureStore:
    """Write another encoder's store: a known one's features, spoiled by noise."""
    first = FeatureStore(next(root.glob(f"{source}-*")))
    made = FeatureStore.create(root, identity(name, first.kind, first.dim, **more))
    rng = np.random.default_rng(1)
    for clip in first.clip_ids():
        found = first.read(clip)
        values = found.values + (noise * rng.normal(size=found.values.shape)).astype(np.float16)
        values = np.where(found.valid[..., None], values, 0).astype(np.float16)
        spoiled = ClipFeatures(values=values, time_s=found.time_s, valid=found.valid)
        made.write(clip, spoiled, Source(size=1, digest="0"))
    return made


def give_texts(store: FeatureStore) -> None:
    texts = tuple(f"other text {region}" for region in range(9))
    values = np.random.default_rng(8).normal(size=(9, TEXT_DIM)).astype(np.float32)
    prototypes.write(store.directory, Prototypes(texts=texts, templates=("{}",), values=values))


@pytest.fixture(scope="module")
def several(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Two frame and two audio encoders, one of each useless, and a baseline; only `eye` has texts."""
    root = tmp_path_factory.mktemp("several") / "features"
    shutil.copytree(small.features, root)
    copy_store(root, "eye", "blind", noise=30.0)
    copy_store(root, "ear", "deaf", noise=30.0)
    copy_store(root, "ear", "loudness", baseline=True)
    return Small(small.corpus, root)


def without_texts(several: Small, tmp_path: Path) -> Small:
    root = tmp_path / "textless"
    shutil.copytree(several.features, root)
    for file in root.glob(f"*/{prototypes.NAME}"):
        file.unlink()
    return Small(several.corpus, root)


# --- which rows


def names(config: CompareConfig) -> list[str]:
    return [row.name for row in compare.rows_of(config)]


def test_every_frame_encoder_meets_every_audio_encoder_that_is_no_baseline(several: Small, tmp_path: Path) -> None:
    assert names(make(several, tmp_path)) == ["blind and deaf", "blind and ear", "eye and deaf", "eye and ear"]
    assert names(make(several, tmp_path, modalities="face")) == ["blind", "eye"]
    assert names(make(several, tmp_path, modalities="voice")) == ["deaf", "ear"]
    asked = ("eye+loudness", "eye+ear")
    assert names(make(several, tmp_path, pairs=asked)) == ["eye and loudness", "eye and ear"]


def test_two_identities_of_one_encoder_are_told_apart(several: Small, tmp_path: Path) -> None:
    root = tmp_path / "f"
    shutil.copytree(several.features, root)
    other = copy_store(root, "ear", "ear", noise=1.0, weights="others")
    found = names(make(Small(several.corpus, root), tmp_path))
    assert len(set(found)) == 6
    assert f"eye and {other.directory.name}" in found


def test_one_pair_is_nothing_to_compare(small: Small, tmp_path: Path) -> None:
    with pytest.raises(VAError, match="has only eye and ear to compare") as raised:
        compare.run(make(small, tmp_path / "out"), progress=unheard)
    assert "va extract" in raised.value.hint
    assert not (tmp_path / "out").exists()
    with pytest.raises(VAError, match="has only ear to compare"):
        compare.rows_of(make(small, tmp_path, modalities="voice"))


def test_missing_encoders_and_clips_are_named_before_anything_is_trained(several: Small, tmp_path: Path) -> None:
    with pytest.raises(VAError, match="no audio encoder 'ghost'") as raised:
        compare.run(make(several, tmp_path / "out", pairs=("eye+ghost", "eye+ear")), progress=unheard)
    assert "--pairs" in raised.value.hint
    root = tmp_path / "f"
    shutil.copytree(several.features, root)
    FeatureStore(next(root.glob("blind-*"))).path("clip20").unlink()
    with pytest.raises(VAError, match=r"blind-.*no features of clip 'clip20'"):
        compare.run(make(Small(several.corpus, root), tmp_path / "out"), progress=unheard)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pairs": ("eye+ear",)}, "--pairs"),
        ({"pairs": ("eye+ear", "eye+ear")}, "--pairs"),
        ({"pairs": ("eye", "eye+ear")}, "--pairs"),
        ({"pairs": ("eye+ear", "eye+deaf"), "modalities": "face"}, "--pairs"),
        ({"seeds": ()}, "--seeds"),
        ({"width": 12}, "--width"),
        ({"region_weight": -1.0}, "--region-weight"),
        ({"epochs": 0}, "--epochs"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], named: str, small: Small, tmp_path: Path) -> None:
    with pytest.raises(VAError, match=named):
        make(small, tmp_path, **changes)


# --- whose texts (settled 13)


def test_an_encoder_without_texts_takes_those_of_the_only_one_that_has_some(several: Small, tmp_path: Path) -> None:
    settings = {"face_encoder": "blind", "voice_encoder": "ear", "epochs": 1}
    config = several.config(tmp_path, **settings)
    (directory,) = runs.train([config], epoch_done=deaf)
    info = checkpoint.load_run(directory).info
    eye = next(several.features.glob("eye-*"))
    assert info["prototypes"] == {"source": eye.name, "borrowed": True}
    assert info["region_texts"] == list(prototypes.read(eye).texts)
    assert texts_note(config) == f"region texts of {eye.name}"
    assert texts_note(replace(config, face_encoder="eye")) == ""


def test_texts_of_several_others_must_be_chosen(several: Small, tmp_path: Path) -> None:
    root = tmp_path / "f"
    shutil.copytree(several.features, root)
    other = copy_store(root, "eye", "eye2", noise=0.1)
    give_texts(other)
    config = Small(several.corpus, root).config(tmp_path, face_encoder="blind", voice_encoder="ear", epochs=1)
    with pytest.raises(VAError, match="several others here have some") as raised:
        planning.plan([config])
    assert "--prototypes-from" in raised.value.hint and other.directory.name in raised.value.hint
    chosen = replace(config, prototypes_from="eye2")
    (first,) = planning.plan([chosen])
    (second,) = planning.plan([replace(chosen, prototypes_from="eye")])
    assert first.data.texts.source == other.directory.name
    assert first.directory != second.directory  # other texts, other weights


def test_without_any_texts_a_head_trains_only_without_the_term(several: Small, tmp_path: Path) -> None:
    bare = without_texts(several, tmp_path)
    config = bare.config(tmp_path / "runs", face_encoder="eye", voice_encoder="ear", epochs=1)
    with pytest.raises(VAError, match="nor has another encoder") as raised:
        planning.plan([config])
    assert "--region-weight 0" in raised.value.hint
    (directory,) = runs.train([replace(config, region_weight=0.0)], epoch_done=deaf)
    info = checkpoint.load_run(directory).info
    assert info["prototypes"] == {"source": "", "borrowed": False}
    assert len(info["region_texts"]) == 9 and info["region_texts"][0] == "no text (valence -0.66, arousal -0.66)"


def test_all_rows_of_a_comparison_have_the_term_or_none(several: Small, tmp_path: Path) -> None:
    rows = compare.rows_of(make(several, tmp_path))
    assert {row.changes["region_weight"] for row in rows} == {0.2}
    assert ["region texts of" in row.note for row in rows] == [True, True, False, False]
    rows = compare.rows_of(make(without_texts(several, tmp_path), tmp_path))
    assert {row.changes["region_weight"] for row in rows} == {0.0}
    assert all("no region term" in row.note for row in rows)


# --- the ranking


@pytest.fixture(scope="module")
def ranked(several: Small, tmp_path_factory: pytest.TempPathFactory) -> tuple[CompareConfig, dict[str, Any]]:
    config = make(several, tmp_path_factory.mktemp("ranked"), seeds=(0, 1, 2), epochs=4)
    return config, compare.run(config, progress=unheard)


def test_rows_are_ranked_by_their_selection_scores(ranked: tuple[CompareConfig, dict[str, Any]]) -> None:
    config, found = ranked
    means = []
    for row in found["rows"]:
        scores = []
        for trial in row["runs"]["frames"]:
            lines = (config.out / trial["run"] / "log.jsonl").read_text().splitlines()
            best = max(line["ccc_mean"] for line in map(json.loads, lines))
            assert row["selection"]["by_seed"][str(trial["seed"])] == best
            scores.append(best)
        assert row["selection"]["value"] == pytest.approx(np.mean(scores))
        low, high = scipy.stats.t.interval(0.95, 2, np.mean(scores), scipy.stats.sem(scores))
        assert row["selection"]["over_seeds"] == pytest.approx([max(low, -1), min(high, 1)], abs=1e-6)
        means.append(np.mean(scores))
    assert means == sorted(means, reverse=True)
    assert [row["reference"] for row in found["rows"]] == [True, False, False, False]
    assert found["rows"][0]["name"] == "eye and ear"
    assert found["rows"][-1]["name"] == "blind and deaf"


def test_a_seed_selects_on_the_same_clips_in_every_row(ranked: tuple[CompareConfig, dict[str, Any]]) -> None:
    config, found = ranked
    for seed in range(3):
        held = {
            tuple(
                bounded.read_json(config.out / row["runs"]["frames"][seed]["run"] / "run.json", what="", hint="")[
                    "selection"
                ]["clips"]
            )
            for row in found["rows"]
        }
        assert len(held) == 1
    best, *others = (row["selection"] for row in found["rows"])
    for row in others:
        expected = {seed: best["by_seed"][seed] - value for seed, value in row["by_seed"].items()}
        assert row["difference"]["by_seed"] == pytest.approx(expected)
        assert row["difference"]["difference"]["value"] == pytest.approx(np.mean(list(expected.values())))


def test_a_row_that_misses_a_seed_comes_last(several: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = runs.train

    def failing(trials: Sequence[TrainConfig], *, epoch_done: runs.EpochDone) -> list[Path]:
        lost = [one for one in trials if one.seed == 1 and one.voice_encoder.startswith("ear")]
        train([one for one in trials if one not in lost], epoch_done=epoch_done)
        raise runs.TrialsFailed(
            {one.directory: VAError("no luck", "Try again.") for one in planning.plan(lost)}, of=len(trials)
        )

    monkeypatch.setattr(runs, "train", failing)
    found = compare.run(make(several, tmp_path, modalities="voice", epochs=3), progress=unheard)
    assert [row["name"] for row in found["rows"]] == ["deaf", "ear"]
    assert [one["row"] for one in found["failed"]] == ["ear"]
    assert list(found["rows"][1]["selection"]["difference"]["by_seed"]) == ["0"]
