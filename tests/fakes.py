"""Two small encoders whose last digits depend on the size of a batch, as those of large ones do.

Their inputs are in `fake_inputs.py`.
"""

import numpy as np
import torch
from fake_inputs import ear_input, eye_input

from va.extract import spectrum
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder, make_identity

STEPS = 4


def eye(config: ExtractConfig, *, calls: list[int]) -> Encoder:
    weight = torch.randn(64 * 64 * 3, 33, generator=torch.Generator().manual_seed(0))

    def encode(images: torch.Tensor) -> torch.Tensor:
        calls.append(len(images))
        return images @ weight / 1000

    return Encoder(
        name="eye",
        kind="frames",
        identity=make_identity("eye", kind="frames", dim=33, weights="w", preprocessing={}, config=config),
        dim=33,
        transform=eye_input,
        encode=encode,
        prototypes=lambda texts, templates: np.eye(len(texts), 33, dtype=np.float32),
    )


def ear(config: ExtractConfig, *, calls: list[int]) -> Encoder:
    weight = torch.randn(200, STEPS * 17, generator=torch.Generator().manual_seed(1))

    def encode(inputs: torch.Tensor, num_rows: torch.Tensor) -> torch.Tensor:
        calls.append(len(inputs))
        assert len(num_rows) == len(inputs)
        return (inputs @ weight).reshape(-1, STEPS, 17) + num_rows[:, None, None]

    return Encoder(
        name="ear",
        kind="audio",
        identity=make_identity("ear", kind="audio", dim=17, weights="w", preprocessing={}, config=config),
        dim=17,
        transform=ear_input,
        encode=encode,
        spectrum=spectrum.energy,
        valid_steps=lambda rows: np.arange(STEPS) * 50 + 50 <= rows + 2,
    )
