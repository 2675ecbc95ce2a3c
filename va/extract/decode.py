"""Video -> frames at cell centres; audio -> 16 kHz waveform in blocks. A leaf: knows media and clocks only.

Both are generators whose memory does not grow with the length of the file.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from va.data import timeline
from va.data.media import open_media, origin_s

SAMPLE_RATE_HZ: Final = 16_000
"""Rate of the waveform that audio encoders see (F2: AST's)."""


def frames_at_cells(path: Path, *, duration_s: float) -> Iterator[NDArray[np.uint8] | None]:
    """Yield, for each cell in turn, the frame on screen at its centre (settled 1).

    Args:
        path: The medium.
        duration_s: Clip length in seconds; decides the number of cells.

    Yields:
        uint8 [height, width, 3] RGB; None for a cell before the first frame.

    Raises:
        VAError: The medium cannot be decoded.
    """
    centers = timeline.cell_centers(timeline.num_cells(duration_s))
    cell = 0
    shown: av.VideoFrame | None = None
    with open_media(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        origin = origin_s(container)
        for frame in container.decode(stream):
            if frame.pts is None:
                continue
            while cell < len(centers) and not timeline.is_presented(frame.time - origin, centers[cell]):
                yield _rgb(shown)
                cell += 1
            shown = frame
    for _ in range(cell, len(centers)):
        yield _rgb(shown)


def waveform_blocks(path: Path, *, duration_s: float) -> Iterator[NDArray[np.float32]]:
    """Yield the sound from time 0 to its end, mono (mean of the channels) at 16 kHz, in consecutive blocks.

    A stream that starts late is preceded by zeros and one that starts early is cut, so that sample n is heard
    at n / 16000 s on the clip's clock. Nothing is yielded for a medium without sound.

    Args:
        path: The medium.
        duration_s: Clip length in seconds; sound beyond it is left out.

    Yields:
        float32 [samples] in [-1, 1].

    Raises:
        VAError: The medium cannot be decoded.
    """
    end = round(duration_s * SAMPLE_RATE_HZ)
    with open_media(path) as container:
        if not container.streams.audio:
            return
        frames = container.decode(container.streams.audio[0])
        first = next(frames, None)
        if first is None:
            return
        position = round(((first.time or 0.0) - origin_s(container)) * SAMPLE_RATE_HZ)
        if position > 0:
            yield np.zeros(min(position, end), np.float32)
        for block in _resampled(itertools.chain([first], frames)):
            kept = block[max(0, -position) : max(0, end - position)]
            position += len(block)
            if len(kept):
                yield kept
            if position >= end:
                return


def _rgb(frame: av.VideoFrame | None) -> NDArray[np.uint8] | None:
    return None if frame is None else frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)


def _resampled(frames: Iterator[av.AudioFrame]) -> Iterator[NDArray[np.float32]]:
    """Convert frames to mono at 16 kHz; a change of rate, layout or format midway starts another resampler."""
    for _, same in itertools.groupby(frames, key=lambda frame: (frame.format.name, frame.layout.name, frame.rate)):
        resampler = AudioResampler(format="fltp", rate=SAMPLE_RATE_HZ)
        for frame in same:
            frame.pts = None  # the resampler then counts samples instead of filling small gaps
            yield from map(_mono, resampler.resample(frame))
        yield from map(_mono, resampler.resample(None))


def _mono(frame: av.AudioFrame) -> NDArray[np.float32]:
    # The mean, as audio libraries do: FFmpeg's own mixture of two equal channels is sqrt(2) times either of them, for
    # some formats only.
    mean: NDArray[np.float32] = frame.to_ndarray().mean(axis=0, dtype=np.float32)
    return mean
