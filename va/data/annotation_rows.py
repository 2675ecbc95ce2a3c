"""One line of an annotation -> two numbers, whatever separates them and whichever sign marks decimals."""

import itertools
import re
from collections.abc import Sequence
from typing import Final, NamedTuple

NOT_A_NUMBER: Final = "not-a-number"

_NUMBER: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_WITH_COMMA: Final = re.compile(r"[+-]?\d+,\d+", re.ASCII)
_WHOLE: Final = re.compile(r"[+-]?\d+\s*[,;\t ]\s*[+-]?\d+", re.ASCII)
_THREE: Final = re.compile(r"[+-]?\d+,[+-]?\d+,[+-]?\d+", re.ASCII)
_FOUR: Final = re.compile(r"[+-]?\d+,\d+,[+-]?\d+,\d+", re.ASCII)
_SAMPLED: Final = 200


class Row(NamedTuple):
    """A line as it was understood.

    Attributes:
        values: Valence and arousal in the order of the columns; None where the line does not say two numbers.
        kinds: Its problems, by the names in `docs/checking.md`.
    """

    values: tuple[float, float] | None
    kinds: tuple[str, ...]


def uses_decimal_commas(lines: Sequence[str]) -> bool:
    """Say whether the lines of a text have commas as decimals: most of those do that are not two whole numbers.

    `0,5` alone is two whole numbers, not one with a comma, so that lines of three or four parts, or parted by something
    else, must be seen.
    """
    step = max(1, len(lines) // _SAMPLED)
    votes = [vote for line in lines[::step] if (vote := _votes_for_commas(line.strip())) is not None]
    return 2 * sum(votes) > len(votes)


def _votes_for_commas(line: str) -> bool | None:
    if not line or _WHOLE.fullmatch(line):
        return None
    parts = re.split(r";|\s+", re.sub(r"\s*;\s*", ";", line))
    if len(parts) == 2:
        return any(map(_WITH_COMMA.fullmatch, parts))
    if _FOUR.fullmatch(line):
        return True
    return _THREE.fullmatch(line) is not None and len(_joined(line.split(","))) == 2


def read_row(line: str, *, commas: bool) -> Row:
    """Read one line.

    Args:
        line: Without its end.
        commas: Whether the text has commas as decimals.

    Returns:
        The numbers, also those outside [-1, 1], and what is wrong with the line.
    """
    kinds: list[str] = []
    stripped = line.strip()
    if not stripped:
        return Row(None, ("blank-line",))
    parts = _parts(stripped, kinds, commas=commas)
    if commas and any("," in part for part in parts):
        kinds.append("decimal-comma")
        parts = [part.replace(",", ".") for part in parts]
    if len(parts) != 2:
        return Row(None, (*kinds, "columns"))
    if not all(_NUMBER.fullmatch(part) for part in parts):
        return Row(None, (*kinds, NOT_A_NUMBER))
    return Row((float(parts[0]), float(parts[1])), tuple(kinds))


def _parts(line: str, kinds: list[str], *, commas: bool) -> list[str]:
    for separator in (";", "\t"):
        if separator in line:
            kinds.append("separator")
            return [part.strip() for part in line.split(separator) if part.strip()]
    if "," not in line or (commas and len(line.split()) == 2 and not re.search(r",\s", line)):
        if len(line.split()) > 1:
            kinds.append("separator")
        return line.split()
    parts = [part.strip() for part in line.split(",")]
    return _joined(parts) if commas else parts


def _joined(parts: list[str]) -> list[str]:
    """Join whole numbers and decimals that a comma parts: `0,5,0,25` and, where one of the two is whole, `0,5,1`.

    Of three parts only one way to join them may give labels; else the line is ambiguous and stays as it is.
    """
    if len(parts) == 4:
        return [",".join(parts[:2]), ",".join(parts[2:])]
    if len(parts) != 3:
        return parts
    ways = [[f"{parts[0]},{parts[1]}", parts[2]], [parts[0], f"{parts[1]},{parts[2]}"]]
    sound = [way for way in ways if all(map(_is_label, way))]
    return sound[0] if len(sound) == 1 or (sound and _same(sound)) else parts


def _is_label(part: str) -> bool:
    if not _NUMBER.fullmatch(part.replace(",", ".")):
        return False
    value = float(part.replace(",", "."))
    return abs(value) <= 1 or value == -5


def _same(ways: list[list[str]]) -> bool:
    """Say whether all ways give the same numbers."""
    return all(
        [float(part.replace(",", ".")) for part in one] == [float(part.replace(",", ".")) for part in other]
        for one, other in itertools.pairwise(ways)
    )
