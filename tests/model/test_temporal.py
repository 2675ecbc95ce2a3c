import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stacking import assert_stack_is_each_alone, outputs_and_gradients
from torch import nn

from va.model.layers import stack, use_streams
from va.model.temporal import TCN, BiGRU, scan_together

NAMES = ("input_weight", "hidden_weight", "input_bias", "hidden_bias")
LIBRARY_NAMES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def tcn(*, width=6, levels=2, kernel=3, dropout=0.0, causal=False):
    return TCN(width=width, levels=levels, kernel=kernel, dropout=dropout, causal=causal)


def sequences(*shape, seed=5):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_gru(steps, weight_ih, weight_hh, bias_ih, bias_hh):
    """One direction of a GRU over [T, D], from the definition of its three gates."""
    hidden = np.zeros(weight_hh.shape[1])
    states = []
    for step in steps:
        reset_x, update_x, new_x = np.split(weight_ih @ step + bias_ih, 3)
        reset_h, update_h, new_h = np.split(weight_hh @ hidden + bias_hh, 3)
        update = sigmoid(update_x + update_h)
        candidate = np.tanh(new_x + sigmoid(reset_x + reset_h) * new_h)
        hidden = (1 - update) * candidate + update * hidden
        states.append(hidden)
    return np.array(states)


def direction_weights(module, direction):
    return [getattr(module, name)[direction].detach().numpy() for name in NAMES]


@pytest.mark.parametrize("num_steps", [1, 7])
def test_bigru_equals_a_handwritten_one(num_steps):
    torch.manual_seed(0)
    module = BiGRU(width=6).double()
    x = torch.randn(3, num_steps, 6, dtype=torch.float64)
    expected = [
        np.concatenate(
            [
                numpy_gru(steps, *direction_weights(module, 0)),
                numpy_gru(steps[::-1], *direction_weights(module, 1))[::-1],
            ],
            axis=1,
        )
        for steps in x.numpy()
    ]
    np.testing.assert_allclose(module(x).detach().numpy(), expected, atol=1e-12)


