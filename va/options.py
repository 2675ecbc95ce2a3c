"""Typer commands generated from a stage's config dataclass, so that no option or default is declared twice."""

import dataclasses
import inspect
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from va import settings

Config = TypeVar("Config")

_sections: set[str] = set()


def stage(
    app: typer.Typer, name: str, config: type[Config], *, section: str | None = None
) -> Callable[[Callable[[Config], None]], Callable[[Config], None]]:
    """Register `function(config)` as the command `name`, with one option per field of `config`.

    Args:
        app: Where the command goes.
        name: The command's name.
        config: The stage's config dataclass; its fields become arguments and options.
        section: Table of a `--config` TOML file, by default the command's name.

    Returns:
        A decorator that leaves the function as it was.
    """
    _sections.add(section or name)

    def register(function: Callable[[Config], None]) -> Callable[[Config], None]:
        def command(**given: Any) -> None:
            file = given.pop("config")
            found = settings.resolve(config, section=section or name, sections=_sections, file=file, flags=given)
            function(found)

        parameters = [_parameter(setting) for setting in settings.settings_of(config)]
        parameters.sort(key=lambda parameter: not _is_argument(parameter))
        parameters.append(
            inspect.Parameter(
                "config",
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[
                    Path | None,
                    typer.Option(help="TOML file with one table per stage; an option given here wins."),
                ],
            )
        )
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        command.__doc__ = function.__doc__
        command.__name__ = name
        app.command(name)(command)
        return function

    return register


def _parameter(setting: settings.Setting) -> inspect.Parameter:
    required = setting.default is dataclasses.MISSING
    text = setting.help.replace("\n", " ")
    if not required and setting.default not in (None, (), ""):
        text += f" (default: {_shown(setting.default)})"
    if required:
        text += " (required)"
    # Text, not a parsed type: `settings.convert` reads TOML and command line alike, with one kind of error.
    kind: Any = bool if setting.kind is bool else str
    if setting.positional and settings.is_list(setting):
        kind = list[str]  # a word each, so that a name may hold a comma
    label = None if setting.kind is bool else settings.type_label(setting.kind)
    info: Any
    if setting.positional:
        info = typer.Argument(help=text, metavar=settings.flag_name(setting), show_default=False)
    else:
        declared = (settings.flag_name(setting),) if setting.spelled else ()
        info = typer.Option(*declared, help=text, metavar=label, show_default=False)
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[typing.Optional[kind], info],  # noqa: UP045 - built at run time
    )


def _is_argument(parameter: inspect.Parameter) -> bool:
    return isinstance(typing.get_args(parameter.annotation)[1], typer.models.ArgumentInfo)


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value)
    if isinstance(value, bool):
        return "on" if value else "off"
    return str(value)
