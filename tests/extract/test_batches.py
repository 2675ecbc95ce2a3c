"""Batches of one size across owners: everything comes back once, in order, to whom it belongs."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from fakes import ear, eye

from va.extract.batches import Batch
from va.extract.config import ExtractConfig


def config(tmp_path: Any) -> ExtractConfig:
    return ExtractConfig(corpus=tmp_path, out=tmp_path, window_s=2.0, stride_s=1.0)


@pytest.mark.parametrize("seed", range(10))
def test_rows_come_back_to_their_owners_in_order(tmp_path: Any, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 9))
    calls: list[int] = []
    encoder = eye(config(tmp_path), calls=calls)
    got: dict[str, list[tuple[int, np.ndarray]]] = {}

    def deliver(owner: str, name: str, rows: list[int], counts: list[int], values: np.ndarray) -> None:
        assert name == "eye" and counts == [0] * len(rows) and values.dtype == np.float16
        got.setdefault(owner, []).extend(zip(rows, values.copy(), strict=True))

    batch = Batch[str](encoder, size=size, device=torch.device("cpu"), deliver=deliver)
    sent: dict[str, list[tuple[int, np.ndarray]]] = {}
    for number in range(int(rng.integers(1, 40))):
        owner = str(rng.integers(0, 4))
        image = rng.random(64 * 64 * 3, np.float32)
        batch.add(owner, number, image, 0)
        sent.setdefault(owner, []).append((number, image))
    batch.flush()
    assert set(calls) == {size} and len(calls) == -(-(number + 1) // size)
    assert {owner: [row for row, _ in rows] for owner, rows in got.items()} == {
        owner: [row for row, _ in rows] for owner, rows in sent.items()
    }
    for owner, rows in sent.items():
        for (_, image), (_, values) in zip(rows, got[owner], strict=True):
            expected = encoder.encode(torch.from_numpy(image[None])).numpy()[0]
            np.testing.assert_allclose(values, expected, rtol=2e-3, atol=1e-4)
    assert batch.busy_s > 0


def test_rows_of_spectrum_go_with_their_window(tmp_path: Any) -> None:
    encoder = ear(config(tmp_path), calls=[])
    got: list[tuple[list[int], list[int], np.ndarray]] = []
    batch = Batch[str](
        encoder,
        size=3,
        device=torch.device("cpu"),
        deliver=lambda owner, name, rows, counts, values: got.append((rows, counts, values.copy())),
    )
    window = np.zeros(200, np.float32)
    batch.add("a", 4, window, 150)
    batch.add("a", 5, window, 7)
    assert got == []
    batch.flush()
    ((rows, counts, values),) = got
    assert (rows, counts) == ([4, 5], [150, 7])
    assert (values[0] == 150).all() and (values[1] == 7).all()  # the encoder adds the count


def test_nothing_added_nothing_encoded(tmp_path: Any) -> None:
    calls: list[int] = []

    def deliver(*_: Any) -> None:
        raise AssertionError

    Batch[str](eye(config(tmp_path), calls=calls), size=3, device=torch.device("cpu"), deliver=deliver).flush()
    assert calls == []


@pytest.mark.gpu
def test_a_gpu_gives_the_same_rows(tmp_path: Any) -> None:
    """One batch is in flight while the next is filled: its inputs must not be overwritten."""
    encoder = eye(config(tmp_path), calls=[])
    weight = torch.randn(64 * 64 * 3, 33, generator=torch.Generator().manual_seed(0))
    on_gpu = weight.cuda()
    encoder = dataclasses.replace(encoder, encode=lambda images: images @ on_gpu / 1000)
    got: list[np.ndarray] = []
    batch = Batch[str](
        encoder,
        size=4,
        device=torch.device("cuda"),
        deliver=lambda owner, name, rows, counts, values: got.append(values.copy()),
    )
    images = np.random.default_rng(0).random((50, 64 * 64 * 3), np.float32)
    for row, image in enumerate(images):
        batch.add("a", row, image, 0)
    batch.flush()
    np.testing.assert_allclose(np.concatenate(got), images @ weight.numpy() / 1000, rtol=1e-2, atol=1e-2)


def test_inputs_of_another_shape_or_type_do_not_fit(tmp_path: Any) -> None:
    """What a reader process sends is not believed: an odd one costs its clip, not the run."""
    batch = Batch[str](eye(config(tmp_path), calls=[]), size=3, device=torch.device("cpu"), deliver=lambda *_: None)
    assert batch.fits(np.zeros((2, 7), np.uint8)), "the first ones say what the others are like"
    batch.add("a", 0, np.zeros(64 * 64 * 3, np.float32), 0)
    assert batch.fits(np.zeros((2, 64 * 64 * 3), np.float32))
    for shape, kind in (((2, 7), np.float32), ((2, 64 * 64 * 3), np.uint8), ((2, 64, 64, 3), np.float32)):
        assert not batch.fits(np.zeros(shape, kind))
