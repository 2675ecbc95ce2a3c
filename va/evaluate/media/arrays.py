"""Pictures and sound in memory -> features, by the same encoders in batches of the same size as from a file.

For media that the user has decoded; a file is better given to `video_features.py`, which decodes it apart and in
bounded memory.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from va.data import timeline
from va.data.features import ClipFeatures
from va.evaluate.media import cells
from va.evaluate.media.cells import Features
from va.evaluate.media.predictors import BOX, LOUDNESS, AnyPredictor
from va.extract import detect, faces, spectrum
from va.extract.batches import Batch
from va.extract.config import ExtractConfig
from va.extract.decode import SAMPLE_RATE_HZ
from va.extract.encoders import Encoder
from va.extract.pictures import Picture

_LOUDEST: Final = 1e6  # as `decode.waveform_blocks` has it
_STILL_S: Final = 0.04  # how long a single frame is shown, as `media.probe` has it


@torch.inference_mode()
def features_of(
    predictor: AnyPredictor,
    *,
    frames: NDArray[np.uint8],
    frame_time_s: NDArray[np.float64],
    waveform: NDArray[np.float32] | None,
    duration_s: float | None,
) -> Features:
    """Encode media in memory.

    Args:
        predictor: Says with what.
        frames: uint8 [F, H, W, 3] RGB, upright, F at least 1.
        frame_time_s: [F], when each appears, in seconds from the start, ascending.
        waveform: float32 [samples], 16 kHz mono, full scale being [-1, 1], from the start; None for no sound.
        duration_s: Length in seconds; None for the end of the last frame.

    Raises:
        ValueError: An array has another shape or dtype, or values that cannot be.
        VAError: Weights are missing, or others than the run's.
    """
    times = np.asarray(frame_time_s, np.float64)
    _check(frames, times, waveform)
    if duration_s is None:
        duration_s = float(times[-1] + (np.median(np.diff(times)) if len(times) > 1 else _STILL_S))
    if not 0 < duration_s < np.inf:
        raise ValueError(f"a video cannot last {duration_s} s")
    config = predictor.config
    starts_s = timeline.window_starts(duration_s, window_s=config.window_s, stride_s=config.stride_s)
    found = {}
    for encoder in predictor.loaded:
        of_frames = encoder.kind == "frames"
        time_s = timeline.cell_centers(timeline.num_cells(duration_s)) if of_frames else starts_s
        steps = () if of_frames else (timeline.cells_in(config.window_s, name="window"),)
        found[encoder.name] = _Rows(encoder, config, predictor.device, time_s, steps)
    for cell, picture in enumerate(_pictures(frames, times, duration_s, config)):
        for rows in found.values():
            if picture is not None and rows.encoder.kind == "frames":
                seen = picture.box if rows.encoder.sees == "box" else picture.rgb
                if seen is not None:
                    rows.batch.add(None, cell, rows.encoder.transform(seen), 0)
    sound = np.zeros(0, np.float32) if waveform is None else waveform[: round(duration_s * SAMPLE_RATE_HZ)]
    for rows in found.values():
        if rows.encoder.kind == "audio":
            rows.hear(sound, starts_s, config.window_s)
    done = {name: rows.features() for name, rows in found.items()}
    face, loudness = done[predictor.loaded[0].name], done[LOUDNESS]
    box = done.get(BOX)
    return Features(
        face=face,
        voice=done[predictor.loaded[1].name] if predictor.hears else None,
        has_sound=cells.cells_with_sound(
            loudness, count=len(face.values), window_s=config.window_s, stride_s=config.stride_s
        ),
        silent=cells.is_silent(loudness),
        boxes=None if box is None else cells.boxes_of(box),
        duration_s=duration_s,
    )


@dataclass(eq=False)
class _Rows:
    """One encoder at work on one clip."""

    encoder: Encoder
    config: ExtractConfig
    device: torch.device
    time_s: NDArray[np.float64]
    steps: tuple[int, ...]
    batch: Batch[None] = field(init=False)

    def __post_init__(self) -> None:
        """Make room."""
        size = self.config.frame_batch if self.encoder.kind == "frames" else self.config.audio_batch
        self.batch = Batch(self.encoder, size=size, device=self.device, deliver=self._deliver)
        self._valid = np.zeros((len(self.time_s), *self.steps), np.bool_)
        self._values = np.zeros((*self._valid.shape, self.encoder.dim), np.float16)

    def hear(self, waveform: NDArray[np.float32], starts_s: NDArray[np.float64], window_s: float) -> None:
        """Encode every window that has any sound."""
        assert self.encoder.spectrum is not None and self.encoder.valid_steps is not None  # true for audio
        rows = spectrum.row_blocks(iter([waveform]), self.encoder.spectrum)
        for index, heard in enumerate(spectrum.windows(rows, starts_s=starts_s, window_s=window_s)):
            if len(heard) and self.encoder.valid_steps(len(heard)).any():
                self.batch.add(None, index, self.encoder.transform(heard), len(heard))

    def features(self) -> ClipFeatures:
        """Encode what is left and give everything."""
        self.batch.flush()
        return ClipFeatures(values=self._values, time_s=self.time_s, valid=self._valid)

    def _deliver(self, _: None, name: str, rows: list[int], counts: list[int], values: NDArray[np.float16]) -> None:
        valid_steps = self.encoder.valid_steps
        self._valid[rows] = True if valid_steps is None else np.stack([valid_steps(count) for count in counts])
        self._values[rows] = np.where(self._valid[rows][..., None], values, np.float16(0))


def _pictures(
    frames: NDArray[np.uint8], times: NDArray[np.float64], duration_s: float, config: ExtractConfig
) -> Iterator[Picture | None]:
    centers = timeline.cell_centers(timeline.num_cells(duration_s))
    shown = (frames[index] if index >= 0 else None for index in timeline.frame_at(times, centers).tolist())
    if config.faces != "detect":
        yield from (None if rgb is None else Picture(np.ascontiguousarray(rgb), None) for rgb in shown)
        return
    for crop in faces.follow(
        shown,
        detector=detect.load_detector(config.face_weights),
        side="largest",
        margin=config.face_margin,
        smoothing_s=faces.SMOOTHING_S,
        hold_s=faces.HOLD_S,
    ):
        yield None if crop is None else Picture(crop.rgb, crop.row)


def _check(frames: NDArray[Any], times: NDArray[np.float64], waveform: NDArray[Any] | None) -> None:
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"frames must be uint8 [F, H, W, 3], not {frames.dtype} {frames.shape}")
    if times.shape != frames.shape[:1] or not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ValueError(f"frame_time_s must be {len(frames)} finite, ascending seconds")
    if waveform is None:
        return
    if waveform.dtype != np.float32 or waveform.ndim != 1:
        raise ValueError(f"waveform must be float32 [samples] at 16 kHz, not {waveform.dtype} {waveform.shape}")
    if not (np.abs(waveform) <= _LOUDEST).all():
        raise ValueError("waveform has values that are not finite, or beyond a million times full scale")
