"""Damages small media in a thousand ways and extracts them: a table of what became of each, then one JSON line.

    python benchmarks/fuzz_media.py            (1,000 files; about a minute on two cores)

Each file is a copy of a good one (several containers and codecs) with one to thirty bytes flipped, anywhere or in its
head, cut off, with two blocks swapped, a block doubled, zeroed, or of noise. All are one corpus for a real `va extract`
with the trivial encoders, so that decoders and reader processes are all that works. Nothing may end that command, and
every file must be answered for: features, or a line that says what is wrong. Linux only.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from material import save_corpus
from memory import memory_mb

Bytes = bytearray
SECONDS: Final = 2.0
KINDS: Final = {
    "h264-aac.mp4": ("libx264", "aac", {}),
    "h264-aac-faststart.mp4": ("libx264", "aac", {"movflags": "faststart"}),
    "h264-aac-fragments.mp4": ("libx264", "aac", {"movflags": "frag_keyframe+empty_moov", "frag_duration": "500000"}),
    "mpeg4-mp3.avi": ("mpeg4", "mp3", {}),
    "mjpeg-pcm.avi": ("mjpeg", "pcm_s16le", {}),
    "h264-flac.mkv": ("libx264", "flac", {}),
    "ffv1-pcm.mkv": ("ffv1", "pcm_f32le", {}),
    "vp9-opus.webm": ("libvpx-vp9", "libopus", {}),
    "vp8-opus.webm": ("libvpx", "libopus", {}),
    "mpeg2-mp2.ts": ("mpeg2video", "mp2", {}),
}
"""Name -> codecs of pictures and sound, and options of the container's writer."""

OUTCOMES: Final = (
    "features",
    "refused, with a message",
    "reader process died",
    "reader process hung, ended by its alarm",
    "a defect of va",
    "not answered for",
)
"""What can become of a file; the last two must not happen."""
HEADINGS: Final = ("features", "message", "died", "hung", "defect", "no answer")


