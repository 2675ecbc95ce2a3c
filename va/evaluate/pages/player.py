"""Predictions for one video -> one HTML page on which they can be watched: video, plane and trajectories in step.

The page asks the network for nothing; with `link` it loads the video beside it. All times on it are seconds on va's
clock. What stands still is HTML and SVG written here; `templates/player.js` moves it, and draws the trajectories by
plotly.js.
"""

import base64
import contextlib
import math
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from va import files
from va.errors import VAError
from va.evaluate.media import preview, transcode
from va.evaluate.pages import markup
from va.evaluate.pages import player_parts as parts
from va.evaluate.pages.markup import text
from va.evaluate.pages.sentences import NO_REGIONS
from va.evaluate.player_data import PlayerData
from va.version import __version__

DEMO_BANNER: Final = (
    "Demo encoders know only drawn faces and synthesised voices: these values say nothing about a real person."
)
ZERO_SHOT: Final = (
    "Zero-shot: this model was never trained on valence or arousal. It only says which description of a face a "
    "picture is most like; its numbers are no measurement."
)

EMBEDDED_AS_IT_IS: Final = 25_000_000
"""Bytes up to which a file that browsers play goes into the page unchanged."""

EMBEDDED_COPY: Final = 64_000_000
"""Bytes that a converted copy in a page may have; a longer video gets fewer bits per second."""

FEWEST_BITS_PER_S: Final = 100_000
"""Of pictures; below this faces cannot be made out. A video gets there after an hour, and no copy of it is embedded."""

MOST_BITS_PER_S: Final = 1_000_000

_BLOCK: Final = 3 << 18  # a multiple of 3, so that encoded blocks join without padding
Progress: TypeAlias = Callable[[int, int, str], None]


class _Medium(NamedTuple):
    """How a page gets its video: inside it, or by a relative address."""

    mime: str
    inside: Path | None
    address: str | None


def write_player(data: PlayerData, out: Path, *, video: Literal["embed", "link", "none"], progress: Progress) -> Path:
    """Write the page, whole or not at all.

    A video that cannot be shown costs the page its video only; a note on the page says why. `link` may write a copy
    beside the page, `<page's name>.preview.mp4`.

    Args:
        data: What to show. Its region centres form a grid.
        out: The page.
        video: `embed` puts the video or a copy into the page, `link` refers to a file, `none` leaves it out.
        progress: Called with seconds done, seconds in all, and what is being done.

    Returns:
        `out`.

    Raises:
        VAError: The page or the copy beside it cannot be written.
    """
    notes = list(data["notes"])
    with contextlib.ExitStack() as stack:
        medium = None
        if video != "none" and data["video"] is not None:
            try:
                make = _embedded if video == "embed" else _linked
                medium = stack.enter_context(make(data["video"], out, data["duration_s"], progress))
            except VAError as error:
                # The page may be passed on; where the file lay is nobody's business.
                why = error.message.replace(str(data["video"]), data["video"].name)
                notes.append(f"The video is not shown here: {why}.")
        head, tail = render(data, medium=medium, notes=notes)
        with files.replacing(out) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as page:
            page.write(head)
            if medium is not None and medium.inside is not None:
                with medium.inside.open("rb") as file:
                    while block := file.read(_BLOCK):
                        page.write(base64.b64encode(block).decode())
            page.write(tail)
    return out


@contextlib.contextmanager
def _embedded(source: Path, out: Path, duration_s: float, progress: Progress) -> Iterator[_Medium]:
    bits_per_s = min(MOST_BITS_PER_S, 8 * EMBEDDED_COPY / duration_s - transcode.SOUND_BITS_PER_S)
    with _scratch(out.with_suffix(".mp4")) as scratch:
        shown, mime = preview.playable(
            source,
            scratch,
            duration_s=duration_s,
            largest=EMBEDDED_AS_IT_IS,
            bits_per_s=bits_per_s if bits_per_s >= FEWEST_BITS_PER_S else None,
            progress=progress,
        )
        yield _Medium(mime, shown, None)


@contextlib.contextmanager
def _linked(source: Path, out: Path, duration_s: float, progress: Progress) -> Iterator[_Medium]:
    beside = out.with_name(f"{out.stem}.preview.mp4")
    with _scratch(beside) as scratch:
        shown, mime = preview.playable(
            source,
            scratch,
            duration_s=duration_s,
            largest=math.inf,
            bits_per_s=MOST_BITS_PER_S,
            progress=progress,
        )
        if shown == scratch:
            try:
                scratch.replace(beside)
            except OSError as error:
                raise files.cannot_write(beside, error) from error
            shown = beside
    try:
        # "./" keeps a name with a colon from being read as a protocol.
        address = "./" + quote(os.fsencode(Path(os.path.relpath(shown.resolve(), out.parent.resolve())).as_posix()))
    except ValueError:  # another drive of Windows
        address = shown.resolve().as_uri()
    yield _Medium(mime, None, address)


