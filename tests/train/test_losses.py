import math

import audmetric
import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from va.train.losses import ccc_loss, region_kl


def numpy_ccc(x, y):
    """Concordance with population variances, from its definition."""
    covariance = np.mean((x - x.mean()) * (y - y.mean()))
    return 2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


@pytest.fixture
def series():
    """Correlated prediction and target [4, 6, 2] in [-1, 1], and a mask with gaps and one empty window."""
    generator = torch.Generator().manual_seed(0)
    target = 2 * torch.rand(4, 6, 2, generator=generator, dtype=torch.float64) - 1
    prediction = 0.6 * target + 0.3 * torch.randn(4, 6, 2, generator=generator, dtype=torch.float64) + 0.1
    valid = torch.rand(4, 6, generator=generator) < 0.7
    valid[3] = False
    return prediction, target, valid


def test_ccc_loss_equals_numpy_and_audmetric(series):
    prediction, target, valid = series
    kept_prediction, kept_target = prediction[valid].numpy(), target[valid].numpy()
    loss = ccc_loss(prediction, target, valid).item()
    for oracle in (numpy_ccc, lambda x, y: audmetric.concordance_cc(y, x)):
        expected = sum(1 - oracle(kept_prediction[:, axis], kept_target[:, axis]) for axis in range(2))
        # 1e-6 is what the guard of the denominator is allowed to move; it moves far less here.
        assert loss == pytest.approx(expected, abs=1e-7)


def test_ccc_loss_in_float32_agrees_with_float64(series):
    prediction, target, valid = series
    assert ccc_loss(prediction.float(), target.float(), valid).item() == pytest.approx(
        ccc_loss(prediction, target, valid).item(), abs=1e-5
    )


def test_ccc_loss_guard_moves_a_small_spread_by_less_than_a_millionth():
    generator = torch.Generator().manual_seed(0)
    # Standard deviations of 0.025 make a spread of about 1e-3, the smallest the docstring vouches for.
    target = 0.025 * torch.randn(500, 2, generator=generator, dtype=torch.float64)
    prediction = target + 0.01 * torch.randn(500, 2, generator=generator, dtype=torch.float64)
    expected = sum(1 - numpy_ccc(prediction[:, axis].numpy(), target[:, axis].numpy()) for axis in range(2))
    loss = ccc_loss(prediction, target, torch.ones(500, dtype=torch.bool)).item()
    assert loss == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize(("factor", "expected"), [(1.0, 0.0), (-1.0, 4.0)])
def test_ccc_loss_of_a_perfect_and_of_an_inverted_prediction(factor, expected):
    target = torch.tensor([[-0.5, 0.2], [0.5, -0.2]])
    loss = ccc_loss(factor * target, target, torch.tensor([True, True]))
    assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_ccc_loss_pools_over_the_batch_instead_of_averaging_windows():
    target = torch.tensor([[[0.5, 0.5]] * 3, [[-0.5, -0.5]] * 3])
    loss = ccc_loss(target.clone(), target, torch.ones(2, 3, dtype=torch.bool))
    assert loss.item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(("prediction", "target"), [(0.3, 0.3), (0.3, -0.6), (0.3, None), (None, -0.6)])
def test_ccc_loss_of_constants_is_two_with_finite_gradient(series, prediction, target):
    def filled(value, otherwise):
        return otherwise.float().clone() if value is None else torch.full((4, 6, 2), value)

    predicted = filled(prediction, series[0]).requires_grad_()
    loss = ccc_loss(predicted, filled(target, series[1]), series[2])
    assert loss.item() == pytest.approx(2.0, abs=1e-4)
    loss.backward()
    assert predicted.grad.isfinite().all()


@pytest.mark.parametrize("value", [-5.0, math.inf, math.nan])
def test_ccc_loss_never_sees_masked_values(series, value):
    prediction, target, valid = series
    prediction.requires_grad_()
    expected = ccc_loss(prediction, target, valid)
    (expected_gradient,) = torch.autograd.grad(expected, prediction)
    changed = torch.where(valid[..., None], prediction.detach(), value).requires_grad_()
    loss = ccc_loss(changed, torch.where(valid[..., None], target, value), valid)
    (gradient,) = torch.autograd.grad(loss, changed)
    assert torch.equal(loss, expected)
    assert torch.equal(gradient, expected_gradient)
    assert torch.equal(gradient[~valid], torch.zeros_like(gradient[~valid]))
    assert gradient[valid].abs().min() > 0


