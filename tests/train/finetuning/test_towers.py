"""One update of the backbones against plain autograd over the whole batch, and everything an update leaves behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_towers import (
    CPU,
    Pair,
    gradients,
    loss_of,
    make_head,
    make_towers,
    one_pass,
    plain,
    plain_inputs,
    rates_of,
    real,
    real_inputs,
    recording,
    small_ast,
    vit,
    whole_batch,
)
from torch import Tensor

from va.errors import VAError
from va.extract import encoders
from va.extract.config import ExtractConfig
from va.train.finetuning.towers import Towers
from va.train.finetuning.window_inputs import WindowInputs

KINDS = {
    "float64": (plain, plain_inputs, torch.float64, 1e-12),
    "float32": (real, real_inputs, torch.float32, 1e-4),
}
Kind = tuple[Callable[[], Pair], Callable[..., WindowInputs], torch.dtype, float]


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param  # type: ignore[no-any-return]


def assert_close(found: dict[str, Tensor], expected: dict[str, Tensor], *, tolerance: float) -> None:
    """Equal up to a share of the largest gradient of each part: sums are rounded in another order."""
    assert found.keys() == expected.keys()
    for part in ("face", "voice", "head"):
        names = [name for name in expected if name.startswith(part)]
        scale = max(float(expected[name].abs().max()) for name in names)
        assert scale > 1e-6
        for name in names:
            torch.testing.assert_close(found[name], expected[name], rtol=0, atol=tolerance * scale, msg=name)


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("micro_batch", [1, 3, 100])
def test_micro_batches_give_the_gradients_of_the_whole_batch(kind: Kind, micro_batch: int) -> None:
    make, draw, dtype, tolerance = kind
    inputs = draw(7)
    pair = make()
    head = make_head(pair, dtype)
    loss, expected = whole_batch(pair, head, inputs)
    towers = make_towers(pair, micro_batch=micro_batch)
    found = one_pass(towers, head, inputs)
    torch.testing.assert_close(found, loss, rtol=tolerance, atol=0)
    of_head = {f"head/{name}": each.grad for name, each in head.named_parameters() if each.grad is not None}
    assert_close(gradients(towers) | of_head, expected, tolerance=tolerance)


@pytest.mark.parametrize("kind", ["face", "voice"])
def test_gradients_agree_with_finite_differences_of_the_loss(kind: str) -> None:
    pair, inputs = plain(), plain_inputs(7)
    towers, head = make_towers(pair, micro_batch=3), make_head(pair, torch.float64)
    one_pass(towers, head, inputs)
    generator, found = torch.Generator().manual_seed(0), gradients(towers)
    learning = towers.towers[kind].learning
    way = {name: torch.randn(each.shape, generator=generator, dtype=each.dtype) for name, each in learning.items()}
    slope = sum(float((found[f"{kind}/{name}"] * each).sum()) for name, each in way.items())
    losses, far = [], 1e-5
    for distance in (far, -2 * far):  # from one side to the other
        with torch.no_grad():
            for name, each in learning.items():
                each.add_(distance * way[name])
        losses.append(float(loss_of(head, towers.encode(inputs)).detach()))
    assert abs(slope) > 1e-2
    assert (losses[0] - losses[1]) / (2 * far) == pytest.approx(slope, rel=1e-5)


def test_checkpointing_gives_the_same_bits(kind: Kind) -> None:
    make, draw, dtype, _ = kind
    found = []
    for checkpointing in (False, True):
        pair = make()
        towers = make_towers(pair, checkpointing=checkpointing, micro_batch=2)
        one_pass(towers, make_head(pair, dtype), draw(5))
        found.append(gradients(towers))
    assert same_bits(*found)


def test_checkpointing_keeps_only_what_enters_blocks() -> None:
    kept = {}
    for checkpointing in (False, True):
        towers = make_towers(pair := real(), checkpointing=checkpointing, micro_batch=4)
        features = towers.encode(inputs := real_inputs(4))
        loss_of(make_head(pair, torch.float32), features).backward()
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            towers.learn(inputs, features)
        kept[checkpointing] = sum(sizes)
    assert kept[True] < kept[False] / 3


def test_both_passes_give_the_same_bits_and_only_real_inputs_are_encoded(kind: Kind) -> None:
    make, draw, dtype, _ = kind
    seen: list[list[tuple[int, Tensor]]] = [[], []]
    inputs = draw(5)
    plain_pair = make()
    pair = tuple(recording(encoder, found) for encoder, found in zip(plain_pair, seen, strict=True))
    towers = make_towers(pair, micro_batch=2)
    for found in seen:
        found.clear()  # what the towers' study has encoded
    one_pass(towers, make_head(plain_pair, dtype), inputs)
    for found, real_count in zip(seen, (int(inputs.seen.sum()), int((inputs.rows > 0).sum())), strict=True):
        half = len(found) // 2
        assert sum(count for count, _ in found[:half]) == real_count
        for (_, first), (_, second) in zip(found[:half], found[half:], strict=True):
            assert torch.equal(first, second)


def test_what_is_masked_is_zero_and_reaches_nothing() -> None:
    inputs = plain_inputs(6)
    results = []
    for fill in (0.0, float("nan")):
        given = inputs._replace(
            pictures=inputs.pictures.masked_fill(~inputs.seen[..., None], fill),
            spectra=inputs.spectra.masked_fill((inputs.rows == 0)[:, None], fill),
        )
        pair = plain()
        towers, head = make_towers(pair, micro_batch=2), make_head(pair, torch.float64)
        features = towers.encode(given)
        assert not features.frames[~features.frame_valid].any() and not features.audio[~features.audio_valid].any()
        assert features.frame_valid.equal(inputs.seen)
        assert features.audio_valid.sum(dim=1).tolist() == inputs.rows.tolist()
        loss_of(head, features).backward()
        assert features.frames.grad is not None and features.audio.grad is not None
        features.frames.grad[~features.frame_valid] = fill
        features.audio.grad[~features.audio_valid] = fill
        towers.learn(given, features)
        results.append(gradients(towers))
    assert same_bits(*results)


def test_a_batch_without_any_input_only_decays() -> None:
    pair = plain()
    towers = make_towers(pair, learning_rate=0.1, weight_decay=0.5)
    before = towers.state()["weights/face/top.weight"].clone()
    inputs = plain_inputs(3)
    nothing = inputs._replace(seen=torch.zeros_like(inputs.seen), rows=torch.zeros_like(inputs.rows))
    one_pass(towers, make_head(pair, torch.float64), nothing)
    assert not any(grad.any() for grad in gradients(towers).values())
    towers.update(factor=1.0)
    torch.testing.assert_close(towers.state()["weights/face/top.weight"], before * (1 - 0.1 * 0.5))


def test_frozen_towers_stay_and_ask_for_no_gradient() -> None:
    pair = real()
    towers = make_towers(pair, thaw_face=0, thaw_voice=1)
    inputs = real_inputs(3)
    before = {name: tensor.clone() for name, tensor in pair[0].tower.state_dict().items()}  # type: ignore[union-attr]
    features = towers.encode(inputs)
    assert not features.frames.requires_grad and features.audio.requires_grad
    one_pass(towers, make_head(pair, torch.float32), inputs)
    assert all(name.startswith(("voice/layers.1.", "voice/layernorm.")) for name in gradients(towers))
    towers.update(factor=1.0)
    assert same_bits(before, pair[0].tower.state_dict())  # type: ignore[union-attr]

    frozen = make_towers(real(), thaw_face=0, thaw_voice=0, ema=0.9)
    one_pass(frozen, make_head(pair, torch.float32), inputs)
    frozen.update(factor=1.0)
    assert frozen.state().keys() == {"steps"}


def test_features_are_those_of_stage_one() -> None:
    pair = real()
    inputs = real_inputs(4)
    features = make_towers(pair).encode(inputs)
    with torch.inference_mode():
        pictures = pair[0].encode(inputs.pictures[inputs.seen])
        sounds = pair[1].encode(inputs.spectra[:1], inputs.rows[:1])[0]
    torch.testing.assert_close(features.frames.detach()[inputs.seen], pictures, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(features.audio.detach()[0], sounds, rtol=1e-4, atol=1e-5)


def test_an_encoder_without_a_network_only_encodes() -> None:
    config = ExtractConfig(corpus=Path("c"), out=Path("o"), window_s=2.0, stride_s=1.0)
    logmel = encoders.build("logmel", config=config, device=CPU)
    inputs = real_inputs(3)._replace(spectra=torch.randn(3, 200, 64), rows=torch.tensor([198, 0, 60]))
    features = make_towers((vit(), logmel)).encode(inputs)
    assert features.frames.requires_grad and not features.audio.requires_grad
    assert features.audio_valid.tolist() == [[True] * 4, [False] * 4, [True, True, False, False]]
    torch.testing.assert_close(features.audio[0], inputs.spectra[0].reshape(4, 3200))
    assert not features.audio[1].any() and not features.audio[2, 2:].any()


def plain_update(
    pair: Pair, rates: dict[str, tuple[float, float]], grads: list[dict[str, Tensor]], *, clip: float, factor: float
) -> dict[str, Tensor]:
    """AdamW by its paper's formulas (Loshchilov and Hutter 2019, algorithm 2), one parameter after the other."""
    values = {
        f"{kind}/{name}": parameter.detach().clone()
        for kind, encoder in zip(("face", "voice"), pair, strict=True)
        for name, parameter in encoder.tower.named_parameters()  # type: ignore[union-attr]
    }
    first = {name: torch.zeros_like(values[name]) for name in rates}
    second = {name: torch.zeros_like(values[name]) for name in rates}
    for step, each in enumerate(grads, 1):
        norm = torch.sqrt(sum((grad.square().sum() for grad in each.values()), start=torch.zeros(())))
        for name, (rate, decay) in rates.items():
            grad = each[name] * min(1.0, clip / float(norm))
            first[name] = 0.9 * first[name] + 0.1 * grad
            second[name] = 0.999 * second[name] + 0.001 * grad.square()
            change = first[name] / (1 - 0.9**step) / ((second[name] / (1 - 0.999**step)).sqrt() + 1e-8)
            values[name] = values[name] * (1 - rate * factor * decay) - rate * factor * change
    return values


