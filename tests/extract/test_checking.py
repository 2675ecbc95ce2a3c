"""Every kind of finding, from small trees that have them all; what is decided; and media that misbehave."""

import csv
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import misbehaving_check
import numpy as np
import pytest
from PIL import Image
from support import make_video, sine

from va import cli
from va.data import affwild2, annotation_text, corpus, media
from va.data.check_config import CheckConfig
from va.data.corpus import Clip, Corpus, Truth
from va.data.findings import Finding, write_csv
from va.data.labels import read_annotation
from va.errors import VAError
from va.extract.checking import lookers, opening, run, said, subjects

RATE, FRAMES = 25, 50
SETS = "6th ABAW Annotations/VA_Estimation_Challenge"
HTML = "<img src=x onerror=alert(1)>"


def check(path: Path, **changes: Any) -> run.Checked:
    config = CheckConfig(corpus=path, **({"workers": 2, "stall_s": 60.0} | changes))
    return run.run(config, progress=lambda *_: None)


def table(checked: run.Checked, root: Path) -> set[tuple[str, str, str, int]]:
    return {
        (one.severity, one.kind, str(Path(one.file).relative_to(root)), one.line)
        for one in checked.findings
        if one.kind != "no-sound"
    }


def lines_of(seed: int, frames: int = FRAMES) -> list[str]:
    values = np.random.default_rng(seed).uniform(-0.9, 0.9, (frames, 2))
    return ["valence,arousal", *(f"{valence:.4f},{arousal:.4f}" for valence, arousal in values)]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], bytes]:
    """Give the bytes of a video of two seconds with sound, another for every number."""
    folder = tmp_path_factory.mktemp("videos")
    make_video(folder / "a.mp4", rate=RATE, seconds=FRAMES / RATE, audio=sine(hz=300, seconds=2.0))
    content = (folder / "a.mp4").read_bytes()
    # An mp4 box that readers skip, so that no two are the same.
    return lambda number: content + (16).to_bytes(4, "big") + b"free" + number.to_bytes(8, "big")


@pytest.fixture
def make(tmp_path: Path, videos: Callable[[int], bytes]) -> Callable[..., Corpus]:
    """Write a tree of clips that are all right, with its manifest in `manifest/`."""

    def write(*names: str, splits: dict[str, str] | None = None) -> Corpus:
        entries = []
        for number, name in enumerate(names):
            split = (splits or {}).get(name, "train")
            text = tmp_path / "tree" / SETS / {"train": "Train_Set", "val": "Validation_Set"}[split] / f"{name}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text("\n".join(lines_of(number)) + "\n")
            file = tmp_path / "tree" / "batch1" / f"{name}.mp4"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(videos(number))
            va, valid = read_annotation(text)
            info = media.probe(file)
            clip = Clip(id=name, media=file, split=split, identity=name, num_frames=FRAMES, duration_s=info.duration_s)
            entries.append((clip, Truth(time_s=info.frame_time_s, va=va, valid=valid)))
        root = tmp_path / "tree"
        return corpus.save(tmp_path / "manifest", name="x", synthetic=True, media_root=root, entries=entries)

    return write


def text_of(made: Corpus, name: str) -> Path:
    (found,) = made.path.parents[1].rglob(f"{name}.txt")
    return found


def test_a_sound_corpus_has_no_finding_and_its_tree_neither(make: Callable[..., Corpus], tmp_path: Path) -> None:
    make("a", "b", splits={"b": "val"})
    (tmp_path / "tree" / "batch1").rename(tmp_path / "elsewhere")
    (tmp_path / "tree" / "batch1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "tree")
    manifest = tmp_path / "manifest" / "corpus.json"
    allowed = {"linked_folders": [str((tmp_path / "elsewhere").resolve())]}
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | allowed))
    for path, deep in ((tmp_path / "manifest", True), (tmp_path / "tree", False)):
        checked = check(path, deep=deep)
        assert checked.findings == () and checked.clips == 2 and checked.errors == 0


