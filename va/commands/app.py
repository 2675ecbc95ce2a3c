"""The command group that every command joins; a module of its own, so that no command imports another."""

from typing import Any

import typer
import typer.core

_WIDEST = 100
"""Columns of a help text: longer lines are hard to follow from one to the next."""


class Group(typer.core.TyperGroup):
    """Commands whose list says each one's first sentence in full."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the list: click's own cuts each sentence to what fits one line, and it says what a command is for."""
        shown = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, command.get_short_help_str(limit=500)) for name, command in shown if command is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def group(text: str) -> typer.Typer:
    """Make a group of commands, whose help is plain text: names, types and texts in columns need 150 columns.

    Args:
        text: What its help says first.
    """
    return typer.Typer(
        cls=Group,
        help=text,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"max_content_width": _WIDEST},
    )


app = group(
    "Valence and arousal over time from video and sound: extract once, train in seconds, report with intervals."
)
