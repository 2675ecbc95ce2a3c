"""A comparison's page and command: the order of the selection split, figures of the reported one."""

import copy
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import opened
from hostile import leaks
from small_corpus import Small, identity

from va import cli
from va.data.features import ClipFeatures, FeatureStore, Source
from va.evaluate import comparison
from va.evaluate.pages import comparison_page, sentences

HOSTILE = "</td><script>alert(1)</script>\"'&{{lead}}"


def va(*arguments: str | Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["va", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


@pytest.fixture(scope="module")
def two_ears(small: Small, tmp_path_factory: pytest.TempPathFactory) -> Small:
    root = tmp_path_factory.mktemp("ears") / "features"
    shutil.copytree(small.features, root)
    first = FeatureStore(next(root.glob("ear-*")))
    second = FeatureStore.create(root, identity("noise", "audio", first.dim, demo=True))
    rng = np.random.default_rng(2)
    for clip in first.clip_ids():
        found = first.read(clip)
        values = np.where(found.valid[..., None], rng.normal(size=found.values.shape), 0).astype(np.float16)
        spoiled = ClipFeatures(values=values, time_s=found.time_s, valid=found.valid)
        second.write(clip, spoiled, Source(size=1, digest="0"))
    return Small(small.corpus, root)


def command(small: Small, out: Path, *more: str) -> list[str | Path]:
    quick = ["--epochs", "3", "--resamples", "20", "--width", "16", "--learning-rate", "0.005", "--device", "cpu"]
    return ["compare-encoders", small.corpus, small.features, "--out", out, *quick, *more]


@pytest.fixture(scope="module")
def made(two_ears: Small, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("comparison")
    with pytest.MonkeyPatch.context() as patch:
        assert va(*command(two_ears, out, "--seeds", "0,1"), monkeypatch=patch) == 0
    return out, json.loads((out / "results.json").read_text())


def test_the_command_ranks_on_dev_and_prints_the_page_last(
    two_ears: Small,
    made: tuple[Path, dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, found = made
    monkeypatch.setenv("COLUMNS", "120")
    assert va(*command(two_ears, out, "--seeds", "0,1"), monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == str(out / "index.html")
    assert "ranked on dev" in printed.out and "dev mean" in printed.out and "val mean" in printed.out
    assert [row["name"] for row in found["rows"]] == ["eye and ear", "eye and noise"]
    for name in ("results.json", "index.html"):
        written = (out / name).read_text()
        assert found["corpus"]["digest"] in written
        assert not [path for path in (out, two_ears.corpus, two_ears.features) if str(path) in written], name
    assert va(*command(two_ears, out, "--seeds", "0,1", "--json"), monkeypatch=monkeypatch) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["rows"] == found["rows"]  # trained once: the same runs


def test_the_order_is_the_selection_splits_even_where_the_reported_one_disagrees(
    made: tuple[Path, dict[str, Any]],
) -> None:
    _, found = made
    changed = copy.deepcopy(found)
    for row, value in zip(changed["rows"], (0.1, 0.9), strict=True):
        row["forms"]["frames"]["abaw"]["ccc_mean"]["value"] = value
    _, _, lines = comparison.table(changed)
    assert [line[0] for line in lines] == ["eye and ear", "eye and noise"]
    for synthetic, banner in ((True, sentences.DEMO_ON_DRAWN), (False, sentences.DEMO_ON_REAL)):
        changed["corpus"]["synthetic"], changed["demo_encoders"] = synthetic, True
        assert banner in comparison_page.render(changed)
    page = comparison_page.render(changed)
    ranking = page[page.index("Encoders, best first") :]
    assert ranking.index("eye and ear") < ranking.index("eye and noise")


def test_what_the_lead_says_follows_from_the_differences(made: tuple[Path, dict[str, Any]]) -> None:
    _, found = made
    changed = copy.deepcopy(found)
    figure = changed["rows"][1]["selection"]["difference"]["difference"]
    figure["over_seeds"] = [0.01, 0.2]
    assert "is ahead of the second on dev" in comparison_page.lead(changed)
    figure["over_seeds"] = [-0.01, 0.2]
    assert "take them as equals" in comparison_page.lead(changed)
    figure["over_seeds"] = None
    assert "Too few seeds" in comparison_page.lead(changed)
    changed["selected_on"] = "val"
    assert "which flatters all figures" in comparison_page.lead(changed)


def test_every_text_stays_text(made: tuple[Path, dict[str, Any]]) -> None:
    found, shown = leaks(made[1], comparison_page.render)
    assert (found, shown >= 4) == ([], True)


def test_names_stay_text(made: tuple[Path, dict[str, Any]]) -> None:
    _, found = made
    changed = copy.deepcopy(found)
    changed["corpus"]["name"] = HOSTILE
    for row in changed["rows"]:
        row |= {"name": HOSTILE + row["name"], "note": HOSTILE}
    for one in changed["differences"]:
        one["minus"] = HOSTILE + one["minus"]
    page = comparison_page.render(changed)
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("width", [1280, 400])
def test_the_page_opens_without_complaints_or_requests(
    made: tuple[Path, dict[str, Any]], browser: Any, width: int
) -> None:
    with opened(browser, made[0] / "index.html", width=width) as found:
        assert found.complaints == [] and found.requests == []
        assert found.page.evaluate("document.documentElement.scrollWidth") <= width
        seen = found.page.inner_text("main")
    assert "Ranked on dev, where the epochs were chosen too" in seen
    assert "The val split had no part in either" in seen
    assert "12 + 10 features per step" in seen
    assert "Demo encoders" in seen


def test_one_encoder_is_two_lines(
    small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert va(*command(small, tmp_path / "out"), monkeypatch=monkeypatch) == 1
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in said[-2:]] == ["error", "fix"]
    assert "has only eye and ear to compare" in said[-2]
