"""Ridge regression: the figure that every model must beat to have learned anything.

Reported beside every result on two inputs: 16 x 16 pixels and loudness (what needs no encoder at all), and
the frozen embeddings themselves (what needs no head). Closed form and NumPy only, so that it costs seconds
and has no seed. Inputs are standardised by the training rows, the intercept is not penalised, and the
penalty is chosen by the mean CCC on dev, never on the reported split (settled 7). Rows come clip by clip and are
looked at once, because those of a whole corpus would not fit into memory in float64.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from va.evaluate import metrics
from va.evaluate.metrics import FloatArray

ALPHAS: Final = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0)
"""The penalties tried, per training row and for standardised inputs (no unit)."""

BLOCK_ROWS: Final = 65_536
"""Rows converted to float64 at a time, should one part hold more."""

JOINED_ROWS: Final = 4096
"""Rows of small parts that are taken together: 42 MB of 1,280 features."""

Rows = tuple[FloatArray, FloatArray]
"""Features [N, D] and targets [N, 2] of some steps."""


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


class _Moments:
    """Everything about the training rows that a fit needs, whatever its penalty, gathered part by part in one pass.

    Each part is centred on its own mean before its products are taken, and the distance between its mean and that of
    the rows before it is added (Chan, Golub and LeVeque, 1983): nothing large is ever subtracted.
    """

    def __init__(self) -> None:
        self.num_rows = 0
        self.mean = self.intercept = self.low = self.high = np.zeros(0)
        self.gram = self.cross = np.zeros((0, 0))

    def add(self, features: FloatArray, target: FloatArray) -> None:
        """Count more rows in: float [N, D] and [N, 2]; N may be 0.

        Raises:
            ValueError: The shapes do not fit, or a value is not finite.
        """
        if features.ndim != 2 or target.shape != (len(features), 2):
            raise ValueError(f"expected features [N, D] and target [N, 2], got {features.shape}, {target.shape}")
        if not self.num_rows:
            self._begin(features.shape[1])
        if features.shape[1] != len(self.mean):
            raise ValueError(f"expected features [N, {len(self.mean)}], got {features.shape}")
        for rows in _blocks(len(features)):
            self._add(features[rows].astype(np.float64), target[rows].astype(np.float64))

    def scale(self) -> tuple[FloatArray, FloatArray]:
        """Give each feature's deviation, 1 where it is constant, and what to multiply it by, 0 where it is."""
        # A constant feature says nothing; its rounding must not be blown up to unit variance.
        constant = self.high == self.low
        scale = np.where(constant, 1.0, np.sqrt(np.diagonal(self.gram) / self.num_rows))
        return scale, np.where(constant, 0.0, 1.0 / scale)

    def _begin(self, num_features: int) -> None:
        self.mean, self.intercept = np.zeros(num_features), np.zeros(2)
        self.low, self.high = np.full(num_features, np.inf), np.full(num_features, -np.inf)
        self.gram, self.cross = np.zeros((num_features, num_features)), np.zeros((num_features, 2))

    def _add(self, features: FloatArray, target: FloatArray) -> None:
        if not (np.isfinite(features).all() and np.isfinite(target).all()):
            raise ValueError("a feature or a target is NaN or infinite")
        self.low = np.minimum(self.low, features.min(axis=0))
        self.high = np.maximum(self.high, features.max(axis=0))
        mean, intercept = features.mean(axis=0), target.mean(axis=0)
        centred = features - mean
        share = len(features) / (self.num_rows + len(features))
        step, step_target = mean - self.mean, intercept - self.intercept
        self.gram += centred.T @ centred
        self.gram += self.num_rows * share * np.outer(step, step)
        self.cross += centred.T @ (target - intercept) + self.num_rows * share * np.outer(step, step_target)
        self.mean, self.intercept = self.mean + share * step, self.intercept + share * step_target
        self.num_rows += len(features)


def choose_ridge(train: Iterable[Rows], dev: Iterable[Rows], *, alphas: Sequence[float]) -> tuple[Ridge, list[float]]:
    """Fit one ridge per penalty on train and keep the one with the best mean CCC on dev.

    Each minimises mean squared error + alpha * |weights|^2 over standardised features, in closed form. The penalty is
    per row, so that one grid of alphas serves corpora of any size.

    Args:
        train: Features and (valence, arousal) of labelled steps in parts, e.g. one per clip: float [N, D] and [N, 2].
            Looked at once, one part in memory at a time; at least one row in all.
        dev: Likewise, or nothing; rows of other people than train's (settled 7).
        alphas: Penalties to try, each > 0; at least one. `ALPHAS` is the usual grid.

    Returns:
        The best fit, and the mean CCC on dev of each penalty in the order given. An undefined CCC ranks
        last; of equals the larger penalty wins.

    Raises:
        ValueError: The shapes do not fit, a value is not finite, there is no row, a penalty is not above 0, or none
            is given.
    """
    if not alphas:
        raise ValueError("no alpha to choose from")
    moments = _gather(train)
    fits = [_solve(moments, alpha=alpha) for alpha in alphas]
    targets: list[FloatArray] = [np.zeros((0, 2))]
    predictions: list[list[FloatArray]] = [[np.zeros((0, 2))] for _ in fits]
    for features, target in dev:
        targets.append(target)
        for fit, answers in zip(fits, predictions, strict=True):
            answers.append(fit.predict(features))
    wanted = np.concatenate(targets)
    every = np.ones(len(wanted), dtype=bool)
    scores = [metrics.evaluate(np.concatenate(answers), wanted, every)["ccc_mean"] for answers in predictions]
    best = max(range(len(fits)), key=lambda index: (np.nan_to_num(scores[index], nan=-2.0), alphas[index]))
    return fits[best], scores


def _gather(rows: Iterable[Rows]) -> _Moments:
    moments = _Moments()
    for features, target in _joined(rows):
        moments.add(features, target)
    if not moments.num_rows:
        raise ValueError("expected features [N, D] and target [N, 2] with at least one row, got none")
    return moments


def _joined(rows: Iterable[Rows]) -> Iterator[Rows]:
    """Join small parts: a product of few rows costs as much for its D x D result as for the rows."""
    waiting: list[Rows] = []
    for part in rows:
        waiting.append(part)
        if sum(len(features) for features, _ in waiting) >= JOINED_ROWS:
            yield _concatenated(waiting)
            waiting = []
    if waiting:
        yield _concatenated(waiting)


def _concatenated(parts: Sequence[Rows]) -> Rows:
    features, targets = zip(*parts, strict=True)
    if len({part.shape[1:] for part in features}) > 1:
        raise ValueError(f"expected features [N, {features[0].shape[1]}], got {[part.shape for part in features]}")
    return np.concatenate(features), np.concatenate(targets)


def _solve(moments: _Moments, *, alpha: float) -> Ridge:
    """Solve the normal equations for one penalty."""
    if not alpha > 0:
        raise ValueError(f"alpha must be > 0, not {alpha}")
    scale, informative = moments.scale()
    gram = moments.gram * np.outer(informative, informative)
    penalty = alpha * moments.num_rows * np.eye(len(moments.mean))
    return Ridge(
        alpha=float(alpha),
        mean=moments.mean,
        scale=scale,
        weights=np.linalg.solve(gram + penalty, moments.cross * informative[:, None]).astype(np.float64, copy=False),
        intercept=moments.intercept,
    )


def _blocks(num_rows: int) -> list[slice]:
    """Consecutive slices that cover all rows."""
    return [slice(start, start + BLOCK_ROWS) for start in range(0, num_rows, BLOCK_ROWS)]
