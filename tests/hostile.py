"""Puts a hostile text into every place of a contract that holds a text, one at a time."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

HOSTILE = "</td></script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{lead}}"
MARKS = ("<script>alert(1)", "<img src=x")
"""What must not stand in a page as it is."""


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all texts; of a list's items, which are alike, the first and the last stand for all."""
    if isinstance(value, str):
        yield before
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*before, key))
    elif isinstance(value, list | tuple):
        for index in sorted({0, len(value) - 1}) if value else ():
            yield from places(value[index], (*before, index))


def leaks(contract: Any, render: Callable[[Any], str]) -> tuple[list[tuple[Any, ...]], int]:
    """Give the places from which a text reached the page as markup, and how many texts reached it at all.

    A place whose text decides what is drawn may refuse another one, with whatever exception.
    """
    found, shown = [], 0
    for place in places(contract):
        changed = copy.deepcopy(contract)
        inner = changed
        for key in place[:-1]:
            inner = inner[key]
        if isinstance(inner, tuple):
            continue
        inner[place[-1]] = HOSTILE + inner[place[-1]]
        try:
            page = render(changed)
        except Exception:
            continue
        shown += "alert(1)" in page
        if any(mark in page for mark in MARKS):
            found.append(place)
    return found, shown
