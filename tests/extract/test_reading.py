"""The wire between readers and the parent: what does not fit is refused, and nothing can execute."""

import json
from multiprocessing import Pipe
from typing import Any

import numpy as np
import pytest

from va.extract import reading


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
