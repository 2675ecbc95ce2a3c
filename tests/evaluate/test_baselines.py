"""Ridge regression against numpy.linalg.lstsq on the augmented system, and the choice of its penalty."""

import math
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from va.evaluate import baselines, metrics


def make_rows(seed: int, num_rows: int, num_features: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of very different scale, and targets that follow from a few of them."""
    rng = np.random.default_rng(seed)
    scale = 10.0 ** np.random.default_rng(99).uniform(-3, 3, num_features)
    features = (rng.normal(size=(num_rows, num_features)) + 2.0) * scale
    weights = np.random.default_rng(98).normal(size=(num_features, 2)) / scale[:, None]
    return features, 0.1 * features @ weights + rng.normal(0, 0.3, (num_rows, 2)) + 0.7


def oracle(features: np.ndarray, target: np.ndarray, alpha: float, new: np.ndarray) -> np.ndarray:
    """Least squares on standardised features, a column of ones and sqrt(alpha N) rows per weight."""
    features, new = features.astype(np.float64), new.astype(np.float64)
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale[scale == 0] = 1.0
    num_rows, num_features = features.shape
    ones = np.ones((num_rows, 1))
    penalty = np.hstack([math.sqrt(alpha * num_rows) * np.eye(num_features), np.zeros((num_features, 1))])
    system = np.vstack([np.hstack([(features - mean) / scale, ones]), penalty])
    wanted = np.vstack([target, np.zeros((num_features, 2))])
    solution = np.linalg.lstsq(system, wanted, rcond=None)[0]
    return np.hstack([(new - mean) / scale, np.ones((len(new), 1))]) @ solution


def fit_ridge(rows: Iterable[tuple[np.ndarray, np.ndarray]], *, alpha: float) -> baselines.Ridge:
    """With a single penalty there is nothing to choose."""
    return baselines.choose_ridge(rows, [], alphas=(alpha,))[0]


@pytest.mark.parametrize("alpha", [1e-4, 1.0, 100.0])
@pytest.mark.parametrize(("num_rows", "num_features"), [(300, 8), (12, 40)])
def test_ridge_is_least_squares_on_the_augmented_system(alpha: float, num_rows: int, num_features: int) -> None:
    features, target = make_rows(0, num_rows, num_features)
    new, _ = make_rows(1, 50, num_features)
    measured = fit_ridge([(features, target)], alpha=alpha).predict(new)
    np.testing.assert_allclose(measured, oracle(features, target, alpha, new), atol=1e-8, rtol=1e-8)


def test_blocks_and_half_precision_give_the_same_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    features, target = make_rows(2, 100, 6)
    features = (features / np.abs(features).max(axis=0)).astype(np.float16)
    expected = oracle(features, target, 0.01, features)
    monkeypatch.setattr(baselines, "BLOCK_ROWS", 7)
    fit = fit_ridge([(features, target.astype(np.float64))], alpha=0.01)
    np.testing.assert_allclose(fit.predict(features), expected, atol=1e-8)


def in_two_passes(features: np.ndarray, target: np.ndarray, alpha: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, mean and scale from all rows at once, as they were computed before rows came in parts."""
    mean, centred = features.mean(axis=0), features - features.mean(axis=0)
    scale = np.sqrt((centred**2).mean(axis=0))
    gram = centred.T @ centred / np.outer(scale, scale)
    cross = centred.T @ (target - target.mean(axis=0)) / scale[:, None]
    return np.linalg.solve(gram + alpha * len(features) * np.eye(len(mean)), cross), mean, scale


@pytest.mark.parametrize("joined", [1, 120, 4096])
def test_rows_in_parts_give_the_fit_of_all_rows_at_once(joined: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "JOINED_ROWS", joined)
    features, target = make_rows(10, 400, 20)
    # Clips differ far more between than within: what a one-pass sum of squares would lose.
    features = features + 3.0 * np.repeat(np.arange(8.0), 50)[:, None] * features.std(axis=0) + 1e5
    parts = [(features[start : start + 50], target[start : start + 50]) for start in range(0, 400, 50)]
    parts.insert(3, (features[:0], target[:0]))  # a clip without a label
    fit = fit_ridge(iter(parts), alpha=1e-3)
    weights, mean, scale = in_two_passes(features, target, 1e-3)
    np.testing.assert_allclose(fit.weights, weights, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(fit.mean, mean, rtol=1e-13)
    np.testing.assert_allclose(fit.scale, scale, rtol=1e-9)
    np.testing.assert_allclose(fit.intercept, target.mean(axis=0), rtol=1e-12)


def test_few_parts_at_a_time_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baselines, "JOINED_ROWS", 20)
    features, target = make_rows(11, 90, 4)
    alive = 0

    class Counted(np.ndarray):
        def __del__(self) -> None:
            nonlocal alive
            alive -= self.base is None

    def parts() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        nonlocal alive
        for start in range(0, 90, 10):
            part = np.ndarray.__new__(Counted, (10, 4))
            part[:] = features[start : start + 10]
            alive += 1
            assert alive <= 3  # the new one, and the two that were joined and are about to go
            yield part, target[start : start + 10]
            del part

    fit_ridge(parts(), alpha=1.0)


def test_a_constant_feature_changes_nothing() -> None:
    features, target = make_rows(3, 80, 5)
    plain = fit_ridge([(features, target)], alpha=0.1)
    with_constant = fit_ridge([(np.hstack([features, np.full((80, 1), 0.1)]), target)], alpha=0.1)
    new, _ = make_rows(4, 20, 5)
    np.testing.assert_allclose(
        with_constant.predict(np.hstack([new, np.full((20, 1), 123.0)])), plain.predict(new), atol=1e-9
    )


def test_a_huge_penalty_leaves_the_mean() -> None:
    features, target = make_rows(5, 60, 4)
    fit = fit_ridge([(features, target)], alpha=1e12)
    np.testing.assert_allclose(fit.predict(features), np.tile(target.mean(axis=0), (60, 1)), atol=1e-9)


def test_the_penalty_is_chosen_on_dev() -> None:
    train, dev = make_rows(6, 45, 40), make_rows(7, 400, 40)
    fit, scores = baselines.choose_ridge([train], [dev], alphas=baselines.ALPHAS)
    every = np.ones(400, dtype=bool)
    expected = [
        metrics.evaluate(oracle(*train, alpha, dev[0]), dev[1], every)["ccc_mean"] for alpha in baselines.ALPHAS
    ]
    np.testing.assert_allclose(scores, expected, atol=1e-7)
    assert fit.alpha == baselines.ALPHAS[int(np.argmax(expected))]
    # With as many features as rows neither end of the grid can be right: the choice is a choice.
    assert baselines.ALPHAS[0] < fit.alpha < baselines.ALPHAS[-1]


def test_an_undefined_dev_score_ranks_last_and_the_larger_penalty_wins_ties() -> None:
    features, target = make_rows(8, 30, 3)
    constant_dev = np.zeros((1, 3)), np.zeros((1, 2))
    fit, scores = baselines.choose_ridge([(features, target)], [constant_dev], alphas=(0.1, 10.0, 1.0))
    assert np.isnan(scores).all()
    assert fit.alpha == 10.0


def test_wrong_input_is_refused() -> None:
    features, target = make_rows(9, 10, 3)
    with pytest.raises(ValueError, match="alpha must be > 0"):
        fit_ridge([(features, target)], alpha=0.0)
    with pytest.raises(ValueError, match="expected features"):
        fit_ridge([(features, target[:-1])], alpha=1.0)
    with pytest.raises(ValueError, match=r"expected features \[N, 3\], got"):
        fit_ridge([(features, target), (features[:, :2], target)], alpha=1.0)
    with pytest.raises(ValueError, match="expected features"):
        fit_ridge([(features[:0], target[:0])], alpha=1.0)
    with pytest.raises(ValueError, match="NaN or infinite"):
        fit_ridge([(np.where(features > features.mean(), np.nan, features), target)], alpha=1.0)
    with pytest.raises(ValueError, match=r"features \[N, 3\]"):
        fit_ridge([(features, target)], alpha=1.0).predict(features[:, :2])
    with pytest.raises(ValueError, match="no alpha"):
        baselines.choose_ridge([(features, target)], [(features, target)], alphas=())