def test_annotations_of_a_tree_by_file_and_line(make: Callable[..., Corpus], tmp_path: Path) -> None:
    names = ["bom", "windows", "commas", "swapped", "bare", "wide", "outside", "hole", "nan", "flat", "half", "latin"]
    names += ["other", "long", "short", "novideo", HTML, "clean"]
    made = make(*names)
    root = tmp_path / "tree"

    def rewrite(name: str, change: Callable[[list[str]], list[str]], *, encode: str = "utf-8", end: str = "\n") -> None:
        file = text_of(made, name)
        file.write_bytes((end.join(change(file.read_text().splitlines())) + end).encode(encode))

    rewrite("bom", lambda lines: lines, encode="utf-8-sig")
    rewrite("windows", lambda lines: lines, end="\r\n")
    rewrite("commas", lambda lines: [lines[0], *(line.replace(",", ";").replace(".", ",") for line in lines[1:])])
    rewrite("swapped", lambda lines: ["arousal,valence", *lines[1:]])
    rewrite("bare", lambda lines: [*lines[1:], "0,0"])
    rewrite("wide", lambda lines: [*lines[:7], lines[7] + ",1", *lines[8:]])
    rewrite("outside", lambda lines: [*lines[:9], "2.5,0", *lines[10:]])
    rewrite("hole", lambda lines: [*lines[:11], "", *lines[12:]])
    rewrite("nan", lambda lines: [*lines[:13], "nan,0", *lines[14:]])
    rewrite("flat", lambda lines: [lines[0], *["0.5,0.5"] * FRAMES])
    rewrite("half", lambda lines: [*lines[:21], *["-5,-5"] * 30])
    rewrite("latin", lambda lines: [*lines[:3], "0.1,0.2 \xe9", *lines[4:]], encode="latin-1")
    rewrite("other", lambda lines: ["Neutral,Anger", *lines[1:]])
    rewrite("long", lambda lines: lines + lines[1:])
    rewrite("short", lambda lines: lines[:-3])
    (root / "batch1" / "novideo.mp4").rename(root / "batch1" / "somebody.mp4")
    shutil.copy(root / "batch1" / "bom.mp4", root / "bom.mp4")
    (root / SETS / "Validation_Set").mkdir()
    shutil.copy(text_of(made, "clean"), root / SETS / "Validation_Set")
    (root / "EXPR_Challenge" / "Train_Set").mkdir(parents=True)
    (root / "EXPR_Challenge" / "Train_Set" / "clean.txt").write_text("Neutral,Anger\n1\n")
    (root / SETS / "Train_Set" / "README.txt").write_text("not an annotation")
    os.mkfifo(root / SETS / "Train_Set" / "pipe.txt")
    os.mkfifo(root / "batch1" / "pipe.mp4")
    train = f"{SETS}/Train_Set/"
    expected = {
        ("warning", "byte-order-mark", train + "bom.txt", 1),
        ("note", "line-ends", train + "windows.txt", 1),
        ("error", "separator", train + "commas.txt", 2),
        ("error", "decimal-comma", train + "commas.txt", 2),
        ("error", "columns-swapped", train + "swapped.txt", 1),
        ("error", "header-missing", train + "bare.txt", 1),
        ("note", "annotation-longer", train + "bare.txt", 0),
        ("error", "columns", train + "wide.txt", 8),
        ("error", "out-of-range", train + "outside.txt", 10),
        ("error", "blank-line", train + "hole.txt", 12),
        ("error", "not-a-number", train + "nan.txt", 14),
        ("warning", "constant", train + "flat.txt", 2),
        ("warning", "mostly-unlabelled", train + "half.txt", 22),
        ("error", "encoding", train + "latin.txt", 4),
        ("error", "not-a-number", train + "latin.txt", 4),
        ("error", "header", train + "other.txt", 1),
        ("warning", "annotation-longer", train + "long.txt", 0),
        ("note", "annotation-shorter", train + "short.txt", 0),
        ("error", "video-missing", train + "novideo.txt", 0),
        ("note", "not-annotated", "batch1/somebody.mp4", 0),
        ("note", "video-twice", "batch1/bom.mp4", 0),
        ("error", "annotation-twice", f"{SETS}/Validation_Set/clean.txt", 0),
        ("warning", "medium-in-two-splits", "batch1/clean.mp4", 0),
    }
    assert table(check(root), root) == expected
    (longer,) = (one for one in check(root).findings if one.kind == "annotation-longer" and one.severity == "warning")
    assert "is 50 frames (2.00 s) longer than its video: 100 lines, 50 frames in 2.00 s" in longer.what
    assert "another frame rate" in longer.what


