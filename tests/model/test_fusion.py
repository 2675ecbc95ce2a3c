import numpy as np
import pytest
import torch
from torch import nn

from va.model import fusion as fusion_module
from va.model.fusion import CrossModalAttention, GatedFusion, HierarchicalFusion

B, T, S, D, HEADS = 3, 5, 7, 8, 4


@pytest.fixture
def sequences():
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


def numpy_gate(module, sound, video):
    weight, bias = module.linear.weight.detach().numpy(), module.linear.bias.detach().numpy()
    return 1 / (1 + np.exp(-(np.concatenate([sound, video], axis=-1) @ weight.T + bias)))


@pytest.mark.parametrize("num_heads", [1, HEADS])
def test_attention_equals_the_library_one(sequences, num_heads):
    video, audio, audio_valid = sequences
    attention = CrossModalAttention(width=D, num_heads=num_heads).double()
    # The library answers NaN for the window without audio; ours is tested on its own below.
    expected, _ = library_attention(attention)(
        video[:2], audio[:2], audio[:2], key_padding_mask=~audio_valid[:2], need_weights=False
    )
    torch.testing.assert_close(attention(video, audio, audio_valid)[:2], expected, atol=1e-12, rtol=0)


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


@pytest.mark.parametrize("num_heads", [0, 3])
def test_attention_refuses_heads_that_do_not_divide_the_width(num_heads):
    with pytest.raises(ValueError, match="num_heads must divide width 8"):
        CrossModalAttention(width=D, num_heads=num_heads)


def test_gate_equals_numpy(sequences):
    video, audio, _ = sequences
    module = GatedFusion(width=D).double()
    sound = audio[:, :T]
    mix, gate = module(sound, video, torch.tensor([True, True, False]))
    expected = numpy_gate(module, sound.numpy(), video.numpy())
    expected[2] = 0
    np.testing.assert_allclose(gate.detach().numpy(), expected, atol=1e-12)
    by_hand = expected * sound.numpy() + (1 - expected) * video.numpy()
    np.testing.assert_allclose(mix.detach().numpy(), by_hand, atol=1e-12)


def test_gate_leaves_equal_inputs_alone(sequences):
    video, _, _ = sequences
    mix, _ = GatedFusion(width=D).double()(video, video, torch.tensor([True] * B))
    torch.testing.assert_close(mix, video, atol=1e-12, rtol=0)


def test_hierarchical_fusion_is_attention_then_gate(sequences):
    video, audio, audio_valid = sequences
    fusion = HierarchicalFusion(width=D, num_heads=HEADS).double()
    fused, gate = fusion(video, audio, audio_valid)
    attended, _ = library_attention(fusion.attention)(
        video, audio, audio, key_padding_mask=~audio_valid, need_weights=False
    )
    sound, video = attended[:2].detach().numpy(), video.numpy()
    expected_gate = numpy_gate(fusion.gated, sound, video[:2])
    np.testing.assert_allclose(gate[:2].detach().numpy(), expected_gate, atol=1e-12)
    expected = expected_gate * sound + (1 - expected_gate) * video[:2]
    np.testing.assert_allclose(fused[:2].detach().numpy(), expected, atol=1e-12)
    np.testing.assert_array_equal(fused[2].detach().numpy(), video[2])
    np.testing.assert_array_equal(gate[2].detach().numpy(), 0)
