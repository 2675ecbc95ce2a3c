"""Peak memory of `va extract` on a long video beside a short one: a table, then one JSON line. Linux only.

    python benchmarks/memory.py                (60 minutes of video against 1 minute; about 15 minutes on two cores)

The long medium is the short one, its packets written again and again with later times. Memory is that of the command
and all its processes (proportional set size, so that what they share counts once), looked at four times a second.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import av
from material import draw, save_corpus


def repeat(short: Path, long: Path, *, times: int, seconds: int) -> None:
    """Write a medium's packets `times` times in a row."""
    with av.open(str(long), "w") as target:
        streams: dict[int, Any] = {}
        for number in range(times):
            with av.open(str(short)) as source:
                if not streams:
                    streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
                for packet in source.demux():
                    if packet.dts is None or packet.pts is None or packet.pts < 0:
                        continue  # the end of a stream, and the codec's lead-in, which may stand at the start only
                    later = round(number * seconds / packet.time_base)
                    packet.pts, packet.dts = packet.pts + later, packet.dts + later
                    packet.stream = streams[packet.stream.index]
                    target.mux(packet)


def memory_mb(session: int) -> float:
    """Add up the proportional set sizes of a session's processes."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                rollup = (folder / "smaps_rollup").read_text()
                total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total / 1024


def peak_mb(corpus: Path, out: Path, encoders: str) -> tuple[float, float]:
    """Run the command; give the peak in MB and the seconds that it took."""
    command = [sys.executable, "-m", "va.cli", "extract", str(corpus), "--out", str(out), "--encoders", encoders]
    started, peak = time.monotonic(), 0.0
    process = subprocess.Popen(
        [*command, "--device", "cpu", "--quiet"], start_new_session=True, stdout=subprocess.DEVNULL
    )
    while process.poll() is None:
        peak = max(peak, memory_mb(process.pid))
        time.sleep(0.25)
    if process.returncode:
        raise SystemExit("va extract failed")
    return peak, time.monotonic() - started


def main() -> None:
    """Measure both and print the difference."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=int, default=60)
    parser.add_argument("--encoders", default="tiny-clip,tiny-ast,logmel,pixels,loudness")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw(root / "1.mp4", 60, width=320, height=320)
        repeat(root / "1.mp4", root / "long.mp4", times=given.minutes, seconds=60)
        figures = {}
        for name, medium, minutes in (("short", "1.mp4", 1), ("long", "long.mp4", given.minutes)):
            (root / name).mkdir()
            corpus = save_corpus(root / name, [root / medium], 60.0 * minutes)
            figures[name] = peak_mb(corpus, root / f"features-{name}", given.encoders)
            peak, seconds = figures[name]
            print(f"{minutes:>4} min of video: peak {peak:7.0f} MB, {seconds:6.0f} s", flush=True)
    difference = figures["long"][0] - figures["short"][0]
    print(f"difference (bar: 100 MB): {difference:.0f} MB")
    answer = {"benchmark": "memory", "minutes": given.minutes, "encoders": given.encoders}
    peaks = {f"{name}_mb": peak for name, (peak, _) in figures.items()}
    print(json.dumps(answer | peaks | {"difference_mb": difference}))


if __name__ == "__main__":
    main()
