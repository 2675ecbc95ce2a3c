"""The property that everything in `va/model` must have: a trial in a stack is what it is alone."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from va.model.layers import stack, trial_state

Results = tuple[tuple[Tensor, ...], dict[str, Tensor]]


def outputs_and_gradients(module: nn.Module, *inputs: Tensor) -> Results:
    """Run a module forward and backward.

    Returns:
        Its outputs, and the gradients, where there are any, of one number to which the values of the outputs contribute
        with different weights: of parameters by name, of float inputs as "#0", "#1" and so on.
    """
    module.zero_grad()
    inputs = tuple(x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs)
    outputs = module(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    total = 0.0
    for output in outputs:
        # The same for every trial: whatever comes after the first axis of a stack decides.
        upstream = torch.linspace(-1, 2, 7919, dtype=output.dtype)[torch.arange(output[0].numel()) * 31 % 7919]
        total = total + (output * upstream.view(output[0].shape)).sum()
    total.backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    gradients |= {f"#{place}": x.grad for place, x in enumerate(inputs) if x.grad is not None}
    return tuple(output.detach() for output in outputs), {k: v.clone() for k, v in gradients.items() if v is not None}


def assert_stack_is_each_alone(modules: Sequence[nn.Module], *inputs: Tensor, atol: float = 1e-10) -> None:
    """Hold a stack's outputs and gradients against those of its modules, and look for one trial's NaN in the others.

    Args:
        modules: At least two, in float64 for the default tolerance.
        inputs: What they are called with, with a leading trial axis.
        atol: Absolute tolerance.
    """
    stacked = stack(modules)
    together = outputs_and_gradients(stacked, *inputs)
    poisoned = [x.clone() for x in inputs]
    for x in poisoned:
        if x.is_floating_point():
            x[0] = torch.nan
    beside_nan = outputs_and_gradients(stacked, *poisoned)
    for trial, module in enumerate(modules):
        # One trial as a batch of batches, so that `outputs_and_gradients` weighs it as in the stack.
        alone = outputs_and_gradients(_OneTrial(module), *(x[trial : trial + 1] for x in inputs))
        for results in (together, beside_nan) if trial else (together,):
            _assert_equal(alone, results, trial, atol)
    for trial, module in enumerate(modules):
        for name, value in module.state_dict().items():
            assert torch.equal(trial_state(stacked, trial)[name], value), name


class _OneTrial(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs = self.module(*(x[0] for x in inputs))
        return tuple(output[None] for output in (outputs if isinstance(outputs, tuple) else (outputs,)))


def _assert_equal(alone: Results, stacked: Results, trial: int, atol: float) -> None:
    for ours, theirs in zip(stacked[0], alone[0], strict=True):
        torch.testing.assert_close(ours[trial], theirs[0], atol=atol, rtol=0)
    expected = {name.removeprefix("module."): gradient for name, gradient in alone[1].items()}
    assert expected.keys() == stacked[1].keys()
    for name, gradient in expected.items():
        theirs = gradient[0] if name.startswith("#") else gradient
        torch.testing.assert_close(
            stacked[1][name][trial], theirs, atol=atol, rtol=0, msg=lambda m, n=name: f"{n}: {m}"
        )
