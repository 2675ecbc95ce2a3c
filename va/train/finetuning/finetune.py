"""`va finetune`: both backbones and a head, trained together. Read `run` from top to bottom.

The run directory is an ordinary one, whose encoders lie in it. Under torchrun every process calls `run`; the first
alone writes, and the others wait for it where they need what it has written.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from va import locks, settings
from va.data.corpus import Clip
from va.data.layout import lay_out
from va.data.windows import WindowSet
from va.device import be_deterministic, choose_device
from va.errors import VAError
from va.extract import encoders, pipeline
from va.extract.config import BASELINES
from va.extract.pipeline import Summary
from va.model.inference import predict_windows
from va.train import checkpoint, encoding, loop, planning
from va.train import state as states
from va.train.config import TrainConfig
from va.train.finetune_config import FinetuneConfig
from va.train.finetuning import augment, inputs, keeping, recipe
from va.train.finetuning.inputs import InputStore
from va.train.finetuning.keeping import Keeper
from va.train.finetuning.learner import Learner, make_pool
from va.train.finetuning.parallel import Parallel
from va.train.finetuning.start import Start, begin
from va.train.finetuning.together import agreed, launched
from va.train.finetuning.towers import Towers
from va.train.loop import Trial
from va.train.state import Epoch, TrialState

Bars = Callable[[str], AbstractContextManager[Callable[..., None]]]
"""Title -> a context with a callback (done, total, a line for a person)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Screen:
    """What a person hears of a run.

    Args:
        bars: Makes progress bars.
        note: Takes a sentence.
        epoch_done: Takes the head's settings and each epoch's log line.
    """

    bars: Bars
    note: Callable[[str], None]
    epoch_done: Callable[[TrainConfig, Epoch], None]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finetuned:
    """What a run gave.

    Args:
        directory: The run directory.
        extracted: What the extraction at its end did; None where another process did it or none was wanted.
    """

    directory: Path
    extracted: Summary | None


def run(config: FinetuneConfig, *, screen: Screen) -> Finetuned:
    """Fine-tune, or find that it has been done already; then cache the features of the tuned encoders.

    Args:
        config: The stage's settings.
        screen: Hears of it.

    Raises:
        VAError: Something is missing or does not fit, and nothing is written but decoded inputs; or training failed.
        SystemExit: Another process of a torchrun has failed, and says why.
    """
    with launched(config.device) as parallel:
        with agreed(parallel):
            start, store, towers = _begin(config, parallel, screen)
        with agreed(parallel):
            _prepare(start, store, parallel, screen)
        identity = recipe.identity_of(config, start, store, device=parallel.device)
        name = start.config.name or f"{planning.describe(start.config)}-tuned"
        directory = config.out / f"{name}-{settings.digest(identity)}"
        with contextlib.ExitStack() as held:
            with agreed(parallel):
                finished = checkpoint.is_finished(directory)
                if finished:
                    screen.note(f"{directory}: is already finished, nothing to train")
                if parallel.leads:
                    if finished:
                        checkpoint.require_whole(directory)
                        keeping.tidy(directory)
                    else:
                        held.enter_context(locks.alone(directory, doing="trained"))
            if not finished:
                with _told(directory, screen):
                    _train(config, start, store, towers, directory, identity, parallel, screen)
        leads = parallel.leads
    # The others are done. Extraction is stage one's own, by one process.
    extracted = _extract(config, start, directory, screen) if leads and config.extract else None
    return Finetuned(directory=directory, extracted=extracted)


def _begin(config: FinetuneConfig, parallel: Parallel, screen: Screen) -> tuple[Start, InputStore, Towers]:
    """Open everything and check that it fits, before hours are spent on decoding."""
    settings.require(
        parallel.world <= config.batch_size,
        option="--batch-size",
        value=config.batch_size,
        expected=f"at least a window for each of the {parallel.world} processes",
    )
    if config.deterministic:
        be_deterministic(parallel.device)
    start = begin(config, device=parallel.device)
    for note in start.notes:
        screen.note(note)
    store = InputStore(config.inputs or config.out / "inputs", face=start.pair.face, voice=start.pair.voice)
    augment.check(recipe.strengths(config), store)
    towers = Towers(
        *start.pair,
        settings=recipe.tower_settings(config, start, device=parallel.device),
        device=parallel.device,
        parallel=parallel,
    )
    return start, store, towers


def _prepare(start: Start, store: InputStore, parallel: Parallel, screen: Screen) -> None:
    """Decode the model inputs of all clips that training looks at."""
    if not parallel.leads:
        return
    kept = "the clips decoded so far are kept, and the same command goes on with the others"
    with _interruptible(screen, lambda: kept), screen.bars("decoding clips") as progress:
        inputs.prepare(
            (*start.division.selection, *start.division.train),
            face=start.pair.face,
            voice=start.pair.voice,
            config=start.stage_one,
            directory=store.directory,
            progress=progress,
        )


