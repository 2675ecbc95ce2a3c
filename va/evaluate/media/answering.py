"""The window at a stream's step -> the line that answers it: a run's encoders and head on one window at a time."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from va.data import timeline
from va.evaluate.predict import predict_batch
from va.extract.decode import SAMPLE_RATE_HZ
from va.extract.live import Look, Step
from va.train.checkpoint import Run
from va.train.encoding import Pair


class Answerer:
    """Encodes what was seen and heard, and asks the head.

    Args:
        run: Its head is moved to `device`.
        pair: Its encoders.
        window_s: Length of a window in seconds.
        device: Where to compute.
    """

    def __init__(self, run: Run, pair: Pair, *, window_s: float, device: torch.device) -> None:
        self._run = run
        self._pair = pair
        self._cells = timeline.cells_in(window_s, name="window")
        self._device = device
        self._seen: dict[int, NDArray[np.float16]] = {}

    @torch.inference_mode()
    def see(self, look: Look) -> None:
        """Encode a cell's picture, once; a head that hears only needs none."""
        if look.model_input is None or look.cell in self._seen or self._run.config.modalities == "voice":
            return
        picture = torch.from_numpy(look.model_input[None]).to(self._device)
        # As stored features are: the head was trained on these.
        self._seen[look.cell] = self._pair.face.encode(picture)[0].to(torch.float16).cpu().numpy()

    def answer(self, step: Step) -> dict[str, Any]:
        """Answer for a step's end."""
        for look in step.looks:
            self.see(look)
        first = step.looks[0].cell
        self._seen = {cell: values for cell, values in self._seen.items() if cell >= first}
        frames = np.zeros((self._cells, self._pair.face.dim), np.float16)
        frame_valid = np.zeros(self._cells, np.bool_)
        for place, look in enumerate(step.looks):
            if look.cell in self._seen:
                frames[place], frame_valid[place] = self._seen[look.cell], True
        window = (frames, frame_valid, *self._hear(step.waveform))
        raw = predict_batch(self._run, *(torch.from_numpy(part)[None].to(self._device) for part in window))
        va, regions, gate = (part[0] for part in raw)
        at = 0 if self._run.config.target == "end" else len(step.looks) - 1
        last = step.looks[-1]
        return {
            "time_s": step.time_s,
            "valence": round(float(va[at, 0]), 6),
            "arousal": round(float(va[at, 1]), 6),
            "regions": [round(float(share), 6) for share in regions[at]] if self._run.has_regions else None,
            "gate": round(float(gate[at]), 6),
            "face": last.model_input is not None,
            "box": None if last.box is None else list(last.box),
            "sound": len(step.waveform) > (len(step.looks) - 1) * round(timeline.CELL_S * SAMPLE_RATE_HZ),
        }

    @torch.inference_mode()
    def _hear(self, waveform: NDArray[np.float32]) -> tuple[NDArray[np.float16], NDArray[np.bool_]]:
        """Encode a window's sound: float16 [steps, dim], and which steps have any; none for a head that sees."""
        voice = self._pair.voice
        assert voice.spectrum is not None and voice.valid_steps is not None  # true for every audio encoder
        if self._run.config.modalities == "face":
            waveform = waveform[:0]
        rows = voice.spectrum(waveform)
        valid = voice.valid_steps(len(rows))
        if not valid.any():
            return np.zeros((len(valid), voice.dim), np.float16), valid
        window = torch.from_numpy(voice.transform(rows)[None]).to(self._device)
        values = voice.encode(window, torch.tensor([len(rows)]))[0].to(torch.float16).cpu().numpy()
        return values, valid
