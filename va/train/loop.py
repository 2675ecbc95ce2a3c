"""The training loop: cached features -> trained heads. To be read from top to bottom.

It trains one trial or many at once (`va/train/stack.py`); each has its own batches, early stop and log, and leaves the
stack when it stops. Early stopping watches `dev`, a part of the training identities, never the split that is reported
(settled 7), and scores it by the `abaw` protocol with the code of the final score.

Shapes: N trials, B windows of a batch.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from va.data.corpus import Truth
from va.data.layout import ClipSpan
from va.data.windows import WindowSet
from va.errors import VAError
from va.evaluate import assemble, protocol
from va.model import layers
from va.model.head import VAHead
from va.model.inference import predict_windows
from va.model.text import RegionTexts
from va.train.config import TrainConfig
from va.train.source import Source
from va.train.stack import Stack
from va.train.state import Epoch, TrialState

_VALIDATION_WINDOWS = 512
"""Windows in a batch of validation, of all trials together; the result does not depend on it beyond rounding."""


@dataclass(kw_only=True, eq=False)
class Trial:
    """One run in the making.

    Args:
        config: Its settings.
        train: Clips that gradients come from.
        selection: Clips that choose the epoch.
        state: Where it stands; changed by `fit`.
        failure: Why it ended early, or None.
        seconds: Time spent in "train", "validate" and "save" while it was in a stack, of the whole stack.
    """

    config: TrainConfig
    train: tuple[ClipSpan, ...]
    selection: tuple[ClipSpan, ...]
    state: TrialState
    failure: VAError | None = None
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("train", "validate", "save"), 0.0))

    @property
    def is_done(self) -> bool:
        """Whether it has no epochs left, stopped early or failed."""
        state, config = self.state, self.config
        waited = state.epoch - state.best_epoch >= config.patience
        return self.failure is not None or state.epoch >= config.epochs or waited


def fit(
    trials: Sequence[Trial],
    pool: WindowSet,
    truths: Mapping[str, Truth],
    head: VAHead,
    *,
    epoch_done: Callable[[Trial, dict[str, Tensor] | None], None],
    texts: RegionTexts | None = None,
    source: Source | None = None,
) -> None:
    """Train until each trial's selection score has stopped rising.

    Args:
        trials: At least one; of one architecture.
        pool: Windows of all their clips; training happens on its device.
        truths: Annotation of each selection clip, by id.
        head: A head of the trials' architecture, without a trial axis.
        epoch_done: Called with each trial after each of its epochs, its state and log up to date, and with its head's
            state dict where the epoch is the best so far.
        texts: What makes prototypes of trials' context vectors, on the pool's device (`--context`).
        source: What gives batches; None for the pool's own features.
    """
    source = source or Source(pool)
    labels = pool.num_labels()
    running = [trial for trial in trials if not trial.is_done]
    while running:
        stack = Stack(
            head,
            configs=[trial.config for trial in running],
            states=[trial.state for trial in running],
            device=pool.device,
            texts=texts,
            decays_vectors=source.decays_vectors,
        )
        together = running
        while len(running) == len(together):
            started = time.perf_counter()
            means = _train_epoch(stack, together, source, labels)
            trained = time.perf_counter()
            source.renew()
            scores = _validate(stack, together, pool, truths, source)
            validated = time.perf_counter()
            for place, (trial, kept) in enumerate(zip(together, stack.states(), strict=True)):
                score = scores[place]
                if trial.failure is None and score is not None:
                    _close_epoch(trial, kept, means[place], score)
                if trial.failure is None:
                    best = trial.state.best_epoch == trial.state.epoch
                    epoch_done(trial, layers.trial_state(stack.answering, place) if best else None)
            parts = {"train": trained - started, "validate": validated - trained}
            parts["save"] = time.perf_counter() - validated
            for trial in together:
                trial.seconds = {name: trial.seconds[name] + spent for name, spent in parts.items()}
            running = [trial for trial in together if not trial.is_done]


@dataclass(frozen=True, kw_only=True)
class _Means:
    """An epoch's mean losses, and the batches it skipped."""

    ccc_loss: float
    region_kl: float
    skipped: int


