"""Encoders without weights: 16x16 grey pixels, loudness, and where the face is.

A ridge regression on the first two is reported beside every result, so that a reader sees what a triviality reaches;
the third is for drawing the face's box, and for asking how much of an answer lies in where a head is.
"""

from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from va.data.timeline import CELL_S, cells_in
from va.errors import VAError
from va.extract import inputs
from va.extract.config import ExtractConfig
from va.extract.encoders import Encoder, make_identity, onto
from va.extract.spectrum import ROWS_PER_S, energy

_SIDE: Final = 16
_FLOOR: Final = 1e-8  # -80 dB: below the noise of any microphone


def pixels(config: ExtractConfig) -> Encoder:
    """Make the encoder of 16x16 grey pixels in [0, 1], 256 numbers per cell."""

    def encode(images: Tensor) -> Tensor:
        return images.flatten(1)

    dim = _SIDE * _SIDE
    preprocessing = {"resize": f"{_SIDE}x{_SIDE} grey, area"}
    return Encoder(
        name="pixels",
        kind="frames",
        identity=make_identity(
            "pixels", kind="frames", dim=dim, weights="none", preprocessing=preprocessing, config=config
        ),
        dim=dim,
        transform=partial(inputs.grey_picture, side=_SIDE),
        encode=encode,
    )


def loudness(config: ExtractConfig) -> Encoder:
    """Make the encoder of mean power in decibels, one number per cell."""
    steps = cells_in(config.window_s, name="window")
    rows_per_cell = round(CELL_S * ROWS_PER_S)

    def encode(power: Tensor, num_rows: Tensor) -> Tensor:
        cells = power.reshape(len(power), steps, rows_per_cell, 1).sum(dim=2)
        first = torch.arange(steps, device=power.device) * rows_per_cell
        count = (onto(power.device, num_rows)[:, None] - first).clamp(1, rows_per_cell)
        return 10 * torch.log10((cells / count[:, :, None]).clamp_min(_FLOOR))

    def valid_steps(num_rows: int) -> NDArray[np.bool_]:
        return np.arange(steps) * rows_per_cell < num_rows

    return Encoder(
        name="loudness",
        kind="audio",
        identity=make_identity(
            "loudness",
            kind="audio",
            dim=1,
            weights="none",
            preprocessing={"power": f"mean square per cell in dB, floor {_FLOOR:g}", "row_samples": 400},
            config=config,
        ),
        dim=1,
        transform=partial(inputs.pad_rows, length=steps * rows_per_cell, bins=1, value=0.0),
        encode=encode,
        spectrum=energy,
        valid_steps=valid_steps,
    )


def face_box(config: ExtractConfig) -> Encoder:
    """Make the encoder of the followed face's box: left, top, right, bottom and score, 5 numbers per cell.

    Edges are shares of the frame's width and height and may lie outside [0, 1]; as float16 they are exact to 0.0005.
    It is the box that was cut out, margin and smoothing included. The score is the detector's in [0, 1], 0 where the
    box was held because the face was not found.

    Raises:
        VAError: No face is looked for.
    """
    if config.faces != "detect":
        raise VAError(
            f"--encoders face-box: needs --faces detect, not {config.faces}", "Add --faces detect, or leave it out."
        )

    def encode(boxes: Tensor) -> Tensor:
        return boxes

    preprocessing = {"box": "left, top, right, bottom as shares of the frame, score; 0 where held"}
    identity = make_identity(
        "face-box", kind="frames", dim=5, weights="none", preprocessing=preprocessing, config=config
    )
    return Encoder(
        name="face-box",
        kind="frames",
        # Trivial, so that `va train` does not take it for the features that a run is to learn from.
        identity={**identity, "baseline": True},
        dim=5,
        transform=inputs.box_row,
        encode=encode,
        sees="box",
    )
