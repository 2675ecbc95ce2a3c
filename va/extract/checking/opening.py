"""What a checking process does: open one medium after the other and say what it is and what is wrong with it.

Runs where readers run (`va/extract/process.py`): a decoder that crashes, hangs or takes all memory ends this process
and costs its medium only. Answers are JSON.
"""

import contextlib
import re
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import av
from PIL import Image

from va import files
from va.data import media, showing
from va.errors import VAError
from va.extract import decode
from va.extract.reading import receive, send
from va.extract.watch import confine

_PICTURES: Final = 5
"""Pictures that are decoded at each place."""

_PLACES: Final = (0.0, 0.5, 0.95)
"""Places that are decoded, as parts of the length."""

_MOST_PACKETS: Final = 2000
"""Packets that are read at a place before it counts as broken: more than lie between two key frames."""

_CROPS: Final = 24
"""Crops of a clip whose headers are read, evenly spread."""

_CROP: Final = re.compile(r"(\d{5,7})\.jpg", re.ASCII)
_NAMED: Final = 3

Tell = Callable[[str, str, str, str], None]


def serve(connection: Connection, stall_s: float, memory_gb: float, deep: bool) -> None:
    """Look at media until the parent closes the pipe; the main function of a checking process.

    Args:
        connection: Receives `{"media", "hash", "crops"}`; sends `frames`, `duration_s`, `sound`, `digest`, each null
            where it is not known, and `problems`, rows of severity, kind, file, what, do.
        stall_s: Seconds without progress after which this process ends.
        memory_gb: Memory that a medium may take.
        deep: Decode every picture and all sound, and read every crop's header.
    """
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # its size is told like others
    watch = confine(memory_bytes=int(memory_gb * 1e9), stall_s=stall_s)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            wanted, _ = receive(connection)
            answer = _look(wanted, watch.beat, deep=deep)
            watch.pause()
            send(connection, answer)


def _look(wanted: dict[str, Any], beat: Callable[[], None], *, deep: bool) -> dict[str, Any]:
    path, problems = Path(wanted["media"]), list[tuple[str, ...]]()
    answer: dict[str, Any] = {"frames": None, "duration_s": None, "sound": None, "digest": None, "problems": problems}

    def tell(severity: str, kind: str, what: str, do: str, file: Path = path) -> None:
        problems.append((severity, kind, str(file), what, do))

    beat()
    try:
        if not path.is_file():
            said = "is no file" if path.exists() else "is not there"
            tell("error", "medium-missing", said, "Copy the file to its place, or leave the clip out.")
        elif not path.stat().st_size:
            tell("error", "medium-empty", "is empty", "Copy the file again, or leave the clip out.")
        else:
            answer |= _medium(path, beat, tell, deep=deep, with_hash=bool(wanted["hash"]))
    except VAError as error:
        said = error.message.removeprefix(f"{path}: ")
        kind = "medium-cut-off" if "is cut off" in said else "medium-unreadable"
        tell("error", kind, said, f"{error.hint} Or leave the clip out.")
    except MemoryError:
        said = "takes more memory than --memory-gb allows"
        tell("error", "medium-unreadable", said, "Raise --memory-gb, or leave the clip out.")
    except OSError as error:
        tell("error", "medium-unreadable", f"cannot be read ({error.strerror})", "Check permissions and the disk.")
    if wanted["crops"]:
        _crops(Path(wanted["crops"]), answer["frames"], beat, problems, deep=deep)
    return answer


def _medium(path: Path, beat: Callable[[], None], tell: Tell, *, deep: bool, with_hash: bool) -> dict[str, Any]:
    info = media.probe(path, beat=beat)
    frames = len(info.frame_time_s)
    digest = files.hash_file(path, beat=beat) if with_hash else None
    known = {"frames": frames, "duration_s": info.duration_s, "sound": info.has_audio, "digest": digest}
    if not info.has_audio:
        said = "has no sound"
        tell("warning", "no-sound", said, "Nothing, if it never had any: its sound is masked. Else copy it again.")
    try:
        if deep:
            _everything(path, info, beat, tell)
        else:
            _places(path, info, beat, tell)
    except VAError as error:
        said = error.message.removeprefix(f"{path}: ")
        tell("error", "medium-unreadable", said, f"{error.hint} Or leave the clip out.")
    return known


def _places(path: Path, info: media.MediaInfo, beat: Callable[[], None], tell: Tell) -> None:
    """Decode a few pictures at the start, in the middle and near the end, and the first sound."""
    broken: list[str] = []
    for part in _PLACES:
        at_s = part * info.duration_s
        try:
            whole = _place(path, at_s, beat)
        except VAError:
            if not part:  # nothing of it can be read; further on it may be the jump that failed
                raise
            whole = False
        if not whole:
            broken.append(f"{at_s:.1f} s")
    if broken:
        said = f"has damaged or missing pictures near {' and '.join(dict.fromkeys(broken))}"
        tell("warning", "damaged-pictures", said, "Play it there; copy it again. --deep looks at every picture.")
    if info.has_audio and next(decode.waveform_blocks(path, duration_s=info.duration_s, beat=beat), None) is None:
        tell("warning", "no-sound", "has a track of sound without any sound", "Copy it again, if it should have some.")


