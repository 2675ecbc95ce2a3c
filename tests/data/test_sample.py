"""The challenge's sample file, read."""

from pathlib import Path

import pytest

from va.data.sample import read_sample
from va.errors import VAError

HEADER = "image_location,valence,arousal"


def write(folder: Path, *lines: str, end: str = "\n") -> Path:
    file = folder / "sample.txt"
    file.write_bytes("".join(line + end for line in lines).encode())
    return file


def test_lines_keep_their_order_and_hostile_names(tmp_path: Path) -> None:
    names = ["video2", "a,b", "=1+1", "d/e", "x\u2028y", "<b>"]
    lines = [f"{name}/{frame:05}.jpg" for frame in (2, 1) for name in names]
    sample = read_sample(write(tmp_path, HEADER, *(f"{line},-5,-5" for line in lines)))
    assert sample.locations == tuple(lines)
    assert sample.names == tuple(names)
    assert sample.clips.tolist() == [0, 1, 2, 3, 4, 5] * 2
    assert sample.frames.tolist() == [2] * 6 + [1] * 6


@pytest.mark.parametrize("header", ["image_location", "\ufeffimage_location, valence, arousal", "Image_Location"])
def test_other_forms_of_the_header(tmp_path: Path, header: str) -> None:
    values = ",0,0" if "valence" in header else ""
    sample = read_sample(write(tmp_path, header, f"a/00001.jpg{values}", f"a/00012.png{values}", end="\r\n"))
    assert sample.locations == ("a/00001.jpg", "a/00012.png")
    assert sample.frames.tolist() == [1, 12]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["clip,valence,arousal", "a/1.jpg,0,0"], "line 1: expected the header"),
        ([""], "line 1: expected the header"),
        ([HEADER], "lists no frame"),
        (
            [HEADER, "a/00001.jpg,0,0", "a/00000.jpg,0,0"],
            r"line 3: expected '<name>/<number from 1>.jpg', found 'a/00000",
        ),
        ([HEADER, "00001.jpg,0,0"], "line 2: expected"),
        ([HEADER, "a/x.jpg,0,0"], "line 2: expected"),
        ([HEADER, "a/00001.jpg,0,0", "", "a/00002.jpg,0,0"], "line 3: expected"),
        ([HEADER, "a/1.jpg,0,0", "b/1.jpg,0,0", "a/00001.jpg,0,0"], "line 4: names 'a/00001.jpg' again, after line 2"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(VAError, match=rf"sample.txt(, |: ){message}"):
        read_sample(write(tmp_path, *lines))


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(VAError, match="cannot be read"):
        read_sample(tmp_path / "none.txt")
    (tmp_path / "sample.txt").write_bytes(b"image_location\n\xff/1.jpg")
    with pytest.raises(VAError, match="is not UTF-8"):
        read_sample(tmp_path / "sample.txt")
