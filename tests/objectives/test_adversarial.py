"""Adversarial losses: values on fixed outputs, gradients, half precision, refusals, hooks."""

import math
from collections.abc import Callable, Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from inspect_gan.objectives import Objective, Optimizer, objectives
from inspect_gan.objectives.adversarial import linearised_exp

REAL = torch.tensor([2.0, -1.0])
FAKE = torch.tensor([0.5, -0.5])
RAW = {"output": "raw"}
HEURISTIC = {"generator": "heuristic"}
SOFT = {"minimax", "nonsaturating", "lsgan"}
E5 = math.exp(5.0)


def make(name: str, **settings: object) -> Objective:
    objective = objectives.get(name)
    return objective(objective.settings_class(**settings))


def close(value: Tensor | float, expected: Tensor | Sequence[float] | float, tolerance: float = 1e-5) -> bool:
    wanted = torch.as_tensor(expected, dtype=torch.float32)
    got = torch.as_tensor(value, dtype=torch.float32).detach()
    return got.shape == wanted.shape and bool(torch.allclose(got, wanted, rtol=tolerance, atol=tolerance))


# Values on fixed outputs.


@pytest.mark.parametrize(
    ("name", "settings", "d", "g", "e"),
    [
        ("minimax", {}, 1.444172, -0.724077, -0.720095),
        ("nonsaturating", {}, 1.444172, 0.724077, 1.220095),
        ("lsgan", {}, 1.375, 0.625, 1.25),
        ("wgan", {}, -0.5, 0.0, 0.5),
        ("wgan_gp", {}, -0.5, 0.0, 0.5),
        ("hinge", {}, 2.0, 0.0, 0.5),
        ("mim", {}, 3.263038, -1.661099, -1.601938),
        ("mim", HEURISTIC, 3.263038, 1.661099, 1.860700),
        ("mim", RAW, 5.006094, -1.127626, -3.878468),
    ],
)
def test_losses_on_fixed_outputs(name: str, settings: dict[str, str], d: float, g: float, e: float) -> None:
    objective = make(name, **settings)
    assert close(objective.d_loss(REAL, FAKE), d)
    assert close(objective.g_loss(FAKE).mean(), g)
    assert close(objective.e_loss(REAL).mean(), e)
    assert close(objective.d_real(REAL).mean() + objective.d_fake(FAKE).mean(), d)
    for loss in (objective.d_real, objective.d_fake, objective.g_loss, objective.e_loss):
        assert loss(REAL).shape == (2,)


def test_soft_targets() -> None:
    cross_entropy = make("nonsaturating")
    assert close(cross_entropy.d_loss(REAL, FAKE, real=0.95, fake=0.05), 1.469172)
    each = torch.tensor([0.95, 0.9])
    assert close(
        cross_entropy.d_real(REAL, each),
        nn.functional.binary_cross_entropy_with_logits(REAL, each, reduction="none"),
    )
    assert close(make("lsgan").d_fake(FAKE, torch.tensor([0.0, 0.1])), [0.125, 0.18])


@pytest.mark.parametrize(("name", "value"), [("nonsaturating", 0.410038), ("mim", 1.387660), ("lsgan", 1.0)])
def test_fake_side_alone_as_for_penalty_samples(name: str, value: float) -> None:
    assert close(make(name).d_fake(torch.tensor([0.0, -2.0])).mean(), value)


