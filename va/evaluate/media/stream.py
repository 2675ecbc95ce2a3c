"""Valence and arousal of a stream while it comes: one answer a step, from nothing later than the step's end.

Here, beside `predict.py`, because it is the other way to use a run on new media: `va predict RUN SOURCE --stream`.

A step at time t answers for the window that ends there; before the first window is full, for the window from 0 to t,
padded as a short clip's is. Until then, and from then on at every stride, an answer is what the same run says offline
at the end of a clip cut at t. Between strides no offline window ends, so that there the stream says more.

One thread reads, decodes, finds faces and prepares inputs (`va/extract/live.py`); this one encodes and answers. Between
them lies one step. What comes in its own time, standard input or a file with `realtime`, is never queued: a step that
nobody has begun when the next one is complete is dropped. A file is read no faster than it is answered.
"""

import contextlib
import dataclasses
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from av.container import InputContainer
from numpy.typing import NDArray

from va.data import media, timeline
from va.data.pipe import Pipe
from va.device import choose_device
from va.errors import VAError
from va.evaluate.media.answering import Answerer
from va.evaluate.media.handover import Handover
from va.evaluate.pages.sentences import NO_REGIONS
from va.extract import detect, faces, live
from va.extract.config import ExtractConfig
from va.extract.faces import FaceTracker
from va.extract.live import Look
from va.train import checkpoint, encoding
from va.train.checkpoint import Run
from va.train.encoding import Faces, Pair

STANDARD_INPUT: Final = "-"
_REMEMBERED: Final = 100_000  # latencies that the summary is about: 14 hours of half seconds


def run(
    *,
    directory: Path,
    source: str,
    step_s: float,
    realtime: bool,
    faces: Faces,
    clip_weights: Path | None,
    ast_weights: Path | None,
    face_weights: Path | None,
    device: str,
    emit: Callable[[dict[str, Any]], None],
    note: Callable[[str], None],
) -> None:
    """Answer a stream to its end.

    Args:
        directory: Of the run.
        source: A media file, or `-` for standard input.
        step_s: Distance of answers in seconds, a multiple of half a second.
        realtime: Let a file's packets come by its own clock, as a camera's would.
        faces: As in `encoding.settings_for`, like the three that follow.
        clip_weights: See there.
        ast_weights: See there.
        face_weights: See there.
        device: auto, cpu, cuda or cuda:N.
        emit: Takes each answer, as `answers` gives them.
        note: Takes lines for people: what differs from the run's own features, and a summary at the end, however it
            ends.

    Raises:
        VAError: The run, its encoders or the stream cannot be used. What was answered before has been emitted.
    """
    _require_source(source)
    loaded, on = checkpoint.load_run(directory), choose_device(device)
    config = encoding.settings_for(
        loaded,
        corpus=Path(source),
        out=Path(source),
        faces=faces,
        clip_weights=clip_weights,
        ast_weights=ast_weights,
        face_weights=face_weights,
        device=device,
    )
    config = dataclasses.replace(config, frame_batch=1, audio_batch=1)
    pair = encoding.load(loaded, config, device=on)
    for line in (encoding.pictures_differ(loaded, config), _demo(loaded), None if loaded.has_regions else NO_REGIONS):
        if line is not None:
            note(line)
    found = answers(loaded, pair, config, source=source, step_s=step_s, realtime=realtime, device=on)
    _pass_on(found, emit=emit, note=note)


def _pass_on(
    found: Generator[dict[str, Any], None, None],
    *,
    emit: Callable[[dict[str, Any]], None],
    note: Callable[[str], None],
) -> None:
    """Emit all answers, and sum them up however that ends."""
    times: deque[float] = deque(maxlen=_REMEMBERED)
    steps = dropped = 0
    try:
        with contextlib.closing(found):
            for answer in found:
                emit(answer)
                steps, dropped = steps + 1, dropped + answer["dropped"]
                times.append(answer["latency_s"])
    finally:
        note(summary(steps=steps, dropped=dropped, latencies_s=times))


def _require_source(source: str) -> None:
    """Check that a source can be opened, before encoders are loaded.

    Raises:
        VAError: Not a file, or standard input is a terminal.
    """
    if source == STANDARD_INPUT:
        if os.isatty(0):
            raise VAError("-: standard input is a terminal", "Pipe a stream into the command, e.g. from ffmpeg.")
    elif not Path(source).is_file():
        raise VAError(f"{source}: no such file", "Give a media file, or - for standard input.")


