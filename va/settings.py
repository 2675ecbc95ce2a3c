"""How a setting travels: one frozen dataclass per stage <-> TOML <-> CLI options <-> digest.

Standard library only, because every `config.py` and `cli.py` import it and `va --help` must stay quick.
A stage's `config.py` declares each setting once: the field gives name, type and default, the docstring
under it gives the help text. `options.py` turns the same fields into CLI options.
"""

import ast
import dataclasses
import functools
import hashlib
import inspect
import itertools
import json
import math
import os
import sys
import types
import typing
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeVar

from va import bounded
from va.errors import VAError

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Setting:
    """One field of a stage's config, as the CLI and the TOML reader see it.

    Args:
        name: Field name, which is also the TOML key; `--out-dir` on the command line for `out_dir`.
        kind: Its type: bool, int, float, str, Path, a Literal of strings, or a tuple of one of these.
        default: Its default, or `dataclasses.MISSING` when the user must give it.
        help: The docstring under the field.
        positional: True for a CLI argument without dashes.
        label: How usage names an argument, where its own name does not do.
        spelled: Its name in TOML and on the command line, where Python has that word for itself.
    """

    name: str
    kind: Any
    default: Any
    help: str
    positional: bool
    label: str = ""
    spelled: str = ""

    @property
    def key(self) -> str:
        """Its name in TOML and, with dashes, on the command line."""
        return self.spelled or self.name


def argument(*, label: str = "", **options: Any) -> Any:
    """A dataclass field that is a positional CLI argument and a path, so outside the digest; any number for a tuple."""
    return dataclasses.field(metadata={"positional": True, "digest": False, "label": label}, **options)


def outside_digest(*, spelled: str = "", **options: Any) -> Any:
    """A dataclass field that does not change results: paths, device, worker count; `spelled` as in `Setting`."""
    return dataclasses.field(metadata={"digest": False, "spelled": spelled}, **options)


def settings_of(cls: type) -> tuple[Setting, ...]:
    """List the settings of a config dataclass in the order they are declared."""
    hints = typing.get_type_hints(cls)
    helps = {name: text for base in reversed(cls.__mro__[:-1]) for name, text in _field_docstrings(base).items()}
    found = []
    for field in dataclasses.fields(cls):
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        found.append(
            Setting(
                name=field.name,
                kind=_without_none(hints[field.name]),
                default=default,
                help=helps.get(field.name, ""),
                positional=bool(field.metadata.get("positional")),
                label=field.metadata.get("label", ""),
                spelled=field.metadata.get("spelled", ""),
            )
        )
    return tuple(found)


def resolve(
    cls: type[Config], *, section: str, sections: Collection[str], file: Path | None, flags: Mapping[str, Any]
) -> Config:
    """Build a config from defaults, then a TOML file's section, then flags; the later wins.

    Args:
        cls: The stage's config dataclass.
        section: Table of the TOML file that belongs to this stage, e.g. `train`.
        sections: All stages' tables; another one is a misspelling, and its settings would silently do nothing.
        file: TOML file, or None.
        flags: Values from the command line; None means "not given".

    Raises:
        VAError: An unknown table or key, a value of the wrong type or out of range, or a missing required setting.
    """
    known = {setting.name: setting for setting in settings_of(cls)}
    by_key = {setting.key: setting for setting in known.values()}
    values: dict[str, Any] = {}
    for key, value in (_toml_section(file, section, sections) if file else {}).items():
        if key not in by_key:
            raise VAError(
                f"{file}: [{section}] has no setting named '{key}'",
                f"Known settings: {', '.join(by_key)}.",
            )
        values[by_key[key].name] = convert(value, by_key[key].kind, where=f"{file}: [{section}] {key}")
    for key, value in flags.items():
        if value is not None and not (value == [] and known[key].positional):  # no words are "not given"
            values[key] = convert(value, known[key].kind, where=flag_name(known[key]))
    for setting in known.values():
        if setting.default is dataclasses.MISSING and setting.name not in values:
            raise VAError(
                f"{flag_name(setting)} is missing",
                f"Give it on the command line, or as '{setting.key}' under [{section}] in a --config file.",
            )
    return cls(**values)


def flag_name(setting: Setting) -> str:
    """Spell a setting as the user types it: `CORPUS` for an argument, `--batch-size` for an option."""
    return setting.label or setting.name.upper() if setting.positional else "--" + setting.key.replace("_", "-")


def is_list(setting: Setting) -> bool:
    """Say whether a setting takes several values; as an argument, that is as many words as the user gives."""
    return typing.get_origin(setting.kind) is tuple


