"""A trained run in a few lines of Python: `va.load(run)` gives a `Predictor`; `docs/python.md` shows how to use it.

Answers are those of the commands: `predict` is `va predict`, and `predict_clip` is what `va evaluate` scores.
"""

import dataclasses
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from va.data import timeline
from va.data.features import ClipFeatures
from va.device import choose_device
from va.errors import VAError
from va.evaluate import opening
from va.evaluate.media import arrays, cells, predictors, remarks, video_features
from va.evaluate.media.cells import Answer, Features
from va.evaluate.media.predictors import RunPredictor
from va.evaluate.media.video_features import Limits
from va.train import checkpoint
from va.train.encoding import Faces

__all__ = ["Answer", "Predictor"]

_Path = str | PathLike[str]


class Predictor:
    """A trained run, ready for videos, arrays and cached features; an ensemble is used like any other run.

    The encoders are loaded by the first call that needs them and kept. Calls from two threads at once are not safe.

    Args:
        run: Run directory, as all that follow as in `va.load`.
        faces: See there.
        device: See there.
        clip_weights: See there.
        ast_weights: See there.
        face_weights: See there.

    Raises:
        VAError: Not a finished run, of another version, or damaged; or there is no such device.
        ValueError: No such choice of faces.
    """

    def __init__(
        self,
        run: _Path,
        *,
        faces: Faces = "auto",
        device: str = "auto",
        clip_weights: _Path | None = None,
        ast_weights: _Path | None = None,
        face_weights: _Path | None = None,
    ) -> None:
        if faces not in get_args(Faces):
            raise ValueError(f"faces must be one of {', '.join(get_args(Faces))}, not {faces!r}")
        self._run = checkpoint.load_run(Path(run))
        self._faces: Faces = faces
        self._device = device
        self._weights = [None if path is None else Path(path) for path in (clip_weights, ast_weights, face_weights)]
        self._on_features = RunPredictor(run=self._run, settings=None, device=choose_device(device))

    @property
    def texts(self) -> tuple[str, ...]:
        """The region texts, in the order of an answer's `regions`."""
        return tuple(self._on_features.texts)

    @property
    def centers(self) -> NDArray[np.float64]:
        """Valence and arousal of the region centres, float64 [R, 2]."""
        return self._on_features.centers.copy()

    def predict(self, video: _Path, *, stall_s: float = 120.0, memory_gb: float = 4.0) -> Answer:
        """Predict a video file, as `va predict` does: decoded in a process of its own, faces found where needed.

        Args:
            video: Any file with pictures that FFmpeg reads.
            stall_s: Seconds without progress after which decoding counts as hung.
            memory_gb: Memory that decoding may take, in GB.

        Returns:
            The answer; its `notes` say what must be known about the run, then what is wrong with the video.

        Raises:
            VAError: The file cannot be read as a video, or the run's encoders cannot be loaded.
        """
        named = video_features.named([Path(video)])
        limits = Limits(readers=1, stall_s=stall_s, memory_gb=memory_gb)
        with video_features.extracted(named, self._on_media, limits=limits, keep=None, progress=lambda *_: None) as (
            found,
            failed,
        ):
            for error in failed.values():
                raise error
            return _told(self._on_media, found[named[0].name].features())

    def predict_arrays(
        self,
        *,
        frames: NDArray[np.uint8],
        frame_time_s: NDArray[np.float64],
        waveform: NDArray[np.float32] | None,
        duration_s: float | None = None,
    ) -> Answer:
        """Predict pictures and sound in memory.

        Of the frames, those on screen in the middle of each half second are looked at.

        Args:
            frames: uint8 [F, H, W, 3] RGB, upright.
            frame_time_s: float64 [F], seconds from the start at which each appears, ascending.
            waveform: float32 [samples], 16 kHz mono, full scale being [-1, 1], from the start; None for no sound.
            duration_s: Length in seconds; by default until the end of the last frame.

        Raises:
            ValueError: An array has another shape or dtype, or values that cannot be.
            VAError: The run's encoders cannot be loaded.
        """
        features = arrays.features_of(
            self._on_media, frames=frames, frame_time_s=frame_time_s, waveform=waveform, duration_s=duration_s
        )
        return _told(self._on_media, features)

    def predict_features(
        self,
        *,
        frames: NDArray[np.floating],
        frame_valid: NDArray[np.bool_],
        audio: NDArray[np.floating],
        audio_valid: NDArray[np.bool_],
        duration_s: float | None = None,
    ) -> Answer:
        """Predict cached embeddings, as `FeatureStore.read` gives them; needs no encoder.

        Args:
            frames: [C, Dv], one embedding per half-second cell; anything where not valid.
            frame_valid: bool [C], where there is a picture.
            audio: [W, S, Da], one row per half-second cell of each window; windows and their distance are the run's.
            audio_valid: bool [W, S], where there is sound.
            duration_s: Length in seconds; by default C half seconds. Matters for a run with `--target end` only.

        Raises:
            ValueError: Shapes do not fit each other, or W is not the number of windows in C cells.
            VAError: Dv or Da are not those of the run's encoders.
        """
        config = self._run.config
        duration_s = len(frames) * timeline.CELL_S if duration_s is None else duration_s
        _check(frames, frame_valid, audio, audio_valid)
        if len(frames) != timeline.num_cells(duration_s):
            raise ValueError(f"{duration_s} s are {timeline.num_cells(duration_s)} cells, not {len(frames)}")
        starts_s = timeline.window_starts(duration_s, window_s=config.window_s, stride_s=config.stride_s)
        if len(audio) != len(starts_s):
            raise ValueError(f"{len(frames)} cells have {len(starts_s)} windows, not {len(audio)}")
        face = ClipFeatures(
            values=np.asarray(frames), time_s=timeline.cell_centers(len(frames)), valid=np.asarray(frame_valid)
        )
        voice = ClipFeatures(values=np.asarray(audio), time_s=starts_s, valid=np.asarray(audio_valid))
        return self._answer(face, voice, duration_s)

    def predict_clip(self, corpus: _Path, features: _Path, clip_id: str) -> Answer:
        """Predict a clip of a corpus from its cached features: what `va evaluate` scores.

        Args:
            corpus: Manifest, or the folder that holds it.
            features: Features folder that the run was trained on, or a copy of it.
            clip_id: The clip's name in the manifest.

        Raises:
            VAError: The clip or its features are missing, or the features are not those the run was trained on.
        """
        inputs = opening.open_inputs(self._run, corpus=Path(corpus), features_root=Path(features))
        for clip in inputs.corpus.clips:
            if clip.id == clip_id:
                return self._answer(inputs.face.read(clip_id), inputs.voice.read(clip_id), clip.duration_s)
        raise VAError(f"{inputs.corpus.path}: has no clip '{clip_id}'", "Name a clip of the manifest.")

    def _answer(self, face: ClipFeatures, voice: ClipFeatures, duration_s: float) -> Answer:
        config = self._run.config
        heard = cells.cells_with_sound(
            voice, count=len(face.values), window_s=config.window_s, stride_s=config.stride_s
        )
        found = Features(face=face, voice=voice, has_sound=heard, silent=None, boxes=None, duration_s=duration_s)
        return _told(self._on_features, found)

    @cached_property
    def _on_media(self) -> RunPredictor:
        clip_weights, ast_weights, face_weights = self._weights
        return predictors.for_run(
            self._run,
            faces=self._faces,
            face_weights=face_weights,
            clip_weights=clip_weights,
            ast_weights=ast_weights,
            device=self._device,
        )


def _told(predictor: RunPredictor, features: Features) -> Answer:
    """Answer, with what must be known about the run before what must be known about the video."""
    answer = predictor.answer(features)
    about = remarks.of_model(source=predictor.source, is_demo=predictor.is_demo, has_regions=predictor.has_regions)
    return dataclasses.replace(answer, notes=(*about, *answer.notes))


def _check(
    frames: NDArray[np.floating],
    frame_valid: NDArray[np.bool_],
    audio: NDArray[np.floating],
    audio_valid: NDArray[np.bool_],
) -> None:
    if frames.ndim != 2 or not len(frames) or audio.ndim != 3:
        raise ValueError(f"expected frames [C, Dv] and audio [W, S, Da], got {frames.shape} and {audio.shape}")
    for name, valid, values in (("frame_valid", frame_valid, frames), ("audio_valid", audio_valid, audio)):
        if valid.dtype != np.bool_ or valid.shape != values.shape[:-1]:
            raise ValueError(f"{name} must be bool {values.shape[:-1]}, not {valid.dtype} {valid.shape}")
