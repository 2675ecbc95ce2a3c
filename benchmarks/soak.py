"""Eight hours of video through `va extract`, its memory looked at all the while: a log, then one JSON line. Linux only.

    python benchmarks/soak.py                  (one video of four hours, four of one; about an hour on two cores)

Long media are a short one, its packets written again and again with later times. Memory is that of the command and all
its processes (proportional set size). Whether it is flat is judged after a warm-up: by the line of least squares
through the readings of each minute, and by the highest of the last half against that of the first.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from material import draw, save_corpus
from memory import memory_mb, repeat

HOURS = (4, 1, 1, 1, 1)
WARM_UP_MIN = 3.0
LOOK_EVERY_S = 2.0
LOG_EVERY_S = 60.0


def committed(out: Path) -> int:
    """Count what has been written so far, in MB: half-written and whole clips, and shards."""
    return sum(file.stat().st_size for file in out.rglob("*") if file.is_file()) >> 20


def watch(command: Sequence[str], out: Path) -> list[tuple[float, float]]:
    """Run a command to its end; give (minutes, MB) of every minute's highest reading, and print each."""
    started = logged = time.monotonic()
    readings: list[tuple[float, float]] = []
    highest = 0.0
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        highest = max(highest, memory_mb(process.pid))
        now = time.monotonic()
        if now - logged >= LOG_EVERY_S:
            readings.append(((now - started) / 60, highest))
            print(f"{readings[-1][0]:6.1f} min  {highest:7.0f} MB  {committed(out):5d} MB written", flush=True)
            logged, highest = now, 0.0
        time.sleep(LOOK_EVERY_S)
    if process.returncode:
        raise SystemExit(f"va extract ended with {process.returncode}")
    return readings


def main() -> None:
    """Make the media, extract them, judge the readings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes-per-hour", type=int, default=60, help="less for a rehearsal")
    parser.add_argument("--encoders", default="tiny-clip,tiny-ast,pixels,loudness")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, out = Path(folder), Path(folder) / "features"
        draw(root / "minute.mp4", 60, width=320, height=240)
        media = []
        for number, hours in enumerate(HOURS):
            media.append(root / f"{number}.mp4")
            repeat(root / "minute.mp4", media[-1], times=hours * given.minutes_per_hour, seconds=60)
        (root / "corpus").mkdir()
        corpus = save_corpus(root / "corpus", media, 3600.0)
        minutes = sum(HOURS) * given.minutes_per_hour
        print(f"{minutes / 60:.1f} h of video in {len(media)} files; {platform.processor() or platform.machine()}")
        va = [sys.executable, "-m", "va.cli"]
        started = time.monotonic()
        readings = watch(
            [
                *va,
                "extract",
                str(corpus),
                "--out",
                str(out),
                "--encoders",
                given.encoders,
                "--device",
                "cpu",
                "--quiet",
            ],
            out,
        )
        elapsed_s = time.monotonic() - started
        verified = subprocess.run([*va, "verify", str(out)], stdout=subprocess.DEVNULL).returncode == 0
    warm = np.array([reading for reading in readings if reading[0] >= WARM_UP_MIN])
    if len(warm) < 4:
        raise SystemExit("too short to judge")
    slope = float(np.polyfit(warm[:, 0] / 60, warm[:, 1], 1)[0])
    first, last = (float(half.max()) for half in np.array_split(warm[:, 1], 2))
    print(f"elapsed {elapsed_s:.0f} s, {minutes * 60 / elapsed_s:.0f} times as fast as it plays; verified: {verified}")
    print(
        f"highest in the first half {first:.0f} MB, in the second {last:.0f} MB; slope {slope:+.1f} MB per hour of work"
    )
    answer = {"benchmark": "soak", "video_hours": minutes / 60, "elapsed_s": round(elapsed_s), "verified": verified}
    print(json.dumps(answer | {"first_half_mb": first, "second_half_mb": last, "slope_mb_per_hour": slope}))


if __name__ == "__main__":
    main()