def both_rates(towers: Towers) -> dict[str, tuple[float, float]]:
    return {
        f"{kind}/{name}": rate for kind, tower in towers.towers.items() for name, rate in rates_of(tower.groups).items()
    }


def test_an_update_is_adamw_clipped_over_both_towers() -> None:
    pair = plain()
    head = make_head(pair, torch.float64)
    towers = make_towers(pair, layer_decay=0.5, clip_norm=0.01)
    rates = both_rates(towers)
    original = plain()
    grads = []
    for step in range(3):
        one_pass(towers, head, plain_inputs(5, seed=step))
        grads.append(gradients(towers))
        towers.update(factor=0.5)
        assert not any(grad.any() for grad in gradients(towers).values())
    assert all(sum(float(grad.square().sum()) for grad in each.values()) > 0.01**2 for each in grads)
    expected = plain_update(original, rates, grads, clip=0.01, factor=0.5)
    for name in rates:
        torch.testing.assert_close(towers.state()[f"weights/{name}"], expected[name], rtol=1e-9, atol=1e-12)
    assert torch.equal(pair[0].tower.idle.weight, original[0].tower.idle.weight)  # type: ignore[union-attr]


def test_averages_answer_and_leave_without_a_third_copy() -> None:
    pair = plain()
    tower: Any = pair[0].tower
    towers, head = make_towers(pair, ema=0.75), make_head(pair, torch.float64)
    average = tower.top.weight.detach().clone()
    for step in range(3):
        one_pass(towers, head, plain_inputs(5, seed=step))
        towers.update(factor=1.0)
        average = 0.75 * average + 0.25 * tower.top.weight.detach()
    now, places = tower.top.weight.detach().clone(), {tower.top.weight.data_ptr(), *_pointers(towers)}
    with towers.answering() as (face, voice):
        assert face is pair[0] and voice is pair[1]
        torch.testing.assert_close(tower.top.weight.detach(), average, rtol=1e-12, atol=0)
        assert {tower.top.weight.data_ptr(), *_pointers(towers)} == places
        assert not torch.equal(tower.top.weight, now)
    assert torch.equal(tower.top.weight, now)
    before = towers.state()["ema/face/top.weight"].clone()
    one_pass(towers, head, plain_inputs(5))
    towers.update(factor=1.0)  # still updates what answers nothing now
    assert not torch.equal(before, towers.state()["ema/face/top.weight"])
    assert "ema/face/idle.weight" not in towers.state()


