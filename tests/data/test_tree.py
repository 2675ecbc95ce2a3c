"""What lies in a data set's folder, and videos by name."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from va.data import tree
from va.data.corpus import Skipped
from va.errors import VAError


def touch(root: Path, *names: str) -> None:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(file.parent.name)  # files of one folder have one content


def test_a_folder_that_cannot_be_read_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/1.mp4", "b/2.mp4")
    honest = os.scandir

    def scandir(folder: Any) -> Any:
        if str(folder).endswith("/a"):
            raise PermissionError(13, "Permission denied", str(folder))
        return honest(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    skipped: list[Skipped] = []
    assert tree.find_files(tmp_path, skipped) == [tmp_path / "b/2.mp4"]
    assert skipped == [Skipped(what="a", why="cannot be read (Permission denied)")]


def test_names_match_in_other_case_and_composition_where_none_matches_exactly(tmp_path: Path) -> None:
    decomposed = unicodedata.normalize("NFD", "Jürg")
    touch(tmp_path, "1/Clip.mp4", "1/clip.MP4", "2/ONE.avi", f"2/{decomposed}.mkv", "2/text.txt", "2/two words.mp4")
    videos = tree.Videos(tree.find_files(tmp_path, []), tmp_path)
    assert videos.find("Clip") == tmp_path / "1/Clip.mp4"
    assert videos.find("clip") == tmp_path / "1/clip.MP4"
    assert videos.find("one") == tmp_path / "2/ONE.avi"
    assert videos.find(unicodedata.normalize("NFC", "jürg")) == tmp_path / f"2/{decomposed}.mkv"
    assert videos.find("text") is None and videos.find("two") is None
    skipped: list[Skipped] = []
    videos.left_over("unused", skipped)
    assert skipped == [Skipped(what="2/two words.mp4", why="unused")]


def test_videos_of_other_case_are_left_over_unless_asked_for(tmp_path: Path) -> None:
    touch(tmp_path, "1/a.mp4", "2/A.mp4", "3/a.mp4")
    (tmp_path / "3/a.mp4").write_text("1")
    videos = tree.Videos(tree.find_files(tmp_path, []), tmp_path)
    assert videos.find("a") == videos.find("a") == tmp_path / "1/a.mp4"
    skipped: list[Skipped] = []
    videos.left_over("unused", skipped)
    assert skipped == [
        Skipped(what="2/A.mp4", why="unused"),
        Skipped(what="3/a.mp4", why="is the same video as 1/a.mp4"),
    ]


def test_files_that_cannot_be_compared_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "1/a.mp4", "2/a.mp4")
    videos = tree.Videos(tree.find_files(tmp_path, []), tmp_path)
    (tmp_path / "2/a.mp4").unlink()
    with pytest.raises(VAError, match=r"2/a.mp4: cannot be compared \(No such file"):
        videos.find("a")