def _train_epoch(stack: Stack, trials: Sequence[Trial], source: Source, labels: Tensor) -> list[_Means]:
    """Go once through each trial's windows; what went wrong is in `failure`."""
    index = draw_batches(trials, labels)
    enough = labels[index].sum(dim=-1) >= 2  # a CCC of fewer than two labels is undefined (settled 8)
    num_batches = [-(-len(windows_of(trial.train)) // trial.config.batch_size) for trial in trials]
    total_steps = [trial.config.epochs * count for trial, count in zip(trials, num_batches, strict=True)]
    stack.head.train()
    lost = source.begin(index)
    for step, active in enumerate(enough.tolist()[len(lost) :], start=len(lost)):
        lost.append(stack.step(source.batch(step), active=active, total_steps=total_steps))
        source.learn(stack, lost, active=active)
    stack.keep_prototypes()
    both = torch.stack(lost).cpu().double()  # the first wait for the device in the epoch
    means = []
    for place, trial in enumerate(trials):
        made = enough[:, place]
        losses = both[made, place]
        _look_for_failure(trial, losses, index[made, place], source)
        ccc, kl = losses.mean(dim=0).tolist()
        means.append(_Means(ccc_loss=ccc, region_kl=kl, skipped=num_batches[place] - int(made.sum())))
    return means


def draw_batches(trials: Sequence[Trial], labels: Tensor) -> Tensor:
    """Shuffle each trial's windows by its own generator and cut them into batches.

    All batches of an epoch have one size: the last is filled up with windows of padding, whose labels are invalid, and
    a trial that has fewer batches than another waits with empty ones. So nothing depends on the company.

    Args:
        trials: Their states' generators advance.
        labels: int64 [windows + 1], valid labels of each window; gives the number of windows.

    Returns:
        int64 [batches, N, B] on the CPU, -1 for padding.
    """
    size = trials[0].config.batch_size
    rows = []
    for trial in trials:
        own = windows_of(trial.train)
        generator = torch.Generator()
        generator.set_state(trial.state.order)
        shuffled = own[torch.randperm(len(own), generator=generator)]
        trial.state.order = generator.get_state()
        rows.append(torch.nn.functional.pad(shuffled, (0, -len(own) % size), value=-1).view(-1, size))
    longest = max(len(row) for row in rows)
    return torch.stack([torch.nn.functional.pad(row, (0, 0, 0, longest - len(row)), value=-1) for row in rows], dim=1)


def _look_for_failure(trial: Trial, losses: Tensor, index: Tensor, source: Source) -> None:
    if not len(losses):
        trial.failure = VAError(
            "no training batch has two valid labels", "Check the annotations of the training split."
        )
        return
    bad = (~losses.isfinite()).any(dim=1).nonzero()
    if not len(bad):
        return
    step = int(bad[0])
    windows = set(index[step].tolist())
    clips = [span.clip.id for span in trial.train if windows & set(range(span.windows.start, span.windows.stop))]
    what = f"the loss is {losses[step].sum().item()} in step {step + 1} (clips {', '.join(clips)}) of"
    trial.failure = _not_finite(trial, what, source)


def _not_finite(trial: Trial, what: str, source: Source) -> VAError:
    best = trial.state.best_epoch
    kept = f"the weights of epoch {best} are kept" if best else "no weights are kept"
    if not source.keeps_weights:
        kept = "no run is made of it"
    return VAError(f"{what} epoch {trial.state.epoch + 1}; {kept}", source.cure)


def _validate(
    stack: Stack, trials: Sequence[Trial], pool: WindowSet, truths: Mapping[str, Truth], source: Source
) -> list[protocol.Score | None]:
    """Score each trial on every annotated frame of its selection clips (`abaw` protocol, settled 6).

    None for a trial that has failed, or fails here, because its last update left weights that are not finite.
    """

    def inputs(index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return pool.batch(index)[:4]

    own = [windows_of(trial.selection) for trial in trials]
    index = torch.nn.utils.rnn.pad_sequence(own, batch_first=True, padding_value=-1).to(pool.device)
    predictions = predict_windows(
        stack.answering, inputs=inputs, index=index, batch_size=max(1, _VALIDATION_WINDOWS // len(trials))
    )
    scores: list[protocol.Score | None] = []
    for place, trial in enumerate(trials):
        values = predictions.va[place, : len(own[place])]
        if trial.failure is None and not np.isfinite(values).all():
            trial.failure = _not_finite(trial, "a prediction is not finite after", source)
        scores.append(None if trial.failure else score_windows(values, trial.selection, pool, truths))
    return scores


def score_windows(
    values: NDArray[np.float64], spans: Sequence[ClipSpan], pool: WindowSet, truths: Mapping[str, Truth]
) -> protocol.Score:
    """Score predictions of some clips' windows by the `abaw` protocol, without an interval.

    Args:
        values: float64 [windows or more, T, 2], in the order of `spans`.
        spans: The clips.
        pool: Gives the windows' cells.
        truths: Annotation of each clip, by id.
    """
    clips, first = [], 0
    for span in spans:
        count = span.windows.stop - span.windows.start
        clips.append(
            assemble.frames_from_windows(
                span.clip.id,
                values=values[first : first + count],
                cells=pool.local_cells[span.windows].numpy(),
                num_cells=span.cells,
                end_time_s=np.array(span.end_time_s),
                truth=truths[span.clip.id],
            )
        )
        first += count
    return protocol.score_abaw(clips, resamples=1, seed=0)


def _close_epoch(trial: Trial, kept: TrialState, means: _Means, score: protocol.Score) -> None:
    """Bring a trial's state up to date: the stack's tensors, the score, the log."""
    state, mean = trial.state, score["ccc_mean"]["value"]
    is_best = mean > state.best_score
    state.weights, state.moments, state.ema = kept.weights, kept.moments, kept.ema
    state.dropout, state.steps = kept.dropout, kept.steps
    state.epoch += 1
    if is_best:
        state.best_epoch, state.best_score = state.epoch, mean
    elif not state.best_epoch:
        trial.failure = VAError(
            f"the {trial.config.select_on} split has no score, so no epoch can be chosen",
            "Check that its clips have at least two valid labels, or raise --dev-fraction.",
        )
        return
    state.log.append(
        Epoch(
            epoch=state.epoch,
            loss=means.ccc_loss + trial.config.region_weight * means.region_kl,
            ccc_loss=means.ccc_loss,
            region_kl=means.region_kl,
            ccc_valence=score["ccc_valence"]["value"],
            ccc_arousal=score["ccc_arousal"]["value"],
            ccc_mean=mean,
            skipped_batches=means.skipped,
            best=is_best,
        )
    )


def windows_of(spans: Sequence[ClipSpan]) -> Tensor:
    """List the windows of some clips, in order: int64."""
    return torch.cat([torch.arange(span.windows.start, span.windows.stop) for span in spans])
