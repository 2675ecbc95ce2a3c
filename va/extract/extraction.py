"""One run of stage one: takes what readers send, fills batches, hands values to the writer, keeps count."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from va import files
from va.data import timeline
from va.data.corpus import Clip
from va.data.features import FeatureStore, Kind, Source
from va.extract import progress
from va.extract.batches import Batch
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder
from va.extract.process import Begun, Event, Failed, Inputs
from va.extract.progress import Stage
from va.extract.readers import Readers
from va.extract.reading import Front
from va.extract.writing import Work, Writer

FAILURES: Final = "failures"
_REPORT_EVERY_S: Final = 0.5

Report = Callable[[int, int, str], None]
"""Takes (clips done, clips in all, a line for a person)."""


class Extraction:
    """What is in flight, and what was counted.

    Args:
        config: The stage's settings.
        loaded: Encoders of different names.
        stores: Encoder name -> store.
        clips: What to extract.
        device: Where the encoders are.
        report: Called now and then.

    Attributes:
        written: Clips of which at least one encoder's features were written.
        present: Clips that needed nothing.
        failed: Clip id -> why.
        rows: Encoder name -> frames or windows encoded.
        elapsed_s: Seconds that `run` took.
        stages: How busy every stage was.
    """

    def __init__(
        self,
        config: ExtractConfig,
        loaded: Sequence[Encoder],
        stores: dict[str, FeatureStore],
        clips: Sequence[Clip],
        *,
        device: torch.device,
        report: Report,
    ) -> None:
        self.written, self.present = 0, 0
        self.failed: dict[str, str] = {}
        self.rows = {encoder.name: 0 for encoder in loaded}
        self.elapsed_s = 0.0
        self.stages: tuple[Stage, ...] = ()
        self._config = config
        self._encoders = {encoder.name: encoder for encoder in loaded}
        self._stores = stores
        self._clips = clips
        self._report = report
        self._works: dict[str, Work] = {}
        self._done_s, self._total_s = 0.0, sum(clip.duration_s for clip in clips)  # of media
        self._reported_s = 0.0
        sizes = {"frames": config.frame_batch, "audio": config.audio_batch}
        self._batches = {
            encoder.name: Batch[Work](encoder, size=sizes[encoder.kind], device=device, deliver=self._deliver)
            for encoder in loaded
        }
        self._writer = Writer(stores, shard_bytes=round(config.shard_mb * (1 << 20)))

    def run(self, stopping: Callable[[], bool]) -> None:
        """Extract; after a stop, only what was begun.

        Raises:
            VAError: The store cannot be written any more.
        """
        started = time.perf_counter()
        fronts = [
            Front(name=name, kind=each.kind, transform=each.transform, spectrum=each.spectrum, sees=each.sees)
            for name, each in self._encoders.items()
        ]
        try:
            with (
                self._writer,
                Readers(
                    self._config, fronts=fronts, clips=self._clips, lacking=self._lacking, stopping=stopping
                ) as readers,
            ):
                for event in readers.events():
                    self._take(event)
                    self._count(readers, time.perf_counter() - started, every_s=_REPORT_EVERY_S)
                for batch in self._batches.values():
                    batch.flush()
            self._count(readers, time.perf_counter() - started, every_s=0)
        finally:
            for work in self._works.values():  # of a run that was cut short
                for writer in work.writers.values():
                    writer.abandon()

    def _lacking(self, clip: Clip, source: Source) -> tuple[str, ...]:
        return tuple(name for name, store in self._stores.items() if not store.is_done(clip.id, source))

    def _take(self, event: Event) -> None:
        if isinstance(event, Begun):
            self._begin(event)
            return
        work = self._works.get(event.clip.id)
        if isinstance(event, Inputs):
            assert work is not None  # a reader sends inputs of the clip that it has begun
            self._add(work, event)
        elif work is None:  # it never began
            if isinstance(event, Failed):
                self._fail(event.clip, event.message)
            else:
                self.present += 1
                files.remove(_record(self._config.out, event.clip))
                self._total_s -= event.clip.duration_s
        else:
            work.problem = event.message if isinstance(event, Failed) else work.problem
            work.ended = True
            self._finish_if_complete(work)

    def _begin(self, event: Begun) -> None:
        config = self._config
        cells = timeline.cell_centers(timeline.num_cells(event.duration_s))
        starts_s = timeline.window_starts(event.duration_s, window_s=config.window_s, stride_s=config.stride_s)
        steps = timeline.cells_in(config.window_s, name="window")
        writers, expected = {}, {}
        for name in event.missing:
            of_frames = self._encoders[name].kind == "frames"
            time_s = cells if of_frames else starts_s
            store = self._stores[name]
            writers[name] = store.begin(event.clip.id, event.source, time_s=time_s, steps=None if of_frames else steps)
            expected[name] = len(time_s)
        self._works[event.clip.id] = Work(clip=event.clip, writers=writers, expected=expected)

    def _add(self, work: Work, event: Inputs) -> None:
        last, rows = work.last.get(event.encoder, -1), event.rows
        if any(row <= before for before, row in zip([last, *rows], rows, strict=False)):
            work.problem = work.problem or f"{work.clip.media}: its reader process sent rows out of order"
        elif rows[-1] >= work.expected[event.encoder]:
            work.problem = work.problem or f"{work.clip.media}: its reader process sent more rows than it has"
        elif not self._batches[event.encoder].fits(event.inputs):
            work.problem = work.problem or f"{work.clip.media}: its reader process sent inputs of another shape"
        if work.problem is not None:
            return
        work.last[event.encoder] = rows[-1]
        batch, encoder = self._batches[event.encoder], self._encoders[event.encoder]
        for row, count, model_input in zip(rows, event.counts, event.inputs, strict=True):
            # Sound that is too short for a single step gives nothing to encode.
            if encoder.valid_steps is None or encoder.valid_steps(count).any():
                work.sent[event.encoder] = work.sent.get(event.encoder, 0) + 1
                batch.add(work, row, model_input, count)

    def _deliver(self, work: Work, name: str, rows: list[int], counts: list[int], values: NDArray[np.float16]) -> None:
        encoder = self._encoders[name]
        if encoder.valid_steps is None:
            valid = np.ones(len(rows), np.bool_)
        else:
            valid = np.stack([encoder.valid_steps(count) for count in counts])
            values = np.where(valid[:, :, None], values, np.float16(0))
        if not np.isfinite(values).all():
            work.problem = work.problem or f"{work.clip.media}: '{name}' gave values that are not finite"
        self._writer.rows(work, name, rows, values, valid)
        work.delivered[name] = work.delivered.get(name, 0) + len(rows)
        self.rows[name] += len(rows)
        self._finish_if_complete(work)

    def _finish_if_complete(self, work: Work) -> None:
        if work.ended and work.sent == work.delivered:
            self._writer.finish(work)

    def _count(self, readers: Readers, elapsed_s: float, *, every_s: float) -> None:
        """Take note of the clips that were written, and report."""
        for work in self._writer.finished():
            del self._works[work.clip.id]
            if work.problem is not None:
                self._fail(work.clip, work.problem)
                continue
            self.written += 1
            self._done_s += work.clip.duration_s
            files.remove(_record(self._config.out, work.clip))
        if elapsed_s - self._reported_s < every_s:
            return
        self._reported_s = self.elapsed_s = elapsed_s
        self.stages = progress.stages(
            reading=readers.busy(),
            readers=readers.count,
            encoding={name: batch.busy_s for name, batch in self._batches.items()},
            writing_s=self._writer.busy_s,
            elapsed_s=elapsed_s,
        )
        under_way_s = sum(work.share() * work.clip.duration_s for work in list(self._works.values()))
        fraction = min(1.0, (self._done_s + under_way_s) / self._total_s) if self._total_s > 0 else 0.0
        line = progress.line(
            frames=self.most("frames"),
            windows=self.most("audio"),
            elapsed_s=elapsed_s,
            fraction=fraction,
            found=self.stages,
        )
        self._report(self.written + self.present + len(self.failed), len(self._clips), line)

    def most(self, kind: Kind) -> int:
        """Count frames or windows, each once: those of the encoder that encoded most of them."""
        return max((self.rows[name] for name, each in self._encoders.items() if each.kind == kind), default=0)

    def _fail(self, clip: Clip, message: str) -> None:
        self.failed[clip.id] = message
        self._total_s -= clip.duration_s
        record_failure(self._config.out, clip, message)


def record_failure(out: Path, clip: Clip, message: str) -> None:
    """Leave a record of why a clip failed, in the features folder `out`."""
    files.write_json(_record(out, clip), {"clip": clip.id, "media": str(clip.media), "error": message})


def _record(out: Path, clip: Clip) -> Path:
    return out / FAILURES / f"{files.safe_name(clip.id)}.json"
