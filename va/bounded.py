"""Text, JSON and TOML from elsewhere, read only as far as such a file can be believed. Standard library only."""

import json
import math
import os
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any, Final

from va.errors import VAError

LARGEST_JSON: Final = 64 << 20
"""Bytes of a JSON file: a manifest of 100,000 clips has 20 million; what 64 MiB can become in memory is borne."""
LARGEST_TOML: Final = 1 << 20
"""Bytes of a TOML file: people write them, and Python's parser takes seconds for a hostile megabyte."""
_LONG_KEY: Final = re.compile(r"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){64}""", re.ASCII)
"""Python's parser takes memory by the square of a dotted name's length: half a megabyte of dots takes 250 GB."""
LARGEST_TEXT: Final = 256 << 20
"""Bytes of a text of one line per frame: three times those of a list of all frames of Aff-Wild2."""


def read_text(path: Path, *, largest: int, encoding: str = "utf-8") -> str:
    """Read a text file as `Path.read_text` does, but none that is larger than such a file can be.

    Args:
        path: The file; a pipe or a device counts by what it gives.
        largest: Bytes.
        encoding: How it is written.

    Raises:
        OSError: It cannot be read.
        ValueError: It is larger, or written otherwise (UnicodeDecodeError).
    """
    with path.open("rb") as file:
        too_large = os.fstat(file.fileno()).st_size > largest
        content = b"" if too_large else file.read(largest + 1)  # what is no file has no size
    if too_large or len(content) > largest:
        raise ValueError(f"it has more than {largest:,} bytes")
    return content.decode(encoding).replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str | bytes) -> Any:
    """Parse JSON from elsewhere: no NaN, no infinity, no name twice in an object, whatever depth.

    Raises:
        ValueError: It is not such JSON.
    """
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_without_duplicates)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path, *, what: str, hint: str, largest: int = LARGEST_JSON) -> dict[str, Any]:
    """Read a JSON object.

    Args:
        path: The file.
        what: What it should be, for the error, e.g. "a corpus manifest".
        hint: What the user can do when it is missing or broken.
        largest: Bytes that it may have.

    Raises:
        VAError: It is missing, unreadable, too large, not JSON (`parse_json`), or not an object.
    """
    try:
        data = parse_json(read_text(path, largest=largest))
    except OSError as error:
        raise VAError(f"{path}: cannot be read as {what} ({error.strerror})", hint) from None
    except ValueError as error:
        raise VAError(f"{path}: is not {what} ({error})", hint) from None
    if not isinstance(data, dict):
        raise VAError(f"{path}: is not {what} (no JSON object)", hint)
    return data


def read_toml(path: Path, *, option: str) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        path: The file.
        option: The option that named it, for the errors.

    Raises:
        VAError: It is missing, unreadable, too large or not TOML.
    """
    try:
        text = read_text(path, largest=LARGEST_TOML, encoding="utf-8-sig")
        if _LONG_KEY.search(text):
            raise ValueError("a name has too many dots")
        return tomllib.loads(text)
    except OSError as error:
        raise VAError(f"{path}: cannot be read ({error.strerror})", f"Check the path given to {option}.") from None
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:  # tomllib's own, Unicode's, and Python's of integers with thousands of digits
        problem = str(error)
    raise VAError(f"{path}: is not valid TOML ({problem})", f"Correct the file given to {option}.")


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large for a number")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"{twice[:60]!r} stands twice in one object")
    return made
