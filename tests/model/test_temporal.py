import numpy as np
import pytest
import torch

from va.model.temporal import BiGRU


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_gru(steps, weight_ih, weight_hh, bias_ih, bias_hh):
    """One direction of a GRU over [T, D], from the definition of its three gates."""
    hidden = np.zeros(weight_hh.shape[1])
    states = []
    for step in steps:
        reset_x, update_x, new_x = np.split(weight_ih @ step + bias_ih, 3)
        reset_h, update_h, new_h = np.split(weight_hh @ hidden + bias_hh, 3)
        update = sigmoid(update_x + update_h)
        candidate = np.tanh(new_x + sigmoid(reset_x + reset_h) * new_h)
        hidden = (1 - update) * candidate + update * hidden
        states.append(hidden)
    return np.array(states)


def direction_weights(gru, suffix):
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    return [getattr(gru, f"{name}_l0{suffix}").detach().numpy() for name in names]


@pytest.mark.parametrize("num_steps", [1, 7])
def test_bigru_equals_a_handwritten_one(num_steps):
    torch.manual_seed(0)
    module = BiGRU(width=6).double()
    x = torch.randn(3, num_steps, 6, dtype=torch.float64)
    expected = [
        np.concatenate(
            [
                numpy_gru(steps, *direction_weights(module.gru, "")),
                numpy_gru(steps[::-1], *direction_weights(module.gru, "_reverse"))[::-1],
            ],
            axis=1,
        )
        for steps in x.numpy()
    ]
    np.testing.assert_allclose(module(x).detach().numpy(), expected, atol=1e-12)


def test_bigru_of_the_paper_has_128_units_a_direction():
    module = BiGRU(width=256)
    assert module.gru.weight_hh_l0.shape == module.gru.weight_hh_l0_reverse.shape == (3 * 128, 128)
    assert module(torch.zeros(1, 2, 256)).shape == (1, 2, 256)


@pytest.mark.parametrize("width", [0, 7])
def test_bigru_refuses_a_width_that_does_not_split_in_two(width):
    with pytest.raises(ValueError, match="even number"):
        BiGRU(width=width)
