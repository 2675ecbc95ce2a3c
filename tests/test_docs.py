"""Every command in README.md and docs/: its options exist, and it runs on a small drawn world, or says what it needs.

A line of a shell block is a `va` command that runs here (slow), or it says what it needs that a test has not
(`documents.py`: "needs a GPU", "needs a network", ...); then its options are looked at and no more. A page whose
commands or examples have a test of their own names it (`<!-- commands run by tests/... -->`).
"""

import ast
import os
import re
import shutil
import sys
from pathlib import Path

import cv2
import documents
import numpy as np
import pytest
from documents import PAGES, ROOT
from test_reproduce import sample_of

from va import cli
from va.data.corpus import Corpus
from va.data.regions import REGION_TEXTS

PLACEHOLDER = re.compile(r"((?:[\w.-]+/)*)((?:gru|tcn)-[a-z-]+)-[0-9a-f]{8}")
"""A run directory whose name ends in eight digits stands for the run in that folder that is called so but for them."""

QUICK = """
synth = {clips = 16, seconds = 11, workers = 2}
extract = {preset = "tiny", readers = 2}
train = {epochs = 1}
finetune = {epochs = 1, micro_batch = 4, checkpointing = false, readers = 2}
sweep-grid = {epochs = 1}
ablate = {epochs = 1, resamples = 20}
compare-encoders = {epochs = 1, resamples = 20}
evaluate = {resamples = 20}
check = {workers = 2}

[reproduce]
encoders = "tiny"
faces = "none"
name = "drawn"
tables = [3]
seeds = [0, 1]
epochs = 1
resamples = 20
"""
"""What a page does not say itself: demo encoders instead of full-size ones, and as little of everything as will do."""
QUICK_OPTIONS = {"demo": ("--clips", "12", "--seconds", "8"), "--zero-shot": ("--encoder", "tiny-clip")}
"""The same where no file reaches: behind a command, or an option, unless the page says otherwise."""

RUN_HERE = [
    page
    for page in PAGES
    if documents.commands_to_run(documents.read(page)) or documents.examples_to_run(documents.read(page))
]


def name_of(page: Path) -> str:
    return page.stem


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_line_runs_here_or_says_what_it_needs(page: Path) -> None:
    text = documents.read(page)
    for line in documents.lines_of(text):
        for words in documents.commands_of(line.text):
            arguments = documents.arguments_of(words)
            assert line.needs or Path(words[0]).name == "va", f"does not say what it needs: {line.text}"
            if arguments is not None:
                assert documents.misuse(arguments) == "", line.text
            elif words[0] == "make":
                assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(), line.text
            elif words[0] == "python" and words[1].endswith(".py"):
                script = (ROOT / words[1]).read_text(encoding="utf-8")
                assert [word for word in words if word.startswith("--") and f'"{word}"' not in script] == [], line.text
    for block in documents.blocks_of(text):
        if block.language != "sh":
            assert not re.search(r"^(\$ )?va ", block.text, re.MULTILINE), "a command outside a shell block"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_options_named_in_a_sentence_exist(page: Path) -> None:
    known = documents.all_options()
    scripts = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "benchmarks").glob("*.py"))
    for span in re.findall(r"`([^`]+)`", documents.prose_of(documents.read(page))):
        words = span.replace("|", " ").split()
        if words[0] == "va" and len(words) > 1:
            command, rest = documents.command_of(words[1:])
            if hasattr(command, "commands"):
                assert not rest or not re.match(r"[a-z]", rest[0]) or rest[0] in command.commands, span
            else:
                named = {word for word in rest if re.match(r"--[a-z]", word)}
                assert named <= documents.options_of(command), span
        elif words[0].startswith("--"):
            assert words[0] in known or f'"{words[0]}"' in scripts, span
        elif words[0].startswith("benchmarks/") and words[0].endswith((".py", ".txt")):
            assert (ROOT / words[0]).is_file(), span
            assert all(f'"{word}"' in scripts for word in words if word.startswith("--")), span


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere_and_a_named_test_knows_its_page(page: Path) -> None:
    text = documents.prose_of(documents.read(page))
    for target in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target
    for name in re.findall(r"`(docs/[\w-]+\.md|benchmarks/results/[\w-]+\.txt|tests/[\w/]+\.py)`", text):
        assert (ROOT / name).exists(), name
    for own in documents.own_tests_of(text).values():
        assert page.name in (ROOT / own).read_text(encoding="utf-8"), "the test does not name the page"


@pytest.mark.parametrize(
    ("line", "needs"),
    [
        ("va extract c --out f", ""),
        ("va extract c --out f  # on a GPU", ""),
        ("va extract c --out f  # bfloat16 needs a GPU", "a GPU"),
        ("# needs several machines\nray start --head", "several machines"),
        ("# needs a network\nmake demo\n\nmake demo", "a network"),
    ],
)
def test_what_a_line_needs_is_what_it_says(line: str, needs: str) -> None:
    found = documents.lines_of(f"```sh\n{line}\n```")
    assert found[0].needs == needs
    assert all(each.needs == "" for each in found[1:])


