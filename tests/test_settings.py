"""One declaration of a setting: TOML, command line, defaults, help and digest."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import typer
from typer.testing import CliRunner

from va import options, settings
from va.data.config import AfewVaConfig, AffWild2Config, OmgConfig, RecolaConfig, SewaConfig, SynthConfig
from va.errors import VAError
from va.extract.config import ExtractConfig
from va.reproduce_config import ReproduceConfig
from va.settings import argument, convert, outside_digest, require, resolve


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A stage with one setting of every kind."""

    source: Path = argument()  # noqa: RUF009 - it makes a dataclass field
    """Where things are."""

    epochs: int = 15
    """How often,
    in epochs."""

    rate: float = 0.5
    """How fast, in Hz."""

    loud: bool = False
    """Whether to shout."""

    mode: Literal["both", "face"] = "both"
    """What to use."""

    centers: tuple[float, ...] = (-0.66, 0.0, 0.66)
    """Where the regions are."""

    names: tuple[str, ...] = ()
    """Who."""

    weights: Path | None = outside_digest(default=None)  # noqa: RUF009
    """A local file."""

    start: Path | None = outside_digest(default=None, spelled="from")  # noqa: RUF009
    """Where to begin."""

    def __post_init__(self) -> None:
        require(self.epochs > 0, option="--epochs", value=self.epochs, expected="at least 1")


def toml(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "run.toml"
    file.write_text(text, encoding="utf-8")
    return file


def resolved(file: Path | None = None, **flags: Any) -> Sample:
    return resolve(Sample, section="sample", sections=("sample", "other"), file=file, flags={"source": "here", **flags})


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("12", int, 12),
        (-3, int, -3),
        ("0.25", float, 0.25),
        ("1e-4", float, 1e-4),
        (3, float, 3.0),
        ("some text", str, "some text"),
        ("a/b", Path, Path("a/b")),
        (True, bool, True),
        ("face", Literal["both", "face"], "face"),
        ("-1, 0,1", tuple[float, ...], (-1.0, 0.0, 1.0)),
        ([1, 2.5], tuple[float, ...], (1.0, 2.5)),
        ("a,b,", tuple[str, ...], ("a", "b")),
        ("", tuple[str, ...], ()),
    ],
)
def test_conversion(value: Any, kind: Any, expected: Any) -> None:
    found = convert(value, kind, where="--x")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "kind", "label"),
    [
        ("1.5", int, "INT"),
        (1.0, int, "INT"),
        (True, int, "INT"),
        ("fast", float, "NUMBER"),
        ("nan", float, "NUMBER"),
        (math.inf, float, "NUMBER"),
        (10**400, float, "NUMBER"),
        (True, float, "NUMBER"),
        (3, str, "TEXT"),
        (True, str, "TEXT"),
        (3, Path, "PATH"),
        ("true", bool, "true|false"),
        (1, bool, "true|false"),
        ("voice", Literal["both", "face"], "both|face"),
        (["a"], tuple[float, ...], "NUMBER"),
        ("1,b", tuple[int, ...], "INT"),
    ],
)
def test_a_wrong_value_names_its_place_and_what_was_expected(value: Any, kind: Any, label: str) -> None:
    with pytest.raises(VAError) as caught:
        convert(value, kind, where="--some-option")
    assert caught.value.message.startswith("--some-option: ")
    assert caught.value.hint == f"Expected {label}."


def test_a_number_is_not_a_list() -> None:
    with pytest.raises(VAError, match="--centers: 3 is not a list"):
        convert(3, tuple[float, ...], where="--centers")


def test_defaults() -> None:
    assert resolved() == Sample(source=Path("here"))


def test_file_wins_over_default_and_flag_over_file(tmp_path: Path) -> None:
    file = toml(tmp_path, '[sample]\nepochs = 3\nrate = 2\ncenters = [-1, 1]\nweights = "w"\n[other]\nepochs = 9\n')
    assert resolved(file) == Sample(source=Path("here"), epochs=3, rate=2.0, centers=(-1.0, 1.0), weights=Path("w"))
    assert resolved(file, epochs="4", rate=None).epochs == 4
    assert resolved(file, epochs="4", rate=None).rate == 2.0
    # A flag that equals the default must win too.
    assert resolved(file, epochs="15").epochs == 15


