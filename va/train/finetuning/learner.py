"""What the training loop's batches come from when backbones learn too: windows of model inputs, encoded anew each time.

The loop is `va train`'s own (`va/train/loop.py`). A batch's embeddings are leaves that take the loss's gradient; when
the head has made its step, the towers take theirs from it (`towers.py`). Before each validation the selection clips are
encoded by stage one's own batches, in float16, as the feature store would keep them.

Shapes: B windows of a batch, T cells.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from va.data.layout import ClipSpan, Layout
from va.data.windows import WindowBatch, WindowSet
from va.errors import VAError
from va.extract.batches import Batch
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder
from va.train.finetuning.augment import AugmentSettings, augment
from va.train.finetuning.inputs import At, InputStore
from va.train.finetuning.parallel import Parallel
from va.train.finetuning.towers import Towers
from va.train.finetuning.window_inputs import WindowFeatures, WindowInputs
from va.train.loop import Trial
from va.train.source import Source
from va.train.stack import Stack, schedule_factor

_BEYOND = 1 << 30
"""Number of a window that no clip has: it holds nothing, which is what a window of padding is."""

Report = Callable[[int, int, str], None]
"""Takes (steps done, steps in all epochs, a line for a person)."""


@dataclass(frozen=True, kw_only=True)
class Where:
    """Where a window lies.

    Args:
        clip: Number of its clip among the pool's spans.
        window: Number of the window in its clip.
    """

    clip: int
    window: int


class Learner(Source):
    """Gives the loop windows of model inputs and lets the towers learn from them.

    Args:
        pool: Windows and labels of all clips, those of the selection first; features of these only (`make_pool`).
        trial: The one trial.
        store: Model inputs of all clips.
        towers: The backbones.
        stage_one: How features of the selection are batched.
        strengths: Of augmentation.
        parallel: The processes that train together.
        report: Called after each step.
        save: Called after each step with the stack and the losses so far; saves when it is time.
    """

    decays_vectors = False
    keeps_weights = False
    cure = "Lower --backbone-rate or --learning-rate, set --clip-norm 1, or give --precision float32."

    def __init__(
        self,
        pool: WindowSet,
        *,
        trial: Trial,
        store: InputStore,
        towers: Towers,
        stage_one: ExtractConfig,
        strengths: AugmentSettings,
        parallel: Parallel,
        report: Report,
        save: Callable[[Stack, Sequence[Tensor]], None],
    ) -> None:
        super().__init__(pool)
        self._trial, self._store, self._towers = trial, store, towers
        self._stage_one, self._strengths, self._parallel = stage_one, strengths, parallel
        self._report, self._save = report, save
        self._where = [
            Where(clip=number, window=window)
            for number, span in enumerate(pool.spans)
            for window in range(span.windows.stop - span.windows.start)
        ]
        self._inputs: Iterator[WindowInputs] = iter(())
        self._taken: tuple[WindowInputs, WindowFeatures] | None = None
        self._stack: Stack | None = None
        self._started = 0.0

    def begin(self, index: Tensor) -> list[Tensor]:
        """Take the windows of an epoch; gives the losses of those of its steps that an interrupted run had made."""
        self._epoch = index[:, 0]
        self._on_device = index.to(self.pool.device)
        self._made = len(self._trial.state.lost)
        self._started = time.monotonic()
        mine = [index[self._parallel.share(len(index))] for index in self._epoch[self._made :]]
        self._inputs = self._store.ahead([self._at(window) for window in some.tolist()] for some in mine)
        return list(self._trial.state.lost[:, None].to(self.pool.device))

    def batch(self, step: int) -> WindowBatch:
        """Encode the windows of a step, the one after the last; those of the next are read meanwhile."""
        inputs = next(self._inputs)
        if self.pool.device.type != "cpu":
            pictures, spectra = (
                each.to(self.pool.device, non_blocking=True) for each in (inputs.pictures, inputs.spectra)
            )
            inputs = inputs._replace(pictures=pictures, spectra=spectra)
        mine = self._epoch[step][self._parallel.share(len(self._epoch[step]))]
        inputs = augment(inputs, seeds=[self._seed(int(window)) for window in mine], settings=self._strengths)
        features = self._towers.encode(inputs)
        self._taken = inputs, features
        index = self._on_device[step]
        rows = index[..., None] if self.pool.at_end else self.pool.cells[index]
        return WindowBatch(
            frames=features.frames[None],
            frame_valid=features.frame_valid[None],
            audio=features.audio[None],
            audio_valid=features.audio_valid[None],
            target=self.pool.target[rows],
            target_valid=self.pool.target_valid[rows],
        )

    def learn(self, stack: Stack, lost: Sequence[Tensor], *, active: Sequence[bool]) -> None:
        """Let the towers learn from the batch that the head has just learned from."""
        assert self._taken is not None
        inputs, features = self._taken
        self._taken, self._stack = None, stack
        config, steps = self._trial.config, len(self._epoch)
        if active[0]:
            self._towers.learn(inputs, features)
            made = stack.steps[0] - 1
            self._towers.update(factor=schedule_factor(config, step=made, total_steps=config.epochs * steps))
        self._save(stack, lost)
        done, epoch = len(lost), self._trial.state.epoch
        left_s = (time.monotonic() - self._started) / (done - self._made) * (steps - done)
        line = f"epoch {epoch + 1}: step {done} of {steps}, {_minutes(left_s)} left"
        self._report(epoch * steps + done, config.epochs * steps, line)

    @torch.no_grad()
    def renew(self) -> None:
        """Encode the selection clips with the towers as they are validated, each process its share of the clips."""
        self._trial.state.lost = torch.zeros(0, 2)
        if self._stack is not None:
            self._agree(self._stack)
        spans = self._trial.selection
        mine = spans[self._parallel.share(len(spans))]
        with self._towers.answering() as (face, voice):
            found = [self._encode(span, face, voice) for span in mine]
        pool = self.pool
        for place, target in enumerate((pool.frames, pool.frame_valid, pool.audio, pool.audio_valid)):
            parts = [each[place] for each in found]
            own = torch.cat(parts) if parts else target[:0].cpu()
            # The last row is the masked one, and stays.
            target[:-1].copy_(self._parallel.gather(own.to(target.device))[: len(target) - 1])

    def _agree(self, stack: Stack) -> None:
        """Give all processes the head of the first: on GPUs the same sums may round differently."""
        for head in {id(head): head for head in (stack.head, stack.answering)}.values():
            for tensor in head.state_dict().values():
                self._parallel.broadcast(tensor)

    def _encode(self, span: ClipSpan, face: Encoder, voice: Encoder) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give a clip's features as a feature store would hold them, on the CPU."""
        pictures, seen = self._store.face.values(span.clip.id)
        if len(pictures) != span.cells:
            raise VAError(
                f"{span.clip.media}: has {len(pictures)} half seconds, the corpus says {span.cells}",
                "The video changed since: make the corpus manifest again.",
            )
        frames = np.zeros((span.cells, face.dim), np.float16)
        batch = _batch(frames, face, size=self._stage_one.frame_batch, device=self.pool.device)
        for cell in np.flatnonzero(seen):
            batch.add(None, int(cell), np.array(pictures[cell]), 0)  # a mapped file cannot be written to
        batch.flush()
        assert voice.valid_steps is not None
        windows = span.windows.stop - span.windows.start
        audio_valid = np.zeros((windows, len(voice.valid_steps(0))), np.bool_)
        audio = np.zeros((*audio_valid.shape, voice.dim), np.float16)
        batch = _batch(audio, voice, size=self._stage_one.audio_batch, device=self.pool.device)
        for window in range(windows):
            read = self._store.window(span.clip.id, cells=np.zeros(0, np.int64), window=window)
            audio_valid[window] = voice.valid_steps(read.rows)
            if audio_valid[window].any():
                batch.add(None, window, read.spectrum, read.rows)
        batch.flush()
        audio[~audio_valid] = 0
        found = (frames, np.array(seen), audio, audio_valid)
        return tuple(map(torch.from_numpy, found))  # type: ignore[return-value]

    def _at(self, window: int) -> At:
        if window < 0:
            nothing = np.full(self.pool.cells.shape[1], -1, np.int64)
            return At(self.pool.spans[0].clip.id, cells=nothing, window=_BEYOND)
        where = self._where[window]
        cells: NDArray[np.int64] = self.pool.local_cells[window].numpy()
        return At(self.pool.spans[where.clip].clip.id, cells=cells, window=where.window)

    def _seed(self, window: int) -> int:
        """Give what a window's augmentation is drawn from in this epoch, whatever batch or process it is in."""
        drawn = np.random.SeedSequence([self._trial.config.seed, self._trial.state.epoch, window + 1])
        return int(drawn.generate_state(1)[0])


