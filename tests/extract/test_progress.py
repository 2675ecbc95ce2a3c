"""What a run says of itself: shares, the stage that it waits for, times as people write them."""

import itertools
import time

import pytest

from va.extract import progress
from va.extract.progress import Stage, stages
from va.extract.watch import Watch


def some(**changes: float) -> tuple[Stage, ...]:
    reading = {"decode": 30.0, "transform": 10.0}
    given = {"writing_s": 1.0, "elapsed_s": 40.0} | changes
    return stages(reading=reading, readers=2, encoding={"eye": 12.0, "ear": 20.0}, **given)


def test_shares_are_parts_of_the_time_of_all_processes() -> None:
    found = {stage.name: (stage.busy_s, stage.processes, stage.share) for stage in some()}
    assert found == {
        "decode": (30.0, 2, 0.375),
        "transform": (10.0, 2, 0.125),
        "encode eye": (12.0, 1, 0.3),
        "encode ear": (20.0, 1, 0.5),
        "write": (1.0, 1, 0.025),
    }


def test_the_slowest_is_the_busiest_stage_of_the_busiest_part() -> None:
    assert progress.slowest(some()) == "encode ear (encode 80% busy)"
    assert progress.slowest(some(writing_s=39.0)) == "write (write 98% busy)"
    nothing = stages(reading={}, readers=2, encoding={"eye": 0.0}, writing_s=0.0, elapsed_s=0.0)
    assert progress.slowest(nothing) == "encode eye (encode 0% busy)"


def test_the_line() -> None:
    line = progress.line(frames=800, windows=60, elapsed_s=40.0, fraction=0.25, found=some())
    assert line == "800 frames, 20.0/s, 2 min left, slowest: encode ear (encode 80% busy)"
    only_sound = progress.line(frames=0, windows=60, elapsed_s=40.0, fraction=0.25, found=some())
    assert only_sound.startswith("60 windows, 1.5/s")
    assert progress.line(frames=0, windows=0, elapsed_s=9.0, fraction=0.0, found=some()) == "reading"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (89, "89 s"), (91, "2 min"), (89 * 60, "89 min"), (12_000, "3 h 20 min"), (190_000, "2 d 4 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text


def test_the_table_has_a_row_for_each_stage() -> None:
    title, header, rows = progress.table(some(), elapsed_s=40.0)
    assert title == "40 s in all; waiting for: encode ear (encode 80% busy)"
    assert header == ("stage", "busy", "share")
    assert rows[0] == ("decode", "30.0 s", "38% of 2 processes") and rows[-1] == ("write", "1.0 s", "2%")


def test_a_stage_inside_another_interrupts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()  # every look at it takes a second
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    watch = Watch(stall_s=0)
    with watch.stage("outer"), watch.stage("inner"):  # 0, 1
        pass  # 2, 3
    assert watch.busy == {"outer": 2.0, "inner": 1.0}


def test_each_counts_the_making_of_items_only(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    watch = Watch(stall_s=0)
    for _ in watch.each("making", iter("abc")):
        next(clock)  # using an item takes long
        next(clock)
    assert watch.busy == {"making": 4.0}  # three items and the end
