"""`va extract` beside the floor under it and the naive way, in one run: a table, then one JSON line.

    python benchmarks/extract.py --encoders tiny --clips 4
    python benchmarks/extract.py --encoders full --clips 1          (about 20 minutes on two cores)

(a) `va extract`: from the first clip to the last commit, on the same corpus.
(b) the encoders alone on the same unique inputs, already in memory, in batches of the same size: the floor.
(c) decoding pictures and sound (and, with --faces detect, finding faces) alone, in the same reader processes.
(d) the naive way: for every window of 10 s its 20 frames decoded and encoded, and its sound, one window after another.

Where stages share the cores, nothing can be quicker than (b) + (c); on a GPU nothing can be quicker than the longer of
the two. `full` encoders are CLIP ViT-B/16 and AST of the published shapes with random weights: times, not values.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from material import RATE_HZ, draw, nothing, save_corpus, silence

from va import cores

WINDOW_S, STRIDE_S, FRAMES_PER_WINDOW = 10.0, 3.0, 20


def make_corpus(root: Path, given: argparse.Namespace) -> Path:
    """Write a corpus whose clips share one medium, so that drawing takes no longer than needed."""
    (root / "media").mkdir()
    media = [root / "media" / f"{index}.mp4" for index in range(given.clips)]
    if given.medium is None:
        draw(media[0], given.seconds, width=1280, height=720)
    else:
        shutil.copy(given.medium, media[0])
    for path in media[1:]:
        os.link(media[0], path)
    return save_corpus(root, media, given.seconds)


def random_weights(root: Path) -> dict[str, Path]:
    """Write weights of the published shapes."""
    import open_clip
    import torch
    from safetensors.torch import save_file
    from transformers import ASTConfig, ASTModel

    torch.manual_seed(0)
    clip = open_clip.CLIP(**open_clip.get_model_config("ViT-B-16-quickgelu"))
    save_file(clip.state_dict(), root / "clip.safetensors")
    ASTModel(ASTConfig()).save_pretrained(root / "ast")
    return {"clip_weights": root / "clip.safetensors", "ast_weights": root / "ast"}


class Bench:
    """The four ways, over one corpus and one pair of encoders."""

    def __init__(self, config: Any) -> None:
        import torch

        from va.data.corpus import Corpus
        from va.device import choose_device
        from va.extract import encoders

        self.config = config
        self.device = choose_device(config.device)
        self.clips = Corpus.load(config.corpus).clips
        self.loaded = [encoders.build(name, config=config, device=self.device) for name in config.chosen]
        self.face, self.voice = self.loaded
        self.torch = torch

    def extract(self, out: Path) -> Any:
        """(a)."""
        import dataclasses

        from va.extract import pipeline

        summary = pipeline.run(dataclasses.replace(self.config, out=out), progress=lambda *_: None)
        if summary.failed:
            raise SystemExit(f"clips failed: {summary.failed}")
        return summary

    def decode(self) -> float:
        """(c): seconds that the readers take when nobody wants what they read."""
        from va.extract.readers import Readers
        from va.extract.reading import Front

        fronts = [
            Front(name="pictures", kind="frames", transform=nothing, spectrum=None),
            Front(name="sound", kind="audio", transform=nothing, spectrum=silence),
        ]
        started = time.perf_counter()
        with Readers(
            self.config,
            fronts=fronts,
            clips=self.clips,
            lacking=lambda clip, source: tuple(front.name for front in fronts),
            stopping=lambda: False,
        ) as readers:
            for _ in readers.events():
                pass
        return time.perf_counter() - started

    def inputs(self) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Give the unique inputs of one clip: pictures, windows, and the rows of each window."""
        from va.data import media, timeline
        from va.extract import decode, spectrum

        path = self.clips[0].media
        duration_s = media.probe(path, beat=lambda: None).duration_s
        frames = decode.frames_at_cells(path, duration_s=duration_s, threads=0, beat=lambda: None)
        pictures = np.stack([self.face.transform(rgb) for rgb in frames if rgb is not None])
        starts_s = timeline.window_starts(duration_s, window_s=WINDOW_S, stride_s=STRIDE_S)
        blocks = decode.waveform_blocks(path, duration_s=duration_s, beat=lambda: None)
        assert self.voice.spectrum is not None
        rows = spectrum.row_blocks(blocks, self.voice.spectrum)
        cut = list(spectrum.windows(rows, starts_s=starts_s, window_s=WINDOW_S))
        return pictures, np.stack([self.voice.transform(window) for window in cut]), [len(window) for window in cut]

    def encode(self, pictures: np.ndarray, windows: np.ndarray, counts: list[int]) -> tuple[float, float]:
        """(b): seconds for the pictures and for the windows of all clips."""
        repeat = len(self.clips)
        started = time.perf_counter()
        for part in self.batches(np.concatenate([pictures] * repeat), self.config.frame_batch):
            self.face.encode(part).half().cpu()
        middle = time.perf_counter()
        rows = iter(self.batches(np.array(counts * repeat), self.config.audio_batch))
        for part in self.batches(np.concatenate([windows] * repeat), self.config.audio_batch):
            self.voice.encode(part, next(rows).cpu()).half().cpu()
        return middle - started, time.perf_counter() - middle

    def batches(self, values: np.ndarray, size: int) -> Iterator[Any]:
        """Cut into batches of one size, the last one padded as (a) pads it."""
        for first in range(0, len(values), size):
            part = values[first : first + size]
            padding = np.ones((size - len(part), *part.shape[1:]), part.dtype)
            yield self.torch.from_numpy(np.concatenate([part, padding])).to(self.device)

    def naive(self) -> tuple[float, int]:
        """(d): seconds, and images encoded."""
        from va.data import media, timeline

        images, started = 0, time.perf_counter()
        for clip in self.clips:
            duration_s = media.probe(clip.media, beat=lambda: None).duration_s
            for start_s in timeline.window_starts(duration_s, window_s=WINDOW_S, stride_s=STRIDE_S):
                end_s = min(start_s + WINDOW_S, duration_s)
                pictures = [self.face.transform(rgb) for rgb in frames_of_window(clip.media, start_s, end_s)]
                images += len(pictures)
                self.face.encode(self.torch.from_numpy(np.stack(pictures)).to(self.device)).half().cpu()
                assert self.voice.spectrum is not None
                rows = self.voice.spectrum(sound_of_window(clip.media, start_s, end_s))[:998]
                window = self.torch.from_numpy(self.voice.transform(rows)[None]).to(self.device)
                self.voice.encode(window, self.torch.tensor([len(rows)])).half().cpu()
        return time.perf_counter() - started, images