@contextlib.contextmanager
def _scratch(path: Path) -> Iterator[Path]:
    """Name a temporary file beside a path, and remove it."""
    try:
        temporary = files.temporary_beside(path)
    except OSError as error:
        raise files.cannot_write(path, error) from error
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def render(data: PlayerData, *, medium: _Medium | None, notes: Sequence[str]) -> tuple[str, str]:
    """Make the page.

    Args:
        data: What to show.
        medium: The video, or None.
        notes: What a person must know.

    Returns:
        One HTML document in two parts; base64 of an embedded video belongs between them.
    """
    from plotly.offline import get_plotlyjs

    bundle, script = str(get_plotlyjs()), markup.template("player.js")
    has_regions = data["regions"] is not None
    notes = [ZERO_SHOT] * (data["source"] == "zero-shot") + [NO_REGIONS] * (not has_regions) + list(notes)
    allowed = None if medium is None else "blob:" if medium.inside else "'self' file:"
    filled = {
        "title": text(data["title"]),
        "facts": markup.terms(parts.facts(data)),
        "notes": f'<ul class="notes">{"".join(f"<li>{text(note)}</li>" for note in notes)}</ul>' if notes else "",
        "stage": parts.stage(data, has_video=medium is not None),
        "bare": " bare" if medium is None and data["boxes"] is None else "",
        "mute": "" if medium is None else _MUTE,
        "plane": parts.plane(data["centers"], data["region_texts"]) if has_regions else _EMPTY_PLANE,
        "lit": "regions lit by their probability, and " if has_regions else "",
        "likeliest": _LIKELIEST if has_regions else "",
        "smoothed": "" if data["smoothed"] is None else '<dd class="also">smoothed <b>\N{EN DASH}</b></dd>',
        "gate": ""
        if data["gate"] is None
        else '<div class="gate"><dt>Share of the sound</dt><dd>\N{EN DASH}</dd></div>',
        "legend": parts.legend(data),
        "gaps": parts.gaps(data),
        "rows": "two" if data["gate"] is None else "three",
        "duration": f"{data['duration_s']:.3f}",
        "means": parts.means(data),
        "terms": markup.terms(parts.terms(data)),
        "provenance": markup.terms(data["provenance"]),
    }
    moved = markup.script_json(_json(data, medium))
    around = {
        "policy": markup.policy((bundle, script), media=allowed),
        "title": filled["title"],
        "style": markup.template("report.css") + markup.template("player.css"),
        "banner": f'<div class="banner" role="note"><p>{text(DEMO_BANNER)}</p></div>' if data["is_demo"] else "",
        "content": markup.fill(markup.template("player.html"), filled),
        "footer": text(f"Written by va {__version__}. It {_LOADS[medium is not None and medium.inside is None]}."),
        "scripts": f'<script type="application/json" id="player-data">{moved}</script>\n'
        f"{_VIDEO}</script>\n<script>{bundle}</script>\n<script>{script}</script>",
    }
    # Nothing before it holds a tag that is not ours.
    head, video, tail = markup.fill(markup.template("page.html"), around).partition(_VIDEO)
    return head + video, tail


_VIDEO: Final = '<script type="application/octet-stream" id="player-video">'
_LOADS: Final = ("asks the network for nothing", "loads nothing but the video beside it")
_EMPTY_PLANE: Final = '<path class="axes" d="M-100 -100H100V100H-100Z"/>'
_LIKELIEST: Final = '<div class="likeliest"><dt>Likeliest region</dt><dd>\N{EN DASH}</dd></div>'
_MUTE: Final = '<button type="button" id="mute" aria-pressed="false">Mute</button>'


def _json(data: PlayerData, medium: _Medium | None) -> dict[str, object]:
    """What the script moves the page by; null is "nothing there"."""

    def rounded(values: npt.ArrayLike | None) -> object:
        return None if values is None else np.asarray(values, dtype=np.float64).round(4)

    texts = [] if data["regions"] is None else list(data["region_texts"])
    return {
        "duration_s": data["duration_s"],
        "video": None if medium is None else {"mime": medium.mime, "address": medium.address},
        "time_s": rounded(data["cell_time_s"]),
        "names": [parts.short_name(words, most=14) for words in texts],
        "texts": texts,
        **{key: rounded(data[key]) for key in ("va", "smoothed", "regions", "gate", "boxes")},
    }
