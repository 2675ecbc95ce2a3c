import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stacking import assert_stack_is_each_alone, outputs_and_gradients
from torch import nn

from va.extract import logmel
from va.extract.inputs import MEL_FLOOR
from va.model import cnn
from va.model.cnn import Conv2d, LogMelCNN
from va.model.layers import stack

WIDTH, ROWS, BINS = 8, 50, 64
DIM = ROWS * BINS


@pytest.fixture
def module():
    torch.manual_seed(0)
    return LogMelCNN(width=WIDTH).double()


def decibels(*shape, seed=5):
    """Features of float64 [*shape, 3200] in [-100, 0]."""
    return -100 * torch.rand(*shape, DIM, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def a_mask(*shape, seed=6):
    valid = torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6
    assert valid.any() and not valid.all()
    return valid


def test_the_layout_is_the_extractors():
    assert cnn.ROWS_PER_STEP == logmel.ROWS_PER_CELL
    assert cnn.BINS == logmel.BINS
    assert pytest.approx(10 * np.log10(MEL_FLOOR)) == cnn.SILENCE_DB


class Library(nn.Module):
    """The network of stock modules, on pictures laid out by hand."""

    def __init__(self, ours):
        super().__init__()
        convolutions = [nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in ((1, 16), (16, 32), (32, 64))]
        first, second, third = convolutions
        self.picture = nn.Sequential(
            *(first, nn.ReLU(), nn.MaxPool2d((2, 2))),
            *(second, nn.ReLU(), nn.MaxPool2d((5, 2))),
            *(third, nn.ReLU(), nn.AvgPool2d((5, 2))),
        )
        self.output = nn.Linear(64 * 8, WIDTH)
        self.double()
        for theirs, mine in zip(
            (*convolutions, self.output), (ours.first, ours.second, ours.third, ours.output), strict=True
        ):
            theirs.load_state_dict(mine.state_dict())

    def forward(self, features, valid):
        windows = []
        for window, kept in zip(features, valid, strict=True):
            steps = [
                step.reshape(ROWS, BINS) if is_valid else torch.full((ROWS, BINS), -100.0, dtype=torch.float64)
                for step, is_valid in zip(window, kept, strict=True)
            ]
            seen = self.picture((torch.cat(steps)[None, None] + 100) / 50)  # [1, 64, S, 8]
            windows.append(self.output(seen[0].transpose(0, 1).flatten(1)))
        return torch.stack(windows)


@pytest.mark.parametrize("steps", [1, 4])
def test_values_and_gradients_are_those_of_stock_modules(module, steps):
    features, valid = decibels(3, steps), a_mask(3, steps)
    (out,), gradients = outputs_and_gradients(module, features, valid)
    library = Library(module)
    (expected,), expected_gradients = outputs_and_gradients(library, features, valid)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)
    places = {"first": "picture.0", "second": "picture.3", "third": "picture.6", "output": "output"}
    for ours, theirs in places.items():
        for part in ("weight", "bias"):
            gradient = expected_gradients[f"{theirs}.{part}"]
            torch.testing.assert_close(gradients[f"{ours}.{part}"], gradient, atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(gradients["#0"], expected_gradients["#0"], atol=1e-12, rtol=0)


def test_conv2d_starts_as_the_librarys_does():
    torch.manual_seed(0)
    ours = Conv2d(3, 5)
    torch.manual_seed(0)
    theirs = nn.Conv2d(3, 5, 3, padding=1)
    x = torch.randn(2, 3, 6, 7)
    assert torch.equal(ours.weight, theirs.weight) and torch.equal(ours(x), theirs(x))


def test_a_stack_of_conv2d_is_each_alone():
    torch.manual_seed(0)
    layers = [Conv2d(3, 5).double() for _ in range(4)]
    x = torch.randn(4, 2, 3, 6, 7, dtype=torch.float64)
    together = stack(layers)(x.transpose(0, 1).flatten(1, 2))
    expected = torch.stack([layer(each) for layer, each in zip(layers, x, strict=True)], dim=1)
    torch.testing.assert_close(together, expected.flatten(1, 2), atol=1e-12, rtol=0)


@pytest.mark.parametrize("value", [1e6, torch.inf, torch.nan])
def test_masked_values_change_neither_outputs_nor_gradients(module, value):
    features, valid = decibels(2, 4), a_mask(2, 4)
    outputs, gradients = outputs_and_gradients(module, features, valid)
    changed = torch.where(valid[..., None], features, value)
    others, other_gradients = outputs_and_gradients(module, changed, valid)
    assert outputs[0].isfinite().all() and torch.equal(outputs[0], others[0])
    for name, gradient in gradients.items():
        assert torch.equal(gradient, other_gradients[name]), name


def test_a_masked_step_is_a_silent_one(module):
    features, valid = decibels(2, 4), a_mask(2, 4)
    silent = torch.where(valid[..., None], features, -100.0)
    assert torch.equal(module(features, valid), module(silent, torch.ones_like(valid)))


def test_a_window_of_masked_steps_is_finite_and_trains_nothing_badly(module):
    (out,), gradients = outputs_and_gradients(module, decibels(2, 3), torch.zeros(2, 3, dtype=torch.bool))
    assert torch.equal(out[0], out[1]) and out.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert gradients["#0"].eq(0).all()


def test_a_step_sees_its_neighbours_and_no_further(module):
    features, valid = decibels(1, 7), torch.ones(1, 7, dtype=torch.bool)
    changed = features.clone()
    changed[:, 3] *= 0.5
    moved = (module(changed, valid) - module(features, valid))[0].abs().sum(dim=-1) > 0
    assert moved.nonzero().flatten().tolist() == [2, 3, 4]


def test_loudness_and_pitch_change_the_answer(module):
    valid = torch.ones(1, 2, dtype=torch.bool)
    picture = torch.full((1, 2, ROWS, BINS), -100.0, dtype=torch.float64)
    low, high, loud = (picture.clone() for _ in range(3))
    low[..., 10:14], high[..., 40:44], loud[..., 10:14] = -40.0, -40.0, -20.0
    answers = [module(each.flatten(2), valid)[0, 0] for each in (low, high, loud)]
    assert not torch.allclose(answers[0], answers[1], atol=1e-3)
    assert not torch.allclose(answers[0], answers[2], atol=1e-3)


def test_activations_are_of_about_unit_size():
    torch.manual_seed(0)
    module = LogMelCNN(width=256)
    spoken = (-60 + 15 * torch.randn(2, 3, DIM)).clamp(-100, 0)
    out = module(spoken, torch.ones(2, 3, dtype=torch.bool))
    assert 0.02 < out.std().item() < 2


def test_the_docstring_states_the_size():
    size = sum(parameter.numel() for parameter in LogMelCNN(width=256).parameters())
    assert 100_000 <= size <= 300_000
    assert f"{size:,} parameters at a width of 256" in LogMelCNN.__doc__


def test_a_stack_is_each_alone():
    torch.manual_seed(0)
    modules = [LogMelCNN(width=WIDTH).double() for _ in range(3)]
    assert_stack_is_each_alone(modules, decibels(3, 2, 2), a_mask(3, 2, 2))


@settings(max_examples=5, deadline=None)
@given(order=st.permutations(range(3)))
def test_permuting_the_batch_permutes_the_outputs(order):
    torch.manual_seed(0)
    module = LogMelCNN(width=WIDTH).double()
    features, valid = decibels(3, 2), a_mask(3, 2)
    torch.testing.assert_close(module(features[order], valid[order]), module(features, valid)[order])


def test_features_of_another_encoder_are_refused(module):
    with pytest.raises(ValueError, match="a log-mel step has 3200 numbers, got 768"):
        module(torch.zeros(2, 4, 768), torch.ones(2, 4, dtype=torch.bool))


def test_nothing_waits_for_a_value():
    """On the meta device there are no values, so a branch on one, or a copy to the host, would fail."""
    module = LogMelCNN(width=WIDTH).to("meta")
    out = module(torch.zeros(2, 3, DIM, device="meta"), torch.ones(2, 3, dtype=torch.bool, device="meta"))
    assert out.shape == (2, 3, WIDTH)
