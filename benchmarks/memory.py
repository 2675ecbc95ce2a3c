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
import numpy as np

SIDE, RATE, SOUND_HZ = 320, 25, 44_100


def draw(path: Path, seconds: int) -> None:
    """Write a video with a moving gradient and noise for sound."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, SIDE).astype(np.uint8)
    picture = np.repeat((ramp[:, None] // 2 + ramp[None] // 2)[:, :, None], 3, axis=2)
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = SIDE, SIDE, "yuv420p"
        sound: Any = container.add_stream("aac", rate=SOUND_HZ, layout="mono")
        for index in range(seconds * RATE):
            shown = np.ascontiguousarray(np.roll(picture, 3 * index, axis=1))
            container.mux(video.encode(av.VideoFrame.from_ndarray(shown)))
            samples = rng.normal(0, 0.1, (1, SOUND_HZ // RATE)).astype(np.float32)
            block = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            block.sample_rate, block.pts = SOUND_HZ, index * (SOUND_HZ // RATE)
            container.mux(sound.encode(block))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))


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


def make_corpus(root: Path, medium: Path, seconds: float) -> Path:
    """Write a manifest of one clip."""
    from va.data import corpus
    from va.data.corpus import Clip, Truth

    clip = Clip(id="clip", media=medium, split="train", identity="one", num_frames=1, duration_s=seconds)
    truth = Truth(time_s=np.zeros(1), va=np.zeros((1, 2), np.float32), valid=np.ones(1, np.bool_))
    return corpus.save(root, name="benchmark", synthetic=True, media_root=medium.parent, entries=[(clip, truth)]).path


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
    process = subprocess.Popen([*command, "--device", "cpu", "--quiet"], start_new_session=True)
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
        draw(root / "1.mp4", 60)
        repeat(root / "1.mp4", root / "long.mp4", times=given.minutes, seconds=60)
        figures = {}
        for name, medium, minutes in (("short", "1.mp4", 1), ("long", "long.mp4", given.minutes)):
            (root / name).mkdir()
            corpus = make_corpus(root / name, root / medium, 60.0 * minutes)
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