def test_zero_sum_least_squares_is_a_game_on_the_sigmoid() -> None:
    objective = make("lsgan", zero_sum=True)
    d_real, d_fake = torch.sigmoid(REAL), torch.sigmoid(FAKE)
    assert close(objective.d_loss(REAL, FAKE), 0.5 * (d_real - 1).square().mean() + 0.5 * d_fake.square().mean())
    assert close(objective.g_loss(FAKE), -0.5 * d_fake.square())
    assert close(objective.e_loss(REAL), -0.5 * (d_real - 1).square())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("minimax", {}),
        ("lsgan", {"zero_sum": True}),
        ("wgan", {}),
        ("wgan_gp", {}),
        ("mim", {}),
        ("mim", RAW),
    ],
)
def test_zero_sum_games_cancel(name: str, settings: dict[str, object]) -> None:
    objective = make(name, **settings)
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    d = objective.d_loss(real, fake)
    (to_fake,) = torch.autograd.grad(d + objective.g_loss(fake).mean(), fake, retain_graph=True)
    (to_real,) = torch.autograd.grad(d + objective.e_loss(real).mean(), real)
    assert torch.count_nonzero(to_fake) == 0
    assert close(to_real, [0.0, 0.0], 1e-7)


@pytest.mark.parametrize(
    ("name", "out", "d", "g"),
    [
        ("minimax", 0.0, 1.386294, -0.693147),
        ("nonsaturating", 0.0, 1.386294, 0.693147),
        ("mim", 0.0, 3.297443, -1.648721),
        ("lsgan", 0.5, 0.25, 0.125),
        ("hinge", 0.0, 2.0, 0.0),
        ("wgan", 0.0, 0.0, 0.0),
    ],
)
def test_values_of_an_undecided_discriminator(name: str, out: float, d: float, g: float) -> None:
    objective, outputs = make(name), torch.full((5,), out)
    assert close(objective.d_loss(outputs, outputs), d)
    assert close(objective.g_loss(outputs).mean(), g)


# Gradients.


def slope(loss: Callable[[Tensor], Tensor], at: float) -> float:
    leaf = torch.tensor([at], requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(leaf).sum(), leaf)
    return float(gradient)


@pytest.mark.parametrize(
    ("name", "settings", "slopes"),
    [
        ("minimax", {}, (-0.00247, -0.11920, -0.5, -0.88080)),
        ("nonsaturating", {}, (-0.99753, -0.88080, -0.5, -0.11920)),
        ("mim", {}, (-0.00247, -0.11829, -0.41218, -0.25333)),
        ("mim", HEURISTIC, (-0.00669, -0.25333, -0.41218, -0.11829)),
        ("mim", RAW, (-0.00248, -0.13534, -1.0, -7.38906)),
        # At -6 the exponential of 7 is already continued by its tangent: e^5 instead of e^7.
        ("mim", RAW | HEURISTIC, (-E5, -20.0855, -2.71828, -0.36788)),
    ],
)
def test_generator_gradient(name: str, settings: dict[str, str], slopes: tuple[float, ...]) -> None:
    objective = make(name, **settings)
    for at, wanted in zip((-6.0, -2.0, 0.0, 2.0), slopes, strict=True):
        assert slope(objective.g_loss, at) == pytest.approx(wanted, rel=1e-5, abs=1e-5)


def test_slope_that_the_tangent_of_the_exponential_replaces() -> None:
    """Of the plain exponential the heuristic generator's slope on a raw output of -6 would be -e^7."""
    objective = make("mim", **RAW, **HEURISTIC)
    assert slope(objective.g_loss, -6.0) == pytest.approx(-148.413159, rel=1e-6)
    objective.LINEAR_ABOVE = 10.0  # type: ignore[attr-defined]
    assert slope(objective.g_loss, -6.0) == pytest.approx(-1096.63, rel=1e-5)


@pytest.mark.parametrize("eps", [1e-3, 0.01, 0.1, 0.5])
def test_generator_gradient_in_terms_of_the_probability(eps: float) -> None:
    """ "MIM-based GAN", Proposition 3: for a confident discriminator, D = eps, the pull of MIM stays in [1, e]."""
    at = math.log(eps / (1 - eps))
    # dL/dl = dL/dD · D (1 - D); the paper writes the terms without the sign with which G minimises them.
    per_probability = {name: slope(make(name).g_loss, at) / (eps * (1 - eps)) for name in ("mim", "minimax")}
    assert -per_probability["mim"] == pytest.approx(math.exp(eps), rel=1e-4)
    assert per_probability["minimax"] == pytest.approx(-1 / (1 - eps), rel=1e-4)
    assert slope(make("nonsaturating").g_loss, at) / (eps * (1 - eps)) == pytest.approx(-1 / eps, rel=1e-4)
    raw = make("mim", **RAW)
    assert slope(raw.d_fake, eps) == -slope(raw.g_loss, eps) == pytest.approx(math.exp(eps), rel=1e-5)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=8), st.lists(st.floats(-100, 100), min_size=1, max_size=8))
