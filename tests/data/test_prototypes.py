"""Text prototypes beside the features: exact in JSON, and refused when malformed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from va.data import prototypes
from va.data.prototypes import Prototypes
from va.errors import VAError


@pytest.fixture
def made() -> Prototypes:
    values = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    values[0, :3] = [np.float32(1) / 3, 1e-38, -0.0]
    return Prototypes(texts=("happy, Å", "sad", "calm"), templates=("a {}", "the {}"), values=values)


def test_round_trip_to_the_last_bit(tmp_path: Path, made: Prototypes) -> None:
    prototypes.write(tmp_path, made)
    found = prototypes.read(tmp_path)
    assert (found.texts, found.templates) == (made.texts, made.templates)
    assert found.values.dtype == np.float32
    assert found.values.tobytes() == made.values.tobytes()


def test_values_that_are_not_finite_are_not_written(tmp_path: Path, made: Prototypes) -> None:
    made.values[0, 0] = np.nan
    with pytest.raises(ValueError, match="Out of range float"):
        prototypes.write(tmp_path, made)
    assert list(tmp_path.iterdir()) == []


def test_none_at_all_says_where_they_come_from(tmp_path: Path) -> None:
    with pytest.raises(VAError, match="cannot be read as text prototypes") as caught:
        prototypes.read(tmp_path)
    assert "CLIP" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("values"),
        lambda data: data.pop("texts"),
        lambda data: data.update(values=[[1, 2], [3]]),
        lambda data: data.update(values=[["a"], ["b"], ["c"]]),
        lambda data: data["values"].pop(),
        lambda data: data.update(values=[1, 2, 3]),
        lambda data: data["values"][0].__setitem__(0, float("nan")),
        lambda data: data["values"][0].__setitem__(0, 1e300),
        lambda data: data.update(texts=3),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_malformed_prototypes_are_refused(tmp_path: Path, made: Prototypes, change: Any) -> None:
    prototypes.write(tmp_path, made)
    file = tmp_path / "prototypes.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))
    with pytest.raises(VAError, match=r"prototypes.json: (is malformed|is not text prototypes|has \()"):
        prototypes.read(tmp_path)
