"""The official tree, written small and by hand with real videos."""

import sys
from pathlib import Path

import numpy as np
import pytest
from support import make_video

from va import cli
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


def test_a_tree(tmp_path: Path, video_bytes: dict[str, bytes]) -> None:
    write_tree(
        tmp_path,
        video_bytes,
        annotations={
            "Train_Set/video1": FRAMES,
            "Train_Set/video55_left": FRAMES,
            "Train_Set/video55_right": FRAMES,
            "Validation_Set/2-30-640x360": FRAMES,
            "Validation_Set/the_right": FRAMES,
        },
        videos=[
            "batch1/video1.mp4",
            "batch1/video55.mp4",
            "batch2/2-30-640x360.avi",
            "batch2/unlabelled.mp4",
            "new_vids/the_right.MP4",
        ],
    )
    seen: list[tuple[int, int]] = []
    made = read(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert made == Corpus.load(tmp_path / "out")
    assert (made.name, made.synthetic) == ("Aff", False)
    found = {clip.id: (clip.split, clip.media.relative_to(tmp_path).as_posix(), clip.identity) for clip in made.clips}
    assert found == {
        "video1": ("train", "batch1/video1.mp4", "video1"),
        # Two people in one video: without names they count as one, so that they never fall on both sides of dev.
        "video55_left": ("train", "batch1/video55.mp4", "video55"),
        "video55_right": ("train", "batch1/video55.mp4", "video55"),
        "2-30-640x360": ("val", "batch2/2-30-640x360.avi", "2-30-640x360"),
        # A name of its own that only looks like a side.
        "the_right": ("val", "new_vids/the_right.MP4", "the_right"),
    }
    for clip in made.clips:
        truth = made.truth(clip)
        assert clip.num_frames == FRAMES and clip.duration_s == pytest.approx(FRAMES / RATE)
        np.testing.assert_allclose(truth.time_s, np.arange(FRAMES) / RATE, atol=1e-6)
        index = np.arange(FRAMES)
        assert truth.valid.tolist() == (index != 3).tolist()
        expected = np.where(index[:, None] == 3, 0, np.stack([index / 100, -index / 100], axis=1))
        np.testing.assert_array_equal(truth.va, expected.astype(np.float32))
    assert seen == [*((done, 5) for done in range(5)), (5, 5)]


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
        (b"clip,who\na,Ann\n", "expected lines of 'name,identity'"),
        (b"name,identity\na\n", "expected lines of 'name,identity'"),
        (b"", "expected lines of 'name,identity'"),
        (b"name,identity\na,J\xfcrg\n", "cannot be read"),
    ],
)
def test_malformed_identities_are_refused(
    tmp_path: Path, video_bytes: dict[str, bytes], content: bytes, message: str
) -> None:
    write_tree(tmp_path, video_bytes, annotations={"Train_Set/a": FRAMES}, videos=["a.mp4"])
    (tmp_path / "identities.csv").write_bytes(content)
    with pytest.raises(VAError, match=f"identities.csv: {message}"):
        read(tmp_path)


def test_an_annotation_without_its_video_is_named(tmp_path: Path, video_bytes: dict[str, bytes]) -> None:
    write_tree(tmp_path, video_bytes, annotations={"Train_Set/a_left": FRAMES}, videos=["b.mp4"])
    with pytest.raises(VAError, match=r"Train_Set/a_left.txt: has no video 'a.mp4' or '.avi' below"):
        read(tmp_path)
    assert not (tmp_path / "out" / "corpus.json").exists()


def test_a_video_that_is_there_twice_is_refused(tmp_path: Path, video_bytes: dict[str, bytes]) -> None:
    write_tree(tmp_path, video_bytes, annotations={"Train_Set/a": FRAMES}, videos=["batch1/a.mp4", "batch2/a.avi"])
    with pytest.raises(VAError, match=r"video 'a' is there twice: .*batch1/a.mp4 and .*batch2/a.avi"):
        read(tmp_path)


def test_one_name_in_both_sets_is_refused(tmp_path: Path, video_bytes: dict[str, bytes]) -> None:
    annotations = {"Train_Set/a": FRAMES, "Validation_Set/a": FRAMES}
    write_tree(tmp_path, video_bytes, annotations=annotations, videos=["a.mp4"])
    with pytest.raises(VAError, match="clip 'a' appears twice"):
        read(tmp_path)


def test_a_broken_video_or_annotation_is_named(tmp_path: Path, video_bytes: dict[str, bytes]) -> None:
    write_tree(tmp_path, video_bytes, annotations={"Train_Set/a": FRAMES}, videos=["a.mp4"])
    (tmp_path / "a.mp4").write_text("no pictures")
    with pytest.raises(VAError, match=r"a.mp4: cannot be decoded"):
        read(tmp_path)
    (tmp_path / SETS / "Train_Set" / "a.txt").write_text("valence,arousal\n2,0\n")
    with pytest.raises(VAError, match=r"a.txt, line 2: 2.0 is outside"):
        read(tmp_path)


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


def test_a_clip_of_the_sample_without_a_video_is_named(tmp_path: Path, video_bytes: dict[str, bytes]) -> None:
    write_tree(tmp_path, video_bytes, annotations={"Train_Set/a": FRAMES}, videos=["a.mp4"])
    (tmp_path / "sample.txt").write_text("image_location,valence,arousal\na/00001.jpg\nb_left/00001.jpg,,\n")
    with pytest.raises(VAError, match=r"sample.txt, line 3: 'b_left': has no video 'b.mp4' or '.avi' below"):
        read(tmp_path, sample=tmp_path / "sample.txt")


def test_the_command_takes_the_sample(
    tmp_path: Path, video_bytes: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tree(tmp_path, video_bytes, annotations={"Train_Set/a": FRAMES}, videos=["a.mp4", "b.mp4"])
    (tmp_path / "sample.txt").write_text("image_location,valence,arousal\nb/00001.jpg,-5,-5\n")
    command = ["corpus", "affwild2", tmp_path, "--sample", tmp_path / "sample.txt", "--out", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["va", *map(str, command)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert [clip.id for clip in Corpus.load(tmp_path / "out").split("test")] == ["b"]
