"""Decoding clips to model inputs: takes what stage one's readers send and writes it, block by block."""

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from va.data.clipgroup import Source
from va.data.clipwriter import ClipWriter
from va.data.corpus import Clip
from va.errors import VAError
from va.extract import inputs, progress
from va.extract.config import ExtractConfig
from va.extract.decode import SAMPLE_RATE_HZ
from va.extract.encoders import Encoder
from va.extract.extraction import Report
from va.extract.process import Begun, Event, Failed, Inputs
from va.extract.readers import Readers
from va.extract.reading import Front
from va.extract.spectrum import ROWS_PER_S
from va.train.finetuning.clip_inputs import ClipInputs

_REPORT_EVERY_S: Final = 0.5
_BESIDES: Final = 1.01
"""Files hold a little more than values."""


def check_room(directory: Path, stores: Sequence[ClipInputs], clips: Sequence[Clip]) -> None:
    """Check that the disk can take the clips that are not there.

    Raises:
        VAError: It cannot; says how much is needed.
    """
    needed = _BESIDES * sum(
        store.bytes_for(clip.duration_s) for clip in clips for store in stores if not store.path(clip.id).is_file()
    )
    there = directory.absolute()
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    if needed > free:
        raise VAError(
            f"{directory}: model inputs of the {len(clips)} clips need {needed / 1e9:.1f} GB more, "
            f"{free / 1e9:.1f} GB are free there",
            "Make room, or name a folder on another disk.",
        )


def run(
    stores: Mapping[str, ClipInputs],
    *,
    encoders: Sequence[Encoder],
    clips: Sequence[Clip],
    config: ExtractConfig,
    report: Report,
    stopping: Callable[[], bool],
) -> dict[str, str]:
    """Decode what the stores lack.

    Args:
        stores: Encoder name -> where its inputs go.
        encoders: Of these names.
        clips: In the order in which they are begun.
        config: Stage one's settings.
        report: Called now and then.
        stopping: Asked before each clip.

    Returns:
        Clip id -> why it failed.

    Raises:
        VAError: The disk fails.
    """
    for store in stores.values():
        store.open()
    fronts = [_front(encoder, window_s=config.window_s) for encoder in encoders]
    preparation = _Preparation(stores, fronts=fronts, config=config, clips=clips, report=report)

    def lacking(clip: Clip, source: Source) -> tuple[str, ...]:
        return tuple(name for name, store in stores.items() if not store.is_done(clip.id, source))

    try:
        with Readers(config, fronts=fronts, clips=clips, lacking=lacking, stopping=stopping) as readers:
            for event in readers.events():
                preparation.take(event)
                preparation.count(readers, every_s=_REPORT_EVERY_S)
            preparation.count(readers, every_s=0)
    finally:
        preparation.abandon()
    return preparation.failed


def _front(encoder: Encoder, *, window_s: float) -> Front:
    """Give the part of an encoder that runs in a reader; of sound it sends windows' rows as they are."""
    transform = encoder.transform
    if encoder.spectrum is not None:
        rows = encoder.spectrum(np.zeros(round(window_s * SAMPLE_RATE_HZ), np.float32))
        transform = partial(inputs.pad_rows, length=len(rows), bins=rows.shape[1], value=0.0)
    return Front(
        name=encoder.name, kind=encoder.kind, transform=transform, spectrum=encoder.spectrum, sees=encoder.sees
    )


@dataclass(eq=False, kw_only=True)
class _Work:
    """A clip in flight: its files, the rows of sound written so far, and why it failed, if it did."""

    clip: Clip
    writers: dict[str, ClipWriter]
    heard: int = 0
    problem: str | None = None


