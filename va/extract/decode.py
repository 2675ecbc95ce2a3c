"""Video -> frames at cell centres; audio -> 16 kHz waveform in blocks. A leaf: knows media and clocks only.

Both are generators whose memory does not grow with the length of the file.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import av
import numpy as np
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from va.data import media, showing, timeline
from va.errors import VAError

if TYPE_CHECKING:  # not subscriptable at run time
    from av.audio.stream import AudioStream
    from av.packet import Packet

SAMPLE_RATE_HZ: Final = 16_000
"""Rate of the waveform that audio encoders see (F2: AST's)."""

_JITTER_S: Final = 0.02
"""Timestamps of sound this far off the count of its samples are rounding; beyond, sound is missing or said twice."""

_LOUDEST: Final = 1e6
"""Times full scale. Decoders give a few times full scale at most; squares of more would not be finite."""


def frames_at_cells(
    path: Path, *, duration_s: float, threads: int, beat: Callable[[], None]
) -> Iterator[NDArray[np.uint8] | None]:
    """Yield, for each cell in turn, the frame on screen at its centre (settled 1), turned upright.

    Args:
        path: The medium.
        duration_s: Clip length in seconds; decides the number of cells.
        threads: Of the decoder; 1 decodes in the calling thread.
        beat: Called for every packet and picture, so that a watchdog sees the decoder live.

    Yields:
        uint8 [height, width, 3] RGB, the same array while the same frame is on screen; None for a cell before the
        first frame.

    Raises:
        VAError: The medium cannot be decoded, or its pictures are smaller than `media.SMALLEST_SIDE`.
    """
    centers = timeline.cell_centers(timeline.num_cells(duration_s))
    cell = 0
    screen = cache(partial(to_rgb, None))  # converts what is on it once, when first asked
    for time_s, frame in showing.timed_pictures(path, threads=threads, beat=beat):
        while cell < len(centers) and not timeline.is_presented(time_s, centers[cell]):
            yield screen()
            cell += 1
        if cell == len(centers):
            return
        media.require_size(frame.width, frame.height, path)
        screen = cache(partial(to_rgb, frame))
    for _ in range(cell, len(centers)):
        yield screen()


def waveform_blocks(path: Path, *, duration_s: float, beat: Callable[[], None]) -> Iterator[NDArray[np.float32]]:
    """Yield the sound from time 0 to its end, mono (mean of the channels) at 16 kHz, in blocks of a second at most.

    Sample n is heard at n / 16000 s on the clip's clock: a stream that starts late is preceded by zeros, one that
    starts early is cut, missing packets are filled with zeros and what is said twice is heard once. Samples are
    counted; timestamps that differ from the count by less than 20 ms are rounding and move nothing.

    Nothing is yielded for a medium without sound, which includes an audio stream that holds none.

    Args:
        path: The medium.
        duration_s: Clip length in seconds; sound beyond it is left out.
        beat: Called for every packet and block, so that a watchdog sees the decoder live.

    Yields:
        float32 [samples], finite, full scale being [-1, 1].

    Raises:
        VAError: The medium cannot be decoded, or has samples that are not finite.
    """
    position, end = 0, round(duration_s * SAMPLE_RATE_HZ)
    for start, block in _placed_blocks(path, beat):
        while position < min(start, end):
            silence = np.zeros(min(start, end, position + SAMPLE_RATE_HZ) - position, np.float32)
            position += len(silence)
            yield silence
        kept = block[max(0, position - start) : max(0, end - start)]
        position += len(kept)
        for at in range(0, len(kept), SAMPLE_RATE_HZ):
            yield kept[at : at + SAMPLE_RATE_HZ]
        if position >= end:
            return


def to_rgb(frame: av.VideoFrame | None) -> NDArray[np.uint8] | None:
    """Convert a picture to uint8 [height, width, 3] RGB, turned upright; None is no picture and stays None."""
    if frame is None:
        return None
    rgb = frame.to_ndarray(format="rgb24", threads=1).astype(np.uint8, copy=False)
    return np.ascontiguousarray(upright(rgb, frame))


def upright(rgb: NDArray[np.uint8], frame: av.VideoFrame) -> NDArray[np.uint8]:
    """Turn a frame's picture as the frame says that it is shown.

    Args:
        rgb: uint8 [height, width, 3] at any scale.
        frame: The frame it was made from.
    """
    side_data = cast(Mapping[str, Any], frame.side_data)
    if "DISPLAYMATRIX" not in side_data:
        return rgb
    return _turned(rgb, np.frombuffer(side_data["DISPLAYMATRIX"], np.int32))


def _turned(rgb: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Turn and mirror a picture as its display matrix says (ISO 14496-12, 8.2.2.3), to the nearest quarter turn.

    The matrix sends the stored point (x, y) to (a x + c y, b x + d y), with x to the right and y down.
    """
    a, b, c, d = (float(matrix[index]) for index in (0, 1, 3, 4))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        x, y = a, d
    else:
        rgb, x, y = rgb.swapaxes(0, 1), c, b
    return rgb[:: -1 if y < 0 else 1, :: -1 if x < 0 else 1]


def _placed_blocks(path: Path, beat: Callable[[], None]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield blocks of sound at 16 kHz with the sample, counted from time 0, at which each starts."""
    with media.open_media(path) as container:
        stream = media.sound_stream(container, path)
        if stream is None:
            return
        decoder = SoundDecoder(media.origin_s(container), name=path)
        for packet in media.packets(container, stream, beat=beat):
            for placed in decoder.take(packet):
                beat()
                yield placed
        yield from decoder.end()


class SoundDecoder:
    """Decodes the packets of a stream of sound to mono at 16 kHz, each block with its place.

    Frames that follow each other in one format without gap or overlap are resampled in one run.

    Args:
        origin_s: Time 0 of the clip on the frames' clock, in seconds.
        name: What errors call the medium.
    """

    def __init__(self, origin_s: float, *, name: Path | str) -> None:
        self._name = name
        self._origin_s = origin_s
        self._format: tuple[str, str, int] | None = None
        self._start_s = 0.0
        self._samples = 0
        self._resampler: AudioResampler | None = None
        self._position = 0

    def take(self, packet: "Packet[AudioStream]") -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Decode a packet.

        Yields:
            The sample, counted from time 0, at which a block starts, and float32 [samples].

        Raises:
            VAError: Samples are not finite, or beyond a million times full scale.
        """
        for frame in packet.decode():
            if self._begins_run(frame):
                yield from self._resample(None)
                self._resampler = AudioResampler(format="fltp", rate=SAMPLE_RATE_HZ)
                self._position = round(self._start_s * SAMPLE_RATE_HZ)
            frame.pts = None  # the resampler then counts samples instead of filling small gaps
            yield from self._resample(frame)

    def end(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Give out what is left after the last packet, as `take` does."""
        yield from self._resample(None)
        self._resampler = None

    def _begins_run(self, frame: av.AudioFrame) -> bool:
        kind = (frame.format.name, frame.layout.name, frame.rate)
        due_s = self._start_s + (self._samples / self._format[2] if self._format else 0.0)
        time_s = due_s if frame.time is None else frame.time - self._origin_s
        jumps = self._format is None or abs(time_s - due_s) > _JITTER_S
        begins = jumps or kind != self._format
        if begins:
            self._start_s = time_s if jumps else due_s
            self._format, self._samples = kind, 0
        self._samples += frame.samples
        return begins

    def _resample(self, frame: av.AudioFrame | None) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Convert a frame, or what the run's last ones left in the resampler: as many seconds as they last."""
        if self._resampler is None:
            return
        for resampled in self._resampler.resample(frame):
            block = _mono(resampled)
            if not (np.abs(block) <= _LOUDEST).all():
                raise VAError(
                    f"{self._name}: its sound has values that are not finite, or beyond a million times full scale",
                    "Write the sound again, for example as 16-bit PCM or AAC.",
                )
            yield self._position, block
            self._position += len(block)


def _mono(frame: av.AudioFrame) -> NDArray[np.float32]:
    # The mean, as audio libraries do: FFmpeg's own mixture of two equal channels is sqrt(2) times either of them, for
    # some formats only.
    mean: NDArray[np.float32] = frame.to_ndarray().mean(axis=0, dtype=np.float32)
    return mean
