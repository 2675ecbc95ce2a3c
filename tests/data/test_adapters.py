"""Every data set's adapter on a small tree of the right shape, and what they share."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import messy_tree
import numpy as np
import pytest
from support import draw_number, read_number

from va import cli
from va.data import afewva, identities, media, omg, placing, recola, rows, sewa, showing, sources, table
from va.data.config import TableConfig, parse_scale
from va.data.corpus import Corpus
from va.errors import VAError

FRAMES, RATE = messy_tree.FRAMES, messy_tree.RATE


def quiet(done: int, total: int) -> None: ...


COMMON = {"name": "x", "probe": sources.probe_here, "progress": quiet}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return messy_tree.make_media(tmp_path_factory.mktemp("tiny"))


def why(made: Corpus) -> dict[str, str]:
    return {one.what: one.why for one in made.skipped}


def splits(made: Corpus) -> dict[str, str]:
    return {clip.id: clip.split for clip in made.clips}


# --- what is shared ---


@pytest.mark.parametrize(
    ("text", "low_high"), [("1..9", (1, 9)), ("-10..10", (-10, 10)), ("0..1", (0, 1)), ("-1..-0.5", (-1, -0.5))]
)
def test_a_scale_is_mapped_to_its_ends_and_middle(text: str, low_high: tuple[float, float]) -> None:
    low, high = parse_scale(text, option="--scale")
    assert (low, high) == low_high
    mapped = placing.on_scale(np.array([low, (low + high) / 2, high, np.nan]), low, high)
    np.testing.assert_allclose(mapped, [-1, 0, 1, np.nan], atol=1e-12)


@pytest.mark.parametrize("text", ["1", "9..1", "1..1", "a..b", "1..inf", "nan..1", "..", "1...9x"])
def test_what_is_no_scale_is_refused(text: str) -> None:
    with pytest.raises(VAError, match=r"--scale: .* is out of range"):
        parse_scale(text, option="--scale")


@pytest.mark.parametrize("value", [-0.01, 1.01])
def test_a_value_off_the_scale_is_refused(value: float) -> None:
    with pytest.raises(VAError, match=rf"value 2 is {value}, off the scale 0..1"):
        placing.on_scale(np.array([0.5, value]), 0, 1)


def test_people_without_a_split_are_divided_and_stay_divided(tmp_path: Path) -> None:
    people = {f"clip{i}": f"person{i // 3}" for i in range(30)}
    found = identities.splits_of(tmp_path, people, val_share=0.2)
    by_person = {people[clip]: set() for clip in people}
    for clip, split in found.items():
        by_person[people[clip]].add(split)
    assert sorted(len(names) for names in by_person.values()) == [1] * 10
    assert sum(names == {"val"} for names in by_person.values()) == 2
    assert identities.splits_of(tmp_path, dict(reversed(people.items())), val_share=0.2) == found
    assert identities.splits_of(tmp_path, {"only": "one"}, val_share=0.9) == {"only": "train"}
    assert identities.splits_of(tmp_path, {}, val_share=0.5) == {}
    (tmp_path / "splits.csv").write_text("name,split\na,Training\nb,devel\nc,TEST\n")
    assert list(identities.splits_of(tmp_path, dict.fromkeys("abc", "x"), val_share=0.5).values()) == [
        "train",
        "val",
        "test",
    ]
    with pytest.raises(VAError, match="does not name clip 'd'"):
        identities.splits_of(tmp_path, {"d": "x"}, val_share=0.5)


@pytest.mark.parametrize(
    ("text", "header", "cells"),
    [
        ("a,b\n1,2\n", ("a", "b"), [("1", "2")]),
        ("\ufeffA ; B\r\n1;2\r\n\r\n", ("a", "b"), [("1", "2")]),
        ("'x';0.1;3\n'x';0.2;4\n", (), [("x", "0.1", "3"), ("x", "0.2", "4")]),
        ('t\tu\n"1, 2"\t3\n', ("t", "u"), [("1, 2", "3")]),
    ],
)
def test_text_tables_of_any_make(
    tmp_path: Path, text: str, header: tuple[str, ...], cells: list[tuple[str, ...]]
) -> None:
    (tmp_path / "t.csv").write_bytes(text.encode())
    read = rows.read_rows(tmp_path / "t.csv")
    assert (read.header, list(read.rows)) == (header, cells)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "a,b\n1\n", ", line 2: has 1 cells and not 2"),
        ("t.csv", "\n\n", ": holds no row"),
        ("t.arff", "@relation x\n@attribute a numeric\n", ": has no @data"),
        ("t.arff", "@attribute a numeric\n@data\n", ": holds no row"),
    ],
)
def test_a_table_that_is_none_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(VAError, match=f"{name}{message}"):
        rows.read_rows(tmp_path / name)


# --- AFEW-VA ---


def write_afewva(root: Path, clip: str, labels: dict[int, tuple[float, float]], pictures: list[int], **more: object):
    folder = root / clip
    folder.mkdir(parents=True)
    frames = {f"{i:05}": {"valence": v, "arousal": a, "landmarks": [[0, 0]]} for i, (v, a) in labels.items()}
    (folder / f"{folder.name}.json").write_text(json.dumps({"frames": frames, "video_id": folder.name, **more}))
    for number in pictures:
        cv2.imwrite(str(folder / f"{number:05}.png"), draw_number(number))


def test_afewva(tmp_path: Path) -> None:
    root = tmp_path / "in"
    write_afewva(root, "01/001", {i: (i, -i) for i in range(8)}, list(range(8)), actor="Ann")
    write_afewva(root, "01/002", dict.fromkeys((3, 4, 7), (10, -10)), [3, 4, 6, 7], actor="Ann")
    write_afewva(root, "02/051", {0: (0.0, 5)}, [0, 1])
    write_afewva(root, "02/052", {0: (11, 0)}, [0, 1], actor="Bob")
    write_afewva(root, "02/053", {0: (1, 0)}, [], actor="Bob")
    write_afewva(root, "02/054", {0: (1, 0)}, [1, 2], actor="Bob")
    write_afewva(root, "02/055", {0: (1, 0)}, [0, 1], actor="Bob")
    (root / "02/055/00001.png").write_bytes(b"no picture")
    write_afewva(root, "02/056", {}, [0])
    (root / "02/056/056.json").write_text('{"frames": [1]}')
    write_afewva(root, "02/057", {0: (1, 0), 10**9: (1, 0)}, [0])
    made = afewva.read_tree(root, out=tmp_path / "out", rate_hz=25.0, val_share=0.5, **COMMON)
    found = {clip.id: (clip.identity, clip.num_frames, round(clip.duration_s, 3)) for clip in made.clips}
    assert found == {"001": ("Ann", 8, 0.32), "002": ("Ann", 3, 0.2), "051": ("051", 1, 0.08)}
    assert splits(made)["001"] == splits(made)["002"] != splits(made)["051"]
    first, second, third = (made.truth(clip) for clip in made.clips)
    np.testing.assert_allclose(first.time_s, np.arange(8) / 25)
    np.testing.assert_allclose(first.va, np.stack([np.arange(8), -np.arange(8)], axis=1) / 10, atol=1e-7)
    np.testing.assert_allclose(second.time_s, np.array([0, 1, 4]) / 25)
    assert second.va.tolist() == [[1, -1]] * 3 and third.va.tolist() == [[0, 0.5]]
    # Pictures are there unchanged, each at its own time.
    seen = showing.timed_pictures(made.clips[1].media, threads=1, beat=lambda: None)
    shown = [(round(time_s * 25), picture.to_ndarray(format="rgb24")) for time_s, picture in seen]
    assert [(tick, read_number(rgb)) for tick, rgb in shown] == [(0, 3), (1, 4), (3, 6), (4, 7)]
    assert all(np.array_equal(rgb, draw_number(tick + 3)) for tick, rgb in shown)
    expected = {
        "02/052/052.json": "value 1 is 11, off the scale -10..10",
        "02/053/053.json": "there is no picture beside it",
        "02/054/054.json": "its first label has no picture",
        "02/055/055.json": "02/055/00001.png: is no PNG picture",
    }
    assert {name: text for name, text in why(made).items() if name in expected} == expected
    assert "is no annotation of AFEW-VA" in why(made)["02/056/056.json"] and len(made.skipped) == 6
    assert not list((tmp_path / "out/media").glob(".*"))


def test_afewva_refuses_a_clip_that_is_there_twice_and_a_folder_of_none(tmp_path: Path) -> None:
    write_afewva(tmp_path / "in", "01/001", {0: (0, 0)}, [0])
    write_afewva(tmp_path / "in", "02/001", {0: (1, 0)}, [0])
    with pytest.raises(VAError, match="clip '001' is there twice"):
        afewva.read_tree(tmp_path / "in", out=tmp_path / "out", rate_hz=25.0, val_share=0.5, **COMMON)
    (tmp_path / "none").mkdir()
    with pytest.raises(VAError, match=r"has no <clip>/<clip>\.json"):
        afewva.read_tree(tmp_path / "none", out=tmp_path / "out", rate_hz=25.0, val_share=0.5, **COMMON)


# --- OMG-Emotion ---

OMG_HEADER = "link,start,end,video,utterance,arousal,valence,EmotionMaxVote"


def test_omg(tmp_path: Path, tiny: Path) -> None:
    root = tmp_path / "in"
    messy_tree.write(
        root / "CSVs/omg_TrainVideos.csv",
        f"{OMG_HEADER}\nhttps://y/1,0,5,ab_1,utterance_1.mp4,0.25,-0.5,4\nhttps://y/1,5,9,ab_1,utterance_2.mp4,1,1,3\n"
        "https://y/1,9,10,ab_1,utterance_3.mp4,0,0,3\nhttps://y/1,9,10,ab_1,utterance_4.mp4,-0.1,0,3\n",
    )
    messy_tree.write(
        root / "CSVs/omg_ValidationVideos.csv",
        f"{OMG_HEADER}\r\nhttps://y/2,0,5,cd_1,utterance_1.mp4,0.5,0.1,4\r\n",
    )
    messy_tree.write(
        root / "CSVs/omg_TestVideos.csv",
        "link,start,end,video,utterance\nhttps://y/3,0,5,ef_1,utterance_1.mp4\nhttps://y/3,0,5,ef_1,utterance_2.mp4\n",
    )
    messy_tree.write(
        root / "CSVs/omg_TestVideos_WithLabels.csv", f"{OMG_HEADER}\nhttps://y/3,0,5,ef_1,utterance_1.mp4,0,1,4\n"
    )
    for place in (
        "train/ab_1/utterance_1",
        "train/ab_1/utterance_2",
        "train/ab_1/utterance_4",
        "val/cd_1/video/utterance_1",
    ):
        messy_tree.place(tiny, root / f"{place}.mp4")
    for place in ("test/ef_1/utterance_1", "test/ef_1/utterance_2", "extra/zz_1/utterance_1"):
        messy_tree.place(tiny, root / f"{place}.mp4")
    made = omg.read_tree(root, out=tmp_path / "out", **COMMON)
    assert {clip.id: (clip.split, clip.identity) for clip in made.clips} == {
        "ab_1_utterance_1": ("train", "https://y/1"),
        "ab_1_utterance_2": ("train", "https://y/1"),
        "cd_1_utterance_1": ("val", "https://y/2"),
        "ef_1_utterance_1": ("test", "https://y/3"),
        "ef_1_utterance_2": ("test", "https://y/3"),
    }
    for clip, label in zip(made.clips, [(-0.5, -0.5), (1, 1), (0.1, 0), (1, -1), None], strict=True):
        truth = made.truth(clip)
        assert len(truth.time_s) == FRAMES
        np.testing.assert_array_equal(truth.time_s, media.probe(clip.media).frame_time_s)
        assert truth.valid.tolist() == [label is not None] * FRAMES
        np.testing.assert_allclose(truth.va, np.tile(label or (0, 0), (FRAMES, 1)), atol=1e-7)
    assert why(made) == {
        "CSVs/omg_TrainVideos.csv, line 4": "there is no video 'ab_1/utterance_3.mp4'",
        "CSVs/omg_TrainVideos.csv, line 5": "value 1 is -0.1, off the scale 0..1",
        "CSVs/omg_TestVideos.csv, line 2": "is named in CSVs/omg_TestVideos_WithLabels.csv, line 2 already",
        "extra/zz_1/utterance_1.mp4": "is in no table",
    }


# --- RECOLA and SEWA ---

ARFF = "@relation GOLDSTANDARD\n\n@attribute Instance_name string\n@attribute frameTime numeric\n"
ARFF += "@attribute GoldStandard numeric\n\n@data\n\n"
RECORDINGS = {**COMMON, "scale": (-1.0, 1.0), "val_share": 0.5}


def arff(name: str, values: list[float], *, step: float = 0.04) -> str:
    return ARFF + "".join(f"{name},{i * step:.2f},{value}\n" for i, value in enumerate(values))


def test_recola_gold_standard(tmp_path: Path, tiny: Path) -> None:
    root, gold = tmp_path / "in", "AVEC_2016/ratings_gold_standard"
    for name in ("train_1", "dev_1", "test_1", "train_2", "train_3"):
        messy_tree.write(root / gold / f"arousal/{name}.arff", arff(f"'{name}'", [0.1, 0.2, 0.3]))
        messy_tree.write(root / gold / f"valence/{name}.arff", arff(f"'{name}'", [-0.5, 0, 1]))
        messy_tree.place(tiny, root / f"recordings_video/{name}.mp4")
    messy_tree.write(root / gold / "valence/train_2.arff", arff("train_2", [0, 0, 0], step=0.05))
    messy_tree.write(root / gold / "valence/train_3.arff", arff("train_3", [0, 0, 0], step=0))
    messy_tree.write(root / gold / "valence/alone.arff", arff("alone", [0]))
    messy_tree.write(root / "AVEC_2016/ratings_individual/arousal/train_1.csv", "time;FM1 ;FM2\n0;1;1\n")
    messy_tree.write(root / "AVEC_2016/ratings_individual/valence/train_1.csv", "time;FM1 ;FM2\n0;1;1\n")
    made = recola.read_tree(root, out=tmp_path / "out", **RECORDINGS)
    assert splits(made) == {"train_1": "train", "dev_1": "val", "test_1": "test"}
    for clip in made.clips:
        truth = made.truth(clip)
        assert truth.time_s.tolist() == [0, 0.04, 0.08] and truth.valid.all()
        np.testing.assert_allclose(truth.va, [[-0.5, 0.1], [0, 0.2], [1, 0.3]], atol=1e-7)
    found = why(made)
    assert "has other times than" in found[f"{gold}/valence/train_2.arff"]
    assert found[f"{gold}/valence/train_3.arff"] == "line 10: its time is not after the one before"
    assert found[f"{gold}/valence/alone.arff"] == "has no file of its name in arousal/"
    assert found["AVEC_2016/ratings_individual"] == f"{gold} was taken"
    assert found["recordings_video/train_2.mp4"] == found["recordings_video/train_3.mp4"] == "has no annotation"
    assert len(found) == 6


def test_recola_raters_are_averaged_and_people_divided(tmp_path: Path, tiny: Path) -> None:
    root, folder = tmp_path / "in", "RECOLA-Annotation/emotional_behaviour"
    for name in ("P16", "P17"):
        for axis, line in (("valence", "0.20;0.5;0.1"), ("arousal", "0.20;-1;0")):
            text = f"time;FM1 ;FM2 \n0.00;0.2;0.4\n{line}\n0.40;?;\n"
            messy_tree.write(root / folder / axis / f"{name}.csv", text)
        messy_tree.place(tiny, root / f"{name}.mp4")
    made = recola.read_tree(root, out=tmp_path / "out", **RECORDINGS)
    assert sorted(splits(made).values()) == ["train", "val"]
    truth = made.truth(made.clips[0])
    np.testing.assert_allclose(truth.va, [[0.3, 0.3], [0.3, -0.5], [0, 0]], atol=1e-7)
    assert truth.valid.tolist() == [True, True, False] and truth.time_s.tolist() == [0, 0.2, 0.4]
    messy_tree.write(root / "other/valence/P16.csv", "time;x\n0;0\n")
    messy_tree.write(root / "other/arousal/P16.csv", "time;x\n0;0\n")
    with pytest.raises(VAError, match=r"there are several annotations: .*emotional_behaviour, other"):
        recola.read_tree(root, out=tmp_path / "out", **RECORDINGS)


def test_sewa(tmp_path: Path, tiny: Path) -> None:
    root = tmp_path / "in"
    bare = "'Train_DE_01';0.0;0.1;-0.2;0.9\n'Train_DE_01';0.1;0.3;0.4;0.9\n"
    messy_tree.write(root / "labels/Train_DE_01.csv", bare)
    messy_tree.write(root / "labels/Devel_DE_01.csv", "time,valence,arousal\n0,-0.2,0.1\n0.1,0.4,0.3\n")
    messy_tree.write(root / "labels/Train_DE_02.csv", "x;0.0;0.1;0,2\n")
    messy_tree.write(root / "labels/Train_DE_03.csv", "time,valence\n0,0\n")
    messy_tree.write(root / "audio_features/Train_DE_01.csv", "1;2;3;4\n")
    for name in ("Train_DE_01", "Devel_DE_01", "Train_DE_02", "Train_DE_03"):
        messy_tree.place(tiny, root / f"video/{name}.avi")
    made = sewa.read_tree(root, out=tmp_path / "out", **RECORDINGS)
    assert splits(made) == {"Train_DE_01": "train", "Devel_DE_01": "val"}
    for clip in made.clips:
        truth = made.truth(clip)
        assert truth.time_s.tolist() == [0, 0.1] and truth.valid.all()
        np.testing.assert_allclose(truth.va, [[-0.2, 0.1], [0.4, 0.3]], atol=1e-7)
    found = why(made)
    assert found["labels/Train_DE_02.csv"] == "line 1: expected a number, found '0,2'"
    assert found["labels/Train_DE_03.csv"] == "has no columns time, valence and arousal"


# --- tables ---

COLUMNS = table.Columns(**{name: name for name in table.Columns.__dataclass_fields__})


def read_table(file: Path, **changes: object) -> Corpus:
    settings = {
        "out": file.parent / "out",
        "columns": COLUMNS,
        "valence_scale": (1.0, 9.0),
        "arousal_scale": (1.0, 9.0),
        "media_root": None,
        "val_share": 0.5,
        **COMMON,
    }
    return table.read_table(file, **(settings | changes))  # type: ignore[arg-type]


TABLE = (
    "media;time;valence;arousal;split;identity;clip\n"
    "v/a.mp4;0.5;9;1;train;Ann;\nv/a.mp4;0;1;9;train;Ann;\nv/a.mp4;1;;5;train;Ann;\n"
    "v/b.mp4;0;5;5;dev;Bob;left\nv/b.mp4;0;3;7;dev;Eve;right\n"
    "v/c.mp4;0;5;10;test;Cid;\nv/gone.mp4;0;5;5;test;Cid;\nv/d.mp4;0;5;5;test;Cid;\nv/d.mp4;0;5;5;test;Cid;\n"
    "../out.mp4;0;5;5;test;Cid;\n/etc/out.mp4;0;5;5;test;Cid;\n"
)


def as_parquet(file: Path) -> Path:
    pyarrow_csv = pytest.importorskip("pyarrow.csv")
    pyarrow_parquet = pytest.importorskip("pyarrow.parquet")
    read = pyarrow_csv.read_csv(file, parse_options=pyarrow_csv.ParseOptions(delimiter=";"))
    pyarrow_parquet.write_table(read, file.with_suffix(".parquet"))
    return file.with_suffix(".parquet")


@pytest.mark.parametrize("convert", [lambda file: file, as_parquet], ids=["csv", "parquet"])
def test_a_table(tmp_path: Path, tiny: Path, convert: Callable[[Path], Path]) -> None:
    (tmp_path / "t.csv").write_text(TABLE)
    for name in "abcd":
        messy_tree.place(tiny, tmp_path / f"v/{name}.mp4")
    file = convert(tmp_path / "t.csv")
    made = read_table(file)
    assert {clip.id: (clip.split, clip.identity, clip.media.name) for clip in made.clips} == {
        "v_a": ("train", "Ann", "a.mp4"),
        "left": ("val", "Bob", "b.mp4"),
        "right": ("val", "Eve", "b.mp4"),
    }
    truth = made.truth(next(clip for clip in made.clips if clip.id == "v_a"))
    assert truth.time_s.tolist() == [0, 0.5, 1] and truth.valid.tolist() == [True, True, False]
    assert truth.va.tolist() == [[-1, 1], [1, -1], [0, 0]]
    line = 1 if file.suffix == ".parquet" else 2  # Parquet has no header line
    assert why(made) == {
        f"{file.name}, line {line + 5}": "of its rows, value 1 is 10, off the scale 1..9",
        f"{file.name}, line {line + 6}": "there is no file 'v/gone.mp4'",
        f"{file.name}, line {line + 7}": "a time is missing, negative or there twice",
        f"{file.name}, line {line + 9}": f"'../out.mp4' leaves {tmp_path}",
        f"{file.name}, line {line + 10}": f"'/etc/out.mp4' leaves {tmp_path}",
    }


def test_a_table_without_times_and_splits_holds_for_whole_videos(tmp_path: Path, tiny: Path) -> None:
    (tmp_path / "t.csv").write_text("File,V,A,Who\na.mp4,-10,1,x\nb.mp4,10,0,y\n")
    for name in "ab":
        messy_tree.place(tiny, tmp_path / f"videos/{name}.mp4")
    columns = table.Columns(
        **vars(COLUMNS) | {"media": "File", "valence": "V", "arousal": "A", "identity": "Who"}  # type: ignore[arg-type]
    )
    made = read_table(
        tmp_path / "t.csv",
        columns=columns,
        media_root=tmp_path / "videos",
        valence_scale=(-10.0, 10.0),
        arousal_scale=(0.0, 1.0),
    )
    assert sorted(splits(made).values()) == ["train", "val"]
    assert {clip.identity for clip in made.clips} == {"x", "y"}
    assert [made.truth(clip).va.tolist() for clip in made.clips] == [[[-1, 1]] * FRAMES, [[1, -1]] * FRAMES]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("media,valence\na.mp4,1\n", "t.csv: has no column 'arousal'"),
        ("media,valence,arousal,split\na.mp4,1,1,trian\n", "t.csv, line 2: 'trian' is no split"),
        (
            "media,time,valence,arousal,split\na.mp4,0,1,1,train\na.mp4,1,1,1,val\n",
            "t.csv, line 3: clip 'a' has another video, split or identity than in line 2",
        ),
        ("1,2,3\n", "t.csv: has no column 'media'"),
        ("media,valence,arousal,Valence\na.mp4,5,5,6\n", "t.csv: has two columns 'valence'"),
        ("media,valence,arousal\na.mp4,5,5\n,5,5\n", "t.csv, line 3: names no video"),
        (
            "media,time,valence,arousal\na.mp4,0,5,5\na.mp4,900,5,5\na.mp4,950,5,5\n",
            "reach to 950 s and the video ends",
        ),
        ("media,valence,arousal\na.mp4,good,1\n", "t.csv, line 2: expected a number, found 'good'"),
        ("media,valence,arousal\na.mp4,5,5\na.mp4,5,5\n", "the first reason: t.csv, line 2: has 2 rows but"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path: Path, tiny: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    messy_tree.place(tiny, tmp_path / "a.mp4")
    with pytest.raises(VAError, match=message):
        read_table(tmp_path / "t.csv")
    assert not (tmp_path / "out").exists()


def test_labels_off_the_scale_say_which_option_gives_it(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    messy_tree.place(tiny, tmp_path / "a.mp4")
    messy_tree.place(tiny, tmp_path / "b.mp4")
    (tmp_path / "t.csv").write_text("media,valence,arousal,split\na.mp4,5,0.5,train\n")
    scales: dict[str, object] = {"valence_scale": (-1.0, 1.0), "arousal_scale": (-1.0, 1.0)}
    with pytest.raises(VAError, match=r"no clip can be used; the first reason: .* off the scale -1..1") as raised:
        read_table(tmp_path / "t.csv", **scales)
    assert raised.value.hint == "Give --scale, e.g. --scale 1..9."
    (tmp_path / "t.csv").write_text("media,valence,arousal,split\na.mp4,5,0.5,val\nb.mp4,0.5,0.5,train\n")
    command = ["va", "corpus", "table", tmp_path / "t.csv", "--name", "x", "--out", tmp_path / "out", "--workers", "1"]
    monkeypatch.setattr(sys, "argv", [*map(str, command)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 0 and "labels off the scale: give --scale, e.g. --scale 1..9\n" in said
    assert "1 clip: 1 train; 0.0 minutes of 1 identity, in " in said
    assert "\nwarning: the split val has no clip left\n" in said


@pytest.mark.parametrize("name", ["time", "split", "identity", "clip"])
def test_a_column_that_was_asked_for_must_be_there(tmp_path: Path, tiny: Path, name: str) -> None:
    (tmp_path / "t.csv").write_text("media,valence,arousal\na.mp4,5,5\n")
    messy_tree.place(tiny, tmp_path / "a.mp4")
    assert len(read_table(tmp_path / "t.csv").clips) == 1
    columns = table.Columns(**vars(COLUMNS) | {name: "other"})
    with pytest.raises(VAError, match="has no column 'other'"):
        read_table(tmp_path / "t.csv", columns=columns)


def test_parquet_without_pyarrow_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(VAError, match="takes pyarrow") as raised:
        read_table(tmp_path / "t.parquet")
    assert "pip install 'pyarrow>=17'" in raised.value.hint


def test_a_broken_parquet_file_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 no table")
    with pytest.raises(VAError, match=r"t.parquet: is no Parquet file"):
        read_table(tmp_path / "t.parquet")


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,B,,,b\n1,2,3,4,5\n")
    read = rows.read_rows(tmp_path / "t.csv")
    assert read.column("a") == ("1",)
    with pytest.raises(VAError, match=r"t.csv: has two columns 'b'"):
        read.column("b")
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    names = ["media", "valence", "arousal", "Valence"]
    parquet.write_table(pyarrow.table([["a.mp4"], [5], [5], [6]], names=names), tmp_path / "t.parquet")
    with pytest.raises(VAError, match=r"t.parquet: has two columns 'valence'"):
        read_table(tmp_path / "t.parquet")


def test_the_columns_of_the_command_are_those_of_the_table() -> None:
    config = TableConfig(table=Path("t"), out=Path("o"), name="n")
    assert all(getattr(config, name) == name for name in table.Columns.__dataclass_fields__)
