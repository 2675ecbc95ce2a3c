"""The player's page in a browser: what is shown follows the clock, and the clock follows mouse and keys."""

import base64
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Opened, opened
from numpy.typing import NDArray
from played import make_data, write
from support import draw_number, make_video, read_number, sine

from va.data import media, timeline
from va.evaluate.media import transcode
from va.evaluate.player_data import PlayerData

SECONDS = 6.0
READY = "() => [...document.querySelectorAll('video')].every((video) => video.readyState >= 2)"


def wide(index: int) -> NDArray[np.uint8]:
    """A number twice beside each other: 128 wide, 64 high."""
    return np.concatenate([draw_number(index)] * 2, axis=1)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds at 29.97 pictures a second, with sound that starts late."""
    file = tmp_path_factory.mktemp("source") / "a clip.mp4"
    make_video(
        file,
        rate=Fraction(30_000, 1001),
        seconds=SECONDS,
        draw=wide,
        audio=sine(hz=440, seconds=4, level=0.1),
        audio_offset_s=1.0,
    )
    return file


def data_of(source: Path, **changed: Any) -> PlayerData:
    return make_data(video=source, duration_s=media.probe(source).duration_s, **changed)


@pytest.fixture(scope="module")
def shown(source: Path, browser: Any) -> Iterator[Opened]:
    """A page with the video inside, opened once for the tests that do not mind in what state it is."""
    data = data_of(
        source, title="<b>bold</b>", smoothed=0.9 * make_data(duration_s=media.probe(source).duration_s)["va"]
    )
    file = write(data, source.parent / "page.html", "embed")
    with opened(browser, file) as it:
        it.page.wait_for_function(READY)
        yield it


def seek(page: Any, time_s: float, index: int = 0) -> None:
    page.evaluate(
        """([t, index]) => new Promise((done) => {
          const video = document.querySelectorAll("video")[index];
          const settle = () => requestAnimationFrame(() => requestAnimationFrame(done));
          video.pause();
          video.addEventListener("seeked", settle, { once: true });
          video.currentTime = t;
        })""",
        [time_s, index],
    )


def current(page: Any) -> float:
    return float(page.evaluate("document.getElementById('video').currentTime"))


def between(rows: Any, data: PlayerData, time_s: float) -> NDArray[np.float64]:
    """NumPy's interpolation as oracle for what the page shows."""
    return np.array([np.interp(time_s, data["cell_time_s"], column) for column in np.asarray(rows, dtype=float).T])


def test_nothing_is_complained_of_or_asked_for(shown: Opened) -> None:
    assert shown.complaints == [] and shown.requests == []
    assert shown.page.locator("#chart .main-svg").count() > 0
    assert shown.page.locator("#chart .scatterlayer .trace").count() == 5  # valence and arousal, smoothed too, sound
    assert shown.page.locator("h1").inner_text() == "<b>bold</b>" and shown.page.locator("h1 b").count() == 0


@pytest.mark.parametrize("time_s", [0.3, 2.0, 3.1, 5.9])
def test_point_regions_and_numbers_follow_the_clock(shown: Opened, source: Path, time_s: float) -> None:
    data = data_of(source)
    seek(shown.page, time_s)
    valence, arousal = between(data["va"], data, time_s)
    found = shown.page.evaluate(
        """() => {
        const all = (selector) => [...document.querySelectorAll(selector)];
        return {
          point: ["cx", "cy"].map((name) => Number(document.getElementById("point").getAttribute(name))),
          lit: all(".region").map((group) => Number(group.style.getPropertyValue("--p"))),
          fill: getComputedStyle(document.querySelector(".region.first rect")).fill,
          numbers: all(".now dd:first-of-type").map((dd) => dd.textContent.replace("\\u2212", "-")),
          trail: all("#trail line").filter((line) => line.getAttribute("visibility") === "visible").length,
          said: document.getElementById("track").getAttribute("aria-valuetext"),
          now: Number(document.getElementById("track").getAttribute("aria-valuenow")),
          head: document.getElementById("head").getBoundingClientRect().x + 1,
          drag: document.querySelector("#chart .nsewdrag").getBoundingClientRect().toJSON(),
        };}"""
    )
    np.testing.assert_allclose(found["point"], [100 * valence, -100 * arousal], atol=0.05)
    shares = between(data["regions"], data, time_s)
    np.testing.assert_allclose(found["lit"], 0.75 * shares / data["regions"].max(), atol=2e-3)
    first = int(shares.argmax())
    gate = np.interp(time_s, data["cell_time_s"], data["gate"])  # type: ignore[arg-type]
    *numbers, likeliest = found["numbers"]
    np.testing.assert_allclose([float(value) for value in numbers], [valence, arousal, gate], atol=0.0051)
    assert likeliest == f"{data['region_texts'][first]} ({round(100 * shares[first])}%)"
    assert "rgba" in found["fill"]
    assert found["trail"] == min(24, int(time_s / 3 * 24 + 1e-9))
    assert found["now"] == pytest.approx(time_s, abs=0.01) and f"{time_s:.1f} of 6.0 seconds" in found["said"]
    # The playhead stands where plotly's own axis has that time.
    x = found["drag"]["x"] + found["drag"]["width"] * time_s / data["duration_s"]
    assert found["head"] == pytest.approx(x, abs=1.5)


