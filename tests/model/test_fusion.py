import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stacking import assert_stack_is_each_alone, outputs_and_gradients
from torch import nn

from va.model import fusion as fusion_module
from va.model.fusion import AttentionFusion, CrossModalAttention, GatedAlone, GatedFusion, HierarchicalFusion

B, T, S, D, HEADS = 3, 5, 7, 8, 4
FUSIONS = (HierarchicalFusion, AttentionFusion, GatedAlone)


@pytest.fixture
def sequences():
    """Video, audio and its mask: whole, with gaps, without any audio."""
    torch.manual_seed(0)
    video, audio = torch.randn(B, T, D, dtype=torch.float64), torch.randn(B, S, D, dtype=torch.float64)
    audio_valid = torch.tensor([[True] * S, [True, False, True, False, False, True, True], [False] * S])
    return video, audio, audio_valid


def library_attention(ours):
    """`torch.nn.MultiheadAttention` with the same weights and a key bias of zero."""
    theirs = nn.MultiheadAttention(D, ours.num_heads, batch_first=True).double()
    parts = (ours.query, ours.key, ours.value)
    zero = torch.zeros(D, dtype=torch.float64)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([zero if part.bias is None else part.bias for part in parts]))
        theirs.out_proj.weight.copy_(ours.output.weight)
        theirs.out_proj.bias.copy_(ours.output.bias)
    return theirs


class Library(nn.Module):
    """The library's attention called like ours."""

    def __init__(self, ours):
        super().__init__()
        self.attention = library_attention(ours)

    def forward(self, video, audio, audio_valid):
        return self.attention(video, audio, audio, key_padding_mask=~audio_valid, need_weights=False)[0]


def numpy_gate(module, sound, video):
    weight, bias = module.linear.weight.detach().numpy(), module.linear.bias.detach().numpy()
    return 1 / (1 + np.exp(-(np.concatenate([sound, video], axis=-1) @ weight.T + bias)))


@pytest.mark.parametrize("num_heads", [1, HEADS])
def test_attention_equals_the_library_one(sequences, num_heads):
    # The library answers NaN for the window without audio; ours is tested on its own below.
    video, audio, audio_valid = (x[:2] for x in sequences)
    attention = CrossModalAttention(width=D, num_heads=num_heads).double()
    (attended,), gradients = outputs_and_gradients(attention, video, audio, audio_valid)
    (expected,), theirs = outputs_and_gradients(Library(attention), video, audio, audio_valid)
    torch.testing.assert_close(attended, expected, atol=1e-12, rtol=0)
    for name in ("#0", "#1"):
        torch.testing.assert_close(gradients[name], theirs[name], atol=1e-12, rtol=0)
    weights = torch.cat([gradients[f"{part}.weight"] for part in ("query", "key", "value")])
    torch.testing.assert_close(weights, theirs["attention.in_proj_weight"], atol=1e-12, rtol=0)
    for part in ("weight", "bias"):
        ours = gradients[f"output.{part}"]
        torch.testing.assert_close(ours, theirs[f"attention.out_proj.{part}"], atol=1e-12, rtol=0)


def test_attention_has_no_key_bias():
    attention = CrossModalAttention(width=D, num_heads=HEADS)
    biases = {name for name, _ in attention.named_parameters() if name.endswith("bias")}
    assert biases == {"query.bias", "value.bias", "output.bias"}


def test_attention_ignores_steps_that_are_masked(sequences):
    video, audio, audio_valid = sequences
    attention = CrossModalAttention(width=D, num_heads=HEADS).double()
    kept = audio_valid[1]
    alone = attention(video[1:2], audio[1:2, kept], audio_valid[1:2, kept])
    torch.testing.assert_close(attention(video, audio, audio_valid)[1:2], alone, atol=1e-12, rtol=0)


def textbook_attention(query, key, value, attn_mask):
    """The definition, NaN for a query that may attend to nothing, as some backends of the library give it."""
    scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
    return torch.softmax(scores.masked_fill(~attn_mask, -torch.inf), dim=-1) @ value


@pytest.mark.parametrize("backend", [fusion_module.scaled_dot_product_attention, textbook_attention])
def test_attention_without_audio_is_zero_with_zero_gradient(sequences, monkeypatch, backend):
    monkeypatch.setattr(fusion_module, "scaled_dot_product_attention", backend)
    video, audio, audio_valid = sequences
    attention = CrossModalAttention(width=D, num_heads=HEADS).double()
    audio.requires_grad_()
    attended = attention(video, audio, audio_valid)
    assert torch.equal(attended[2], torch.zeros(T, D, dtype=torch.float64))
    assert attended[:2].abs().min() > 0
    attended.sum().backward()
    assert torch.equal(audio.grad[2], torch.zeros(S, D, dtype=torch.float64))
    assert all(parameter.grad.isfinite().all() for parameter in attention.parameters())


