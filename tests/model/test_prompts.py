import math

import numpy as np
import pytest
import scipy.special
import torch

from va.data.regions import CENTERS, REGION_TEXTS
from va.model.prompts import RegionHead, region_centers, soft_labels


def eq_2(points, centers, sigma):
    """Paper eq. 2 as it is printed, one point and one region at a time."""
    rows = []
    for valence, arousal in points:
        kernel = [math.exp(-((valence - v) ** 2 + (arousal - a) ** 2) / (2 * sigma**2)) for v, a in centers]
        rows.append([value / sum(kernel) for value in kernel])
    return np.array(rows)


@pytest.fixture
def points():
    return torch.tensor(np.random.default_rng(0).uniform(-1, 1, size=(4, 25, 2)))


@pytest.mark.parametrize(("values", "sigma"), [(CENTERS, 0.45), ((-1.0, 0.0, 1.0), 0.6), ((-0.5, 0.5), 0.2)])
def test_soft_labels_equal_eq_2(points, values, sigma):
    centers = region_centers(values).double()
    labels = soft_labels(points, centers, sigma)
    assert labels.shape == (4, 25, len(values) ** 2)
    flat = points.numpy().reshape(-1, 2)
    np.testing.assert_allclose(labels.numpy().reshape(len(flat), -1), eq_2(flat, centers.numpy(), sigma), atol=1e-12)
    distance = np.linalg.norm(flat[:, None] - centers.numpy()[None], axis=-1)
    softmax = scipy.special.softmax(-(distance**2) / (2 * sigma**2), axis=-1)
    np.testing.assert_allclose(labels.numpy().reshape(len(flat), -1), softmax, atol=1e-12)


def test_soft_labels_become_hard_or_uniform_with_sigma(points):
    centers = region_centers(CENTERS).double()
    torch.testing.assert_close(soft_labels(centers, centers, 0.01), torch.eye(9, dtype=torch.float64))
    uniform = torch.full((4, 25, 9), 1 / 9, dtype=torch.float64)
    torch.testing.assert_close(soft_labels(points, centers, 1e4), uniform)


def test_soft_labels_stay_a_distribution_far_outside_and_keep_float32():
    labels = soft_labels(torch.tensor([[-5.0, -5.0], [100.0, 0.0]]), region_centers(CENTERS), 0.45)
    assert labels.dtype == torch.float32
    torch.testing.assert_close(labels.sum(dim=-1), torch.ones(2))
    assert labels.argmax(dim=-1).tolist() == [0, 7]


@pytest.mark.parametrize("sigma", [0.0, -0.45, math.nan])
def test_soft_labels_refuse_sigma(sigma):
    with pytest.raises(ValueError, match="sigma must be above 0"):
        soft_labels(torch.zeros(1, 2), region_centers(CENTERS), sigma)


@pytest.mark.parametrize(("va", "centers"), [((5, 3), (9, 2)), ((5, 2), (9, 3)), ((5, 2), (2,))])
def test_soft_labels_refuse_shapes(va, centers):
    with pytest.raises(ValueError, match="expected"):
        soft_labels(torch.zeros(va), torch.zeros(centers), 0.45)


def test_region_centers_run_through_arousal_first():
    centers = region_centers((-1, 0, 1))
    assert centers.dtype == torch.float32
    expected = [[-1, -1], [-1, 0], [-1, 1], [0, -1], [0, 0], [0, 1], [1, -1], [1, 0], [1, 1]]
    assert centers.tolist() == expected


def test_region_centers_agree_with_the_region_texts():
    centers = region_centers(CENTERS)
    by_text = dict(zip(REGION_TEXTS, centers.sign().int().tolist(), strict=True))
    assert by_text["sad, tired, and low-energy"] == [-1, -1]
    assert by_text["angry, tense, and highly aroused"] == [-1, 1]
    assert by_text["neutral and emotionally ordinary"] == [0, 0]
    assert by_text["relaxed, content, and pleasant"] == [1, -1]
    assert by_text["excited, joyful, and energetic"] == [1, 1]


def test_region_centers_take_an_axis_each():
    centers = region_centers(((-0.5, 0.5), (-1.0, 0.0, 1.0)))
    assert centers.tolist() == [[-0.5, -1], [-0.5, 0], [-0.5, 1], [0.5, -1], [0.5, 0], [0.5, 1]]
    torch.testing.assert_close(region_centers((CENTERS, CENTERS)), region_centers(CENTERS))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((), "increasing"),
        ((0.66, 0.0, -0.66), "increasing"),
        ((0.0, 0.0), "increasing"),
        (((), (0.0,)), "increasing"),
        (((0.0,),), "pair"),
        (((0.0,), 1.0), "pair"),
        (((0.0,), (0.0,), (0.0,)), "pair"),
    ],
)
def test_region_centers_refuse(values, message):
    with pytest.raises(ValueError, match=message):
        region_centers(values)


def test_region_head_equals_numpy_cosine():
    torch.manual_seed(0)
    prototypes = 3 * torch.randn(9, 7)
    head = RegionHead(width=8, prototypes=prototypes, init_scale=4.0).double()
    features = torch.randn(2, 5, 8, dtype=torch.float64)
    mapped = features.numpy() @ head.projection.weight.detach().numpy().T
    norms = np.linalg.norm(mapped, axis=-1)[..., None] * np.linalg.norm(prototypes.double().numpy(), axis=-1)
    expected = 4.0 * (mapped @ prototypes.double().numpy().T) / norms
    np.testing.assert_allclose(head(features).detach().numpy(), expected, atol=1e-6)


def test_region_head_sees_only_the_direction_of_a_prototype():
    torch.manual_seed(0)
    prototypes, features = torch.randn(9, 7), torch.randn(2, 5, 8)
    head = RegionHead(width=8, prototypes=prototypes, init_scale=4.0)
    expected = head(features)
    head.prototypes *= torch.rand(9, 1) + 0.5
    torch.testing.assert_close(head(features), expected)


def test_region_head_trains_the_scale_but_not_the_prototypes():
    prototypes = torch.randn(9, 7)
    head = RegionHead(width=8, prototypes=prototypes, init_scale=10.0)
    assert {name for name, _ in head.named_parameters()} == {"projection.weight", "log_scale"}
    torch.testing.assert_close(head.state_dict()["prototypes"], prototypes)
    prototypes.zero_()
    assert head.prototypes.abs().min() > 0, "the head shares memory with its argument"


def test_region_head_scale_stays_positive_under_any_step():
    head = RegionHead(width=8, prototypes=torch.eye(9), init_scale=10.0)
    features = torch.randn(1, 1, 8)
    before = head(features)
    with torch.no_grad():
        head.log_scale -= 20
    torch.testing.assert_close(head(features), before * math.exp(-20))


def test_region_head_survives_features_of_zero():
    head = RegionHead(width=8, prototypes=torch.eye(9), init_scale=10.0)
    features = torch.zeros(1, 2, 8, requires_grad=True)
    logits = head(features)
    assert torch.equal(logits, torch.zeros(1, 2, 9))
    logits.square().sum().backward()
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(7,), (0, 7), (9, 0), (1, 9, 7)])
def test_region_head_refuses_prototypes(shape):
    with pytest.raises(ValueError, match="prototypes"):
        RegionHead(width=8, prototypes=torch.ones(shape), init_scale=10.0)


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_region_head_refuses_a_scale(scale):
    with pytest.raises(ValueError, match="init_scale"):
        RegionHead(width=8, prototypes=torch.eye(9), init_scale=scale)
