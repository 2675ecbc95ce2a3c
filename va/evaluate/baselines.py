"""Ridge regression: the figure that every model must beat to have learned anything.

Reported beside every result on two inputs: 16 x 16 pixels and loudness (what needs no encoder at all), and
the frozen embeddings themselves (what needs no head). Closed form and NumPy only, so that it costs seconds
and has no seed. Inputs are standardised by the training rows, the intercept is not penalised, and the
penalty is chosen by the mean CCC on dev, never on the reported split (settled 7).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from va.evaluate import metrics
from va.evaluate.metrics import FloatArray

ALPHAS: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""The penalties tried, per training row and for standardised inputs (no unit)."""

BLOCK_ROWS: Final = 65_536
"""Rows converted to float64 at a time: features of a whole corpus are kept in half that width or less."""


@dataclass(frozen=True, eq=False)
class Ridge:
    """A fitted linear map from features to (valence, arousal).

    Args:
        alpha: The penalty it was fitted with.
        mean: Mean of each feature over the training rows, float64 [D].
        scale: Standard deviation of each, 1 where it is constant, float64 [D].
        weights: For standardised features, float64 [D, 2].
        intercept: Mean target of the training rows, float64 [2].
    """

    alpha: float
    mean: FloatArray
    scale: FloatArray
    weights: FloatArray
    intercept: FloatArray

    def predict(self, features: FloatArray) -> FloatArray:
        """Predict (valence, arousal), not clamped.

        Args:
            features: float [N, D].

        Returns:
            float64 [N, 2].

        Raises:
            ValueError: The number of features is not that of the training rows.
        """
        if features.ndim != 2 or features.shape[1] != len(self.mean):
            raise ValueError(f"expected features [N, {len(self.mean)}], got {features.shape}")
        predicted = np.empty((len(features), 2))
        for rows in _blocks(len(features)):
            predicted[rows] = (features[rows] - self.mean) / self.scale @ self.weights + self.intercept
        return predicted


@dataclass(frozen=True, eq=False)
class _Moments:
    """Everything about the training rows that a fit needs, whatever its penalty."""

    num_rows: int
    mean: FloatArray
    scale: FloatArray
    intercept: FloatArray
    gram: FloatArray
    cross: FloatArray


def fit_ridge(features: FloatArray, target: FloatArray, *, alpha: float) -> Ridge:
    """Minimise mean squared error + alpha * |weights|^2 over standardised features, in closed form.

    The penalty is per row, so that one grid of alphas serves corpora of any size.

    Args:
        features: One row per labelled step, float [N, D]; N >= 1.
        target: (valence, arousal) per row, float [N, 2].
        alpha: Penalty, > 0.

    Returns:
        The fitted map.

    Raises:
        ValueError: The shapes do not fit, a value is not finite, there is no row, or alpha <= 0.
    """
    return _solve(_moments(features, target), alpha=alpha)


def choose_ridge(
    train_features: FloatArray,
    train_target: FloatArray,
    dev_features: FloatArray,
    dev_target: FloatArray,
    *,
    alphas: Sequence[float],
) -> tuple[Ridge, list[float]]:
    """Fit one ridge per penalty on train and keep the one with the best mean CCC on dev.

    Args:
        train_features: float [N, D].
        train_target: float [N, 2].
        dev_features: float [M, D]; rows of other people than train's (settled 7).
        dev_target: float [M, 2].
        alphas: Penalties to try, each > 0; at least one. `ALPHAS` is the usual grid.

    Returns:
        The best fit, and the mean CCC on dev of each penalty in the order given. An undefined CCC ranks
        last; of equals the larger penalty wins.

    Raises:
        ValueError: As `fit_ridge`; or no penalty is given.
    """
    if not alphas:
        raise ValueError("no alpha to choose from")
    moments = _moments(train_features, train_target)
    fits = [_solve(moments, alpha=alpha) for alpha in alphas]
    every = np.ones(len(dev_target), dtype=bool)
    scores = [metrics.evaluate(fit.predict(dev_features), dev_target, every)["ccc_mean"] for fit in fits]
    best = max(range(len(fits)), key=lambda index: (np.nan_to_num(scores[index], nan=-2.0), alphas[index]))
    return fits[best], scores


def _moments(features: FloatArray, target: FloatArray) -> _Moments:
    """Means, scales and the two products of the normal equations, in blocks of rows."""
    if features.ndim != 2 or target.shape != (len(features), 2) or not len(features):
        raise ValueError(f"expected features [N, D] and target [N, 2], got {features.shape}, {target.shape}")
    num_rows, num_features = features.shape
    if not np.isfinite(target).all() or not all(np.isfinite(features[rows]).all() for rows in _blocks(num_rows)):
        raise ValueError("a feature or a target is NaN or infinite")
    mean = features.mean(axis=0, dtype=np.float64)
    intercept = target.mean(axis=0, dtype=np.float64)
    gram, cross = np.zeros((num_features, num_features)), np.zeros((num_features, 2))
    for rows in _blocks(num_rows):
        centred = features[rows] - mean
        gram += centred.T @ centred
        cross += centred.T @ (target[rows] - intercept)
    # A constant feature says nothing; its rounding must not be blown up to unit variance.
    constant = np.ptp(features, axis=0) == 0
    scale = np.where(constant, 1.0, np.sqrt(np.diagonal(gram) / num_rows))
    informative = np.where(constant, 0.0, 1.0 / scale)
    return _Moments(
        num_rows=num_rows,
        mean=mean,
        scale=scale,
        intercept=intercept,
        gram=gram * np.outer(informative, informative),
        cross=cross * informative[:, None],
    )


def _solve(moments: _Moments, *, alpha: float) -> Ridge:
    """Solve the normal equations for one penalty."""
    if not alpha > 0:
        raise ValueError(f"alpha must be > 0, not {alpha}")
    penalty = alpha * moments.num_rows * np.eye(len(moments.mean))
    return Ridge(
        alpha=float(alpha),
        mean=moments.mean,
        scale=moments.scale,
        weights=np.linalg.solve(moments.gram + penalty, moments.cross).astype(np.float64, copy=False),
        intercept=moments.intercept,
    )


def _blocks(num_rows: int) -> list[slice]:
    """Consecutive slices that cover all rows."""
    return [slice(start, start + BLOCK_ROWS) for start in range(0, num_rows, BLOCK_ROWS)]
