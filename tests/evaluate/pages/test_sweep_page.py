"""The page of a sweep: what it says of which results, and that names stay text."""

import base64
import copy
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import html_page
import plotly.offline
import pytest
from hostile import leaks

from va.errors import VAError
from va.evaluate.pages import sentences, sweep_page, sweep_tables

MINUS = "\N{MINUS SIGN}"
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&{{data}} \u2028 é 😀"
DEFAULT = {"center": 0.66, "sigma": 0.45, "region_weight": 0.2, "learning_rate": 0.001, "context": 0}
WIDE = {**DEFAULT, "center": 1.0, "sigma": 0.6}
OFF = {"center": None, "sigma": None, "region_weight": 0.0, "learning_rate": 0.001, "context": 0}
PUBLISHED = [
    {"center": 0.66, "sigma": 0.45, "ccc_valence": 0.4655, "ccc_arousal": 0.6068, "ccc_mean": 0.5361},
    {"center": 1.0, "sigma": 0.6, "ccc_valence": 0.3656, "ccc_arousal": 0.5935, "ccc_mean": 0.4795},
]


class Page(html_page.Page):
    """A page whose text is read with single spaces."""

    def text(self) -> str:
        return re.sub(r"\s+", " ", super().text())


def figure(value: float, half: float | None = 0.05) -> dict[str, float | None]:
    return {"value": value, "low": None, "high": None} if half is None else make_interval(value, half)


def make_interval(value: float, half: float) -> dict[str, float | None]:
    return {"value": value, "low": value - half, "high": value + half}


def cell(point: dict[str, Any], mean: float, *, seeds: tuple[int, ...] = (0, 1, 2)) -> dict[str, Any]:
    half = 0.05 if len(seeds) > 1 else None
    scores = {"ccc_valence": figure(mean + 0.1, half), "ccc_arousal": figure(mean - 0.1, half)}
    return {**point, "seeds": list(seeds), **scores, "ccc_mean": figure(mean, half)}


def difference(of: str, point: dict[str, Any], against: dict[str, Any], value: float, half: float) -> dict[str, Any]:
    by_seed = {"0": value + 0.001, "1": value - 0.001}
    return {"of": of, "cell": point, "against": against, "by_seed": by_seed, "difference": figure(value, half)}


def make_results(name: str = "plain") -> dict[str, Any]:
    trial = {
        "ccc_valence": 0.6,
        "ccc_arousal": 0.4,
        "ccc_mean": 0.5,
        "best_epoch": 7,
        "epochs": 12,
        "trained_together": 9,
    }
    return {
        "schema": 1,
        "created": "2026-03-17T10:00:00+00:00",
        "corpus": {"name": f"corpus {name}", "synthetic": True, "digest": "c0"},
        "features": {"face": {"folder": f"face {name}", "digest": "f0"}, "voice": {"folder": "v", "digest": "v0"}},
        "demo_encoders": False,
        "ranked_on": {"split": "dev", "score": "mean CCC, abaw protocol", "interval": "95%"},
        "best": {**WIDE, "seed": 1, "run": f"runs/{name}"},
        "cells": [cell(WIDE, 0.52), cell(DEFAULT, 0.51), cell(OFF, 0.45)],
        "differences": [
            difference("grid", WIDE, DEFAULT, 0.01, 0.02),
            difference("lambda", DEFAULT, OFF, 0.06, 0.01),
            difference("lambda", WIDE, OFF, 0.07, 0.02),
        ],
        "published": copy.deepcopy(PUBLISHED),
        "trials": [{**WIDE, **trial, "seed": 1, "run": f"runs/{name}", "seconds": {"train": 3.0, "save": 1.2}}],
        "failed": [],
        "settings": {"seeds": [0, 1, 2], "dev_fraction": 0.15, "corpus": f"given {name}"},
        "versions": {"va": "0.1"},
    }


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle of a few bytes instead of plotly's five million."""
    monkeypatch.setattr(plotly.offline, "get_plotlyjs", lambda: "/* bundle */")


def shown(results: dict[str, Any]) -> Page:
    page = Page(sweep_page.render(results))
    assert page.open == []
    return page


# --- safe and whole


