"""How a tower is run while it learns: twice with the same bits, and with little kept in between."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from va.extract.encoders import Encoder


@contextmanager
def one_kernel() -> Iterator[None]:
    """Keep torch from another attention kernel where no gradient is asked for: its sums are rounded differently."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def checkpointed(blocks: Sequence[nn.Module]) -> Iterator[None]:
    """Let blocks forget their activations after the forward pass and compute them again in the backward pass.

    Done here and not by the libraries' own switches: transformers' work in training mode only, in which dropout,
    masking and layer dropping would wake too. Both passes belong inside.
    """
    with ExitStack() as undo:
        for block in blocks:
            plain = block.forward
            vars(block)["forward"] = partial(checkpoint, plain, use_reentrant=False, preserve_rng_state=False)
            undo.callback(vars(block).pop, "forward")
        yield


def embed(encoder: Encoder, inputs: tuple[Tensor, ...], *, device: torch.device, bfloat16: bool) -> Tensor:
    """Encode some windows' inputs.

    Args:
        encoder: The encoder.
        inputs: As `encoder.encode` takes them; at least one.
        device: Where the tower is.
        bfloat16: Products in 16 bit.

    Returns:
        float32 [B, dim] or [B, steps, dim].
    """
    first, *others = inputs
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        return encoder.encode(first.to(device, non_blocking=True), *others)
