"""Decoded pictures with the time at which each is shown, by the clocks of `media.py`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from va.data import media

if TYPE_CHECKING:  # not subscriptable at run time
    from av.packet import Packet


def timed_pictures(path: Path, *, threads: int, beat: Callable[[], None]) -> Iterator[tuple[float, av.VideoFrame]]:
    """Decode the pictures of a medium in the order in which they are shown, in bounded memory.

    Args:
        path: The medium.
        threads: Of the decoder; 1 decodes in the calling thread.
        beat: Called for every packet and every picture.

    Yields:
        Presentation time on the clip's clock in seconds, and the picture.

    Raises:
        VAError: The medium cannot be decoded, or a picture has no time.
    """
    with media.open_media(path) as container:
        stream = media.picture_stream(container, path)
        stream.codec_context.thread_count = threads
        by_turn = container.format.name in media.DECODE_TIMES_ONLY
        # Decoders that work on several pictures at a time do not say which packet a picture came out for.
        stream.codec_context.thread_type = "SLICE" if by_turn else "AUTO"
        decoder = PictureDecoder(container, stream, name=path)
        for packet in media.packets(container, stream, beat=beat):
            for time_s, picture in decoder.take(packet):
                beat()
                yield time_s, picture


class PictureDecoder:
    """Decodes the packets of a stream of pictures, in the order in which they lie in the medium.

    Args:
        container: The open medium.
        stream: Of its pictures.
        name: What errors call the medium.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, *, name: Path | str) -> None:
        self._name = name
        self._clock = _Clock(container.format.name)
        self._origin_s, self._base_s = media.origin_s(container), float(stream.time_base or 0)

    def take(self, packet: "Packet[VideoStream]") -> Iterator[tuple[float, av.VideoFrame]]:
        """Decode a packet.

        Yields:
            Presentation time on the clip's clock in seconds, and the picture, in the order in which they are shown.

        Raises:
            VAError: A picture has no time.
        """
        self._clock.take(packet)
        for picture in packet.decode():
            ticks = self._clock.shown(picture)
            if ticks is None:
                raise media.timeless(self._name)
            yield ticks * self._base_s - self._origin_s, picture


class _Clock:
    """Tells when decoded pictures are shown, in their stream's unit of time.

    Args:
        container: FFmpeg's name of the container's format.
    """

    def __init__(self, container: str) -> None:
        self._by_turn = container in media.DECODE_TIMES_ONLY
        self._lag = None if container == media.SOUND_UNDELAYED else 0
        self._first: int | None = None
        self._step = self._last = 0

    def take(self, packet: "Packet[VideoStream]") -> None:
        """Note a packet before it is decoded."""
        self._first = packet.dts if self._first is None else self._first
        self._step = packet.duration or self._step or 1

    def shown(self, picture: av.VideoFrame) -> int | None:
        """Give the time of a picture; None if the file does not say."""
        if not self._by_turn:
            return picture.pts
        if picture.dts is None:  # given out after the last packet
            self._last += self._step
        else:
            self._lag = picture.dts - (self._first or 0) if self._lag is None else self._lag
            self._last = picture.dts - self._lag
        return self._last