def test_hostile_names_stay_text_and_nothing_is_loaded(tmp_path: Path) -> None:
    results = make_results(HOSTILE)
    results["failed"] = [{**DEFAULT, "seed": 0, "run": f"runs/{HOSTILE}", "message": HOSTILE, "fix": HOSTILE}]
    path = sweep_page.write_page(results, tmp_path / "new")
    assert path == tmp_path / "new" / "index.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert not page.all("img")
    assert len(page.all("script")) == 3
    visible = page.text()
    for part in ("corpus", "given", "face"):
        assert re.sub(r"\s+", " ", f"{part} {HOSTILE}") in visible, part
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "srcset", "data", "poster", "xlink:href"):
            assert attributes.get(name, "data:").startswith("data:"), f"{tag} loads {attributes[name]}"
    assert not re.search(r"url\(|@import|https?:", page.texts["style"][0])


def test_every_text_of_a_sweep_stays_text() -> None:
    results = make_results()
    results["failed"] = [{**DEFAULT, "seed": 0, "run": "runs/x", "message": "m", "fix": "f"}]
    found, shown = leaks(results, sweep_page.render)
    assert (found, shown >= 8) == ([], True)


def test_the_policy_allows_the_pages_own_scripts_only() -> None:
    page = shown(make_results())
    (policy,) = (meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in page.texts["script"][1:]
    ]
    assert f"script-src {' '.join(hashes)};" in policy
    assert "default-src 'none'" in policy
    assert "showSendToCloud: false" in page.texts["script"][2]


def test_the_page_can_be_read_without_seeing_it() -> None:
    page = shown(make_results())
    assert all("scope" in header for header in page.all("th"))
    (chart,) = (div for div in page.all("div") if "chart" in div.get("class", "").split())
    assert chart["aria-label"] and chart["tabindex"] == "0"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    named = {attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes}
    assert len(ids) == len(set(ids)) and named <= set(ids)


def test_a_page_that_cannot_be_written_is_two_lines(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VAError, match="cannot be written"):
        sweep_page.write_page(make_results(), tmp_path / "file")


# --- what it says


def test_the_first_cell_its_run_and_the_split_are_named() -> None:
    said = shown(make_results()).text()
    assert "First in the ranking: ±1, sigma 0.6, lambda 0.2, learning rate 0.001" in said
    assert "on dev, 15% of the training identities, drawn anew by each seed; mean over 3 seeds." in said
    assert "Dev is not the split that is reported: score the run on val with 'va evaluate'." in said
    assert "The first of 3 cells is flattered by having been chosen." in said
    assert "runs/plain" in said
    assert "a convention rather than a finding" in said
    assert "corpus plain (synthetic)" in said
    assert "1 of 1 finished" in said
    assert "Demo encoders" not in said
    assert "no region term" in said


def test_val_demo_encoders_and_failures_are_owned_up_to() -> None:
    results = make_results()
    results["ranked_on"]["split"], results["demo_encoders"] = "val", True
    results["failed"] = [{**DEFAULT, "seed": 0, "run": "runs/bad", "message": "the loss is nan", "fix": "Try less."}]
    said = shown(results).text()
    assert "on val; mean over 3 seeds" in said
    assert "The choice was made on val (--select-on val), which reports score: its figures are flattered." in said
    assert "Dev is not" not in said
    assert "a convention rather" not in said
    assert sentences.DEMO_ON_DRAWN in said
    results["corpus"]["synthetic"] = False
    real = shown(results).text()
    assert sentences.DEMO_ON_REAL in real and "Demo encoders on a synthetic corpus" not in real
    assert "1 of 2 finished" in said
    assert "1 of 2 trials failed; no figure of this page has them." in said
    assert "±0.66, sigma 0.45, lambda 0.2, learning rate 0.001, seed 0 (): the loss is nan. Try less." in said
    assert "runs/bad" in said


def test_one_seed_has_no_interval() -> None:
    results = make_results()
    results["settings"]["seeds"] = [0]
    results["cells"] = [cell(WIDE, 0.52, seeds=(0,)), cell(DEFAULT, 0.51, seeds=(0,))]
    results["differences"] = [{**difference("grid", WIDE, DEFAULT, 0.01, 0.02), "difference": figure(0.01, None)}]
    page = shown(results)
    said = page.text()
    assert "one seed, so there is no interval." in said
    assert "intervals leave out 0" not in said
    assert "median width" not in said
    assert not [line for line in page.all("line") if line["class"] == "range"]
    assert "Its run is" in said


