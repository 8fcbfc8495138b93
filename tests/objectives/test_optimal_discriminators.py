"""Optimal discriminators of discrete densities: D is a free table with one raw output per atom."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from inspect_gan.objectives import Objective, objectives

P = torch.tensor([0.4, 0.3, 0.2, 0.1])
Q = torch.tensor([0.1, 0.2, 0.3, 0.4])
RAW = {"output": "raw"}


def make(name: str, **settings: object) -> Objective:
    objective = objectives.get(name)
    return objective(objective.settings_class(**settings))


def close(value: Tensor | float, expected: Tensor | Sequence[float] | float, tolerance: float = 1e-5) -> bool:
    wanted = torch.as_tensor(expected, dtype=torch.float32)
    got = torch.as_tensor(value, dtype=torch.float32).detach()
    return got.shape == wanted.shape and bool(torch.allclose(got, wanted, rtol=tolerance, atol=tolerance))


def expected_loss(objective: Objective, table: Tensor, p: Tensor = P, q: Tensor = Q) -> Tensor:
    return (p * objective.d_real(table)).sum() + (q * objective.d_fake(table)).sum()


def optimum(objective: Objective, p: Tensor = P, q: Tensor = Q) -> tuple[Tensor, float]:
    table = torch.zeros_like(p, requires_grad=True)
    optimizer = torch.optim.LBFGS([table], max_iter=200, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = expected_loss(objective, table, p, q)
        loss.backward()
        return loss

    optimizer.step(closure)
    best = table.detach()
    return best, float(expected_loss(objective, best, p, q))


@pytest.mark.parametrize("name", ["minimax", "nonsaturating"])
def test_optimal_cross_entropy_discriminator_is_the_posterior(name: str) -> None:
    table, value = optimum(make(name))
    assert close(torch.sigmoid(table), [0.8, 0.6, 0.4, 0.2], 1e-4)
    assert close(value, 1.173414)
    divergence = 0.5 * ((P * (2 * P / (P + Q)).log()).sum() + (Q * (2 * Q / (P + Q)).log()).sum())
    assert close(divergence, 0.106440)
    assert close(value, 2 * math.log(2) - 2 * float(divergence))


def test_optimal_least_squares_discriminator_is_the_posterior() -> None:
    table, value = optimum(make("lsgan"))
    assert close(table, [0.8, 0.6, 0.4, 0.2], 1e-4)
    assert close(value, 0.2)
    assert close(value, 0.5 * float((P * Q / (P + Q)).sum()))


@pytest.mark.parametrize(
    ("p", "q", "table", "value"),
    [
        (P, Q, (1.193147, 0.702733, 0.297267, -0.193147), 2.934387),
        (torch.tensor([0.9, 0.1]), torch.tensor([0.1, 0.9]), (1.598612, -0.598612), 1.978466),
    ],
)
def test_optimal_raw_mim_discriminator_is_half_the_log_ratio(
    p: Tensor, q: Tensor, table: tuple[float, ...], value: float
) -> None:
    found, reached = optimum(make("mim", **RAW), p, q)
    assert close(found, table, 1e-4)
    assert close(found, 0.5 + 0.5 * (p / q).log(), 1e-4)
    assert close(reached, value)
    assert close(reached, 2 * math.sqrt(math.e) * float((p * q).sqrt().sum()))


def test_raw_mim_measures_the_renyi_divergence_of_order_one_half() -> None:
    affinity = float((P * Q).sqrt().sum())
    divergence = -2 * math.log(affinity)
    assert (affinity, divergence) == pytest.approx((0.889898, 0.233297), abs=1e-6)
    assert close(optimum(make("mim", **RAW))[1], 2 * math.sqrt(math.e) * math.exp(-divergence / 2))


@pytest.mark.parametrize(
    ("p", "q", "d", "value"),
    [
        (P, Q, (1, 0.702733, 0.297267, 0), 2.959067),
        (torch.tensor([0.9, 0.1]), torch.tensor([0.1, 0.9]), (1, 0), 2.343656),
    ],
)
def test_sigmoid_mim_discriminator_saturates_where_the_ratio_leaves_its_range(
    p: Tensor, q: Tensor, d: tuple[float, ...], value: float
) -> None:
    objective = make("mim")
    wanted = (0.5 + 0.5 * (p / q).log()).clamp(0, 1)
    assert close(wanted, d)
    assert close(expected_loss(objective, torch.logit(wanted, eps=1e-9).clamp(-40, 40), p, q), value)
    # Optimising comes near the infimum, never below it, and never below what raw outputs reach.
    reached = optimum(objective, p, q)[1]
    assert value - 1e-5 <= reached <= value + 1e-2
    assert reached > optimum(make("mim", **RAW), p, q)[1]


@pytest.mark.parametrize(
    ("name", "value"), [("hinge", 1.2), ("wgan", -0.8), ("wgan_gp", -0.8)], ids=["hinge", "wgan", "wgan_gp"]
)
def test_optimal_bounded_critic_is_the_sign_of_the_difference(name: str, value: float) -> None:
    objective = make(name)
    best = torch.tensor([1.0, 1.0, -1.0, -1.0])
    assert torch.equal(best, torch.sign(P - Q))
    variation = 0.5 * float((P - Q).abs().sum())
    assert variation == pytest.approx(0.4)
    assert value == pytest.approx(2 * (1 - variation) if name == "hinge" else -2 * variation)
    assert close(expected_loss(objective, best), value)
    # No other critic of [-1, 1] (the bound the two Wasserstein losses need) does better.
    others = torch.rand(500, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert all(float(expected_loss(objective, table)) > value for table in others)


def test_optimal_energy_is_zero_or_the_margin() -> None:
    objective = make("ebgan", margin=20.0)
    best = torch.tensor([0.0, 0.0, 20.0, 20.0])
    assert torch.equal(best, torch.where(P >= Q, 0.0, 20.0))
    assert close(expected_loss(objective, best), 12.0)  # m (1 - total variation)
    assert close((Q * objective.g_loss(best)).sum(), 14.0)
    others = torch.rand(500, 4, generator=torch.Generator().manual_seed(0)) * 40
    assert all(float(expected_loss(objective, table)) > 12.0 for table in others)


RATIOS = [1 / 9, 1 / math.e, 0.5, 1.0, 2.0, math.e, 9.0]


@pytest.mark.parametrize(
    ("name", "settings", "wanted"),
    [
        ("nonsaturating", {}, [0.1, 0.2689, 0.3333, 0.5, 0.6667, 0.7311, 0.9]),
        ("lsgan", {}, [0.1, 0.2689, 0.3333, 0.5, 0.6667, 0.7311, 0.9]),
        ("mim", RAW, [-0.5986, 0.0, 0.1534, 0.5, 0.8466, 1.0, 1.5986]),
    ],
    ids=["cross-entropy", "lsgan", "mim raw"],
)
def test_optimal_output_against_the_density_ratio(name: str, settings: dict[str, str], wanted: list[float]) -> None:
    q = 1 / (1 + torch.tensor(RATIOS))
    table, _ = optimum(make(name, **settings), 1 - q, q)
    assert close(torch.sigmoid(table) if name == "nonsaturating" else table, wanted, 1e-3)


def test_optimal_sigmoid_mim_output_against_the_density_ratio() -> None:
    """As raw, cut to [0, 1]: ratios beyond e and below 1/e can no longer be told apart."""
    objective = make("mim")
    wanted = torch.tensor([0.0, 0.0, 0.1534, 0.5, 0.8466, 1.0, 1.0])
    levels = torch.linspace(0, 1, 1001)
    for ratio, best in zip(RATIOS, wanted, strict=True):
        outputs = torch.logit(levels, eps=1e-9).clamp(-40, 40)
        loss = ratio * objective.d_real(outputs) + objective.d_fake(outputs)
        assert levels[loss.argmin()].item() == pytest.approx(float(best), abs=1e-3)


@pytest.mark.parametrize(
    ("name", "settings", "value"),
    [
        ("minimax", {}, 2 * math.log(2)),
        ("nonsaturating", {}, 2 * math.log(2)),
        ("lsgan", {}, 0.25),
        ("mim", RAW, 2 * math.sqrt(math.e)),
        ("mim", {}, 2 * math.sqrt(math.e)),
        ("hinge", {}, 2.0),
        ("wgan", {}, 0.0),
        ("ebgan", {"margin": 20.0}, 20.0),
    ],
)
def test_loss_against_a_perfect_generator(name: str, settings: dict[str, object], value: float) -> None:
    """With Q = P no discriminator does better than this, and one with the same output everywhere reaches it."""
    objective = make(name, **settings)
    neutral = {"lsgan": 0.5, "ebgan": 3.0}.get(name, 0.5 if settings == RAW else 0.0)
    assert close(expected_loss(objective, torch.full((4,), neutral), P, P), value)
    span = 20.0 if name == "ebgan" else 1.0
    others = torch.rand(500, 4, generator=torch.Generator().manual_seed(0)) * 2 * span - (0 if name == "ebgan" else 1)
    assert all(float(expected_loss(objective, table, P, P)) > value - 1e-5 for table in others)
