"""What a corpus holds, against figures counted by hand and by brute force."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from va.data import corpus, overview
from va.data.corpus import Clip, Corpus, Truth
from va.data.decisions import Decision
from va.errors import VAError
from va.evaluate.pages import corpus_tables


def entry(
    root: Path,
    name: str,
    *,
    split: str = "train",
    identity: str = "",
    frames: int = 100,
    rate: float = 25.0,
    **changes: Any,
) -> tuple[Clip, Truth]:
    """A clip whose labels are all (0.5, 0.5), unless `va` or `valid` or `time_s` say otherwise."""
    time_s = np.arange(frames) / rate
    truth = {
        "time_s": time_s,
        "va": np.full((frames, 2), 0.5, np.float32),
        "valid": np.ones(frames, np.bool_),
        **changes,
    }
    duration_s = truth.pop("duration_s", frames / rate)
    clip = Clip(
        id=name, media=root / f"{name}.mp4", split=split, identity=identity or name, num_frames=frames,
        duration_s=duration_s,
    )  # fmt: skip
    return clip, Truth(**truth)


def shown(tmp_path: Path, *entries: tuple[Clip, Truth]) -> dict[str, Any]:
    made = corpus.save(tmp_path, name="x", synthetic=False, media_root=tmp_path, entries=entries)
    found = overview.overview(made, progress=lambda *_: None)
    json.dumps(found, allow_nan=False)
    return found


def test_the_nearest_centre_by_brute_force() -> None:
    va = np.random.default_rng(0).uniform(-1, 1, (5000, 2)).astype(np.float32)
    axis = (-0.66, 0.0, 0.66)
    centers = np.array([(valence, arousal) for valence in axis for arousal in axis])
    distances = np.linalg.norm(va[:, None].astype(np.float64) - centers, axis=2)
    np.testing.assert_array_equal(overview.region_of(va), distances.argmin(axis=1))
    corners = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1], [0, 0]], np.float32)
    assert overview.region_of(corners).tolist() == [0, 2, 6, 8, 4]


def test_splits_are_counted(tmp_path: Path) -> None:
    valid = np.arange(100) % 4 != 0
    va = np.where(np.arange(100)[:, None] < 50, [[-0.9, 0.9]], [[0.0, 0.1]]).astype(np.float32)
    found = shown(
        tmp_path,
        entry(tmp_path, "a", identity="p"),
        entry(tmp_path, "b", identity="p", valid=valid, va=np.where(valid[:, None], va, 0).astype(np.float32)),
        entry(tmp_path, "c", split="val", frames=50),
        entry(tmp_path, "d", split="test", valid=np.zeros(100, np.bool_), va=np.zeros((100, 2), np.float32)),
    )
    assert list(found["splits"]) == ["train", "val", "test"]
    train = found["splits"]["train"]
    assert (train["clips"], train["identities"], train["frames"], train["labelled"]) == (2, 1, 200, 175)
    assert train["hours"] == pytest.approx(8 / 3600) and train["missing"] == pytest.approx(0.125)
    # 100 labels at (0.5, 0.5); of the others, frames 0, 4, ... of each half have none.
    assert train["regions"] == [0, 0, 37, 0, 38, 0, 0, 0, 100]
    assert found["splits"]["test"]["missing"] == 1 and sum(found["splits"]["test"]["regions"]) == 0
    assert [row["clip"] for row in found["worst"]] == ["b"] and found["worst"][0]["missing"] == 0.25
    assert found["overlap"] == []


def test_people_of_two_splits(tmp_path: Path) -> None:
    found = shown(
        tmp_path,
        entry(tmp_path, "a", split="val", identity="p"),
        entry(tmp_path, "b", identity="p"),
        entry(tmp_path, "c", identity="p"),
        entry(tmp_path, "d", identity="q"),
    )
    assert found["overlap"] == [{"identity": "p", "splits": {"train": 2, "val": 1}}]
    assert list(found["overlap"][0]["splits"]) == ["train", "val"]


def test_rates_lengths_and_clocks(tmp_path: Path) -> None:
    uneven = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.06, 100))
    va = np.random.default_rng(1).uniform(-1, 1, (100, 2)).astype(np.float32)
    found = shown(
        tmp_path,
        entry(tmp_path, "a", va=va),
        entry(tmp_path, "b", rate=30000 / 1001, va=va),
        entry(tmp_path, "c", va=va),
        entry(tmp_path, "d", va=va, time_s=uneven, duration_s=float(uneven[-1]) + 0.04),
        entry(tmp_path, "e", va=va, duration_s=3.6),
        entry(tmp_path, "f", va=va, duration_s=5.0),
        entry(tmp_path, "g", frames=1, duration_s=0.04),
    )
    assert (found["constant"], found["annotated"]) == (0, 7)
    assert not any("one label" in said for said in corpus_tables.remarks(found))
    rates = {row["rate"]: row["clips"] for row in found["rates"]}
    assert rates == {"25": 4, "29.97": 1, "variable": 1, "unknown": 1}
    assert found["rates"][0]["rate"] == "25"
    assert (found["beyond"]["longer"], found["beyond"]["shorter"]) == (1, 1)
    worst = [(row["clip"], row["frames"], row["seconds"]) for row in found["beyond"]["worst"]]
    assert worst == [("f", -25, pytest.approx(-1.0)), ("e", 10, pytest.approx(0.4))]
    assert sum(found["lengths"]["clips"]["train"]) == 7
    assert found["lengths"]["quantiles_s"] == [0.04, 4.0, 5.0]


def test_utterances_labelled_as_a_whole_have_no_rate_of_labels(tmp_path: Path) -> None:
    va = np.random.default_rng(1).uniform(-1, 1, (100, 2)).astype(np.float32)
    unlabelled = {"valid": np.zeros(100, np.bool_), "va": np.zeros((100, 2), np.float32)}
    found = shown(
        tmp_path,
        entry(tmp_path, "a"),
        entry(tmp_path, "b", valid=np.arange(100) > 9),
        entry(tmp_path, "c", va=va),
        entry(tmp_path, "d", split="test", **unlabelled),
    )
    rates = {row["rate"]: row["clips"] for row in found["rates"]}
    assert rates == {"one label in the whole clip": 2, "25": 2}
    assert (found["constant"], found["annotated"]) == (2, 3)
    (said,) = corpus_tables.remarks(found)
    assert said.startswith("2 of 3 labelled clips have one label from beginning to end")


def test_decisions_are_honoured_and_listed(tmp_path: Path) -> None:
    shown(tmp_path, entry(tmp_path, "a"), entry(tmp_path, "b"))
    made = Corpus.load(tmp_path)
    cut = Decision(clip="b", do="labels-until", until_s=2.0, why="longer")
    decided = corpus.decide(made, [Decision(clip="a", do="drop", why="broken"), cut], {})
    found = overview.overview(decided, progress=lambda *_: None)
    assert found["splits"]["train"]["clips"] == 1 and found["splits"]["train"]["labelled"] == 50
    assert [row["do"] for row in found["decisions"]] == ["drop", "labels-until"]


def test_an_empty_corpus_and_a_damaged_one(tmp_path: Path) -> None:
    found = shown(tmp_path)
    assert found["splits"] == {} and found["rates"] == [] and found["lengths"]["clips"] == {}
    shown(tmp_path, entry(tmp_path, "a"))
    (tmp_path / "labels" / "a.npz").unlink()
    with pytest.raises(VAError, match=r"a.npz: cannot be read"):
        overview.overview(Corpus.load(tmp_path), progress=lambda *_: None)
