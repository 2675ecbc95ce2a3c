"""What the documentation tells people to type: its pages, their blocks and lines, and what each line needs."""

import functools
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import typer

from va import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))

_NEEDS = re.compile(r"#.*\bneeds (a network|a GPU|several GPUs|several machines|a camera|an idle machine)\b")
"""What a test has not: said behind a command, or on a line of its own for all commands down to an empty line."""
_OWN_TEST = re.compile(r"<!-- (commands|examples) run by (tests/\S+\.py) -->")
"""Says, on a page, which other test runs its shell blocks or its Python blocks."""
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_USAGE_ERROR: Any = typer.BadParameter.__mro__[1]


class Block(NamedTuple):
    """A fenced block: its language, and its text."""

    language: str
    text: str


class Line(NamedTuple):
    """A line of a shell block: as it stands there, and what it needs that a test has not, or nothing."""

    text: str
    needs: str


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks_of(text: str) -> list[Block]:
    return [Block(*found) for found in _BLOCK.findall(text)]


def own_tests_of(text: str) -> dict[str, str]:
    """Name the tests of a page's own, by what they run: `commands`, `examples`."""
    return dict(_OWN_TEST.findall(text))


def commands_to_run(text: str) -> list[Line]:
    """List the commands that nothing else runs, and that need no more than a test has."""
    return [] if "commands" in own_tests_of(text) else [line for line in lines_of(text) if not line.needs]


def examples_to_run(text: str) -> list[str]:
    """List the Python blocks that nothing else runs."""
    if "examples" in own_tests_of(text):
        return []
    return [block.text for block in blocks_of(text) if block.language == "python"]


def lines_of(text: str) -> list[Line]:
    """List the commands of a page's shell blocks; lines that end in a backslash are joined."""
    lines = []
    for block in blocks_of(text):
        if block.language != "sh":
            continue
        needed = ""
        for line in block.text.replace("\\\n", " ").splitlines():
            found = _NEEDS.search(line)
            if not line.strip():
                needed = ""
            elif line.lstrip().startswith("#"):
                needed = found[1] if found else needed
            else:
                lines.append(Line(line, found[1] if found else needed))
    return lines


def prose_of(text: str) -> str:
    """Give a page without its fenced blocks."""
    return _BLOCK.sub("", text)


def commands_of(line: str) -> list[list[str]]:
    """Split a shell line into the words of its commands, without comment."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    commands: list[list[str]] = [[]]
    for word in lexer:
        if word in ("&&", "|", ";"):
            commands.append([])
        else:
            commands[-1].append(word)
    return [command for command in commands if command]


def arguments_of(words: list[str]) -> list[str] | None:
    """Give what follows `va`, called by name, by path or as `... -m va`; None for another program."""
    if Path(words[0]).name == "va":
        return words[1:]
    for place in range(1, len(words)):
        if words[place - 1 : place + 1] == ["-m", "va"]:
            return words[place + 1 :]
    return None


@functools.cache
def root() -> Any:
    return typer.main.get_command(cli.app)


def command_of(arguments: list[str]) -> tuple[Any, list[str]]:
    """Find the command that is called, or the group where no command is, and what is left of the arguments."""
    command = root()
    rest = list(arguments)
    while rest and rest[0] in getattr(command, "commands", ()):
        command = command.commands[rest.pop(0)]
    return command, rest


def options_of(command: Any) -> set[str]:
    return {"--help"} | {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


def all_options(command: Any = None) -> set[str]:
    """Give every option of every command."""
    command = command or root()
    return options_of(command).union(*(all_options(inner) for inner in getattr(command, "commands", {}).values()))


def misuse(arguments: list[str]) -> str:
    """Say what `va` would refuse of a command before it does anything, or nothing."""
    command, rest = command_of(arguments)
    if hasattr(command, "commands"):
        return "" if set(rest) <= options_of(command) else f"no such command: {' '.join(arguments)}"
    if "--help" in rest:
        rest.remove("--help")
    try:
        command.make_context(command.name, rest)
    except _USAGE_ERROR as error:
        return str(error.format_message())
    return ""
