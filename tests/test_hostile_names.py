"""Names from elsewhere: none leads out of a folder, shares another's file, or writes on the screen what it likes."""

import json
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from va import console, files
from va.data import corpus
from va.data.corpus import Clip, Corpus, Truth
from va.errors import VAError

TRUTH = Truth(time_s=np.zeros(1), va=np.zeros((1, 2), np.float32), valid=np.ones(1, np.bool_))


def clip(root: Path, name: str, *, media: Path | None = None) -> tuple[Clip, Truth]:
    path = media or root / "a.mp4"
    return Clip(id=name, media=path, split="train", identity=name, num_frames=1, duration_s=1.0), TRUTH


def save(root: Path, *names: str) -> Corpus:
    entries = [clip(root, name) for name in names]
    return corpus.save(root, name="x", synthetic=True, media_root=root, entries=entries)


# --- names of files


@pytest.mark.parametrize("name", ["CON", "nul", "Aux.txt", "com1", "lpt9.a.b", "prn"])
def test_names_that_windows_keeps_for_devices(name: str) -> None:
    made = files.safe_name(name)
    assert made.startswith("%") and made[3:] == name[1:]
    assert files.safe_name(f"x{name}") == f"x{name}" and files.safe_name(f"{name}x") in (f"{name}x", made + "x")


HOSTILE_IDS = ["..", ".", "a/../../b", "/etc/passwd", "a\0b", "a\nb", "x" * 5000, "~root", "-rf", "a\\b", "\x1b[31m"]
HOSTILE_IDS += [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]  # two names, which some systems merge


def test_hostile_ids_keep_their_labels_inside_the_folder(tmp_path: Path) -> None:
    made = save(tmp_path / "c", *HOSTILE_IDS)
    assert {clip.id for clip in made.clips} == set(HOSTILE_IDS)
    for found in made.clips:
        assert made.truth(found).valid.all()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 1 + len(HOSTILE_IDS)
    assert {path.parent for path in written} == {tmp_path / "c", tmp_path / "c" / "labels"}


def test_ids_that_differ_in_capitals_only_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VAError, match="clips 'Video1' and 'video1' differ in capital letters only"):
        save(tmp_path, "Video1", "video1")
    assert list(tmp_path.iterdir()) == []
    manifest = save(tmp_path, "Video1", "video2").path
    manifest.write_text(manifest.read_text().replace('"video2"', '"video1"'))  # as another program may write one
    with pytest.raises(VAError, match="clips 'Video1' and 'video1' differ in capital letters only"):
        Corpus.load(manifest)


@pytest.mark.parametrize("key", ["id", "identity", "media"])
def test_half_a_character_is_no_name(tmp_path: Path, key: str) -> None:
    manifest = save(tmp_path, "a").path
    data = json.loads(manifest.read_text())
    data["clips"][0][key] = "\ud800"
    manifest.write_text(json.dumps(data))
    with pytest.raises(VAError, match="is not a corpus manifest"):
        Corpus.load(manifest)
    if key == "id":
        with pytest.raises(VAError, match="is not UTF-8"):
            save(tmp_path, "\udcff")


@pytest.mark.parametrize("frames", [-1, 10**9, 10**30, True, "1e3", None, [1]])
def test_impossible_numbers_of_frames(tmp_path: Path, frames: Any) -> None:
    manifest = save(tmp_path, "a").path
    data = json.loads(manifest.read_text())
    data["clips"][0]["frames"] = frames
    manifest.write_text(json.dumps(data))
    if frames is True:
        assert Corpus.load(manifest).clips[0].num_frames == 1
        return
    with pytest.raises(VAError, match="is not a corpus manifest"):
        Corpus.load(manifest)


# --- links


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A lab's tree: `a.mp4`, a link to a file and one to a folder beside it, and links to another disk."""
    root, disk = tmp_path / "tree", tmp_path / "disk" / "batch"
    (root / "videos").mkdir(parents=True)
    disk.mkdir(parents=True)
    for file in (root / "a.mp4", root / "videos" / "b.mp4", disk / "c.mp4", tmp_path / "secret.mp4"):
        file.write_bytes(b"x")
    (root / "again.mp4").symlink_to("a.mp4")
    (root / "same").symlink_to("videos")
    (root / "c.mp4").symlink_to(disk / "c.mp4")
    (root / "batch").symlink_to(disk)
    return root


INSIDE = ("a.mp4", "again.mp4", "same/b.mp4")
OUTSIDE = ("c.mp4", "batch/c.mp4")


def save_tree(tree: Path, *names: str, out: Path | None = None) -> Corpus:
    entries = [clip(tree, name, media=tree / name) for name in names]
    return corpus.save(out or tree, name="x", synthetic=False, media_root=tree, entries=entries)


def test_links_inside_the_root_are_followed(tree: Path) -> None:
    made = save_tree(tree, *INSIDE)
    assert "linked_folders" not in json.loads(made.path.read_text())
    assert all(found.media.read_bytes() == b"x" for found in Corpus.load(made.path).clips)
    moved = tree.rename(tree.with_name("moved"))
    assert len(Corpus.load(moved).clips) == len(INSIDE)


