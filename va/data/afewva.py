"""AFEW-VA: one folder of numbered pictures and one JSON file per clip -> Corpus.

`<clip>/<clip>.json` holds `frames`, by the number of the picture as text (`"00000"`) an object with `valence` and
`arousal` from -10 to 10 (and `landmarks`, which are not read), and `actor`; `<clip>/00000.png` and so on are the
pictures. The tree may have folders above (it is handed out in twelve archives). There is no sound and no official
split: people are divided by a hash of `actor`, or as `splits.csv` (`name,split`) at the root says.

The pictures of a clip are packed, as they are and not decoded, into `OUT/media/<clip>.mov` (PNG inside), so that all
else in `va` finds a video; that takes as much space again as the pictures.

Sources: Kossaifi et al., AFEW-VA database for valence and arousal estimation in-the-wild, Image and Vision Computing
65, 2017 (600 clips from films, labels per frame, folds by person); names of files and keys as read by
`gdl/datasets/AfewVaDataModule.py` of github.com/radekd91/emoca and other public readers. Not verified on the data set
itself: the keys `actor` and `video_id`, and the rate, which no file states: 25 pictures a second unless told otherwise.
"""

import json
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np

from va import bounded, files
from va.data import placing, sources, tree
from va.data.corpus import Corpus, Skipped
from va.data.identities import splits_of
from va.data.placing import Labels
from va.data.rows import read_pairs
from va.data.sources import Probe, Progress, Source
from va.errors import VAError

_PICTURE: Final = re.compile(r"[0-9]{1,9}\.png", re.IGNORECASE)
_PNG: Final = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_LARGEST_JSON: Final = 64 << 20
_SCALE: Final = (-10.0, 10.0)


def read_tree(
    root: Path, *, out: Path, name: str, rate_hz: float, val_share: float, probe: Probe, progress: Progress
) -> Corpus:
    """Pack the clips of a tree and write the manifest.

    Args:
        root: Top of the tree.
        out: Folder for `corpus.json`, the sidecars and the packed clips.
        name: A name for reports.
        rate_hz: Pictures per second.
        val_share: Share of the actors for the split `val`.
        probe: Looks at the packed clips.
        progress: Called with (clips done, clips in all), for packing and then for probing.

    Raises:
        VAError: No clip, two of one name, or none that can be used.
    """
    root, out = root.absolute(), out.absolute()
    skipped: list[Skipped] = []
    there = tree.find_files(root, skipped)
    clips = _clips(root, [file for file in there if not file.is_relative_to(out)])
    packed: list[tuple[str, Path, Labels, str]] = []
    for done, (clip, (annotation, pictures)) in enumerate(clips.items()):
        progress(done, len(clips))
        where = tree.below(root, annotation)
        try:
            labels, actor = _read(annotation, pictures, rate_hz=rate_hz)
            video = out / "media" / f"{files.safe_name(clip)}.mov"
            _pack(pictures, video, rate_hz=rate_hz)
        except VAError as error:
            skipped.append(Skipped(what=where, why=tree.reason(error, where, root)))
            continue
        packed.append((clip, video, labels, actor or clip))
    identities = read_pairs(root / "identities.csv", ("name", "identity"))
    people = {clip: identities.get(clip, actor) for clip, _, _, actor in packed}
    splits = splits_of(root, people, val_share=val_share)
    listed = [
        Source(
            id=clip,
            media=video,
            split=splits[clip],
            identity=people[clip],
            labels=labels,
            where=tree.below(root, clips[clip][0]),
        )
        for clip, video, labels, _ in packed
    ]
    return sources.build(
        listed, skipped=skipped, out=out, name=name, synthetic=False, media_root=out, probe=probe, progress=progress
    )


