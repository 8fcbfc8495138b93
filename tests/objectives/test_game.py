"""Tricks on targets and inputs."""

import copy
import math

import pytest
import torch
from torch import nn

from inspect_gan.errors import InspectGanError
from inspect_gan.objectives import Game, TrickSettings, objectives

REAL = torch.tensor([2.0, -1.0])
FAKE = torch.tensor([0.5, -0.5])


def game(objective: str, **tricks: object) -> Game:
    return Game(objectives.get(objective)(), TrickSettings.model_validate(tricks))


@pytest.mark.parametrize("name", [name for name in objectives.names() if objectives.get(name).kind != "energy"])
def test_without_tricks_a_game_is_the_mean_of_its_objective(name: str) -> None:
    plain, objective = game(name), objectives.get(name)()
    assert torch.equal(plain.d_loss(REAL, FAKE), objective.d_loss(REAL, FAKE))
    assert torch.equal(plain.g_loss(FAKE), objective.g_loss(FAKE).mean())
    assert torch.equal(plain.e_loss(REAL), objective.e_loss(REAL).mean())
    assert plain.seen(REAL) is REAL


def test_noise_schedule_of_the_thesis() -> None:
    noisy = game("nonsaturating", input_noise=0.75)
    levels = []
    for noisy.epoch in (0, 1, 5, 9, 10, 50):
        levels.append(noisy.noise_level())
    assert levels == pytest.approx([0.75, 0.675, 0.375, 0.075, 0.05, 0.05])


def test_input_noise_has_its_level_and_is_fresh() -> None:
    noisy = game("nonsaturating", input_noise=0.5)
    x = torch.zeros(4, 1, 64, 64)
    torch.manual_seed(0)
    first, second = noisy.seen(x), noisy.seen(x)
    assert first.std().item() == pytest.approx(0.5, abs=0.01)
    assert not torch.equal(first, second)


def test_soft_labels_lie_in_their_interval() -> None:
    # With cross-entropy the target is minus the gradient at l = 0, plus one half.
    out = torch.zeros(10_000, requires_grad=True)
    for side, low, high in (("d_real", 0.9, 1.0), ("d_fake", 0.0, 0.1)):
        loss = getattr(game("nonsaturating", soft_labels=0.1), side)(out)
        (gradient,) = torch.autograd.grad(loss * len(out), out)
        target = 0.5 - gradient
        assert low - 1e-6 <= target.min() < target.max() <= high + 1e-6
        assert target.mean().item() == pytest.approx((low + high) / 2, abs=0.002)


def test_label_noise_exchanges_its_share() -> None:
    out = torch.zeros(20_000, requires_grad=True)
    torch.manual_seed(0)
    loss = game("nonsaturating", label_noise=0.05).d_real(out)
    (gradient,) = torch.autograd.grad(loss * len(out), out)
    target = 0.5 - gradient
    assert set(target.round(decimals=4).tolist()) == {0.0, 1.0}
    assert (target < 0.5).float().mean().item() == pytest.approx(0.05, abs=0.005)


def test_flipped_roles_of_cross_entropy() -> None:
    flipped, objective = game("nonsaturating", flip_labels=True), objectives.get("nonsaturating")()
    assert torch.equal(flipped.d_real(REAL), objective.d_real(REAL, 0.0).mean())
    assert torch.equal(flipped.d_fake(FAKE), objective.d_fake(FAKE, 1.0).mean())
    assert flipped.g_loss(FAKE).item() == pytest.approx(nn.functional.softplus(FAKE).mean().item())
    assert flipped.e_loss(REAL).item() == pytest.approx(nn.functional.softplus(-REAL).mean().item())


@pytest.mark.parametrize("name", ["wgan_gp", "hinge", "mim"])
def test_label_tricks_need_labels(name: str) -> None:
    for trick in ({"soft_labels": 0.1}, {"label_noise": 0.05}):
        with pytest.raises(InspectGanError, match="no labels to soften or exchange"):
            game(name, **trick)


