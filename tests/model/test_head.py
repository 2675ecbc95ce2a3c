import math
from pathlib import Path

import pytest
import torch

from va.model.head import TCNShape, VAHead
from va.model.layers import stack, use_streams
from va.model.recurrence import GRUScan
from va.train.losses import ccc_loss, region_kl

METHOD = Path(__file__).parents[2] / "docs" / "method.md"
MODALITIES = ("both", "face", "voice")
TARGETS = ("frames", "end")
TCN = TCNShape(levels=2, kernel=3, dropout=0.1, causal=False)
ARCHITECTURES = [
    *({"modalities": modalities} for modalities in MODALITIES),
    {"fusion": "attention"},
    {"fusion": "gated"},
    {"tcn": TCN},
    {"tcn": TCN, "fusion": "gated", "standardise": True},
    {"tcn": TCN._replace(causal=True), "modalities": "voice"},
]


def name_of(changes):
    return "-".join(f"{name}={value if isinstance(value, str) else 'on'}" for name, value in changes.items())


def outputs_and_gradients(head, batch, *, trials=False):
    """Outputs, and the gradient of one number that every output takes part in, per parameter."""
    head.zero_grad()
    output = head(**batch)
    own = output.va[0] if trials else output.va
    weights = torch.linspace(-1, 1, own.numel()).reshape(own.shape)
    total = (weights * output.va).sum() + output.region_logits[..., :4].square().sum() + output.gate.square().sum()
    total.backward()
    return output, {name: parameter.grad.clone() for name, parameter in head.named_parameters()}


def fused_by_its_parts(head, batch):
    video = head.video(batch["frames"], batch["frame_valid"])
    audio = head.audio(batch["audio"], batch["audio_valid"])
    return head.fusion(video, audio, batch["audio_valid"])


def with_masked_values(batch, value):
    changed = dict(batch)
    for features, valid in (("frames", "frame_valid"), ("audio", "audio_valid")):
        changed[features] = torch.where(batch[valid][..., None], batch[features], value)
        assert not torch.equal(changed[features], batch[features])
    return changed


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("changes", ARCHITECTURES, ids=name_of)
def test_shapes(make_head, batch, changes, target):
    output = make_head(**changes, target=target)(**batch)
    steps = 10 if target == "frames" else 1
    assert output.va.shape == (4, steps, 2)
    assert output.region_logits.shape == (4, steps, 9)
    assert output.gate.shape == (4, steps)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("changes", ARCHITECTURES, ids=name_of)
@pytest.mark.parametrize("value", [1e4, math.inf, math.nan])
def test_masked_values_change_neither_outputs_nor_gradients(make_head, batch, changes, target, value):
    head = make_head(**changes, target=target).eval()
    expected, expected_gradients = outputs_and_gradients(head, batch)
    output, gradients = outputs_and_gradients(head, with_masked_values(batch, value))
    for ours, theirs in zip(output, expected, strict=True):
        assert ours.isfinite().all() and torch.equal(ours, theirs)
    for name, gradient in gradients.items():
        assert gradient.isfinite().all() and torch.equal(gradient, expected_gradients[name]), name


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("features", ["frames", "audio"])
def test_valid_values_do_change_outputs(make_head, batch, features, target):
    head = make_head(target=target)
    changed = dict(batch) | {features: batch[features] + 1}
    assert not torch.allclose(head(**changed).va[0], head(**batch).va[0])


def test_the_mask_itself_changes_outputs(make_head, batch):
    head = make_head()
    for valid in ("frame_valid", "audio_valid"):
        changed = dict(batch) | {valid: torch.ones_like(batch[valid])}
        assert not torch.allclose(head(**changed).va[0], head(**batch).va[0])


def test_a_masked_step_enters_as_the_learned_vector(make_head, batch):
    head = make_head()
    with torch.no_grad():
        head.video.missing.normal_()
    valid = batch["frame_valid"]
    entered = head.video.enter(batch["frames"], valid)
    assert torch.equal(entered[~valid], head.video.missing.expand(int((~valid).sum()), -1))
    projected = head.video.projection(batch["frames"], valid)
    torch.testing.assert_close(entered[valid], projected[valid])


def test_the_learned_vectors_are_trained(make_head, batch):
    _, gradients = outputs_and_gradients(make_head(), batch)
    assert gradients["video.missing"].abs().max() > 0
    assert gradients["audio.missing"].abs().max() > 0