def frames_of_window(path: Path, start_s: float, end_s: float) -> list[np.ndarray]:
    """Seek, decode to the window's end, and keep 20 frames at equal distances."""
    import av

    wanted = iter(np.linspace(start_s, end_s - 1 / RATE_HZ, FRAMES_PER_WINDOW))
    found, due = [], next(wanted)
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        container.seek(int(start_s * av.time_base))
        for frame in container.decode(video=0):
            while frame.time + 1e-6 >= due:
                found.append(frame.to_ndarray(format="rgb24"))
                due = next(wanted, float("inf"))
            if due == float("inf"):
                break
    return found


def sound_of_window(path: Path, start_s: float, end_s: float) -> np.ndarray:
    """Seek, decode to the window's end, and resample."""
    import av
    from av.audio.resampler import AudioResampler

    resampler = AudioResampler(format="flt", layout="mono", rate=16_000)
    found = []
    with av.open(str(path)) as container:
        container.seek(int(start_s * av.time_base))
        for frame in container.decode(audio=0):
            if frame.time >= end_s:
                break
            if frame.time >= start_s:
                frame.pts = None
                found += [part.to_ndarray()[0] for part in resampler.resample(frame)]
    return np.concatenate(found).astype(np.float32)


def main() -> None:
    """Time the four ways in turn and print how they compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--encoders", choices=["tiny", "full"], default="tiny")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--medium", type=Path, help="a video of --seconds, e.g. with a face, instead of a drawn one")
    parser.add_argument("--rounds", type=int, default=1, help="of (a), (b) and (c); medians are shown")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--faces", choices=["none", "detect"], default="none")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--readers", type=int, default=0)
    parser.add_argument("--frame-batch", type=int, default=32)
    parser.add_argument("--audio-batch", type=int, default=4)
    parser.add_argument("--no-naive", action="store_true")
    given = parser.parse_args()
    cores.share()  # as `va extract` does
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), given)


def measure(root: Path, given: argparse.Namespace) -> None:
    """Run everything below a temporary folder."""
    import torch

    from va.extract.config import ExtractConfig

    full = given.encoders == "full"
    config = ExtractConfig(
        corpus=make_corpus(root, given),
        out=root / "features",
        encoders=("clip-vit-b-16", "ast") if full else ("tiny-clip", "tiny-ast"),
        faces=given.faces,
        precision=given.precision,
        readers=given.readers,
        frame_batch=given.frame_batch,
        audio_batch=given.audio_batch,
        device=given.device,
        **(random_weights(root) if full else {}),
    )
    bench = Bench(config)
    times: dict[str, list[float]] = {"a": [], "b": [], "c": [], "b_images": [], "b_windows": []}
    with torch.inference_mode():
        ready = bench.inputs()
        for round_ in range(given.rounds):
            summary = bench.extract(root / f"out{round_}")
            times["a"].append(summary.elapsed_s)
            images_s, windows_s = bench.encode(*ready)
            times["b"].append(images_s + windows_s)
            times["b_images"].append(images_s)
            times["b_windows"].append(windows_s)
            times["c"].append(bench.decode())
        naive_s, naive_images = (None, None) if given.no_naive else bench.naive()
    show(given, bench, times, summary, naive_s, naive_images)


def show(given: Any, bench: Bench, times: Any, summary: Any, naive_s: float | None, naive_images: int | None) -> None:
    """Print the table and the JSON line."""
    middle = {name: statistics.median(values) for name, values in times.items()}
    gpu = bench.device.type == "cuda"
    floor = max(middle["b"], middle["c"]) if gpu else middle["b"] + middle["c"]
    print(f"{given.encoders} encoders, {given.clips} clips of {given.seconds:g} s at 720p, {bench.device}, "
          f"{os.cpu_count()} cores, faces {given.faces}, medians of {given.rounds}")  # fmt: skip
    for name, label in (("a", "va extract"), ("b", "encoders alone"), ("c", "decoding alone")):
        print(f"({name}) {label:<32} {middle[name]:9.1f} s")
    answer: dict[str, Any] = {
        "benchmark": "extract",
        "encoders": given.encoders,
        "device": str(bench.device),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "clips": given.clips,
        "seconds": given.seconds,
        "faces": given.faces,
        "precision": given.precision,
        "rounds": given.rounds,
        "times_s": middle,
        "to_floor": middle["a"] / floor,
        "images": summary.frames,
        "windows": summary.windows,
        "stages": {stage.name: round(stage.share, 4) for stage in summary.stages},
    }
    print(f"{'(a) / max(b, c)' if gpu else '(a) / (b + c)':<36} {answer['to_floor']:9.3f}")
    encode = sum(stage.busy_s for stage in summary.stages if stage.name.startswith("encode"))
    answer["encode_share"] = encode / summary.elapsed_s
    print(f"{'encoders busy in (a)':<36} {answer['encode_share']:9.1%}")
    print(
        f"{'images/s in (a), alone':<36} {summary.frames / middle['a']:9.1f} {summary.frames / middle['b_images']:9.1f}"
    )
    print(f"{'windows/s in (a), alone':<36} {summary.windows / middle['a']:9.2f} "
          f"{summary.windows / middle['b_windows']:9.2f}")  # fmt: skip
    for stage in summary.stages:
        print(f"    {stage.name:<32} {stage.busy_s:9.1f} s {stage.share:6.1%} of {stage.processes}")
    if naive_s is not None and naive_images is not None:
        answer |= {"naive_s": naive_s, "naive_images": naive_images, "naive_to_a": naive_s / middle["a"]}
        print(f"(d) {'naive, window by window':<32} {naive_s:9.1f} s")
        print(f"{'(d) / (a)':<36} {answer['naive_to_a']:9.2f}")
        print(f"{'images in (a) / images in (d)':<36} {summary.frames / naive_images:9.3f}")
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