def test_attention_over_equal_steps_is_their_value(sequences):
    video, audio, audio_valid = sequences
    attention = CrossModalAttention(width=D, num_heads=HEADS).double()
    constant = audio[:, :1].expand(-1, S, -1)
    expected = attention.output(attention.value(constant[:1, :T]))
    actual = attention(video, constant, audio_valid)[:1]
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("make", [CrossModalAttention, HierarchicalFusion, AttentionFusion])
@pytest.mark.parametrize("num_heads", [0, 3])
def test_attention_refuses_heads_that_do_not_divide_the_width(make, num_heads):
    with pytest.raises(ValueError, match="num_heads must divide width 8"):
        make(width=D, num_heads=num_heads)


def test_gate_equals_numpy(sequences):
    video, audio, _ = sequences
    module = GatedFusion(width=D).double()
    sound = audio[:, :T]
    has_sound = torch.ones(B, T, dtype=torch.bool)
    has_sound[1, 3] = has_sound[2] = False
    mix, gate = module(sound, video, has_sound)
    expected = np.where(has_sound.numpy()[..., None], numpy_gate(module, sound.numpy(), video.numpy()), 0)
    np.testing.assert_allclose(gate.detach().numpy(), expected, atol=1e-12)
    by_hand = expected * sound.numpy() + (1 - expected) * video.numpy()
    np.testing.assert_allclose(mix.detach().numpy(), by_hand, atol=1e-12)


class LibraryGate(nn.Module):
    """The gate of stock modules, as an interpolation between its inputs."""

    def __init__(self, ours):
        super().__init__()
        self.linear = nn.Linear(2 * D, D).double()
        self.linear.load_state_dict(ours.linear.state_dict())

    def forward(self, sound, video, has_sound):
        gate = nn.functional.sigmoid(self.linear(torch.cat((sound, video), dim=-1))) * has_sound[..., None]
        return torch.lerp(video, sound, gate), gate


def test_gate_and_its_gradients_are_those_of_stock_modules(sequences):
    video, audio, _ = sequences
    module = GatedFusion(width=D).double()
    arguments = (audio[:, :T], video, torch.tensor([[True], [True], [False]]))
    outputs, gradients = outputs_and_gradients(module, *arguments)
    expected, theirs = outputs_and_gradients(LibraryGate(module), *arguments)
    for ours, other in zip(outputs, expected, strict=True):
        torch.testing.assert_close(ours, other, atol=1e-12, rtol=0)
    assert gradients.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(gradients[name], gradient, atol=1e-12, rtol=0)


def test_gate_leaves_equal_inputs_alone(sequences):
    video, _, _ = sequences
    mix, _ = GatedFusion(width=D).double()(video, video, torch.ones(B, 1, dtype=torch.bool))
    torch.testing.assert_close(mix, video, atol=1e-12, rtol=0)


def test_hierarchical_fusion_is_attention_then_gate(sequences):
    video, audio, audio_valid = sequences
    fusion = HierarchicalFusion(width=D, num_heads=HEADS).double()
    fused, gate = fusion(video, audio, audio_valid)
    attended = Library(fusion.attention)(video, audio, audio_valid)
    sound, video = attended[:2].detach().numpy(), video.numpy()
    expected_gate = numpy_gate(fusion.gated, sound, video[:2])
    np.testing.assert_allclose(gate[:2].detach().numpy(), expected_gate, atol=1e-12)
    expected = expected_gate * sound + (1 - expected_gate) * video[:2]
    np.testing.assert_allclose(fused[:2].detach().numpy(), expected, atol=1e-12)
    np.testing.assert_array_equal(fused[2].detach().numpy(), video[2])
    np.testing.assert_array_equal(gate[2].detach().numpy(), 0)


def test_attention_alone_is_f_attn_with_an_open_gate(sequences):
    fusion = AttentionFusion(width=D, num_heads=HEADS).double()
    fused, gate = fusion(*sequences)
    expected = Library(fusion.attention)(*sequences)
    torch.testing.assert_close(fused[:2], expected[:2], atol=1e-12, rtol=0)
    assert gate[:2].eq(1).all()
    assert fused[2].eq(0).all() and gate[2].eq(0).all()
    assert gate.shape == fused.shape and gate.dtype == fused.dtype