def _clips(root: Path, there: Sequence[Path]) -> dict[str, tuple[Path, dict[int, Path]]]:
    """Find each clip's annotation and its pictures by number."""
    folders: dict[Path, dict[int, Path]] = {}
    for file in there:
        if _PICTURE.fullmatch(file.name):
            folders.setdefault(file.parent, {})[int(file.stem)] = file
    found: dict[str, tuple[Path, dict[int, Path]]] = {}
    for file in there:
        clip = file.parent.name
        if file.suffix.lower() != ".json" or file.stem != clip:
            continue
        if clip in found:
            raise VAError(f"clip '{clip}' is there twice: {found[clip][0].parent} and {file.parent}", "Remove one.")
        found[clip] = (file, folders.get(file.parent, {}))
    if not found:
        raise VAError(f"{root}: has no <clip>/<clip>.json below it", "Give the folder that holds AFEW-VA's clips.")
    return found


def _read(annotation: Path, pictures: dict[int, Path], *, rate_hz: float) -> tuple[Labels, str]:
    """Read a clip's labels, laid on the clock of its packed pictures, and its actor; "" where none is named."""
    if annotation.stat().st_size > _LARGEST_JSON:
        raise VAError(f"{annotation}: is larger than 64 MB, which no annotation is", "Is it the right file?")
    data = bounded.read_json(annotation, what="an annotation of AFEW-VA", hint="Copy it again.")
    if not pictures:
        raise VAError(f"{annotation}: there is no picture beside it", "Copy the pictures into its folder.")
    try:
        frames = {int(number): frame for number, frame in data["frames"].items()}
        numbers = sorted(frames)
        if numbers and numbers[-1] >= 10**9:
            raise ValueError("a number of more than nine digits")
        axes = [
            np.array([float(frames[number][axis]) for number in numbers], np.float64) for axis in ("valence", "arousal")
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise VAError(f"{annotation}: is no annotation of AFEW-VA ({error!r})", "Copy it again.") from None
    if not numbers or numbers[0] < min(pictures):
        raise VAError(f"{annotation}: its first label has no picture", "Copy the clip's pictures again.")
    va, valid = placing.arrays(*(placing.on_scale(axis, *_SCALE) for axis in axes))
    time_s = (np.array(numbers, np.float64) - min(pictures)) / rate_hz
    return placing.by_time(time_s, va, valid), _text(data.get("actor"))


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else json.dumps(value) if isinstance(value, int) else ""


def _pack(pictures: dict[int, Path], video: Path, *, rate_hz: float) -> None:
    """Put PNG files into a QuickTime file, each at the time that its number says."""
    rate = Fraction(rate_hz).limit_denominator(1001)
    first = min(pictures)
    width, height = _size(pictures[first])
    with files.replacing(video) as temporary:
        try:
            with av.open(str(temporary), "w", format="mov") as container:
                stream: Any = container.add_stream("png", rate=rate)
                stream.width, stream.height, stream.pix_fmt = width, height, "rgb24"
                stream.time_base = 1 / rate
                for number, picture in sorted(pictures.items()):
                    if _size(picture) != (width, height):
                        raise VAError(f"{picture}: is of another size than the first", "Copy it again.")
                    packet: Any = av.Packet(picture.read_bytes())
                    packet.pts = packet.dts = number - first
                    packet.duration, packet.time_base = 1, 1 / rate
                    packet.is_keyframe, packet.stream = True, stream
                    container.mux(packet)
        except av.error.FFmpegError as error:
            raise VAError(f"{video}: cannot be written ({error.strerror})", "Check free space there.") from None


def _size(picture: Path) -> tuple[int, int]:
    """Read a PNG file's width and height in pixels from its first bytes, and nothing else of it."""
    try:
        with picture.open("rb") as file:
            head = file.read(24)
    except OSError as error:
        raise VAError(f"{picture}: cannot be read ({error.strerror})", "Check permissions.") from None
    if len(head) < 24 or not head.startswith(_PNG):
        raise VAError(f"{picture}: is no PNG picture", "Copy it again.")
    return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
