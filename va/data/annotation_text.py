"""Annotation text as years of copying left it: every problem by line, and the labels as the text is most likely meant.

`labels.py` says what the text should be. Nothing here refuses a file: whoever calls decides what to do about problems.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from va.data.annotation_rows import NOT_A_NUMBER, read_row, uses_decimal_commas
from va.data.findings import Severity
from va.data.labels import MOST_BYTES, NO_LABEL
from va.errors import VAError

_READABLE: Final = 0.05
"""A text of which a larger share of the lines makes no sense is not understood at all."""

_AS_HEADER: Final = "Write 'valence,arousal' as the first line, in the order of the columns."

_LINEWISE: Final[dict[str, tuple[str, str]]] = {
    "blank-line": ("is empty", "Write -5,-5 for a frame without a label, or remove the line if it is no frame."),
    "columns": ("does not hold two numbers", "Correct the line; write -5,-5 for a frame without a label."),
    NOT_A_NUMBER: ("holds something that is not a number", "Write -5,-5 for a frame without a label."),
    "separator": ("is not separated by a comma", "Separate valence and arousal by a comma."),
    "decimal-comma": ("has commas as decimals", "Write points as decimals: 0.5,-0.25."),
    "out-of-range": ("is outside [-1, 1] and not -5", "Correct it; labels on another scale must be rescaled."),
}
"""Problems of single lines, told once per file: what is said of the first line, and what to do."""


class Problem(NamedTuple):
    """One problem of a text; `findings.Finding` says what the parts mean."""

    severity: Severity
    kind: str
    line: int
    what: str
    do: str


@dataclass(frozen=True, kw_only=True)
class Text:
    """What a text says.

    Args:
        problems: In the order of the lines.
        digest: BLAKE2b-128 of the bytes, 32 hexadecimal digits.
        encoding: Of the text, by Python's name.
        columns: `valence,arousal` or `arousal,valence`.
        decimals: `point` or `comma`.
        va: float32 [frames, 2] in [-1, 1], 0 where invalid; no frame where the text cannot be understood.
        valid: bool [frames], False where a line says -5 or nothing that is a label.
        unread: bool [frames], True where a line says neither a label nor -5.
    """

    problems: tuple[Problem, ...]
    digest: str
    encoding: str = "utf-8"
    columns: str = "valence,arousal"
    decimals: str = "point"
    va: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    valid: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    unread: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))

    @property
    def reading(self) -> dict[str, str]:
        """How it was understood, for people."""
        return {"encoding": self.encoding, "columns": self.columns, "decimals": self.decimals, "digest": self.digest}


def examine_file(path: Path) -> Text:
    """Examine a file; one that cannot be read is a problem like others."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(MOST_BYTES + 1)
    except OSError as error:
        said = f"cannot be read ({error.strerror})"
        return Text(problems=(Problem("error", "unreadable", 0, said, "Check path and permissions."),), digest="")
    if len(raw) > MOST_BYTES:
        said = f"is larger than {MOST_BYTES >> 20} MB, which is no annotation of a video"
        return Text(problems=(Problem("error", "too-large", 0, said, "Is this the right file?"),), digest="")
    return examine(raw)


