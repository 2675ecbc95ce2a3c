"""The two terms of the objective, L_CCC + lambda L_KL (paper eq. 6), as pure functions.

Both take a mask and guarantee that what it hides, NaN included, reaches neither the loss nor a gradient.
"""

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

_CCC_EPS = 1e-9
"""Keeps 0 / 0 away when prediction and target are one and the same constant.

It shifts a CCC by less than 1e-6 wherever the two variances and the squared difference of the means add up to
more than 1e-3; valence and arousal of a training batch give about 0.1.
"""


def ccc_loss(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Sum over valence and arousal of 1 - CCC, pooled over the valid steps of the batch.

    The CCC uses population variances (docs/method.md, R3 and settled 8). If neither series of an axis varies,
    its CCC counts as 0.

    Args:
        prediction: Float [..., 2], (valence, arousal).
        target: Float [..., 2], the same shape.
        valid: Bool [...], which steps have a label.

    Returns:
        Scalar in [0, 4]; 0 for a perfect prediction.

    Raises:
        ValueError: Shapes do not match, or fewer than two steps are valid: a CCC needs two, and the training
            loop skips such a batch beforehand.
    """
    if prediction.shape != target.shape or prediction.shape != (*valid.shape, 2):
        raise ValueError(
            "expected [..., 2], [..., 2] and [...], got "
            f"{tuple(prediction.shape)}, {tuple(target.shape)} and {tuple(valid.shape)}"
        )
    num_valid = valid.sum()
    if num_valid < 2:
        raise ValueError(f"CCC needs at least two valid labels, got {int(num_valid)}")
    keep = valid[..., None]
    steps = tuple(range(valid.ndim))

    def mean(values: Tensor) -> Tensor:
        return torch.where(keep, values, 0.0).sum(dim=steps) / num_valid

    # Masked first and not only inside `mean`: a NaN that is squared below would come back in the gradient.
    prediction = torch.where(keep, prediction, 0.0)
    target = torch.where(keep, target, 0.0)
    mean_prediction, mean_target = mean(prediction), mean(target)
    prediction, target = prediction - mean_prediction, target - mean_target
    covariance = mean(prediction * target)
    spread = mean(prediction.square()) + mean(target.square()) + (mean_prediction - mean_target).square()
    return (1 - 2 * covariance / (spread + _CCC_EPS)).sum()


def region_kl(logits: Tensor, soft: Tensor, valid: Tensor) -> Tensor:
    """Mean over valid steps of KL(soft label || softmax(logits)) in nats.

    Source: paper section 3.5; docs/method.md, R3 and settled 3.

    Args:
        logits: Float [..., R].
        soft: Float [..., R], rows that sum to 1 (`va.model.prompts.soft_labels`); a constant, not trained.
        valid: Bool [...], which steps have a label.

    Returns:
        Scalar, at least 0; 0 with a zero gradient when no step is valid.

    Raises:
        ValueError: Shapes do not match.
    """
    if logits.shape != soft.shape or logits.shape[:-1] != valid.shape:
        raise ValueError(
            "expected [..., R], [..., R] and [...], got "
            f"{tuple(logits.shape)}, {tuple(soft.shape)} and {tuple(valid.shape)}"
        )
    keep = valid[..., None]
    # A row of zeros has no divergence and no gradient, whatever its logits are.
    soft = torch.where(keep, soft, 0.0)
    log_probability = log_softmax(torch.where(keep, logits, 0.0), dim=-1)
    return kl_div(log_probability, soft, reduction="sum") / valid.sum().clamp(min=1)
