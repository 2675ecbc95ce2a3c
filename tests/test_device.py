"""Which device a `--device` setting means, with GPUs that are only pretended."""

import os

import pytest
import torch

from va.device import choose_device, free_bytes
from va.errors import VAError


def pretend(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


@pytest.mark.parametrize(
    ("name", "gpus", "expected"),
    [("auto", 0, "cpu"), ("auto", 1, "cuda"), ("cpu", 1, "cpu"), ("cuda", 1, "cuda"), ("cuda:1", 2, "cuda:1")],
)
def test_choice(monkeypatch: pytest.MonkeyPatch, name: str, gpus: int, expected: str) -> None:
    pretend(monkeypatch, gpus)
    assert choose_device(name) == torch.device(expected)


@pytest.mark.parametrize(
    ("name", "gpus", "message"),
    [
        ("cuda", 0, "'cuda', but torch sees 0 GPUs"),
        ("cuda:1", 1, "'cuda:1', but torch sees 1 GPUs"),
        ("gpu", 1, "'gpu' is not a device"),
        ("", 1, "'' is not a device"),
        ("meta", 1, "'meta' is not supported"),
    ],
)
def test_what_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, gpus: int, message: str) -> None:
    pretend(monkeypatch, gpus)
    with pytest.raises(VAError, match=f"^--device: {message}"):
        choose_device(name)


def test_free_memory_is_some_of_what_there_is() -> None:
    free = free_bytes(torch.device("cpu"))
    assert 1e7 < free <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
