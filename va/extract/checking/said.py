"""A check as a person reads it in the terminal."""

from pathlib import Path
from typing import Final

from va.data import findings as found
from va.extract.checking.run import Checked

_SHOWN: Final = 12
"""Rows of one kind; the file has them all."""

HEADER: Final = ("severity", "kind", "where", "what", "what to do")


def rows(checked: Checked) -> list[tuple[str, ...]]:
    """Give the table, the most severe first, each kind cut to a dozen rows and a count; paths are below the root."""
    shown, kinds = list[tuple[str, ...]](), dict[tuple[str, str], int]()
    for one in checked.findings:
        key = (one.severity, one.kind)
        kinds[key] = kinds.get(key, 0) + 1
    so_far = dict.fromkeys(kinds, 0)
    for one in checked.findings:
        key = (one.severity, one.kind)
        so_far[key] += 1
        if so_far[key] <= _SHOWN:
            where = _short(one.file, checked.root) + (f", line {one.line}" if one.line else "")
            shown.append((one.severity, one.kind, where, one.what, one.do))
        elif so_far[key] == kinds[key]:
            shown.append((one.severity, one.kind, f"and {kinds[key] - _SHOWN} more", "", ""))
    return [tuple(map(_printable, row)) for row in shown]


def summary(checked: Checked) -> str:
    """Say in one line what was found."""
    counts = found.count(checked.findings)
    parts = [f"{number} {name}" + ("" if number == 1 else "s") for name, number in counts.items()]
    return f"{checked.clips} clips checked: " + ", ".join(parts)


def decisions(checked: Checked) -> str:
    """Say in one line what `--fix` has decided or would decide; "" where that is nothing."""
    if checked.decided:
        errors = f"{checked.errors} error" + ("" if checked.errors == 1 else "s")
        return f"{len(checked.decided)} decided in corpus.json, {errors} left; --unfix takes them back"
    return f"{checked.decidable} can be decided: --fix" if checked.decidable else ""


def _short(file: str, root: Path) -> str:
    path = Path(file)
    return str(path.relative_to(root)) if path.is_relative_to(root) else file


def _printable(text: str) -> str:
    """Replace the lone surrogates of file names that are not UTF-8, which no terminal takes."""
    return text.encode("utf-8", errors="replace").decode("utf-8")