@pytest.mark.parametrize("changes", ARCHITECTURES, ids=name_of)
def test_permuting_the_batch_permutes_the_outputs(make_head, batch, changes):
    head = make_head(**changes).eval()
    order = torch.tensor([2, 0, 3, 1])
    expected = head(**batch)
    permuted = head(**{name: values[order] for name, values in batch.items()})
    for ours, theirs in zip(permuted, expected, strict=True):
        torch.testing.assert_close(ours, theirs[order], atol=1e-5, rtol=1e-5)


def test_a_window_without_audio_uses_the_video_alone(make_head, batch):
    head = make_head()
    video = head.video(batch["frames"], batch["frame_valid"])
    output = head(**batch)
    assert torch.equal(output.va[2], head.output(video)[2])
    assert torch.equal(output.region_logits[2], head.region_head(video)[2])
    assert torch.equal(output.gate[2], torch.zeros(10))
    assert not torch.allclose(output.va[0], head.output(video)[0])


@pytest.mark.parametrize(("trials", "audio_steps", "scans"), [(0, 10, 1), (1, 10, 1), (0, 3, 2), (2, 10, 2)])
def test_the_grus_of_one_head_share_a_scan_where_their_steps_agree(
    make_head, batch, monkeypatch, trials, audio_steps, scans
):
    groups = []
    apply = GRUScan.apply
    monkeypatch.setattr(GRUScan, "apply", lambda x, *rest: (groups.append(len(x)), apply(x, *rest))[1])
    given = dict(batch) | {name: batch[name][:, :audio_steps] for name in ("audio", "audio_valid")}
    if trials:
        stack([make_head() for _ in range(trials)])(**{name: torch.stack([x] * trials) for name, x in given.items()})
    else:
        make_head()(**given)
    assert len(groups) == scans and sum(groups) == 4 * max(1, trials)


def test_audio_with_other_steps_than_the_video(make_head, batch):
    shorter = dict(batch) | {"audio": batch["audio"][:, :3], "audio_valid": batch["audio_valid"][:, :3]}
    assert make_head()(**shorter).va.shape == (4, 10, 2)


def test_frames_are_answered_from_the_fused_features_of_each_step(make_head, batch):
    head = make_head()
    fused, gate = fused_by_its_parts(head, batch)
    output = head(**batch)
    assert torch.equal(output.va, head.output(fused))
    assert torch.equal(output.region_logits, head.region_head(fused))
    assert torch.equal(output.gate, gate.mean(dim=-1))


def test_end_is_one_linear_answer_to_the_mean_of_all_steps(make_head, batch):
    head = make_head(target="end")
    fused, gate = fused_by_its_parts(head, batch)
    output = head(**batch)
    torch.testing.assert_close(output.va[:, 0], head.output(fused).mean(dim=1))
    torch.testing.assert_close(output.region_logits, head.region_head(fused.mean(dim=1, keepdim=True)))
    torch.testing.assert_close(output.gate[:, 0], gate.mean(dim=(1, 2)))


def test_va_is_linear_in_the_fused_features_and_not_clamped(make_head, batch):
    head = make_head()
    before = head(**batch).va
    with torch.no_grad():
        head.output.weight *= 100
        head.output.bias *= 100
    torch.testing.assert_close(head(**batch).va, 100 * before, rtol=1e-4, atol=1e-4)
    assert (100 * before).abs().max() > 1


@pytest.mark.parametrize(("modalities", "absent", "present"), [("face", "audio", "video"), ("voice", "video", "audio")])
def test_one_modality_has_no_parameters_of_the_other(make_head, batch, modalities, absent, present):
    head = make_head(modalities=modalities)
    owners = {name.split(".")[0] for name, _ in head.named_parameters()}
    assert owners == {present, "region_head", "output"}
    names = ("frames", "frame_valid") if modalities == "face" else ("audio", "audio_valid")
    output = head(**batch)
    hidden = getattr(head, present)(*(batch[name] for name in names))
    assert torch.equal(output.va, head.output(hidden))
    assert torch.equal(output.gate, torch.full((4, 10), 0.0 if modalities == "face" else 1.0))


def test_voice_needs_a_sound_step_per_video_step(make_head, batch):
    shorter = dict(batch) | {"audio": batch["audio"][:, :3], "audio_valid": batch["audio_valid"][:, :3]}
    with pytest.raises(ValueError, match="S == T, got 3 and 10"):
        make_head(modalities="voice")(**shorter)


@pytest.mark.parametrize("valid", ["frame_valid", "audio_valid"])
def test_a_mask_of_another_shape_is_refused(make_head, batch, valid):
    with pytest.raises(ValueError, match="does not fit"):
        make_head()(**(dict(batch) | {valid: batch[valid][:1]}))