@pytest.mark.parametrize(
    "line",
    ["va extarct c", "va extract c --outt f", "va corpus show c extra", "va verify", "a | va train c f --epochs"],
)
def test_a_wrong_command_is_seen(line: str) -> None:
    *_, words = documents.commands_of(line)
    arguments = documents.arguments_of(words)
    assert arguments is not None and documents.misuse(arguments)


def call(*arguments: str) -> int:
    """Run the command line in this process and folder, and give its exit code."""
    before, sys.argv = sys.argv, ["va", *arguments]
    try:
        cli.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which all pages begin: a tree, its corpus, features, two runs, and what else they name."""
    here = tmp_path_factory.mktemp("world")
    before = Path.cwd()
    os.chdir(here)
    try:
        (here / "quick.toml").write_text(QUICK)
        tree = here / "data" / "Aff-Wild2"
        assert call("corpus", "synth", str(tree), "--config", "quick.toml") == 0
        drawn = Corpus.load(tree)
        crop(drawn, here / "cropped_aligned")
        test_clip = drawn.split("val")[-1]
        (tree / "corpus.json").unlink()
        shutil.rmtree(tree / "labels")
        sample, _ = sample_of(tree, test_clip.id)
        sample.rename(here / "sample.txt")
        shutil.copy(test_clip.media, here / "talk.mp4")
        (here / "texts.txt").write_text("\n".join(f"{text}, seen from afar" for text in REGION_TEXTS) + "\n")
        (here / "mine").mkdir()
        for clip in drawn.clips:
            values = np.random.default_rng(0).normal(size=(round(25 * clip.duration_s), 6)).astype(np.float32)
            np.save(here / "mine" / f"{clip.id}.npy", values)
        assert call("corpus", "synth", "other", "--clips", "8", "--seconds", "4", "--style", "chalk") == 0
        assert call("corpus", "affwild2", str(tree), "--out", "corpus", "--sample", "sample.txt") == 0
        assert call("extract", "corpus", "--out", "features", "--config", "quick.toml") == 0
        train = ("train", "corpus", "features", "--out", "runs", "--config", "quick.toml")
        assert call(*train) == call(*train, "--temporal", "tcn", "--fusion", "gated") == 0
    finally:
        os.chdir(before)
    return here


def crop(corpus: Corpus, folder: Path) -> None:
    """Write two frames a second of each clip as the corpus's own crops."""
    for clip in corpus.clips:
        (folder / clip.id).mkdir(parents=True)
        video = cv2.VideoCapture(str(clip.media))
        for number in range(1, clip.num_frames + 1):
            read, picture = video.read()
            if read and number % 10 == 1:
                cv2.imwrite(str(folder / clip.id / f"{number:05d}.jpg"), cv2.resize(picture, (112, 112)))


def put_in(text: str, here: Path) -> str:
    """Put real folders and runs where a page has examples of them."""

    def real(found: re.Match[str]) -> str:
        folder, stem = found[1], found[2]
        matching = [
            run for run in (here / folder).glob(f"{stem}-????????") if re.fullmatch(r"[0-9a-f]{8}", run.name[-8:])
        ]
        assert matching, f"there is no run for {found[0]}"
        return f"{folder}{max(matching, key=lambda run: run.stat().st_mtime_ns).name}"

    text = re.sub(r"(?<![\w.])/(data|shared)/", f"{here}/\\1/", text)
    return PLACEHOLDER.sub(real, text.replace("$SLURM_ARRAY_TASK_ID", "1"))


def quickened(arguments: list[str]) -> list[str]:
    command, _ = documents.command_of(arguments)
    quick = ["--config", "quick.toml"] if "--config" in documents.options_of(command) - set(arguments) else []
    for word, options in QUICK_OPTIONS.items():
        quick += options if word in arguments and options[0] not in arguments else ()
    return [*arguments, *quick]


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN_HERE, ids=name_of)
def test_a_page_runs_from_top_to_bottom(
    world: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    page: Path,
) -> None:
    here = tmp_path / "here"
    shutil.copytree(world, here)
    monkeypatch.chdir(here)
    text = documents.read(page)
    for line in documents.commands_to_run(text):
        for words in documents.commands_of(put_in(line.text, here)):
            arguments = documents.arguments_of(words)
            assert arguments is not None, line.text
            assert call(*quickened(arguments)) == 0, f"{line.text}\n{capfd.readouterr().err[-3000:]}"
    names: dict[str, object] = {}
    for example in documents.examples_to_run(text):
        exec(compile(ast.parse(put_in(example, here)), page.name, "exec"), names)
