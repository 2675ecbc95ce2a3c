"""What a run tells the person who waits for it. A leaf: numbers in, text out."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Stage:
    """How busy one stage was.

    Args:
        name: `decode`, `faces`, ..., `encode <encoder>`, `write`.
        busy_s: Seconds, over all its processes.
        processes: How many processes or threads share this work.
        share: Part of its time that the stage was at work, 0 to 1; readers' stages share their processes, so that
            theirs add up to at most 1.
    """

    name: str
    busy_s: float
    processes: int
    share: float


def stages(
    *, reading: dict[str, float], readers: int, encoding: dict[str, float], writing_s: float, elapsed_s: float
) -> tuple[Stage, ...]:
    """Turn seconds into shares.

    Args:
        reading: Seconds per stage of the readers, all processes together.
        readers: Number of reader processes.
        encoding: Seconds per encoder.
        writing_s: Seconds of the writing thread.
        elapsed_s: Seconds since the run began.
    """
    elapsed_s = max(elapsed_s, 1e-9)
    found = [
        Stage(name=name, busy_s=busy_s, processes=readers, share=busy_s / readers / elapsed_s)
        for name, busy_s in reading.items()
    ]
    found += [
        Stage(name=f"encode {name}", busy_s=busy_s, processes=1, share=busy_s / elapsed_s)
        for name, busy_s in encoding.items()
    ]
    return (*found, Stage(name="write", busy_s=writing_s, processes=1, share=writing_s / elapsed_s))


def slowest(found: tuple[Stage, ...]) -> str:
    """Name what a run waits for: the busiest of reading, encoding and writing, by the stage that is busiest in it."""

    def part(stage: Stage) -> str:
        first = stage.name.split()[0]
        return first if first in ("encode", "write") else "read"

    shares = {name: sum(each.share for each in found if part(each) == name) for name in map(part, found)}
    busiest = max(shares, key=lambda name: shares[name])
    stage = max((each for each in found if part(each) == busiest), key=lambda each: each.share)
    return f"{stage.name} ({busiest} {min(1.0, shares[busiest]):.0%} busy)"


def line(*, frames: int, windows: int, elapsed_s: float, fraction: float, found: tuple[Stage, ...]) -> str:
    """Say in one line how far a run is.

    Args:
        frames: Frames encoded so far, each counted once however many encoders see it.
        windows: Audio windows encoded so far, likewise.
        elapsed_s: Seconds since the run began.
        fraction: Part of the work that is done, 0 to 1.
        found: From `stages`.
    """
    what, done = ("frames", frames) if frames else ("windows", windows)
    if not done:
        return "reading"
    parts = [f"{done} {what}", f"{done / max(elapsed_s, 1e-9):.1f}/s"]
    if elapsed_s > 1 and fraction > 0:
        parts.append(f"{duration(elapsed_s * (1 - fraction) / fraction)} left")
    return ", ".join([*parts, f"slowest: {slowest(found)}"])


def table(found: tuple[Stage, ...], *, elapsed_s: float) -> tuple[str, tuple[str, ...], list[tuple[str, ...]]]:
    """Give title, header and rows of the summary: what every stage was busy with, the shares in parts of its time."""
    rows: list[tuple[str, ...]] = []
    for stage in found:
        of = f"{stage.share:.0%}" + (f" of {stage.processes} processes" if stage.processes > 1 else "")
        rows.append((stage.name, f"{stage.busy_s:.1f} s", of))
    return f"{duration(elapsed_s)} in all; waiting for: {slowest(found)}", ("stage", "busy", "share"), rows


def duration(seconds: float) -> str:
    """Write a time as people do: 45 s, 12 min, 3 h 20 min, 2 d 5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"
