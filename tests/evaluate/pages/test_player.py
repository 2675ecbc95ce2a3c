"""The player's page as HTML: what it says, that names stay text, and where its video comes from."""

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import plotly.offline
import pytest
from played import make_data, write
from support import make_video

from va.data import media
from va.errors import VAError
from va.evaluate.pages import player, player_parts
from va.evaluate.pages.sentences import NO_REGIONS

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&{{data}}{{video}} \u2028 é 😀"


class Seen(HTMLParser):
    """Elements with attributes, and all text outside scripts and styles."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        self.scripts: list[str] = []
        self.inside = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        self.inside = tag if tag in ("script", "style") else self.inside
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = "" if tag == self.inside else self.inside

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif not self.inside:
            self.words += data

    def having(self, name: str, value: str) -> list[dict[str, str]]:
        return [attributes for _, attributes in self.elements if value in attributes.get(name, "").split()]

    @property
    def data(self) -> Any:
        return json.loads(self.scripts[0])

    @property
    def policy(self) -> str:
        return next(attributes["content"] for _, attributes in self.elements if "http-equiv" in attributes)


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle of a few bytes: these tests look at everything but it."""
    monkeypatch.setattr(plotly.offline, "get_plotlyjs", lambda: "/* bundle */")


def page(tmp_path: Path, *, video: str = "none", **changed: Any) -> Seen:
    return Seen(write(make_data(**changed), tmp_path / "page.html", video).read_text(encoding="utf-8"))


def test_everything_is_said(tmp_path: Path) -> None:
    seen = page(tmp_path, notes=["No sound from 3 s on."], is_demo=True, source="zero-shot", gate=None)
    for words in (
        "a video",
        "10 of 12 half-seconds",
        "No sound from 3 s on.",
        player.DEMO_BANNER,
        "never trained on valence or arousal",
        "How these values were made",
        "seed",
    ):
        assert words in seen.words
    assert "Share of the sound" not in seen.words


def test_what_does_not_apply_is_not_said(tmp_path: Path) -> None:
    seen = page(tmp_path)
    assert player.DEMO_BANNER not in seen.words and player.ZERO_SHOT not in seen.words
    assert "Share of the sound" in seen.words and "smoothed" not in seen.words
    assert not seen.having("class", "notes")
    assert "smoothed" in page(tmp_path, smoothed=make_data()["va"]).words


def test_data_is_strict_json_and_nan_is_null(tmp_path: Path) -> None:
    made = make_data()
    data = page(tmp_path).data
    np.testing.assert_allclose(data["va"], made["va"], atol=5e-5)
    np.testing.assert_allclose(data["regions"], made["regions"], atol=5e-5)
    assert data["boxes"][4] == data["boxes"][5] == [None] * 4
    assert data["video"] is None and data["smoothed"] is None
    va = made["va"].copy()
    va[3] = np.nan
    assert page(tmp_path, va=va).data["va"][3] == [None, None]


def test_a_run_without_the_region_term_says_nothing_about_regions(tmp_path: Path) -> None:
    seen = page(tmp_path, regions=None)
    assert NO_REGIONS in seen.words and NO_REGIONS not in page(tmp_path).words
    for words in ("Likeliest region", "lit by their probability", "each region", "lively"):
        assert words not in seen.words
    assert not seen.having("class", "region") and page(tmp_path).having("class", "region")
    assert "regions" not in seen.having("id", "plane")[0]["aria-label"]
    assert seen.data["regions"] is None and seen.data["texts"] == seen.data["names"] == []


def test_values_at_window_ends_are_said_to_stand_there(tmp_path: Path) -> None:
    cells, ends = (
        "One value per half-second, at its middle",
        "One value per window of 10 s, at its end; windows end 3 s",
    )
    plain, ended = page(tmp_path).words, page(tmp_path, windows_s=(10.0, 3.0)).words
    assert cells in plain and ends not in plain
    assert ends in ended and cells not in ended and "what it shows there was not predicted" in ended


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    seen = page(
        tmp_path,
        title=HOSTILE,
        model=HOSTILE,
        notes=[HOSTILE],
        region_texts=[HOSTILE] * 9,
        provenance=[(HOSTILE, HOSTILE)],
    )
    assert not [tag for tag, _ in seen.elements if tag == "img"]
    assert len(seen.scripts) == 4
    assert seen.words.count(HOSTILE) == 2 + 1 + 1 + 2 + 9  # title twice, model, note, provenance, regions
    assert seen.data["texts"] == [HOSTILE] * 9


