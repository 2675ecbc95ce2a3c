"""Data into HTML and JSON without surprises: whatever a file or a clip is called, it stays text.

A page written with these helpers runs no script but its own and loads nothing, even if one of its texts were not
escaped: its content security policy names the scripts by hash.
"""

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

TEMPLATES: Final = Path(__file__).with_name("templates")


def text(value: object) -> str:
    """Escape for HTML text and for quoted attributes.

    Args:
        value: Anything with a string form.
    """
    return html.escape(_encodable(str(value)), quote=True)


def number(value: float | None, decimals: int = 3) -> str:
    """Write a number with a true minus sign; "n/a" where there is none.

    Args:
        value: Any float; None, as JSON has it, or what is not finite is no number.
        decimals: Digits after the point.
    """
    if value is None or not math.isfinite(value):
        return "n/a"
    return f"{value:z.{decimals}f}".replace("-", "\N{MINUS SIGN}")


def terms(pairs: Iterable[tuple[str, str]]) -> str:
    """The items of a description list.

    Args:
        pairs: Term and description, unescaped.
    """
    return "".join(f"<div><dt>{text(key)}</dt><dd>{text(value)}</dd></div>" for key, value in pairs)


def row_head(name: str, note: str) -> str:
    """Write a row's name and, below it, what it is.

    Args:
        name: Unescaped.
        note: Likewise; "" for nothing.
    """
    under = f'<span class="row-note">{text(note)}</span>' if note else ""
    return f'<th scope="row">{text(name)}{under}</th>'


def scrolling_table(kind: str, heading: str, head: str, *bodies: Iterable[str]) -> str:
    """Put rows into a table that scrolls sideways where the page is narrow.

    Args:
        kind: Its class.
        heading: The id of the heading that names it.
        head: Final HTML of its head.
        bodies: Final HTML of its rows, group by group.
    """
    groups = "".join(f"<tbody>{''.join(body)}</tbody>" for body in bodies)
    return (
        f'<div class="scroll" role="region" aria-labelledby="{heading}" tabindex="0"><table class="{kind}" '
        f'aria-labelledby="{heading}"><thead>{head}</thead>{groups}</table></div>'
    )


def plain(value: object) -> object:
    """Reduce a value to what strict JSON holds: arrays and tuples become lists, NaN and infinity null.

    Args:
        value: Numbers, strings, None, arrays, and mappings or sequences of these.

    Raises:
        ValueError: Something in it has no JSON form.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return _encodable(value)
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, Mapping):
        return {_encodable(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    raise ValueError(f"a {type(value).__name__} has no JSON form")


def script_json(value: object) -> str:
    """Strict JSON for the inside of a script element, which it can neither end nor break a line in.

    Args:
        value: As for `plain`.
    """
    # ASCII output escapes U+2028 and U+2029, which end a line in a script.
    dumped = json.dumps(plain(value), allow_nan=False, separators=(",", ":"))
    return dumped.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def policy(scripts: Iterable[str], *, media: str | None = None) -> str:
    """Content security policy under which only the given scripts run and nothing is loaded.

    Args:
        scripts: The exact texts of the page's script elements.
        media: Where video may come from, in the policy's own words, e.g. "blob:"; None for nowhere.
    """
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    played = f"media-src {media}; " if media else ""
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; {played}"
        "base-uri 'none'; form-action 'none'"
    )


def template(name: str) -> str:
    """Read a file of `templates/`.

    Args:
        name: Its name, e.g. "report.html".
    """
    return (TEMPLATES / name).read_text(encoding="utf-8")


def fill(page: str, parts: Mapping[str, str]) -> str:
    """Put parts in the place of `{{name}}`, in one pass: a placeholder inside a part stays text.

    Args:
        page: The template.
        parts: Final HTML by name.

    Raises:
        KeyError: A placeholder has no part.
    """
    return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], page)


def _encodable(value: str) -> str:
    """Replace lone surrogates, which Python uses for bytes in file names that are not UTF-8."""
    return value.encode("utf-8", errors="replace").decode("utf-8")