@pytest.mark.parametrize("name", ["minimax", "nonsaturating"])
def test_flipping_alone_is_a_null_ablation(name: str) -> None:
    """A generator that plays flipped roles against the negated discriminator learns the same weights."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))
    critic = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    outcomes = []
    for flip in (False, True):
        g, d = copy.deepcopy(generator), copy.deepcopy(critic)
        if flip:
            with torch.no_grad():
                d[2].weight.neg_()
                d[2].bias.neg_()
        rules = game(name, flip_labels=flip)
        g_opt = torch.optim.Adam(g.parameters(), 1e-3, (0.5, 0.999))
        d_opt = torch.optim.Adam(d.parameters(), 1e-3, (0.5, 0.999))
        torch.manual_seed(1)
        for _ in range(3):
            x, z = torch.randn(32, 8), torch.randn(32, 4)
            d_opt.zero_grad()
            rules.d_loss(d(x).squeeze(1), d(g(z).detach()).squeeze(1)).backward()
            d_opt.step()
            g_opt.zero_grad()
            rules.g_loss(d(g(z)).squeeze(1)).backward()
            g_opt.step()
        outcomes.append([p.detach() for p in g.parameters()])
    for one, other in zip(*outcomes, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_doubt_is_high_for_what_is_not_real() -> None:
    out = torch.tensor([-4.0, 0.0, 4.0])
    cross_entropy = torch.tensor([4.018150, 0.693147, 0.018150])
    assert torch.allclose(game("nonsaturating").doubt(out), cross_entropy)
    assert torch.allclose(game("nonsaturating", flip_labels=True).doubt(out), cross_entropy.flip(0))
    for critic in ("wgan", "wgan_gp", "hinge"):
        assert torch.equal(game(critic).doubt(out), -out)
        assert torch.equal(game(critic, flip_labels=True).doubt(out), out)
    assert game("mim").doubt(out.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("name", [name for name in objectives.names() if objectives.get(name).kind == "energy"])
def test_energy_is_doubt(name: str) -> None:
    energy = torch.tensor([0.5, 7.0])
    assert torch.equal(game(name).doubt(energy), energy)


@pytest.mark.parametrize(("name", "neutral"), [("nonsaturating", 0.0), ("lsgan", 0.5), ("hinge", 0.0)])
@pytest.mark.parametrize("flip", [False, True])
def test_signs_tell_who_takes_what_for_real(name: str, neutral: float, flip: bool) -> None:
    """Three of four real and one of four generated samples on the real side of the neutral output."""
    played = game(name, flip_labels=flip)
    side = -1 if flip else 1
    real, fake = (neutral + side * torch.tensor(values) for values in ([0.1, 0.2, 0.3, -0.1], [-0.1, -0.2, -0.3, 0.4]))
    played.d_loss(real, fake)
    assert {kind: float(share) for kind, share in played.signs.items()} == {"real": 0.75, "fake": 0.25}
    played.d_penalty(real)
    assert float(played.signs["fake"]) == 0.25


@pytest.mark.parametrize("name", ["ebgan", "wgan", "wgan_gp"])
def test_outputs_without_a_fixed_zero_have_no_side(name: str) -> None:
    played = game(name)
    played.d_loss(REAL.abs(), FAKE.abs())
    assert played.signs == {}


@pytest.mark.parametrize(
    ("name", "settings", "wanted"),
    [
        ("nonsaturating", {}, [math.log1p(math.exp(-2)), math.log1p(math.exp(1))]),
        ("mim", {}, [math.log1p(math.exp(-2)), math.log1p(math.exp(1))]),
        ("mim", {"output": "raw"}, [-2, 1]),
        ("lsgan", {}, [-2, 1]),
        ("hinge", {}, [-2, 1]),
        ("ebgan", {}, [2, -1]),
    ],
)
def test_doubt_is_a_cross_entropy_of_logits_only(name: str, settings: dict[str, str], wanted: list[float]) -> None:
    objective = objectives.get(name)
    played = Game(objective(objective.settings_class(**settings)), TrickSettings())
    assert played.doubt(REAL).tolist() == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("name", "settings", "wanted"),
    [
        ("nonsaturating", {}, [1 / (1 + math.exp(3)), 0.5, 1 / (1 + math.exp(-4))]),
        ("lsgan", {}, [3.0, 0.0, 4.0]),
        ("hinge", {}, [0.0, 1.0, 1.0]),
        ("wgan", {}, [1.0, 1.0, 1.0]),
        ("mim", {"output": "raw"}, [math.exp(-3), 1.0, math.exp(4)]),
    ],
)
def test_slope_tells_what_a_penalty_still_teaches(name: str, settings: dict[str, str], wanted: list[float]) -> None:
    out = torch.tensor([-3.0, 0.0, 4.0])
    objective = objectives.get(name)
    played = Game(objective(objective.settings_class(**settings)), TrickSettings())
    with torch.no_grad():
        assert played.d_slope(out).tolist() == pytest.approx(wanted)


def test_slope_of_swapped_roles_is_that_towards_real() -> None:
    assert game("nonsaturating", flip_labels=True).d_slope(torch.tensor([3.0])).item() == pytest.approx(
        1 / (1 + math.exp(3))
    )