def test_cells_that_lack_a_seed_say_so() -> None:
    results = make_results()
    results["cells"][1]["seeds"] = [0, 2]
    said = shown(results).text()
    assert "Cells that lack a seed are ranked last" in said
    assert "2 of 3" in said
    results["cells"][0]["seeds"] = [1, 2]
    assert "No cell finished with all of its seeds" in shown(results).text()


def test_differences_are_shown_whatever_they_are() -> None:
    page = shown(make_results())
    said = page.text()
    assert "Against the paper's grid (±0.66, sigma 0.45)" in said
    assert "+0.010" in said and f"{MINUS}0.010 to +0.030" in said
    assert "+0.011 (seed 0), +0.009 (seed 1)" in said
    assert "0 of 1 intervals leave out 0" in said
    assert "2 of 2 intervals leave out 0" in said
    assert len([row for row in page.all("tr") if row.get("class") == "clear"]) == 2
    results = make_results()
    results["differences"] = []
    said = shown(results).text()
    assert "there is nothing to compare" in said
    assert "--lambdas 0,0.2 trains both" in said
    assert "--context 0,4 trains both" in said


def test_the_papers_rows_stand_beside_ours() -> None:
    said = shown(make_results()).text()
    for published in ("0.4655", "0.6068", "0.5361", "0.3656", "0.5935", "0.4795", f"{MINUS}0.0566"):
        assert published in said
    assert "quoted, not verified here" in said
    assert "Here: dev of corpus plain" in said
    assert "±1, sigma 0.6 minus ±0.66, sigma 0.45" in said
    results = make_results()
    results["published"] = []
    said = shown(results).text()
    assert "0.5361" not in said
    assert "Neither of its rows (±0.66, sigma 0.45 and ±1, sigma 0.6) was trained here." in said


def test_drawn_intervals_stay_inside_their_axis() -> None:
    page = shown(make_results())
    places = [float(line[end]) for line in page.all("line") for end in ("x1", "x2")]
    places += [float(circle["cx"]) for circle in page.all("circle")]
    assert len(page.all("circle")) == 3 + 3
    assert min(places) == 5.0 and max(places) == 165.0
    equal = make_results()
    equal["cells"] = [cell(WIDE, 0.5, seeds=(0,)), cell(DEFAULT, 0.5, seeds=(0,))]
    assert [float(circle["cx"]) for circle in shown(equal).all("circle")[:2]] == [85.0, 85.0]


def test_provenance_lists_trials_settings_and_versions() -> None:
    said = shown(make_results()).text()
    assert "seed 1: valence 0.600, arousal 0.400, mean 0.500; epoch 7 of 12; 4 s in a stack of 9" in said
    assert "identity c0" in said and "identity f0" in said
    assert "Setting dev_fraction" in said and "Version of va" in said


# --- heat maps


def test_a_heat_map_has_a_place_for_each_cell() -> None:
    results = make_results()
    (drawn,) = sweep_page.heat_maps(results)
    assert (drawn["centers"], drawn["sigmas"]) == (["±0.66", "±1"], ["0.45", "0.6"])
    assert drawn["mean"] == [[0.51, None], [None, 0.52]]
    assert drawn["text"][0] == ["<b>0.510</b><br>0.460 to 0.560", None]
    assert "valence 0.620 (0.570 to 0.670)" in drawn["hover"][1][1]
    assert drawn["marks"] == [{"x": 1, "y": 1, "best": True}, {"x": 0, "y": 0, "best": False}]
    data = json.loads(shown(results).texts["script"][0])
    assert data == {"maps": [drawn], "range": [0.51, 0.52]}


def test_each_lambda_and_learning_rate_has_a_map_on_one_scale() -> None:
    results = make_results()
    results["cells"] += [cell({**WIDE, "region_weight": 0.4}, 0.3), cell({**WIDE, "learning_rate": 0.01}, 0.7)]
    page = shown(results)
    data = json.loads(page.texts["script"][0])
    assert [drawn["title"] for drawn in data["maps"]] == [
        "lambda 0.2, learning rate 0.001",
        "lambda 0.2, learning rate 0.01",
        "lambda 0.4, learning rate 0.001",
    ]
    assert data["range"] == [0.3, 0.7]
    charts = [div for div in page.all("div") if "heat" in div.get("class", "").split()]
    assert [chart["data-index"] for chart in charts] == ["0", "1", "2"]


