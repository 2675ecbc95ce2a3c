"""Text tables of any make -> a header and rows of text: comma, semicolon or tab, ARFF, with or without a header.

ARFF is Weka's format: `@attribute <name> <type>` lines, then comma-separated rows under `@data`; `%` begins a comment.
"""

import csv
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from va.errors import VAError

_ATTRIBUTE = re.compile(r"""@attribute\s+(?:'([^']*)'|"([^"]*)"|(\S+))\s+\S.*""", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, eq=False)
class Rows:
    """A table.

    Args:
        path: The file.
        header: Names of the columns, in lower case and without blanks around them; empty where the file has none.
        rows: As many cells each as there are columns.
        lines: The line of each row, from 1.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    def column(self, name: str) -> tuple[str, ...]:
        """Give a column.

        Raises:
            VAError: There is none of that name, or two are.
        """
        if name.lower() not in self.header:
            known = ", ".join(self.header) or "no header"
            raise VAError(f"{self.path}: has no column '{name}'", f"Its columns: {known}.")
        one_each(self.path, [column for column in self.header if column == name.lower()])
        place = self.header.index(name.lower())
        return tuple(row[place] for row in self.rows)

    def numbers(self, place: int) -> NDArray[np.float64]:
        """Give a column as float64 [rows]; NaN where a cell is empty, `nan` or `?`.

        Raises:
            VAError: A cell is no number; names its line.
        """
        return np.array(
            [number(row[place], self.path, line) for row, line in zip(self.rows, self.lines, strict=True)], np.float64
        )


def one_each(path: Path, header: Sequence[str]) -> None:
    """Check that no two columns of a table have one name; those without a name are not asked for by it.

    Raises:
        VAError: Two have.
    """
    name = next((name for name, count in Counter(header).items() if name and count > 1), None)
    if name is not None:
        raise VAError(f"{path}: has two columns '{name}'", "Rename or remove one of them; capitals do not count.")


def number(cell: str, path: Path, line: int) -> float:
    """Read a cell as a finite number, NaN where it is empty, `nan` or `?`.

    Raises:
        VAError: It is none; names the line.
    """
    if cell.lower() in ("", "nan", "na", "?"):
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        raise VAError(f"{path}, line {line}: expected a number, found {cell[:60]!r}", "Correct the line.")
    return value


def read_rows(path: Path) -> Rows:
    """Read a table; a first line with a number in it is data, and the table has no header then.

    Raises:
        VAError: Unreadable, not UTF-8, or a row that is shorter or longer than the first; names file and line.
    """
    lines = [(place, line) for place, line in enumerate(_text(path).splitlines(), start=1) if line.strip()]
    header: tuple[str, ...] = ()
    if path.suffix.lower() == ".arff":
        header, lines = _arff(path, lines)
    if not lines:
        raise VAError(f"{path}: holds no row", "Remove the file or restore its lines.")
    delimiter = "," if header else max(";,\t", key=lines[0][1].count)
    rows = [_cells(path, place, line, delimiter) for place, line in lines]
    places = [place for place, _ in lines]
    if not header and not any(_is_number(cell) for cell in rows[0]):
        header, rows, places = tuple(cell.lower() for cell in rows[0]), rows[1:], places[1:]
    width = len(header) or len(rows[0])
    for row, place in zip(rows, places, strict=True):
        if len(row) != width:
            raise VAError(f"{path}, line {place}: has {len(row)} cells and not {width}", "Correct the line.")
    return Rows(path=path, header=header, rows=tuple(rows), lines=tuple(places))


def read_pairs(path: Path, header: tuple[str, str]) -> dict[str, str]:
    """Read an optional table of two columns, e.g. who is in which clip; empty where there is no such file.

    Raises:
        VAError: It is there, but unreadable, or of another header, or says two things of one name.
    """
    if not path.exists():
        return {}
    rows = read_rows(path)
    if rows.header != header:
        raise VAError(f"{path}: expected lines of '{','.join(header)}' under that header", "Correct or remove it.")
    found: dict[str, str] = {}
    for (name, value), line in zip(rows.rows, rows.lines, strict=True):
        if found.setdefault(name, value) != value:
            raise VAError(f"{path}, line {line}: '{name}' is '{found[name]}' and '{value}'", "Keep one of the two.")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise VAError(f"{path}: cannot be read ({error.strerror})", "Check the path and permissions.") from None
    except UnicodeDecodeError:
        raise VAError(f"{path}: cannot be read (it is not UTF-8 text)", "Save it as UTF-8 text.") from None


def _arff(path: Path, lines: list[tuple[int, str]]) -> tuple[tuple[str, ...], list[tuple[int, str]]]:
    """Split an ARFF file into its attributes and its rows."""
    lines = [(place, line.strip()) for place, line in lines if not line.lstrip().startswith("%")]
    header: list[str] = []
    for count, (_, line) in enumerate(lines, start=1):
        if line.lower().startswith("@data"):
            return tuple(header), lines[count:]
        if found := _ATTRIBUTE.fullmatch(line):
            header.append(next(name for name in found.groups() if name is not None).lower())
    raise VAError(f"{path}: has no @data", "An ARFF file names its columns and holds rows under @data.")


def _cells(path: Path, place: int, line: str, delimiter: str) -> tuple[str, ...]:
    try:
        (cells,) = csv.reader([line], delimiter=delimiter)
    except (csv.Error, ValueError) as error:
        raise VAError(f"{path}, line {place}: cannot be read ({error})", "Correct the line.") from None
    return tuple(cell.strip().strip("'") for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
