"""Every problem of an annotation text by its line, and the labels that the text means."""

import math
from pathlib import Path

import numpy as np
import pytest

from va.data import annotation_rows, annotation_text
from va.data.annotation_text import Text, examine, examine_file
from va.data.labels import read_annotation
from va.errors import VAError

HEADER = "valence,arousal\n"
GOOD = "".join(f"{index / 100:g},{-index / 100:g}\n" for index in range(60))


def kinds(text: Text) -> dict[str, tuple[str, int]]:
    found = {one.kind: (one.severity, one.line) for one in text.problems}
    assert len(found) == len(text.problems), "a kind is told once per file"
    return found


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (HEADER + GOOD, {}),
        (b"\xef\xbb\xbf" + (HEADER + GOOD).encode(), {"byte-order-mark": ("warning", 1)}),
        ((HEADER + GOOD).replace("\n", "\r\n"), {"line-ends": ("note", 1)}),
        (HEADER + "0,0\r\n" + GOOD, {"line-ends": ("note", 2)}),
        ((HEADER + GOOD).replace("\n", "\r"), {"line-ends": ("note", 1)}),
        (HEADER + GOOD + "\n\n\n", {"blank-end": ("note", 62)}),
        (HEADER + GOOD + "\n" + GOOD, {"blank-line": ("error", 62)}),
        ("arousal,valence\n" + GOOD, {"columns-swapped": ("error", 1)}),
        (GOOD, {"header-missing": ("error", 1)}),
        ("Neutral,Anger,Disgust\n3\n4\n", {"header": ("error", 1)}),
        ("valence;arousal\n" + GOOD, {"header": ("error", 1)}),
        (HEADER + GOOD + "0.1,0.2,0.3\n", {"columns": ("error", 62)}),
        (HEADER + GOOD + "0.1\n", {"columns": ("error", 62)}),
        (HEADER + GOOD + "nan,0\n", {"not-a-number": ("error", 62)}),
        (HEADER + GOOD + "0,-inf\n", {"not-a-number": ("error", 62)}),
        (HEADER + GOOD + "high,0\n", {"not-a-number": ("error", 62)}),
        (HEADER + GOOD + "0,1.01\n", {"out-of-range": ("error", 62)}),
        (HEADER + GOOD + "-4.9,0\n", {"out-of-range": ("error", 62)}),
        (HEADER + GOOD + "0.1;0.2\n", {"separator": ("error", 62)}),
        (HEADER + GOOD + "0.1,-5\n", {"half-label": ("note", 62)}),
        (HEADER + "-5,-5\n" + GOOD + "-5,-5\n" * 59, {"mostly-unlabelled": ("warning", 2)}),
        (HEADER + "-5,-5\n" * 5, {"unlabelled": ("warning", 2)}),
        (HEADER + "-5,-5\n" + "0.25,0.5\n" * 5, {"constant": ("warning", 2)}),
        (HEADER, {"no-frames": ("error", 2)}),
        ("", {"empty": ("error", 0)}),
        ("\n\n", {"empty": ("error", 0)}),
        (b"\x89PNG\r\n\x1a\n\0\0\0", {"not-text": ("error", 1)}),
        ((HEADER + GOOD).encode("utf-16"), {"encoding": ("error", 1)}),
        ((HEADER + GOOD).encode() + b"0,caf\xe9\n", {"encoding": ("error", 62), "not-a-number": ("error", 62)}),
        (HEADER + "5,7\n3,9\n" * 9, {"out-of-range": ("error", 2), "not-understood": ("error", 2)}),
    ],
)  # fmt: skip
def test_each_problem_is_told_once_with_its_first_line(raw: str | bytes, expected: dict[str, tuple[str, int]]) -> None:
    assert kinds(examine(raw if isinstance(raw, bytes) else raw.encode())) == expected


def test_how_many_lines_and_what_is_in_the_first() -> None:
    (problem,) = examine((HEADER + GOOD + "0,7\n0,8\n").encode()).problems
    assert problem.what == "is outside [-1, 1] and not -5: '0,7' (2 lines in all)"
    (problem,) = examine((HEADER + GOOD + "0.1,0." + "9" * 500 + ",3\n").encode()).problems
    assert len(problem.what) < 120


@pytest.mark.parametrize(("raw", "encoding"), [(b"\x93", "cp1252"), (b"\xe9", "latin-1")])
def test_the_likely_encoding_is_named(raw: bytes, encoding: str) -> None:
    text = examine((HEADER + GOOD).encode() + b"0,0 " + raw + b"\n")
    assert f"looks like {encoding}" in text.problems[0].what and text.encoding == encoding


