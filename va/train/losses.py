"""The two terms of the objective, L_CCC + lambda L_KL (paper eq. 6), as pure functions.

Both take a mask and guarantee that what it hides, NaN included, reaches neither the loss nor a gradient. With
`trials=True` the first axis counts trials, whose losses are separate numbers and never see each other's values.
"""

from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

_CCC_EPS = 1e-9
"""Keeps 0 / 0 away when prediction and target are one and the same constant.

It shifts a CCC by less than 1e-6 wherever the two variances and the squared difference of the means add up to
more than 1e-3; valence and arousal of a training batch give about 0.1.
"""


def ccc_loss(prediction: Tensor, target: Tensor, valid: Tensor, *, trials: bool = False) -> Tensor:
    """Sum over valence and arousal of 1 - CCC, pooled over the valid steps of the batch.

    The CCC uses population variances (docs/method.md, R3 and settled 8). If neither series of an axis varies,
    its CCC counts as 0.

    Args:
        prediction: Float [..., 2], (valence, arousal).
        target: Float [..., 2], the same shape.
        valid: Bool [...], which steps have a label.
        trials: The first axis counts trials, each of which is pooled alone.

    Returns:
        In [0, 4]; 0 for a perfect prediction. A scalar, or float [N] for trials; a trial with no valid step gives 2
        and no gradient.

    Raises:
        ValueError: Shapes do not match, or fewer than two steps are valid: a CCC needs two, and the training
            loop skips such a batch beforehand. Trials are not checked for that, since looking would stall a GPU.
    """
    if prediction.shape != target.shape or prediction.shape != (*valid.shape, 2):
        raise ValueError(
            "expected [..., 2], [..., 2] and [...], got "
            f"{tuple(prediction.shape)}, {tuple(target.shape)} and {tuple(valid.shape)}"
        )
    if not trials:
        if valid.sum() < 2:
            raise ValueError(f"CCC needs at least two valid labels, got {int(valid.sum())}")
        return ccc_loss(prediction[None], target[None], valid[None], trials=True)[0]
    # Masked first and not only inside the means: a NaN that is squared below would come back in the gradient.
    hidden = ~valid.flatten(1)[..., None]
    prediction = prediction.flatten(1, -2).masked_fill(hidden, 0.0)
    target = target.flatten(1, -2).masked_fill(hidden, 0.0)
    share = (~hidden).to(prediction.dtype) / (~hidden).sum(dim=1, keepdim=True).clamp(min=1)

    def mean(values: Tensor) -> Tensor:
        return (values * share).sum(dim=1, keepdim=True)

    mean_prediction, mean_target = mean(prediction), mean(target)
    off_prediction, off_target = prediction - mean_prediction, target - mean_target
    covariance = mean(off_prediction * off_target)
    spread = mean(off_prediction.square()) + mean(off_target.square()) + (mean_prediction - mean_target).square()
    return (1 - 2 * covariance / (spread + _CCC_EPS)).sum(dim=(1, 2))


def region_kl(logits: Tensor, soft: Tensor, valid: Tensor, *, trials: bool = False) -> Tensor:
    """Mean over valid steps of KL(soft label || softmax(logits)) in nats.

    Source: paper section 3.5; docs/method.md, R3 and settled 3.

    Args:
        logits: Float [..., R].
        soft: Float [..., R], rows that sum to 1 (`va.model.prompts.soft_labels`); a constant, not trained.
        valid: Bool [...], which steps have a label.
        trials: The first axis counts trials, each of which is averaged alone.

    Returns:
        At least 0; 0 with a zero gradient when no step is valid. A scalar, or float [N] for trials.

    Raises:
        ValueError: Shapes do not match.
    """
    if logits.shape != soft.shape or logits.shape[:-1] != valid.shape:
        raise ValueError(
            "expected [..., R], [..., R] and [...], got "
            f"{tuple(logits.shape)}, {tuple(soft.shape)} and {tuple(valid.shape)}"
        )
    if not trials:
        return region_kl(logits[None], soft[None], valid[None], trials=True)[0]
    # A row of zeros has no divergence and no gradient, whatever its logits are.
    hidden = ~valid[..., None]
    log_probability = log_softmax(logits.masked_fill(hidden, 0.0), dim=-1)
    divergence = kl_div(log_probability, soft.masked_fill(hidden, 0.0), reduction="none")
    return divergence.flatten(1).sum(dim=1) / valid.flatten(1).sum(dim=1).clamp(min=1)