def answers(
    run: Run, pair: Pair, config: ExtractConfig, *, source: str, step_s: float, realtime: bool, device: torch.device
) -> Generator[dict[str, Any], None, None]:
    """Answer a stream step by step; closing the iterator ends the reading.

    Args:
        run: Its head is moved to `device`.
        pair: Its encoders.
        config: From `encoding.settings_for`; which faces to find, and the window.
        source: As in `run`.
        step_s: See there.
        realtime: See there.
        device: Where the encoders are.

    Yields:
        `time_s`: the step's end in seconds. `valence`, `arousal`: in [-1, 1]. `regions`: probabilities, or None for a
        run without the region term. `gate`: share of the sound, in [0, 1]. `face`: whether the frame encoder saw a
        picture (of a face, where faces are detected) in the step's last half second. `box`: left, top, right, bottom of
        the face's crop there in pixels, or None. `sound`: whether there was sound in that half second. `latency_s`:
        seconds from when the last packet that the step needed was read to this line. `dropped`: steps left out since
        the answer before.

    Raises:
        VAError: The stream cannot be read or decoded; after the answers to all that came before.
    """
    handover = Handover(live=realtime or source == STANDARD_INPUT, step_s=step_s)
    side = faces.side_of("" if source == STANDARD_INPUT else Path(source).stem)
    look = looker(config, pair, side=side)

    def read() -> None:
        with handover.closing(), _opened(source, handover) as container:
            for event in live.follow(
                container,
                name=_name(source),
                step_s=step_s,
                window_s=config.window_s,
                look=look,
                release=handover.pace if realtime and source != STANDARD_INPUT else handover.check,
            ):
                handover.put(event)

    answerer = Answerer(run, pair, window_s=config.window_s, device=device)
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        while True:
            event, dropped = handover.take()
            if event is None:
                return
            if isinstance(event, Look):
                answerer.see(event)
                continue
            answer = answerer.answer(event)
            yield answer | {"latency_s": round(time.perf_counter() - event.read_s, 6), "dropped": dropped}
    finally:
        handover.stop.set()
        handover.wake()
        reader.join()


def summary(*, steps: int, dropped: int, latencies_s: deque[float]) -> str:
    """Say in a line how many steps were answered and how long that took."""
    if not steps:
        return "0 steps: the stream ended before the first"
    median, high = np.quantile(np.array(latencies_s), [0.5, 0.95])
    return (
        f"{steps} steps, {dropped} dropped, latency {median * 1000:.0f} ms (median), "
        f"{high * 1000:.0f} ms (95th percentile)"
    )


def _demo(run: Run) -> str | None:
    names = run.info["demo_encoders"]
    return "The run's encoders are demo encoders: its answers mean nothing for real people." if names else None


def _name(source: str) -> Path | str:
    return "standard input" if source == STANDARD_INPUT else Path(source)


@contextlib.contextmanager
def _opened(source: str, handover: "Handover") -> Iterator[InputContainer]:
    if source != STANDARD_INPUT:
        with media.open_media(Path(source)) as container:
            handover.began_s = time.perf_counter()
            yield container
        return
    pipe = Pipe(0, stop=handover.stop)
    with media.open_bytes(pipe, name="standard input") as container:
        handover.began_s = pipe.began_s or time.perf_counter()
        yield container


def looker(config: ExtractConfig, pair: Pair, *, side: faces.Side) -> Callable[[int, NDArray[np.uint8] | None], Look]:
    """Make the function that turns a cell's picture into the frame encoder's input, as stage one does."""
    tracker: FaceTracker | None = None
    if config.faces == "detect":
        tracker = FaceTracker(
            detector=detect.load_detector(config.face_weights),
            side=side,
            margin=config.face_margin,
            smoothing_s=faces.SMOOTHING_S,
            hold_s=faces.HOLD_S,
        )

    def look(cell: int, rgb: NDArray[np.uint8] | None) -> Look:
        box = None
        if tracker is not None:
            crop = tracker.update((cell + 0.5) * timeline.CELL_S, rgb)
            rgb, box = (None, None) if crop is None else (crop.rgb, crop.box)
        return Look(cell=cell, model_input=None if rgb is None else pair.face.transform(rgb), box=box)

    return look
