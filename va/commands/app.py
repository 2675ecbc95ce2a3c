"""The command group that every command joins; a module of its own, so that no command imports another."""

import typer

app = typer.Typer(
    name="va",
    help="Valence and arousal over time from video and sound: extract once, train in seconds, report with intervals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
