"""How much of its loss an optimal discriminator owes to a rare event, by objective.

Real samples show the event with probability p, generated ones with q = p + eps · p^gamma. Its share of the loss at the
optimum is larger for MIM than for cross-entropy, and for cross-entropy than for least squares ("MIM-based GAN",
eqs 16 and 20; "From MIM-based GAN to anomaly detection", eq. 43). The differences are small.
"""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from inspect_gan.objectives import Objective, objectives

# Second-order coefficients of the share.
COEFFICIENT = {"mim": 1 / 8, "nonsaturating": 1 / (8 * math.log(2)), "lsgan": 1 / 4}


def make(name: str) -> Objective:
    objective = objectives.get(name)
    settings: dict[str, Any] = {"output": "raw"} if name == "mim" else {}
    return objective(objective.settings_class(**settings))


def optimal_output(name: str, real: Tensor, generated: Tensor) -> Tensor:
    if name == "mim":
        return 0.5 + 0.5 * (real / generated).log()
    return (real / generated).log() if name == "nonsaturating" else real / (real + generated)


def share(name: str, p: float, q: float) -> float:
    """Part of the event in the loss of the optimal D."""
    objective = make(name)
    # Float64 in, so that the shares of nearly equal p and q can be told apart.
    real, generated = (torch.tensor([a, 1 - a], dtype=torch.float64) for a in (p, q))
    table = optimal_output(name, real, generated).float().requires_grad_()
    each = real * objective.d_real(table).double() + generated * objective.d_fake(table).double()
    (slope,) = torch.autograd.grad(each.sum(), table)
    assert slope.abs().max() < 1e-5, "not the optimum"
    return (each[0] / each.sum()).item()


def second_order(name: str, p: float, eps: float, gamma: float) -> float:
    q = p + eps * p**gamma
    s = COEFFICIENT[name] * eps**2 * p ** (2 * gamma - 1)
    return ((p + q) / 2 - s) / (1 - s / (1 - p))


CASES = [
    (0.05, 0.1, 1.0, 0.055, (0.052444, 0.052419, 0.052388), (0.052441, 0.052415, 0.052382)),
    (0.05, 0.5, 1.0, 0.075, (0.061320, 0.060802, 0.060160), (0.061038, 0.060389, 0.059571)),
    (0.05, -0.5, 1.0, 0.025, (0.035434, 0.034546, 0.033478), (0.035997, 0.035330, 0.034488)),
    (0.01, 0.3, 0.8, 0.017536, (0.013249, 0.013024, 0.012750), (0.013067, 0.012757, 0.012366)),
]


@pytest.mark.parametrize(("p", "eps", "gamma", "q", "exact", "approximate"), CASES)
def test_shares(p: float, eps: float, gamma: float, q: float, exact: Any, approximate: Any) -> None:
    assert p + eps * p**gamma == pytest.approx(q, abs=1e-6)
    for name, wanted, near in zip(("mim", "nonsaturating", "lsgan"), exact, approximate, strict=True):
        assert share(name, p, p + eps * p**gamma) == pytest.approx(wanted, abs=2e-6)
        assert second_order(name, p, eps, gamma) == pytest.approx(near, abs=1e-6)


@pytest.mark.parametrize("name", COEFFICIENT)
def test_second_order_is_left_by_a_third_order_error(name: str) -> None:
    def error(eps: float) -> float:
        return abs(share(name, 0.05, 0.05 + eps * 0.05) - second_order(name, 0.05, eps, 1.0))

    assert 6 < error(0.4) / error(0.2) < 10
    assert error(0.2) < 1e-4


@given(st.floats(1e-3, 0.5), st.floats(1e-3, 0.5))
def test_order_of_the_objectives(p: float, q: float) -> None:
    mim, entropy, squares = (share(name, p, q) for name in ("mim", "nonsaturating", "lsgan"))
    assert mim >= entropy - 1e-6
    assert entropy >= squares - 1e-6


@pytest.mark.parametrize("p", [0.001, 0.05, 0.5])
def test_without_a_difference_the_share_is_the_probability(p: float) -> None:
    for name in COEFFICIENT:
        assert share(name, p, p) == pytest.approx(p, abs=1e-6)
