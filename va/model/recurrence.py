"""Gated recurrent units over many sequences at once: the forward and the backward pass, written out.

PyTorch's own GRU cannot be stacked over trials, and left to autograd the loop below would record ten small operations
per step. Written out, a step backwards is one product and two element-wise operations: the derivatives of the gates
are computed for all steps at once beforehand, those of the weights as one product afterwards. At the sizes of a head
an operation takes microseconds, as calling it does, so what counts is how many there are.

Shapes: G independent recurrences (trials, modalities, directions), T steps, B batch, I inputs, H hidden units.
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
        from_input = (x_GTBI.flatten(1, 2) @ input_weight.transpose(1, 2)).view(groups, steps, batch, 3 * hidden)
        from_input = from_input.transpose(0, 1)
        # What a step's product is added to: W_n h, which r scales, begins as its bias, r and z as all that the state
        # does not decide. In this order, hence the weights', what is added to lies together, and so do r and z.
        gates = x_GTBI.new_empty(steps, groups, batch, 3 * hidden)
        from_state, r, z = gates.chunk(3, dim=-1)
        r_z = gates[..., hidden:]
        from_state.copy_(hidden_bias[:, None, 2 * hidden :].expand_as(from_state))
        torch.add(from_input[..., : 2 * hidden], (input_bias + hidden_bias)[:, None, : 2 * hidden], out=r_z)
        candidate = from_input[..., 2 * hidden :] + input_bias[:, None, 2 * hidden :]
        states = gates.new_zeros(groups, steps + 1, batch, hidden)
        state = states.unbind(1)
        weight_nrz = hidden_weight.roll(hidden, dims=1)
        weight = weight_nrz.transpose(1, 2)
        by_step = [part.unbind() for part in (gates, r_z, from_state, r, z, candidate)]
        for step, (sums, r_z, from_state, r, z, n) in enumerate(zip(*by_step, strict=True)):
            sums.baddbmm_(state[step], weight)
            r_z.sigmoid_()
            n.addcmul_(r, from_state).tanh_()
            torch.lerp(n, state[step], z, out=state[step + 1])
        ctx.save_for_backward(x_GTBI, input_weight, weight_nrz, gates, candidate, states)
        return states[:, 1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_GTBH: Tensor) -> tuple[Tensor | None, Tensor, Tensor, Tensor, Tensor]:
        """Run backward in time; the gradients of `forward`'s arguments."""
        x_GTBI, input_weight, weight_nrz, gates, candidate, states = ctx.saved_tensors
        groups, steps, batch, hidden = grad_GTBH.shape
        # Per unit of the state's gradient: those of W_n h (scaled by r), r, z and n before their non-linearities.
        # In this order the first three belong to the hidden weights and the last three to the inputs'.
        local = _local_derivatives(gates.transpose(0, 1), candidate.transpose(0, 1), states[:, :-1])
        flat = local.view(groups, steps, batch, 4 * hidden)
        # Views of all steps at once: a call for each takes about as long as a step's arithmetic.
        above, z, of_step = grad_GTBH.unbind(1), gates[..., 2 * hidden :].unbind(), local.unbind(1)
        of_hidden = flat[..., : 3 * hidden].unbind(1)
        d_state = above[-1]
        for step in range(steps - 1, 0, -1):
            of_step[step].mul_(d_state[:, :, None])
            d_state = torch.addcmul(above[step - 1], d_state, z[step]).baddbmm_(of_hidden[step], weight_nrz)
        of_step[0].mul_(d_state[:, :, None])
        rows = flat.view(groups, steps * batch, 4 * hidden)
        to_hidden, to_input = rows[..., : 3 * hidden], rows[..., hidden:]
        d_bias = rows.sum(dim=1)
        d_hidden_weight = to_hidden.transpose(1, 2) @ states[:, :-1].flatten(1, 2)
        d_input = (to_input @ input_weight).view_as(x_GTBI) if ctx.needs_input_grad[0] else None
        return (
            d_input,
            to_input.transpose(1, 2) @ x_GTBI.flatten(1, 2),
            d_bias[:, hidden:],
            d_hidden_weight.roll(-hidden, dims=1),
            d_bias[:, : 3 * hidden].roll(-hidden, dims=1),
        )


def _local_derivatives(gates: Tensor, n: Tensor, previous: Tensor) -> Tensor:
    """Give float [G, T, B, 4, H], written where it stays: these are the largest tensors of a step."""
    from_state, r, z = gates.chunk(3, dim=-1)
    local = n.new_empty(*previous.shape[:-1], 4, previous.shape[-1])
    d_from_state, d_r, d_z, d_n = local.unbind(dim=-2)
    of_tanh, of_sigmoid = torch.ops.aten.tanh_backward.grad_input, torch.ops.aten.sigmoid_backward.grad_input
    of_tanh(1 - z, n, grad_input=d_n)
    torch.mul(d_n, r, out=d_from_state)
    of_sigmoid(d_n * from_state, r, grad_input=d_r)
    of_sigmoid(previous - n, z, grad_input=d_z)
    return local
