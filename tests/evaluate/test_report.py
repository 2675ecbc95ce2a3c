"""The report: strict JSON, a page that loads nothing, and names that stay text."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import plotly.offline
import pytest

from va.data.regions import CENTERS, REGION_TEXTS
from va.errors import VAError
from va.evaluate import markup, report
from va.evaluate.protocol import Figure, Score
from va.evaluate.report import ClipTrack, Plane, ReportFigures, Row

NAN = float("nan")
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&{{data}} \u2028 é 😀"


class Page(HTMLParser):
    """What a browser would see: elements with attributes, and the text inside each kind of element."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in ("meta", "link", "col", "line", "circle"):
            self.open.append(tag)
            self.texts.setdefault(tag, []).append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open:
            self.texts[self.open[-1]][-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self) -> str:
        visible = [text for tag, texts in self.texts.items() if tag not in ("script", "style") for text in texts]
        return "\n".join(visible)


def parse_strictly(text: str) -> object:
    def refuse(constant: str) -> object:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def page_data(page: Page) -> dict[str, object]:
    data = parse_strictly(page.texts["script"][0])
    assert isinstance(data, dict)
    return data


def make_score(value: float, *, coverage: float = 1.0) -> Score:
    figure = Figure(value=value, low=value - 0.05, high=value + 0.04)
    return Score(
        ccc_valence=figure,
        ccc_arousal=figure,
        ccc_mean=figure,
        coverage=coverage,
        filled=0.0,
        num_frames=12345,
        num_clips=76,
    )


def undefined_score() -> Score:
    figure = Figure(value=NAN, low=NAN, high=NAN)
    return Score(
        ccc_valence=figure, ccc_arousal=figure, ccc_mean=figure, coverage=NAN, filled=NAN, num_frames=0, num_clips=0
    )


def make_clip(num_frames: int, name: str = "clip") -> ClipTrack:
    time_s = np.arange(num_frames) / 30
    target = np.stack([np.sin(time_s), np.cos(time_s)], axis=1)
    return ClipTrack(
        id=name, time_s=time_s, target=target, valid=np.ones(num_frames, dtype=bool), prediction=0.5 * target
    )


