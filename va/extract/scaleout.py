"""Stage one on Ray: a few clips are a task, which does with them what `pipeline.py` does, into the one store.

Worker processes keep their encoders from task to task. A store may be written by many processes anyway (`--part`), so
nothing is gathered: what comes back from a task is counts. The clips of a lost worker are a task again, in which those
that were finished are found to be there.
"""

import functools
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Final

from va.data.corpus import Clip
from va.engine import cluster
from va.engine.tasks import Stopping
from va.extract import extraction, pipeline, progress, tuned
from va.extract.config import RUN, ExtractConfig
from va.extract.extraction import Report
from va.extract.pipeline import Prepared, Summary
from va.extract.progress import Stage

_PER_READER: Final = 4
"""Clips of a task per reader process: batches fill across them, and so many wait for a stop or are lost at most."""

Group = tuple[ExtractConfig, tuple[Clip, ...]]


def run(config: ExtractConfig, *, progress: Report, stopping: Callable[[], bool]) -> Summary:
    """Extract every clip of a corpus, or of a part of it, as `pipeline.run` does, on a cluster.

    Args:
        config: The stage's settings.
        progress: Called now and then with (clips done, clips in all, a line for a person).
        stopping: Asked twice a second; True lets the clips in flight finish, and begins no more.

    Raises:
        VAError: As `pipeline.run`; or Ray is not installed, or a machine of the cluster cannot do the work.
    """
    clips = pipeline.clips_of(config)
    config.out.mkdir(parents=True, exist_ok=True)
    seen = [config.corpus, config.out, *(clip.media for clip in clips[:1]), *([config.crops] if config.crops else [])]
    runs = [tuned.directory_of(name) / "run.json" for name in config.chosen if name.startswith(RUN)]
    seen += [run for run in runs if run.exists()]  # a worker says what is wrong with one that does not
    progress(0, len(clips), "starting Ray")
    with cluster.joined(config, device=config.device, seen=seen) as joined:
        progress(0, len(clips), "loading encoders")
        stores, mended = joined.one(begin, config)
        tally = _Tally(clips, progress)
        size = _PER_READER * (config.readers or joined.cpus)
        groups = [(config, clips[start : start + size]) for start in range(0, len(clips), size)]
        for ended in joined.run(extract, groups, stopping=stopping):
            if ended is None:
                tally.report()
            elif ended.lost:
                tally.lose(config, ended.item[1], ended.lost)
            elif ended.result is not None:
                tally.add(ended.item[1], ended.result)
    return tally.summary(stores=stores, mended=mended)


def begin(config: ExtractConfig, stopping: Stopping) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Do in a worker what is done once per run; gives the stores' folders, and a line per shard set aside."""
    prepared = _prepared(config)
    return tuple(store.directory for store in prepared.stores.values()), pipeline.complete(prepared)


def extract(group: Group, stopping: Stopping) -> Summary:
    """Extract a task's clips in a worker."""
    config, clips = group
    return pipeline.extract(config, _prepared(config), clips, mended=(), progress=lambda *_: None, stopping=stopping)


@functools.lru_cache(maxsize=1)
def _prepared(config: ExtractConfig) -> Prepared:
    """Load a worker process's encoders, once."""
    return pipeline.prepare(config, None)


class _Tally:
    """What tasks have done so far.

    Args:
        clips: All that were asked for.
        report: Called with what is done.
    """

    def __init__(self, clips: Sequence[Clip], report: Report) -> None:
        self._clips = clips
        self._report = report
        self._found: list[Summary] = []
        self._failed: dict[str, str] = {}
        self._started_s = time.perf_counter()
        self._done_s, self._total_s = 0.0, sum(clip.duration_s for clip in clips)  # of media

    def add(self, clips: Sequence[Clip], found: Summary) -> None:
        """Take a task's summary."""
        self._found.append(found)
        self._failed |= found.failed
        media_s = sum(clip.duration_s for clip in clips)
        if found.written:
            self._done_s += media_s
        else:  # nothing was to be done: it says nothing of the pace
            self._total_s -= media_s

    def lose(self, config: ExtractConfig, clips: Sequence[Clip], why: str) -> None:
        """Take note of a task that has lost its worker again and again."""
        names = f"{clips[0].id} to {clips[-1].id}"
        for clip in clips:
            message = f"{clip.media}: the worker processes that had clips {names} in hand were lost ({why})"
            self._failed[clip.id] = message
            extraction.record_failure(config.out, clip, message)

    def report(self) -> None:
        """Say how far it is."""
        merged = self.summary(stores=(), mended=())
        line = progress.line(
            frames=merged.frames,
            windows=merged.windows,
            elapsed_s=merged.elapsed_s,
            fraction=min(1.0, self._done_s / self._total_s) if self._total_s > 0 else 0.0,
            found=merged.stages,
        )
        self._report(len(self._clips) - merged.left, len(self._clips), line)

    def summary(self, *, stores: tuple[Path, ...], mended: tuple[str, ...]) -> Summary:
        """Add up all tasks."""
        written = sum(found.written for found in self._found)
        present = sum(found.present for found in self._found)
        return Summary(
            written=written,
            present=present,
            failed={clip.id: self._failed[clip.id] for clip in self._clips if clip.id in self._failed},
            left=len(self._clips) - written - present - len(self._failed),
            stores=stores,
            mended=mended,
            frames=sum(found.frames for found in self._found),
            windows=sum(found.windows for found in self._found),
            elapsed_s=time.perf_counter() - self._started_s,
            stages=_mean(self._found),
        )


def _mean(found: Sequence[Summary]) -> tuple[Stage, ...]:
    """Average how busy stages were over the time of all tasks."""
    whole_s = sum(one.elapsed_s for one in found)
    parts = [(stage, one.elapsed_s) for one in found for stage in one.stages]
    order = list(dict.fromkeys(stage.name for stage, _ in parts))
    parts.sort(key=lambda part: order.index(part[0].name))
    merged = []
    for name, members in groupby(parts, key=lambda part: part[0].name):
        stages = list(members)
        merged.append(
            Stage(
                name=name,
                busy_s=sum(stage.busy_s for stage, _ in stages),
                processes=max(stage.processes for stage, _ in stages),
                share=sum(stage.share * elapsed_s for stage, elapsed_s in stages) / max(whole_s, 1e-9),
            )
        )
    return tuple(merged)
