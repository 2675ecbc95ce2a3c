"""Whole frames, tracked faces or the corpus's own crops: what the frame encoders are shown."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from support import draw_number, make_video, read_number

from va.data import media
from va.data.features import Source
from va.errors import VAError
from va.extract import pictures
from va.extract.config import ExtractConfig
from va.extract.pictures import Pictures
from va.extract.watch import Watch

CLIPS = Path(__file__).resolve().parents[2].parent / "shared" / "clips"


def config(**changes: Any) -> ExtractConfig:
    return ExtractConfig(corpus=Path("c"), out=Path("o"), **changes)


def pictures_of(asked: ExtractConfig) -> Pictures:
    return Pictures(asked, threads=1, watch=Watch(stall_s=0))


def shown(path: Path, asked: ExtractConfig) -> list[np.ndarray | None]:
    found = pictures_of(asked).of(path, clip_id=path.stem, info=media.probe(path))
    return [None if picture is None else picture.rgb for picture in found]


def test_whole_frames_are_the_default(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", rate=10, seconds=1.5)
    # Centres at 0.25, 0.75 and 1.25 s: the frames of 0.2, 0.7 and 1.2 s.
    assert [read_number(rgb) for rgb in shown(tmp_path / "a.mp4", config()) if rgb is not None] == [2, 7, 12]


def test_crops_are_those_of_the_same_frames_and_a_missing_one_masks_its_cell(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", rate=10, seconds=1.5)
    folder = tmp_path / "cropped_aligned" / "a"
    folder.mkdir(parents=True)
    for number in (2, 12):
        image = cv2.cvtColor(draw_number(number + 100), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f"{number + 1:05d}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    found = shown(tmp_path / "a.mp4", config(faces="crops", crops=folder.parent))
    assert [None if rgb is None else read_number(rgb) for rgb in found] == [102, None, 112]


def test_crops_need_a_folder_and_one_for_each_clip(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", rate=10, seconds=0.5)
    with pytest.raises(VAError, match="--crops"):
        pictures_of(config(faces="crops"))
    with pytest.raises(VAError, match=r"a: no such folder of face crops"):
        shown(tmp_path / "a.mp4", config(faces="crops", crops=tmp_path))


def test_changed_crops_are_another_source(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"medium")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "00001.jpg").write_bytes(b"one")
    asked = pictures_of(config(faces="crops", crops=tmp_path))
    first = Source.of(tmp_path / "a.mp4", *asked.files_of("a"))
    assert first == Source.of(tmp_path / "a.mp4", *asked.files_of("a"))
    (tmp_path / "a" / "00001.jpg").write_bytes(b"two")
    assert first != Source.of(tmp_path / "a.mp4", *asked.files_of("a"))
    assert pictures_of(config()).files_of("a") == ()


def test_the_mode_and_its_settings_are_in_the_identity() -> None:
    modes = [pictures.identity(config(faces=faces)) for faces in ("none", "crops", "detect")]
    assert [mode["mode"] for mode in modes] == ["none", "crops", "detect"]
    assert modes[2] != pictures.identity(config(faces="detect", face_margin=0.3))
    assert modes[0] == pictures.identity(config(face_margin=0.3)), "a setting that is not used changes nothing"


@pytest.mark.skipif(not CLIPS.is_dir(), reason="needs real recordings, which are not part of the product")
def test_a_real_face_is_followed() -> None:
    found = shown(CLIPS / "bbaf2n.mpg", config(faces="detect"))
    whole = shown(CLIPS / "bbaf2n.mpg", config())
    for crop, frame in zip(found, whole, strict=True):
        assert crop is not None and frame is not None
        assert crop.shape[0] == crop.shape[1] < min(frame.shape[:2])


@pytest.mark.skipif(not CLIPS.is_dir(), reason="needs real recordings, which are not part of the product")
def test_a_face_comes_with_its_box_in_the_frame() -> None:
    path = CLIPS / "bbaf2n.mpg"
    found = list(pictures_of(config(faces="detect")).of(path, clip_id="a", info=media.probe(path)))
    for picture, frame in zip(found, shown(path, config()), strict=True):
        assert picture is not None and picture.box is not None and frame is not None
        height, width = frame.shape[:2]
        left, top, right, bottom, score = picture.box.astype(float)
        assert score > 0.5
        cut = [round(edge) for edge in (left * width, top * height, right * width, bottom * height)]
        assert (frame[cut[1] : cut[3], cut[0] : cut[2]] == picture.rgb).all()


def test_pictures_that_no_detector_cut_out_have_no_box(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", rate=10, seconds=0.5)
    (picture,) = pictures_of(config()).of(tmp_path / "a.mp4", clip_id="a", info=media.probe(tmp_path / "a.mp4"))
    assert picture is not None and picture.box is None


def test_a_picture_without_a_face_is_masked(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", rate=10, seconds=1.0)
    assert shown(tmp_path / "a.mp4", config(faces="detect")) == [None, None]
