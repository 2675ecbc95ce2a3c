"""Layers with a trial axis: a stack against each of its modules alone."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stacking import assert_stack_is_each_alone
from torch import nn

from va.model.layers import Dropout, Linear, spread, stack, stack_states, trial_state, use_streams


class Small(nn.Module):
    """One of everything: layers inside layers, a bare parameter, a scalar, a buffer, a frozen weight."""

    def __init__(self, seed, rate=0.0):
        super().__init__()
        torch.manual_seed(seed)
        self.inner = nn.Sequential(Linear(4, 6), nn.Tanh(), Dropout(rate), Linear(6, 3, bias=False))
        self.shift = nn.Parameter(torch.randn(3))
        self.scale = nn.Parameter(torch.randn(()))
        self.register_buffer("mean", torch.randn(4))
        self.frozen = nn.Parameter(torch.randn(3), requires_grad=False)

    def forward(self, x):
        out = self.inner(x - spread(self.mean, x, trailing=1))
        out = out * spread(self.frozen, out, trailing=1) + spread(self.shift, out, trailing=1)
        return out * spread(self.scale, out, trailing=0)


@pytest.fixture
def modules():
    return [Small(seed).double() for seed in range(3)]


@pytest.fixture
def x():
    return torch.randn(3, 5, 2, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("axes", [(2,), (2, 5), (2, 3, 5)])
def test_a_stack_of_linear_layers_is_each_alone(axes, bias):
    torch.manual_seed(0)
    layers = [Linear(4, 6, bias=bias).double() for _ in range(3)]
    assert_stack_is_each_alone(layers, torch.randn(3, *axes, 4, dtype=torch.float64))


@pytest.mark.parametrize("bias", [True, False])
def test_linear_without_trials_is_the_librarys_from_the_same_seed(bias):
    torch.manual_seed(0)
    ours = Linear(4, 6, bias=bias)
    torch.manual_seed(0)
    theirs = nn.Linear(4, 6, bias=bias)
    x = torch.randn(2, 3, 4)
    assert torch.equal(ours(x), theirs(x))


def test_linear_takes_inputs_that_do_not_lie_in_order():
    torch.manual_seed(0)
    stacked = stack([Linear(4, 6) for _ in range(3)])
    x = torch.randn(5, 3, 4, 2).permute(1, 0, 3, 2)
    assert not x.is_contiguous()
    torch.testing.assert_close(stacked(x), stacked(x.contiguous()))


def test_a_stack_is_each_module_alone(modules, x):
    assert_stack_is_each_alone(modules, x)


def test_a_stack_of_one(modules, x):
    torch.testing.assert_close(stack(modules[:1])(x[:1])[0], modules[0](x[0]))


def test_a_stack_keeps_dtypes_and_what_is_not_trained(modules):
    stacked = stack(modules)
    trained = {name for name, parameter in stacked.named_parameters() if parameter.requires_grad}
    assert {name for name, _ in stacked.named_parameters()} - trained == {"frozen"}
    assert stacked.mean.shape == (3, 4) and not isinstance(stacked.mean, nn.Parameter)
    assert stacked.scale.shape == (3,)
    assert {tensor.dtype for tensor in stacked.state_dict().values()} == {torch.float64}


def test_a_stack_shares_no_memory_with_its_modules(modules):
    kept = [copy.deepcopy(module.state_dict()) for module in modules]
    stacked = stack(modules)
    with torch.no_grad():
        for tensor in stacked.state_dict().values():
            tensor.zero_()
    for module, old in zip(modules, kept, strict=True):
        assert all(torch.equal(module.state_dict()[name], value) for name, value in old.items())


def test_states_are_stacked_in_order_whatever_the_module_holds(modules, x):
    stacked = stack_states(modules[2], [module.state_dict() for module in modules])
    assert torch.equal(stacked(x), stack(modules)(x))


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(3)))
def test_permuting_trials_permutes_the_outputs(order):
    modules = [Small(seed).double() for seed in range(3)]
    x = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    permuted = stack([modules[trial] for trial in order])(x[order])
    torch.testing.assert_close(permuted, stack(modules)(x)[order], atol=1e-12, rtol=0)


def test_a_trials_state_fits_a_module_of_its_own_and_is_a_view(modules, x):
    stacked = stack(modules)
    for trial, module in enumerate(modules):
        alone = Small(7).double()
        alone.load_state_dict(trial_state(stacked, trial), strict=True)
        assert torch.equal(alone(x[trial]), module(x[trial]))
    with torch.no_grad():
        trial_state(stacked, 1)["scale"].fill_(7)
    assert stacked.scale[1] == 7 and stacked.scale[0] != 7


@pytest.mark.parametrize(
    ("shape", "trailing", "expected"),
    [((), 0, ()), ((4,), 1, (4,)), ((3,), 0, (3, 1, 1, 1)), ((3, 4), 1, (3, 1, 1, 4))],
)
def test_spread_broadcasts_over_all_axes_between(shape, trailing, expected):
    parameter = torch.randn(shape)
    assert spread(parameter, torch.zeros(3, 5, 2, 4), trailing=trailing).shape == expected


def test_spread_of_trials_is_a_loop_over_them():
    parameter, x = torch.randn(3, 4), torch.randn(3, 5, 4)
    expected = torch.stack([parameter[trial] * x[trial] for trial in range(3)])
    assert torch.equal(spread(parameter, x, trailing=1) * x, expected)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def dropped(seeds, shape=(6, 5, 4), calls=2):
    """What a stack of dropout layers keeps of ones, one trial per seed, in its last call."""
    layer = Dropout(0.4)
    use_streams(layer, generators(*seeds))
    for _ in range(calls):
        out = layer(torch.ones(len(seeds), *shape))
    return out


@settings(max_examples=20, deadline=None)
@given(seeds=st.lists(st.integers(0, 9), min_size=1, max_size=4), calls=st.integers(1, 3))
def test_a_trial_drops_the_same_in_any_company(seeds, calls):
    together = dropped(seeds, calls=calls)
    for trial, seed in enumerate(seeds):
        assert torch.equal(together[trial], dropped([seed], calls=calls)[0])


def test_a_trial_drops_the_same_wherever_its_values_lie():
    """The trial axis may be the second in memory, and with one trial it has no place there."""
    together = Dropout(0.4)
    use_streams(together, generators(1, 2, 3))
    out = together(torch.ones(6, 3, 5, 4).transpose(0, 1))
    for trial, seed in enumerate((1, 2, 3)):
        assert torch.equal(out[trial], dropped([seed], calls=1)[0])


def test_trials_of_different_seeds_and_later_calls_drop_differently():
    first = dropped([1, 2], calls=1)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, dropped([1, 2], calls=2))


def test_dropout_drops_its_share_and_keeps_the_mean():
    out = dropped([3], shape=(100, 1000), calls=1)
    assert out.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert (out == 0).double().mean().item() == pytest.approx(0.4, abs=0.01)


def test_the_gradient_is_dropped_with_the_value():
    layer = Dropout(0.4)
    use_streams(layer, generators(1))
    x = torch.full((1, 50), 2.0, requires_grad=True)
    out = layer(x)
    out.sum().backward()
    torch.testing.assert_close(x.grad, out.detach() / 2)
    assert (x.grad == 0).any() and (x.grad > 0).any()


def test_without_trials_dropout_is_the_librarys():
    torch.manual_seed(0)
    ours = Dropout(0.4)(torch.ones(7, 8))
    torch.manual_seed(0)
    assert torch.equal(ours, nn.functional.dropout(torch.ones(7, 8), 0.4))


def test_dropout_that_has_nothing_to_do_gives_its_input_back():
    x = torch.randn(2, 3)
    streams = generators(0, 1)
    for layer in (Dropout(0.0), Dropout(0.4).eval()):
        use_streams(layer, streams)
        assert layer(x) is x
    for stream, untouched in zip(streams, generators(0, 1), strict=True):
        assert torch.equal(stream.get_state(), untouched.get_state())


def test_as_many_streams_as_trials():
    layer = Dropout(0.4)
    use_streams(layer, generators(0, 1))
    with pytest.raises(ValueError, match="zip"):
        layer(torch.ones(3, 4))


def test_streams_reach_every_dropout_layer_inside():
    stacked = stack([Small(seed, rate=0.4) for seed in range(2)])
    x = torch.randn(2, 5, 4)
    use_streams(stacked, generators(1, 2))
    first = stacked(x)
    use_streams(stacked, generators(1, 2))
    assert torch.equal(stacked(x), first) and not torch.equal(stacked(x), first)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_dropout_refuses_what_is_no_share(rate):
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\)"):
        Dropout(rate)
