"""Media and corpora that the benchmarks share."""

from pathlib import Path
from typing import Any

import av
import numpy as np

RATE_HZ = 25
SOUND_HZ = 44_100


def draw(path: Path, seconds: float, *, width: int, height: int) -> None:
    """Write a moving, textured video with noise for sound, H.264 and AAC; nobody is on it."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (height // 20 + 1, width // 20 + 1, 3)).astype(np.float32)
    texture = np.kron(coarse, np.ones((20, 20, 1)))[:height, :width] * 0.8 + rng.normal(0, 8, (height, width, 3))
    picture = np.clip(texture, 0, 255).astype(np.uint8)
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=RATE_HZ, options={"preset": "veryfast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio: Any = container.add_stream("aac", rate=SOUND_HZ, layout="mono")
        for index in range(round(seconds * RATE_HZ)):
            shown = np.roll(picture, (2 * index, 5 * index), axis=(0, 1))
            container.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(shown))))
            samples = rng.normal(0, 0.1, (1, SOUND_HZ // RATE_HZ)).astype(np.float32)
            block = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            block.sample_rate, block.pts = SOUND_HZ, index * (SOUND_HZ // RATE_HZ)
            container.mux(audio.encode(block))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))


def save_corpus(root: Path, media: list[Path], seconds: float) -> Path:
    """Write a manifest of media in one folder, all of one length, without labels to speak of."""
    from va.data import corpus
    from va.data.corpus import Clip, Truth

    truth = Truth(time_s=np.zeros(1), va=np.zeros((1, 2), np.float32), valid=np.ones(1, np.bool_))
    clips = [
        Clip(id=path.stem, media=path, split="train", identity=path.stem, num_frames=1, duration_s=seconds)
        for path in media
    ]
    entries = [(clip, truth) for clip in clips]
    return corpus.save(root, name="benchmark", synthetic=True, media_root=media[0].parent, entries=entries).path


# Not in the benchmark that uses them: reader processes import what they run, and cannot import a script.


def nothing(raw: Any) -> Any:
    """Stand for a transform where only decoding is timed."""
    return np.zeros(1, np.uint8)


def silence(waveform: Any) -> Any:
    """Stand for a spectrum where only decoding is timed."""
    from va.extract.spectrum import count_rows

    return np.zeros((count_rows(len(waveform)), 1), np.float32)