class _Preparation:
    """What is in flight, and what was counted."""

    def __init__(
        self,
        stores: Mapping[str, ClipInputs],
        *,
        fronts: Sequence[Front],
        config: ExtractConfig,
        clips: Sequence[Clip],
        report: Report,
    ) -> None:
        self.failed: dict[str, str] = {}
        self._stores, self._config, self._clips, self._report = stores, config, clips, report
        self._heard = {front.name for front in fronts if front.kind == "audio"}
        self._works: dict[str, _Work] = {}
        self._done = self._frames = self._windows = 0
        self._done_s = 0.0
        self._total_s = sum(clip.duration_s for clip in clips)  # of media
        self._started = time.perf_counter()
        self._reported_s = self._writing_s = 0.0

    def take(self, event: Event) -> None:
        """Write what a reader has sent.

        Raises:
            VAError: The disk fails.
        """
        started = time.perf_counter()
        if isinstance(event, Begun):
            self._works[event.clip.id] = _Work(
                clip=event.clip,
                writers={
                    name: self._stores[name].begin(event.clip.id, event.source, duration_s=event.duration_s)
                    for name in event.missing
                },
            )
        elif isinstance(event, Inputs):
            self._add(self._works[event.clip.id], event)
        else:
            self._end(event)
        self._writing_s += time.perf_counter() - started

    def count(self, readers: Readers, *, every_s: float) -> None:
        """Report, unless that was less than `every_s` ago."""
        elapsed_s = time.perf_counter() - self._started
        if elapsed_s - self._reported_s < every_s:
            return
        self._reported_s = elapsed_s
        stages = progress.stages(
            reading=readers.busy(),
            readers=readers.count,
            encoding={},
            writing_s=self._writing_s,
            elapsed_s=elapsed_s,
        )
        line = progress.line(
            frames=self._frames,
            windows=self._windows,
            elapsed_s=elapsed_s,
            fraction=min(1.0, self._done_s / self._total_s) if self._total_s > 0 else 0.0,
            found=stages,
        )
        self._report(self._done + len(self.failed), len(self._clips), line)

    def abandon(self) -> None:
        """Leave nothing of the clips in flight."""
        for work in self._works.values():
            for writer in work.writers.values():
                writer.abandon()

    def _add(self, work: _Work, event: Inputs) -> None:
        if work.problem is not None:
            return
        writer = work.writers[event.encoder]
        try:
            if event.encoder in self._heard:
                self._windows += len(event.rows)
                self._hear(work, writer, event)
            else:
                self._frames += len(event.rows)
                _see(writer, event)
        except (TypeError, ValueError) as error:  # a reader that a hostile file has taken over may send anything
            work.problem = f"{work.clip.media}: its reader process sent {error}"

    def _hear(self, work: _Work, writer: ClipWriter, event: Inputs) -> None:
        """Append those rows of windows that the windows before them did not have."""
        for window, count, padded in zip(event.rows, event.counts, event.inputs, strict=True):
            first = round(window * self._config.stride_s * ROWS_PER_S)
            skip = max(0, work.heard - first)
            rows = padded[:count][skip:]
            writer.append(first + skip, rows, np.ones(len(rows), np.bool_))
            work.heard = max(work.heard, first + count)

    def _end(self, event: Event) -> None:
        """Commit a clip, or leave nothing of it where it failed."""
        work = self._works.pop(event.clip.id, None)
        problem = event.message if isinstance(event, Failed) else None
        if work is not None:
            problem = problem or work.problem
            try:
                for writer in work.writers.values() if problem is None else ():
                    writer.commit()
            finally:
                for writer in work.writers.values():
                    writer.abandon()
        if problem is not None:
            self.failed[event.clip.id] = problem
        else:
            self._done += 1
        if work is None or problem is not None:  # it took no time, or how much is not known
            self._total_s -= event.clip.duration_s
        else:
            self._done_s += event.clip.duration_s


def _see(writer: ClipWriter, event: Inputs) -> None:
    """Append pictures; cells between them were not seen."""
    gaps = np.flatnonzero(np.diff(event.rows) != 1) + 1
    for part in np.split(np.arange(len(event.rows)), gaps):
        writer.append(event.rows[part[0]], event.inputs[part], np.ones(len(part), np.bool_))