def make_figures(name: str = "plain") -> ReportFigures:
    return ReportFigures(
        title=f"title {name}",
        run=f"run {name}",
        corpus=f"corpus {name}",
        is_demo=False,
        split="val",
        created="2026-03-17T10:00:00+00:00",
        selected_on=f"Chosen on dev {name}.",
        rows=[
            Row(name=f"model {name}", note=f"note {name}", abaw=make_score(0.5), paper=make_score(0.6)),
            Row(name="ridge", note="", abaw=make_score(-0.02), paper=None),
        ],
        clips=[make_clip(60, f"clip {name}")],
        plane=Plane(
            centers=[(valence, arousal) for valence in CENTERS for arousal in CENTERS],
            region_texts=[f"{text} {name}" for text in REGION_TEXTS],
            points_target=np.array([[0.1, 0.2], [NAN, 0.3]]),
            points_prediction=np.array([[0.3, 0.4]]),
        ),
        provenance=[(f"key {name}", f"value {name}"), ("seed", "7")],
    )


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle of a few bytes: most tests look at everything but it."""
    monkeypatch.setattr(plotly.offline, "get_plotlyjs", lambda: "/* bundle */")


def test_the_real_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    path = report.write_report(make_figures(HOSTILE), tmp_path / "new" / "folder")
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    bundle = page.texts["script"][1]
    assert bundle == plotly.offline.get_plotlyjs()
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "srcset", "data", "poster", "xlink:href"):
            assert attributes.get(name, "data:").startswith("data:"), f"{tag} loads {attributes[name]}"
    assert not re.search(r"url\(|@import|https?:", page.texts["style"][0])
    assert "http" not in page.texts["script"][2]


def test_the_policy_allows_the_pages_own_scripts_and_no_network(light: None) -> None:
    page = Page(report.render(make_figures(HOSTILE)))
    (policy,) = (meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    directives = {part.split()[0]: part.split()[1:] for part in policy.split(";")}
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
        for script in page.texts["script"][1:]
    ]
    assert directives["default-src"] == ["'none'"]
    assert directives["script-src"] == hashes
    assert directives["style-src"] == ["'unsafe-inline'"]
    assert directives["img-src"] == ["data:", "blob:"]
    assert set(directives) == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}


def test_hostile_names_stay_text(light: None) -> None:
    source = report.render(make_figures(HOSTILE))
    page, plain = Page(source), Page(report.render(make_figures()))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
    seen = page.text()
    for text in ("title", "run", "corpus", "model", "note", "clip", "key", "value", REGION_TEXTS[0]):
        assert f"{text} {HOSTILE}" in seen
    assert f"Chosen on dev {HOSTILE}." in seen
    assert any(f"clip {HOSTILE}" in div.get("aria-label", "") for div in page.all("div"))


def test_json_in_the_page_cannot_end_its_element(light: None) -> None:
    source = report.render(make_figures(HOSTILE))
    raw = source.split('id="report-data">')[1].split("</script>")[0]
    assert raw.isascii()
    assert not set("<>&\n") & set(raw)
    texts = parse_strictly(raw)["plane"]["texts"]  # type: ignore[index]
    assert texts == [f"{text} {HOSTILE}" for text in REGION_TEXTS]


def test_metrics_json_is_strict_and_complete(light: None, tmp_path: Path) -> None:
    figures = make_figures(HOSTILE)
    figures["rows"] = [*figures["rows"], Row(name="empty", note="", abaw=undefined_score(), paper=None)]
    report.write_report(figures, tmp_path)
    read = parse_strictly((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert isinstance(read, dict)
    assert set(read) == set(ReportFigures.__annotations__) - {"clips", "plane"}
    assert read["rows"][:2] == figures["rows"][:2]
    assert read["rows"][2]["abaw"]["ccc_mean"] == {"value": None, "low": None, "high": None}
    assert read["rows"][2]["abaw"]["coverage"] is None
    assert read["title"] == figures["title"]
    assert read["provenance"] == [list(pair) for pair in figures["provenance"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "metrics.json"]


def test_names_that_are_not_utf8_are_written(light: None, tmp_path: Path) -> None:
    broken = b"clip\xff".decode("utf-8", errors="surrogateescape")
    page = Page(report.write_report(make_figures(broken), tmp_path).read_text(encoding="utf-8"))
    assert "model clip?" in page.text()


def test_a_report_is_replaced(light: None, tmp_path: Path) -> None:
    report.write_report(make_figures("older"), tmp_path)
    page = Page(report.write_report(make_figures("newer"), tmp_path).read_text(encoding="utf-8"))
    assert "newer" in page.text() and "older" not in page.text()


def test_a_folder_that_cannot_be_written_is_the_users_mistake(light: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here already")
    with pytest.raises(VAError, match=r"file/metrics.json: cannot be written"):
        report.write_report(make_figures(), tmp_path / "file")


def test_a_report_needs_a_row(light: None, tmp_path: Path) -> None:
    figures = make_figures()
    figures["rows"] = []
    with pytest.raises(ValueError, match="at least one row"):
        report.write_report(figures, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_demo_says_so(light: None) -> None:
    figures = make_figures()
    assert report.DEMO_BANNER not in report.render(figures)
    figures["is_demo"] = True
    assert report.DEMO_BANNER in Page(report.render(figures)).text()


def test_figures_are_written_with_their_interval(light: None) -> None:
    page = Page(report.render(make_figures()))
    numbers = page.texts["span"]
    # three cards, then the run's row under both protocols, then the baseline's
    assert [text for text in numbers if re.fullmatch(r"\D?\d\.\d{3}", text)] == (
        ["0.500"] * 6 + ["0.600"] * 3 + ["\u22120.020"] * 3
    )
    assert numbers.count("0.450 to 0.540") == 3  # in the cards the words "95% interval" come before
    assert numbers.count("\u22120.070 to 0.020") == 3
    assert "12,345 labelled frames of 76 clips, every frame with a prediction" in page.text()
    assert "n/a" in numbers


def test_incomplete_coverage_is_named_and_never_rounded_up(light: None) -> None:
    figures = make_figures()
    figures["rows"] = [Row(name="m", note="", abaw=make_score(0.5, coverage=0.99999), paper=None)]
    assert "Only 99.9% of the labelled frames have a prediction" in report.render(figures)


def test_nothing_measured_is_shown_as_such(light: None) -> None:
    figures = make_figures()
    figures["rows"] = [Row(name="m", note="", abaw=undefined_score(), paper=undefined_score())]
    figures["clips"] = []
    figures["plane"]["points_target"] = np.zeros((0, 2))
    page = Page(report.render(figures))
    assert page.texts["span"].count("n/a") == 9
    assert "No frame has a valid label." in page.text()
    assert "No clip was kept to be drawn." in page.text()
    assert "nan" not in page.text().lower()
    assert not page.all("circle")


def test_a_trajectory_is_shaded_where_it_has_no_label(light: None) -> None:
    figures = make_figures()
    clip = make_clip(8)
    clip["valid"] = np.array([False, False, True, True, False, True, True, False])
    clip["prediction"] = np.where(np.arange(8)[:, None] == 2, NAN, [0.25, 0.25])
    figures["clips"] = [clip]
    (drawn,) = page_data(Page(report.render(figures)))["clips"]  # type: ignore[misc]
    assert [value is None for value in drawn["target"][0]] == [True, True, False, False, True, False, False, True]
    assert drawn["prediction"][1] == [0.25, 0.25, None, 0.25, 0.25, 0.25, 0.25, 0.25]
    time_s = np.arange(8) / 30
    # the last run ends with the clip, where no later frame says when
    np.testing.assert_allclose(
        drawn["shaded"], [[time_s[0], time_s[2]], [time_s[4], time_s[5]], [time_s[7], time_s[7]]]
    )


def test_a_long_trajectory_is_thinned_and_loses_no_gap(light: None) -> None:
    figures = make_figures()
    clip = make_clip(3 * report.MAX_TRACK_STEPS - 1)
    valid = np.ones(3 * report.MAX_TRACK_STEPS - 1, dtype=bool)
    valid[301] = False  # drawn steps stand at frames 300, 303, ...
    clip["valid"] = valid
    figures["clips"] = [clip]
    (drawn,) = page_data(Page(report.render(figures)))["clips"]  # type: ignore[misc]
    assert len(drawn["time_s"]) == len(drawn["target"][0]) == len(drawn["prediction"][1]) == report.MAX_TRACK_STEPS
    np.testing.assert_allclose(drawn["time_s"][:3], [0.0, 0.1, 0.2])
    assert drawn["target"][0][100] is None
    np.testing.assert_allclose(drawn["shaded"], [[10.0, 10.1]])


def test_a_clip_says_its_own_figures(light: None) -> None:
    page = Page(report.render(make_figures()))
    target = np.asarray(make_clip(60)["target"])
    means, variances = target.mean(axis=0), target.var(axis=0)
    expected = variances / (1.25 * variances + (0.5 * means) ** 2)  # of half the truth against the truth
    assert f"CCC within this clip: valence {expected[0]:.3f}, arousal {expected[1]:.3f}" in page.text()


def test_regions_have_labels_and_boundaries_halfway(light: None) -> None:
    figures = make_figures()
    figures["plane"]["region_texts"] = REGION_TEXTS
    plane = page_data(Page(report.render(figures)))["plane"]
    assert isinstance(plane, dict)
    words = "sad displeased angry calm neutral alert relaxed happy excited"
    assert plane["labels"] == words.split()
    np.testing.assert_allclose(plane["valence_splits"], [-0.33, 0.33])
    np.testing.assert_allclose(plane["arousal_splits"], [-0.33, 0.33])
    np.testing.assert_allclose(plane["label_at"][:3], [[-0.66, -0.33], [-0.66, 0.33], [-0.66, 1.05]])
    assert plane["points_target"] == [[0.1, 0.2]]  # the point without a valence is left out
    assert plane["points_prediction"] == [[0.3, 0.4]]


def test_the_page_can_be_read_without_seeing_it(light: None) -> None:
    page = Page(report.render(make_figures()))
    assert page.all("html")[0]["lang"] == "en"
    assert all("scope" in header for header in page.all("th"))
    charts = [div for div in page.all("div") if "chart" in div.get("class", "").split()]
    assert len(charts) == 2
    assert all(chart["aria-label"] and chart["tabindex"] == "0" for chart in charts)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    named = [attributes["aria-labelledby"] for _, attributes in page.elements if "aria-labelledby" in attributes]
    assert len(ids) == len(set(ids)) and set(named) <= set(ids)


def test_charts_do_not_offer_to_upload_the_data(light: None) -> None:
    script = Page(report.render(make_figures())).texts["script"][2]
    assert "showSendToCloud: false" in script
    assert 'modeBarButtons: [["toImage"], ["resetScale2d"]]' in script


def test_plain_values() -> None:
    value = {"a": np.float32(0.5), "b": (np.int64(3), np.nan), "c": np.array([[True, False]]), "d": np.inf, "e": None}
    assert markup.plain(value) == {"a": 0.5, "b": [3, None], "c": [[True, False]], "d": None, "e": None}
    with pytest.raises(ValueError, match="a PosixPath has no JSON form"):
        markup.plain({"path": Path("x").absolute()})


def test_numbers_have_one_form() -> None:
    numbers = [markup.number(value) for value in (0.12345, -0.5, -0.0001, NAN, float("inf"))]
    assert numbers == ["0.123", "\u22120.500", "0.000", "n/a", "n/a"]


def test_a_placeholder_without_a_part_is_an_error() -> None:
    assert markup.fill("{{a}}-{{b}}", {"a": "{{b}}", "b": "2"}) == "{{b}}-2"
    with pytest.raises(KeyError, match="c"):
        markup.fill("{{c}}", {})