def test_no_video_means_no_media_may_load(tmp_path: Path) -> None:
    seen = page(tmp_path)
    assert "media-src" not in seen.policy and "default-src 'none'" in seen.policy
    assert not [tag for tag, _ in seen.elements if tag == "video"]
    assert seen.having("class", "bare") == [] and len(page(tmp_path, boxes=None).having("class", "bare")) == 1


def test_a_small_plain_video_goes_in_as_it_is(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    make_video(source)
    out = write(make_data(video=source), tmp_path / "page.html", "embed")
    seen = Seen(out.read_text(encoding="utf-8"))
    assert seen.data["video"] == {"mime": "video/mp4", "address": None}
    assert base64.b64decode(seen.scripts[1], validate=True) == source.read_bytes()
    assert re.search(r"media-src blob:;", seen.policy)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mp4", "page.html"]


def test_another_video_goes_in_as_a_copy(tmp_path: Path) -> None:
    source = tmp_path / "a.avi"
    make_video(source, codec="mpeg4")
    out = write(make_data(video=source), tmp_path / "page.html", "embed")
    seen = Seen(out.read_text(encoding="utf-8"))
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(base64.b64decode(seen.scripts[1], validate=True))
    np.testing.assert_allclose(media.probe(copy).frame_time_s, media.probe(source).frame_time_s, atol=1e-4)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.avi", "copy.mp4", "page.html"]


def test_a_link_is_relative_and_escaped(tmp_path: Path) -> None:
    source = tmp_path / "my: été #1?.mp4"
    make_video(source)
    out = write(make_data(video=source), tmp_path / "pages" / "page.html", "link")
    seen = Seen(out.read_text(encoding="utf-8"))
    assert seen.data["video"]["address"] == "./../my%3A%20%C3%A9t%C3%A9%20%231%3F.mp4"
    assert "media-src 'self' file:;" in seen.policy
    assert seen.scripts[1] == "" and [file.name for file in out.parent.iterdir()] == ["page.html"]


def test_a_link_to_what_browsers_cannot_play_leads_to_a_copy(tmp_path: Path) -> None:
    source = tmp_path / "a.avi"
    make_video(source, codec="mpeg4")
    out = write(make_data(video=source), tmp_path / "pages" / "the page.html", "link")
    seen = Seen(out.read_text(encoding="utf-8"))
    assert seen.data["video"] == {"mime": "video/mp4", "address": "./the%20page.preview.mp4"}
    assert sorted(file.name for file in out.parent.iterdir()) == ["the page.html", "the page.preview.mp4"]
    assert len(media.probe(out.parent / "the page.preview.mp4").frame_time_s) == 50


@pytest.mark.parametrize("video", ["embed", "link"])
def test_a_video_that_cannot_be_shown_is_said_and_the_page_goes_without(tmp_path: Path, video: str) -> None:
    source = tmp_path / "a.mp4"
    source.write_bytes(b"no video" * 100)
    out = write(make_data(video=source, notes=["first"]), tmp_path / "page.html", video)
    seen = Seen(out.read_text(encoding="utf-8"))
    assert seen.data["video"] is None
    assert "The video is not shown here: a.mp4: cannot be decoded" in seen.words
    assert str(tmp_path) not in seen.words
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.mp4", "page.html"]


def test_a_video_too_long_for_a_page_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a.avi"
    make_video(source, codec="mpeg4", seconds=0.2)
    monkeypatch.setattr(player, "EMBEDDED_AS_IT_IS", 10)
    out = write(make_data(video=source, duration_s=3 * 3600.0), tmp_path / "page.html", "embed")
    assert "too long to be put into a page" in Seen(out.read_text(encoding="utf-8")).words


@pytest.mark.parametrize("hours", [1.3, 3.5])
def test_a_small_file_may_be_long_if_it_needs_no_copy(tmp_path: Path, hours: float) -> None:
    """After an hour a copy of 64 MB has less than 100 kbit/s for pictures; after three, less than its sound takes."""
    for name, codec in (("a.avi", "mpeg4"), ("a.mp4", "libx264")):
        make_video(tmp_path / name, codec=codec, seconds=0.2)
        data = make_data(video=tmp_path / name, duration_s=60.0)
        data["duration_s"] = 3600 * hours
        seen = Seen(write(data, tmp_path / "page.html", "embed").read_text(encoding="utf-8"))
        said = "The video is not shown here: it is too long to be put into a page (--video link refers to it instead)."
        assert (said in seen.words) is (name == "a.avi") and (seen.data["video"] is None) is (name == "a.avi")
        assert "cannot be written" not in seen.words


def test_the_footer_says_what_the_page_loads(tmp_path: Path) -> None:
    source = tmp_path / "a.mp4"
    make_video(source, seconds=0.2)
    for video, said in (("embed", "asks the network for nothing."), ("link", "loads nothing but the video beside it.")):
        words = Seen(write(make_data(video=source), tmp_path / "page.html", video).read_text(encoding="utf-8")).words
        assert f"It {said}" in words
        assert words.count("It asks the network") + words.count("It loads nothing") == 1


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for video in ("none", "embed", "link"):
        with pytest.raises(VAError, match="cannot be written"):
            write(make_data(), tmp_path / "file" / "page.html", video)


def test_shaded_stretches_are_the_cells_without_face_or_sound(tmp_path: Path) -> None:
    drawn = player_parts.gaps(make_data(duration_s=6.0))
    found = re.findall(r'class="([\w-]+)" style="left: ([\d.]+)%; width: ([\d.]+)%"', drawn)
    expected = [("no-face", 200 / 6, 100 / 6), ("no-sound", 350 / 6, 50 / 6)]
    assert [kind for kind, *_ in found] == [kind for kind, *_ in expected]
    np.testing.assert_allclose(
        [[float(a), float(b)] for _, a, b in found], [list(row[1:]) for row in expected], atol=1e-3
    )
    # The last cell ends with the video, not after it.
    data = make_data(duration_s=5.8)
    data["has_face"][:], data["has_sound"][:] = False, True
    assert player_parts.gaps(data).count("left: 0.000%; width: 100.000%") == 1
    data["has_face"][:] = True
    assert player_parts.gaps(data) == ""


@pytest.mark.parametrize(
    ("valences", "arousals"),
    [((-0.66, 0.0, 0.66), (-0.66, 0.0, 0.66)), ((-0.8, -0.2, 0.1, 0.9), (0.5, -0.5)), ((0.0,), (0.0,))],
)
def test_regions_tile_the_plane_around_their_centres(valences: tuple[float, ...], arousals: tuple[float, ...]) -> None:
    centers = np.array([(valence, arousal) for valence in valences for arousal in arousals])
    drawn = player_parts.plane(centers, [f"region {index}" for index in range(len(centers))])
    boxes = np.array(re.findall(r'<rect x="(.+?)" y="(.+?)" width="(.+?)" height="(.+?)"/>', drawn), dtype=float)
    assert len(boxes) == len(centers)
    assert boxes[:, 2:].prod(axis=1).sum() == pytest.approx(200 * 200)
    points = np.random.default_rng(3).uniform(-1, 1, (500, 2))
    inside = (np.abs(100 * points[:, None, 0] - boxes[:, 0] - boxes[:, 2] / 2) <= boxes[:, 2] / 2) & (
        np.abs(-100 * points[:, None, 1] - boxes[:, 1] - boxes[:, 3] / 2) <= boxes[:, 3] / 2
    )
    nearest = np.abs(points[:, None] - centers)
    # On a grid the nearest centre is the nearest along each axis.
    np.testing.assert_array_equal(inside.argmax(axis=1), nearest.sum(axis=2).argmin(axis=1))
    assert (inside.sum(axis=1) == 1).all()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("sad, tired, and low-energy", "sad"),
        ("happy and pleasant", "happy"),
        ("extraordinarily calm", "extraordin\u2026"),
        (", odd", ", odd"),
        ("", ""),
    ],
)
def test_short_names(words: str, expected: str) -> None:
    assert player_parts.short_name(words, most=11) == expected


def test_nothing_predicted_is_said(tmp_path: Path) -> None:
    nothing = np.full_like(make_data()["va"], np.nan)
    assert "Nothing could be predicted for this video." in page(tmp_path, va=nothing).words