def read_as_meant(path: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read a file as it is most likely meant, where `labels.read_annotation` refuses it; gives what that gives.

    Lines that say nothing are frames without a label.

    Raises:
        VAError: It cannot be understood; names the line.
    """
    text = examine_file(path)
    if not len(text.valid):
        problem = next(one for one in reversed(text.problems) if one.severity == "error")
        place = f"{path}, line {problem.line}" if problem.line else str(path)
        raise VAError(f"{place}: {problem.what}", problem.do)
    return text.va, text.valid


def examine(raw: bytes) -> Text:
    """Find every problem of an annotation text and read it as it is most likely meant.

    Args:
        raw: The file's bytes.

    Returns:
        The problems of lines once per kind, with the first line and how many there are.
    """
    problems: list[Problem] = []
    digest = hashlib.blake2b(raw, digest_size=16).hexdigest()
    text, encoding = _decode(raw, problems.append)
    if text is None:
        return Text(problems=tuple(problems), digest=digest, encoding=encoding)
    lines = _split(text, problems.append)
    if not lines:
        problems.append(Problem("error", "empty", 0, "is empty", "Restore the file, or remove it."))
        return Text(problems=tuple(problems), digest=digest, encoding=encoding)
    swapped, has_header = _header(lines[0], problems.append)
    if swapped is None:
        return Text(problems=tuple(problems), digest=digest, encoding=encoding)
    columns = "arousal,valence" if swapped else "valence,arousal"
    found = _rows(lines[1:] if has_header else lines, first_line=2 if has_header else 1, tell=problems.append)
    if found is None:
        return Text(problems=tuple(problems), digest=digest, encoding=encoding, columns=columns)
    values, decimals = found
    values = np.ascontiguousarray(values[:, ::-1]) if swapped else values
    # NaN, for a line that says nothing, fails the comparison, so it is not valid either.
    valid = np.asarray((np.abs(values) <= 1).all(axis=1))
    _content(values, valid, first_line=2 if has_header else 1, tell=problems.append)
    return Text(
        problems=tuple(problems),
        digest=digest,
        encoding=encoding,
        columns=columns,
        decimals=decimals,
        va=np.where(valid[:, None], values, 0).astype(np.float32),
        valid=valid,
        unread=_unread(values),
    )


Tell = Callable[[Problem], None]


def _decode(raw: bytes, tell: Tell) -> tuple[str | None, str]:
    """Turn bytes into text, None where they are none, and name the encoding."""
    again = "Save the file as UTF-8."
    for mark, encoding in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if raw.startswith(mark):
            tell(Problem("error", "encoding", 1, "is UTF-16 text, not UTF-8", again))
            return raw[len(mark) :].decode(encoding, errors="replace"), encoding
    if raw.startswith(b"\xef\xbb\xbf"):
        tell(Problem("warning", "byte-order-mark", 1, "begins with a byte order mark", "Save it as UTF-8 without BOM."))
        raw = raw[3:]
    try:
        text = raw.decode("utf-8")
        at = text.find("\0")
        encoding, likely = "utf-8", ""
    except UnicodeDecodeError as error:
        at = error.start
        # Bytes 0x80 to 0x9f are letters and quotes on Windows, and control characters nobody writes in Latin-1.
        encoding = "cp1252" if re.search(rb"[\x80-\x9f]", raw) else "latin-1"
        text, likely = raw.decode(encoding, errors="replace"), f"; it looks like {encoding}"
    if re.search(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]", text):
        line = text.count("\n", 0, max(at, 0)) + 1
        tell(Problem("error", "not-text", line, "is not a text file", "An annotation is text; is it the right file?"))
        return None, encoding
    if likely:
        line = raw.count(b"\n", 0, at) + 1
        tell(Problem("error", "encoding", line, f"is not UTF-8 (byte 0x{raw[at]:02x}){likely}", again))
    return text, encoding


def _split(text: str, tell: Tell) -> list[str]:
    """Cut the text into lines, without the empty ones after the last."""
    ends = [("\r\n", "Windows"), ("\r", "old Macintosh")]
    rest = text
    for end, name in ends:
        if end in rest:
            line = len(re.findall(r"\r\n|\r|\n", text[: text.find(end)])) + 1
            said = f"has {name} line ends"
            tell(Problem("note", "line-ends", line, said, "Nothing: they are read like others."))
            rest = rest.replace(end, "\n")
    lines = rest.split("\n")
    kept = len(lines)
    while kept and not lines[kept - 1].strip():
        kept -= 1
    blank = len(lines) - kept - (1 if kept < len(lines) and lines[-1] == "" else 0)
    if kept and blank > 0:
        tell(
            Problem(
                "note", "blank-end", kept + 1, f"ends in {_times(blank, 'empty line')}", "Nothing: they are no frames."
            )
        )
    return lines[:kept]


def _header(line: str, tell: Tell) -> tuple[bool | None, bool]:
    """Say whether the columns are exchanged, None where they are unknown, and whether there is a header at all."""
    names = [part for part in re.split(r"[,;\t ]+", line.strip().lower().replace('"', "").replace("'", "")) if part]
    if names == ["valence", "arousal"]:
        if "," not in line:
            tell(Problem("error", "header", 1, "does not separate its header by a comma", _AS_HEADER))
        return False, True
    if names == ["arousal", "valence"]:
        said = "has the columns in the order arousal,valence"
        tell(Problem("error", "columns-swapped", 1, said, "Exchange the columns, or their names if only those are."))
        return True, True
    if read_row(line, commas=False).values is not None or read_row(line, commas=True).values is not None:
        said = "has no header; the columns are taken for valence,arousal"
        tell(Problem("error", "header-missing", 1, said, _AS_HEADER))
        return False, False
    said = f"has the header {line.strip()[:60]!r} instead of 'valence,arousal'"
    tell(Problem("error", "header", 1, said, "Is it the annotation of another challenge? " + _AS_HEADER))
    return None, True


def _rows(lines: list[str], *, first_line: int, tell: Tell) -> tuple[NDArray[np.float64], str] | None:
    """Read all lines after the header; None where too few make sense. NaN stands for a line without two numbers."""
    if not lines:
        tell(Problem("error", "no-frames", first_line, "has a header but no frames", "Restore its lines."))
        return None
    values, decimals = _at_once(lines), "point"
    met: dict[str, tuple[int, int, str]] = {}

    def meet(kind: str, line: int, shown: str) -> None:
        first, times, example = met.get(kind, (line, 0, shown))
        met[kind] = (first, times + 1, example)

    if values is None:
        commas = uses_decimal_commas(lines)
        decimals = "comma" if commas else "point"
        rows = [read_row(line, commas=commas) for line in lines]
        values = np.array([row.values or (np.nan, np.nan) for row in rows], np.float64)
        for number, (row, shown) in enumerate(zip(rows, lines, strict=True), start=first_line):
            for kind in row.kinds:
                meet(kind, number, shown)
    for index in np.flatnonzero(_astray(values)).tolist():
        meet("out-of-range", first_line + index, lines[index])
    for kind, (line, times, shown) in sorted(met.items(), key=lambda item: item[1][0]):
        said, todo = _LINEWISE[kind]
        what = f"{said}: {shown.strip()[:60]!r}" if shown.strip() else said
        tell(Problem("error", kind, line, what + (f" ({times} lines in all)" if times > 1 else ""), todo))
    wrong = int(_unread(values).sum())
    if wrong > _READABLE * len(lines) and wrong > 1:
        said = f"has {wrong} lines of {len(lines)} that are no labels, too many to use the others"
        tell(Problem("error", "not-understood", first_line, said, "Correct the file, or remove it."))
        return None
    return values, decimals


def _at_once(lines: list[str]) -> NDArray[np.float64] | None:
    """Read clean lines as fast as NumPy can; None where any line needs a closer look."""
    if not all(line.count(",") == 1 for line in lines):
        return None
    try:
        values = np.loadtxt(lines, np.float64, delimiter=",", comments=None, ndmin=2)
    except ValueError:
        return None
    fits = values.shape == (len(lines), 2) and bool(np.isfinite(values).all())
    return values if fits else None


def _astray(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which rows have a value that is neither a label nor "no label"; NaN is no value."""
    off: NDArray[np.bool_] = ((np.abs(values) > 1) & (values != NO_LABEL)).any(axis=1)
    return off


def _unread(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which rows are no labels and do not say so."""
    return np.isnan(values).any(axis=1) | _astray(values)


def _content(values: NDArray[np.float64], valid: NDArray[np.bool_], *, first_line: int, tell: Tell) -> None:
    """Look at the labels themselves."""
    half = (values == NO_LABEL).sum(axis=1) == 1
    if half.any():
        line = first_line + int(np.flatnonzero(half)[0])
        said = f"has -5 for one of valence and arousal only, on {_times(int(half.sum()), 'line')}"
        tell(Problem("note", "half-label", line, said, "Nothing: by the challenge's rule such a frame has no label."))
    share = 1 - float(valid.mean())
    if share == 1:
        tell(Problem("warning", "unlabelled", first_line, "has no frame with a label", "Is it of the test split?"))
    elif share >= 0.5:
        first = first_line + int(np.flatnonzero(~valid)[0])
        said = f"has no label for {share:.0%} of its {len(valid)} frames"
        tell(Problem("warning", "mostly-unlabelled", first, said, "Compare it with the original."))
    labels = values[valid]
    if len(labels) > 1 and (labels == labels[0]).all():
        said = f"says {labels[0][0]:g},{labels[0][1]:g} of all its {len(labels)} labelled frames"
        tell(Problem("warning", "constant", first_line, said, "Compare it with the original; leave the clip out."))


def _times(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