def make_pool(layout: Layout, *, selection: int, face: Encoder, voice: Encoder, device: torch.device) -> WindowSet:
    """Lay out windows with room for the features of the selection clips, which are the first.

    Args:
        layout: Of all clips.
        selection: How many of them choose the epoch.
        face: The frame encoder.
        voice: The audio encoder.
        device: Where training happens.
    """
    assert voice.valid_steps is not None
    spans = layout.spans[:selection]
    cells, windows, steps = sum(span.cells for span in spans), spans[-1].windows.stop, len(voice.valid_steps(0))
    return WindowSet.of(
        layout,
        frames=torch.zeros(cells + 1, face.dim, dtype=torch.float16, device=device),
        frame_valid=torch.zeros(cells + 1, dtype=torch.bool, device=device),
        audio=torch.zeros(windows + 1, steps, voice.dim, dtype=torch.float16, device=device),
        audio_valid=torch.zeros(windows + 1, steps, dtype=torch.bool, device=device),
        device=device,
    )


def _batch(values: NDArray[np.float16], encoder: Encoder, *, size: int, device: torch.device) -> Batch[None]:
    """Make a batch that puts rows into an array."""

    def deliver(owner: None, name: str, rows: list[int], counts: list[int], found: NDArray[np.float16]) -> None:
        values[rows] = found

    return Batch[None](encoder, size=size, device=device, deliver=deliver)


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02} min"
