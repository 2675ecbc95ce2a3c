"""Training data of the demo encoders: faces and voices that no corpus can contain.

Everything here is drawn from generators with the spawn key `ENCODER_STREAM`, which `write_tree` never uses;
seed sequences with different spawn keys are different whatever the seed. Identities from `HELD_OUT_FROM` on
are never trained on either: the figures in the model cards come from them.

Without torch on purpose: worker processes import this module only.
"""

import multiprocessing
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from va.data.synthetic import (
    ENCODER_STREAM,
    draw_frame,
    generator,
    sample_affect,
    sample_person,
    sample_scene,
    synthesise_voice,
)
from va.data.synthetic.affect import sample_stretches

HELD_OUT_FROM = 1_000_000
FACES, VOICES = 0, 1
"""Kinds of data: second spawn key."""

IMAGE_SIZE = 64
FRAMES_PER_SCENE = 10
MEL_ROWS, MEL_BINS = 998, 128
VOICE_S, WINDOW_S, CELLS = 20.0, 10.0, 20
RATE_HZ = 16000


@dataclass(frozen=True)
class Examples:
    """Inputs with their truth.

    Args:
        inputs: uint8 [N, 64, 64, 3] RGB pictures, or float16 [N, 998, 128] log-mel windows.
        affect: float32 [N, 2] per picture, or [N, 20, 2] per cell of a window.
        identity: int64 [N].
    """

    inputs: NDArray[Any]
    affect: NDArray[np.float32]
    identity: NDArray[np.int64]


