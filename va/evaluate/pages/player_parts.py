"""The pieces of a player page that stand still, as HTML and SVG; `templates/player.js` moves some of them."""

import re
from collections.abc import Sequence

import numpy as np

from va.data import timeline
from va.evaluate.pages.markup import number, text
from va.evaluate.player_data import Floats, PlayerData


def short_name(words: str, *, most: int) -> str:
    """Shorten a region's text to a name: "sad, tired, and low-energy" is "sad".

    Args:
        words: The text.
        most: Characters that the name may have; at least 2.
    """
    first = re.split(r",| and ", words)[0].strip() or words.strip()
    return first if len(first) <= most else first[: most - 1].rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def facts(data: PlayerData) -> list[tuple[str, str]]:
    """What to know at a glance, as terms and descriptions."""
    cells = len(data["cell_time_s"])
    faces, sound = int(np.sum(data["has_face"])), int(np.sum(data["has_sound"]))
    picture = "face" if data["boxes"] is not None else "picture"
    return [
        ("model", data["model"]),
        ("length", f"{data['duration_s']:.1f} s"),
        (picture, f"{faces} of {cells} half-seconds"),
        ("sound", f"{sound} of {cells} half-seconds"),
    ]


def stage(data: PlayerData, *, has_video: bool) -> str:
    """The video with the layer its face box is drawn on; without a video, the box on an empty picture.

    The layer's picture is letterboxed by the browser as the video is, so that the box needs no arithmetic.
    """
    if not has_video and data["boxes"] is None:
        return ""
    width, height = data["width"], data["height"]
    shown = '<video id="video" playsinline preload="auto"></video>' if has_video else "<p>No video in this page</p>"
    layer = (
        f'<svg id="layer" viewBox="0 0 {width} {height}" aria-hidden="true"><rect id="box" visibility="hidden"/></svg>'
    )
    wide = '<button type="button" id="wide">Full screen</button>' if has_video else ""
    style = f"aspect-ratio: {width} / {height}; --aspect: {width / height:.4f}"
    return f'<div class="stage{"" if has_video else " empty"}" id="stage" style="{style}">{shown}{layer}{wide}</div>'


def plane(centers: Floats, region_texts: Sequence[str]) -> str:
    """The plane in units of 1/100, arousal upwards, its regions parted halfway between their centres.

    Args:
        centers: A grid, [R, 2].
        region_texts: [R].
    """
    sides = []
    for axis in range(2):
        values = np.unique(centers[:, axis])
        sides.append((values, 100 * np.concatenate([[-1.0], (values[1:] + values[:-1]) / 2, [1.0]])))
    size = 7.0 if max(len(values) for values, _ in sides) <= 3 else 5.5
    drawn = []
    for center, words in zip(centers, region_texts, strict=True):
        (left, right), (low, high) = (
            edges[np.searchsorted(values, at) :][:2] for (values, edges), at in zip(sides, center, strict=True)
        )
        fits = int((right - left - 5) / (0.58 * size))  # characters of an average width
        name = text(short_name(words, most=fits)) if fits >= 4 and high - low >= 2.5 * size else ""
        drawn.append(
            f'<g class="region" font-size="{size}"><title>{text(words)}</title>'
            f'<rect x="{left:.2f}" y="{-high:.2f}" width="{right - left:.2f}" height="{high - low:.2f}"/>'
            f'<circle class="centre" cx="{100 * center[0]:.2f}" cy="{-100 * center[1]:.2f}" r="1"/>'
            f'<text x="{left + 3:.2f}" y="{-high + size + 3:.2f}">{name}</text>'
            f'<text class="share" x="{left + 3:.2f}" y="{-low - 4:.2f}"></text></g>'
        )
    return "".join(drawn)


def gaps(data: PlayerData) -> str:
    """Stretches without a face or sound, as shares of the time axis."""
    drawn = []
    for kind, has in (("no-face", data["has_face"]), ("no-sound", data["has_sound"])):
        edges = np.flatnonzero(np.diff(np.concatenate([[True], np.asarray(has, dtype=bool), [True]])))
        for first, after in zip(edges[::2], edges[1::2], strict=True):
            start, end = (min(1.0, cell * timeline.CELL_S / data["duration_s"]) for cell in (first, after))
            drawn.append(f'<i class="{kind}" style="left: {100 * start:.3f}%; width: {100 * (end - start):.3f}%"></i>')
    return "".join(drawn)


def legend(data: PlayerData) -> str:
    """What is drawn in the trajectories, and only that."""
    picture = "no face" if data["boxes"] is not None else "no picture"
    entries = [
        ("line", "predicted", True),
        ("line soft", "smoothed", data["smoothed"] is not None),
        ("no-face", picture, not np.all(data["has_face"])),
        ("no-sound", "no sound", not np.all(data["has_sound"])),
    ]
    return "".join(f'<li><i class="{kind}"></i>{words}</li>' for kind, words, drawn in entries if drawn)


def means(data: PlayerData) -> str:
    """One sentence for who cannot see the charts."""
    there = data["va"][np.isfinite(data["va"]).all(axis=1)]
    if not len(there):
        return "Nothing could be predicted for this video."
    (v, a), (v_low, a_low), (v_high, a_high) = there.mean(axis=0), there.min(axis=0), there.max(axis=0)
    return (
        f"Over the whole video valence is {number(v, 2)} on average ({number(v_low, 2)} to {number(v_high, 2)}), "
        f"arousal {number(a, 2)} ({number(a_low, 2)} to {number(a_high, 2)})."
    )


def terms(data: PlayerData) -> list[tuple[str, str]]:
    """The words of the page, explained."""
    terms = [
        ("Valence", "How pleasant, from \N{MINUS SIGN}1 (unpleasant) to 1 (pleasant)."),
        ("Arousal", "How activated, from \N{MINUS SIGN}1 (calm) to 1 (excited)."),
    ]
    if data["regions"] is not None:
        terms.append(
            (
                "Regions",
                "The model compares with a description of each region of the plane. The brighter a region, the more "
                "probable; full brightness is the highest probability that any region has in this video.",
            )
        )
    terms.append(
        (
            "Over time",
            f"{_said_of(data['windows_s'])} The trail on the plane is the last three seconds.",
        )
    )
    if data["gate"] is not None:
        terms.append(
            ("Share of the sound", "How far the model follows the sound rather than the picture, from 0 to 1.")
        )
    if data["boxes"] is not None:
        terms.append(("Frame on the video", "The face that the model sees."))
    return terms


def _said_of(windows_s: tuple[float, float] | None) -> str:
    """Say at which times values were predicted, and how the page gets from one to the next."""
    if windows_s is None:
        return "One value per half-second, at its middle; between the middles the page moves in straight lines."
    length_s, distance_s = windows_s
    return (
        f"One value per window of {length_s:g} s, at its end; windows end {distance_s:g} s apart. Between the ends the "
        "page moves in straight lines: what it shows there was not predicted."
    )