def box_on_screen(page: Any) -> Any:
    """The box, and the picture inside its element, in pixels of the window."""
    return page.evaluate(
        """() => {
          const video = document.getElementById("video");
          const outer = video.getBoundingClientRect();
          const scale = Math.min(outer.width / video.videoWidth, outer.height / video.videoHeight);
          const [width, height] = [video.videoWidth * scale, video.videoHeight * scale];
          const box = document.getElementById("box");
          const at = box.getBoundingClientRect();
          return {
            visible: box.getAttribute("visibility") === "visible",
            box: [at.left, at.top, at.right, at.bottom],
            picture: [outer.left + (outer.width - width) / 2, outer.top + (outer.height - height) / 2, width, height],
          };
        }"""
    )


@pytest.mark.parametrize("size", [None, ("300px", "300px"), ("500px", "120px")])
def test_the_box_lies_on_the_face_also_when_letterboxed(
    shown: Opened, source: Path, size: tuple[str, str] | None
) -> None:
    data = data_of(source)
    page, time_s = shown.page, 4.0
    seek(page, time_s)
    if size:
        page.evaluate(
            "([w, h]) => Object.assign(document.getElementById('stage').style, { width: w, height: h })", size
        )
    found = box_on_screen(page)
    page.evaluate("() => Object.assign(document.getElementById('stage').style, { width: '', height: '' })")
    left, top, width, height = found["picture"]
    assert width / height == pytest.approx(2, abs=0.01)
    box = between(data["boxes"], data, time_s)
    expected = [left + box[0] * width, top + box[1] * height, left + box[2] * width, top + box[3] * height]
    assert found["visible"]
    np.testing.assert_allclose(found["box"], expected, atol=1.5)  # half of the line's width


def test_there_is_no_box_without_a_face(shown: Opened) -> None:
    seek(shown.page, 2.5)  # cells 4 and 5 have no face: from 2 to 3 s
    assert not box_on_screen(shown.page)["visible"]
    seek(shown.page, 1.9)  # nearer to a cell with a face
    assert box_on_screen(shown.page)["visible"]


def test_a_click_and_a_drag_on_the_trajectory_seek(shown: Opened) -> None:
    page = shown.page
    axis = page.locator("#chart .nsewdrag").first.bounding_box()

    def x(share: float) -> float:
        return float(axis["x"] + share * axis["width"])

    page.mouse.click(x(0.5), axis["y"] + 20)
    assert current(page) == pytest.approx(3.0, abs=0.03)
    page.mouse.move(x(0.25), axis["y"] + 30)
    page.mouse.down()
    page.mouse.move(x(0.4), axis["y"] + 35, steps=3)
    page.mouse.move(x(0.75), axis["y"] - 200, steps=3)
    page.mouse.up()
    assert current(page) == pytest.approx(4.5, abs=0.03)
    page.mouse.move(x(0.1), axis["y"] + 30)  # after the drag
    assert current(page) == pytest.approx(4.5, abs=0.03)
    page.mouse.move(0, 0)


def test_keys_move_the_clock(shown: Opened) -> None:
    page = shown.page
    page.evaluate("document.activeElement.blur()")
    seek(page, 2.0)
    for keys, expected in (
        (["ArrowRight"], 3.0),
        (["ArrowLeft", "ArrowLeft"], 1.0),
        (["Shift+ArrowRight"], 6.0),
        (["Home"], 0.0),
        (["ArrowLeft"], 0.0),
        (["End"], SECONDS),
        (["Shift+ArrowLeft"], 1.0),
    ):
        for key in keys:
            page.keyboard.press(key)
        assert current(page) == pytest.approx(expected, abs=0.02), keys