def test_range_of_mim_through_a_sigmoid(real: list[float], fake: list[float]) -> None:
    """Each term lies in [1, e]; above 2 sqrt(e) a discriminator is worse than one that always says 1/2."""
    objective, size = make("mim"), min(len(real), len(fake))
    outputs = torch.tensor(real[:size]), torch.tensor(fake[:size])
    for term in (objective.d_real(outputs[0]), objective.d_fake(outputs[1])):
        assert 1 - 1e-6 <= term.min() <= term.max() <= math.e + 1e-6
    assert 2 - 1e-6 <= objective.d_loss(*outputs) <= 2 * math.e + 1e-6
    undecided = torch.zeros(size)
    assert close(objective.d_loss(undecided, undecided), 2 * math.sqrt(math.e))


@given(st.floats(-8, 8))
def test_discriminator_gradient(at: float) -> None:
    d = 1 / (1 + math.exp(-at))
    entropy, mim = make("nonsaturating"), make("mim")
    assert slope(entropy.d_real, at) == pytest.approx(-(1 - d), abs=1e-5)
    assert slope(entropy.d_fake, at) == pytest.approx(d, abs=1e-5)
    assert slope(mim.d_real, at) == pytest.approx(-math.exp(1 - d) * d * (1 - d), abs=1e-5)
    assert slope(mim.d_fake, at) == pytest.approx(math.exp(d) * d * (1 - d), abs=1e-5)


def test_linearised_exponential() -> None:
    u = torch.tensor([-1.0, 0.0, 5.0, 6.0, 20.0], requires_grad=True)
    values = linearised_exp(u, 5.0)
    assert close(values, [0.367879, 1.0, 148.413159, 296.826318, 2374.610546])
    values.sum().backward()
    assert u.grad is not None
    assert close(u.grad, [0.367879, 1.0, E5, E5, E5])


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3, unique=True))
def test_linearised_exponential_is_convex_and_never_falls(points: list[float]) -> None:
    a, b, c = sorted(points)
    low, middle, high = linearised_exp(torch.tensor([a, b, c], dtype=torch.float64), 5.0).tolist()
    assert low <= middle <= high < math.inf
    chord = low + (high - low) * (b - a) / (c - a)
    assert middle <= chord + 1e-12 * high


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", objectives.names())
def test_outputs_at_the_ends_of_half_precision(name: str, dtype: torch.dtype) -> None:
    variants = [{}, RAW, HEURISTIC, RAW | HEURISTIC] if name == "mim" else [{}]
    for settings in variants:
        objective = make(name, **settings)
        for loss in (objective.d_real, objective.d_fake, objective.g_loss, objective.e_loss):
            out = torch.tensor([60000.0, -60000.0, 11.5, -11.5, 0.0], dtype=dtype, requires_grad=True)
            value = loss(out)
            value.mean().backward()
            assert value.dtype == torch.float32
            assert value.isfinite().all()
            assert out.grad is not None
            assert out.grad.isfinite().all()