def centers(count):
    return (np.arange(count) + 0.5) / count


def numpy_sound(audio, num_steps):
    """[B, S, D] to [B, T, D] by `numpy.interp`, which holds the ends."""
    times = centers(num_steps)
    return np.stack(
        [
            np.stack([np.interp(times, centers(audio.shape[1]), feature) for feature in window.T], axis=-1)
            for window in audio
        ]
    )


def sound_and_fusion(fusion, video, audio, audio_valid):
    """The sound that the gate of `GatedAlone` is given, and which steps it says have one."""
    seen = []
    handle = fusion.gated.register_forward_pre_hook(lambda _, arguments: seen.append(arguments))
    fused, gate = fusion(video, audio, audio_valid)
    handle.remove()
    sound, _, has_sound = seen[0]
    return sound.detach().numpy(), has_sound.numpy(), fused.detach().numpy(), gate.detach().numpy()


@pytest.mark.parametrize("num_audio", [1, 2, 3, 5, 7, 10, 33])
def test_gate_alone_interpolates_as_numpy_does(num_audio):
    torch.manual_seed(0)
    video, audio = torch.randn(2, T, D, dtype=torch.float64), torch.randn(2, num_audio, D, dtype=torch.float64)
    fusion = GatedAlone(width=D, num_heads=HEADS).double()
    sound, has_sound, fused, gate = sound_and_fusion(fusion, video, audio, torch.ones(2, num_audio, dtype=torch.bool))
    expected = numpy_sound(audio.numpy(), T)
    np.testing.assert_allclose(sound, expected, atol=1e-12)
    assert has_sound.all()
    expected_gate = numpy_gate(fusion.gated, expected, video.numpy())
    np.testing.assert_allclose(gate, expected_gate, atol=1e-12)
    np.testing.assert_allclose(fused, expected_gate * expected + (1 - expected_gate) * video.numpy(), atol=1e-12)


def test_gate_alone_with_as_many_steps_takes_the_sound_as_it_is(sequences):
    video, audio, audio_valid = sequences
    video = torch.randn(B, S, D, dtype=torch.float64)
    sound, has_sound, *_ = sound_and_fusion(GatedAlone(width=D, num_heads=HEADS).double(), video, audio, audio_valid)
    np.testing.assert_array_equal(has_sound, audio_valid.numpy())
    np.testing.assert_array_equal(sound[has_sound], audio.numpy()[has_sound])


def masked_interpolation(audio, valid, num_steps):
    """One window [S, D], step by step: the valid ones of the two audio steps around a video step."""
    sound, has_sound = np.zeros((num_steps, audio.shape[1])), np.zeros(num_steps, bool)
    for step in range(num_steps):
        # Exact, as times are compared with each other: in units of 1 / (2 T S) of the window.
        time = (2 * step + 1) * len(audio)
        audio_times = (2 * np.arange(len(audio)) + 1) * num_steps
        time = min(max(time, audio_times[0]), audio_times[-1])
        near = [s for s in range(len(audio)) if abs(audio_times[s] - time) < 2 * num_steps]
        assert 1 <= len(near) <= 2
        kept = [s for s in near if valid[s]]
        has_sound[step] = bool(kept)
        if len(kept) == 1:
            sound[step] = audio[kept[0]]
        elif kept:
            share = (time - audio_times[kept[0]]) / (2 * num_steps)
            sound[step] = (1 - share) * audio[kept[0]] + share * audio[kept[1]]
    return sound, has_sound


@settings(max_examples=60, deadline=None)
@given(valid=st.lists(st.booleans(), min_size=1, max_size=12), num_steps=st.integers(1, 12))
def test_gate_alone_interpolates_over_valid_steps_only(valid, num_steps):
    generator = torch.Generator().manual_seed(0)
    video = torch.randn(1, num_steps, D, generator=generator, dtype=torch.float64)
    audio = torch.randn(1, len(valid), D, generator=generator, dtype=torch.float64)
    audio_valid = torch.tensor([valid])
    fusion = GatedAlone(width=D, num_heads=HEADS).double()
    hidden = torch.where(audio_valid[..., None], audio, torch.nan)
    sound, has_sound, fused, gate = sound_and_fusion(fusion, video, hidden, audio_valid)
    expected, expected_has = masked_interpolation(audio[0].numpy(), valid, num_steps)
    np.testing.assert_allclose(sound[0], expected, atol=1e-12)
    np.testing.assert_array_equal(has_sound[0], expected_has)
    np.testing.assert_array_equal(fused[0][~expected_has], video[0].numpy()[~expected_has])
    assert (gate[0][~expected_has] == 0).all() and (gate[0][expected_has] > 0).all()