def _place(path: Path, at_s: float, beat: Callable[[], None]) -> bool:
    """Decode a few pictures from the last key frame before a time; say whether they are there and whole.

    Containers without an index jump anywhere: where no key frame follows, nothing can be said.
    """
    with media.open_media(path) as container:
        stream = media.picture_stream(container, path)
        stream.codec_context.thread_count = 1
        if at_s:
            with contextlib.suppress(av.error.FFmpegError):  # what cannot jump is read from its start
                container.seek(int((at_s + media.origin_s(container)) * av.time_base), backward=True)
        seen, begun = 0, False
        for number, packet in enumerate(media.packets(container, stream, beat=beat)):
            begun = begun or packet.is_keyframe
            if number > _MOST_PACKETS:
                break
            if not begun:
                continue
            pictures = packet.decode()
            seen += len(pictures)
            if any(picture.is_corrupt for picture in pictures):
                return False
            if seen >= _PICTURES:
                break
        return seen > 0 or not begun


def _everything(path: Path, info: media.MediaInfo, beat: Callable[[], None], tell: Tell) -> None:
    """Decode every picture and all sound."""
    decoded, first_s, corrupt = 0, 0.0, 0
    for time_s, picture in showing.timed_pictures(path, threads=1, beat=beat):
        decoded += 1
        if picture.is_corrupt:
            first_s, corrupt = (first_s if corrupt else time_s), corrupt + 1
    do = "Copy it again; what is damaged is encoded as it looks."
    if corrupt:
        said = f"has {corrupt} damaged pictures of {decoded}, the first at {first_s:.1f} s"
        tell("warning", "damaged-pictures", said, do)
    missing = len(info.frame_time_s) - decoded
    if missing > 0:
        said = f"gives only {decoded} pictures of the {len(info.frame_time_s)} that its index lists"
        tell("warning", "damaged-pictures", said, do)
    if info.has_audio:
        blocks = decode.waveform_blocks(path, duration_s=info.duration_s, beat=beat)
        heard_s = sum(len(block) for block in blocks) / decode.SAMPLE_RATE_HZ
        if not heard_s:
            tell("warning", "no-sound", "has a track of sound without any sound", "Copy it again.")
        elif heard_s < info.duration_s - max(1.0, 0.02 * info.duration_s):
            said = f"has sound for {heard_s:.1f} s of {info.duration_s:.1f} s"
            tell(
                "warning",
                "short-sound",
                said,
                "Nothing, if it was recorded so: the rest is masked. Else copy it again.",
            )


def _crops(
    folder: Path, frames: int | None, beat: Callable[[], None], problems: list[tuple[str, ...]], *, deep: bool
) -> None:
    """Look at a clip's folder of crops: names, numbers, and the headers of some or all."""

    def tell(severity: str, kind: str, what: str, do: str, file: Path = folder) -> None:
        problems.append((severity, kind, str(file), what, do))

    if not folder.is_dir():
        do = "Copy the folder; without it 'va extract --faces crops' fails for this clip."
        tell("error", "crops-missing", "is not there: the clip has no crops", do)
        return
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    beat()
    numbered = {name: int(found[1]) for name in names if (found := _CROP.fullmatch(name))}
    strange = [name for name in names if name not in numbered]
    if strange:
        said = f"holds {len(strange)} files without a frame's number as name, e.g. {', '.join(strange[:_NAMED])}"
        tell("warning", "crop-name", said, "Name them by frame, 00001.jpg for the first; others are not looked at.")
    if not numbered:
        tell("error", "crops-missing", "holds no crop", "Copy the crops, named 00001.jpg and so on.")
        return
    if frames is not None:
        beyond = [name for name, number in numbered.items() if not 1 <= number <= frames]
        if beyond:
            said = f"has {len(beyond)} crops beyond the video's {frames} frames, e.g. {', '.join(beyond[:_NAMED])}"
            tell("warning", "crop-beyond", said, "Are these the crops of this video? Numbers count frames from 1.")
    _headers(folder, list(numbered), beat, tell, deep=deep)


def _headers(
    folder: Path, names: list[str], beat: Callable[[], None], tell: Callable[..., None], *, deep: bool
) -> None:
    step = 1 if deep else max(1, len(names) // _CROPS)
    sizes: dict[tuple[int, int], str] = {}
    for name in names[::step]:
        beat()
        try:
            if not (folder / name).is_file():
                raise OSError("no file")  # a pipe would be waited for
            with Image.open(folder / name, formats=["JPEG"]) as image:
                sizes.setdefault(image.size, name)
                if deep:
                    image.load()
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            tell(
                "error", "crop-unreadable", "is no JPEG that can be read", "Copy it again, or remove it.", folder / name
            )
    odd = [f"{name} ({width} x {height})" for (width, height), name in sizes.items() if width != height]
    if len(sizes) > 1:
        each = ", ".join(f"{width} x {height}" for width, height in list(sizes)[:_NAMED])
        tell("warning", "crop-size", f"has crops of {len(sizes)} sizes, e.g. {each}", "Crop all faces alike.")
    elif odd:
        tell("warning", "crop-size", f"has crops that are not square: {odd[0]}", "Crop faces square, e.g. 112 x 112.")
