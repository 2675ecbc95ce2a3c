"""How long after its last packet a step of `va predict --stream` is answered: a table, then one JSON line.

    python benchmarks/stream.py --encoders tiny
    python benchmarks/stream.py --encoders full --seconds 60

A video is played by its own clock, as a camera's would be. Latency counts from the reading of the last packet that a
step needs to the finished line. `full` encoders are CLIP ViT-B/16 and AST of the published shapes with random weights,
under a head of the paper's width with random weights: times, not values. Steps that are late are dropped; then the
distance of steps is doubled until fewer than one in twenty is, and 95% are answered before the next is due: the machine
keeps up with that.
Decoding, with faces if asked for, is timed alone as well: it shares the cores with the encoders.
"""

import argparse
import dataclasses
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from extract import random_weights
from material import draw

from va import cores

LONGEST_STEP_S = 16.0


class Timed:
    """A function that counts the seconds spent in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.busy_s = 0.0

    def __call__(self, *given: Any) -> Any:
        """Call it."""
        started = time.perf_counter()
        try:
            return self.function(*given)
        finally:
            self.busy_s += time.perf_counter() - started


class Bench:
    """A run of random weights over one pair of encoders, and a video."""

    def __init__(self, root: Path, given: argparse.Namespace) -> None:
        import torch

        from va.device import choose_device
        from va.extract import encoders
        from va.extract.config import ExtractConfig
        from va.train import checkpoint
        from va.train.config import TrainConfig
        from va.train.encoding import Pair

        self.given, self.device = given, choose_device(given.device)
        self.source = root / "video.mp4"
        draw(self.source, given.seconds, width=1280, height=720)
        full = given.encoders == "full"
        self.config = ExtractConfig(
            corpus=root,
            out=root,
            encoders=("clip-vit-b-16", "ast") if full else ("tiny-clip", "tiny-ast"),
            faces=given.faces,
            precision=given.precision,
            device=given.device,
            frame_batch=1,
            audio_batch=1,
            **(random_weights(root) if full else {}),
        )
        self.pair = Pair(*(encoders.build(name, config=self.config, device=self.device) for name in self.config.chosen))
        config = TrainConfig(corpus=root, features=root, out=root, target="end")
        torch.manual_seed(0)
        shape = {"frame_dim": self.pair.face.dim, "audio_dim": self.pair.voice.dim, "audio_cnn": False}
        head = checkpoint.make_head(config, shape, prototypes=torch.randn(9, self.pair.face.dim))
        self.run = checkpoint.Run(directory=root, info={}, config=config, head=head.eval(), members=0)

    def decode(self) -> float:
        """Seconds that reading, decoding, faces and the making of inputs take on their own."""
        from va.data import media
        from va.evaluate.media import stream
        from va.extract import live

        look = stream.looker(self.config, self.pair, side="largest")
        started = time.perf_counter()
        with media.open_media(self.source) as container:
            for _ in live.follow(
                container, name=self.source, step_s=0.5, window_s=10.0, look=look, release=lambda time_s: None
            ):
                pass
        return time.perf_counter() - started

    def play(self, step_s: float) -> dict[str, Any]:
        """Play the video once by its clock, and say what became of its steps."""
        from va.evaluate.media import stream

        face, voice = Timed(self.pair.face.encode), Timed(self.pair.voice.encode)
        spectrum, head = Timed(self.pair.voice.spectrum), Timed(self.run.head.forward)
        self.run.head.forward = head
        pair = self.pair._replace(
            face=dataclasses.replace(self.pair.face, encode=face),
            voice=dataclasses.replace(self.pair.voice, encode=voice, spectrum=spectrum),
        )
        lines = list(
            stream.answers(
                self.run, pair, self.config, source=str(self.source), step_s=step_s, realtime=True, device=self.device
            )
        )
        self.run.head.forward = head.function
        # The first window is not full, and libraries set themselves up in the first steps.
        latencies = [line["latency_s"] for line in lines if line["time_s"] >= 10] or [lines[-1]["latency_s"]]
        dropped = sum(line["dropped"] for line in lines)
        median, high = np.quantile(latencies, [0.5, 0.95])
        return {
            "step_s": step_s,
            "answered": len(lines),
            "dropped": dropped,
            "median_s": float(median),
            "p95_s": float(high),
            "worst_s": max(latencies),
            "busy": {
                name: round(timed.busy_s / self.given.seconds, 4)
                for name, timed in (("pictures", face), ("sound", voice), ("spectrum", spectrum), ("head", head))
            },
        }


def measure(root: Path, given: argparse.Namespace) -> None:
    """Play at ever longer steps until the machine keeps up, and print how it went."""
    bench = Bench(root, given)
    decode_s = bench.decode()
    print(f"{given.encoders} encoders, {given.seconds:g} s of 720p at 25 pictures a second, {bench.device}, "
          f"{os.cpu_count()} cores, faces {given.faces}, {given.precision}")  # fmt: skip
    print(f"decoding alone: {decode_s / given.seconds:.1%} of the video's time")
    print(
        f"{'step':>6} {'answered':>9} {'dropped':>8} {'median':>9} {'95%':>9} {'worst':>9}   share of the time in ..."
    )
    played: list[dict[str, Any]] = []
    step_s = given.step_s
    while step_s <= LONGEST_STEP_S:
        found = bench.play(step_s)
        played.append(found)
        shares = ", ".join(f"{name} {share:.1%}" for name, share in found["busy"].items())
        times = " ".join(f"{found[name] * 1000:>6.0f} ms" for name in ("median_s", "p95_s", "worst_s"))
        print(f"{step_s:>4g} s {found['answered']:>9} {found['dropped']:>8} {times}   {shares}", flush=True)
        if found["dropped"] * 20 < found["answered"] + found["dropped"] and found["p95_s"] <= step_s:
            print(f"keeps up with a step of {step_s:g} s")
            break
        step_s *= 2
    else:
        print(f"keeps up with no step up to {LONGEST_STEP_S:g} s")
    answer = {
        "benchmark": "stream",
        "encoders": given.encoders,
        "device": str(bench.device),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "seconds": given.seconds,
        "faces": given.faces,
        "precision": given.precision,
        "decode_share": decode_s / given.seconds,
        "played": played,
    }
    print(json.dumps(answer))


def main() -> None:
    """Read the options and measure below a temporary folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--encoders", choices=["tiny", "full"], default="tiny")
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--step-s", type=float, default=0.5, help="the first distance of steps that is tried")
    parser.add_argument("--faces", choices=["none", "detect"], default="none")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--device", default="auto")
    given = parser.parse_args()
    cores.share()  # as the command does
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), given)


if __name__ == "__main__":
    main()
