"""The report: strict JSON, a page that loads nothing, names that stay text, and figures that say what they are."""

import base64
import hashlib
import itertools
import re
from pathlib import Path

import numpy as np
import plotly.offline
import pytest
from html_page import Page, parse_strictly
from page_material import HOSTILE, NAN, make_clip, make_figures, score, undefined_score

from va.data.regions import REGION_TEXTS
from va.errors import VAError
from va.evaluate.figures import ReportFigures, Row
from va.evaluate.pages import markup, report, report_tables, sentences
from va.evaluate.protocol import Figure

MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle of a few bytes: most tests look at everything but it."""
    monkeypatch.setattr(plotly.offline, "get_plotlyjs", lambda: "/* bundle */")


def shown(figures: ReportFigures) -> Page:
    page = Page(report.render(figures))
    assert page.open == []
    return page


def without_labels() -> ReportFigures:
    """What a split without one valid label gives."""
    figures = make_figures(clips=2, smoothed=False)
    for clip in figures["clips"]:
        clip["valid"] = np.zeros_like(clip["valid"])
        clip["labelled"] = 0.0
        clip["metrics"] = dict.fromkeys(clip["metrics"], NAN)
    none = dict.fromkeys(figures["pooled"]["raw"], NAN)
    zeros = np.zeros_like(figures["plane"]["density_target"])
    figures["plane"].update(density_target=zeros, density_prediction=zeros)
    figures.update(
        rows=[Row(kind="run", name="m", note="", abaw=undefined_score(), paper=undefined_score())],
        comparisons=[],
        robustness=[],
        pooled={"raw": none},
        per_video={"raw": none},
        smoothing=None,
        lag=None,
        over_time=None,
        calibration={},
        filled=NAN,
    )
    return figures


# --- safe and whole


def test_the_real_page_is_whole_and_loads_nothing(tmp_path: Path) -> None:
    path = report.write_report(make_figures(HOSTILE), tmp_path / "new" / "folder")
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    assert page.texts["script"][1] == plotly.offline.get_plotlyjs()
    for tag, attributes in page.elements:
        for name in ("src", "href", "action", "srcset", "data", "poster", "xlink:href"):
            assert attributes.get(name, "data:").startswith(("data:", "#")), f"{tag} loads {attributes[name]}"
    assert not re.search(r"url\(|@import|https?:", page.texts["style"][0])
    assert "http" not in page.texts["script"][2]


def test_the_policy_allows_the_pages_own_scripts_and_no_network(light: None) -> None:
    page = shown(make_figures(HOSTILE))
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
    page, plain = shown(make_figures(HOSTILE)), shown(make_figures())
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
    seen = page.text()
    figures = make_figures(HOSTILE)
    texts = [figures[name] for name in ("title", "run", "corpus", "selected_on", "fill")]
    texts += [clip["id"] for clip in figures["clips"]] + list(figures["plane"]["region_texts"])
    texts += [figures["rows"][0]["name"], figures["rows"][0]["note"], figures["published"][0]["name"]]
    texts += [figures["comparisons"][0]["name"], figures["comparisons"][0]["sentence"]]
    texts += [figures["robustness"][0]["name"], figures["smoothness"][-1]["name"], *figures["provenance"][0]]
    texts += figures["warnings"]
    assert figures["smoothing"] is not None
    for text in [*texts, figures["smoothing"]["chosen_on"]]:
        assert HOSTILE in text and text in seen, text


def test_json_in_the_page_cannot_end_its_element(light: None) -> None:
    source = report.render(make_figures(HOSTILE))
    raw = source.split('id="data">')[1].split("</script>")[0]
    assert raw.isascii()
    assert not set("<>&\n") & set(raw)
    texts = parse_strictly(raw)["plane"]["texts"]  # type: ignore[index]
    assert texts == [f"{text}{HOSTILE}" for text in REGION_TEXTS]


def test_metrics_json_is_strict_and_complete(light: None, tmp_path: Path) -> None:
    figures = make_figures(HOSTILE)
    figures["rows"] = [*figures["rows"], Row(kind="baseline", name="e", note="", abaw=undefined_score(), paper=None)]
    report.write_report(figures, tmp_path)
    read = parse_strictly((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert isinstance(read, dict)
    assert set(read) == set(figures) - {"plane"} == set(ReportFigures.__annotations__) - {"plane", "submission"}
    assert read["rows"][:5] == figures["rows"][:5]
    assert read["rows"][5]["abaw"]["ccc_mean"] == {"value": None, "low": None, "high": None}
    assert read["rows"][5]["abaw"]["coverage"] is None
    assert [clip["metrics"] for clip in read["clips"]] == [clip["metrics"] for clip in figures["clips"]]
    assert set(read["clips"][0]) == {"id", "duration_s", "labelled", "metrics", "no_face", "no_sound"}
    assert read["calibration"]["valence"]["count"] == figures["calibration"]["valence"]["count"].tolist()
    assert read["provenance"] == [list(pair) for pair in figures["provenance"]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "metrics.json"]


def test_names_that_are_not_utf8_are_written(light: None, tmp_path: Path) -> None:
    broken = b"\xff".decode("utf-8", errors="surrogateescape")
    page = Page(report.write_report(make_figures(broken), tmp_path).read_text(encoding="utf-8"))
    assert "Full model?" in page.text()


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


# --- what the headline says


def test_the_demo_says_so(light: None) -> None:
    figures = make_figures()
    assert "Demo encoders" not in report.render(figures)
    figures["is_demo"] = True
    assert sentences.DEMO_ON_DRAWN in shown(figures).text()


def test_demo_encoders_on_a_real_corpus_are_not_said_to_be_on_a_synthetic_one(light: None) -> None:
    figures = make_figures()
    figures.update(is_demo=True, synthetic=False, corpus="people")
    said = shown(figures).text()
    assert sentences.DEMO_ON_REAL in said and "Demo encoders on a synthetic corpus" not in said


@pytest.mark.parametrize(
    ("target", "fill", "said"),
    [
        ("frames", "nearest", "every validly labelled frame: overlapping windows averaged, frame times"),
        ("end", "interpolate", "every validly labelled frame: what each window says of its end, frame times"),
        ("end", "none", "frame that has one of its own (--fill none): what each window says of its end, frame"),
    ],
)
def test_how_frames_got_their_predictions_is_said(light: None, target: str, fill: str, said: str) -> None:
    figures = make_figures()
    figures.update(target=target, fill=fill)
    text = shown(figures).text()
    assert said in text
    assert ("overlapping windows averaged" in text) is (target == "frames")
    assert ("ABAW: every labelled frame" in text) is (fill != "none")


def test_a_run_without_the_region_term_says_nothing_about_regions(light: None) -> None:
    figures = make_figures()
    assert sentences.NO_REGIONS not in shown(figures).text()
    for clip in figures["clips"]:
        clip["regions"] = None
    figures["plane"].update(centers=np.zeros((0, 2)), region_texts=())
    page = shown(figures)
    assert sentences.NO_REGIONS in page.text()
    for words in ("Texts and centres of the regions", "region probabilities", "centres of the regions"):
        assert words not in page.text()
    assert not any(text in page.text() for text in REGION_TEXTS)


def test_the_cards_hold_the_runs_own_raw_figures(light: None) -> None:
    page = shown(make_figures())
    cards = [text for text in page.texts["span"] if re.fullmatch(r"\d\.\d{3}", text)][:3]
    assert cards == ["0.480", "0.520", "0.500"]
    assert "12,345 labelled frames of 76 clips, by the ABAW protocol, raw." in page.text()
    assert "100% of the labelled frames have a prediction." in page.text()
    assert "0.4% of them have none of their own and were filled: linearly in time from" in page.text()
    assert "not the official score" not in page.text()


def test_nothing_filled_is_said(light: None) -> None:
    figures = make_figures()
    figures["filled"] = 0.0
    assert "None had to be filled." in shown(figures).text()


def test_incomplete_coverage_is_named_and_never_rounded_up(light: None) -> None:
    figures = make_figures()
    figures["rows"] = [Row(kind="run", name="m", note="", abaw=score(0.5, coverage=0.99999), paper=None)]
    assert "Only 99.9% of the labelled frames have a prediction: this is not the official score." in (
        shown(figures).text()
    )


def test_a_label_shift_is_named(light: None) -> None:
    figures = make_figures()
    figures["label_shift_s"] = -0.4
    assert f"Labels were shifted by {MINUS}0.40 s before scoring: no figure of this page is the official score." in (
        shown(figures).text()
    )


def test_without_a_valid_label_no_card_pretends(light: None) -> None:
    page = shown(without_labels())
    seen = page.text()
    assert "no frame of this split has both a valid label and a prediction" in seen
    assert not [div for div in page.all("div") if "card" in div.get("class", "").split()]
    assert "Nothing was smoothed." in seen
    assert seen.count("Not defined here: there are too few labelled frames with a prediction.") == 3
    assert "nan" not in seen.lower()
    assert not page.all("circle")


def test_a_split_without_clips_is_shown(light: None) -> None:
    figures = without_labels()
    figures["clips"] = []
    assert "The split has no clip to show." in shown(figures).text()


# --- tables


def test_models_are_grouped_and_written_with_their_intervals(light: None) -> None:
    source = report_tables.models(make_figures()["rows"], every_frame=True)
    groups = re.findall(r'rowgroup" colspan="8">([^<]*)<', source)
    assert groups == ["This run", "Compared runs", "Baselines"]
    numbers = re.findall(r'class="number[^>]*>([^<]*)<', source)
    assert numbers[:6] == ["0.480", "0.520", "0.500", "0.580", "0.620", "0.600"]
    assert numbers[-6:] == [f"{MINUS}0.040", "0.000", f"{MINUS}0.020", "n/a", "n/a", "n/a"]
    assert '<span class="interval">0.460 to 0.540' in source


def test_published_figures_stand_apart(light: None) -> None:
    figures = make_figures()
    seen = shown(figures).text()
    assert "Published for Aff-Wild2: quoted, not verified here" in seen
    assert "The corpus here is not Aff-Wild2: no figure of this page can be compared with these." in seen
    assert seen.count("not said") == 2
    figures["synthetic"], figures["corpus"] = False, "Aff-Wild2 (ABAW)"
    assert "The corpus here is not Aff-Wild2" not in shown(figures).text()
    figures["corpus"] = "RECOLA"
    assert "The corpus here is not Aff-Wild2" in shown(figures).text()


def test_comparisons_are_there_only_when_there_are_some(light: None) -> None:
    figures = make_figures()
    page = shown(figures)
    assert "Against other runs" in page.text()
    assert "+0.110" in page.texts["span"] and f"{MINUS}0.030" in page.texts["span"]
    # valence and mean leave out 0, arousal does not; in robustness one of two does
    assert sum("clear" in cell.get("class", "").split() for cell in page.all("td")) == 3
    figures["comparisons"] = []
    page = shown(figures)
    assert "Against other runs" not in page.text()
    assert "#differences" not in [link["href"] for link in page.all("a")]


def test_links_lead_to_sections(light: None) -> None:
    page = shown(make_figures())
    ids = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    links = [link["href"] for link in page.all("a")]
    assert len(links) == 8 and {link[1:] for link in links} <= ids


def test_the_chosen_smoothing_stands_among_its_candidates() -> None:
    source = report_tables.smoothing(make_figures()["smoothing"])
    assert "Smoothing: gaussian kernel, 1.5 s wide; chosen on dev (12 clips)." in source
    assert "All 7 candidates" in source
    (chosen,) = re.findall(r'<tr class="own"><th scope="row">(\w+)</th><td>([\d.]+)</td><td>([\d.]+)', source)
    assert chosen == ("gaussian", "1.5", "0.550")


def test_no_smoothing_can_be_the_choice() -> None:
    found = make_figures()["smoothing"]
    assert found is not None
    found.update(kernel="none", width_s=0.0)
    assert "Smoothing: none, as none helped; chosen on dev" in report_tables.smoothing(found)


def test_clips_come_worst_first_and_those_without_a_figure_last(light: None) -> None:
    figures = make_figures(clips=5)
    means = (0.5, NAN, -0.1, 0.3, NAN)
    for clip, mean in zip(figures["clips"], means, strict=True):
        clip["metrics"] = {**clip["metrics"], "ccc_mean": mean}
    assert report.worst_first(figures["clips"]) == [2, 3, 0, 1, 4]
    page = shown(figures)
    rows = re.findall(r'data-index="(\d)"><th scope="row">clip_0(\d)<', report.render(figures))
    assert rows == [("0", "2"), ("1", "3"), ("2", "0"), ("3", "1"), ("4", "4")]
    assert [clip["id"] for clip in page.data()["clips"]] == [f"clip_0{name}" for _, name in rows]  # type: ignore[attr-defined]


def test_smoothing_that_was_given_has_no_candidates() -> None:
    found = make_figures()["smoothing"]
    assert found is not None
    found.update(chosen_on="no clips: both were given", candidates=[])
    assert report_tables.smoothing(found).endswith("chosen on no clips: both were given.</p>")


def test_a_shift_that_is_not_defined_is_not_drawn(light: None) -> None:
    figures = make_figures()
    assert figures["lag"] is not None
    assert "Best at 0.50 s." in shown(figures).text()
    figures["lag"]["best_s"] = NAN
    page = shown(figures)
    assert "Best at" not in page.text() and "Not defined here" in page.text()
    assert not [div for div in page.all("div") if div.get("class") == "chart lag"]


def test_every_metric_is_there_in_both_poolings() -> None:
    source = report_tables.metrics(make_figures())
    assert source.count('<tr><th scope="row">') == 10
    for name in ("CCC", "PCC, Pearson&#x27;s correlation", "RMSE", "MAE", "Sign agreement"):
        assert source.count(f">{name}<") == 2
    assert ">Smoothed</th>" in source
    figures = make_figures()
    del figures["pooled"]["smoothed"], figures["per_video"]["smoothed"]
    assert ">Smoothed</th>" not in report_tables.metrics(figures)


def test_clips_without_a_metric_of_their_own_are_counted_below_it() -> None:
    figures = make_figures()
    raw = figures["per_video"]["raw"]
    raw |= {f"undefined_{name}": 0.0 for name in list(raw)} | {"undefined_pcc_arousal": 3.0}
    source = report_tables.metrics(figures)
    assert source.count('<tr><th scope="row">') == 10
    assert source.count("clips have none") == source.count("3 clips have none") == 1


def test_smoothness_has_three_digits_whatever_the_size() -> None:
    rows = make_figures()["smoothness"]
    rows[0].update(tv_valence=0.01234, tv_arousal=123.4, jerk_valence=0.0, jerk_arousal=NAN)
    cells = re.findall(r"<td>(.*?)</td>", report_tables.smoothness(rows[:1]))
    assert cells == ["0.0123", "123", "0.000", '<span class="muted">n/a</span>']


def test_shares_are_never_rounded_up() -> None:
    values = (0.0, 0.0004, 0.5, 0.9999, 1.0, NAN, 0.29)
    assert [report_tables.share(value) for value in values] == [
        "0.0%",
        "less than 0.1%",
        "50.0%",
        "99.9%",
        "100%",
        "n/a",
        "29.0%",
    ]


def test_an_interval_that_is_not_defined_is_named() -> None:
    assert "no interval" in report_tables.figure(Figure(value=0.5, low=NAN, high=NAN))


# --- for everybody


def test_the_page_can_be_read_without_seeing_it(light: None) -> None:
    page = shown(make_figures())
    assert page.all("html")[0]["lang"] == "en"
    assert all("scope" in header for header in page.all("th"))
    charts = [div for div in page.all("div") if "chart" in div.get("class", "").split()]
    assert len(charts) == 6
    assert all(chart.get("aria-label") or chart.get("aria-labelledby") for chart in charts)
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    named = [words for _, attributes in page.elements for words in attributes.get("aria-labelledby", "").split()]
    assert len(ids) == len(set(ids)) and set(named) <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1 and all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels))
    assert [label["for"] for label in page.all("label")] == [field["id"] for field in page.all("input")]


def test_charts_do_not_offer_to_upload_the_data(light: None) -> None:
    script = shown(make_figures()).texts["script"][2]
    assert "showSendToCloud: false" in script
    assert set(re.findall(r"charts\.config\((.*?)\)", script)) == {
        '[["toImage"], ["resetScale2d"]]',
        '[["toImage"]]',
    }


def test_a_clip_of_one_frame_is_shown(light: None) -> None:
    figures = make_figures()
    figures["clips"] = [make_clip("short", frames=1, seed=1)]
    assert "short" in shown(figures).text()


# --- markup


def test_plain_values() -> None:
    value = {"a": np.float32(0.5), "b": (np.int64(3), np.nan), "c": np.array([[True, False]]), "d": np.inf, "e": None}
    assert markup.plain(value) == {"a": 0.5, "b": [3, None], "c": [[True, False]], "d": None, "e": None}
    with pytest.raises(ValueError, match="a PosixPath has no JSON form"):
        markup.plain({"path": Path("x").absolute()})


def test_numbers_have_one_form() -> None:
    numbers = [markup.number(value) for value in (0.12345, -0.5, -0.0001, NAN, float("inf"))]
    assert numbers == ["0.123", f"{MINUS}0.500", "0.000", "n/a", "n/a"]


def test_a_placeholder_without_a_part_is_an_error() -> None:
    assert markup.fill("{{a}}-{{b}}", {"a": "{{b}}", "b": "2"}) == "{{b}}-2"
    with pytest.raises(KeyError, match="c"):
        markup.fill("{{c}}", {})
