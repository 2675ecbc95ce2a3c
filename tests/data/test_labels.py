"""The annotation format: what is read, what becomes a mask, and what is refused by file and line."""

from pathlib import Path

import numpy as np
import pytest

from va.data import labels
from va.data.labels import read_annotation
from va.errors import VAError


def write(tmp_path: Path, text: str | bytes) -> Path:
    file = tmp_path / "video1.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def test_numbers_become_float32_and_all_valid(tmp_path: Path) -> None:
    va, valid = read_annotation(write(tmp_path, "valence,arousal\n0.5,-0.25\n-1,1\n 0.1 , 1e-1\n"))
    assert va.dtype == np.float32 and valid.dtype == np.bool_
    assert va.tolist() == np.array([[0.5, -0.25], [-1, 1], [0.1, 0.1]], np.float32).tolist()
    assert valid.tolist() == [True] * 3


@pytest.mark.parametrize("line", ["-5,-5", "-5,0.3", "0.3,-5", "-5.0,-5.000"])
def test_minus_five_in_either_column_masks_the_frame_and_its_values(tmp_path: Path, line: str) -> None:
    va, valid = read_annotation(write(tmp_path, f"valence,arousal\n0.5,0.5\n{line}\n0.25,0\n"))
    assert valid.tolist() == [True, False, True]
    assert va.tolist() == [[0.5, 0.5], [0, 0], [0.25, 0]]


@pytest.mark.parametrize("text", ["valence,arousal\r\n0,0\r\n", "Valence, Arousal\n0,0", "valence,arousal \n0,0\n"])
def test_line_ends_case_and_blanks_of_the_header_do_not_matter(tmp_path: Path, text: str) -> None:
    va, valid = read_annotation(write(tmp_path, text))
    assert va.tolist() == [[0, 0]] and valid.tolist() == [True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the header 'valence,arousal', found 'an empty file'"),
        ("0.5,0.5\n", "line 1: expected the header"),
        ("arousal,valence\n0,0\n", "line 1: expected the header"),
        ("Neutral,Anger,Disgust\n0\n", "line 1: expected the header 'valence,arousal', found 'Neutral"),
        ("valence,arousal\n", "has a header but no frames"),
        ("valence,arousal\n0,0\n0.1\n", "line 3: expected two comma-separated numbers, found '0.1'"),
        ("valence,arousal\n0,0\n\n0,0\n", "line 3: expected two comma-separated numbers"),
        ("valence,arousal\n0,0,0\n", "line 2: expected two comma-separated numbers, found '0,0,0'"),
        ("valence,arousal\n0;0\n", "line 2: expected two comma-separated numbers"),
        ("valence,arousal\nhigh,0\n", "line 2: expected two comma-separated numbers, found 'high,0'"),
        ("valence,arousal\n0,0\n0,1.01\n", r"line 3: 1.01 is outside \[-1, 1\]"),
        ("valence,arousal\n-1.5,0\n", r"line 2: -1.5 is outside \[-1, 1\]"),
        ("valence,arousal\n-4.9,0\n", r"line 2: -4.9 is outside \[-1, 1\]"),
        ("valence,arousal\n500,-300\n", r"line 2: 500.0 is outside \[-1, 1\]"),
        ("valence,arousal\nnan,0\n", r"line 2: nan is outside \[-1, 1\]"),
        ("valence,arousal\n0,inf\n", r"line 2: inf is outside \[-1, 1\]"),
        (b"valence,arousal\n0,0\xff\n", "is not UTF-8 text"),
        (b"\x89PNG\r\n\x1a\n", "is not UTF-8 text"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_line(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(VAError, match=rf"video1.txt[,:] {message}"):
        read_annotation(write(tmp_path, text))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VAError, match=r"video1.txt: cannot be read \(No such file"):
        read_annotation(tmp_path / "video1.txt")
    with pytest.raises(VAError, match="cannot be read"):
        read_annotation(tmp_path)


def test_a_file_of_no_annotations_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "MOST_BYTES", 40)
    file = tmp_path / "a.txt"
    file.write_text("valence,arousal\n" + "0.1,0.2\n" * 3)
    labels.read_annotation(file)
    file.write_text("valence,arousal\n" + "0.1,0.2\n" * 4)
    with pytest.raises(VAError, match=r"a\.txt: cannot be an annotation \(it has more than 40 bytes\)"):
        labels.read_annotation(file)
