"""Where tensors live, and how much room is there: one rule for every stage."""

import os
from pathlib import Path

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


def be_deterministic(device: torch.device) -> None:
    """Let a GPU use only algorithms that give the same bits again; on a CPU they all do."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True)


def free_bytes(device: torch.device) -> float:
    """Say how much memory could be taken on a device without paging, in bytes."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024.0 * int(line.split()[1])
    except OSError:
        pass  # not Linux
    return 0.5 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