def test_gate_alone_has_no_attention():
    assert {name for name, _ in GatedAlone(width=D, num_heads=HEADS).named_parameters()} == {
        "gated.linear.weight",
        "gated.linear.bias",
    }


@pytest.mark.parametrize("make", FUSIONS)
@pytest.mark.parametrize("value", [1e4, -3.0])
def test_masked_audio_changes_neither_outputs_nor_gradients(sequences, make, value):
    video, audio, audio_valid = sequences
    fusion = make(width=D, num_heads=HEADS).double()
    outputs, gradients = outputs_and_gradients(fusion, video, audio, audio_valid)
    changed = torch.where(audio_valid[..., None], audio, value)
    others, other_gradients = outputs_and_gradients(fusion, video, changed, audio_valid)
    for ours, theirs in zip(outputs, others, strict=True):
        assert torch.equal(ours, theirs)
    for name, gradient in gradients.items():
        assert torch.equal(gradient, other_gradients[name]), name
    assert gradients["#1"][~audio_valid].eq(0).all()
    assert gradients["#1"][audio_valid].abs().sum() > 0


@pytest.mark.parametrize("make", [HierarchicalFusion, AttentionFusion])
def test_padding_the_audio_with_masked_steps_changes_nothing_in_attention(sequences, make):
    video, audio, audio_valid = sequences
    fusion = make(width=D, num_heads=HEADS).double()
    longer = nn.functional.pad(audio, (0, 0, 0, 4), value=9.0), nn.functional.pad(audio_valid, (0, 4))
    for ours, theirs in zip(fusion(video, *longer), fusion(video, audio, audio_valid), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize("make", FUSIONS)
def test_a_batch_without_any_audio(sequences, make):
    video, audio, audio_valid = sequences
    fusion = make(width=D, num_heads=HEADS).double()
    (fused, gate), gradients = outputs_and_gradients(fusion, video, audio, torch.zeros_like(audio_valid))
    assert torch.equal(fused, torch.zeros_like(video) if make is AttentionFusion else video)
    assert gate.eq(0).all()
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert gradients["#1"].eq(0).all()


@pytest.mark.parametrize("make", FUSIONS)
@pytest.mark.parametrize("num_steps", [T, S])
def test_a_stack_is_each_alone(make, num_steps):
    torch.manual_seed(0)
    video = torch.randn(3, B, num_steps, D, dtype=torch.float64)
    audio = torch.randn(3, B, S, D, dtype=torch.float64)
    audio_valid = torch.rand(3, B, S) < 0.6
    audio_valid[:, 0], audio_valid[1, 2] = True, False
    modules = [make(width=D, num_heads=HEADS).double() for _ in range(3)]
    assert_stack_is_each_alone(modules, video, audio, audio_valid)


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(4)), make=st.sampled_from(FUSIONS), seed=st.integers(0, 99))
def test_permuting_the_batch_permutes_the_outputs(order, make, seed):
    generator = torch.Generator().manual_seed(seed)
    video = torch.randn(4, T, D, generator=generator, dtype=torch.float64)
    audio = torch.randn(4, S, D, generator=generator, dtype=torch.float64)
    audio_valid = torch.rand(4, S, generator=generator) < 0.5
    fusion = make(width=D, num_heads=HEADS).double()
    permuted = fusion(video[order], audio[order], audio_valid[order])
    for ours, theirs in zip(permuted, fusion(video, audio, audio_valid), strict=True):
        torch.testing.assert_close(ours, theirs[order], atol=1e-12, rtol=0)


@pytest.mark.parametrize("make", FUSIONS)
def test_nothing_waits_for_a_value(make):
    """On the meta device there are no values, so a branch on one, or a copy to the host, would fail."""
    fusion = make(width=D, num_heads=HEADS).to("meta")
    video, audio = torch.zeros(B, T, D, device="meta"), torch.zeros(B, S, D, device="meta")
    fused, gate = fusion(video, audio, torch.ones(B, S, dtype=torch.bool, device="meta"))
    assert fused.shape == gate.shape == (B, T, D)