def test_a_setting_may_be_spelled_like_a_word_of_python(tmp_path: Path) -> None:
    assert resolved(toml(tmp_path, '[sample]\nfrom = "there"\n')).start == Path("there")
    assert resolved(start="here").start == Path("here")
    assert settings.as_dict(resolved(start="here"))["from"] == "here"
    with pytest.raises(VAError, match="--from: 3 is not a valid value"):
        resolved(start=3)
    with pytest.raises(VAError, match="no setting named 'start'"):
        resolved(toml(tmp_path, '[sample]\nstart = "there"\n'))
    app = typer.Typer()
    found: list[Sample] = []
    options.stage(app, "sample", Sample)(found.append)
    assert CliRunner().invoke(app, ["x", "--from", "there"]).exit_code == 0
    assert found[0].start == Path("there")


def test_a_positional_setting_can_come_from_the_file(tmp_path: Path) -> None:
    file = toml(tmp_path, '[sample]\nsource = "there"\n')
    found = resolve(Sample, section="sample", sections=("sample",), file=file, flags={"source": None})
    assert found.source == Path("there")


def test_a_file_without_the_section_changes_nothing(tmp_path: Path) -> None:
    assert resolved(toml(tmp_path, "[other]\nx = 1\n")) == resolved()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[sample]\nepoch = 3\n", r"run.toml: \[sample\] has no setting named 'epoch'"),
        ("[sample]\nepochs = 'many'\n", r"run.toml: \[sample\] epochs: 'many' is not a valid value"),
        ("[sample]\nloud = 1\n", r"run.toml: \[sample\] loud: 1 is not a valid value"),
        ("[sample]\nrate = nan\n", r"run.toml: \[sample\] rate: nan is not a valid value"),
        ("[simple]\nepochs = 3\n", r"run.toml: there is no stage \[simple\]"),
        ("sample = 3\n", "run.toml: 'sample' is not in a table"),
        ("epochs = 3\n[sample]\n", "run.toml: 'epochs' is not in a table"),
        ("[sample\n", "run.toml: is not valid TOML"),
        ("[sample]\nepochs = 0\n", "--epochs: 0 is out of range"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(VAError, match=message):
        resolved(toml(tmp_path, text))


def test_the_hint_for_an_unknown_key_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(VAError) as caught:
        resolved(toml(tmp_path, "[sample]\nepoch = 3\n"))
    assert "epochs" in caught.value.hint and "centers" in caught.value.hint


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VAError, match=r"none.toml: cannot be read \(No such file"):
        resolved(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(VAError, match="is not valid TOML"):
        resolved(tmp_path / "latin.toml")


def test_a_missing_required_setting_says_how_to_give_it() -> None:
    with pytest.raises(VAError, match="SOURCE is missing") as caught:
        resolve(Sample, section="sample", sections=("sample", "other"), file=None, flags={"source": None})
    assert "[sample]" in caught.value.hint
    with pytest.raises(VAError, match="--out is missing"):
        resolve(ExtractConfig, section="extract", sections=("extract",), file=None, flags={"corpus": "c"})


def test_field_docstrings_become_help() -> None:
    helps = {setting.name: setting.help for setting in settings.settings_of(Sample)}
    assert helps["source"] == "Where things are."
    assert helps["epochs"] == "How often,\nin epochs."
    assert all(helps.values())


def test_every_setting_of_stage_one_and_of_the_corpus_has_help() -> None:
    for config in (ExtractConfig, SynthConfig):
        assert [setting.name for setting in settings.settings_of(config) if not setting.help] == []


def test_settings_of_a_class_defined_inside_a_function() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Inner:
        """Inner."""

        size: int = 1
        """How big."""

    assert settings.settings_of(Inner)[0].help == "How big."


@pytest.mark.parametrize(
    ("change", "changes"),
    [
        ({"epochs": 16}, True),
        ({"rate": 0.25}, True),
        ({"mode": "face"}, True),
        ({"centers": (-0.66, 0.0)}, True),
        ({"names": ("a",)}, True),
        ({"weights": Path("elsewhere")}, False),
        ({"source": Path("elsewhere")}, False),
    ],
)
def test_the_digest_covers_what_changes_results_and_no_path(change: dict[str, Any], changes: bool) -> None:
    def digest(config: Sample) -> str:
        return settings.digest(settings.as_dict(config, digest_only=True))

    first, second = digest(Sample(source=Path("here"))), digest(Sample(**({"source": Path("here")} | change)))
    assert len(first) == 8 and int(first, 16) >= 0
    assert (first != second) is changes


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert settings.digest({"a": 1, "b": [1.5]}) == settings.digest({"b": [1.5], "a": 1})
    assert settings.digest({"a": 1}) != settings.digest({"a": "1"})


def test_as_dict_gives_plain_json_values() -> None:
    plain = settings.as_dict(Sample(source=Path("a/b"), names=("x", "y")))
    assert plain["source"] == "a/b"
    assert plain["names"] == ["x", "y"]
    assert plain["weights"] is None
    assert set(plain) == {setting.key for setting in settings.settings_of(Sample)}
    assert "source" not in settings.as_dict(Sample(source=Path("a")), digest_only=True)


# --- the command line made from the same fields


def run_sample(*arguments: str) -> tuple[Any, list[Sample]]:
    app, seen = typer.Typer(), []

    @options.stage(app, "sample", Sample)
    def sample(config: Sample) -> None:
        """Do it."""
        seen.append(config)

    return CliRunner().invoke(app, list(arguments)), seen


def test_flags_reach_the_function_converted() -> None:
    result, seen = run_sample(
        "here", "--epochs", "2", "--rate", "1e-3", "--loud", "--mode", "face", "--centers", "-1,0,1", "--weights", "w"
    )
    assert result.exit_code == 0, result.output
    assert seen == [
        Sample(
            source=Path("here"),
            epochs=2,
            rate=1e-3,
            loud=True,
            mode="face",
            centers=(-1.0, 0.0, 1.0),
            weights=Path("w"),
        )
    ]


def test_a_switch_can_be_turned_off_against_the_file(tmp_path: Path) -> None:
    file = toml(tmp_path, "[sample]\nloud = true\n")
    assert run_sample("here", "--config", str(file))[1][0].loud is True
    assert run_sample("here", "--config", str(file), "--no-loud")[1][0].loud is False


def test_a_value_outside_the_choices_is_refused() -> None:
    result, seen = run_sample("here", "--mode", "voice")
    assert isinstance(result.exception, VAError)
    assert "--mode: 'voice'" in result.exception.message and "both|face" in result.exception.hint
    assert seen == []


def test_help_shows_docstring_default_and_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "dumb")
    text = " ".join(run_sample("--help")[0].output.replace("│", " ").split())
    for expected in ("How often, in epochs. (default: 15)", "(default: -0.66,0.0,0.66)", "both|face", "NUMBER,..."):
        assert expected in text, expected
    assert "Who. (default" not in text  # an empty default says nothing