def _pointers(towers: Towers) -> set[int]:
    return {tensor.data_ptr() for name, tensor in towers.state().items() if name.startswith("ema/face/top.weight")}


def test_without_averages_what_learns_answers() -> None:
    pair = plain()
    with make_towers(pair).answering() as found:
        assert found == pair


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_going_on_from_a_state_gives_the_same_bits(kind: Kind, ema: float) -> None:
    make, draw, dtype, _ = kind
    changes = {"ema": ema, "clip_norm": 0.5, "micro_batch": 2, "layer_decay": 0.9}

    def go_on(towers: Towers, pair: Pair, steps: range) -> None:
        for step in steps:
            one_pass(towers, make_head(pair, dtype), draw(4, seed=step))
            towers.update(factor=1 / (1 + step))

    straight = make_towers(pair := make(), **changes)
    go_on(straight, pair, range(4))
    begun = make_towers(pair := make(), **changes)
    go_on(begun, pair, range(2))
    saved = {name: tensor.clone() for name, tensor in begun.state().items()}
    resumed = make_towers(pair := make(), **changes)
    go_on(resumed, pair, range(1))  # something else, to be forgotten
    resumed.restore(saved)
    go_on(resumed, pair, range(2, 4))
    assert resumed.steps == 4
    assert same_bits(straight.state(), resumed.state())
    assert not same_bits(saved, resumed.state())


