"""The official tree, written small and by hand with real videos."""

import sys
from pathlib import Path

import messy_tree
import numpy as np
import pytest
from support import make_video

from va import cli, console
from va.data import affwild2, media
from va.data.corpus import Corpus
from va.errors import VAError

SETS = "5th_ABAW_Annotations/VA_Estimation_Challenge"
RATE = 25
FRAMES = 20


@pytest.fixture(scope="module")
def video_bytes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One video of 20 frames in each container."""
    folder = tmp_path_factory.mktemp("videos")
    make_video(folder / "a.mp4", rate=RATE, seconds=FRAMES / RATE)
    make_video(folder / "a.avi", rate=RATE, seconds=FRAMES / RATE, codec="mpeg4", b_frames=0)
    return {suffix: (folder / f"a{suffix}").read_bytes() for suffix in (".mp4", ".avi")}


def write_tree(root: Path, video_bytes: dict[str, bytes], *, annotations: dict[str, int], videos: list[str]) -> None:
    """Write annotations `set/name: frames` (frame i has valence i / 100 and arousal -i / 100) and videos."""
    for name, frames in annotations.items():
        file = root / SETS / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{i / 100},{-i / 100}" if i != 3 else "-5,-5" for i in range(frames)]
        file.write_text("\n".join(["valence,arousal", *lines, ""]))
    for name in videos:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(video_bytes[file.suffix.lower()])


def read(root: Path, **changes: object) -> Corpus:
    settings = {
        "out": root / "out",
        "name": "Aff",
        "synthetic": False,
        "sample": None,
        "progress": lambda *_: None,
    } | changes
    return affwild2.read_tree(root, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Corpus]:
    """The tree of twenty clips, and what was read from it."""
    folder = tmp_path_factory.mktemp("messy")
    root = messy_tree.build(folder / "tree", messy_tree.make_media(folder / "media"))
    return root, read(root, out=folder / "out")


@pytest.mark.parametrize("name", messy_tree.EXPECTED)
def test_each_clip_of_a_messy_tree(messy: tuple[Path, Corpus], name: str) -> None:
    root, made = messy
    expected = messy_tree.EXPECTED[name]
    (clip,) = (clip for clip in made.clips if clip.id == name)
    assert (clip.split, clip.media, clip.identity) == (expected.split, root / expected.media, expected.identity)
    assert clip.num_frames == expected.frames and clip.duration_s == pytest.approx(FRAMES / RATE)
    truth, index = made.truth(clip), np.arange(expected.frames)
    np.testing.assert_allclose(truth.time_s, index / RATE, atol=1e-6)
    valid = ~np.isin(index, expected.unlabelled)
    assert truth.valid.tolist() == valid.tolist()
    labels = np.where(valid[:, None], np.stack([index / 100, -index / 100], axis=1), 0)
    np.testing.assert_array_equal(truth.va, labels.astype(np.float32))


def test_a_messy_tree_gives_twenty_clips_and_says_what_it_leaves_out(messy: tuple[Path, Corpus]) -> None:
    root, made = messy
    assert {clip.id for clip in made.clips} == set(messy_tree.EXPECTED) and len(messy_tree.EXPECTED) == 20
    assert made == Corpus.load(made.path)
    assert {one.what for one in made.skipped} == set(messy_tree.SKIPPED)
    assert len(made.skipped) == len(messy_tree.SKIPPED)
    for one in made.skipped:
        assert messy_tree.SKIPPED[one.what] in one.why and str(root) not in one.why


def test_the_root_may_be_a_link_and_a_relative_path(
    tmp_path: Path, video_bytes: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path / "real", video_bytes, annotations={"Train_Set/a": FRAMES}, videos=["batch1/a.mp4"])
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    (clip,) = read(Path("link"), out=Path("out")).clips
    assert clip.media == tmp_path / "link/batch1/a.mp4"


def test_an_annotation_shorter_than_its_video_keeps_the_first_frames(
    tmp_path: Path, video_bytes: dict[str, bytes]
) -> None:
    write_tree(tmp_path, video_bytes, annotations={"Train_Set/a": FRAMES - 4}, videos=["a.mp4"])
    made = read(tmp_path)
    clip = made.clips[0]
    assert clip.num_frames == FRAMES - 4
    assert clip.duration_s == pytest.approx(FRAMES / RATE)  # the video's, so that its cells do not change
    np.testing.assert_allclose(made.truth(clip).time_s, np.arange(FRAMES - 4) / RATE, atol=1e-6)


def test_an_annotation_longer_than_its_video_goes_on_at_the_mean_distance(
    tmp_path: Path, video_bytes: dict[str, bytes]
) -> None:
    write_tree(tmp_path, video_bytes, annotations={"Train_Set/a": FRAMES + 3}, videos=["a.mp4"])
    made = read(tmp_path)
    truth = made.truth(made.clips[0])
    assert made.clips[0].num_frames == FRAMES + 3
    assert made.clips[0].duration_s == pytest.approx(FRAMES / RATE)
    np.testing.assert_allclose(truth.time_s, np.arange(FRAMES + 3) / RATE, atol=1e-6)


def test_a_late_start_does_not_stretch_the_distance(tmp_path: Path, video_bytes: dict[str, bytes]) -> None:
    write_tree(tmp_path, video_bytes, annotations={"Train_Set/a": 28}, videos=[])
    make_video(tmp_path / "a.mp4", rate=RATE, seconds=1, video_offset_s=2.0, audio=np.zeros(44_100 * 3), b_frames=0)
    start_s = media.probe(tmp_path / "a.mp4").frame_time_s[0]
    assert start_s == pytest.approx(2.0, abs=0.03)
    made = read(tmp_path)
    np.testing.assert_allclose(made.truth(made.clips[0]).time_s, start_s + np.arange(28) / RATE, atol=1e-6)


def test_identities_are_read_where_they_are_given(tmp_path: Path, video_bytes: dict[str, bytes]) -> None:
    write_tree(
        tmp_path,
        video_bytes,
        annotations={"Train_Set/a_left": FRAMES, "Train_Set/a_right": FRAMES, "Validation_Set/b": FRAMES},
        videos=["a.mp4", "b.mp4"],
    )
    (tmp_path / "identities.csv").write_text("name,identity\na_left,Ann\na_right,Bob\n")
    assert {clip.id: clip.identity for clip in read(tmp_path).clips} == {"a_left": "Ann", "a_right": "Bob", "b": "b"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"clip,who\na,Ann\n", ": expected lines of 'name,identity'"),
        (b"name,identity\na\n", ", line 2: has 1 cells and not 2"),
        (b"", ": holds no row"),
        (b"name,identity\na,J\xfcrg\n", ": cannot be read"),
        (b"name,identity\na,Ann\na,Bob\n", ", line 3: 'a' is 'Ann' and 'Bob'"),
    ],
)
def test_malformed_identities_are_refused(
    tmp_path: Path, video_bytes: dict[str, bytes], content: bytes, message: str
) -> None:
    write_tree(tmp_path, video_bytes, annotations={"Train_Set/a": FRAMES}, videos=["a.mp4"])
    (tmp_path / "identities.csv").write_bytes(content)
    with pytest.raises(VAError, match=f"identities.csv{message}"):
        read(tmp_path)


def test_nothing_left_is_refused_with_the_first_reason(tmp_path: Path, video_bytes: dict[str, bytes]) -> None:
    write_tree(tmp_path, video_bytes, annotations={"Train_Set/a_left": FRAMES}, videos=["b.mp4"])
    with pytest.raises(VAError, match=r"no clip can be used; the first reason: .*Train_Set/a_left.txt: there is no"):
        read(tmp_path)
    assert not (tmp_path / "out" / "corpus.json").exists()


def test_two_different_videos_of_one_name_are_refused_where_one_is_needed(
    tmp_path: Path, video_bytes: dict[str, bytes]
) -> None:
    write_tree(tmp_path, video_bytes, annotations={"Train_Set/a": FRAMES}, videos=["batch1/a.mp4", "batch2/a.avi"])
    with pytest.raises(VAError, match=r"video 'a' is there twice, .*batch1/a.mp4 and .*batch2/a.avi"):
        read(tmp_path)
    write_tree(tmp_path, video_bytes, annotations={"Train_Set/b": FRAMES}, videos=["b.mp4"])
    (tmp_path / SETS / "Train_Set" / "a.txt").unlink()
    assert [clip.id for clip in read(tmp_path).clips] == ["b"]


def test_one_name_in_both_sets_is_refused(tmp_path: Path, video_bytes: dict[str, bytes]) -> None:
    annotations = {"Train_Set/a": FRAMES, "Validation_Set/a": FRAMES}
    write_tree(tmp_path, video_bytes, annotations=annotations, videos=["a.mp4"])
    with pytest.raises(VAError, match=r"'a' is annotated twice, and not alike: .*Train_Set.*Validation_Set"):
        read(tmp_path)


def test_editions_that_contradict_each_other_are_refused_until_one_is_named(
    tmp_path: Path, video_bytes: dict[str, bytes]
) -> None:
    write_tree(tmp_path, video_bytes, annotations={"Train_Set/a": FRAMES}, videos=["a.mp4"])
    older = tmp_path / "3rd_ABAW/VA_Set/Train_Set/a.txt"
    messy_tree.write(older, messy_tree.annotation(FRAMES - 1))
    with pytest.raises(VAError, match=r"'a' is annotated twice, and not alike") as raised:
        read(tmp_path)
    assert "--annotations" in raised.value.hint
    (clip,) = read(tmp_path, annotations=tmp_path / "3rd_ABAW").clips
    assert clip.num_frames == FRAMES - 1
    (tmp_path / "none").mkdir()
    with pytest.raises(VAError, match="none: has no VA_Estimation_Challenge"):
        read(tmp_path, annotations=tmp_path / "none")


@pytest.mark.parametrize("folder", ["", "none"])
def test_a_folder_without_annotations_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(VAError, match=r"no such folder|has no VA_Estimation_Challenge/Train_Set"):
        read(tmp_path / folder)


def test_clips_of_the_sample_without_an_annotation_are_the_test_split(
    tmp_path: Path, video_bytes: dict[str, bytes]
) -> None:
    write_tree(
        tmp_path, video_bytes, annotations={"Validation_Set/a": FRAMES}, videos=["a.mp4", "batch2/b.avi", "c.mp4"]
    )
    names = ["b_left/00001", "a/00001", "b_right/00001", f"c/{FRAMES + 3:05}"]
    (tmp_path / "sample.txt").write_text(
        "\n".join(["image_location,valence,arousal", *(f"{n}.jpg,0,0" for n in names)])
    )
    made = read(tmp_path, sample=tmp_path / "sample.txt")
    assert {clip.id: clip.split for clip in made.clips} == {
        "a": "val",
        "b_left": "test",
        "b_right": "test",
        "c": "test",
    }
    assert {clip.media.name for clip in made.split("test")} == {"b.avi", "c.mp4"}
    for clip in made.split("test"):
        truth = made.truth(clip)
        assert clip.num_frames == FRAMES and not truth.valid.any()
        np.testing.assert_array_equal(truth.time_s, media.probe(clip.media).frame_time_s)


def test_a_clip_of_the_sample_without_a_video_is_skipped(tmp_path: Path, video_bytes: dict[str, bytes]) -> None:
    write_tree(tmp_path, video_bytes, annotations={"Train_Set/a": FRAMES}, videos=["a.mp4"])
    (tmp_path / "sample.txt").write_text("image_location,valence,arousal\na/00001.jpg\nb_left/00001.jpg,,\n")
    made = read(tmp_path, sample=tmp_path / "sample.txt")
    assert [clip.id for clip in made.clips] == ["a"]
    (skipped,) = made.skipped
    assert skipped.what.endswith("sample.txt, line 3: 'b_left'") and skipped.why == "there is no video 'b'"


def test_the_command_takes_the_sample_and_says_what_is_missing(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    video_bytes: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    annotations = {"Train_Set/a": FRAMES, **{f"Train_Set/gone{i}": 1 for i in range(12)}}
    write_tree(tmp_path, video_bytes, annotations=annotations, videos=["a.mp4", "b.mp4", "unused.mp4"])
    (tmp_path / "hurt.mp4").write_bytes(video_bytes[".mp4"][:-300])
    messy_tree.write(tmp_path / SETS / "Train_Set" / "hurt.txt", messy_tree.annotation())
    messy_tree.write(tmp_path / SETS / "Train_Set" / "commas.txt", "valence;arousal\n" + "0,5;0,25\n" * 5)
    messy_tree.write(tmp_path / SETS / "Train_Set" / "words.txt", "nothing\nthat is a label\n")
    (tmp_path / "sample.txt").write_text("image_location,valence,arousal\nb/00001.jpg,-5,-5\n")
    out = tmp_path_factory.mktemp("out")
    command = ["corpus", "affwild2", tmp_path, "--sample", tmp_path / "sample.txt", "--out", out]
    monkeypatch.setattr(sys, "argv", ["va", *map(str, command), "--workers", "1"])
    monkeypatch.setattr(console._err, "width", 300)  # the environment is asked once, when the first test imports it
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    made = Corpus.load(out)
    assert [(clip.id, clip.split) for clip in made.clips] == [("a", "train"), ("b", "test")]
    printed = capsys.readouterr()
    assert printed.out.strip() == str(out / "corpus.json")
    assert "unused.mp4" in printed.err and "has no annotation and is not in the sample" in printed.err
    assert "hurt.mp4" in printed.err and "16 files or lines are left out" in printed.err
    assert f"\n1 of them may be readable: --as-meant; 'va corpus check {tmp_path}' says more\n" in printed.err
    assert "warning: the split val has no clip left" in printed.err
    assert "the split train" not in printed.err
    assert f"2 clips: 1 test, 1 train; 0.0 minutes of 2 identities, in {out}\n" in printed.err
    assert f"\nnext: va corpus check {out}, then va extract {out} --out FEATURES\n" in printed.err
    assert len(made.skipped) == 16


def test_a_missing_folder_of_annotations_is_named_by_its_option(tmp_path: Path, video_bytes: dict[str, bytes]) -> None:
    write_tree(tmp_path, video_bytes, annotations={"Train_Set/a": 5}, videos=["v/a.mp4"])
    with pytest.raises(VAError, match=r"^--annotations: .*nope is not a folder\n.*or leave it out"):
        read(tmp_path, annotations=tmp_path / "nope")
    with pytest.raises(VAError, match=r"v: has no VA_Estimation_Challenge/.*\n.* to --annotations, or leave it out"):
        read(tmp_path, annotations=tmp_path / "v")


def test_text_that_can_be_understood_is_read_only_when_asked_to(tmp_path: Path, video_bytes: dict[str, bytes]) -> None:
    root = tmp_path / "tree"
    write_tree(root, video_bytes, annotations={"Train_Set/a": 5, "Train_Set/b": 5}, videos=["v/a.mp4", "v/b.mp4"])
    file = root / SETS / "Train_Set" / "b.txt"
    file.write_text("arousal;valence\n" + "0,5;0,25\n" * 5)
    plain = read(root)
    assert [clip.id for clip in plain.clips] == ["a"] and plain.skipped[0].what.endswith("b.txt")
    meant = read(root, as_meant=True)
    assert meant.skipped == ()
    np.testing.assert_array_equal(meant.truth(meant.clips[1]).va, np.tile(np.float32([0.25, 0.5]), (5, 1)))
    np.testing.assert_array_equal(meant.truth(meant.clips[0]).va, plain.truth(plain.clips[0]).va)
