"""The text tower's file: the same tensors again, and refused when anything about it is off."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_tower import content, random_tensors

from va.data import texttower
from va.data.texttower import NAME
from va.errors import VAError

WEIGHTS = "0" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "features" / "eye-12345678"
    texttower.write(made, content(random_tensors()))
    return made


def test_round_trip_to_the_last_bit(folder: Path) -> None:
    found = texttower.find(folder, weights=WEIGHTS)
    tensors = random_tensors()
    assert found.about == content(tensors).about
    assert (found.width, found.dim, found.places, found.layers, found.about.longest) == (12, 8, 16, 2, 5)
    loaded = found.load()
    assert loaded.keys() == tensors.keys()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert [file.name for file in folder.iterdir()] == [NAME]


def test_others_can_read_it_as_they_can_the_prototypes(folder: Path) -> None:
    (folder / "other").write_text("x")
    assert (folder / NAME).stat().st_mode == (folder / "other").stat().st_mode


def test_the_checksum_sees_values_names_shapes_and_dtypes() -> None:
    tensors = random_tensors()
    before = texttower.checksum(tensors)
    assert before == texttower.checksum(dict(reversed(tensors.items())))
    start = tensors["start"]
    for changed in (start + 1e-6, start.view(1, -1), start.double(), start.view(torch.int32)):
        assert texttower.checksum(tensors | {"start": changed}) != before
    assert texttower.checksum({"a": start}) != texttower.checksum({"b": start})


def test_none_at_all_says_what_makes_one(folder: Path) -> None:
    (folder / NAME).unlink()
    with pytest.raises(VAError, match="has no text tower, which --context trains through") as told:
        texttower.find(folder, weights=WEIGHTS)
    assert told.value.hint == f"Run 'va prompts {folder.parent} --tower --encoder eye-12345678'."


def test_another_encoders_tower_is_refused(folder: Path) -> None:
    with pytest.raises(VAError, match=f"is of weights {WEIGHTS}, the features were made with ffff") as told:
        texttower.find(folder, weights="ffff")
    assert "--tower" in told.value.hint


@pytest.mark.parametrize("cut", [1, 2000])
def test_a_file_that_was_cut_off_is_refused(folder: Path, cut: int) -> None:
    whole = (folder / NAME).read_bytes()
    (folder / NAME).write_bytes(whole[:-cut])
    with pytest.raises(VAError, match="cannot be read as a text tower"):
        texttower.find(folder, weights=WEIGHTS)
    (folder / NAME).write_bytes(b"")
    with pytest.raises(VAError, match="cannot be read as a text tower"):
        texttower.find(folder, weights=WEIGHTS)


def test_a_flipped_bit_is_seen(folder: Path) -> None:
    whole = bytearray((folder / NAME).read_bytes())
    whole[-100] ^= 1
    (folder / NAME).write_bytes(whole)
    with pytest.raises(VAError, match="its checksum is another"):
        texttower.find(folder, weights=WEIGHTS).load()


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": 2},
        {"texts": ["one"]},
        {"texts": [], "tokens": []},
        {"texts": None},
        {"tokens": [[1]] * 8 + [[]]},
        {"tokens": [["x"]] * 9},
        {"tokens": [[1, 2]] * 9},
        {"heads": "2"},
        {"eps": None},
        {"activation": 1},
        {"more": 1},
    ],
)
def test_a_header_that_is_off_is_refused(folder: Path, changes: dict[str, Any]) -> None:
    tensors = random_tensors()
    about = json.loads(json.dumps({"schema": 1, **vars(content(tensors).about)})) | changes
    save_file(tensors, folder / NAME, metadata={"tower": json.dumps(about)})
    with pytest.raises(VAError, match="cannot be read as a text tower"):
        texttower.find(folder, weights=WEIGHTS)


@pytest.mark.parametrize("metadata", [None, {}, {"tower": "{"}, {"tower": "[]"}])
def test_a_file_without_a_description_is_refused(folder: Path, metadata: dict[str, str] | None) -> None:
    save_file(random_tensors(), folder / NAME, metadata=metadata)
    with pytest.raises(VAError, match="cannot be read as a text tower"):
        texttower.find(folder, weights=WEIGHTS)
