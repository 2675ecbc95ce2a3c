"""Weights carry a checksum: damage is told from weights, whatever byte it hits; older runs load with a note."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from va import files, settings
from va.data.regions import REGION_TEXTS
from va.errors import VAError
from va.model import layers
from va.train import checkpoint
from va.train.config import TrainConfig

SIZES = {"frame_dim": 3, "audio_dim": 3, "audio_cnn": False}


def make_run(directory: Path, *, members: int = 0) -> Path:
    """Write a run of a tiny head, or an ensemble of such."""
    where = {name: Path("nowhere") for name in ("corpus", "features", "out")}
    config = TrainConfig(**where, width=4, num_heads=1)
    heads = [checkpoint.make_head(config, SIZES, prototypes=torch.ones(9, 2)) for _ in range(max(1, members))]
    checkpoint.save_weights(directory, (layers.stack(heads) if members else heads[0]).state_dict())
    info = {
        "schema": checkpoint.SCHEMA,
        "config": settings.as_dict(config),
        "shape": {**SIZES, "num_regions": 9, "text_dim": 2},
        "members": [f"m{number}" for number in range(members)],
        "encoders": {kind: {"encoder": "x"} for kind in ("face", "voice")},
        "region_texts": list(REGION_TEXTS),
    }
    files.write_json(directory / "run.json", info)
    return directory


@pytest.fixture(params=[0, 2], ids=["head", "ensemble"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", members=request.param)


def assert_noticed(run: Path, whole: bytes, damaged: bytes) -> None:
    (run / "model.safetensors").write_bytes(damaged)
    with pytest.raises(VAError, match=r"model.safetensors: does not hold this run's weights") as caught:
        checkpoint.load_run(run)
    assert caught.value.hint
    (run / "model.safetensors").write_bytes(whole)


def test_what_was_saved_is_loaded_without_a_word(run: Path) -> None:
    saved = load_file(run / "model.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = checkpoint.load_run(run).head.state_dict()
    assert found.keys() == saved.keys()
    assert all(torch.equal(found[name], saved[name]) for name in saved)


def test_a_wrong_bit_anywhere_is_noticed(run: Path) -> None:
    whole = (run / "model.safetensors").read_bytes()
    places = {0, 7, 8, len(whole) - 1} | {int(at) for at in np.random.default_rng(0).integers(0, len(whole), 150)}
    places |= set(range(8, 200, 7))  # the checksum itself, and names, stand there
    for at in places:
        assert_noticed(run, whole, whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])


@pytest.mark.slow
def test_a_wrong_bit_at_every_place_is_noticed(run: Path) -> None:
    whole = (run / "model.safetensors").read_bytes()
    for at in range(len(whole)):
        assert_noticed(run, whole, whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])


def test_a_file_cut_off_or_swapped_inside_is_noticed(run: Path) -> None:
    whole = (run / "model.safetensors").read_bytes()
    for length in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        assert_noticed(run, whole, whole[:length])
    tensors = load_file(run / "model.safetensors")
    name = next(name for name, tensor in tensors.items() if len(tensor.unique()) > 1)
    raw = tensors[name].numpy().tobytes()
    assert_noticed(run, whole, whole.replace(raw, raw[4:] + raw[:4]))


def test_an_older_run_loads_with_a_note(run: Path) -> None:
    tensors = load_file(run / "model.safetensors")
    save_file(tensors, run / "model.safetensors")
    with pytest.warns(UserWarning, match=r"model.safetensors: has no checksum, an older va wrote it"):
        found = checkpoint.load_run(run).head.state_dict()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


def test_a_file_that_names_no_checksum_is_refused(run: Path) -> None:
    tensors = load_file(run / "model.safetensors")
    save_file(tensors, run / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(VAError, match="does not hold this run's weights"):
        checkpoint.load_run(run)
