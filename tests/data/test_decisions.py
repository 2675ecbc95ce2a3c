"""Decisions in a manifest: honoured by everyone who loads it, part of the digest, and taken back without a trace."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from va.data import corpus
from va.data.corpus import Clip, Corpus, Truth
from va.data.decisions import Decision
from va.errors import VAError


@pytest.fixture
def made(tmp_path: Path) -> Corpus:
    rng = np.random.default_rng(0)
    entries = []
    for name in ("a", "b", "c"):
        truth = Truth(
            time_s=np.arange(10) / 10, va=rng.uniform(-1, 1, (10, 2)).astype(np.float32), valid=np.arange(10) != 2
        )
        clip = Clip(
            id=name, media=tmp_path / f"{name}.mp4", split="train", identity=name, num_frames=10, duration_s=1.0
        )
        entries.append((clip, truth))
    return corpus.save(tmp_path, name="x", synthetic=True, media_root=tmp_path, entries=entries)


def decide(made: Corpus, *found: Decision, labels: dict[str, Truth] | None = None) -> Corpus:
    return corpus.decide(made, found, labels or {})


def test_a_clip_is_left_out(made: Corpus) -> None:
    decided = decide(made, Decision(clip="b", do="drop", why="broken"))
    assert [clip.id for clip in decided.clips] == ["a", "c"]
    assert decided.digest() != made.digest()
    assert Corpus.load(made.path) == decided


def test_labels_end_at_a_time(made: Corpus) -> None:
    clip, before = made.clips[0], made.truth(made.clips[0])
    decided = decide(made, Decision(clip="a", do="labels-until", until_s=0.7, why="longer"))
    truth = decided.truth(clip)
    assert truth.valid.tolist() == [True, True, False, True, True, True, True, False, False, False]
    assert not truth.va[7:].any() and (truth.va[:2] == before.va[:2]).all() and len(truth.va) == 10
    assert decided.digest() != made.digest()
    assert decided.truth(made.clips[1]).valid.sum() == 9


def test_columns_are_exchanged(made: Corpus) -> None:
    clip, before = made.clips[0], made.truth(made.clips[0])
    decided = decide(made, Decision(clip="a", do="swap", why="swapped"))
    np.testing.assert_array_equal(decided.truth(clip).va[:, 0], before.va[:, 1])
    np.testing.assert_array_equal(decided.truth(clip).va[:, 1], before.va[:, 0])
    assert decided.digest() != made.digest()


def test_a_text_is_read_again_and_others_decisions_hold_for_it(made: Corpus) -> None:
    again = Truth(time_s=np.arange(4) / 10, va=np.full((4, 2), [0.5, 0.25], np.float32), valid=np.ones(4, np.bool_))
    reading = Decision(clip="a", do="read-again", why="commas", frames=4, reading={"decimals": "comma"})
    decided = decide(made, reading, Decision(clip="a", do="swap", why="s"), labels={"a": again})
    clip = decided.clips[0]
    assert clip.num_frames == 4
    np.testing.assert_array_equal(decided.truth(clip).va, np.full((4, 2), [0.25, 0.5], np.float32))
    assert decided.decisions[0].reading == {"decimals": "comma"}
    assert decided.digest() != made.digest()


def test_taking_all_back_leaves_what_was(made: Corpus, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    digest = made.digest()
    again = Truth(time_s=np.zeros(1), va=np.zeros((1, 2), np.float32), valid=np.ones(1, np.bool_))
    changes = [
        Decision(clip="a", do="drop", why=""),
        Decision(clip="b", do="read-again", why="", frames=1),
        Decision(clip="c", do="labels-until", until_s=0, why=""),
    ]
    decided = decide(made, *changes, labels={"b": again})
    assert {path for path in before if path.read_bytes() != before[path]} == {made.path}
    assert decided.decisions == tuple(changes)
    decide(decided)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert Corpus.load(made.path).digest() == digest


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"clip": "z", "do": "drop", "why": ""}], "a decision is about clip 'z', which is not there"),
        ([{"clip": "a", "do": "explode", "why": ""}], "has a decision that cannot be read"),
        ([{"clip": "a", "do": "drop"}], "has a decision that cannot be read"),
        ([{"clip": "a", "do": "drop", "why": "", "until_s": 3}], "'drop' of clip 'a' with until_s 3"),
        ([{"clip": "a", "do": "labels-until", "why": ""}], "'labels-until' of clip 'a' with until_s None"),
        ([{"clip": "a", "do": "labels-until", "why": "", "until_s": -1}], "until_s -1"),
        ([{"clip": "a", "do": "labels-until", "why": "", "until_s": "1"}], "until_s '1'"),
        ([{"clip": "a", "do": "read-again", "why": ""}], "'read-again' of clip 'a' with frames None"),
        ([{"clip": "a", "do": "drop", "why": "", "more": 1}], "unexpected keyword"),
        ([7], "has a decision that cannot be read"),
        (7, "has a decision that cannot be read"),
        ({"a": "drop"}, "has a decision that cannot be read"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused(made: Corpus, rows: Any, message: str) -> None:
    data = json.loads(made.path.read_text())
    made.path.write_text(json.dumps(data | {"decisions": rows}))
    with pytest.raises(VAError, match=message) as caught:
        Corpus.load(made.path)
    assert "corpus.json" in caught.value.message and "decisions" in caught.value.hint


def test_labels_read_again_that_are_gone_are_an_error(made: Corpus) -> None:
    decided = decide(made, Decision(clip="a", do="read-again", why="", frames=4))
    with pytest.raises(VAError, match=r"labels-again/a.npz: cannot be read"):
        decided.truth(decided.clips[0])