def test_the_trajectory_is_a_slider_that_tab_reaches(shown: Opened) -> None:
    page = shown.page
    page.evaluate("document.getElementById('speed').focus()")
    page.keyboard.press("Tab")
    slider = page.locator(":focus")
    assert slider.get_attribute("role") == "slider" and slider.get_attribute("aria-label")
    assert float(slider.get_attribute("aria-valuemax")) == pytest.approx(SECONDS, abs=0.05)
    seek(page, 2.0)
    page.keyboard.press("ArrowUp")
    assert float(slider.get_attribute("aria-valuenow")) == pytest.approx(3.0, abs=0.01)
    page.keyboard.press("ArrowDown")
    assert "2.0 of" in slider.get_attribute("aria-valuetext")


def test_it_plays_and_pauses(shown: Opened) -> None:
    page = shown.page
    page.evaluate("document.activeElement.blur(); document.getElementById('video').muted = true")
    seek(page, 1.0)
    for key in ("Space", "k"):
        before = current(page)
        page.keyboard.press(key)
        page.wait_for_function("(t) => document.getElementById('video').currentTime > t + 0.3", arg=before)
        assert page.locator("#play").inner_text() == "Pause"
        head = page.evaluate("parseFloat(document.getElementById('head').style.left)")
        assert 100 * (before + 0.2) / SECONDS < head < 100
        page.keyboard.press(key)
        assert page.evaluate("document.getElementById('video').paused")
        assert page.locator("#play").inner_text() == "Play"
    page.locator("#play").click()
    assert not page.evaluate("document.getElementById('video').paused")
    page.keyboard.press("Space")  # presses the button in focus, once
    assert page.evaluate("document.getElementById('video').paused")


def seen_numbers(page: Any, times_s: Any, index: int = 0) -> list[int]:
    """What the browser shows at each time, read from its pixels."""
    found = []
    for time_s in times_s:
        seek(page, float(time_s), index)
        pixels = page.evaluate(
            """(index) => {
              const canvas = Object.assign(document.createElement("canvas"), { width: 128, height: 64 });
              const drawn = canvas.getContext("2d");
              drawn.drawImage(document.querySelectorAll("video")[index], 0, 0, 128, 64);
              return [...drawn.getImageData(0, 0, 64, 64).data];
            }""",
            index,
        )
        found.append(read_number(np.array(pixels).reshape(64, 64, 4)[:, :, :3]))
    return found


def test_the_browser_shows_the_picture_that_va_saw(shown: Opened, source: Path) -> None:
    frames = media.probe(source).frame_time_s
    times_s = timeline.cell_centers(12)[::2]
    assert seen_numbers(shown.page, times_s) == timeline.frame_at(frames, times_s).tolist()


CLOCKS: dict[str, dict[str, Any]] = {
    "29.97.avi": {"rate": Fraction(30_000, 1001), "codec": "mpeg4", "audio": sine(hz=440, seconds=3)},
    "variable.mp4": {"ticks": np.cumsum(np.random.default_rng(5).integers(900, 20_000, 30)).tolist()},
    "late pictures.mp4": {"video_offset_s": 0.6, "audio": sine(hz=440, seconds=3)},
}


def test_the_browser_shows_the_same_pictures_of_copies(tmp_path: Path, browser: Any) -> None:
    tags = []
    for name, how in CLOCKS.items():
        source, copy = tmp_path / name, tmp_path / f"{name}.copy"
        make_video(source, seconds=2.5, draw=lambda index: wide(index + 1), **how)
        duration_s = media.probe(source).duration_s
        transcode.convert(
            source, copy, duration_s=duration_s, bits_per_s=1e6, beat=lambda: None, reached=lambda done_s: None
        )
        tags.append(f'<video src="data:video/mp4;base64,{base64.b64encode(copy.read_bytes()).decode()}"></video>')
    (tmp_path / "page.html").write_text("".join(tags))
    with opened(browser, tmp_path / "page.html") as it:
        it.page.wait_for_function(READY)
        durations = it.page.evaluate("[...document.querySelectorAll('video')].map((video) => video.duration)")
        for index, name in enumerate(CLOCKS):
            info = media.probe(tmp_path / name)
            assert durations[index] == pytest.approx(info.duration_s, abs=0.07)
            times_s = timeline.cell_centers(timeline.num_cells(info.duration_s) - 1)
            expected = timeline.frame_at(info.frame_time_s, times_s) + 1  # 0 is black: nothing on screen yet
            assert seen_numbers(it.page, times_s, index) == expected.tolist(), name