@pytest.mark.parametrize(
    ("choice", "value"),
    [("modalities", "video"), ("target", "mean"), ("fusion", "sum")],
)
def test_unknown_choices_are_refused(make_head, choice, value):
    with pytest.raises(ValueError, match=f"{choice} must be one of .*, got '{value}'"):
        make_head(**{choice: value})


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("changes", ARCHITECTURES, ids=name_of)
def test_a_stacked_head_gives_each_trial_what_it_gives_alone(make_head, batch, changes, target):
    """Values and gradients, dropout on: each trial draws from its own stream in any company."""
    trials = []
    for shift in range(3):
        head = make_head(**changes, target=target)
        with torch.no_grad():
            for parameter in head.parameters():
                parameter += 0.1 * shift * torch.randn_like(parameter)
        trials.append((head, {name: values.roll(shift, dims=0) for name, values in batch.items()}))
    alone = []
    for number, (head, own) in enumerate(trials):
        single = stack([head])
        use_streams(single, [torch.Generator().manual_seed(number)])
        alone.append(outputs_and_gradients(single, {name: values[None] for name, values in own.items()}, trials=True))
    together = stack([head for head, _ in trials])
    use_streams(together, [torch.Generator().manual_seed(number) for number in range(3)])
    inputs = {name: torch.stack([own[name] for _, own in trials]) for name in batch}
    output, gradients = outputs_and_gradients(together, inputs, trials=True)
    for number, (expected, expected_gradients) in enumerate(alone):
        for ours, theirs in zip(output, expected, strict=True):
            torch.testing.assert_close(ours[number], theirs[0], atol=1e-6, rtol=1e-5)
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient[number], expected_gradients[name][0], atol=2e-5, rtol=1e-4)


def test_standardised_features_enter_with_the_given_mean_and_scale(make_head, batch):
    head, plain = make_head(standardise=True), make_head()
    mean, scale = torch.randn(6), torch.rand(6) + 0.5
    head.video.projection.mean.copy_(mean)
    head.video.projection.scale.copy_(scale)
    by_hand = dict(batch) | {"frames": (batch["frames"] - mean) * scale}
    torch.testing.assert_close(head(**batch).va, plain(**by_hand).va, atol=1e-6, rtol=1e-5)


def gradient_is_nonzero(head):
    return {
        name: parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
        for name, parameter in head.named_parameters()
    }


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("modalities", MODALITIES)
def test_the_semantic_term_alone_trains_all_but_the_output_layer(make_head, batch, modalities, target):
    head = make_head(modalities=modalities, target=target)
    logits = head(**batch).region_logits
    soft = torch.softmax(torch.randn(logits.shape), dim=-1)
    region_kl(logits, soft, torch.ones(logits.shape[:-1], dtype=torch.bool)).backward()
    reached = gradient_is_nonzero(head)
    assert {name for name, nonzero in reached.items() if not nonzero} == {"output.weight", "output.bias"}


def test_the_ccc_term_alone_trains_all_but_the_region_head(make_head, batch):
    head = make_head()
    prediction = head(**batch).va
    ccc_loss(prediction, torch.rand(prediction.shape), torch.ones(4, 10, dtype=torch.bool)).backward()
    untrained = {name for name, nonzero in gradient_is_nonzero(head).items() if not nonzero}
    assert untrained == {"region_head.projection.weight", "region_head.log_scale"}


def test_the_method_page_states_the_size_of_the_paper_head():
    head = VAHead(
        frame_dim=512,
        audio_dim=768,
        audio_cnn=False,
        prototypes=torch.ones(9, 512),
        width=256,
        num_heads=4,
        modalities="both",
        target="frames",
        tcn=None,
        fusion="hierarchical",
        init_scale=10.0,
        standardise=False,
    )
    sizes = {
        name: sum(parameter.numel() for parameter in module.parameters())
        for name, module in {
            "`video`": head.video,
            "`audio`": head.audio,
            "`fusion.attention`": head.fusion.attention,
            "`fusion.gated`": head.fusion.gated,
            "`region_head`": head.region_head,
            "`output`": head.output,
            "all": head,
        }.items()
    }
    assert sum(sizes.values()) == 2 * sizes["all"]
    page = METHOD.read_text(encoding="utf-8")
    missing = [row for name, size in sizes.items() if (row := f"| {name} | {size:,} |") not in page]
    assert not missing
