"""The report in headless Chromium: charts, sorting, choosing, zooming, dark, narrow, and names that stay text.

One page for all tests, and every text of it that comes from outside is hostile; each test starts from what it needs.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Opened, opened
from page_material import HOSTILE, make_clip, make_figures

from va.evaluate.figures import ClipTrack
from va.evaluate.pages import report

HOSTILE_NAME = HOSTILE + "\udcff<script>alert(2)</script>"
CLIPS = 8
ROWS = "table.clips tbody tr"
ORDER = "rows => rows.filter(row => !row.hidden).map(row => row.cells[0].textContent)"
DRAWN = "document.querySelector('.chart.clip').layout?.uirevision === document.getElementById('chosen').textContent"
CHARTS = ("clip", "square", "calibration", "over-time", "lag")


def until(page: Any, expression: str, argument: Any = None) -> None:
    """Wait for something on the page; playwright's own waiting evaluates text, which the page's policy forbids."""
    last = time.monotonic() + 30
    while not page.evaluate(expression, argument):
        assert time.monotonic() < last, f"never: {expression}"
        time.sleep(0.02)


def empty_clip() -> ClipTrack:
    """A clip without a frame or a cell."""
    clip = make_clip("clip_empty", frames=1, seed=1)
    for name in ("time_s", "target", "valid", "prediction", "smoothed", "cell_time_s", "regions", "gate"):
        clip[name] = clip[name][:0]  # type: ignore[literal-required]
    clip.update(no_face=[], no_sound=[], labelled=float("nan"), metrics=dict.fromkeys(clip["metrics"], float("nan")))
    return clip


@pytest.fixture(scope="module")
def shown(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    figures = make_figures(HOSTILE_NAME, clips=CLIPS, frames=600)
    figures["clips"][2]["metrics"] = dict.fromkeys(figures["clips"][2]["metrics"], float("nan"))
    figures["clips"] = [*figures["clips"][: CLIPS - 1], empty_clip()]
    file = report.write_report(figures, tmp_path_factory.mktemp("report"))
    with opened(browser, file) as found:
        found.page.on("dialog", lambda dialog: (found.complaints.append("a dialog"), dialog.dismiss()))
        until(found.page, "window.Plotly")
        yield found


@pytest.fixture
def page(shown: Opened) -> Any:
    """The page with the box of clips in view, its charts drawn."""
    shown.page.evaluate("document.getElementById('clips').scrollIntoView()")
    until(shown.page, DRAWN)
    return shown.page


def chosen(page: Any) -> list[str]:
    return page.eval_on_selector_all(f"{ROWS}[aria-selected=true] th", "found => found.map(one => one.textContent)")  # type: ignore[no-any-return]


def traces(page: Any) -> list[Any]:
    until(page, DRAWN)
    return page.evaluate("document.querySelector('.chart.clip').data.map(one => Array.from(one.y ?? one.z.flat()))")  # type: ignore[no-any-return]


def time_range(page: Any) -> list[float]:
    return page.evaluate("document.querySelector('.chart.clip').layout.xaxis.range")  # type: ignore[no-any-return]


def sort_of(page: Any) -> list[tuple[str, str]]:
    heads = page.eval_on_selector_all(
        "table.clips th[aria-sort]", "found => found.map(one => [one.textContent, one.getAttribute('aria-sort')])"
    )
    return [tuple(head) for head in heads]


def test_every_chart_has_traces_once_it_is_near(page: Any) -> None:
    for kind in CHARTS:
        for chart in page.locator(f".chart.{kind}").all():
            chart.scroll_into_view_if_needed()
            handle = chart.element_handle()
            until(page, "chart => chart.querySelector('.main-svg') && chart.data?.length > 0", handle)
            assert page.evaluate("chart => chart.data.every(one => one.type || one.x?.length)", handle), kind
    assert page.locator(".chart").count() == page.locator(".chart .plot-container").count() == 6


def test_the_panel_draws_annotation_prediction_regions_and_gate(page: Any) -> None:
    names = page.evaluate("document.querySelector('.chart.clip').data.map(one => [one.name, one.yaxis])")
    both = [[name, axis] for axis in ("y", "y2") for name in ("annotation", "prediction", "smoothed")]
    lanes = [[name, "y3"] for name in ("no sound", "no face", "no label")]
    assert names == [*both, *lanes, ["regions", "y4"], ["gate", "y5"]]


def test_a_clip_with_nothing_in_it_is_drawn_empty(page: Any) -> None:
    page.locator("#filter").fill("empty")
    page.locator(f"{ROWS}:not([hidden])").click()
    assert [[value for value in one if value is not None] for one in traces(page)[:6]] == [[]] * 6
    page.locator("#filter").fill("")


def test_sorting_by_click_and_by_keyboard(page: Any) -> None:
    assert page.locator("table.clips").get_attribute("role") == "grid"
    heads = page.locator("table.clips thead button")
    heads.filter(has_text="Clip").click()
    by_name = page.eval_on_selector_all(ROWS, ORDER)
    assert by_name == sorted(by_name) and sort_of(page) == [("Clip", "ascending")]
    heads.filter(has_text="MAE").focus()
    page.keyboard.press("Enter")
    values = page.eval_on_selector_all(ROWS, "rows => rows.map(row => row.cells[6].textContent)")
    assert (
        values[-2:] == ["n/a", "n/a"] and values[:-2] == sorted(values[:-2]) and sort_of(page) == [("MAE", "ascending")]
    )
    page.keyboard.press("Space")
    turned = page.eval_on_selector_all(ROWS, "rows => rows.map(row => row.cells[6].textContent)")
    assert turned[-2:] == ["n/a", "n/a"] and turned[:-2] == sorted(values[:-2], reverse=True)
    assert sort_of(page) == [("MAE", "descending")]


def test_a_clip_is_chosen_by_click_and_by_arrow_keys(page: Any) -> None:
    order = page.eval_on_selector_all(ROWS, ORDER)
    page.locator(ROWS).nth(1).click()
    assert chosen(page) == [order[1]]
    first = traces(page)
    page.keyboard.press("ArrowDown")
    assert chosen(page) == [order[2]] and page.locator("#chosen").text_content() == order[2]
    second = traces(page)
    assert first[0] != second[0] and len(second) == len(first)
    assert f"Clip 3 of {CLIPS} chosen" in page.locator("#announced").text_content()
    for key, place in (("End", CLIPS - 1), ("ArrowDown", CLIPS - 1), ("ArrowUp", CLIPS - 2), ("Home", 0)):
        page.keyboard.press(key)
        assert chosen(page) == [order[place]], key
    assert page.evaluate("document.activeElement.getAttribute('aria-selected')") == "true"
    assert page.eval_on_selector_all(f"{ROWS}[tabindex='0']", "rows => rows.length") == 1
    traces(page)


def test_the_address_keeps_the_clip(page: Any) -> None:
    page.locator(ROWS).nth(3).click()
    kept = page.evaluate("location.hash")
    name = chosen(page)
    page.locator(ROWS).nth(0).click()
    assert chosen(page) != name
    page.evaluate("hash => { location.hash = hash }", kept)
    until(page, "name => document.getElementById('chosen').textContent === name", name[0])
    assert chosen(page) == name
    page.evaluate("location.hash = '#clip=%E0%A4%A'")  # neither a clip nor well-formed
    assert chosen(page) == name
    traces(page)


def test_the_filter_leaves_what_holds_its_words(page: Any) -> None:
    page.locator("#filter").fill("CLIP_05")
    (left,) = page.eval_on_selector_all(ROWS, ORDER)
    assert left.startswith("clip_05") and page.locator("#filtered").text_content() == f"1 of {CLIPS} clips"
    page.keyboard.press("Tab")  # into the box of rows: the heads come first
    page.locator(f"{ROWS}:not([hidden])").focus()
    assert chosen(page) == [left]
    page.locator("#filter").fill("nothing like it")
    assert page.eval_on_selector_all(ROWS, ORDER) == []
    page.locator("#filter").fill("")
    assert len(page.eval_on_selector_all(ROWS, ORDER)) == CLIPS
    traces(page)


def test_zoom_by_buttons_and_by_dragging(page: Any) -> None:
    page.locator("[data-zoom=all]").click()
    assert time_range(page) == [0, 20]
    page.locator("[data-zoom=in]").focus()
    page.keyboard.press("Enter")
    assert time_range(page) == [5, 15]
    page.locator("[data-zoom=later]").click()
    page.locator("[data-zoom=later]").click()
    assert time_range(page) == [10, 20]
    page.locator("[data-zoom=out]").click()
    assert time_range(page) == [0, 20]
    chart = page.locator(".chart.clip")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.move(box["x"] + 300, box["y"] + 90)
    page.mouse.down()
    page.mouse.move(box["x"] + 500, box["y"] + 95, steps=4)
    page.mouse.up()
    until(page, "document.querySelector('.chart.clip').layout.xaxis.range[0] > 0")
    low, high = time_range(page)
    assert 0 < low < high < 20
    page.locator("[data-zoom=all]").click()
    assert time_range(page) == [0, 20]


def test_charts_follow_the_readers_dark_setting(page: Any) -> None:
    colour = "document.querySelector('.chart.clip').data[1].line.color"
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    until(page, f"{colour} !== '{light}'")
    accent = "getComputedStyle(document.documentElement).getPropertyValue('--accent').trim()"
    assert page.evaluate(colour) == page.evaluate(accent) != light
    page.emulate_media(color_scheme="light")
    until(page, f"{colour} === '{light}'")


@pytest.mark.parametrize("width", [390, 760])
def test_a_narrow_window_needs_no_sideways_scrolling(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    until(page, f"document.documentElement.scrollWidth <= {width}")
    assert page.evaluate("document.querySelector('.chart.clip').clientWidth") < width
    page.set_viewport_size({"width": 1280, "height": 900})


def test_paper_gets_light_charts_of_its_own_size(page: Any) -> None:
    page.emulate_media(color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    state = """[document.querySelector('.chart.clip').layout.width, document.documentElement.className,
        [...document.querySelectorAll('details')].every(one => one.open)]"""
    assert page.evaluate(state) == [690, "printing", True]
    assert page.evaluate("document.querySelector('.chart.clip').data[1].line.color") == "#0072b2"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(state)[:2] == [None, ""]
    page.emulate_media(color_scheme="light")


def test_hostile_names_stay_text(page: Any) -> None:
    assert page.locator("img, iframe, object, svg script").count() == 0
    # plotly's run copy stands beside the three elements of the page
    assert page.locator("script").count() == 4
    name = page.locator(f"{ROWS} th").first.text_content()
    assert HOSTILE in name and "<script>alert(2)</script>" in name and "\udcff" not in name
    assert page.locator(".chart.clip").evaluate("chart => chart.layout.yaxis4.ticktext.length") == 9


def test_the_browser_had_nothing_to_complain_of_and_nothing_was_asked_for(shown: Opened, page: Any) -> None:
    """Last in the file: it looks back at all that the others did."""
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_timeout(100)
    assert shown.complaints == []
    assert shown.requests == []


def test_a_run_without_the_region_term_is_drawn_without_their_rows(browser: Any, tmp_path: Path) -> None:
    figures = make_figures(clips=2, frames=300)
    for clip in figures["clips"]:
        clip["regions"] = None
    figures["plane"].update(centers=np.zeros((0, 2)), region_texts=())
    with opened(browser, report.write_report(figures, tmp_path)) as found:
        until(found.page, "window.Plotly")
        found.page.evaluate("document.getElementById('clips').scrollIntoView()")
        until(found.page, DRAWN)
        names = found.page.evaluate("document.querySelector('.chart.clip').data.map(trace => trace.name)")
        assert "regions" not in names and {"annotation", "prediction", "gate", "no face"} <= set(names)
        gate = "const trace = document.querySelector('.chart.clip').data.find(trace => trace.name === 'gate'); "
        shown = found.page.evaluate(f"(() => {{ {gate} return trace.y; }})()")
        clip = next(clip for clip in figures["clips"] if clip["id"] == found.page.inner_text("#chosen"))
        np.testing.assert_allclose(shown, clip["gate"], atol=1e-3)
        found.page.evaluate("document.getElementById('plane').scrollIntoView()")
        until(found.page, "document.querySelector('.chart.square').layout?.annotations?.length === 0")
        assert found.complaints == [] and found.requests == []
