"""Whether a media file is all there: FFmpeg reads one that was cut off as a shorter clip, without a word.

What the file itself says about its length is held against its size. Streams made for broadcast (MPEG-TS, MPEG-PS) say
nothing, and neither do Matroska files whose writer could not go back: there a missing end stays unseen.
"""

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from av.container import InputContainer

from va.errors import VAError


def require_whole(container: InputContainer, path: Path, *, beat: Callable[[], None]) -> None:
    """Refuse a file that ends before its own index or header says.

    Args:
        container: The open file, its packets read, since the index of a fragmented file grows on the way.
        path: The same file.
        beat: Called for every entry of the index.

    Raises:
        VAError: Bytes are missing.
    """
    end = _segment_end(path)
    for stream in container.streams:
        for entry in stream.index_entries:
            beat()
            end = max(end, entry.pos + entry.size)
    missing = end - path.stat().st_size
    if missing > 0:
        raise VAError(f"{path}: is cut off, {missing} bytes are missing", "Copy or download the file again.")


def _segment_end(path: Path) -> int:
    """Read where the segment of a Matroska or WebM file ends (RFC 9559); 0 for other files and unknown ends."""
    with path.open("rb") as file:
        if file.read(4) != b"\x1a\x45\xdf\xa3":
            return 0
        file.seek(_read_size(file), 1)
        if file.read(4) != b"\x18\x53\x80\x67":
            return 0
        size = _read_size(file)
        return file.tell() + size if size else 0


def _read_size(file: BinaryIO) -> int:
    """Read an element's size (RFC 8794, 4), whose leading zero bits tell how many bytes follow; 0 if unknown."""
    first = file.read(1)
    if first in (b"", b"\0"):
        return 0
    length = 9 - first[0].bit_length()
    unknown = (1 << 7 * length) - 1
    size = int.from_bytes(first + file.read(length - 1)) & unknown
    return 0 if size == unknown else size