def _train(
    config: FinetuneConfig,
    start: Start,
    store: InputStore,
    towers: Towers,
    directory: Path,
    identity: dict[str, Any],
    parallel: Parallel,
    screen: Screen,
) -> None:
    """Train, and leave a finished run directory."""
    pool, trial = _trial(config, start, directory, parallel)
    keeper = Keeper(
        directory, config=config, trial=trial, towers=towers, parallel=parallel, epoch_done=screen.epoch_done
    )
    if keeper.begun:
        screen.note(f"going on after {keeper.begun}")
    truths = {clip.id: start.corpus.truth(clip) for clip in start.division.selection}
    prototypes = torch.zeros(start.shape["num_regions"], start.shape["text_dim"])
    head = checkpoint.make_head(start.config, start.shape, prototypes=prototypes)
    with _interruptible(screen, lambda: _kept(keeper, config)), screen.bars("training") as progress:
        learner = Learner(
            pool,
            trial=trial,
            store=store,
            towers=towers,
            stage_one=start.stage_one,
            strengths=recipe.strengths(config),
            parallel=parallel,
            report=progress,
            save=keeper.save_now_and_then,
        )
        with _memory(config):
            if start.run is not None and not trial.state.steps:
                learner.renew()
                head.load_state_dict(start.weights)
                answers = predict_windows(
                    head.to(pool.device),
                    inputs=lambda index: pool.batch(index)[:4],
                    index=loop.windows_of(trial.selection).to(pool.device),
                    batch_size=256,
                )
                score = loop.score_windows(answers.va, trial.selection, pool, truths)["ccc_mean"]["value"]
                screen.note(f"as it came: {start.config.select_on} CCC mean {score:.3f}")
            loop.fit([trial], pool, truths, head, epoch_done=keeper.epoch, source=learner)
    with agreed(parallel):
        if trial.failure is not None:
            raise trial.failure
    if parallel.leads:
        with _interruptible(screen, lambda: _kept(keeper, config)):
            keeper.finish(start, identity)


def _trial(config: FinetuneConfig, start: Start, directory: Path, parallel: Parallel) -> tuple[WindowSet, Trial]:
    """Lay windows over the clips, those of the selection first, and take up the trial where it was left."""
    head = start.config
    clips: tuple[Clip, ...] = (*start.division.selection, *start.division.train)
    layout = lay_out(start.corpus, clips, window_s=head.window_s, stride_s=head.stride_s, at_end=head.target == "end")
    selection = len(start.division.selection)
    pool = make_pool(layout, selection=selection, face=start.pair.face, voice=start.pair.voice, device=parallel.device)
    if not config.resume and parallel.leads:
        keeping.discard(directory)
    parallel.barrier()
    state = states.load(directory) or TrialState(
        weights=start.weights,
        order=states.new_generator(head.seed, torch.device("cpu")),
        dropout=states.new_generator(head.seed ^ states.DROPOUT_STREAM, parallel.device),
    )
    return pool, Trial(config=head, train=pool.spans[selection:], selection=pool.spans[:selection], state=state)


@contextlib.contextmanager
def _interruptible(screen: Screen, kept: Callable[[], str]) -> Iterator[None]:
    """Say what is kept where a person interrupts."""
    try:
        yield
    except KeyboardInterrupt:
        screen.note(kept())
        raise


def _kept(keeper: Keeper, config: FinetuneConfig) -> str:
    if not keeper.begun:
        return "no epoch is kept yet; the same command begins with the first"
    same = "the same command" if config.resume else "the same command without --no-resume"
    return f"{keeper.begun} is kept, and {same} goes on from there"


@contextlib.contextmanager
def _told(directory: Path, screen: Screen) -> Iterator[None]:
    """Say what lies on the disk where training fails: other settings make another folder, and would never touch it."""
    try:
        yield
    except VAError:
        if size := keeping.size_of_state(directory):
            screen.note(
                f"{directory}: holds {size / 1e9:.2g} GB to go on from with the same settings; "
                "if you train with others, remove that folder"
            )
        raise


@contextlib.contextmanager
def _memory(config: FinetuneConfig) -> Iterator[None]:
    """Say what to do where a GPU is too small."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        less = "--checkpointing, " if not config.checkpointing else ""
        less += f"a --micro-batch below {config.micro_batch}, " if config.micro_batch > 1 else ""
        raise VAError(
            f"--device: the GPU has too little memory ({str(error).splitlines()[0]})",
            f"Give {less}fewer blocks to --thaw-face and --thaw-voice, or shorter windows.",
        ) from None


def _extract(config: FinetuneConfig, start: Start, directory: Path, screen: Screen) -> Summary:
    """Cache the features of the whole corpus with the tuned encoders, loaded from what was written."""
    device = choose_device(config.device)
    tuned = checkpoint.load_run(directory)
    pair = encoding.load(tuned, start.stage_one, device=device)
    baselines = [encoders.build(name, config=start.stage_one, device=device) for name in BASELINES]
    stage_one = dataclasses.replace(start.stage_one, out=keeping.features_of(config, directory))
    kept = f"{directory}: is finished; the same command goes on with the features of its encoders"
    with _interruptible(screen, lambda: kept), screen.bars("extracting clips") as progress:
        return pipeline.run(stage_one, progress=progress, loaded=[*pair, *baselines])