@pytest.mark.parametrize(
    ("text", "columns", "decimals", "va"),
    [
        (HEADER + "0.5,-0.25\n.1,1e-1\n", "valence,arousal", "point", [[0.5, -0.25], [0.1, 0.1]]),
        ("Arousal, Valence\n0.5,-0.25\n0.1,0.2\n", "arousal,valence", "point", [[-0.25, 0.5], [0.2, 0.1]]),
        ("0.5,-0.25\n0.1,0.2\n", "valence,arousal", "point", [[0.5, -0.25], [0.1, 0.2]]),
        (HEADER + "0,5;0,3\n1;-0,2\n-0,1;0\n", "valence,arousal", "comma", [[0.5, 0.3], [1, -0.2], [-0.1, 0]]),
        (HEADER + "0,5,0,3\n0,25,1\n-0,1,0,2\n1,0\n", "valence,arousal", "comma",
         [[0.5, 0.3], [0.25, 1], [-0.1, 0.2], [1, 0]]),
        ("valence\tarousal\n0,5\t0,3\n0,1\t1\n0,2\t0,2\n", "valence,arousal", "comma",
         [[0.5, 0.3], [0.1, 1], [0.2, 0.2]]),
        ("valence arousal\n0.5 0.3\n0.1  1\n", "valence,arousal", "point", [[0.5, 0.3], [0.1, 1]]),
        ('"valence","arousal"\n0.5,0.3\n0,1\n', "valence,arousal", "point", [[0.5, 0.3], [0, 1]]),
    ],
)  # fmt: skip
def test_labels_are_read_as_they_are_meant(text: str, columns: str, decimals: str, va: list[list[float]]) -> None:
    found = examine(text.encode())
    assert (found.columns, found.decimals) == (columns, decimals)
    assert found.va.dtype == np.float32 and found.valid.all()
    np.testing.assert_array_equal(found.va, np.array(va, np.float32))


def test_a_line_that_says_nothing_is_a_frame_without_a_label() -> None:
    found = examine((HEADER + GOOD + "-5,-5\n0.1,-5\nnan,0\n0,1.5\n0.5,0.5\n").encode())
    assert found.valid[:60].all() and found.valid[60:].tolist() == [False, False, False, False, True]
    assert found.va[60:].tolist() == [[0, 0]] * 4 + [[0.5, 0.5]]


@pytest.mark.parametrize("line", ["1,0,1", "0,1,1", "0,5,0,3,0", "a,b,c,d"])
def test_a_line_with_decimal_commas_that_can_be_read_two_ways_is_not_guessed(line: str) -> None:
    row = annotation_rows.read_row(line, commas=True)
    assert row.values is None or line == "0,1,1"
    if row.values:  # 0.1 and 1, or 0 and 1.1, which is no label
        assert row.values == (0.1, 1.0)


def test_clean_text_is_read_as_the_strict_parser_reads_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{a:.6f},{b:.6f}" if rng.random() > 0.1 else "-5,-5" for a, b in rng.uniform(-1, 1, (500, 2))]
    file = tmp_path / "a.txt"
    file.write_text(HEADER + "\n".join(rows) + "\n")
    va, valid = read_annotation(file)
    for raw in (file.read_bytes(), file.read_bytes().replace(b",", b" , ").replace(b" , arousal", b",arousal")):
        found = examine(raw)
        np.testing.assert_array_equal(found.va, va)
        np.testing.assert_array_equal(found.valid, valid)


def test_the_fast_and_the_careful_reading_agree() -> None:
    rng = np.random.default_rng(1)
    lines = [f"{a:.5g},{b:.5g}" for a, b in rng.uniform(-1, 1, (300, 2))]
    fast = annotation_text._at_once(lines)
    assert fast is not None
    careful = [annotation_rows.read_row(line, commas=False).values for line in lines]
    np.testing.assert_array_equal(fast, np.array(careful))


def test_a_file_that_cannot_be_read_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kinds(examine_file(tmp_path / "gone.txt")) == {"unreadable": ("error", 0)}
    (tmp_path / "a.txt").write_text(HEADER + GOOD)
    monkeypatch.setattr(annotation_text, "MOST_BYTES", 100)
    assert kinds(examine_file(tmp_path / "a.txt")) == {"too-large": ("error", 0)}


@pytest.mark.parametrize("seed", range(30))
def test_whatever_is_in_a_file_the_answer_is_labels_and_problems(seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = bytearray((HEADER + GOOD).encode() if seed % 3 else rng.bytes(300))
    for place in rng.integers(0, len(raw), seed):
        raw[place] = rng.integers(0, 256)
    found = examine(bytes(raw))
    assert found.va.shape == (len(found.valid), 2) and np.abs(found.va).max(initial=0) <= 1
    assert not found.va[~found.valid].any()
    assert all(one.line <= raw.count(b"\n") + raw.count(b"\r") + 1 and one.what and one.do for one in found.problems)
    assert not any(math.isnan(value) for value in found.va.ravel())


def test_as_meant_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("arousal;valence\n0,5;0,25\n-5;-5\n")
    va, valid = annotation_text.read_as_meant(file)
    assert va.tolist() == [[0.25, 0.5], [0, 0]] and valid.tolist() == [True, False]
    for content, message in (("", r"a.txt: is empty"), ("Neutral\n1\n", r"a.txt, line 1: has the header 'Neutral'")):
        file.write_text(content)
        with pytest.raises(VAError, match=message):
            annotation_text.read_as_meant(file)