def test_a_tree_that_the_adapter_reads_has_no_error(make: Callable[..., Corpus], tmp_path: Path) -> None:
    """Names in other case or composed otherwise, videos of any suffix, and copies that are the same."""
    make("synth_0000", "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "old", "twice")
    root = tmp_path / "tree"
    batch = root / "batch1"
    (batch / "synth_0000.mp4").rename(batch / "SYNTH_0000.MP4")
    (batch / "caf\N{LATIN SMALL LETTER E WITH ACUTE}.mp4").rename(batch / "cafe\N{COMBINING ACUTE ACCENT}.mp4")
    (batch / "old.mp4").rename(batch / "old.mpg")
    shutil.copy(batch / "twice.mp4", root / "twice.mp4")
    (root / "copy" / SETS / "Train_Set").mkdir(parents=True)
    text = root / SETS / "Train_Set" / "twice.txt"
    (root / "copy" / SETS / "Train_Set" / "twice.txt").write_bytes(text.read_bytes().replace(b"\n", b"\r\n"))
    (root / "__MACOSX").mkdir()
    (root / "__MACOSX" / "twice.mp4").write_bytes(b"not a video")
    read = affwild2.read_tree(
        root, out=tmp_path / "read", name="x", synthetic=True, sample=None, progress=lambda *_: None
    )
    assert len(read.clips) == 4
    checked = check(root)
    assert checked.clips == 4 and checked.errors == 0
    assert {(one.severity, one.kind) for one in checked.findings} == {
        ("note", "video-twice"),
        ("note", "annotation-twice"),
    }
    (root / "twice.mp4").write_bytes(b"another")
    assert [one.kind for one in check(root).findings if one.severity == "error"] == ["video-twice"]


def test_media_and_crops_of_a_corpus(
    make: Callable[..., Corpus], tmp_path: Path, videos: Callable[[int], bytes]
) -> None:
    names = ["gone", "empty", "cut", "text", "folder", "twin", "twin2", "leak", "longer", "silent", "damaged", "good"]
    made = make(*names, splits={"leak": "val"})
    batch = tmp_path / "tree" / "batch1"
    (batch / "gone.mp4").unlink()
    (batch / "empty.mp4").write_bytes(b"")
    make_video(
        batch / "cut.mp4", rate=RATE, seconds=2.0, options={"movflags": "faststart"}, audio=sine(hz=9, seconds=2.0)
    )
    (batch / "cut.mp4").write_bytes((batch / "cut.mp4").read_bytes()[:-3000])
    (batch / "text.mp4").write_text("#EXTM3U\nfile:///etc/passwd\n" * 99)
    (batch / "folder.mp4").unlink()
    (batch / "folder.mp4").mkdir()
    shutil.copy(batch / "twin.mp4", batch / "twin2.mp4")
    shutil.copy(batch / "twin.mp4", batch / "leak.mp4")
    make_video(batch / "longer.mp4", rate=RATE, seconds=3.0, audio=sine(hz=9, seconds=3.0))
    make_video(batch / "silent.mp4", rate=RATE, seconds=2.0)
    crops = tmp_path / "cropped"
    for clip, names_of in {
        "good": ["00001.jpg", "00050.jpg", "00051.jpg", "one.jpg", "00003.png"],
        "twin": ["00001.jpg", "00002.jpg"],
        "twin2": [],
        "silent": ["00001.jpg"],
        "stranger": ["00001.jpg"],
    }.items():
        (crops / clip).mkdir(parents=True)
        for name in names_of:
            Image.new("RGB", (112, 112)).save(crops / clip / name)
    Image.new("RGB", (112, 64)).save(crops / "twin" / "00002.jpg")
    Image.new("RGB", (112, 64)).save(crops / "silent" / "00001.jpg")
    (crops / "good" / "00050.jpg").write_bytes(b"no picture")
    os.mkfifo(crops / "good" / "00049.jpg")
    checked = check(made.path, crops=crops, out=tmp_path / "out")
    found = {(one.severity, one.kind, str(Path(one.file).relative_to(tmp_path))) for one in checked.findings}
    missing = {("error", "crops-missing", f"cropped/{name}") for name in {*names} - {"good", "twin", "silent"}}
    assert found == missing | {
        ("error", "medium-missing", "tree/batch1/gone.mp4"),
        ("error", "medium-missing", "tree/batch1/folder.mp4"),
        ("error", "medium-empty", "tree/batch1/empty.mp4"),
        ("error", "medium-cut-off", "tree/batch1/cut.mp4"),
        ("error", "medium-unreadable", "tree/batch1/text.mp4"),
        ("error", "medium-changed", "tree/batch1/longer.mp4"),
        ("warning", "no-sound", "tree/batch1/silent.mp4"),
        ("warning", "duplicate-across-splits", "tree/batch1/twin.mp4"),
        ("warning", "duplicate-across-splits", "tree/batch1/twin2.mp4"),
        ("warning", "crop-name", "cropped/good"),
        ("warning", "crop-beyond", "cropped/good"),
        ("error", "crop-unreadable", "cropped/good/00049.jpg"),
        ("error", "crop-unreadable", "cropped/good/00050.jpg"),
        ("warning", "crop-size", "cropped/twin"),
        ("warning", "crop-size", "cropped/silent"),
        ("note", "crops-of-no-clip", "cropped"),
    }
    with (tmp_path / "out" / "findings.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["severity"] for row in rows] == sorted(
        (row["severity"] for row in rows), key=("error", "warning", "note").index
    )
    assert {(row["severity"], row["kind"], str(Path(row["file"]).relative_to(tmp_path))) for row in rows} == found
    assert {row["fix"] for row in rows if row["kind"] == "medium-empty"} == {"drop"}


def test_damage_in_the_middle_is_found_by_a_deep_check(make: Callable[..., Corpus], tmp_path: Path) -> None:
    make("a")
    file = tmp_path / "tree" / "batch1" / "a.mp4"
    noise = np.random.default_rng(0)
    make_video(file, rate=RATE, seconds=FRAMES / RATE, draw=lambda _: noise.integers(0, 256, (64, 64, 3), np.uint8))
    content = bytearray(file.read_bytes())
    start = content.index(b"mdat")
    for place in range(start + len(content) // 4, start + len(content) // 3):
        content[place] = 0
    file.write_bytes(bytes(content))
    kinds = {one.kind for one in check(tmp_path / "manifest", deep=True).findings}
    assert kinds & {"damaged-pictures", "medium-unreadable"}
    make_video(file, rate=RATE, seconds=FRAMES / RATE, audio=sine(hz=9, seconds=0.5))
    assert {one.kind for one in check(tmp_path / "manifest", deep=True).findings} == {"short-sound"}
    assert check(tmp_path / "manifest").findings == ()


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mkv", "h264.avi", "mpeg4.avi", "late.mp4"])
def test_sound_media_of_any_container_have_no_finding(tmp_path: Path, name: str) -> None:
    """Longer than from one key frame to the next, so that jumps land between."""
    how: dict[str, Any] = {"audio_codec": "mp3"} if name.endswith("avi") else {}
    how |= {"codec": "mpeg4"} if name == "mpeg4.avi" else {"video_offset_s": 1.0} if name == "late.mp4" else {}
    make_video(tmp_path / name, rate=RATE, seconds=11.0, audio=sine(hz=300, seconds=12.0), **how)
    for deep in (False, True):
        wanted = {"media": str(tmp_path / name), "hash": False, "crops": None}
        answer = opening._look(wanted, lambda: None, deep=deep)
        assert answer["problems"] == [] and answer["frames"] == 275 and answer["sound"] is True


def test_labels_sidecars_and_people(make: Callable[..., Corpus], tmp_path: Path) -> None:
    made = make("a", "b", "c", "d", splits={"d": "val"})
    shutil.copy(text_of(made, "a"), text_of(made, "b"))
    labels = made.path.parent / "labels"
    (labels / "c.npz").write_bytes((labels / "c.npz").read_bytes()[:100])
    data = json.loads(made.path.read_text())
    data["clips"][3]["identity"] = "a"
    made.path.write_text(json.dumps(data))
    checked = check(made.path)
    found = {(one.severity, one.kind, one.clip) for one in checked.findings}
    assert found == {
        ("error", "sidecar-damaged", "c"),
        ("error", "labels-differ", "b"),
        ("warning", "identity-in-two-splits", "a"),
    }
    shutil.copy(labels / "a.npz", labels / "b.npz")
    found = {(one.severity, one.kind, one.clip) for one in check(made.path).findings}
    assert ("warning", "labels-twice", "b") in found and ("error", "labels-differ", "b") not in found
    for text in (tmp_path / "tree").rglob("*.txt"):
        text.unlink()
    with np.load(labels / "a.npz") as old:
        time_s, va = old["time_s"], old["va"]
    np.savez(labels / "a.npz", time_s=time_s, va=np.full_like(va, 0.5), valid=np.ones(FRAMES, np.bool_))
    np.savez(labels / "b.npz", time_s=time_s, va=va, valid=np.arange(FRAMES) < 20)
    np.savez(labels / "d.npz", time_s=time_s, va=np.zeros_like(va), valid=np.zeros(FRAMES, np.bool_))
    found = {(one.severity, one.kind, one.clip) for one in check(made.path).findings}
    assert {("note", "constant", "a"), ("warning", "mostly-unlabelled", "b"), ("warning", "unlabelled", "d")} < found


def test_texts_that_the_adapter_skipped_are_told(make: Callable[..., Corpus]) -> None:
    made = make("a", "b")
    data = json.loads(made.path.read_text())
    del data["clips"][1]
    made.path.write_text(json.dumps(data))
    text_of(made, "b").write_text("valence,arousal\n0.1,0.1\n0.2,0.2\n0.5\n")
    found = {(one.severity, one.kind, one.clip, one.line) for one in check(made.path).findings}
    assert found == {
        ("warning", "not-in-corpus", "b", 0),
        ("error", "columns", "b", 4),
        ("warning", "annotation-shorter", "b", 0),
    }
    text_of(made, "a").unlink()  # texts of nothing in the manifest are not its business
    assert check(made.path).findings == ()


def test_what_is_fixed_is_decided_and_taken_back(make: Callable[..., Corpus], tmp_path: Path) -> None:
    names = ["gone", "twin", "twin2", "leak", "commas", "long", "a", "b", "c", "d"]
    made = make(*names, splits={"leak": "val"})
    root = tmp_path / "tree"
    batch = root / "batch1"
    (batch / "gone.mp4").unlink()
    shutil.copy(batch / "twin.mp4", batch / "twin2.mp4")
    shutil.copy(batch / "twin.mp4", batch / "leak.mp4")
    labels = made.path.parent / "labels"
    shutil.copy(labels / "twin.npz", labels / "twin2.npz")
    shutil.copy(text_of(made, "twin"), text_of(made, "twin2"))
    commas = lines_of(77)
    text_of(made, "commas").write_text(
        "\n".join(["arousal;valence", *(line.replace(",", ";").replace(".", ",") for line in commas[1:])])
    )
    wanted = np.array([[float(part) for part in line.split(",")] for line in commas[1:]], np.float32)[:, ::-1]
    text_of(made, "long").write_text("\n".join(lines_of(78, frames=FRAMES + 30)))
    va, valid = read_annotation(text_of(made, "long"))
    np.savez(labels / "long.npz", time_s=np.arange(FRAMES + 30) / RATE, va=va, valid=valid)
    data = json.loads(made.path.read_text())
    for row in data["clips"]:
        row["frames"] = FRAMES + (30 if row["id"] == "long" else 0)
    made.path.write_text(json.dumps(data))
    made = Corpus.load(made.path)
    digest = made.digest()
    originals = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    sidecars = {file: file.read_bytes() for file in labels.iterdir()}

    checked = check(made.path, fix=True)
    assert {(one.clip, one.do) for one in checked.decided} == {
        ("gone", "drop"),
        ("twin2", "drop"),
        ("commas", "read-again"),
        ("long", "labels-until"),
    }
    assert checked.errors == 0
    fixed = Corpus.load(made.path)
    assert [clip.id for clip in fixed.clips] == sorted({*names} - {"gone", "twin2"})
    by_id = {clip.id: clip for clip in fixed.clips}
    np.testing.assert_array_equal(fixed.truth(by_id["commas"]).va, wanted)
    assert fixed.truth(by_id["long"]).valid.tolist() == [True] * FRAMES + [False] * 30
    assert fixed.digest() != digest
    assert {file: file.read_bytes() for file in root.rglob("*") if file.is_file()} == originals
    assert {file: file.read_bytes() for file in labels.iterdir()} == sidecars

    text_of(made, "long").write_text("\n".join(lines_of(79, frames=FRAMES + 30)))
    again = check(made.path, fix=True)  # where the labels end was decided, so the text may go on
    assert {(one.clip, one.do) for one in again.decided} == {("long", "read-again")}
    truth = Corpus.load(made.path).truth(by_id["long"])
    assert truth.valid.tolist() == [True] * FRAMES + [False] * 30
    assert truth.va[0].tolist() == read_annotation(text_of(made, "long"))[0][0].tolist()
    third = check(made.path, fix=True)
    assert third.errors == 0 and third.decided == () and len(third.standing) == 5
    left = {one.kind for one in third.findings if one.severity != "note"}
    assert left == {"duplicate-across-splits"}  # whose labels differ, so that a person must choose

    assert run.unfix(CheckConfig(corpus=made.path, unfix=True)) == 5
    assert Corpus.load(made.path) == made and made.digest() == digest
    assert not (made.path.parent / "labels-again").exists()


def test_a_text_that_changes_after_it_was_read_again_is_told(make: Callable[..., Corpus]) -> None:
    made = make("a", "b")
    sidecar = made.path.parent / "labels-again" / "a.npz"
    for seed in (50, 51):
        text_of(made, "a").write_text("\n".join(lines_of(seed)))
        checked = check(made.path)
        assert [(one.severity, one.kind) for one in checked.findings] == [("error", "labels-differ")]
        assert checked.errors == 1
        fixed = check(made.path, fix=True)
        assert [(one.clip, one.do) for one in fixed.decided] == [("a", "read-again")] and fixed.errors == 0
        assert len(Corpus.load(made.path).decisions) == 1
        with np.load(sidecar) as kept:
            np.testing.assert_array_equal(kept["va"], read_annotation(text_of(made, "a"))[0])
        assert check(made.path).findings == ()


def test_labels_are_not_replaced_by_what_is_missing_or_too_long(make: Callable[..., Corpus]) -> None:
    made = make("holes", "long", "a")
    digest = made.digest()
    lines = lines_of(0)
    text_of(made, "holes").write_text("\n".join([*lines[:9], "0.1", *lines[10:]]))
    text_of(made, "long").write_text("\n".join(lines_of(78, frames=FRAMES + 30)))
    checked = check(made.path, fix=True)
    assert checked.decided == () and Corpus.load(made.path).digest() == digest
    differs = {one.clip: one.do for one in checked.findings if one.kind == "labels-differ" and one.severity == "error"}
    assert "1 frames that the manifest has labels of" in differs["holes"]
    assert "30 frames longer than its video" in differs["long"]
    text_of(made, "holes").write_text("\n".join([*lines[:9], "-5,-5", *lines[10:]]))  # which says that there is none
    assert [one.clip for one in check(made.path, fix=True).decided] == ["holes"]


def test_labels_with_times_of_their_own_are_held_against_seconds(make: Callable[..., Corpus], tmp_path: Path) -> None:
    """As other data sets have them, at a rate of their own and over a part of the video."""
    made = make("whole", "part", "late", "little")
    for text in (tmp_path / "tree").rglob("*.txt"):
        text.unlink()
    data = json.loads(made.path.read_text())
    for row in data["clips"]:
        count = {"whole": 20, "part": 10, "late": 31, "little": 21}[row["id"]]
        va = np.random.default_rng(count).uniform(-1, 1, (count, 2)).astype(np.float32)
        file = made.path.parent / "labels" / f"{row['id']}.npz"
        np.savez(file, time_s=np.arange(count) / 10, va=va, valid=np.ones(count, np.bool_))
        row["frames"] = count
    made.path.write_text(json.dumps(data))
    found = check(made.path, fix=True)
    assert {(one.severity, one.kind, one.clip) for one in found.findings} == {
        ("note", "annotation-longer", "little"),
        ("warning", "annotation-longer", "late"),
    }
    assert "goes on for 1.10 s after its video of 2.00 s" in found.findings[0].what
    assert [(one.clip, one.until_s) for one in found.decided] == [("late", 2.0)]


def test_names_that_are_not_utf8_can_be_shown(tmp_path: Path) -> None:
    folder = tmp_path / "VA_Set" / "Train_Set"
    folder.mkdir(parents=True)
    (folder / "caf\udce9.txt").write_text("arousal,valence\n0,0\n0.1,0\n")
    checked = check(tmp_path, out=tmp_path / "out")
    rows = said.rows(checked)
    assert rows and all(cell.encode("utf-8") for row in rows for cell in row if cell)
    assert "caf" in (tmp_path / "out" / "findings.csv").read_text(encoding="utf-8")


def test_no_cell_of_the_findings_is_a_formula(tmp_path: Path) -> None:
    one = Finding(severity="note", kind="header", file="=1+1.txt", line=3, clip="@SUM(A1)", what="-5", do="+1")
    write_csv(tmp_path / "findings.csv", [one])
    with (tmp_path / "findings.csv").open(encoding="utf-8", newline="") as stream:
        (row,) = csv.DictReader(stream)
    assert [row[name] for name in ("file", "line", "clip", "what", "do", "fix")] == [
        "'=1+1.txt", "3", "'@SUM(A1)", "'-5", "'+1", "",
    ]  # fmt: skip


def test_a_missing_disk_decides_nothing(make: Callable[..., Corpus], tmp_path: Path) -> None:
    made = make("a", "b", "c")
    before = made.path.read_bytes()
    for name in ("a", "b"):
        (tmp_path / "tree" / "batch1" / f"{name}.mp4").unlink()
    with pytest.raises(VAError, match="would leave out 2 of 3 clips") as caught:
        check(made.path, fix=True)
    assert "disk" in caught.value.hint and made.path.read_bytes() == before


def test_a_tree_has_no_place_for_decisions(tmp_path: Path) -> None:
    with pytest.raises(VAError, match=r"--fix: .* is no manifest"):
        check(tmp_path, fix=True)
    with pytest.raises(VAError, match="has no annotation text"):
        check(tmp_path)
    with pytest.raises(VAError, match="no such file or folder"):
        check(tmp_path / "nowhere")
    with pytest.raises(VAError, match=r"--annotations: .*nope is not a folder"):
        check(tmp_path, annotations=tmp_path / "nope")
    with pytest.raises(VAError, match=r"--crops: .* is not a folder"):
        check(tmp_path, crops=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("Train_Set", "train"), ("train", "train"), ("TrainingSet", "train"), ("Validation_Set", "val"),
        ("val", "val"), ("Valid", "val"), ("Dev", "val"), ("Test Set", "test"), ("valence", ""), ("batch1", ""),
        ("trainers", ""), ("arousal", ""),
    ],
)  # fmt: skip
def test_folders_are_recognised_by_what_they_mean(tmp_path: Path, folder: str, split: str) -> None:
    for above, is_challenge in (("VA_Set", True), ("6th ABAW VA Challenge", True), ("EXPR_Challenge", False)):
        place = tmp_path / above / folder
        place.mkdir(parents=True)
        (place / "a.txt").write_text("")
        assert affwild2.split_of(place / "a.txt") == split
        found = bool(subjects.annotation_files(tmp_path / above))
        # A folder is known by its own name, also where it is the one that was given.
        assert found == (bool(split) and is_challenge)
        assert subjects.annotation_files(place, named=True) == [place / "a.txt"]


def test_text_of_another_data_set_is_no_annotation(make: Callable[..., Corpus], tmp_path: Path) -> None:
    make("a")
    (tmp_path / "tree" / SETS).rename(tmp_path / "tree" / "transcripts")
    (tmp_path / "tree" / "transcripts" / "Train_Set" / "a.txt").write_text("good morning")
    assert check(tmp_path / "manifest").findings == ()
    found = check(tmp_path / "manifest", annotations=tmp_path / "tree" / "transcripts").findings
    assert [one.kind for one in found] == ["header"]


def test_media_that_misbehave_cost_themselves_only(
    tmp_path: Path, videos: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    for name in ("hang", "a", "crash", "b", "memory", "c", "liar", "d"):
        (tmp_path / f"{name}.mp4").write_bytes(videos(1))
        looks.append(lookers.Look(media=tmp_path / f"{name}.mp4", crops=None, hash=True))
    monkeypatch.setattr(opening, "serve", misbehaving_check.serve)
    seen = lookers.look_at(looks, processes=2, stall_s=2.0, memory_gb=0.5, deep=False, progress=lambda *_: None)
    found = {
        look.media.stem: (one.frames, [row[3] for row in one.problems]) for look, one in zip(looks, seen, strict=True)
    }
    assert {name: found[name] for name in "abcd"} == {name: (FRAMES, []) for name in "abcd"}
    assert len({one.digest for one in seen if one.digest}) == 1
    for name, message in (
        ("hang", "made no progress for 2 s"),
        ("crash", "SIGSEGV"),
        ("memory", "memory"),
        ("liar", "code 3"),
    ):
        assert found[name][0] is None and message in found[name][1][0], name


@pytest.mark.parametrize(
    "answer",
    [
        {"frames": "many", "duration_s": 1, "digest": None, "problems": []},
        {"frames": 1, "duration_s": 1, "digest": None, "problems": [["fatal", "a", "b", "c", "d"]]},
        {"frames": 1, "duration_s": 1, "digest": None, "problems": [["error", "a"]]},
        {"frames": 1, "duration_s": 1, "problems": []},
    ],
)
def test_an_answer_is_not_trusted(answer: dict[str, Any]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        lookers._seen(answer)


def test_long_lists_are_cut_and_the_worst_comes_first(make: Callable[..., Corpus], tmp_path: Path) -> None:
    made = make(*(f"clip{number:02}" for number in range(16)))
    for text in (tmp_path / "tree").rglob("*.txt"):
        text.write_bytes(text.read_bytes().replace(b"\n", b"\r\n"))
    text_of(made, "clip05").write_text("valence,arousal\n")
    checked = check(tmp_path / "tree" / SETS)
    rows = said.rows(checked)
    assert rows[0][:3] == ("error", "no-frames", "Train_Set/clip05.txt, line 2")
    assert len(rows) == 1 + 12 + 1 and rows[-1][2] == "and 3 more"
    assert said.summary(checked) == "16 clips checked: 1 error, 0 warnings, 15 notes"


def test_the_command(
    make: Callable[..., Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make("a", "b", f"{HTML.replace('/', '')}")

    def va(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["va", "corpus", "check", str(made.path), *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), capsys.readouterr().out

    assert va() == (0, "3 clips checked: 0 errors, 0 warnings, 0 notes\n")
    (tmp_path / "tree" / "batch1" / "a.mp4").unlink()
    code, out = va("--json")
    answer = json.loads(out)
    assert code == 1 and (answer["error"], answer["warning"], answer["note"]) == (1, 0, 0)
    assert answer["findings"][0]["kind"] == "medium-missing" and answer["findings"][0]["fix"] == "drop"
    code, out = va("--out", str(tmp_path / "out"))
    assert (
        code == 1
        and "medium-missing" in out
        and "\\n" not in out
        and out.endswith(f"{tmp_path / 'out' / 'findings.csv'}\n")
    )
    code, out = va("--fix")
    assert code == 0 and "decided: drop a: " in out
    assert out.endswith("\n1 decided in corpus.json, 0 errors left; --unfix takes them back\n")
    assert va() == (0, "2 clips checked: 0 errors, 0 warnings, 0 notes\n")
    assert va("--unfix") == (0, "decisions taken back: 1\n")
    assert va("--fix", "--unfix")[0] == 1


def test_every_kind_is_documented() -> None:
    root = Path(run.__file__).resolve().parents[2]
    sources = [*(root / "extract" / "checking").glob("*.py"), root / "data" / "annotation_text.py"]
    source = "".join(file.read_text(encoding="utf-8") for file in sources)
    pattern = (
        r"""(?:"(?:error|warning|note)"(?: if \w+ else "\w+")?,\s+(?:kind=)?|kind(?:, what)? ?= ?f?)"([a-z-]+)["{]"""
    )
    kinds = {kind for kind in re.findall(pattern, source) if not kind.endswith("-")}
    kinds |= set(annotation_text._LINEWISE) | {"annotation-longer", "annotation-shorter", "duplicate-across-splits"}
    documented = set(re.findall(r"`([a-z-]+)`", (root.parent / "docs" / "checking.md").read_text(encoding="utf-8")))
    assert len(kinds) > 35 and kinds <= documented, kinds - documented