class LibraryGRU(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gru = nn.GRU(width, width // 2, batch_first=True, bidirectional=True)

    def forward(self, x):
        return self.gru(x)[0]


def test_bigru_is_the_librarys_from_the_same_seed():
    torch.manual_seed(0)
    ours = BiGRU(width=6).double()
    torch.manual_seed(0)
    theirs = LibraryGRU(6).double()
    x = sequences(3, 7, 6)
    (states,), gradients = outputs_and_gradients(ours, x)
    (expected,), expected_gradients = outputs_and_gradients(theirs, x)
    torch.testing.assert_close(states, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(gradients["#0"], expected_gradients["#0"], atol=1e-12, rtol=0)
    for name, library_name in zip(NAMES, LIBRARY_NAMES, strict=True):
        both = [f"gru.{library_name}", f"gru.{library_name}_reverse"]
        assert torch.equal(getattr(ours, name), torch.stack([theirs.get_parameter(each) for each in both]))
        expected = torch.stack([expected_gradients[each] for each in both])
        torch.testing.assert_close(gradients[name], expected, atol=1e-12, rtol=0)


def test_bigru_of_the_paper_has_128_units_a_direction():
    module = BiGRU(width=256)
    assert module.hidden_weight.shape == (2, 3 * 128, 128)
    assert module(torch.zeros(1, 2, 256)).shape == (1, 2, 256)


class Together(nn.Module):
    """Several GRUs in one scan, or one after the other."""

    def __init__(self, modules, *, apart):
        super().__init__()
        self.parts, self.apart = nn.ModuleList(modules), apart

    def forward(self, *inputs):
        if self.apart:
            return tuple(part(x) for part, x in zip(self.parts, inputs, strict=True))
        return tuple(scan_together(self.parts, inputs))


@pytest.mark.parametrize("trials", [0, 1, 3])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_in_one_scan_each_bigru_gives_what_it_gives_by_itself(count, trials):
    torch.manual_seed(0)
    modules = [stack([BiGRU(width=6) for _ in range(trials)]) if trials else BiGRU(width=6) for _ in range(count)]
    inputs = [sequences(*[trials][: bool(trials)], 3, 7, 6, seed=seed) for seed in range(count)]
    ours, gradients = outputs_and_gradients(Together(modules, apart=False).double(), *inputs)
    theirs, expected = outputs_and_gradients(Together(modules, apart=True).double(), *inputs)
    assert len(ours) == count and gradients.keys() == expected.keys()
    for mine, other in zip((*ours, *gradients.values()), (*theirs, *expected.values()), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("width", [0, 7])
def test_bigru_refuses_a_width_that_does_not_split_in_two(width):
    with pytest.raises(ValueError, match="even number"):
        BiGRU(width=width)


class LibraryTCN(nn.Module):
    """The same network of stock modules, with the weights of ours."""

    def __init__(self, ours, *, kernel, causal):
        super().__init__()
        self.causal = causal
        self.convolutions = nn.ModuleList()
        for level, part in enumerate(ours.levels):
            for convolution in (part.first, part.second):
                width = convolution.out_features
                padding = 0 if causal else (kernel - 1) // 2 * 2**level
                theirs = nn.Conv1d(width, width, kernel, dilation=2**level, padding=padding).double()
                with torch.no_grad():
                    theirs.weight.copy_(as_conv1d(convolution.weight, kernel))
                    theirs.bias.copy_(convolution.bias)
                self.convolutions.append(theirs)

    def forward(self, x):
        x = x.transpose(1, 2)
        pairs = zip(self.convolutions[::2], self.convolutions[1::2], strict=True)
        for first, second in pairs:
            x = torch.relu(x + torch.relu(self.convolve(second, torch.relu(self.convolve(first, x)))))
        return x.transpose(1, 2)

    def convolve(self, convolution, x):
        if self.causal:
            x = nn.functional.pad(x, ((convolution.kernel_size[0] - 1) * convolution.dilation[0], 0))
        return convolution(x)


def as_conv1d(weight, kernel):
    """[O, kernel * I], earliest step first, to the library's [O, I, kernel]."""
    return weight.reshape(len(weight), kernel, -1).transpose(1, 2)


@pytest.mark.parametrize("num_steps", [1, 3, 20])
@pytest.mark.parametrize(
    ("levels", "kernel", "causal"),
    [(1, 3, False), (2, 3, False), (3, 5, False), (2, 1, False), (2, 3, True), (2, 2, True)],
)
def test_tcn_is_the_librarys_convolutions(levels, kernel, causal, num_steps):
    torch.manual_seed(0)
    ours = tcn(levels=levels, kernel=kernel, causal=causal).double()
    theirs = LibraryTCN(ours, kernel=kernel, causal=causal)
    x = sequences(3, num_steps, 6)
    (out,), gradients = outputs_and_gradients(ours, x)
    (expected,), expected_gradients = outputs_and_gradients(theirs, x)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)
    torch.testing.assert_close(gradients["#0"], expected_gradients["#0"], atol=1e-12, rtol=0)
    for number in range(2 * levels):
        part = f"levels.{number // 2}.{('first', 'second')[number % 2]}"
        weight = as_conv1d(gradients[f"{part}.weight"], kernel)
        torch.testing.assert_close(weight, expected_gradients[f"convolutions.{number}.weight"], atol=1e-11, rtol=0)
        bias = expected_gradients[f"convolutions.{number}.bias"]
        torch.testing.assert_close(gradients[f"{part}.bias"], bias, atol=1e-11, rtol=0)


def test_tcn_starts_as_the_librarys_convolutions_do():
    torch.manual_seed(0)
    ours = tcn(width=32, levels=1).levels[0].first
    torch.manual_seed(0)
    theirs = nn.Conv1d(32, 32, 3)
    # The same numbers from one seed; only their places differ.
    assert torch.equal(ours.weight.flatten(), theirs.weight.flatten())
    assert torch.equal(ours.bias, theirs.bias)


def positive(module):
    """Make every path carry: positive weights and inputs keep all ReLUs open."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.abs_().add_(0.01)
    return module


@pytest.mark.parametrize(
    ("levels", "kernel", "causal", "expected"),
    [(1, 3, False, 5), (2, 3, False, 13), (3, 3, False, 29), (2, 5, True, 25), (3, 2, True, 15), (2, 1, False, 1)],
)
def test_the_receptive_field_is_what_gradients_reach(levels, kernel, causal, expected):
    module = positive(tcn(width=2, levels=levels, kernel=kernel, causal=causal))
    assert module.receptive_field == expected
    middle = 40
    x = torch.rand(1, 2 * middle + 1, 2, requires_grad=True)
    module(x)[0, middle].sum().backward()
    reached = (x.grad[0].abs().sum(dim=-1) > 0).nonzero().flatten()
    before = expected - 1 if causal else (expected - 1) // 2
    assert reached.tolist() == list(range(middle - before, middle - before + expected))


def test_a_causal_tcn_never_looks_ahead():
    torch.manual_seed(0)
    module = tcn(levels=3, causal=True)
    x = torch.randn(2, 20, 6)
    expected = module(x)
    for step in range(20):
        later = x.clone()
        later[:, step + 1 :] = torch.nan
        assert torch.equal(module(later)[:, : step + 1], expected[:, : step + 1])
        assert torch.allclose(module(x[:, : step + 1]), expected[:, : step + 1], atol=1e-6)


def test_tcn_drops_after_each_convolution():
    """With its convolutions giving 1 everywhere, a level is its input plus what the second dropout keeps."""
    module = tcn(width=50, levels=1, kernel=1, dropout=0.25)
    with torch.no_grad():
        for part in (module.levels[0].first, module.levels[0].second):
            part.weight.zero_()
            part.bias.fill_(1.0)
    x = torch.rand(40, 10, 50)
    added = module(x) - x
    assert torch.isclose(added, torch.tensor(0.0), atol=1e-6).double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert added.max().item() == pytest.approx(1 / 0.75, abs=1e-5)
    with torch.no_grad():  # the second now passes on what the first dropout keeps
        module.levels[0].second.weight.copy_(torch.eye(50))
        module.levels[0].second.bias.zero_()
    scaled_twice = ((module(x) - x) > 1.5).double().mean().item()
    assert scaled_twice == pytest.approx(0.75**2, abs=0.02)
    torch.testing.assert_close(module.eval()(x), x + 1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: BiGRU(width=6),
        lambda: tcn(),
        lambda: tcn(levels=3, kernel=2, causal=True),
    ],
)
def test_a_stack_is_each_alone(make):
    torch.manual_seed(0)
    assert_stack_is_each_alone([make().double() for _ in range(3)], sequences(3, 2, 7, 6))


def test_a_stack_of_tcns_drops_as_each_alone():
    """Alone is a stack of one: a trial's random numbers are its generator's."""
    torch.manual_seed(0)
    modules = [tcn(dropout=0.4).double() for _ in range(3)]
    x = sequences(3, 2, 7, 6)
    together = dropping_stack(modules, seeds=(7, 8, 9))(x)
    for trial, module in enumerate(modules):
        alone = dropping_stack([module], seeds=(7 + trial,))(x[trial : trial + 1])
        torch.testing.assert_close(together[trial], alone[0], atol=1e-12, rtol=0)
    assert not torch.allclose(together, dropping_stack(modules, seeds=(9, 8, 7))(x))


def dropping_stack(modules, *, seeds):
    stacked = stack(modules)
    use_streams(stacked, [torch.Generator().manual_seed(seed) for seed in seeds])
    return stacked


@settings(max_examples=15, deadline=None)
@given(
    order=st.permutations(range(4)),
    steps=st.integers(1, 6),
    make=st.sampled_from([lambda: BiGRU(width=6), tcn, lambda: tcn(kernel=2, causal=True)]),
)
def test_permuting_the_batch_permutes_the_outputs(order, steps, make):
    torch.manual_seed(0)
    module = make().double()
    x = sequences(4, steps, 6)
    torch.testing.assert_close(module(x[order]), module(x)[order], atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"width": 0}, "width must be positive, got 0"),
        ({"levels": 0}, "levels must be positive, got 0"),
        ({"kernel": 0, "causal": True}, "kernel must be positive, got 0"),
        ({"kernel": 4}, "kernel must be odd unless causal, got 4"),
        ({"dropout": 1.0}, "dropout must lie in"),
        ({"dropout": -0.1}, "dropout must lie in"),
    ],
)
def test_tcn_refuses_numbers_out_of_range(change, match):
    with pytest.raises(ValueError, match=match):
        tcn(**change)


def test_the_tcn_never_waits_for_a_value():
    """On the meta device there are no values, so a branch on one, or a copy to the host, would fail."""
    assert tcn(dropout=0.1).to("meta")(torch.zeros(2, 5, 6, device="meta")).shape == (2, 5, 6)