def test_ccc_loss_does_not_depend_on_padding(series):
    prediction, target, valid = series
    flat = torch.ones(int(valid.sum()), dtype=torch.bool)
    torch.testing.assert_close(
        ccc_loss(prediction[valid], target[valid], flat), ccc_loss(prediction, target, valid), atol=1e-12, rtol=0
    )


def test_ccc_loss_gradient(series):
    prediction, target, valid = series
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(lambda values: ccc_loss(values, target, valid), prediction)


@pytest.mark.parametrize("num_valid", [0, 1])
def test_ccc_loss_needs_two_labels(num_valid):
    valid = torch.arange(4) < num_valid
    with pytest.raises(ValueError, match=f"at least two valid labels, got {num_valid}"):
        ccc_loss(torch.rand(4, 2), torch.rand(4, 2), valid)


@pytest.mark.parametrize(("prediction", "target", "valid"), [((4, 2), (3, 2), (4,)), ((4, 3), (4, 3), (4,))])
def test_ccc_loss_refuses_shapes(prediction, target, valid):
    with pytest.raises(ValueError, match="expected"):
        ccc_loss(torch.rand(prediction), torch.rand(target), torch.ones(valid, dtype=torch.bool))


@pytest.fixture
def distributions():
    generator = torch.Generator().manual_seed(0)
    logits = 4 * torch.randn(4, 6, 9, generator=generator, dtype=torch.float64)
    soft = torch.softmax(2 * torch.randn(4, 6, 9, generator=generator, dtype=torch.float64), dim=-1)
    valid = torch.rand(4, 6, generator=generator) < 0.7
    return logits, soft, valid


def test_region_kl_equals_scipy(distributions):
    logits, soft, valid = distributions
    expected_soft, probability = soft[valid].numpy(), scipy.special.softmax(logits[valid].numpy(), axis=-1)
    loss = region_kl(logits, soft, valid).item()
    assert loss == pytest.approx(scipy.stats.entropy(expected_soft, probability, axis=-1).mean(), abs=1e-12)
    assert loss == pytest.approx(scipy.special.rel_entr(expected_soft, probability).sum(-1).mean(), abs=1e-12)


def test_region_kl_of_equal_distributions_is_zero(distributions):
    _, soft, valid = distributions
    assert region_kl(soft.log() + 3, soft, valid).item() == pytest.approx(0.0, abs=1e-12)


def test_region_kl_of_a_hard_label_is_the_cross_entropy(distributions):
    logits, _, valid = distributions
    hard = torch.zeros_like(logits)
    hard[..., 2] = 1
    expected = -torch.log_softmax(logits, dim=-1)[..., 2][valid].mean()
    torch.testing.assert_close(region_kl(logits, hard, valid), expected)


def test_region_kl_gradient_is_probability_minus_soft_label(distributions):
    logits, soft, valid = distributions
    logits.requires_grad_()
    region_kl(logits, soft, valid).backward()
    expected = (torch.softmax(logits, dim=-1) - soft) / valid.sum()
    expected[~valid] = 0
    torch.testing.assert_close(logits.grad, expected.detach())


@pytest.mark.parametrize("value", [1e6, math.inf, math.nan])
def test_region_kl_never_sees_masked_values(distributions, value):
    logits, soft, valid = distributions
    logits.requires_grad_()
    expected = region_kl(logits, soft, valid)
    (expected_gradient,) = torch.autograd.grad(expected, logits)
    changed = torch.where(valid[..., None], logits.detach(), value).requires_grad_()
    loss = region_kl(changed, torch.where(valid[..., None], soft, value), valid)
    (gradient,) = torch.autograd.grad(loss, changed)
    assert torch.equal(loss, expected)
    assert torch.equal(gradient, expected_gradient)


def test_region_kl_does_not_depend_on_padding(distributions):
    logits, soft, valid = distributions
    flat = torch.ones(int(valid.sum()), dtype=torch.bool)
    torch.testing.assert_close(region_kl(logits[valid], soft[valid], flat), region_kl(logits, soft, valid))


def test_region_kl_without_a_valid_step_is_zero_with_zero_gradient(distributions):
    logits, soft, valid = distributions
    logits = torch.full_like(logits, math.nan).requires_grad_()
    loss = region_kl(logits, torch.full_like(soft, math.nan), torch.zeros_like(valid))
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize(("soft", "valid"), [((4, 8), (4,)), ((4, 9), (3,)), ((4, 9), (4, 9))])
def test_region_kl_refuses_shapes(soft, valid):
    with pytest.raises(ValueError, match="expected"):
        region_kl(torch.rand(4, 9), torch.rand(soft), torch.ones(valid, dtype=torch.bool))
