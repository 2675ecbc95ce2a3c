"""How much memory is free, for what is sized by it."""

import os
from pathlib import Path

import torch


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