def test_without_a_region_term_there_is_no_map() -> None:
    results = make_results()
    results.update(cells=[cell(OFF, 0.45)], differences=[], published=[])
    page = shown(results)
    assert json.loads(page.texts["script"][0])["maps"] == []
    assert "that is one cell of the ranking, not a map" in page.text()
    assert "The first of" not in page.text()


def with_context() -> dict[str, Any]:
    """Both cells of the paper's table with four vectors as well."""
    results = make_results()
    four, wide = ({**point, "context": 4} for point in (DEFAULT, WIDE))
    results["cells"] = [cell(wide, 0.53), *results["cells"], cell(four, 0.4)]
    results["differences"] += [
        difference("grid", wide, four, 0.13, 0.02),
        difference("context", wide, WIDE, 0.01, 0.03),
        difference("context", four, DEFAULT, -0.11, 0.02),
    ]
    return results


def test_learned_context_is_named_and_has_maps_of_its_own() -> None:
    results = with_context()
    page = shown(results)
    said = page.text()
    assert "First in the ranking: ±1, sigma 0.6, lambda 0.2, learning rate 0.001, 4 context vectors" in said
    assert said.count("lambda 0.2, learning rate 0.001, 4 context vectors; paper table 3") == 0
    assert said.count("lambda 0.2, learning rate 0.001; paper table 3") == 2
    plain, learned = sweep_page.heat_maps(results)
    assert (plain["title"], learned["title"]) == (
        "lambda 0.2, learning rate 0.001",
        "lambda 0.2, learning rate 0.001, 4 context vectors",
    )
    assert plain["mean"] == [[0.51, None], [None, 0.52]]
    assert learned["mean"] == [[0.4, None], [None, 0.53]]
    assert plain["marks"] == [{"x": 1, "y": 1, "best": False}, {"x": 0, "y": 0, "best": False}]
    assert learned["marks"] == [{"x": 1, "y": 1, "best": True}], "the paper's rows have fixed texts"
    assert sweep_tables.tuning({**DEFAULT, "context": 1}).endswith(", 1 context vector")


def test_learned_context_minus_the_fixed_texts_is_shown_with_its_interval() -> None:
    found = sweep_tables.pairs(with_context())
    section = found[found.index("Against the fixed texts (context 0)") :]
    assert "+0.010" in section and f"{MINUS}0.020 to +0.040" in section
    assert f"{MINUS}0.110" in section and f"{MINUS}0.130 to {MINUS}0.090" in section
    assert "1 of 2 intervals leave out 0" in section
    assert "all share their seeds, so they do not count singly" in section, "each has its own cell beside it"
    assert "all share what they are compared with" in found[: found.index("Against the fixed texts")]


def test_the_papers_rows_stand_beside_cells_with_fixed_texts_only() -> None:
    results = with_context()
    said = sweep_tables.published(results)
    assert "0.530" not in said and "0.520" in said and "+0.130" not in said and "+0.010" in said
    assert "Cells with learned context are not its rows." in said
    results["published"] = []
    assert "was trained here. Cells with learned context are not its rows." in sweep_tables.published(results)
    assert "learned context" not in sweep_tables.published(make_results())


def test_equal_means_still_make_a_scale() -> None:
    results = make_results()
    results["cells"] = [cell(WIDE, 0.5), cell(DEFAULT, 0.5)]
    low, high = json.loads(shown(results).texts["script"][0])["range"]
    assert low < 0.5 < high


def test_a_difference_that_rounds_to_nothing_has_no_sign() -> None:
    results = make_results()
    results["differences"][0]["by_seed"] = {"0": 0.0001, "1": -0.0001, "2": 0.001}
    assert "0.000 (seed 0), 0.000 (seed 1), +0.001 (seed 2)" in sweep_tables.pairs(results)
    assert "+0.000 (seed 0)" not in sweep_tables.pairs(results)