# --- results and data


@pytest.mark.parametrize("config", [AffWild2Config, AfewVaConfig, OmgConfig, RecolaConfig, SewaConfig, ReproduceConfig])
@pytest.mark.parametrize("below", ["", "corpus", "a/b"])
def test_no_result_goes_into_a_data_set(config: Any, below: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tmp_path / "link").symlink_to(tree)
    (tmp_path / "elsewhere").mkdir()
    (tree / "away").symlink_to(tmp_path / "elsewhere")  # who reads the tree follows it
    for out in (tree / below, tmp_path / "link" / below, tree / "away" / below, tree / ".." / "tree" / below):
        with pytest.raises(VAError, match=r"--out .*: is in the data set .*tree") as raised:
            config(root=tree, out=out)
        assert "outside" in raised.value.hint
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for out in (tmp_path / "tree-corpus", tmp_path / "elsewhere", tree / ".." / "corpus", tmp_path / "loop"):
        assert config(root=tree, out=out / below).root == tree


# --- as many arguments as there are


@dataclass(frozen=True, kw_only=True)
class Several:
    """A stage that takes any number of files."""

    inputs: tuple[Path, ...] = argument()
    """What to read."""

    loud: bool = False
    """Whether to shout."""


def run_several(*arguments: str) -> tuple[Any, list[Several]]:
    app, seen = typer.Typer(), []

    @options.stage(app, "several", Several)
    def several(config: Several) -> None:
        """Do it."""
        seen.append(config)

    return CliRunner().invoke(app, list(arguments)), seen


def test_any_number_of_arguments_in_their_order_and_commas_are_letters() -> None:
    for words in (("a",), ("b", "a", "c"), ("one, two.mp4", "a")):
        result, seen = run_several(*words, "--loud")
        assert result.exit_code == 0, result.output
        assert seen == [Several(inputs=tuple(map(Path, words)), loud=True)]


def test_no_arguments_are_not_given(tmp_path: Path) -> None:
    result, _ = run_several("--loud")
    assert isinstance(result.exception, VAError) and "INPUTS is missing" in result.exception.message
    file = tmp_path / "run.toml"
    file.write_text('[several]\ninputs = ["x", "y"]\n')
    assert run_several("--config", str(file))[1] == [Several(inputs=(Path("x"), Path("y")))]


def test_help_says_that_there_may_be_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert "[INPUTS]..." in run_several("--help")[0].output