def test_links_that_were_there_when_the_manifest_was_made_are_followed(tree: Path, tmp_path: Path) -> None:
    made = save_tree(tree, *INSIDE, *OUTSIDE, out=tmp_path / "out")
    assert json.loads(made.path.read_text())["linked_folders"] == [str(tmp_path / "disk" / "batch")]
    assert len(Corpus.load(made.path).clips) == 5


def test_a_root_that_is_a_link_itself(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tree)
    made = save_tree(tmp_path / "link", *INSIDE, out=tmp_path / "out")
    assert "linked_folders" not in json.loads(made.path.read_text())


@pytest.mark.parametrize("folder", [False, True])
def test_a_link_that_came_later_is_refused(tree: Path, tmp_path: Path, folder: bool) -> None:
    made = save_tree(tree, "a.mp4", "videos/b.mp4", "c.mp4")
    if folder:
        (tree / "videos").rename(tmp_path / "b.mp4.folder")
        (tree / "videos").symlink_to(tmp_path)
        (tmp_path / "b.mp4").write_bytes(b"y")
    else:
        (tree / "a.mp4").unlink()
        (tree / "a.mp4").symlink_to(tmp_path / "secret.mp4")
    with pytest.raises(VAError, match=r"corpus.json: '.*' is a link that leads out of the media root, to .*mp4"):
        Corpus.load(made.path)


def test_where_media_are_gone_nothing_is_refused(tree: Path) -> None:
    made = save_tree(tree, "videos/b.mp4", "c.mp4")
    for name in ("videos/b.mp4", "c.mp4"):
        (tree / name).unlink()
    (tree / "videos").rmdir()
    assert len(Corpus.load(made.path).clips) == 2


@pytest.mark.parametrize("named", ["/", ["relative"], [1], {"a": 1}, None])
def test_linked_folders_that_are_no_list_of_folders(tree: Path, named: Any) -> None:
    made = save_tree(tree, "a.mp4")
    data = json.loads(made.path.read_text())
    made.path.write_text(json.dumps({**data, "linked_folders": named}))
    with pytest.raises(VAError, match="linked_folders"):
        Corpus.load(made.path)


@pytest.mark.parametrize("media", ["", "a\0b", 3, None, ["a"]])
def test_media_that_are_no_paths(tmp_path: Path, media: Any) -> None:
    manifest = save(tmp_path, "a").path
    data = json.loads(manifest.read_text())
    data["clips"][0]["media"] = media
    manifest.write_text(json.dumps(data))
    with pytest.raises(VAError, match="is not a corpus manifest"):
        Corpus.load(manifest)


# --- the terminal

ATTACK = "\x1b]0;title\x07\x1b[2J\x1b[1;31mred\r\nfix: run 'rm -rf ~'\x9b31m\u202egnp.exe\u2028x\udc80[bold red]b[/]"


def bare(text: str) -> set[str]:
    """Characters of a text that could do more than stand there."""
    return {each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\t"}


@settings(max_examples=50, derandomize=True, deadline=None)
@given(st.text())
def test_no_text_does_anything_on_a_terminal(text: str) -> None:
    shown = console.escape(text)
    left = bare(shown)
    assert not left & set(map(chr, console._SHOWN)) and all(unicodedata.category(each) == "Cf" for each in left)


@settings(max_examples=50, derandomize=True, deadline=None)
@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs", "M"])))
def test_what_people_write_is_shown_as_it_is(text: str) -> None:
    assert console.escape(text).replace("\\", "") == text.replace("\\", "")


def test_every_way_to_the_screen_is_covered() -> None:
    """In a process of its own that takes its output for a terminal, with and without colours."""
    code = (
        f"from va import console\nattack = {ATTACK!r}\n"
        "console.say(attack); console.note(attack); console.error(attack, attack)\n"
        "console.settings(attack, {attack: attack}); console.table(attack, [attack, 'n'], [[attack, attack]])\n"
        "with console.progress(attack) as update: update(1, 2, attack); update(2, 2, attack)\n"
    )
    for forced in ("", "1"):
        environment = {"FORCE_COLOR": forced, "COLUMNS": "500", "PATH": "", "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        shown = (done.stdout + done.stderr).decode()
        assert shown.count("fix: run 'rm -rf ~'") >= 7 and not any(
            line.startswith("fix: run") for line in shown.splitlines()
        )
        for forbidden in ("\x1b]0;", "\x07", "\x1b[2J\x1b[1;31mred", "\x1b[1;31mred", "\x9b", "\u202e", "\u2028"):
            assert forbidden not in shown, repr(forbidden)
        assert "\\x1b[2J" in shown and "[bold red]b[/]" in shown


def test_a_mistake_in_a_hostile_manifest_is_two_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = save(tmp_path, "a").path
    data = json.loads(manifest.read_text())
    data["clips"][0] |= {"id": ATTACK.replace("\udc80", ""), "split": "\x1b[31m\nx"}
    manifest.write_text(json.dumps(data))
    with pytest.raises(VAError) as caught:
        Corpus.load(manifest)
    console.error(caught.value.message, caught.value.hint)
    said = capsys.readouterr().err
    assert "\x1b" not in said and [line.split(":")[0] for line in said.splitlines()] == ["error", "fix"]