HALF_MAX = 65504.0
# Of (loss, slope) at -65504, -6, -2, 0, 2 and 65504, for losses that are exp(D) and exp(1 - D) with a sign: through a
# sigmoid the slope dies at both ends, raw it is the exponential's, from 5 on that of its tangent.
TAIL = E5 * (1 + HALF_MAX - 5)
RISING = {
    "sigmoid": ([1.0, 1.002476, 1.126599, 1.648721, 2.412822, math.e], [0, 0.00247, 0.11829, 0.41218, 0.25333, 0]),
    "raw": ([0.0, 0.002479, 0.135335, 1.0, 7.389056, TAIL], [0, 0.00248, 0.13534, 1.0, 7.38906, E5]),
}
FALLING = {
    "sigmoid": ([math.e, 2.711569, 2.412822, 1.648721, 1.126599, 1.0], [0, -0.00669, -0.25333, -0.41218, -0.11829, 0]),
    "raw": ([TAIL + E5, 3 * E5, 20.085537, math.e, 0.367879, 0.0], [-E5, -E5, -20.0855, -2.71828, -0.36788, 0]),
}


@pytest.mark.parametrize("generator", ["zero_sum", "heuristic"])
@pytest.mark.parametrize("output", ["sigmoid", "raw"])
def test_mim_over_the_whole_range_of_half_precision(output: str, generator: str) -> None:
    """No overflow, no NaN, and the gradients of the formulas, up to the last half-precision number."""
    objective = make("mim", output=output, generator=generator)
    up, down = RISING[output], FALLING[output]
    minus_up, minus_down = ([[-v for v in part] for part in side] for side in (up, down))
    heuristic = generator == "heuristic"
    for loss, (values, slopes) in (
        (objective.d_real, down),
        (objective.d_fake, up),
        (objective.g_loss, down if heuristic else minus_up),
        (objective.e_loss, up if heuristic else minus_down),
    ):
        out = torch.tensor([-HALF_MAX, -6, -2, 0, 2, HALF_MAX], dtype=torch.float16, requires_grad=True)
        found = loss(out)
        found.sum().backward()
        assert found.dtype == torch.float32
        assert close(found, values, 1e-5)
        # The gradient comes back in half precision, of three decimal places.
        assert out.grad is not None and out.grad.dtype == torch.float16
        assert close(out.grad, slopes, 1e-3)


def test_where_the_plain_exponential_overflows() -> None:
    half = torch.tensor([11.0, 11.09375, 12.0], dtype=torch.float16)
    assert torch.exp(half).isinf().tolist() == [False, True, True]
    single = torch.tensor([88.72, 88.73])
    assert torch.exp(single).isinf().tolist() == [False, True]
    for u in (half, single):
        assert close(make("mim", **RAW).d_fake(u), E5 * (u.float() - 4))


# Refusals.


@pytest.mark.parametrize("name", objectives.names())
def test_shapes_that_would_broadcast_are_refused(name: str) -> None:
    objective = make(name)
    column = REAL[:, None]
    for call in (
        lambda: objective.d_real(column),
        lambda: objective.d_fake(column),
        lambda: objective.g_loss(column),
        lambda: objective.e_loss(column),
        lambda: objective.g_loss(REAL[0]),
        lambda: objective.d_loss(column, FAKE),
        lambda: objective.d_loss(REAL, FAKE[:1]),
    ):
        with pytest.raises(ValueError, match=r"\(.*\)"):
            call()


@pytest.mark.parametrize("name", sorted(SOFT))
def test_targets_of_another_shape_are_refused_with_both_shapes(name: str) -> None:
    for targets in (torch.ones(2, 1), torch.ones(1), torch.ones(())):
        with pytest.raises(ValueError, match=r"\(2,\)") as error:
            make(name).d_real(REAL, targets)
        assert str(tuple(targets.shape)) in str(error.value)


