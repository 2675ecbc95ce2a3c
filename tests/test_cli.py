"""The command line: quick to start, two lines for a mistake, exit codes that tell the truth."""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import documents
import pytest

from va import cli

TYPER_PROGRAM = """
import typer
app = typer.Typer()
@app.command()
def one(name: str): "One."
@app.command()
def two(name: str): "Two."
app()
"""


def run_va(*arguments: str | Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command line in this process and give its exit code."""
    monkeypatch.setattr(sys, "argv", ["va", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def two_lines(text: str) -> tuple[str, str]:
    """Check that an error is one line that says what is wrong and one that says what to do."""
    lines = [line for line in text.strip().splitlines() if line.startswith(("error:", "fix:"))]
    assert "Traceback" not in text
    assert [line.split(":")[0] for line in lines] == ["error", "fix"], text
    return lines[0], lines[1]


def test_importing_the_cli_loads_nothing_heavy() -> None:
    code = (
        "import sys, va.cli\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'numpy', 'torch', 'transformers', 'h5py', 'av'}))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_help_costs_at_most_twice_a_two_command_typer_program(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(TYPER_PROGRAM)
    commands = {
        "va": [sys.executable, "-m", "va.cli", "--help"],
        "typer": [sys.executable, str(program), "--help"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(7):
        for name, command in commands.items():
            start = time.perf_counter()
            subprocess.run(command, capture_output=True, check=True)
            times[name].append(time.perf_counter() - start)
    assert statistics.median(times["va"]) <= 2 * statistics.median(times["typer"])


def test_every_command_has_help_with_defaults(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run_va("train", "--help", monkeypatch=monkeypatch) == 0
    text = capsys.readouterr().out
    assert "--region-weight" in text
    assert "(default: 0.2)" in text
    assert "both|face|voice" in text


@pytest.mark.parametrize("columns", [80, 100])
def test_help_reads_in_a_narrow_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run_va("finetune", "--help", monkeypatch=monkeypatch) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    spelled = documents.options_of(documents.command_of(["finetune"])[0])
    assert len(spelled) > 60 and not [name for name in spelled if name not in text], "every name in full"
    assert "--fusion attention|gated|hierarchical\n" in text, "and every choice"
    assert "…" not in text
    assert max(map(len, lines)) <= columns
    assert len(lines) < 3 * len(spelled), "texts have most of the width"


def test_the_list_of_commands_says_what_each_is_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for group, sentence in (([], "prints the run directory last."), (["corpus"], "exit code 1 if there are errors.")):
        assert run_va(*group, "--help", monkeypatch=monkeypatch) == 0
        text = capsys.readouterr().out
        assert sentence in " ".join(text.split()) and "..." not in text.split("Commands:")[1]


@pytest.mark.parametrize("group", [[], ["corpus"]])
def test_no_command_is_the_help_and_two_lines(
    group: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_va(*group, monkeypatch=monkeypatch) == 2
    printed = capsys.readouterr()
    assert "Commands:" in printed.out and len(printed.out.splitlines()) > 10
    assert two_lines(printed.err)[0] == "error: a command is missing"


def test_a_drawn_corpus_is_summed_up_and_what_comes_next_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = tmp_path / "my corpus"
    assert run_va("corpus", "synth", folder, "--clips", "8", "--seconds", "1.5", monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{folder / 'corpus.json'}\n"
    assert printed.err.splitlines()[-2:] == [
        f"8 clips: 6 train, 2 val; 0.2 minutes of 4 identities, in {folder}",
        f"next: va extract '{folder}' --out FEATURES --preset tiny",
    ]


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_va("--version", monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out.startswith("va ")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", "corpus", "features", "--out", "runs", "--modalities", "smell"], "--modalities"),
        (["train", "corpus", "features", "--out", "runs", "--sigma", "0"], "--sigma"),
        (["train", "corpus", "features", "--out", "runs", "--epochs", "many"], "--epochs"),
        (["train", "corpus", "features", "--out", "runs", "--centers", "0.5,0.5"], "--centers"),
        (["train", "corpus", "features", "--out", "runs", "--context", "4", "--region-weight", "0"], "--context"),
        (["sweep-grid", "corpus", "features", "--out", "s", "--context", "0,4", "--lambdas", "0"], "--context"),
        (["ablate", "corpus", "features", "--out", "t", "--table", "3", "--context", "-1"], "--context"),
        (["train", "corpus"], "FEATURES"),
        (["extract", "nowhere", "--out", "features", "--stride-s", "0.3"], "--stride-s"),
        (["extract", "nowhere", "--out", "features"], "nowhere"),
        (["evaluate", "nowhere", "--out", "report"], "nowhere"),
        (["corpus", "synth", "c", "--clips", "2"], "--clips"),
        (["corpus", "affwild2", "nowhere", "--out", "c"], "nowhere"),
        (["verify", "nowhere"], "nowhere"),
        (["prompts", "nowhere", "--texts", "texts.txt"], "texts.txt"),
        (["prompts", "nowhere"], "--texts"),
        (["prompts", "nowhere", "--tower"], "nowhere"),
        (["import-features", "d", "--corpus", "nowhere", "--out", "f", "--name", "n", "--kind", "audio"], "nowhere"),
        (["import-features", "d", "--corpus", "c", "--out", "f", "--name", "n", "--kind", "video"], "--kind"),
        (["weights", "path", "no-such-encoder"], "no-such-encoder"),
        (["weights", "get", "no-such-encoder"], "no-such-encoder"),
    ],
)
def test_a_mistake_is_two_lines_and_exit_code_1(
    arguments: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_va(*arguments, monkeypatch=monkeypatch) == 1
    assert named in two_lines(capsys.readouterr().err)[0]
    assert list(tmp_path.iterdir()) == [], "nothing half-written"


@pytest.mark.parametrize(
    "arguments", [["train", "--no-such-option"], ["no-such-command"], ["corpus", "no-such-command"]]
)
def test_wrong_usage_is_two_lines_and_exit_code_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_va(*arguments, monkeypatch=monkeypatch) == 2
    assert "no-such" in two_lines(capsys.readouterr().err)[0]


def test_a_config_file_is_read_and_a_flag_wins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[train]\ncorpus = "from_file"\nfeatures = "f"\nout = "o"\nepochs = 3\n')
    assert run_va("train", "--config", file, monkeypatch=monkeypatch) == 1
    assert "from_file" in capsys.readouterr().err
    assert run_va("train", "from_flag", "--config", file, monkeypatch=monkeypatch) == 1
    error = capsys.readouterr().err
    assert "from_flag" in error
    assert "epochs=3" in error
    file.write_text("[train]\nepoch = 3\n")
    assert run_va("train", "--config", file, monkeypatch=monkeypatch) == 1
    assert "'epoch'" in two_lines(capsys.readouterr().err)[0]


def test_missing_weights_say_which_file_to_bring(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The default encoders, off line and without a cache."""
    (tmp_path / "corpus.json").write_text(
        json.dumps({"schema": 1, "name": "x", "synthetic": True, "media_root": ".", "clips": []})
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("va.weights.cached", lambda file: None)
    assert run_va("extract", tmp_path, "--out", tmp_path / "features", monkeypatch=monkeypatch) == 1
    wrong, fix = two_lines(capsys.readouterr().err)
    assert "clip-vit-b-16" in wrong
    assert "open_clip_model.safetensors" in fix
    assert "--clip-weights" in fix
    assert not (tmp_path / "features").exists()


def test_doctor_prints_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_va("doctor", "--json", monkeypatch=monkeypatch) == 0
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["Codecs"]["status"] == "ok"
    assert checks["torch"]["detail"].startswith("2.")
