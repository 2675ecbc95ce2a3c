"""A medium read once, while it comes: at each step's end, what was seen and heard of the window before it. A leaf.

Pictures and sound are demuxed together and decoded packet by packet. Cells, the picture on screen at their centres and
the sound's place follow the rules of `timeline.py` and `decode.py`, so that a step at time t sees what stage one would
see of the last window of a clip cut at t: nothing later. Memory holds a window and what pictures and sound may lie
apart, however long the stream is.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from va.data import media, timeline
from va.data.showing import PictureDecoder
from va.errors import VAError
from va.extract import decode
from va.extract.decode import SAMPLE_RATE_HZ, SoundDecoder
from va.extract.faces import Box

if TYPE_CHECKING:  # not subscriptable at run time
    from av.audio.stream import AudioStream
    from av.packet import Packet
    from av.video.stream import VideoStream

APART_S: Final = 10.0
"""Pictures that are this far behind the sound, or sound behind the pictures, are waited for no longer: FFmpeg's muxers
keep the packets of a file no further apart (`max_interleave_delta`)."""

_JUMP_BACK_S: Final = 2.0
_JUMP_AHEAD_S: Final = 3600.0
"""Clocks that step this far are broken; ahead they would become endless empty cells."""

_MOMENT_S: Final = 0.04
"""A last picture whose length the medium does not say is shown no longer than this."""

_SLACK_S: Final = 1e-6
_CELL_SAMPLES: Final = round(timeline.CELL_S * SAMPLE_RATE_HZ)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What is seen in a cell.

    Args:
        cell: Number of the cell.
        model_input: The picture as its encoder takes it; None where there is no picture or no face.
        box: Left, top, right, bottom of the face's crop in the frame's pixels; None without a detector or a face.
    """

    cell: int
    model_input: NDArray[Any] | None
    box: Box | None


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step whose window is complete.

    Args:
        time_s: Its end in seconds, also the window's.
        looks: The window's cells in order, the last of which ends at `time_s`; fewer than a window at the start.
        waveform: float32 [samples] at 16 kHz, from the window's start to where the sound ends, at most to `time_s`;
            empty without sound.
        read_s: When the last packet that it needed was read, by `time.perf_counter`.
    """

    time_s: float
    looks: tuple[Look, ...]
    waveform: NDArray[np.float32]
    read_s: float


def follow(
    container: InputContainer,
    *,
    name: Path | str,
    step_s: float,
    window_s: float,
    look: Callable[[int, NDArray[np.uint8] | None], Look],
    release: Callable[[float], None],
) -> Iterator[Look | Step]:
    """Read a medium to its end.

    Args:
        container: The open medium.
        name: What errors call it.
        step_s: Distance of steps in seconds, a multiple of half a second.
        window_s: Length of windows in seconds, likewise.
        look: Makes a cell's number and the picture on screen at its centre, uint8 [H, W, 3] RGB or None before the
            first, into what the window keeps. Called once per cell, in order.
        release: Called with every packet's time in seconds, when it is read and before anything is done with it; may
            wait until then, or end the reading by raising.

    Yields:
        Each cell as soon as it is known, and each step as soon as its window is: when a picture has passed its last
        cell's centre and the sound its end. At the stream's end, the steps that the last picture lasts to.

    Raises:
        VAError: The medium cannot be decoded, has no pictures, or its clock jumps.
    """
    seen, heard = media.picture_stream(container, name), media.sound_stream(container, name)
    # A decoder that works on several pictures at a time gives each of them out late.
    seen.codec_context.thread_count, seen.codec_context.thread_type = 1, "SLICE"
    pictures = PictureDecoder(container, seen, name=name)
    sound = SoundDecoder(media.origin_s(container), name=name)
    grid = _Grid(name=name, step_s=step_s, window_s=window_s, look=look, silent=heard is None)
    length_s = 0.0
    chosen = (seen,) if heard is None else (seen, heard)
    for packet in media.packets(container, *chosen, beat=lambda: None):
        ticks = packet.pts if packet.dts is None else packet.dts
        if ticks is not None:
            release(ticks * float(packet.time_base) - media.origin_s(container))
        grid.read_s = time.perf_counter()
        if packet.stream.index == seen.index:
            if packet.size:
                length_s = float((packet.duration or 0) * packet.time_base)
            for time_s, frame in pictures.take(cast("Packet[VideoStream]", packet)):
                yield from grid.show(time_s, frame)
        else:
            for position, block in sound.take(cast("Packet[AudioStream]", packet)):
                yield from grid.hear(position, block)
    for position, block in sound.end():
        yield from grid.hear(position, block)
    yield from grid.end(length_s)


class _Grid:
    """Lays what comes on cells and steps.

    Args:
        name: As in `follow`, like all that follow.
        step_s: See there.
        window_s: See there.
        look: See there.
        silent: Whether there is no sound to wait for.

    Attributes:
        read_s: When the packet that is being decoded was read.
    """

    def __init__(
        self,
        *,
        name: Path | str,
        step_s: float,
        window_s: float,
        look: Callable[[int, NDArray[np.uint8] | None], Look],
        silent: bool,
    ) -> None:
        self.read_s = 0.0
        self._name = name
        self._step = timeline.cells_in(step_s, name="step")
        self._window = timeline.cells_in(window_s, name="window")
        self._look = look
        self._silent = silent
        self._screen: Callable[[], NDArray[np.uint8] | None] = cache(partial(decode.to_rgb, None))
        self._shown_s = self._gap_s = 0.0
        self._has_pictures = False
        self._cell = 0
        self._due = self._step  # cells before the end of the next step
        self._looks: deque[Look] = deque()
        self._sound = _Sound()

    def show(self, time_s: float, frame: av.VideoFrame) -> Iterator[Look | Step]:
        """Take the next picture."""
        self._check_clock(time_s, self._shown_s)
        media.require_size(frame.width, frame.height, self._name)
        self._gap_s = max(0.0, time_s - self._shown_s)
        self._shown_s = max(time_s, self._shown_s)
        while not timeline.is_presented(time_s, (self._cell + 0.5) * timeline.CELL_S):
            yield from self._next_cell()
        self._has_pictures = True
        self._screen = cache(partial(decode.to_rgb, frame))  # converts it once, when first asked
        yield from self._steps()

    def hear(self, position: int, block: NDArray[np.float32]) -> Iterator[Look | Step]:
        """Take the next block of sound, which starts at sample `position`."""
        self._check_clock(position / SAMPLE_RATE_HZ, self._sound.end / SAMPLE_RATE_HZ)
        self._sound.add(position, block)
        if self._sound.end / SAMPLE_RATE_HZ - self._shown_s >= APART_S:
            while (self._cell + 1) * _CELL_SAMPLES <= self._sound.end:
                yield from self._next_cell()
        yield from self._steps()

    def end(self, length_s: float) -> Iterator[Look | Step]:
        """Give what is left when all is read; the last picture is on screen for `length_s` seconds; 0: untold."""
        if not self._has_pictures:
            raise VAError(f"{self._name}: has no video frame", "Give a stream with pictures and, optionally, sound.")
        self._silent = True  # there is no more to wait for
        yield from self._steps()
        end_s = self._shown_s + (length_s if length_s > 0 else min(self._gap_s, _MOMENT_S))
        while (self._cell + 1) * timeline.CELL_S <= end_s + _SLACK_S:
            yield from self._next_cell()

    def _next_cell(self) -> Iterator[Look | Step]:
        look = self._look(self._cell, self._screen())
        self._cell += 1
        self._looks.append(look)
        yield look
        yield from self._steps()

    def _steps(self) -> Iterator[Step]:
        """Give the steps whose windows are complete."""
        while self._due <= self._cell:
            heard_s = self._sound.end / SAMPLE_RATE_HZ
            if not (self._silent or self._sound.end >= self._due * _CELL_SAMPLES or self._shown_s - heard_s >= APART_S):
                return
            first = max(0, self._due - self._window)
            while self._looks[0].cell < first:
                self._looks.popleft()
            yield Step(
                time_s=self._due * timeline.CELL_S,
                looks=tuple(look for look in self._looks if look.cell < self._due),
                waveform=self._sound.window(first * _CELL_SAMPLES, self._due * _CELL_SAMPLES),
                read_s=self.read_s,
            )
            self._due += self._step
            self._sound.forget(max(0, self._due - self._window) * _CELL_SAMPLES)

    def _check_clock(self, time_s: float, last_s: float) -> None:
        now_s = max(self._shown_s, self._sound.end / SAMPLE_RATE_HZ)
        if time_s < last_s - _JUMP_BACK_S or time_s > now_s + _JUMP_AHEAD_S:
            raise VAError(
                f"{self._name}: its clock jumps from {last_s:.2f} s to {time_s:.2f} s",
                "Start again from where it jumps; several recordings in one stream need one run each.",
            )


class _Sound:
    """The sound of the last seconds, with holes where none came.

    Attributes:
        end: The sample, counted from time 0, at which the sound ends so far; 0 before there is any.
    """

    def __init__(self) -> None:
        self.end = 0
        self._blocks: deque[tuple[int, NDArray[np.float32]]] = deque()

    def add(self, position: int, block: NDArray[np.float32]) -> None:
        """Take a block that starts at sample `position`; what was said already is heard once."""
        cut = max(0, self.end - position)
        if len(block) > cut:
            self._blocks.append((position + cut, block[cut:]))
            self.end = position + len(block)

    def window(self, first: int, last: int) -> NDArray[np.float32]:
        """Give the samples from `first` to `last`, or to where the sound before `last` ends; holes are zeros."""
        samples = np.zeros(last - first, np.float32)
        end = first
        for start, block in self._blocks:
            if first < start + len(block) and start < last:
                end = min(start + len(block), last)
                samples[max(start, first) - first : end - first] = block[max(0, first - start) : end - start]
        return samples[: end - first]

    def forget(self, first: int) -> None:
        """Let go of what ends before sample `first`."""
        while self._blocks and self._blocks[0][0] + len(self._blocks[0][1]) <= first:
            self._blocks.popleft()
