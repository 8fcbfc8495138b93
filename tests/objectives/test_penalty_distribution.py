"""The penalty distribution of RCGAN: its samples, its terms, and Theorem 1 of the paper with each objective."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from inspect_gan.objectives import Game, Objective, TrickSettings, objectives
from inspect_gan.objectives.penalties import PairPenaltySettings, penalise_critic, penalise_encoder, penalty_samples


def make(name: str, **settings: Any) -> Objective:
    objective = objectives.get(name)
    return objective(objective.settings_class(**settings))


# Samples.

X = torch.zeros(100, 1, 32, 32)


@pytest.mark.parametrize(
    ("penalty", "std", "fourth"),
    [("normal", 1.0, 3.0), ("normal2", math.sqrt(2), 12.0), ("uniform", math.sqrt(1 / 3), 0.2)],
)
def test_samples_have_the_named_distribution(penalty: Any, std: float, fourth: float) -> None:
    torch.manual_seed(0)
    x_t = penalty_samples(X, PairPenaltySettings(penalty=penalty))
    assert x_t.shape == X.shape and x_t.dtype == X.dtype
    assert x_t.mean().item() == pytest.approx(0, abs=0.01)
    assert x_t.std().item() == pytest.approx(std, rel=0.01)
    assert x_t.pow(4).mean().item() == pytest.approx(fourth, rel=0.05)
    # Independent pixels: neighbours do not correlate.
    assert (x_t[..., 1:] * x_t[..., :-1]).mean().item() == pytest.approx(0, abs=0.02)
    assert bool((x_t.abs() > 1).any()) == (penalty != "uniform")


@pytest.mark.parametrize("penalty", ["normal", "normal2", "uniform"])
def test_samples_cut_to_the_range_of_a_patch(penalty: Any) -> None:
    x_t = penalty_samples(X, PairPenaltySettings(penalty=penalty, clip_t=True))
    assert x_t.abs().max().item() <= 1
    assert x_t.std() > 0.5


# Terms.


class Recorder(nn.Module):
    """D(x, z) with given outputs; keeps what it was asked."""

    def __init__(self, outputs: Tensor):
        super().__init__()
        self.outputs = outputs
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        self.seen.append((x, z))
        return self.outputs


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((1, 2, 3))[:, None]


OUT = torch.tensor([0.0, -2.0])
PATCHES = torch.rand(2, 1, 32, 32)
LOSSES = {"total": torch.tensor(5.0), "adversarial": torch.tensor(5.0)}


def on_critic(objective: Objective, tricks: TrickSettings | None = None, **settings: Any) -> dict[str, float]:
    game = Game(objective, tricks or TrickSettings())
    chosen = PairPenaltySettings(**{"penalty": "normal", **settings})
    losses = penalise_critic(LOSSES, game, Recorder(OUT), Mean(), PATCHES, chosen)
    return {name: value.item() for name, value in losses.items()}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nonsaturating", 0.410038),
        ("minimax", 0.410038),
        ("mim", 1.387660),
        ("lsgan", 1.0),
        ("hinge", 0.5),
        ("wgan", -1.0),
        ("wgan_gp", -1.0),
    ],
)
def test_critic_takes_penalty_samples_for_generated(name: str, value: float) -> None:
    losses = on_critic(make(name))
    assert losses["penalty"] == pytest.approx(value, abs=1e-5)
    assert losses["total"] == pytest.approx(5 + value, abs=1e-5)
    assert losses["adversarial"] == 5
    weighted = on_critic(make(name), pen_w=0.3)
    assert weighted["penalty"] == pytest.approx(0.3 * value, abs=1e-5)
    assert weighted["total"] == pytest.approx(5 + 0.3 * value, abs=1e-5)


def test_report_on_how_real_noise_looks() -> None:
    wanted = (0.5 + 1 / (1 + math.exp(2))) / 2
    assert on_critic(make("nonsaturating"))["penalty_real"] == pytest.approx(wanted, abs=1e-6)
    assert on_critic(make("nonsaturating"), pen_w=0.0)["penalty_real"] == pytest.approx(wanted, abs=1e-6)
    flipped = on_critic(make("nonsaturating"), TrickSettings(flip_labels=True))
    assert flipped["penalty_real"] == pytest.approx(1 - wanted, abs=1e-6)
    # Swapped roles: noise gets the label of generated samples, which is now 1.
    assert flipped["penalty"] == pytest.approx((math.log(2) + math.log1p(math.exp(2))) / 2, abs=1e-5)


def test_encoder_makes_penalty_samples_look_real() -> None:
    game = Game(make("nonsaturating"), TrickSettings())

    def on_encoder(**settings: Any) -> dict[str, Tensor]:
        return penalise_encoder(LOSSES, game, Recorder(OUT), Mean(), PATCHES, PairPenaltySettings(**settings))

    value = (math.log(2) + math.log1p(math.exp(2))) / 2  # softplus(-l)
    losses = on_encoder(penalty="uniform", pen_w=2.0)
    assert losses["penalty"].item() == pytest.approx(2 * value, abs=1e-5)
    assert losses["total"].item() == pytest.approx(5 + 2 * value, abs=1e-5)
    assert on_encoder(penalty="uniform", penalty_to_encoder=False) is LOSSES
    assert on_encoder(penalty="none") is LOSSES


def test_off_by_default_and_then_costs_no_pass() -> None:
    critic = Recorder(OUT)
    game = Game(make("nonsaturating"), TrickSettings())
    assert penalise_critic(LOSSES, game, critic, Mean(), PATCHES, PairPenaltySettings()) is LOSSES
    assert not critic.seen


def test_pairs_are_noise_with_its_own_code() -> None:
    critic = Recorder(OUT)
    game = Game(make("nonsaturating"), TrickSettings())
    for penalise in (penalise_critic, penalise_encoder):
        penalise(LOSSES, game, critic, Mean(), PATCHES, PairPenaltySettings(penalty="normal"))
    first, second = critic.seen
    for x_t, z in (first, second):
        assert x_t.shape == PATCHES.shape
        assert x_t.std().item() == pytest.approx(1, abs=0.1)
        assert torch.equal(z, Mean()(x_t))
    assert not torch.equal(first[0], second[0])


def test_input_noise_is_added_for_the_critic_only() -> None:
    critic = Recorder(OUT)
    game = Game(make("nonsaturating"), TrickSettings(input_noise=3.0))
    penalise_critic(LOSSES, game, critic, Mean(), PATCHES, PairPenaltySettings(penalty="uniform"))
    ((x_seen, z),) = critic.seen
    assert x_seen.std().item() == pytest.approx(math.sqrt(9 + 1 / 3), rel=0.1)
    assert z.abs().max() < 0.1  # the mean of 1024 clean pixels
    penalise_critic(LOSSES, game, critic, Mean(), PATCHES, PairPenaltySettings(penalty="uniform"), noisy=False)
    assert critic.seen[1][0].abs().max() <= 1


class Joint(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.last = nn.Linear(2, 1)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.last(torch.cat([self.norm(x).mean((1, 2, 3))[:, None], z], 1)).squeeze(1)


def test_noise_leaves_no_trace_in_batch_statistics() -> None:
    critic = Joint()
    encoder = nn.Sequential(nn.Conv2d(1, 4, 4), nn.BatchNorm2d(4, momentum=0.2), Mean())
    game = Game(make("nonsaturating"), TrickSettings())
    for penalise in (penalise_critic, penalise_encoder):
        before = [b.clone() for net in (critic, encoder) for b in net.buffers() if b.is_floating_point()]
        penalise(LOSSES, game, critic, encoder, PATCHES, PairPenaltySettings(penalty="normal"))["total"].backward()
        after = [b for net in (critic, encoder) for b in net.buffers() if b.is_floating_point()]
        assert len(before) == 4
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        gradient = encoder[0].weight.grad
        assert gradient is not None and gradient.abs().sum() > 0
    # Other passes are counted again as before.
    assert encoder[1].momentum == 0.2 and critic.norm.momentum == 0.1
    encoder(PATCHES)
    assert not torch.equal(before[2], encoder[1].running_mean)


# Theorem 1: the generator's best answer to a discriminator that also rejects t.

MIXED = ([0.50, 0.30, 0.15, 0.05], [0.25] * 4)
DISJOINT = ([0.6, 0.4, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5])
EQUAL = ([0.5, 0.3, 0.2], [0.5, 0.3, 0.2])
PEAKED = ([0.97, 0.02, 0.01], [0.2, 0.3, 0.5])
LN27_4 = math.log(27 / 4)


def theorem(q: Tensor, t: Tensor) -> tuple[float, Tensor]:
    """beta and p = max(0, beta q - t), beta the root of sum p = 1 in [1, 2]."""
    low, high = 1.0, 2.0
    for _ in range(60):
        beta = (low + high) / 2
        if (beta * q - t).clamp_min(0).sum() < 1:
            low = beta
        else:
            high = beta
    return high, (high * q - t).clamp_min(0)


def value(objective: Objective, table: Tensor, q: Tensor, p: Tensor, t: Tensor) -> Tensor:
    """The loss of D given as one raw output per atom: q is real, p and, with weight 1, t are generated."""
    return (q * objective.d_real(table)).sum() + ((p + t) * objective.d_fake(table)).sum()


def best_table(name: str, q: Tensor, p: Tensor, t: Tensor) -> Tensor:
    """Raw outputs of the optimal D."""
    if name == "mim":
        return 0.5 + 0.5 * (q / (p + t)).log()
    return (q / (p + t)).log() if name == "nonsaturating" else q / (q + p + t)


OPTIMA = {"nonsaturating": {}, "mim": {"output": "raw"}, "lsgan": {}}


def best_generator(name: str, q: Tensor, t: Tensor) -> Tensor:
    """The p that leaves the optimal D the largest loss, found without the theorem."""
    objective = make(name, **OPTIMA[name])
    # Squares reach the p of 0 that the theorem asks for, which a softmax only approaches.
    root = torch.ones_like(q, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [root], max_iter=500, tolerance_grad=1e-10, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        p = root.square() / root.square().sum()
        loss = -value(objective, best_table(name, q, p, t), q, p, t)
        loss.backward()
        return loss

    optimizer.step(closure)
    p = root.detach().square()
    return p / p.sum()


@pytest.mark.parametrize(
    ("case", "beta", "p", "c_best", "c_at_q"),
    [
        (MIXED, 1.842105, (0.671053, 0.302632, 0.026316, 0), -1.886349, -1.858940),
        (DISJOINT, 1.0, (0.6, 0.4, 0, 0), -1.386294, -1.386294),
        (EQUAL, 2.0, (0.5, 0.3, 0.2), -1.909543, -1.909543),  # - ln(27 / 4)
        (PEAKED, 1.237113, (1, 0, 0), -1.615950, -1.599455),
    ],
    ids=["mixed", "disjoint", "equal", "peaked"],
)
def test_value_of_the_game(
    case: tuple[list[float], list[float]], beta: float, p: Any, c_best: float, c_at_q: float
) -> None:
    q, t = (torch.tensor(part, dtype=torch.float64) for part in case)
    found, best = theorem(q, t)
    assert found == pytest.approx(beta, abs=1e-6)
    assert best.tolist() == pytest.approx(p, abs=1e-6)
    objective = make("nonsaturating")
    for generated, c in ((best, c_best), (q, c_at_q)):
        # Outputs of +-60 stand for the infinite ones where only one side has mass; atoms without mass have weight 0.
        table = best_table("nonsaturating", q, generated, t).nan_to_num(0.0).clamp(-60, 60)
        assert -float(value(objective, table, q, generated, t)) == pytest.approx(c, abs=1e-5)
        # Eq. 6 in Kullback-Leibler divergences.
        s = (q + generated + t) / 3
        half = (t + generated) / 2
        divergences = 2 * torch.xlogy(half, half / s).nansum() + torch.xlogy(q, q / s).nansum()
        assert float(divergences) - LN27_4 == pytest.approx(c, abs=1e-5)


@pytest.mark.parametrize("case", [MIXED, EQUAL, PEAKED], ids=["mixed", "equal", "peaked"])
@pytest.mark.parametrize("name", OPTIMA)
def test_best_generator_found_by_descent_is_that_of_the_theorem(
    name: str, case: tuple[list[float], list[float]]
) -> None:
    q, t = (torch.tensor(part, dtype=torch.float64) for part in case)
    assert torch.allclose(best_generator(name, q, t), theorem(q, t)[1], atol=2e-3)


densities = st.lists(st.floats(0.01, 1), min_size=4, max_size=4).map(
    lambda weights: torch.tensor(weights, dtype=torch.float64) / sum(weights)
)


@given(q=densities, t=densities)
def test_theorem_for_any_densities(q: Tensor, t: Tensor) -> None:
    beta, p = theorem(q, t)
    generated = p > 0
    # Eq. 8, whose sums run over the atoms with beta q >= t, and the bounds of beta.
    assert beta == pytest.approx(float((1 + t[generated].sum()) / q[generated].sum()), abs=1e-9)
    assert 1 <= beta <= 2
    assert (beta > 2 - 1e-9) == bool((2 * q - t >= -1e-9).all())
    for name, settings in OPTIMA.items():
        # The generator gains by moving mass to where D's loss of a generated sample is largest: at the optimum that is
        # the same wherever there is mass, and nowhere else more.
        gain = make(name, **settings).d_fake(best_table(name, q, p, t))
        assert (gain[generated].max() - gain[generated].min()).item() < 1e-5, name
        assert (gain.max() - gain[generated].max()).item() < 1e-5, name


def test_optimal_discriminator_is_constant_where_anything_is_generated() -> None:
    q, t = (torch.tensor(part) for part in MIXED)
    beta, p = theorem(q, t)
    assert 1 / (1 + beta) == pytest.approx(0.351852, abs=1e-6)
    found = torch.tensor([0.351852, 0.351852, 0.351852, 0.166667])
    for d, generated, noise in ((found, p, t), (torch.full((4,), 1 / 3), q, q)):
        table = torch.logit(d).requires_grad_()
        (slope,) = torch.autograd.grad(value(make("nonsaturating"), table, q, generated, noise), table)
        assert slope.abs().max() < 1e-6


@pytest.mark.parametrize(
    ("name", "d", "loss"),
    [
        ("nonsaturating", None, 1.886349),
        ("mim", [0.194545, 0.194545, 0.194545, -0.304719], 4.620321),
        ("lsgan", None, 0.328704),
    ],
)
def test_each_objective_has_the_same_best_generator(name: str, d: list[float] | None, loss: float) -> None:
    """The generator's p enters the optimum through (p + t) / q only, so the theorem holds for all three games."""
    q, t = (torch.tensor(part) for part in MIXED)
    _, p = theorem(q, t)
    objective = make(name, **OPTIMA[name])
    table = best_table(name, q, p, t).requires_grad_()
    reached = value(objective, table, q, p, t)
    assert reached.item() == pytest.approx(loss, abs=1e-5)
    if d is not None:
        assert table.detach().tolist() == pytest.approx(d, abs=1e-5)
    # D has reached its optimum ...
    (slope,) = torch.autograd.grad(reached, table)
    assert slope.abs().max() < 1e-6
    # ... and no other generator leaves it a larger loss.
    others = -torch.rand(300, 4, generator=torch.Generator().manual_seed(0)).log()
    others /= others.sum(1, keepdim=True)  # uniform on the simplex
    for share in (1.0, 0.1, 0.01):
        for other in p + share * (others - p):
            answered = value(objective, best_table(name, q, other, t), q, other, t)
            assert answered.item() <= loss + 1e-5


def test_optimum_found_through_the_penalty_term_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """D as a table of four atoms, trained with `penalise_critic`: q / (q + p + t), here with p = q and uniform t."""
    atoms = torch.arange(4.0).view(4, 1, 1, 1)
    monkeypatch.setattr("inspect_gan.objectives.penalties.penalty_samples", lambda x, settings: atoms)
    real = torch.tensor([0] * 10 + [1] * 6 + [2] * 3 + [3])  # q = 0.5, 0.3, 0.15, 0.05
    table = nn.Parameter(torch.zeros(4))

    class Table(nn.Module):
        def forward(self, x: Tensor, z: Tensor) -> Tensor:
            return table[z.flatten().long()]

    game = Game(make("nonsaturating"), TrickSettings())
    optimizer = torch.optim.LBFGS([table], max_iter=100, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        losses = {"total": game.d_loss(table[real], table[real])}
        total = penalise_critic(losses, game, Table(), Mean(), atoms, PairPenaltySettings(penalty="normal"))["total"]
        total.backward()
        return total

    optimizer.step(closure)
    q = torch.tensor([0.5, 0.3, 0.15, 0.05])
    assert torch.allclose(torch.sigmoid(table.detach()), q / (2 * q + 0.25), atol=1e-4)
