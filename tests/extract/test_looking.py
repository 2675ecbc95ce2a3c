"""What a video is, told by a process that nobody trusts."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import box_at, make_video, sine

from va.data import media
from va.errors import VAError
from va.extract import looking


def look(path: Path, **changes: Any) -> looking.Seen:
    return looking.look(path, **({"memory_gb": 4.0, "stall_s": 60.0} | changes))


def oblong(_: int) -> np.ndarray:
    return np.full((48, 96, 3), 90, np.uint8)


def test_a_look_is_a_probe_with_a_size(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    make_video(path, seconds=1, draw=oblong, audio=sine(hz=300, seconds=1))
    seen, info = look(path), media.probe(path)
    assert seen.frame_time_s.tobytes() == info.frame_time_s.tobytes() and seen.duration_s == info.duration_s
    assert (seen.width, seen.height, seen.turned, seen.has_audio) == (96, 48, False, True)


@pytest.mark.parametrize(
    ("matrix", "size", "turned"),
    [
        ((0, 1, -1, 0), (48, 96), True),
        ((-1, 0, 0, -1), (96, 48), True),
        ((-1, 0, 0, 1), (96, 48), True),
        ((1, 0, 0, 1), (96, 48), False),
        ((0, 0, 0, 0), (96, 48), False),
    ],
)
def test_the_size_is_that_of_the_upright_picture(
    tmp_path: Path, matrix: tuple[int, ...], size: tuple[int, int], turned: bool
) -> None:
    path = tmp_path / "a.mp4"
    make_video(path, seconds=0.5, draw=oblong)
    content = bytearray(path.read_bytes())
    a, b, c, d = matrix
    struct.pack_into(">5i", content, box_at(content, b"tkhd") + 40, a << 16, b << 16, 0, c << 16, d << 16)
    path.write_bytes(content)
    seen = look(path)
    assert ((seen.width, seen.height), seen.turned, seen.has_audio) == (size, turned, False)


@pytest.mark.parametrize(
    ("content", "message"), [(b"no video", "cannot be decoded"), (b"", "cannot be decoded"), (None, "no such file")]
)
def test_what_is_no_video_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VAError, match=f"a.mp4: {message}"):
        look(path)
    with pytest.raises(VAError, match="is a folder"):
        look(tmp_path)


def test_a_process_that_hangs_is_ended(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", seconds=1)
    with pytest.raises(VAError, match=r"a\.mp4: decoding made no progress for 1e-06 s"):
        look(tmp_path / "a.mp4", stall_s=1e-6)


HEADER = {"duration_s": 1.0, "has_audio": True, "width": 64, "height": 64, "turned": False}
TIMES = np.array([0.0, 0.5])


@pytest.mark.parametrize(
    ("header", "times"),
    [
        ({}, np.array([0.5, 0.0])),
        ({}, np.array([0.0, np.nan])),
        ({}, None),
        ({"duration_s": 1e9}, TIMES),
        ({"duration_s": "nan"}, TIMES),
        ({"width": 1}, TIMES),
        ({"height": None}, TIMES),
    ],
)
def test_what_cannot_be_is_not_believed(header: dict[str, Any], times: np.ndarray | None) -> None:
    sent = None if times is None else times.view(np.uint8)
    assert looking._checked(HEADER, TIMES.view(np.uint8)).frame_time_s.tolist() == [0, 0.5]
    with pytest.raises((TypeError, ValueError)):
        looking._checked(HEADER | header, sent)
