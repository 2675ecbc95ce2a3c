"""The page of a corpus: what it says, that names stay text, and how it looks to a browser."""

import base64
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import html_page
import numpy as np
import pytest
from browser import opened

from va import cli
from va.data import corpus, overview
from va.data.corpus import Clip, Corpus, Truth
from va.data.decisions import Decision
from va.evaluate.pages import corpus_page, corpus_tables

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&{{data}} \u2028 é 😀"
MINUS = "\N{MINUS SIGN}"


def build(root: Path, name: str = "plain", *, synthetic: bool = False) -> Corpus:
    rng = np.random.default_rng(0)
    entries = []
    for number in range(12):
        frames = 100 + 20 * number
        split = ("train", "train", "val", "test")[number % 4]
        valid = (rng.random(frames) > 0.1) & (split != "test")
        va = np.where(valid[:, None], rng.uniform(-1, 1, (frames, 2)), 0).astype(np.float32)
        time_s = np.arange(frames) / 25
        clip = Clip(
            id=f"{number:02} {name}", media=root / f"{number}.mp4", split=split, identity=f"{name} {number // 3}",
            num_frames=frames, duration_s=frames / 25 + (1 if number == 5 else 0),
        )  # fmt: skip
        entries.append((clip, Truth(time_s=time_s, va=va, valid=valid)))
    made = corpus.save(root, name=name, synthetic=synthetic, media_root=root, entries=entries)
    return corpus.decide(made, [Decision(clip=f"03 {name}", do="drop", why=f"is cut off {name}")], {})


def found_in(made: Corpus) -> dict[str, Any]:
    return overview.overview(made, progress=lambda *_: None)


def text_of(page: html_page.Page) -> str:
    return re.sub(r"\s+", " ", page.text())


def test_hostile_names_stay_text_and_nothing_is_loaded(tmp_path: Path) -> None:
    found = found_in(build(tmp_path, HOSTILE))
    found["path"] = HOSTILE
    found["texts"] = [f"{HOSTILE} {index}" for index in range(9)]
    path = corpus_page.write_page(found, tmp_path / "out")
    page = html_page.Page(path.read_text(encoding="utf-8"))
    assert page.open == [] and not page.all("img") and len(page.all("script")) == 3
    said = text_of(page)
    for part in ("00 ", "is cut off ", "Corpus "):
        assert re.sub(r"\s+", " ", f"{part}{HOSTILE}") in said or part == "00 ", part
    (policy,) = (meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in page.texts["script"][1:]
    ]
    assert f"script-src {' '.join(hashes)};" in policy and "default-src 'none'" in policy
    assert not re.search(r"url\(|@import|https?:", page.texts["style"][0])
    assert json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))["name"] == HOSTILE


def test_the_page_says_what_was_found(tmp_path: Path) -> None:
    found = found_in(build(tmp_path))
    page = html_page.Page(corpus_page.render(found))
    said = text_of(page)
    labelled = sum(split["labelled"] for split in found["splits"].values())
    assert f"{labelled:,}" in said
    assert "in more than one split: plain 0 (train, val)" in said
    assert "shorter: 1" in said and f"{MINUS}25" in said
    assert "left out: is cut off plain" in said and "1 decision in force" in said
    assert "no labels" in said  # of test
    assert "synthetic" not in said.lower()
    assert all("scope" in header for header in page.all("th"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    named = {attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes}
    assert len(ids) == len(set(ids)) and named <= set(ids)
    synthetic = text_of(html_page.Page(corpus_page.render({**found, "synthetic": True})))
    assert "drawn faces and synthesised voices" in synthetic


def test_nothing_that_is_passed_on_says_where_the_corpus_lies(tmp_path: Path) -> None:
    found = found_in(build(tmp_path / "mine"))
    path = corpus_page.write_page(found, tmp_path / "out")
    assert found["path"] == str(tmp_path / "mine" / "corpus.json"), "--json says it, to who is at the machine"
    for file in (path, path.with_name("summary.json")):
        content = file.read_text(encoding="utf-8")
        assert str(tmp_path) not in content and "mine/corpus.json" in content


def test_maps_have_valence_to_the_right_and_arousal_up(tmp_path: Path) -> None:
    found = found_in(build(tmp_path))
    found["splits"]["train"]["regions"] = list(range(9))
    found["splits"]["train"]["labelled"] = 36
    drawn = corpus_page.chart_data(found)
    assert len(drawn["maps"]) == 2  # test has no labels
    assert drawn["maps"][0]["count"] == [["0", "3", "6"], ["1", "4", "7"], ["2", "5", "8"]]
    assert drawn["labels"][0] == ["sad", "calm", "relaxed"] and drawn["labels"][2] == ["angry", "alert", "excited"]
    assert drawn["axis"] == [f"{MINUS}0.66", "0.00", "0.66"]
    assert drawn["top"] == max(share for one in drawn["maps"] for row in one["share"] for share in row)


def test_a_corpus_without_labels_or_clips_has_a_page(tmp_path: Path) -> None:
    made = corpus.save(tmp_path, name="none", synthetic=False, media_root=tmp_path, entries=[])
    page = html_page.Page(corpus_page.render(found_in(made)))
    assert page.open == [] and "No frame of this corpus has a label." in page.text()
    assert corpus_tables.remarks(found_in(made)) == []


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made = build(tmp_path / "corpus")

    def va(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["va", "corpus", "show", str(made.path), *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code  # people in two splits are a warning
        return capsys.readouterr().out

    said = va("--out", str(tmp_path / "page"))
    assert "Warning: 3 identities in more than one split" in re.sub(r"\s+", " ", said)
    assert "Labels by nearest region" in said and said.endswith(f"{tmp_path / 'page' / 'index.html'}\n")
    assert json.loads(va("--json")) == found_in(made)


def test_in_a_browser(tmp_path: Path, browser: Any) -> None:
    file = corpus_page.write_page(found_in(build(tmp_path, HOSTILE)), tmp_path / "out")
    with opened(browser, file) as shown:
        page = shown.page
        page.on("dialog", lambda dialog: (shown.complaints.append("a dialog"), dialog.dismiss()))
        page.wait_for_function(
            "() => [...document.querySelectorAll('.chart')].every((one) => one.data)", timeout=120_000
        )
        assert page.evaluate("document.querySelectorAll('.chart.grid').length") == 2
        cells = page.evaluate("document.querySelector('.chart.grid').data[0].z.flat().length")
        bars = page.evaluate("document.querySelector('.chart.lengths').data.map(one => one.name)")
        assert cells == 9 and bars == ["train", "val", "test"]
        for width, scheme in ((1280, "light"), (390, "dark")):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width, timeout=120_000)
        assert page.evaluate("document.querySelectorAll('img').length") == 0
        assert shown.complaints == [] and shown.requests == []