def test_a_state_before_the_first_step() -> None:
    towers = make_towers(plain(), ema=0.9)
    saved = {name: tensor.clone() for name, tensor in towers.state().items()}
    one_pass(towers, make_head(plain(), torch.float64), plain_inputs(4))
    towers.update(factor=1.0)
    towers.restore(saved)
    assert towers.steps == 0 and same_bits(saved, towers.state())


@pytest.mark.parametrize("changes", [{"ema": 0.5}, {"thaw_face": 1}])
def test_a_state_of_other_settings_is_refused(changes: dict[str, Any]) -> None:
    saved = make_towers(plain(), **changes).state()
    with pytest.raises(VAError, match="belongs to other encoders or settings"):
        make_towers(plain()).restore(saved)


def test_bfloat16_is_for_products_only() -> None:
    found = {}
    for precision in ("float32", "bfloat16"):
        towers = make_towers(pair := real(), precision=precision, micro_batch=2)
        head = make_head(pair, torch.float32)
        features = towers.encode(inputs := real_inputs(4))
        assert features.frames.dtype == features.audio.dtype == torch.float32
        loss_of(head, features).backward()
        towers.learn(inputs, features)
        found[precision] = gradients(towers)
        assert {grad.dtype for grad in found[precision].values()} == {torch.float32}
        towers.update(factor=1.0)
        assert {tensor.dtype for tensor in towers.state().values()} == {torch.float32, torch.int64}
    one, other = (torch.cat([grad.flatten() for grad in each.values()]) for each in found.values())
    assert not torch.equal(one, other)
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.99


def test_dropout_of_a_checkpoint_stays_asleep() -> None:
    outputs = []
    for rate in (0.0, 0.5):
        voice = small_ast(hidden_dropout_prob=rate, attention_probs_dropout_prob=rate)
        towers = make_towers((vit(), voice), checkpointing=True)
        one_pass(towers, make_head((vit(), voice), torch.float32), real_inputs(3))
        outputs.append(gradients(towers))
        assert not any(module.training for module in voice.tower.modules())  # type: ignore[union-attr]
    assert same_bits(*outputs)


def test_windows_that_are_not_this_process_own() -> None:
    towers = make_towers(plain())
    features = towers.encode(plain_inputs(4))
    with pytest.raises(ValueError, match="expected this process's 4 windows, got 3"):
        towers.learn(plain_inputs(3), features)
