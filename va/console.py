"""What a person sees in the terminal: progress, tables, one line per epoch. The only module that imports rich.

Stages know nothing of it: they report through callbacks. Without a terminal there is no animation, only lines.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from va import signals

_out = Console(highlight=False, emoji=False)
_err = Console(stderr=True, highlight=False, emoji=False)
_errors = Console(stderr=True, highlight=False, emoji=False)
_SILENCE_S = 600.0

_UNSEEN: Final = (*range(0x20), *range(0x7F, 0xA0), 0x200E, 0x200F, 0x2028, 0x2029, *range(0x202A, 0x202F))
_UNSEEN_TOO: Final = (*range(0x2066, 0x206A), 0x061C, 0xFEFF, *range(0xD800, 0xE000))
_SHOWN: Final = {code: repr(chr(code))[1:-1] for code in (*_UNSEEN, *_UNSEEN_TOO) if chr(code) != "\t"}
"""What moves the cursor, colours, clears, rings, begins a line, turns the direction of writing, or cannot be written at
all: each is shown as Python spells it, so that a name in a manifest from elsewhere forges nothing on the screen."""


def escape(text: str) -> str:
    """Give a text as one line that a terminal shows as it is."""
    return escape_markup(text.translate(_SHOWN))


def hush() -> None:
    """Print nothing from now on but errors: of several processes that do one thing, one reports."""
    _out.quiet = _err.quiet = True


def say(text: str) -> None:
    """Print one line on standard output, unwrapped, so that scripts can read it."""
    _out.print(escape(text), soft_wrap=True)


def note(text: str) -> None:
    """Print one line on standard error: for people, not for scripts."""
    _err.print(escape(text), soft_wrap=True)


def error(message: str, hint: str) -> None:
    """Print the two lines of an error."""
    _errors.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)
    _errors.print(f"[bold]fix:[/] {escape(hint)}", soft_wrap=True)


def settings(title: str, values: dict[str, Any]) -> None:
    """Print a resolved config on standard error, compactly."""
    shown = ", ".join(f"{name}={value}" for name, value in values.items() if value not in (None, [], ""))
    _err.print(f"[dim]{escape(title)}: {escape(shown)}[/]", soft_wrap=True)


@contextlib.contextmanager
def progress(title: str, *, quiet: bool = False, estimate: bool = True) -> Iterator[Callable[..., None]]:
    """Show a progress bar while the block runs.

    Args:
        title: What is being done.
        quiet: Show nothing.
        estimate: Show the time left as done and total give it; False where the stage knows better and says so.

    Yields:
        A callback `(done, total)` or `(done, total, what)`, as stages call it.
    """
    columns = [TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn()]
    columns += [TimeRemainingColumn()] if estimate else []
    columns += [TextColumn("[dim]{task.fields[what]}")]
    if quiet or _err.quiet:
        yield lambda *_: None
        return
    if not _err.is_terminal:
        yield _lines(title)
        return
    with Progress(*columns, console=_err, transient=False) as bar:
        task = bar.add_task(escape(title), total=None, what="")

        def update(done: int, total: int, what: str = "") -> None:
            signals.heed()
            bar.update(task, completed=done, total=total, what=escape(what))

        yield update


@contextlib.contextmanager
def stoppable(kept: Callable[[], str]) -> Iterator[None]:
    """Say what is kept, and how to go on, where somebody stops the block."""
    try:
        yield
    except KeyboardInterrupt:
        note(kept())
        raise


def table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], *, aside: bool = False, text: int = 1
) -> None:
    """Print a table, `aside` on standard error; the first `text` columns are text, the others are numbers."""
    shown = Table(title=escape(title), title_justify="left")
    for position, name in enumerate(header):
        shown.add_column(escape(name), justify="left" if position < text else "right", overflow="fold")
    for row in rows:
        shown.add_row(*(escape(cell) for cell in row))
    (_err if aside else _out).print(shown)


def _lines(title: str) -> Callable[..., None]:
    """Report progress in plain lines, one per tenth or ten minutes, for logs and batch schedulers."""
    last, said_s = -1, time.monotonic()

    def update(done: int, total: int, what: str = "") -> None:
        nonlocal last, said_s
        signals.heed()
        tenth = 10 * done // max(1, total)
        if tenth != last or time.monotonic() - said_s > _SILENCE_S:
            last, said_s = tenth, time.monotonic()
            note(f"{title}: {done} of {total}" + (f", {what}" if what else ""))

    return update
