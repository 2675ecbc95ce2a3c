"""Where tensors live: one rule for every stage."""

import torch

from va.errors import VAError


def choose_device(name: str) -> torch.device:
    """Turn a `--device` setting into a device.

    Args:
        name: `auto`, `cpu`, `cuda` or `cuda:N`; auto takes a GPU when there is one.

    Raises:
        VAError: Not a device, or a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise VAError(f"--device: {name!r} is not a device", "Use auto, cpu, cuda or cuda:N.") from None
    if device.type not in ("cpu", "cuda"):
        raise VAError(f"--device: {name!r} is not supported", "Use auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise VAError(
            f"--device: {name!r}, but torch sees {torch.cuda.device_count()} GPUs here",
            "Use --device cpu, or check 'va doctor'.",
        )
    return device
