"""The wire between readers and the parent: what does not fit is refused, and nothing can execute."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from va.extract import inputs, reading
from va.extract.config import ExtractConfig
from va.extract.pictures import Picture, Sees
from va.extract.reading import Front
from va.extract.watch import Watch


@pytest.mark.parametrize("array", [np.arange(6, dtype=np.uint8).reshape(2, 3), np.ones((1, 4, 2), np.float32)])
def test_arrays_arrive_as_they_were_sent(array: np.ndarray) -> None:
    here, there = Pipe()
    reading.send(there, {"kind": "inputs", "rows": [3]}, array.swapaxes(0, 1))
    header, found = reading.receive(here)
    assert header["kind"] == "inputs" and header["rows"] == [3]
    assert found is not None and found.dtype == array.dtype
    np.testing.assert_array_equal(found, array.swapaxes(0, 1))


def test_a_header_alone() -> None:
    here, there = Pipe()
    reading.send(there, {"kind": "end"})
    assert reading.receive(here) == ({"kind": "end"}, None)


@pytest.mark.parametrize(
    "header",
    [
        {"shape": [2], "dtype": "object"},
        {"shape": [2], "dtype": "float64"},
        {"shape": [1 << 40], "dtype": "uint8"},
        {"shape": [1 << 20, 1 << 20], "dtype": "uint8"},
        {"shape": [1 << 32, 1 << 32], "dtype": "uint8"},
        {"shape": [0], "dtype": "uint8"},
        {"shape": [-1, -1], "dtype": "uint8"},
        {"shape": [], "dtype": "uint8"},
        {"shape": ["x"], "dtype": "uint8"},
        [1, 2],
        "text",
    ],
)
def test_claims_that_do_not_fit_are_refused(header: Any) -> None:
    here, there = Pipe()
    there.send_bytes(json.dumps(header).encode())
    with pytest.raises(ValueError, match=r"array of|no object|invalid literal"):
        reading.receive(here)


def test_fewer_bytes_than_announced_are_refused() -> None:
    here, there = Pipe()
    there.send_bytes(json.dumps({"shape": [4], "dtype": "uint8"}).encode())
    there.send_bytes(b"abc")
    with pytest.raises(ValueError, match="another size than announced"):
        reading.receive(here)


def test_a_pickle_is_no_message() -> None:
    here, there = Pipe()
    there.send({"kind": "end"})  # multiprocessing's own way, by pickle
    with pytest.raises(ValueError):
        reading.receive(here)


def test_a_closed_pipe_is_an_end() -> None:
    here, there = Pipe()
    there.close()
    with pytest.raises(EOFError):
        reading.receive(here)


def enlarged(values: np.ndarray, *, factor: float) -> np.ndarray:
    CALLS.append(factor)
    return np.asarray(values * factor, np.float32)


CALLS: list[float] = []


class Seen:
    """Stands for `Pictures`: three cells, the second one without a picture, the third without a box."""

    def of(self, path: Path, **_: Any) -> Iterator[Picture | None]:
        yield Picture(np.full((4, 5, 3), 1, np.uint8), np.full(5, 7, np.float32))
        yield None
        yield Picture(np.full((4, 5, 3), 3, np.uint8), None)


def test_encoders_that_make_the_same_of_a_picture_share_it() -> None:
    """By settings that are equal, not by objects: those of two encoders are two."""
    CALLS.clear()
    unlike = np.ones(1)  # NumPy's arrays cannot be compared as a whole
    transforms: dict[str, tuple[Callable[..., np.ndarray], Sees]] = {
        "one": (partial(enlarged, factor=2.0), "picture"),
        "same": (partial(enlarged, factor=2.0), "picture"),
        "other": (partial(enlarged, factor=3.0), "picture"),
        "box": (partial(enlarged, factor=2.0), "box"),
        "array": (partial(np.multiply, unlike, dtype=np.float32), "picture"),
    }
    here, there = Pipe()
    config = ExtractConfig(corpus=Path("c"), out=Path("o"))
    watch = Watch(stall_s=0)
    clip = reading._Clip(there, "clip", Path("m.mp4"), Seen(), watch, config)  # type: ignore[arg-type]
    fronts = [
        Front(name=name, kind="frames", transform=transform, spectrum=None, sees=sees)
        for name, (transform, sees) in transforms.items()
    ]
    clip._see(None, [reading._Group(there, front, watch) for front in fronts])  # type: ignore[arg-type]
    sent = {}
    for _ in fronts:
        header, array = reading.receive(here)
        assert array is not None
        sent[header["encoder"]] = (header["rows"], [float(value) for value in array.reshape(len(array), -1)[:, 0]])
    assert sent == {
        "one": ([0, 2], [2.0, 6.0]),
        "same": ([0, 2], [2.0, 6.0]),
        "other": ([0, 2], [3.0, 9.0]),
        "box": ([0], [14.0]),
        "array": ([0, 2], [1.0, 3.0]),
    }
    assert sorted(CALLS) == [2.0, 2.0, 2.0, 3.0, 3.0]  # "same" made nothing of its own


def test_the_clip_models_of_one_size_share_their_pictures() -> None:
    """As `--encoders` loads them: the transforms of two models are equal where side and preprocessing are."""
    made = {}
    for name, settings in {"first": {}, "second": {}, "third": {"interpolation": "bilinear"}}.items():
        transform = partial(inputs.clip_picture, **{**CLIP, **settings})
        front = Front(name=name, kind="frames", transform=transform, spectrum=None)
        made[name] = reading._recipe(front)
    assert made["first"] == made["second"] != made["third"]


CLIP: dict[str, Any] = {"side": 224, "resize_mode": "shortest", "interpolation": "bicubic", "fill_color": 0}
