"""Fixtures of the evaluation tests."""

from collections.abc import Iterator
from typing import Any

import pytest
from browser import chromium
from small_corpus import small

__all__ = ["small"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, started once per module."""
    with chromium() as found:
        yield found