@pytest.mark.parametrize("name", objectives.names())
def test_soft_targets_are_taken_only_where_they_mean_something(name: str) -> None:
    objective = make(name)
    assert objective.soft_targets == (name in SOFT)
    if objective.soft_targets:
        assert not torch.equal(objective.d_real(REAL, 0.9), objective.d_real(REAL))
        return
    for call in (
        lambda: objective.d_real(REAL, 0.9),
        lambda: objective.d_fake(FAKE, 0.1),
        lambda: objective.d_fake(FAKE, torch.zeros(2)),
        # Swapped roles are soft targets too: a loss without targets cannot swap them.
        lambda: objective.d_real(REAL, 0.0),
    ):
        with pytest.raises(ValueError, match="no targets to soften"):
            call()
    assert torch.equal(objective.d_real(REAL, 1.0), objective.d_real(REAL))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("wgan", {"clip": 0.0}),
        ("wgan", {"clip": -0.1}),
        ("wgan_gp", {"gp_weight": -1.0}),
        ("mim", {"output": "tanh"}),
    ],
)
def test_senseless_settings_are_refused(name: str, settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        make(name, **settings)


# Hooks.


def test_wgan_clips_all_weights_but_those_of_normalisation_layers() -> None:
    torch.manual_seed(0)
    norms: list[nn.Module] = [nn.BatchNorm2d(4), nn.GroupNorm(1, 4), nn.LayerNorm(4), nn.BatchNorm1d(4)]
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ConvTranspose2d(4, 4, 3),
        nn.Sequential(norms[0], norms[1]),
        nn.Flatten(),
        nn.Linear(4, 4),
        *norms[2:],
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-1, 1)
    before = {name: value.clone() for name, value in network.named_parameters()}
    make("wgan", clip=0.02).after_critic_step(network)
    inside_norms = {id(p) for norm in norms for p in norm.parameters()}
    clipped = 0
    for name, value in network.named_parameters():
        if id(value) in inside_norms:
            assert torch.equal(value, before[name])
        else:
            assert torch.equal(value, before[name].clamp(-0.02, 0.02))
            clipped += 1
    assert clipped == 6


def test_wgan_leaves_what_spectral_normalisation_bounds() -> None:
    network = nn.Sequential(spectral_norm(nn.Linear(4, 4)), nn.Linear(4, 1)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.uniform_(-1, 1)
    normalised = network[0].weight.clone()
    make("wgan").after_critic_step(network)
    assert torch.equal(network[0].weight, normalised)
    assert max(p.abs().max().item() for p in (network[0].bias, *network[1].parameters())) <= 0.01


@pytest.mark.parametrize("name", sorted(set(objectives.names()) - {"wgan"}))
def test_other_objectives_leave_the_critic_alone(name: str) -> None:
    network = nn.Linear(3, 1)
    before = network.weight.clone()
    make(name).after_critic_step(network)
    assert torch.equal(network.weight, before)


def test_what_each_objective_asks_of_its_surroundings() -> None:
    asked = {
        name: (
            make(name).kind,
            make(name).critic_steps,
            make(name).batch_norm_in_critic,
            make(name).optimizers,
        )
        for name in objectives.names()
    }
    assert {name: row[:3] for name, row in asked.items()} == {
        "minimax": ("logit", 1, True),
        "nonsaturating": ("logit", 1, True),
        "lsgan": ("logit", 1, True),
        "mim": ("logit", 1, True),
        "hinge": ("critic", 1, True),
        "ebgan": ("energy", 1, True),
        "wgan": ("critic", 5, False),
        "wgan_gp": ("critic", 5, False),
    }
    roles = ("generator", "discriminator")
    assert asked["wgan"][3] == dict.fromkeys(roles, Optimizer("rmsprop", 5e-5))
    assert asked["wgan_gp"][3] == dict.fromkeys(roles, Optimizer("adam", 1e-4, (0.0, 0.9)))
    assert not any(row[3] for name, row in asked.items() if not name.startswith("wgan"))


def test_optimiser_pairing_of_the_time_series_paper() -> None:
    assert make("mim", optimizers="adamw_sgd").optimizers == {
        "generator": Optimizer("adamw", 5e-4, (0.9, 0.999)),
        "discriminator": Optimizer("sgd", 5e-4),
    }
