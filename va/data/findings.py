"""What a check found: how bad, in which file and line, what to do, and what `--fix` would decide.

`docs/checking.md` lists every kind of finding.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from va import files
from va.data.decisions import Decision

Severity: TypeAlias = Literal["error", "warning", "note"]
"""An error costs the clip or makes its labels wrong; a warning may make a figure wrong; a note is harmless."""

SEVERITIES: Final[tuple[Severity, ...]] = ("error", "warning", "note")
COLUMNS: Final = ("severity", "kind", "file", "line", "clip", "what", "do", "fix")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that a check found.

    Args:
        severity: How bad it is.
        kind: A name that stays the same between versions, e.g. `decimal-comma`.
        file: The file or folder it is about.
        line: Line in that file, from 1; 0 where it is about no line.
        clip: The clip it is about; "" for none.
        what: One sentence: what is wrong.
        do: One sentence: what the user can do.
        fix: What `--fix` writes to the manifest; None where a person must choose.
    """

    severity: Severity
    kind: str
    file: str
    line: int = 0
    clip: str = ""
    what: str
    do: str
    fix: Decision | None = None

    def row(self) -> dict[str, Any]:
        """Give it as plain JSON, under the names in `COLUMNS`."""
        fix = "" if self.fix is None else self.fix.do
        return {name: getattr(self, name) for name in COLUMNS[:-1]} | {"fix": fix}


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort by severity, the worst first, then by kind, file and line."""
    return tuple(
        sorted(findings, key=lambda one: (SEVERITIES.index(one.severity), one.kind, one.file, one.line, one.clip))
    )


def count(findings: Iterable[Finding]) -> dict[str, int]:
    """Count the findings of each severity."""
    found = [one.severity for one in findings]
    return {severity: found.count(severity) for severity in SEVERITIES}


def write_csv(path: Path, findings: Sequence[Finding]) -> None:
    """Write all findings as UTF-8 CSV with the columns in `COLUMNS`, whole or not at all.

    A cell that a spreadsheet would run as a formula gets an apostrophe in front, as in `predictions.csv`.

    Raises:
        VAError: The file cannot be written.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for one in findings:
        row = one.row()
        writer.writerow({name: files.safe_cell(cell) if isinstance(cell, str) else cell for name, cell in row.items()})
    # A file name that is not UTF-8 holds lone surrogates, which no UTF-8 text can.
    files.write_bytes(path, text.getvalue().encode("utf-8", errors="replace"))
