"""`--context`: learned vectors before the region texts are trained like the rest, and a run keeps what they give."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import small_tower
import torch
from safetensors.torch import load_file
from small_corpus import FRAME_DIM, Small, identity
from small_tower import WIDTH, store_of

from va.data import prototypes, texttower
from va.data.features import FeatureStore, Source
from va.data.windows import WindowSet
from va.errors import VAError
from va.evaluate import opening, predict
from va.model import layers
from va.model.prompts import region_centers, soft_labels
from va.model.text import RegionTexts
from va.train import checkpoint, context, ensemble, loop, planning, runs
from va.train.config import TrainConfig
from va.train.data import load_pool, open_data
from va.train.losses import ccc_loss, region_kl
from va.train.stack import Stack
from va.train.state import Epoch

CPU = torch.device("cpu")
CONTEXT = "region_head.context"
PROTOTYPES = "region_head.prototypes"


def quiet(config: TrainConfig, line: Epoch) -> None:
    """Hear nothing."""


def tower_of(small: Small) -> RegionTexts:
    return context.load(texttower.find(store_of(small), weights="0" * 32), CPU)


def configs(small: Small, out: Path, **changes: object) -> list[TrainConfig]:
    """Trials that differ in seed, in what the region term is, and in how they are updated."""
    return [
        small.config(out, context=3, seed=0, **changes),
        small.config(out, context=3, seed=1, sigma=0.3, region_weight=0.5, learning_rate=2e-3, **changes),
        small.config(out, context=3, seed=2, weight_decay=0.1, clip_norm=0.5, centers=(-0.8, 0.0, 0.8), **changes),
    ]


def made(configs: list[TrainConfig]) -> tuple[list[loop.Trial], WindowSet, Stack, RegionTexts]:
    data = open_data(configs[0])
    pool = load_pool(configs[0], data, data.corpus.split("train"), CPU)
    planned = planning.plan(configs)
    trials = [runs.make_trial(one, pool) for one in planned]
    head = runs.make_head(planned[0])
    assert data.tower is not None
    texts = context.load(data.tower, CPU)
    return trials, pool, Stack(head, configs=configs, states=[t.state for t in trials], device=CPU, texts=texts), texts


def test_without_the_option_nothing_knows_of_it(towered: Small, small: Small, tmp_path: Path) -> None:
    """Same names, same weights, whether a tower lies there or not; and no trace in the digest."""
    (with_tower,) = runs.train([towered.config(tmp_path / "a", epochs=1)], epoch_done=quiet)
    (without,) = runs.train([small.config(tmp_path / "b", epochs=1)], epoch_done=quiet)
    ours, theirs = (load_file(one / "model.safetensors") for one in (with_tower, without))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items()) and CONTEXT not in ours
    info = json.loads((with_tower / "run.json").read_text())
    assert "context" not in info["identity"]["config"] and "tower" not in info["identity"]
    assert "context_width" not in info["shape"]
    old = dict(info["config"])
    del old["context"]  # as a run of an earlier version has it
    assert checkpoint.config_from(old) == checkpoint.config_from(info["config"])


def test_first_vectors_are_a_stream_of_their_own(towered: Small, tmp_path: Path) -> None:
    """All other first weights are those of a run without context; another seed draws another context."""
    first = {}
    for count, seed in ((0, 0), (3, 0), (5, 0), (3, 1)):
        config = towered.config(tmp_path, context=count, seed=seed)
        (planned,) = planning.plan([config])
        pool = load_pool(config, planned.data, planned.data.corpus.split("train"), CPU)
        first[count, seed] = runs.make_trial(planned, pool)
    plain, three = first[0, 0].state.weights, first[3, 0].state.weights
    assert three.keys() - plain.keys() == {CONTEXT}
    assert all(torch.equal(three[name], tensor) for name, tensor in plain.items())
    assert first[5, 0].state.weights[CONTEXT].shape == (5, WIDTH)
    assert not torch.equal(three[CONTEXT], first[3, 1].state.weights[CONTEXT])
    assert torch.equal(first[3, 0].state.order, first[0, 0].state.order)


def test_steps_are_those_of_the_stock_optimiser_on_each_head_and_tower_alone(towered: Small, tmp_path: Path) -> None:
    """Against AdamW and autograd on one head at a time, with clipping, decay and waiting steps."""
    several = configs(towered, tmp_path)
    trials, pool, stack, texts = made(several)
    heads = []
    for trial, config in zip(trials, several, strict=True):
        (planned,) = planning.plan([config])
        head = runs.make_head(planned)
        head.load_state_dict(trial.state.weights)
        heads.append(
            (head, torch.optim.AdamW(head.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay))
        )
    generator = torch.Generator().manual_seed(0)
    for number in range(5):
        index = torch.randint(len(pool), (3, 8), generator=generator)
        active = [(number + place) % 3 != 0 for place in range(3)]
        stack.step(pool.batch(index), active=active, total_steps=[5] * 3)
        for place, (config, (head, optimiser)) in enumerate(zip(several, heads, strict=True)):
            if not active[place]:
                continue
            batch = pool.batch(index[place])
            assert head.region_head.context is not None
            output = head(*batch[:4], texts(head.region_head.context))
            soft = soft_labels(batch.target, region_centers(config.centers), config.sigma)
            kl = region_kl(output.region_logits, soft, batch.target_valid)
            optimiser.zero_grad()
            (ccc_loss(output.va, batch.target, batch.target_valid) + config.region_weight * kl).backward()
            if config.clip_norm:
                torch.nn.utils.clip_grad_norm_(head.parameters(), config.clip_norm)
            optimiser.step()
    for place, (head, _) in enumerate(heads):
        ours = layers.trial_state(stack.head, place)
        assert (ours[CONTEXT] - trials[place].state.weights[CONTEXT]).abs().max() > 1e-3, "it was trained"
        for name, tensor in head.state_dict().items():
            torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=2e-5, msg=name)


def test_a_run_keeps_the_prototypes_of_its_vectors_and_needs_no_tower(own: Small, tmp_path: Path) -> None:
    (directory,) = runs.train([own.config(tmp_path / "runs", context=3, ema=0.5)], epoch_done=quiet)
    weights = load_file(directory / "model.safetensors")
    torch.testing.assert_close(weights[PROTOTYPES], tower_of(own)(weights[CONTEXT]), atol=1e-6, rtol=0)
    stored = torch.from_numpy(prototypes.read(store_of(own)).values)
    assert (weights[PROTOTYPES] - stored).abs().max() > 0.1
    (store_of(own) / texttower.NAME).unlink()
    run = checkpoint.load_run(directory)
    inputs = opening.open_inputs(run, corpus=None, features_root=None)
    clips = inputs.corpus.split("val")
    official = {"device": CPU, "fill": "interpolate", "label_shift_s": 0.0}
    found = predict.predict_clips(run, inputs, clips, **official)
    run.head.region_head.prototypes.copy_(stored)
    other = predict.predict_clips(run, inputs, clips, **official)
    assert abs(found.raw.regions - other.raw.regions).max() > 1e-2, "the kept prototypes are what it answers with"
    assert abs(found.raw.va - other.raw.va).max() == 0


def test_the_region_term_learns_more_with_context_than_with_its_first_vectors(towered: Small, tmp_path: Path) -> None:
    """The last KL of training is lower than that of the same run whose context stays as it was drawn."""
    differences = []
    for seed in range(2):
        config = towered.config(tmp_path, context=8, seed=seed, epochs=3, patience=3)
        (directory,) = runs.train([config], epoch_done=quiet)
        trials, pool, stack, _ = made([config])
        for _ in range(3):
            index = loop.draw_batches(trials, pool.num_labels())
            means = []
            for rows in index:
                before = trials[0].state.weights[CONTEXT].clone()
                means.append(stack.step(pool.batch(rows), active=[True], total_steps=[99])[0, 1])
                with torch.no_grad():
                    assert stack.head.region_head.context is not None
                    stack.head.region_head.context.copy_(before[None])
        frozen = float(torch.stack(means).mean())
        learned = json.loads((directory / "log.jsonl").read_text().splitlines()[-1])["region_kl"]
        differences.append(frozen - learned)
    assert min(differences) > 0, differences


@pytest.mark.parametrize("changes", [{}, {"temporal": "tcn", "ema": 0.5, "modalities": "voice"}])
def test_a_trial_in_a_stack_equals_the_same_trial_alone(
    changes: dict[str, object], towered: Small, tmp_path: Path
) -> None:
    together = runs.train(configs(towered, tmp_path / "together", epochs=2, **changes), epoch_done=quiet)
    assert {json.loads((one / "run.json").read_text())["trained_together"] for one in together} == {3}
    alike = configs(towered, tmp_path / "alone", epochs=2, **changes)
    for config, directory in zip(alike, together, strict=True):
        (alone,) = runs.train([config], epoch_done=quiet)
        assert alone.name == directory.name
        ours, theirs = (load_file(one / "model.safetensors") for one in (directory, alone))
        for name, tensor in theirs.items():
            assert ours[name].norm() == pytest.approx(float(tensor.norm()), rel=1e-4, abs=1e-7), name
        torch.testing.assert_close(ours[PROTOTYPES], theirs[PROTOTYPES], atol=1e-3, rtol=0)


def test_with_and_without_context_are_two_stacks(towered: Small, tmp_path: Path) -> None:
    several = [towered.config(tmp_path, context=count, epochs=1) for count in (0, 2, 3)]
    directories = runs.train(several, epoch_done=quiet)
    shapes = [load_file(one / "model.safetensors").get(CONTEXT, torch.zeros(0, 0)).shape for one in directories]
    assert shapes == [(0, 0), (2, WIDTH), (3, WIDTH)]


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9, "schedule": "cosine", "clip_norm": 1.0}])
def test_a_run_that_was_interrupted_and_resumed_equals_one_that_was_not(
    changes: dict[str, object], towered: Small, tmp_path: Path
) -> None:
    config = towered.config(tmp_path / "whole", context=3, epochs=3, **changes)
    (whole,) = runs.train([config], epoch_done=quiet)
    resumed = dataclasses.replace(config, out=tmp_path / "resumed")
    for stop in (1, 2):

        def interrupt(config: TrainConfig, line: Epoch, stop: int = stop) -> None:
            if line["epoch"] == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            runs.train([resumed], epoch_done=interrupt)
    (directory,) = runs.train([resumed], epoch_done=quiet)
    for name in ("model.safetensors", "log.jsonl"):
        assert (directory / name).read_bytes() == (whole / name).read_bytes()


def test_a_stack_that_was_killed_between_two_saves_goes_on_to_the_same_bits(towered: Small, tmp_path: Path) -> None:
    def kill(config: TrainConfig, line: Epoch) -> None:
        if line["epoch"] == 2 and config.seed == 1:
            raise KeyboardInterrupt

    whole = runs.train(configs(towered, tmp_path / "whole", epochs=3), epoch_done=quiet)
    with pytest.raises(KeyboardInterrupt):
        runs.train(configs(towered, tmp_path / "killed", epochs=3), epoch_done=kill)
    killed = runs.train(configs(towered, tmp_path / "killed", epochs=3), epoch_done=quiet)
    for ours, theirs in zip(killed, whole, strict=True):
        for name in ("model.safetensors", "log.jsonl"):
            assert (ours / name).read_bytes() == (theirs / name).read_bytes()


def test_an_ensemble_has_each_members_prototypes(own: Small, tmp_path: Path) -> None:
    config = own.config(tmp_path / "runs", context=2, epochs=1, seeds=(0, 1), ensemble=True)
    members = runs.train(planning.expand(config), epoch_done=quiet)
    (store_of(own) / texttower.NAME).unlink()
    run = checkpoint.load_run(ensemble.join(config, members))
    assert run.head.region_head.context is not None and run.head.region_head.context.shape == (2, 2, WIDTH)
    for member, kept in zip(members, run.head.region_head.prototypes, strict=True):
        assert torch.equal(kept, load_file(member / "model.safetensors")[PROTOTYPES])


@pytest.mark.parametrize("changes", [{"folds": 2}, {"folds": 2, "seeds": (0, 1)}], ids=["folds", "folds and seeds"])
def test_folds_with_context_answer_with_their_mean_and_need_no_tower(
    changes: dict[str, object], own: Small, tmp_path: Path
) -> None:
    config = own.config(tmp_path / "runs", context=2, epochs=2, ensemble=True, **changes)
    members = runs.train(planning.expand(config), epoch_done=quiet)
    infos = [json.loads((one / "run.json").read_text()) for one in members]
    assert {info["trained_together"] for info in infos} == {len(members)}, "folds and seeds are one stack"
    (store_of(own) / texttower.NAME).unlink()
    run = checkpoint.load_run(ensemble.join(config, members))
    assert run.config.context == 2
    inputs = opening.open_inputs(run, corpus=None, features_root=None)
    clips = inputs.corpus.split("val")
    official = {"device": CPU, "fill": "interpolate", "label_shift_s": 0.0}
    ours = predict.predict_clips(run, inputs, clips, **official).raw
    theirs = [predict.predict_clips(checkpoint.load_run(member), inputs, clips, **official).raw for member in members]
    for name in ("va", "regions"):
        single = [getattr(one, name) for one in theirs]
        np.testing.assert_allclose(getattr(ours, name), np.mean(single, axis=0), atol=1e-6)
        assert not np.allclose(single[0], single[1])


def test_the_identity_names_the_tower(own: Small, tmp_path: Path) -> None:
    (first,) = planning.plan([own.config(tmp_path, context=2)])
    tensors = small_tower.random_tensors(seed=1)
    texttower.write(store_of(own), small_tower.content(tensors))
    (second,) = planning.plan([own.config(tmp_path, context=2)])
    assert first.identity["tower"] != second.identity["tower"]
    assert {name for name in first.identity if first.identity[name] != second.identity[name]} == {"tower"}


def test_texts_of_another_encoder_bring_their_own_tower(own: Small, tmp_path: Path) -> None:
    """A frame encoder without texts learns context through the tower of the encoder whose texts it borrows."""
    mute = FeatureStore.create(own.features, identity("mute", "frames", FRAME_DIM))
    eye = FeatureStore(store_of(own))
    for clip in eye.clip_ids():
        mute.write(clip, eye.read(clip), Source(size=1, digest="0"))
    config = own.config(tmp_path / "runs", context=2, epochs=1, face_encoder="mute")
    (directory,) = runs.train([config], epoch_done=quiet)
    weights = load_file(directory / "model.safetensors")
    torch.testing.assert_close(weights[PROTOTYPES], tower_of(own)(weights[CONTEXT]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"region_weight": 0.0, "context": 2}, "only the region term trains it", "Leave out --context"),
        ({"context": -1}, "--context: -1 is out of range", "at least 0"),
    ],
)
def test_settings_that_would_train_nothing_are_refused(
    changes: dict[str, object], message: str, hint: str, towered: Small, tmp_path: Path
) -> None:
    with pytest.raises(VAError, match=message) as told:
        towered.config(tmp_path, **changes)
    assert hint in told.value.hint


def test_towers_that_do_not_go_with_the_features_are_refused_before_anything_is_written(
    own: Small, tmp_path: Path
) -> None:
    def told(**changes: object) -> VAError:
        with pytest.raises(VAError) as caught:
            runs.train([own.config(tmp_path / "runs", **{"context": 2, **changes})], epoch_done=quiet)
        assert not (tmp_path / "runs").exists()
        return caught.value

    again = f"Run 'va prompts {own.features} --tower --encoder {store_of(own).name}'."
    room = told(context=11)
    assert "11 vectors and a text of 5 tokens are more than the 16 places" in room.message
    assert room.hint == "Give at most 10, or shorten the texts."
    small_tower.add(own, weights="f" * 32)
    assert (f"is of weights {'f' * 32}" in told().message, told().hint) == (True, again)
    small_tower.add(own, texts=tuple("abcdefghi"))
    assert ("was made for other texts than those in" in told().message, told().hint) == (True, again)
    texttower.write(store_of(own), small_tower.content(small_tower.random_tensors(dim=7)))
    assert ("embeds into 7 numbers, not 8" in told().message, told().hint) == (True, again)
    texttower.write(store_of(own), small_tower.content(small_tower.random_tensors(), heads=5))
    assert "heads must divide width 12, got 5" in told().message
    (store_of(own) / texttower.NAME).unlink()
    assert ("has no text tower" in told().message, told().hint) == (True, again)


def test_the_most_that_fits_is_trained(towered: Small, tmp_path: Path) -> None:
    (directory,) = runs.train([towered.config(tmp_path, context=10, epochs=1)], epoch_done=quiet)
    assert load_file(directory / "model.safetensors")[CONTEXT].shape == (10, WIDTH)
