"""Writes a synthetic corpus as real media: H.264 and AAC in mp4, with annotations in the Aff-Wild2 tree.

The only module of the subpackage that needs a video library.
"""

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from numpy.typing import NDArray

from va.data.synthetic.affect import Floats
from va.data.synthetic.clip import (
    FRAME_RATES,
    FRAME_SIZE,
    NO_LABEL,
    SOUND_RATE_HZ,
    TICKS_HZ,
    ClipSpec,
    frame_labels,
    frame_ticks,
    render_frames,
    render_sound,
)
from va.data.synthetic.style import Style
from va.errors import VAError

ANNOTATION_FOLDER: Final = "annotations/VA_Estimation_Challenge"
"""Where Aff-Wild2 keeps the labels of this task."""


def plan_corpus(*, clips: int, seconds: float, seed: int, style: Style = "cartoon") -> list[ClipSpec]:
    """List the clips of a corpus: about two per identity, frame rates in turn.

    Args:
        clips: How many, 2 or more.
        seconds: Length of each, 1 or more.
        seed: 0 or more.
        style: How they look and sound.

    Returns:
        The clips in order of their index.

    Raises:
        VAError: A number is out of range.
    """
    if clips < 2 or not 1 <= seconds < 86400 or seed < 0:
        raise VAError(
            f"cannot make {clips} clips of {seconds} s with seed {seed}",
            "Give at least 2 clips (one to train on, one to validate on), 1 s or more, and a seed of 0 or more.",
        )
    identities = max(2, (clips + 1) // 2)
    return [
        ClipSpec(
            seed=seed,
            index=index,
            identity=index % identities,
            seconds=float(seconds),
            rate=FRAME_RATES[(index + index // identities) % len(FRAME_RATES)],
            style=style,
        )
        for index in range(clips)
    ]


def clip_name(spec: ClipSpec) -> str:
    """Name a clip as its files are named, without suffix.

    Args:
        spec: The clip.

    Returns:
        Such as `synth_0007`.
    """
    return f"synth_{spec.index:04d}"


def is_validation(spec: ClipSpec, *, identities: int) -> bool:
    """Say whether an identity, with all its clips, belongs to the validation set: every third does.

    Args:
        spec: A clip of the identity.
        identities: How many identities the corpus has.

    Returns:
        True for Validation_Set, False for Train_Set.
    """
    return spec.identity % 3 == 2 or (identities == 2 and spec.identity == 1)


def _write_text(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, encoding="ascii", newline="\n")
    temporary.replace(path)


def _annotation(labels: Floats) -> str:
    lines = ["-5,-5" if pair[0] == NO_LABEL else f"{pair[0]:.3f},{pair[1]:.3f}" for pair in labels.tolist()]
    return "\n".join(["valence,arousal", *lines]) + "\n"


def _encode_sound(container: av.container.OutputContainer, stream: av.AudioStream, wave: NDArray[np.float32]) -> None:
    for start in range(0, len(wave), 1024):
        frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1024], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = SOUND_RATE_HZ, start
        frame.time_base = Fraction(1, SOUND_RATE_HZ)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_media(spec: ClipSpec, path: Path) -> None:
    """Render a clip and encode it: H.264 at 128 x 128, AAC at 44.1 kHz mono.

    Args:
        spec: The clip.
        path: The mp4 file; written under a temporary name beside it, then moved there.
    """
    temporary = path.with_name(f".{path.stem}.part.mp4")
    with av.open(str(temporary), "w", format="mp4", options={"video_track_timescale": str(TICKS_HZ)}) as container:
        # One thread and no B-frames: reproducible bytes, presentation times that start at 0.
        options = {"preset": "ultrafast", "crf": "22", "bf": "0", "threads": "1"}
        video = container.add_stream("libx264", rate=spec.rate or 27, options=options)
        video.width = video.height = FRAME_SIZE
        video.pix_fmt = "yuv420p"
        video.thread_count = 1
        video.time_base = video.codec_context.time_base = Fraction(1, TICKS_HZ)
        sound = container.add_stream("aac", rate=SOUND_RATE_HZ, layout="mono")
        sound.bit_rate = 96000
        for image, ticks in zip(render_frames(spec), frame_ticks(spec).tolist(), strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = ticks, Fraction(1, TICKS_HZ)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        _encode_sound(container, sound, render_sound(spec, rate_hz=SOUND_RATE_HZ))
    temporary.replace(path)


def _write_clip(spec: ClipSpec, root: Path, split: str) -> None:
    write_media(spec, root / f"batch{1 + spec.index % 2}" / f"{clip_name(spec)}.mp4")
    _write_text(root / ANNOTATION_FOLDER / split / f"{clip_name(spec)}.txt", _annotation(frame_labels(spec)))


def write_tree(
    root: Path,
    *,
    clips: int,
    seconds: float,
    seed: int,
    workers: int,
    progress: Callable[[int, int], None],
    style: Style = "cartoon",
) -> None:
    """Write a synthetic corpus in the Aff-Wild2 tree; the same seed gives the same corpus.

    Two thirds of the identities are in Train_Set, the others in Validation_Set. `identities.csv` says
    who is in which clip. Files that are there already are replaced.

    Args:
        root: Folder of the tree, made when missing.
        clips: How many clips, 2 or more.
        seconds: Length of each, 1 or more.
        seed: 0 or more.
        workers: Processes, 1 or more; 1 works in this process.
        progress: Called with (clips done, clips in all), first with 0.
        style: How the clips look and sound; the same truth and the same clocks in every style.

    Raises:
        VAError: A number is out of range.
    """
    specs = plan_corpus(clips=clips, seconds=seconds, seed=seed, style=style)
    if workers < 1:
        raise VAError(f"cannot work with {workers} processes", "Give 1 or more workers.")
    identities = len({spec.identity for spec in specs})
    for folder in ("batch1", "batch2", f"{ANNOTATION_FOLDER}/Train_Set", f"{ANNOTATION_FOLDER}/Validation_Set"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    split = {True: "Validation_Set", False: "Train_Set"}
    jobs = [(spec, root, split[is_validation(spec, identities=identities)]) for spec in specs]
    progress(0, clips)
    if workers == 1:
        for done, job in enumerate(jobs, start=1):
            _write_clip(*job)
            progress(done, clips)
    else:
        # Forking a process that has loaded torch or opened a codec is not safe; a fresh one is.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, clips), mp_context=context) as pool:
            try:
                futures = [pool.submit(_write_clip, *job) for job in jobs]
                for done, future in enumerate(as_completed(futures), start=1):
                    future.result()
                    progress(done, clips)
            finally:
                pool.shutdown(cancel_futures=True)  # else whoever stops it waits for all that has not begun
    rows = [f"{clip_name(spec)},person_{spec.identity:04d}" for spec in specs]
    _write_text(root / "identities.csv", "\n".join(["name,identity", *rows]) + "\n")
