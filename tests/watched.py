"""Runs Python under the watch of `pickle_watch/sitecustomize.py`, and reads what it wrote down."""

import json
import os
from pathlib import Path
from typing import Any

WATCH = Path(__file__).parent / "pickle_watch"


def environment(log: Path) -> dict[str, str]:
    """The environment of a process that is watched, as are all that it starts."""
    paths = [str(WATCH), str(WATCH.parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "VA_PICKLE_LOG": str(log)}


def lines(log: Path) -> list[dict[str, Any]]:
    """Every unpickling that was seen."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
