"""docs/data.md: each example is written to the disk as it stands there, and each command is run on it."""

import re
import sys
from pathlib import Path

import cv2
import messy_tree
import numpy as np
import pytest
from support import draw_number

from va import cli
from va.data.corpus import Corpus

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^va corpus .*$", TEXT, re.MULTILINE)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    media = messy_tree.make_media(folder / "media")
    for name, block in re.findall(r"<!-- file /data/(.*?) -->\n```\w+\n(.*?)```", TEXT, re.DOTALL):
        messy_tree.write(folder / name, block)
    for kind, names in re.findall(r"<!-- (videos|pictures) (.*?) -->", TEXT):
        for name in names.split():
            file = folder / name.removeprefix("/data/")
            if kind == "videos":
                messy_tree.place(media, file)
            else:
                cv2.imwrite(str(file), draw_number(int(file.stem)))
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.split()[2])
def test_each_command_makes_a_corpus_and_skips_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [*command.replace("/data/", f"{data}/").split(), "--workers", "1"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0, capsys.readouterr().err
    made = Corpus.load(tmp_path / "corpus")
    assert made.clips and made.skipped == ()
    labels = {clip.id: made.truth(clip) for clip in made.clips}
    assert all(truth.valid.any() for name, truth in labels.items() if name != "clips_b")


def test_every_adapter_has_an_example() -> None:
    assert {command.split()[2] for command in COMMANDS} == {"affwild2", "afewva", "omg", "recola", "sewa", "table"}


def test_a_scale_is_mapped_as_the_page_says(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["va", "corpus", "table", str(data / "mine/labels.csv"), "--out", str(tmp_path), "--name", "x"]
    monkeypatch.setattr(sys, "argv", [*command, "--scale", "-1..9", "--arousal-scale", "0..4", "--workers", "1"])
    with pytest.raises(SystemExit):
        cli.main()
    made = Corpus.load(tmp_path)
    np.testing.assert_allclose(made.truth(made.clips[0]).va, [[0.5, 0.0], [0.52, 0.0]], atol=1e-7)