def type_label(kind: Any) -> str:
    """Describe a setting's type for help texts and errors, e.g. `INT` or `both|face|voice`."""
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return f"{type_label(typing.get_args(kind)[0])},..."
    return {int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH", bool: "true|false"}[kind]


def convert(value: Any, kind: Any, *, where: str) -> Any:
    """Turn text from the command line, or a TOML value, into a setting's type.

    Raises:
        VAError: The value is not of that type; `where` names the option or the key.
    """
    if typing.get_origin(kind) is tuple:
        items = [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise VAError(f"{where}: {value!r} is not a list", "Separate the values with commas.")
        return tuple(convert(item, typing.get_args(kind)[0], where=where) for item in items)
    if typing.get_origin(kind) is typing.Literal:
        if value in typing.get_args(kind):
            return value
    elif kind is bool:
        if isinstance(value, bool):
            return value
    elif isinstance(value, bool):
        pass  # TOML's true is an int to Python; as a number or a text it is a mistake
    elif kind in (str, Path) and isinstance(value, str | Path):
        return kind(value)
    elif kind is int and isinstance(value, int | str) and _is(int, value):
        return int(value)
    elif kind is float and isinstance(value, int | float | str) and _is(float, value):
        return float(value)
    raise VAError(f"{where}: {value!r} is not a valid value", f"Expected {type_label(kind)}.")


def as_dict(config: Any, *, digest_only: bool = False) -> dict[str, Any]:
    """Turn a config into plain JSON values; with `digest_only`, only the fields that change results."""
    return {
        field.metadata.get("spelled") or field.name: _plain(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if not digest_only or field.metadata.get("digest", True)
    }


def without_paths(config: Any) -> dict[str, Any]:
    """Turn a config into plain JSON values for a page that is passed on, without the places of this machine."""
    places = {setting.key for setting in settings_of(type(config)) if isinstance(getattr(config, setting.name), Path)}
    places |= {"ray_address"}
    return {name: value for name, value in as_dict(config).items() if name not in places}


def digest(values: Mapping[str, Any]) -> str:
    """Give eight hexadecimal digits that change when any of `values` (plain JSON data) changes."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def require(condition: bool, *, option: str, value: Any, expected: str) -> None:
    """Check a range in a config's `__post_init__`.

    Raises:
        VAError: `condition` is false.
    """
    if not condition:
        raise VAError(f"{option}: {value!r} is out of range", f"Expected {expected}.")


def require_outside(out: Path, tree: Path) -> None:
    """Check that results do not go among a data set's own files, where its next reader would take them for data.

    Args:
        out: What --out names; it need not exist.
        tree: Top folder of the data set.

    Raises:
        VAError: They would: it is that folder or one in it, if only through a link.
    """
    # As they lie, and as they are spelt: readers of a tree follow links that lead out of it.
    for where in (os.path.realpath, lambda path: os.path.normpath(Path(path).absolute())):
        if Path(where(out)).is_relative_to(where(tree)):
            raise VAError(
                f"--out {out}: is in the data set {tree}; results would lie among the data and be read as such later",
                "Give a folder outside of it to --out; nothing in a data set is changed.",
            )


def _is(kind: type, value: Any) -> bool:
    try:
        return math.isfinite(kind(value))
    except (ValueError, OverflowError):
        return False


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _without_none(kind: Any) -> Any:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return next(option for option in typing.get_args(kind) if option is not type(None))
    return kind


def _toml_section(file: Path, section: str, sections: Collection[str]) -> Mapping[str, Any]:
    data = bounded.read_toml(file, option="--config")
    for key, table in data.items():
        if not isinstance(table, Mapping):
            raise VAError(f"{file}: '{key}' is not in a table", f"Write [{section}] above the settings of that stage.")
        if key not in sections:
            raise VAError(f"{file}: there is no stage [{key}]", f"Known tables: {', '.join(sorted(sections))}.")
    found: Mapping[str, Any] = data.get(section, {})
    return found


def _field_docstrings(cls: type) -> dict[str, str]:
    """Read the string under each field, which Python itself does not keep, from the class's source."""
    file = sys.modules[cls.__module__].__file__
    return _docstrings_of(file).get(cls.__qualname__, {}) if file else {}


@functools.cache
def _docstrings_of(file: str) -> dict[str, dict[str, str]]:
    """Read a file's classes once: finding them one by one costs a third of `va --help`."""
    found: dict[str, dict[str, str]] = {}
    inside: list[tuple[str, ast.AST]] = [("", ast.parse(Path(file).read_text(encoding="utf-8")))]
    while inside:
        prefix, scope = inside.pop()
        for node in ast.iter_child_nodes(scope):
            if isinstance(node, ast.FunctionDef):
                inside.append((f"{prefix}{node.name}.<locals>.", node))
            elif isinstance(node, ast.ClassDef):
                inside.append((f"{prefix}{node.name}.", node))
                found[f"{prefix}{node.name}"] = _strings_under_fields(node)
    return found


def _strings_under_fields(definition: ast.ClassDef) -> dict[str, str]:
    return {
        field.target.id: inspect.cleandoc(text.value.value)
        for field, text in itertools.pairwise(definition.body)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
        and isinstance(text.value, ast.Constant)
        and isinstance(text.value.value, str)
    }
