"""Which pictures of a clip the frame encoders see: whole frames, tracked faces, or the corpus's own crops."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from va.data import media
from va.errors import VAError
from va.extract import decode, detect, faces
from va.extract.config import ExtractConfig
from va.extract.detect import Detector
from va.extract.watch import Watch

Sees = Literal["picture", "box"]
"""What of a `Picture` an encoder is given."""


class Picture(NamedTuple):
    """What encoders may look at in a cell.

    Attributes:
        rgb: uint8 [height, width, 3] RGB.
        box: Where in the frame it was cut out, float32 [5] (`faces.Crop.row`); None unless a detector found it.
    """

    rgb: NDArray[np.uint8]
    box: NDArray[np.float32] | None


def identity(config: ExtractConfig) -> dict[str, Any]:
    """Write down, as plain JSON, everything that the choice of pictures depends on.

    Raises:
        VAError: The detector's file is missing or changed.
    """
    if config.faces != "detect":
        return {"mode": config.faces}
    tracking = faces.tracking_identity(margin=config.face_margin, smoothing_s=faces.SMOOTHING_S, hold_s=faces.HOLD_S)
    return {"mode": "detect", **detect.detector_identity(config.face_weights), **tracking}


class Pictures:
    """The pictures of clips, cell by cell, as a config asks for them.

    Args:
        config: `faces`, `crops`, `face_weights` and `face_margin` are read.
        threads: Of the video decoder.
        watch: Counts the stages `decode` and `faces`, and hears that the decoder lives.

    Raises:
        VAError: The detector cannot be loaded, or crops are asked for without a folder.
    """

    def __init__(self, config: ExtractConfig, *, threads: int, watch: Watch) -> None:
        self._config = config
        self._threads = threads
        self._watch = watch
        self._detector: Detector | None = None
        if config.faces == "detect":
            self._detector = detect.load_detector(config.face_weights)
        if config.faces == "crops" and not (config.crops and config.crops.is_dir()):
            raise VAError(
                f"--crops: {config.crops or 'nothing'} is not a folder, and --faces crops needs one",
                "Name the folder that holds one folder of images per clip, e.g. cropped_aligned.",
            )

    def of(self, path: Path, *, clip_id: str, info: media.MediaInfo) -> Iterator[Picture | None]:
        """Yield the picture of each cell in turn.

        Args:
            path: The medium.
            clip_id: Decides the person (`_left`, `_right`) and the folder of crops.
            info: The medium's, from `media.probe`.

        Yields:
            The picture; None masks the cell: no frame, no face or no crop.

        Raises:
            VAError: The medium or a crop cannot be read.
        """
        if self._config.faces == "crops":
            assert self._config.crops is not None  # checked when the config was read
            folder = self._config.crops / clip_id
            crops = faces.crops_at_cells(folder, frame_time_s=info.frame_time_s, duration_s=info.duration_s)
            for picture in self._watch.each("decode", crops):
                self._watch.beat()
                yield _whole(picture)
            return
        frames = self._watch.each(
            "decode",
            decode.frames_at_cells(path, duration_s=info.duration_s, threads=self._threads, beat=self._watch.beat),
        )
        if self._detector is None:
            yield from map(_whole, frames)
            return
        followed = faces.follow(
            frames,
            detector=self._detector,
            side=faces.side_of(clip_id),
            margin=self._config.face_margin,
            smoothing_s=faces.SMOOTHING_S,
            hold_s=faces.HOLD_S,
        )
        for crop in self._watch.each("faces", followed):
            yield None if crop is None else Picture(crop.rgb, crop.row)

    def files_of(self, clip_id: str) -> tuple[Path, ...]:
        """List the files besides the medium that a clip's pictures come from, sorted."""
        if self._config.faces != "crops" or self._config.crops is None:
            return ()
        return tuple(sorted((self._config.crops / clip_id).glob("*.jpg")))


def _whole(rgb: NDArray[np.uint8] | None) -> Picture | None:
    return None if rgb is None else Picture(rgb, None)