def make(path: Path, video_codec: str, audio_codec: str, options: dict[str, str]) -> None:
    """Write two seconds of a moving, noisy picture and of noise; the suffix chooses the container."""
    rng = np.random.default_rng(0)
    rate = 48_000 if audio_codec in ("libopus", "mp2") else 44_100
    with av.open(str(path), "w", options=options) as container:
        video: Any = container.add_stream(video_codec, rate=25)
        video.width = video.height = 64
        video.pix_fmt = "yuvj420p" if video_codec == "mjpeg" else "yuv420p"
        audio: Any = container.add_stream(audio_codec, rate=rate, layout="mono")
        for index in range(round(SECONDS * 25)):
            picture = np.roll(np.arange(64 * 64 * 3).reshape(64, 64, 3) // 48, index, axis=1) + rng.integers(0, 9)
            container.mux(video.encode(av.VideoFrame.from_ndarray((picture % 256).astype(np.uint8), format="rgb24")))
        container.mux(video.encode(None))
        resampler = av.AudioResampler(format=audio.codec_context.format, layout="mono", rate=rate)
        size = 1024 if not audio.codec_context.frame_size else audio.codec_context.frame_size
        for index in range(round(SECONDS * rate) // size):
            block = av.AudioFrame.from_ndarray(rng.normal(0, 0.1, (1, size)).astype(np.float32), "fltp", "mono")
            block.sample_rate, block.pts = rate, index * size
            for sound in resampler.resample(block):
                container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


def flipped(content: Bytes, rng: np.random.Generator, *, within: int) -> Bytes:
    """Change 1 to 30 bytes among the first `within`."""
    for place in rng.integers(0, min(within, len(content)), int(rng.integers(1, 31))):
        content[place] ^= int(rng.integers(1, 256))
    return content


def block_of(content: Bytes, rng: np.random.Generator) -> slice:
    """Choose a block of up to an eighth of the file."""
    start = int(rng.integers(0, len(content) - 1))
    return slice(start, min(len(content), start + int(rng.integers(1, max(2, len(content) // 8)))))


def swapped(content: Bytes, rng: np.random.Generator) -> Bytes:
    """Exchange two blocks of one size."""
    size = int(rng.integers(1, max(2, len(content) // 8)))
    first, second = sorted(int(start) for start in rng.integers(0, len(content) - 2 * size, 2))
    second += size
    one, other = content[first : first + size], content[second : second + size]
    content[first : first + size], content[second : second + size] = other, one
    return content


def replaced(content: Bytes, rng: np.random.Generator, make_bytes: Callable[[int], bytes]) -> Bytes:
    """Put other bytes, as many, in the place of a block."""
    block = block_of(content, rng)
    content[block] = make_bytes(block.stop - block.start)
    return content


def doubled(content: Bytes, rng: np.random.Generator) -> Bytes:
    """Repeat a block."""
    block = block_of(content, rng)
    content[block.stop : block.stop] = content[block]
    return content


MUTATIONS: Final[dict[str, Callable[[Bytes, np.random.Generator], Bytes]]] = {
    "bytes flipped anywhere": lambda content, rng: flipped(content, rng, within=len(content)),
    "bytes flipped in the first 1,000": lambda content, rng: flipped(content, rng, within=1000),
    "cut off": lambda content, rng: content[: int(rng.integers(0, len(content)))],
    "blocks swapped": swapped,
    "block doubled": doubled,
    "block zeroed": lambda content, rng: replaced(content, rng, bytes),
    "block of noise": lambda content, rng: replaced(content, rng, rng.bytes),
}


def outcome(message: str | None, *, written: bool) -> str:
    """Sort a clip's record into `OUTCOMES`."""
    if message is None:
        return OUTCOMES[0 if written else 5]
    if "a defect of va" in message:
        return OUTCOMES[4]
    if "made no progress" in message:
        return OUTCOMES[3]
    if any(
        part in message for part in ("decoder crashed", "was killed", "reader process ended", "reader process sent")
    ):
        return OUTCOMES[2]
    return OUTCOMES[1]


def extract(corpus: Path, out: Path, *, stall_s: float, readers: int, limit_s: float) -> tuple[int, float, float, str]:
    """Run the command; give its exit code, the seconds it took, its peak memory in MB, and its standard error."""
    command = [sys.executable, "-m", "va.cli", "extract", str(corpus), "--out", str(out), "--quiet"]
    command += ["--encoders", "pixels,loudness", "--device", "cpu", "--stall-s", str(stall_s)]
    started, peak = time.monotonic(), 0.0
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(
            [*command, "--readers", str(readers), "--memory-gb", "1"],
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=told,
        )
        while process.poll() is None and time.monotonic() - started < limit_s:
            peak = max(peak, memory_mb(process.pid))
            time.sleep(0.5)
        if process.poll() is None:
            process.kill()
        process.wait()
        told.seek(0)
        return process.returncode, time.monotonic() - started, peak, told.read()


def main() -> None:
    """Damage, extract, sort."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stall-s", type=float, default=5.0)
    parser.add_argument("--readers", type=int, default=2)
    parser.add_argument("--limit-s", type=float, default=3600.0, help="end everything after that many seconds")
    parser.add_argument("--keep", type=Path, help="folder for files whose reader died or hung, or that met a defect")
    given = parser.parse_args()
    rng = np.random.default_rng(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for part in ("good", "bad"):
            (root / part).mkdir()
        for name, (video_codec, audio_codec, options) in KINDS.items():
            make(root / "good" / name, video_codec, audio_codec, options)
        about: dict[str, tuple[str, str]] = {}
        for number in range(given.files):
            kind, mutation = list(KINDS)[number % len(KINDS)], list(MUTATIONS)[number // len(KINDS) % len(MUTATIONS)]
            content = MUTATIONS[mutation](bytearray((root / "good" / kind).read_bytes()), rng)
            about[f"{number:05}"] = (kind, mutation)
            (root / "bad" / f"{number:05}{Path(kind).suffix}").write_bytes(bytes(content))
        media = sorted((root / "bad").iterdir())
        for name in KINDS:  # the good ones too: that they give features shows that the others could have
            (root / "bad" / f"good-{name}").write_bytes((root / "good" / name).read_bytes())
            about[Path(f"good-{name}").stem] = (name, "none")
        media = sorted((root / "bad").iterdir())
        corpus = save_corpus(root / "bad", media, SECONDS)
        code, seconds, peak, told = extract(
            corpus, root / "features", stall_s=given.stall_s, readers=given.readers, limit_s=given.limit_s
        )
        results = sort(root / "features", media, keep=given.keep)
    report(about, results, code=code, seconds=seconds, peak_mb=peak, told=told, given=given)


def sort(features: Path, media: list[Path], *, keep: Path | None) -> dict[str, str]:
    """Look at what the command left: clip -> outcome."""
    from va.data.features import open_stores

    records = [json.loads(file.read_text(encoding="utf-8")) for file in (features / "failures").glob("*.json")]
    failed = {record["clip"]: str(record["error"]) for record in records}
    stores = open_stores(features)
    problems = [problem for store in stores for problem in store.problems()]
    assert not problems, problems
    written = set(stores[0].clip_ids()) & set(stores[1].clip_ids())
    results = {path.stem: outcome(failed.get(path.stem), written=path.stem in written) for path in media}
    for path in media:
        if keep is not None and results[path.stem] in OUTCOMES[2:]:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / path.name).write_bytes(path.read_bytes())
            (keep / f"{path.name}.txt").write_text(failed.get(path.stem, "not answered for"), encoding="utf-8")
    return results


def report(
    about: dict[str, tuple[str, str]],
    results: dict[str, str],
    *,
    code: int,
    seconds: float,
    peak_mb: float,
    told: str,
    given: argparse.Namespace,
) -> None:
    """Print the tables and the JSON line."""
    damaged = {clip: found for clip, found in results.items() if about[clip][1] != "none"}
    versions = f"Python {platform.python_version()}, PyAV {av.__version__}"
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores ({platform.machine()}), {versions}")
    for title, column in (("container and codecs", 0), ("damage", 1)):
        print(f"\n{title:<34}" + "".join(f"{name:>11}" for name in HEADINGS))
        for name in dict.fromkeys(which[column] for clip, which in about.items() if clip in damaged):
            counts = Counter(found for clip, found in damaged.items() if about[clip][column] == name)
            print(f"{name:<34}" + "".join(f"{counts[found]:>11}" for found in OUTCOMES))
    counts = Counter(damaged.values())
    print(f"{'all':<34}" + "".join(f"{counts[found]:>11}" for found in OUTCOMES))
    good = sum(found == OUTCOMES[0] for clip, found in results.items() if clip not in damaged)
    crashed = int(code not in (0, 1) or "Traceback" in told)
    print(f"\nundamaged files that gave features: {good} of {len(KINDS)}")
    print(f"main process: exit code {code}; crashed or stuck: {crashed}; {seconds:.0f} s; peak of all {peak_mb:.0f} MB")
    answer = {"benchmark": "fuzz_media", "files": given.files, "seed": given.seed, "stall_s": given.stall_s}
    answer |= {"outcomes": {found: counts[found] for found in OUTCOMES}, "main_process_crashed": crashed}
    print(json.dumps(answer | {"seconds": seconds, "peak_mb": peak_mb}))
    if crashed or counts[OUTCOMES[4]] or counts[OUTCOMES[5]] or good != len(KINDS):
        print(told[-3000:], file=sys.stderr)
        raise SystemExit(1)


if __name__ == "__main__":
    main()
