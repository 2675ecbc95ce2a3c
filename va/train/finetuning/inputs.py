"""Model inputs of clips: decoded once by stage one's readers, kept on the disk, read window by window.

What a window gives is what stage one feeds its encoders for the same cells and the same window, bit for bit. CLIP's
pictures take 1.08 GB per hour of video (uint8 224 x 224 x 3, twice a second), AST's rows of spectrum 0.19 GB: a corpus
of Aff-Wild2's size, 3 million frames or 28 hours, takes 36 GB. Nothing of it is held in memory: files are mapped,
each while it is read.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from va.data.corpus import Clip
from va.errors import VAError
from va.extract.config import ExtractConfig
from va.extract.decode import SAMPLE_RATE_HZ
from va.extract.encoders import Encoder
from va.extract.extraction import Report
from va.extract.spectrum import ROWS_PER_S, count_rows
from va.train.finetuning import preparing
from va.train.finetuning.clip_inputs import ClipInputs
from va.train.finetuning.window_inputs import WindowInputs

_NAMED: Final = 5


class At(NamedTuple):
    """Which window.

    Attributes:
        clip_id: The clip.
        cells: int64 [T], the window's cells, counted from the clip's start; -1 for padding.
        window: Number of the window in its clip.
    """

    clip_id: str
    cells: NDArray[np.int64]
    window: int


class WindowArrays(NamedTuple):
    """Model inputs of one window.

    Attributes:
        pictures: uint8 or float32 [T, ...]; 0 where not seen.
        seen: bool [T]; False for padding, and for a cell without a frame, a face or a crop.
        spectrum: float32 [...]; 0 where there is no sound at all.
        rows: Rows of spectrum in the window.
    """

    pictures: NDArray[Any]
    seen: NDArray[np.bool_]
    spectrum: NDArray[np.float32]
    rows: int


class InputStore:
    """The inputs of a pair of encoders below a directory; readable while another process prepares more.

    Args:
        directory: Holds one folder per encoder.
        face: The frame encoder.
        voice: The audio encoder; its identity says how long windows are and how far apart.

    Attributes:
        face: Inputs of the frame encoder.
        voice: Rows of spectrum for the audio encoder.
        spectrum: Shape of the model input that the audio encoder makes of a window's rows.
    """

    def __init__(self, directory: Path, *, face: Encoder, voice: Encoder) -> None:
        self.directory = directory
        self.face, self.voice = ClipInputs(directory, face), ClipInputs(directory, voice)
        sampling = voice.identity["sampling"]
        self._stride_s = float(sampling["stride_s"])
        self._rows = count_rows(round(sampling["window_s"] * SAMPLE_RATE_HZ))
        self._transform = voice.transform
        self.spectrum = voice.transform(np.zeros((1, *self.voice.shape), np.float32)).shape

    def missing(self, clips: Sequence[Clip]) -> tuple[Clip, ...]:
        """List the clips of which something is not there; does not look into files."""
        return tuple(
            clip for clip in clips if not all(each.path(clip.id).is_file() for each in (self.face, self.voice))
        )

    def window(self, clip_id: str, *, cells: NDArray[np.int64], window: int) -> WindowArrays:
        """Read one window.

        Args:
            clip_id: The clip.
            cells: int64 [T], counted from the clip's start; -1 for padding.
            window: Number of the window, which starts at `window` times the stride.

        Raises:
            VAError: The clip is not there, damaged, or shorter than its cells say.
        """
        found = self.batch([At(clip_id, cells, window)])
        pictures, seen, spectra = (each[0].numpy() for each in found[:3])
        return WindowArrays(pictures, seen, spectra, int(found.rows[0]))

    def batch(self, windows: Sequence[At]) -> WindowInputs:
        """Read some windows of one length, on the CPU.

        Raises:
            VAError: As `window`.
        """
        count, steps = len(windows), len(windows[0].cells)
        pictures = np.zeros((count, steps, *self.face.shape), self.face.dtype)
        seen = np.zeros((count, steps), np.bool_)
        spectra = np.zeros((count, *self.spectrum), np.float32)
        rows = np.zeros(count, np.int64)
        for index, at in enumerate(windows):
            self._see(at, pictures[index], seen[index])
            values, heard = self.voice.values(at.clip_id)
            first = round(at.window * self._stride_s * ROWS_PER_S)
            rows[index] = heard[first : first + self._rows].sum()
            if rows[index]:
                spectra[index] = self._transform(values[first : first + rows[index]])
        return WindowInputs(*map(torch.from_numpy, (pictures, seen, spectra, rows)))

    def ahead(self, batches: Iterable[Sequence[At]]) -> Iterator[WindowInputs]:
        """Yield batches in turn, each read while the one before it is in use.

        A batch of 16 windows of 224 x 224 takes 20 ms where the system has its pages in memory, and some 280 ms where
        it has not; the tiny encoders' take 2 ms, and nothing is won for them.

        Raises:
            VAError: As `window`, when the batch's turn comes.
        """
        with ThreadPoolExecutor(1) as thread:
            following: Future[WindowInputs] | None = None
            for windows in batches:
                current, following = following, thread.submit(self.batch, windows)
                if current is not None:
                    yield current.result()
            if following is not None:
                yield following.result()

    def _see(self, at: At, pictures: NDArray[Any], seen: NDArray[np.bool_]) -> None:
        stored, valid = self.face.values(at.clip_id)
        if at.cells.max(initial=-1) >= len(stored):
            raise VAError(
                f"{self.face.path(at.clip_id)}: has {len(stored)} cells, fewer than the corpus says",
                "The video changed since: make the corpus manifest again.",
            )
        for place, cell in enumerate(at.cells.tolist()):
            if cell >= 0:
                pictures[place], seen[place] = stored[cell], valid[cell]


def prepare(
    clips: Sequence[Clip],
    *,
    face: Encoder,
    voice: Encoder,
    config: ExtractConfig,
    directory: Path,
    progress: Report,
    stopping: Callable[[], bool] = lambda: False,
) -> InputStore:
    """Decode what is missing, damaged or made from another source; nothing else.

    Args:
        clips: Whose inputs.
        face: The frame encoder.
        voice: The audio encoder; both built with `config`.
        config: Stage one's settings: how pictures are chosen, how long windows are, how many readers.
        directory: Where inputs go.
        progress: Called now and then with (clips done, clips in all, a line for a person).
        stopping: Asked before each clip; True ends the work as if there were no more. `InputStore.missing` then lists
            what is left.

    Raises:
        VAError: The disk has too little room, and nothing was begun; the disk fails; or clips cannot be read, and all
            others are done.
    """
    store = InputStore(directory, face=face, voice=voice)
    preparing.check_room(directory, [store.face, store.voice], clips)
    failed = preparing.run(
        {face.name: store.face, voice.name: store.voice},
        encoders=(face, voice),
        clips=clips,
        config=config,
        report=progress,
        stopping=stopping,
    )
    if failed:
        named = "; ".join(list(failed.values())[:_NAMED])
        more = f"; and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        raise VAError(
            f"{len(failed)} of {len(clips)} clips cannot be read: {named}{more}",
            "The others are done. Mend these media or take them out of the corpus, and run the same command again.",
        )
    return store
