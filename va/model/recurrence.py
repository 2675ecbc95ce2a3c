"""Gated recurrent units over many sequences at once: the forward and the backward pass, written out.

PyTorch's own GRU cannot be stacked over trials, and left to autograd the loop below would record ten small operations
per step. Written out, a step backwards is one product and two element-wise operations: the derivatives of the gates
are computed for all steps at once beforehand, those of the weights as one product afterwards.

Shapes: G independent recurrences (trials times directions), T steps, B batch, I inputs, H hidden units.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class GRUScan(torch.autograd.Function):
    """Run G recurrences with weights of their own over their sequences.

    The equations are those of `torch.nn.GRU` (reset gate r, update gate z, candidate n, in this order along the
    axis of 3H), against which the tests hold values and gradients. No second derivative.
    """

    @staticmethod
    def forward(
        ctx: Any, x_GTBI: Tensor, input_weight: Tensor, input_bias: Tensor, hidden_weight: Tensor, hidden_bias: Tensor
    ) -> Tensor:
        """Run forward in time, from a state of zeros.

        Args:
            ctx: Of autograd.
            x_GTBI: Float, contiguous.
            input_weight: Float [G, 3H, I].
            input_bias: Float [G, 3H].
            hidden_weight: Float [G, 3H, H].
            hidden_bias: Float [G, 3H].

        Returns:
            Float [G, T, B, H]: the state after each step.
        """
        groups, steps, batch, _ = x_GTBI.shape
        hidden = hidden_weight.shape[-1]
        gates = torch.baddbmm(input_bias[:, None], x_GTBI.flatten(1, 2), input_weight.transpose(1, 2))
        gates = gates.view(groups, steps, batch, 3 * hidden)  # overwritten below: first the inputs' part, then r, z, n
        reset_update, candidate = torch.split(gates, [2 * hidden, hidden], dim=-1)
        from_state = gates.new_empty(groups, steps, batch, hidden)  # what r scales
        states = gates.new_zeros(groups, steps + 1, batch, hidden)
        bias, weight = hidden_bias[:, None], hidden_weight.transpose(1, 2)
        for step in range(steps):
            state = states[:, step]
            recurrent = torch.baddbmm(bias, state, weight)
            r_z = reset_update[:, step].add_(recurrent[..., : 2 * hidden]).sigmoid_()
            from_state[:, step] = recurrent[..., 2 * hidden :]
            n = candidate[:, step].addcmul_(r_z[..., :hidden], from_state[:, step]).tanh_()
            torch.lerp(n, state, r_z[..., hidden:], out=states[:, step + 1])
        ctx.save_for_backward(x_GTBI, input_weight, hidden_weight, gates, from_state, states)
        return states[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_GTBH: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor, Tensor]:
        """Run backward in time; the gradients of `forward`'s arguments."""
        x_GTBI, input_weight, hidden_weight, gates, from_state, states = ctx.saved_tensors
        groups, steps, batch, hidden = grad_GTBH.shape
        update = gates[..., hidden : 2 * hidden]
        # Per unit of the state's gradient: those of W_n h (scaled by r), r, z and n before their non-linearities.
        # In this order the first three belong to the hidden weights and the last three to the inputs'.
        local = _local_derivatives(gates, from_state, states[:, :-1])
        flat = local.view(groups, steps, batch, 4 * hidden)
        weight_nrz = hidden_weight.roll(hidden, dims=1)
        d_state = grad_GTBH[:, -1]
        for step in range(steps - 1, -1, -1):
            local[:, step].mul_(d_state[:, :, None])
            if step:
                d_next = torch.baddbmm(grad_GTBH[:, step - 1], flat[:, step, :, : 3 * hidden], weight_nrz)
                d_state = d_next.addcmul_(d_state, update[:, step])
        rows = flat.view(groups, steps * batch, 4 * hidden)
        to_hidden, to_input = rows[..., : 3 * hidden], rows[..., hidden:]
        d_hidden_weight = to_hidden.transpose(1, 2) @ states[:, :-1].flatten(1, 2)
        d_input = (to_input @ input_weight).view_as(x_GTBI) if ctx.needs_input_grad[0] else None
        return (
            d_input,
            to_input.transpose(1, 2) @ x_GTBI.flatten(1, 2),
            to_input.sum(dim=1),
            d_hidden_weight.roll(-hidden, dims=1),
            to_hidden.sum(dim=1).roll(-hidden, dims=1),
        )


def _local_derivatives(gates: Tensor, from_state: Tensor, previous: Tensor) -> Tensor:
    """Give float [G, T, B, 4, H]; written in place where it can be, since these are the largest tensors of a step."""
    r, z, n = gates.chunk(3, dim=-1)
    local = gates.new_empty(*previous.shape[:-1], 4, previous.shape[-1])
    d_from_state, d_r, d_z, d_n = local.unbind(dim=-2)
    keep = 1 - z
    torch.mul(n, n, out=d_n).neg_().add_(1).mul_(keep)
    torch.mul(d_n, r, out=d_from_state)
    torch.mul(d_from_state, from_state, out=d_r).mul_(1 - r)
    torch.sub(previous, n, out=d_z).mul_(z).mul_(keep)
    return local
