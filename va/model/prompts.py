"""The region grid, its soft labels and the head that is trained against them (paper section 3.3).

Labels and head live together because they must agree on the order of the regions: valence low to high and,
inside each valence, arousal low to high (docs/method.md, R1).

Shapes: N trials (the axis may be missing, see `layers`), B batch, T steps, D width, R regions, P prototype dimension.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm
from torch.nn.functional import normalize

from va.model.layers import Linear, spread

_MIN_NORM = 1e-6


def region_centers(values: Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    """Lay out the centres of a region grid (paper section 3.3; docs/method.md, F7).

    Args:
        values: Coordinates along one axis, strictly increasing, in valence/arousal units (usually [-1, 1]):
            one sequence for both axes, or a pair of sequences (valence, arousal).

    Returns:
        Float32 [R, 2]: (valence, arousal) of each region, in the order above: valence i and arousal j are
        region `i * num_arousal + j`.

    Raises:
        ValueError: An axis is empty or not strictly increasing, or there are not one or two of them.
    """
    valence_values, arousal_values = _axes(values)
    for axis in (valence_values, arousal_values):
        if not axis or any(not low < high for low, high in pairwise(axis)):
            raise ValueError(f"an axis needs strictly increasing values, got {axis}")
    return torch.cartesian_prod(
        torch.tensor(valence_values, dtype=torch.float32), torch.tensor(arousal_values, dtype=torch.float32)
    )


def _axes(values: Sequence[float] | Sequence[Sequence[float]]) -> tuple[list[float], list[float]]:
    nested = [list(value) for value in values if isinstance(value, Sequence)]
    if not nested:
        both = [value for value in values if not isinstance(value, Sequence)]
        return both, both
    if len(nested) != 2 or len(values) != 2:
        raise ValueError(f"centres are one sequence or a pair of sequences, got {values!r}")
    return nested[0], nested[1]


def soft_labels(va: Tensor, centers: Tensor, sigma: float | Tensor) -> Tensor:
    """Turn valence and arousal into a distribution over regions (paper eq. 2; docs/method.md, F8).

    Args:
        va: Float [..., 2], (valence, arousal), usually in [-1, 1].
        centers: Float [R, 2] from `region_centers`; or [..., R, 2] with axes that broadcast against those of `va`,
            as trials with grids of their own need.
        sigma: Width of the Gaussian kernel in valence/arousal units, above 0; the paper uses 0.45. A tensor must
            broadcast against [..., R] and is not checked, because looking at it would stall a GPU.

    Returns:
        Float [..., R]: each row is non-negative and sums to 1. A row with NaN in it is NaN.

    Raises:
        ValueError: `sigma` is not above 0, or a last axis is not 2.
    """
    if not isinstance(sigma, Tensor) and not sigma > 0:
        raise ValueError(f"sigma must be above 0, got {sigma}")
    if va.shape[-1] != 2 or centers.ndim < 2 or centers.shape[-1] != 2:
        raise ValueError(f"expected [..., 2] and [R, 2], got {tuple(va.shape)} and {tuple(centers.shape)}")
    distance_squared = (va[..., None, :] - centers).square().sum(dim=-1)
    return torch.softmax(-distance_squared / (2 * sigma**2), dim=-1)


def region_reading(probabilities: Tensor, centers: Tensor) -> Tensor:
    """Read valence and arousal from region probabilities: the centres, weighted by them.

    A second answer of the same head, reported beside the regression; it lies inside the grid, so it cannot reach
    values beyond the outer centres.

    Args:
        probabilities: Float [..., R]; rows sum to 1.
        centers: Float [R, 2].

    Returns:
        Float [..., 2].
    """
    return probabilities @ centers


class RegionHead(nn.Module):
    """Region logits: a learned scale times cos(W F, prototype) (docs/method.md, settled 3).

    The authors' release compares the frozen CLIP feature instead, so that no parameter feels the term
    (docs/method.md, R4); here W, the fusion and everything below it do.

    Args:
        width: Features of F.
        prototypes: Float [R, P], one per region (docs/method.md, F9); only their directions matter. A buffer:
            saved with the head, never trained.
        init_scale: First value of the scale, above 0; 10 is the release's constant (docs/method.md, R4).

    Attributes:
        context: None, or float [M, W], learned vectors before the regions' texts (`add_context`). Training makes the
            prototypes from them and puts those into the buffer, so that nothing else needs to know of them.

    Raises:
        ValueError: `prototypes` is not [R, P], or `init_scale` is not above 0.
    """

    prototypes: Tensor
    context: nn.Parameter | None

    def __init__(self, *, width: int, prototypes: Tensor, init_scale: float) -> None:
        super().__init__()
        if prototypes.ndim != 2 or 0 in prototypes.shape:
            raise ValueError(f"prototypes must be [R, P], got {tuple(prototypes.shape)}")
        if not init_scale > 0:
            raise ValueError(f"init_scale must be above 0, got {init_scale}")
        self.projection = Linear(width, prototypes.shape[1], bias=False)
        # The logarithm is trained, so that the scale cannot turn negative and reward dissimilar regions.
        self.log_scale = nn.Parameter(torch.tensor(math.log(init_scale)))
        self.register_buffer("prototypes", prototypes.detach().clone().float())
        self.register_parameter("context", None)

    def add_context(self, *, count: int, width: int) -> None:
        """Keep M = `count` context vectors of a text tower's width as parameters, 0 until they are set."""
        self.context = nn.Parameter(torch.zeros(count, width))

    def forward(self, features: Tensor, prototypes: Tensor | None = None) -> Tensor:
        """Compare each step with every region's prototype.

        Args:
            features: Float [(N,) B, T, D], the fused features F.
            prototypes: Float [(N,) R, P] instead of the buffer, while what makes them is trained.

        Returns:
            Float [(N,) B, T, R]: logits in [-scale, scale].
        """
        projected: Tensor = self.projection(features)
        prototypes = normalize(self.prototypes if prototypes is None else prototypes, dim=-1, eps=_MIN_NORM)
        rows: Tensor = projected.flatten(-3, -2) @ prototypes.transpose(-1, -2)
        # Divided after the product: R numbers of a step and not P.
        length: Tensor = vector_norm(projected, dim=-1, keepdim=True).clamp(min=_MIN_NORM)
        cosines: Tensor = rows.view(*features.shape[:-1], -1) / length
        return spread(self.log_scale, cosines, trailing=0).exp() * cosines
