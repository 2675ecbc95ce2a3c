"""The written-out GRU against PyTorch's own, values and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from va.model.recurrence import GRUScan

NAMES = ("x", "input_weight", "input_bias", "hidden_weight", "hidden_bias")
SIZES = [(1, 1, 1, 1, 1), (1, 1, 3, 2, 4), (2, 7, 3, 5, 4), (3, 20, 1, 6, 2), (1, 2, 16, 64, 32)]


def arguments(groups, steps, batch, inputs, hidden, *, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = (
        (groups, steps, batch, inputs),
        (groups, 3 * hidden, inputs),
        (groups, 3 * hidden),
        (groups, 3 * hidden, hidden),
        (groups, 3 * hidden),
    )
    # Wide enough that the gates leave the middle of their range, where a sigmoid is all but linear.
    return [torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def run(values, upstream):
    """States and the gradients of every argument."""
    values = [value.clone().requires_grad_() for value in values]
    states = GRUScan.apply(*values)
    states.backward(upstream)
    return states.detach(), [value.grad for value in values]


def run_library(values, upstream):
    """The same by `torch.nn.GRU`, one per group."""
    states, gradients = [], []
    for x, input_weight, input_bias, hidden_weight, hidden_bias, above in zip(*values, upstream, strict=True):
        gru = nn.GRU(x.shape[-1], hidden_weight.shape[-1]).to(x.dtype)
        library = (gru.weight_ih_l0, gru.bias_ih_l0, gru.weight_hh_l0, gru.bias_hh_l0)
        with torch.no_grad():
            for theirs, ours in zip(library, (input_weight, input_bias, hidden_weight, hidden_bias), strict=True):
                theirs.copy_(ours)
        x = x.clone().requires_grad_()
        out, _ = gru(x)
        out.backward(above)
        states.append(out.detach())
        gradients.append((x.grad, *(theirs.grad for theirs in library)))
    return torch.stack(states), [torch.stack(column) for column in zip(*gradients, strict=True)]


def upstream_of(values, seed=1):
    groups, steps, batch, _ = values[0].shape
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(groups, steps, batch, values[3].shape[-1], generator=generator, dtype=values[0].dtype)


def assert_equal(ours, theirs, **tolerance):
    torch.testing.assert_close(ours[0], theirs[0], **tolerance)
    for name, mine, other in zip(NAMES, ours[1], theirs[1], strict=True):
        torch.testing.assert_close(mine, other, **tolerance, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("sizes", SIZES)
def test_values_and_gradients_are_the_librarys(sizes):
    values = arguments(*sizes)
    upstream = upstream_of(values)
    assert_equal(run(values, upstream), run_library(values, upstream), atol=1e-10, rtol=1e-10)


def test_in_float32_at_the_papers_size():
    values = arguments(2, 20, 16, 256, 128, dtype=torch.float32)
    values[1:] = [value / 128**0.5 for value in values[1:]]
    upstream = upstream_of(values)
    assert_equal(run(values, upstream), run_library(values, upstream), atol=1e-3, rtol=1e-4)


def test_each_state_is_the_librarys_cell():
    values = arguments(1, 5, 3, 4, 6)
    cell = nn.GRUCell(4, 6).double()
    with torch.no_grad():
        for theirs, ours in zip((cell.weight_ih, cell.bias_ih, cell.weight_hh, cell.bias_hh), values[1:], strict=True):
            theirs.copy_(ours[0])
        state = torch.zeros(3, 6, dtype=torch.float64)
        for step, ours in enumerate(GRUScan.apply(*values)[0]):
            state = cell(values[0][0, step], state)
            torch.testing.assert_close(ours, state, atol=1e-12, rtol=0)


@pytest.mark.parametrize("steps", [1, 4])
def test_gradients_are_the_finite_differences(steps):
    values = [value.requires_grad_() for value in arguments(2, steps, 2, 3, 2)]
    assert torch.autograd.gradcheck(GRUScan.apply, values)


@pytest.mark.parametrize("step", [0, 3, 6])
def test_gradients_of_one_state_alone(step):
    values = arguments(2, 7, 3, 5, 4)
    upstream = upstream_of(values)
    only = torch.zeros_like(upstream)
    only[:, step] = upstream[:, step]
    ours = run(values, only)
    assert_equal(ours, run_library(values, only), atol=1e-10, rtol=1e-10)
    assert ours[1][0][:, step + 1 :].eq(0).all()


def test_gradients_from_above_may_lie_anyhow_in_memory():
    values = arguments(2, 4, 3, 5, 4)
    upstream = upstream_of(values).transpose(1, 3).contiguous().transpose(1, 3)
    ones = torch.ones(1, dtype=torch.float64).expand(2, 4, 3, 4)  # as a sum gives it
    for above in (upstream, ones):
        assert not above.is_contiguous()
        assert_equal(run(values, above), run_library(values, above.contiguous()), atol=1e-10, rtol=1e-10)


def test_inputs_that_need_no_gradient_cost_the_weights_nothing():
    values = arguments(2, 7, 3, 5, 4)
    upstream = upstream_of(values)
    expected = run(values, upstream)[1]
    values = [values[0], *(value.clone().requires_grad_() for value in values[1:])]
    GRUScan.apply(*values).backward(upstream)
    assert values[0].grad is None
    for ours, theirs in zip(values[1:], expected[1:], strict=True):
        assert torch.equal(ours.grad, theirs)


def test_backward_leaves_its_arguments_alone():
    values = arguments(2, 7, 3, 5, 4)
    upstream = upstream_of(values)
    kept = [value.clone() for value in (*values, upstream)]
    first = run(values, upstream)
    assert all(torch.equal(value, old) for value, old in zip((*values, upstream), kept, strict=True))
    values = [value.requires_grad_() for value in values]
    states = GRUScan.apply(*values)
    for _ in range(2):
        gradients = torch.autograd.grad(states, values, upstream, retain_graph=True)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(gradients, first[1], strict=True))


def test_a_second_derivative_is_refused():
    values = arguments(1, 2, 1, 2, 2)
    upstream = upstream_of(values).requires_grad_()
    states = GRUScan.apply(*(value.requires_grad_() for value in values))
    (gradient,) = torch.autograd.grad(states, values[1], upstream, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(4)), steps=st.integers(1, 5), seed=st.integers(0, 99))
def test_permuting_groups_permutes_everything(order, steps, seed):
    values = arguments(4, steps, 2, 3, 2, seed=seed)
    upstream = upstream_of(values)
    states, gradients = run(values, upstream)
    permuted = run([value[order] for value in values], upstream[order])
    assert_equal(permuted, (states[order], [gradient[order] for gradient in gradients]), atol=1e-12, rtol=0)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(4)), steps=st.integers(1, 5), seed=st.integers(0, 99))
def test_permuting_the_batch_permutes_states_and_leaves_the_weights_gradients(order, steps, seed):
    values = arguments(2, steps, 4, 3, 2, seed=seed)
    upstream = upstream_of(values)
    states, gradients = run(values, upstream)
    permuted = run([values[0][:, :, order], *values[1:]], upstream[:, :, order])
    expected = (states[:, :, order], [gradients[0][:, :, order], *gradients[1:]])
    assert_equal(permuted, expected, atol=1e-11, rtol=0)


def test_one_groups_nan_reaches_no_other():
    values = arguments(3, 4, 2, 3, 2)
    upstream = upstream_of(values)
    states, gradients = run(values, upstream)
    values[0][1] = torch.nan
    beside = run(values, upstream)
    assert beside[0][1].isnan().all()
    others = [0, 2]
    expected = (states[others], [gradient[others] for gradient in gradients])
    assert_equal((beside[0][others], [gradient[others] for gradient in beside[1]]), expected, atol=0, rtol=0)