def _shrink(picture: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Compress as a codec would, half of the time, then resize as open_clip's evaluation transform does."""
    if rng.uniform() < 0.5:
        quality = int(rng.integers(45, 96))
        _, packed = cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
        picture = cv2.imdecode(packed, cv2.IMREAD_COLOR)[:, :, ::-1]
    small = Image.fromarray(np.ascontiguousarray(picture)).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return np.asarray(small)


def face_examples(job: tuple[int, int, int]) -> Examples:
    """Draw the pictures of one identity in several scenes; `job` is (seed, identity, number of pictures)."""
    seed, identity, number = job
    rng = generator(stream=ENCODER_STREAM, seed=seed, keys=(FACES, identity))
    person = sample_person(rng)
    pictures, affects = [], []
    while len(pictures) < number:
        scene, track = sample_scene(rng, seconds=60.0, absent_fraction=0.0), sample_affect(rng)
        time_s = rng.uniform(0, 60, min(FRAMES_PER_SCENE, number - len(pictures)))
        values = track(time_s)
        states = scene.states(time_s=time_s, blink_arousal=track(scene.blink_s)[:, 1])
        for (valence, arousal), state in zip(values.tolist(), states, strict=True):
            picture = draw_frame(person, valence=valence, arousal=arousal, state=state, size=128, rng=rng)
            pictures.append(_shrink(picture, rng))
            affects.append((valence, arousal))
    return Examples(np.stack(pictures), np.asarray(affects, np.float32), np.full(number, identity))


_MEL: dict[str, NDArray[Any]] = {}


def log_mel(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the log-mel that transformers' NumPy path of the AST extractor gives, before padding and scaling.

    Args:
        wave: float32 [samples] at 16 kHz.

    Returns:
        float32 [rows, 128], natural logarithm, a row every 10 ms.
    """
    from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

    if not _MEL:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the lowest filters are empty at this resolution, as in AST itself
            _MEL["filters"] = mel_filter_bank(
                num_frequency_bins=257,
                num_mel_filters=MEL_BINS,
                min_frequency=20,
                max_frequency=RATE_HZ // 2,
                sampling_rate=RATE_HZ,
                norm=None,
                mel_scale="kaldi",
                triangularize_in_mel_space=True,
            )
        _MEL["window"] = window_function(400, "hann", periodic=False)
    rows: NDArray[np.float32] = spectrogram(
        wave,
        _MEL["window"],
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=_MEL["filters"],
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    ).T
    return rows


def _codec(wave: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Imitate what resampling and a lossy codec do: a soft upper band limit and a little noise."""
    spectrum = np.fft.rfft(wave)
    frequency = np.linspace(0, RATE_HZ / 2, len(spectrum))
    edge_hz, width_hz = rng.uniform(6900, 8300), rng.uniform(30, 200)
    spectrum *= 1 / (1 + np.exp(np.clip((frequency - edge_hz) / width_hz, -40, 40)))
    limited = np.fft.irfft(spectrum, n=len(wave)).astype(np.float32)
    level = float(limited.std()) * 10 ** (rng.uniform(-75, -45) / 20)
    return limited + np.float32(level) * rng.standard_normal(len(wave), dtype=np.float32)


def voice_examples(job: tuple[int, int, int]) -> Examples:
    """Make the sound windows of one identity; `job` is (seed, identity, number of 10 s windows)."""
    seed, identity, number = job
    rng = generator(stream=ENCODER_STREAM, seed=seed, keys=(VOICES, identity))
    person = sample_person(rng)
    windows: list[NDArray[Any]] = []
    affects: list[NDArray[Any]] = []
    grid_s = np.arange(int(VOICE_S * 25) + 2) / 25
    centre_s = 0.25 + 0.5 * np.arange(int(VOICE_S * 2))
    while len(windows) < number:
        track = sample_affect(rng)
        silences = sample_stretches(rng, seconds=VOICE_S, fraction=0.065, shortest_s=0.8, longest_s=2.5)
        wave = synthesise_voice(
            person,
            affect=track(grid_s),
            affect_rate_hz=25.0,
            silences=silences,
            seconds=VOICE_S,
            rate_hz=RATE_HZ,
            rng=rng,
        )
        rows = log_mel(_codec(wave, rng)).astype(np.float16)
        cells = track(centre_s).astype(np.float32)
        for k in range(int(VOICE_S / WINDOW_S)):
            windows.append(rows[1000 * k : 1000 * k + MEL_ROWS])
            affects.append(cells[CELLS * k : CELLS * (k + 1)])
    return Examples(np.stack(windows[:number]), np.stack(affects[:number]), np.full(number, identity))


def _limit_threads() -> None:
    cv2.setNumThreads(0)


def render(
    make: Callable[[tuple[int, int, int]], Examples],
    *,
    seed: int,
    identities: range,
    number: int,
    workers: int,
    label: str,
) -> Examples:
    """Render examples of many identities in parallel; the result does not depend on the number of workers.

    Args:
        make: `face_examples` or `voice_examples`.
        seed: Seed of the drawing.
        identities: Which identities.
        number: Examples in all, spread evenly.
        workers: Processes.
        label: Word for the progress lines.

    Returns:
        All examples in order of identity.
    """
    started = time.monotonic()
    counts = [number * (k + 1) // len(identities) - number * k // len(identities) for k in range(len(identities))]
    jobs = [(seed, i, c) for i, c in zip(identities, counts, strict=True) if c]
    parts: list[Examples] = []
    for part in _map(make, jobs, workers):
        parts.append(part)
        if len(parts) % max(1, len(jobs) // 8) == 0 or len(parts) == len(jobs):
            print(f"[{label}] identity {len(parts)}/{len(jobs)}  {time.monotonic() - started:.0f} s", flush=True)
    return Examples(
        np.concatenate([part.inputs for part in parts]),
        np.concatenate([part.affect for part in parts]),
        np.concatenate([part.identity for part in parts]),
    )


def _map(
    make: Callable[[tuple[int, int, int]], Examples], jobs: list[tuple[int, int, int]], workers: int
) -> Iterator[Examples]:
    if workers == 1:
        yield from map(make, jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_limit_threads) as pool:
        yield from pool.map(make, jobs, chunksize=max(1, min(16, len(jobs) // (4 * workers))))