def test_a_linked_video_plays_beside_its_page(tmp_path: Path, browser: Any, source: Path) -> None:
    file = write(data_of(source), tmp_path / "page.html", "link")
    with opened(browser, file, dark=True, width=390, height=800) as it:
        it.page.wait_for_function(READY)
        seek(it.page, 2.0)
        assert current(it.page) == pytest.approx(2.0)
        assert it.page.evaluate("document.documentElement.scrollWidth") == 390
        assert it.complaints == [] and it.requests == [source.as_uri()]


def test_without_a_video_time_itself_plays(tmp_path: Path, browser: Any) -> None:
    long = "a_very_long_name_without_any_space_in_it_" * 4
    data = make_data(duration_s=30.0, title=long, notes=[long], region_texts=[long] * 9, provenance=[(long, long)])
    file = write(data, tmp_path / "page.html", "none")
    with opened(browser, file, width=390, height=800) as it:
        page = it.page
        assert page.evaluate("document.documentElement.scrollWidth") == 390

        def now() -> float:
            return float(page.locator("#track").get_attribute("aria-valuenow"))

        page.keyboard.press("ArrowRight")
        assert now() == pytest.approx(1.0)
        point = [float(page.locator("#point").get_attribute(name)) for name in ("cx", "cy")]
        np.testing.assert_allclose(point, between(data["va"], data, 1.0) * (100, -100), atol=0.05)
        page.locator("#speed").select_option("2")
        page.locator("#play").click()
        page.wait_for_function("() => parseFloat(document.getElementById('head').style.left) > 5")
        page.locator("#play").click()
        assert page.locator("#play").inner_text() == "Play" and 1.5 < now() < 30
        page.keyboard.press("End")
        page.keyboard.press("ArrowLeft")
        assert now() == pytest.approx(29.0)
        page.keyboard.press("k")
        page.wait_for_function("() => document.getElementById('play').textContent === 'Play'")
        assert now() == pytest.approx(30.0)
        again = page.evaluate(
            """() => {
              document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "k", bubbles: true }));
              return Number(document.getElementById("track").getAttribute("aria-valuenow"));
            }"""
        )
        assert again < 1  # from the end it starts again
        assert it.complaints == [] and it.requests == []


def test_a_video_that_the_browser_refuses_is_said(tmp_path: Path, browser: Any, source: Path) -> None:
    file = write(data_of(source), tmp_path / "page.html", "link")
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("a%20clip.mp4", "gone.mp4"), encoding="utf-8")
    with opened(browser, file) as it:
        it.page.wait_for_selector("text=This browser cannot show the video")
        it.page.keyboard.press("ArrowRight")
        assert float(it.page.locator("#track").get_attribute("aria-valuenow")) == pytest.approx(1.0)
        assert it.page.locator("#mute").count() == 0


def test_clock_and_axis_agree_after_the_window_changes(shown: Opened) -> None:
    page = shown.page
    seek(page, 3.0)
    for width in (700, 390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function(
            """(share) => {
              const axis = document.querySelector("#chart .nsewdrag").getBoundingClientRect();
              const head = document.getElementById("head").getBoundingClientRect();
              return Math.abs(head.x + 1 - axis.x - share * axis.width) < 1.5
                && document.documentElement.scrollWidth <= innerWidth;
            }""",
            arg=0.5,
            timeout=5000,
        )


def test_a_run_without_the_region_term_lights_no_region(tmp_path: Path, browser: Any) -> None:
    data = make_data(regions=None)
    with opened(browser, write(data, tmp_path / "page.html", "none")) as it:
        it.page.keyboard.press("ArrowRight")
        assert it.page.locator(".region").count() == it.page.locator(".likeliest").count() == 0
        assert it.page.locator("#point").get_attribute("visibility") == "visible"
        said = it.page.locator("#track").get_attribute("aria-valuetext")
        assert said.startswith("1.0 of 6.0 seconds, valence") and not said.endswith(", ")
        assert it.complaints == [] and it.requests == []
