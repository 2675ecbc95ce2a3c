"""What a child process does instead of converting a video; a module of its own, because the child finds it by name."""

import os
import time
from typing import Any

from va.evaluate.media import preview


def crash(*_: object, signal_number: int) -> None:
    os.kill(os.getpid(), signal_number)


def sleep(*_: object) -> None:
    time.sleep(60)


def starve(*arguments: Any) -> None:
    """Runs in the child process, where nothing is patched."""
    preview._MEMORY_BYTES = 40_000_000  # type: ignore[misc]
    preview._serve(*arguments)
