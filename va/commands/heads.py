"""Commands of stage two: heads, sweeps, the paper's tables, encoders compared."""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from va import console, cores, options, settings, signals
from va.commands.app import app
from va.errors import VAError
from va.train.ablate_config import AblateConfig, RowSettings
from va.train.compare_config import CompareConfig
from va.train.config import SweepConfig, TrainConfig
from va.train.finetune_config import FinetuneConfig, leads

if TYPE_CHECKING:
    from va.train.state import Epoch


@options.stage(app, "train", TrainConfig)
def train(config: TrainConfig) -> None:
    """Stage two: train a head on cached features; prints the run directory last."""
    console.settings("train", settings.as_dict(config))
    cores.train()
    with console.progress("loading libraries"):
        from va.train import ensemble, planning, runs
        from va.train.texts import texts_note

    configs = planning.expand(config)
    if note := texts_note(config):
        console.note(note)

    def epoch_done(trial: TrainConfig, line: "Epoch") -> None:
        signals.heed()
        which = "" if len(configs) == 1 else f"seed {trial.seed} " + (f"fold {trial.fold} " if trial.folds else "")
        console.note(which + _epoch_line(trial, line))

    with _stoppable(resume=config.resume):
        found = runs.train(configs, epoch_done=epoch_done)
    if config.ensemble:
        console.say(str(ensemble.join(config, found)))
    else:
        for directory in found:
            console.say(str(directory))


@options.stage(app, "finetune", FinetuneConfig)
def finetune(config: FinetuneConfig) -> None:
    """Train both backbones together with a head, from a run or from scratch; prints the run directory last."""
    if not leads():
        console.hush()
    console.settings("finetune", settings.as_dict(config))
    cores.share()
    with console.progress("loading libraries"):
        from va.train.finetuning import finetune as stage

    def epoch_done(trial: TrainConfig, line: "Epoch") -> None:
        console.note(_epoch_line(trial, line))

    def bars(title: str) -> AbstractContextManager[Callable[..., None]]:
        return console.progress(title, estimate=False)

    done = stage.run(config, screen=stage.Screen(bars=bars, note=console.note, epoch_done=epoch_done))
    failed = done.extracted.failed if done.extracted is not None else {}
    for clip, reason in failed.items():
        console.note(f"failed: {clip}: {reason}")
    console.say(str(done.directory))
    if failed:
        raise VAError(
            f"{len(failed)} clips have no features of the tuned encoders, the first because of "
            f"{next(iter(failed.values()))}",
            "The run is done. Mend or remove the media, and run the same command again for their features.",
        )


@options.stage(app, "sweep-grid", SweepConfig)
def sweep_grid(config: SweepConfig) -> None:
    """Train many trials together and rank them on dev over seeds; prints the best one's run directory last."""
    console.settings("sweep-grid", settings.as_dict(config))
    cores.train()
    with console.progress("loading libraries"):
        from va.evaluate.pages import sweep_page
        from va.train import sweep
    with _stoppable(resume=config.resume), console.progress("training epochs of all trials") as progress:
        results = sweep.run(config, progress=progress)
    page = sweep_page.write_page(results, config.out)
    for trial in results["failed"]:
        console.note(f"failed: {trial['run']}: {trial['message']}")
    if config.json:
        console.say(json.dumps(results))
    else:
        console.table(f"{results['corpus']['name']}, {results['ranked_on']['split']}", *sweep.table(results))
        console.say(str(page))
        console.say(str(config.out / results["best"]["run"]))
    sweep.require_all(results)


@options.stage(app, "ablate", AblateConfig)
def ablate(config: AblateConfig) -> None:
    """Run a table of the paper again on a corpus, beside the published figures; prints the page's path last."""
    console.settings("ablate", settings.as_dict(config))
    cores.train()
    with console.progress("loading libraries"):
        from va.evaluate import ablation
        from va.train import ablate as trials
    with _stoppable(), console.progress("training epochs of all trials") as progress:
        trained = trials.run(config, progress=progress)
    results = _scored(ablation.run, trained, config)
    if config.json:
        console.say(json.dumps(results))
    else:
        for title, header, rows in ablation.tables(results):
            console.table(title, header, rows)
        console.note("published: CCC mean on Aff-Wild2, quoted and not verified here; the page says what differs")
        console.say(str(config.out / "index.html"))
    ablation.require_all(results)


@options.stage(app, "compare-encoders", CompareConfig)
def compare_encoders(config: CompareConfig) -> None:
    """Train the same head on every pair of cached encoders and rank them on dev; prints the page's path last."""
    console.settings("compare-encoders", settings.as_dict(config))
    cores.train()
    with console.progress("loading libraries"):
        from va.evaluate import comparison
        from va.train import compare
    with _stoppable(), console.progress("training epochs of all trials") as progress:
        trained = compare.run(config, progress=progress)
    results = _scored(comparison.run, trained, config)
    if config.json:
        console.say(json.dumps(results))
    else:
        console.table(*comparison.table(results))
        console.note(f"ranked on {results['selected_on']}; {results['split']} is shown beside it and ranks nothing")
        console.say(str(config.out / "index.html"))
    comparison.require_all(results)


def _stoppable(*, resume: bool = True) -> AbstractContextManager[None]:
    """Say what a stop leaves of runs, and how to go on."""
    same = "the same command" if resume else "the same command without --no-resume"
    return console.stoppable(lambda: f"every whole epoch is kept; {same} goes on from there")


def _epoch_line(trial: TrainConfig, line: "Epoch") -> str:
    return (
        f"epoch {line['epoch']:>3}/{trial.epochs}  loss {line['loss']:.4f}  "
        f"ccc_loss {line['ccc_loss']:.4f}  kl {line['region_kl']:.4f}  "
        f"{'fold' if trial.folds else trial.select_on} CCC V {line['ccc_valence']:.3f}  "
        f"A {line['ccc_arousal']:.3f}  mean {line['ccc_mean']:.3f}" + (" best" if line["best"] else "")
    )


def _scored(run: Callable[..., dict[str, Any]], trained: dict[str, Any], config: RowSettings) -> dict[str, Any]:
    """Score a table's runs; name those that failed, and say where clips are few."""
    from va.evaluate import row_scores

    with _stoppable(), console.progress("scoring runs") as progress:
        results = run(
            trained,
            out=config.out,
            corpus=config.corpus,
            features_root=config.features,
            split=config.split,
            resamples=config.resamples,
            device=config.device,
            progress=progress,
        )
    for trial in results["failed"]:
        console.note(f"failed: {trial['run']}: {trial['message']}")
    if few := row_scores.few_clips(results):
        console.note(few)
    return results
