"""A small head and a batch of windows, shared by the tests of `va/model`."""

from collections.abc import Callable

import pytest
import torch

from va.model.head import VAHead

Batch = dict[str, torch.Tensor]


@pytest.fixture
def make_head() -> Callable[..., VAHead]:
    """Build a small head; keyword arguments replace the paper's choices. The same seed gives the same weights."""

    def make(**changes: object) -> VAHead:
        torch.manual_seed(0)
        choices = {
            "frame_dim": 6,
            "audio_dim": 5,
            "audio_cnn": False,
            "prototypes": torch.randn(9, 7),
            "width": 8,
            "num_heads": 4,
            "modalities": "both",
            "target": "frames",
            "tcn": None,
            "fusion": "hierarchical",
            "init_scale": 10.0,
            "standardise": False,
        }
        return VAHead(**(choices | changes))  # type: ignore[arg-type]

    return make


@pytest.fixture
def batch() -> Batch:
    """Four windows of 10 steps with gaps in both modalities: window 2 has no sound, window 3 no face."""
    generator = torch.Generator().manual_seed(1)
    frame_valid = torch.rand(4, 10, generator=generator) < 0.7
    audio_valid = torch.rand(4, 10, generator=generator) < 0.7
    audio_valid[2] = False
    frame_valid[3] = False
    assert 0 < frame_valid[0].sum() < 10 and 0 < audio_valid[0].sum() < 10
    return {
        "frames": torch.randn(4, 10, 6, generator=generator),
        "frame_valid": frame_valid,
        "audio": torch.randn(4, 10, 5, generator=generator),
        "audio_valid": audio_valid,
    }
