"""The page over all of a reproduction: what is quoted, what is ours, and texts that stay texts."""

import re
from typing import Any

import pytest
from html_page import Page

from va.evaluate.pages import reproduction_page, sentences

HOSTILE = "</td><script>alert(1)</script>\"'&{{lead}}"


def figure(value: float | None) -> dict[str, Any]:
    return {"value": value, "over_seeds": None if value is None else [value - 0.1, value + 0.1], "over_clips": None}


def row(name: str, *, published: float | None, end: float | None, frames: float | None) -> dict[str, Any]:
    quoted = None if published is None else {"ccc_valence": 0.1, "ccc_arousal": 0.2, "ccc_mean": published}
    forms = {
        "end": {"paper": {"ccc_mean": figure(end)}},
        "frames": {"abaw": {"ccc_mean": figure(frames)}},
    }
    return {"name": name, "note": "a note", "published": quoted, "reference": published is not None, "forms": forms}


def own(name: str) -> dict[str, Any]:
    axes = ("ccc_valence", "ccc_arousal", "ccc_mean")
    score: dict[str, Any] = {axis: {"value": 0.4321, "low": None, "high": None} for axis in axes}
    score["num_clips"] = 76
    line = {"kind": "run", "name": "Full model", "note": "this run", "abaw": score, "paper": None}
    return {"run": name, "page": f"reports/{name}/index.html", "rows": [line]}


@pytest.fixture
def results() -> dict[str, Any]:
    rows = [
        row("GRU, attn + gated", published=0.5361, end=0.5, frames=None),
        row("ours", published=None, end=-0.2, frames=0.3),
    ]
    return {
        "created": "2026-11-24T00:00:00+00:00",
        "version": "1",
        "corpus": {"name": "Aff-Wild2", "clips": 594, "synthetic": False},
        "settings": {"select_on": "val", "seeds": [0, 1], "epochs": 15},
        "seconds": {"corpus": 7.4, "features": 5400.0},
        "tables": [{"table": 2, "rows": rows, "page": "table2/index.html"}],
        "own": [own("gru-hierarchical-1a2b3c4d")],
        "submission": None,
        "demo_encoders": False,
    }


def cells(source: str, table: str) -> list[list[str]]:
    """The rows of a table, each cell as the words in it."""
    body = source.split(f'aria-labelledby="{table}"><thead>')[1].split("<tbody>")[1].split("</tbody>")[0]
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line) for line in body.split("<tr")[1:]]
    return [[re.sub(r"<[^>]*>", " ", cell).strip() for cell in row] for row in rows]


def test_theirs_and_ours_stand_side_by_side(results: dict[str, Any]) -> None:
    source = reproduction_page.render(results)
    minus = "\N{MINUS SIGN}"
    assert cells(source, "table2") == [
        ["GRU, attn + gated a note", "0.5361", "0.500  0.400 to 0.600", "n/a"],
        ["ours a note", "not in the paper", f"{minus}0.200  {minus}0.300 to {minus}0.100", "0.300  0.200 to 0.400"],
    ]
    assert cells(source, "own") == [
        ["Full model gru-hierarchical-1a2b3c4d, this run", "0.432", "0.432", "0.432", "n/a", "report"]
    ]
    said = Page(source).text()
    assert "nobody but a lab with the data can verify them" in said
    assert "the epoch was chosen on val" in said
    assert "Demo encoders" not in said
    assert "1.5 h" in said


def test_demo_encoders_are_called_so(results: dict[str, Any]) -> None:
    assert (
        "Demo encoders know only drawn faces"
        in Page(reproduction_page.render(results | {"demo_encoders": True})).text()
    )


def test_few_clips_are_told(results: dict[str, Any]) -> None:
    assert "clips have labels" not in Page(reproduction_page.render(results)).text()
    results["own"][0]["rows"][0]["abaw"]["num_clips"] = 3
    assert sentences.few_clips(3) in Page(reproduction_page.render(results)).text()


def test_selection_on_dev_is_said(results: dict[str, Any]) -> None:
    results["settings"]["select_on"] = "dev"
    assert "chosen on val" not in Page(reproduction_page.render(results)).text()


def test_names_stay_text_and_links_stay_in_the_folder(results: dict[str, Any]) -> None:
    results["corpus"]["name"] = HOSTILE
    results["tables"][0]["rows"][0]["name"] = HOSTILE
    results["own"] = [own(HOSTILE)]
    results["submission"] = {"run": HOSTILE, "said": HOSTILE, "file": "submission/submission.txt"}
    source = reproduction_page.render(results)
    assert "<script" not in source
    assert HOSTILE in Page(source).text()
    for target in re.findall(r'<a href="([^"]*)"', source):
        assert re.fullmatch(r"(table2|reports|submission)/[\w/%.&;-]*", target), target
