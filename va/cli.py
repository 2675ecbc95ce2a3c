"""The command `va`: its commands in one group, and what becomes of errors. The commands are in `va/commands`."""

import os
import signal
import sys
from typing import Annotated, Any, Final

import typer

from va import console, signals
from va.commands import (  # noqa: F401 - importing adds their commands
    corpora,
    features,
    heads,
    prediction,
    reproduction,
    results,
    sharing,
    system,
)
from va.commands.app import app
from va.errors import VAError
from va.version import __version__

app.add_typer(corpora.corpus_app, name="corpus")
app.add_typer(features.weights_app, name="weights")
app.add_typer(reproduction.reproduce_app, name="reproduce")

_ORDER: Final = (
    *("demo", "doctor", "extract", "verify", "prompts", "import-features"),
    *("train", "finetune", "sweep-grid", "ablate", "compare-encoders", "evaluate", "predict", "push"),
)
"""Commands as help lists them: in the order of the work, not of the files that they stand in."""
app.registered_commands.sort(key=lambda command: _ORDER.index(command.name or ""))

# typer re-exports or vendors click depending on its version; this is click's base of all usage errors in either.
_UsageError: Any = typer.BadParameter.__mro__[1]

_INTERRUPTED: Final = 128 + signal.SIGINT
"""Exit code of a program that SIGINT ended, as shells give it."""


def main() -> None:
    """Run the command line; a user's mistake becomes two lines and exit code 1 or 2, never a traceback."""
    os.environ["HDF5_PLUGIN_PATH"] = "::"  # HDF5's word for "load no plugin": va's files need none
    stop = signals.Stop()
    try:
        with signals.interrupting() as stop:
            status = app(standalone_mode=False)
    except VAError as error:
        console.error(error.message, error.hint)
        sys.exit(1)
    except _UsageError as error:
        if no_command := type(error).__name__ == "NoArgsIsHelpError":  # its message is the group's whole help
            typer.echo(error.format_message())
        command = error.ctx.command_path if error.ctx else "va"
        console.error("a command is missing" if no_command else error.format_message(), f"See '{command} --help'.")
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        status = _INTERRUPTED
    if status == _INTERRUPTED:  # typer's own answer to an interrupt
        status = 128 + (stop.signal or signal.SIGINT)
        console.note("interrupted" if stop.signal is None else f"stopped by {signal.Signals(stop.signal).name}")
    sys.exit(status if isinstance(status, int) else 0)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        console.say(f"va {__version__}")
        raise typer.Exit


if __name__ == "__main__":
    main()
