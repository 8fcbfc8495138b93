"""The gradient penalty against critics whose gradient is known; the pulling-away term against codes by hand."""

import pytest
import torch
from torch import Tensor, nn

from inspect_gan.objectives import objectives
from inspect_gan.objectives.base import gradient_norm
from inspect_gan.objectives.penalties import gradient_penalty, pulling_away


class LinearCritic(nn.Module):
    """D(x) = w · x with ||w|| = norm."""

    def __init__(self, entries: int, norm: float):
        super().__init__()
        weight = torch.randn(entries, generator=torch.Generator().manual_seed(1))
        self.weight = nn.Parameter(weight * norm / weight.norm())

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight


@pytest.mark.parametrize(("norm", "penalty"), [(3.0, 4.0), (1.0, 0.0), (0.0, 1.0)])
@pytest.mark.parametrize("shape", [(5, 7), (5, 1, 8, 8), (5, 3, 4, 4)])
def test_of_a_linear_critic(norm: float, penalty: float, shape: tuple[int, ...]) -> None:
    critic = LinearCritic(int(torch.tensor(shape[1:]).prod()), norm)
    for seed in range(3):  # whatever the coefficients and inputs
        torch.manual_seed(seed)
        real, fake = torch.randn(shape), 100 * torch.randn(shape)
        assert gradient_penalty(critic, [real], [fake]).item() == pytest.approx(penalty, abs=1e-5)


def test_weight_of_wgan_gp() -> None:
    objective = objectives.get("wgan_gp")()
    terms = objective.regulariser(LinearCritic(4, 3.0), [torch.randn(6, 4)], [torch.randn(6, 4)])
    assert {name: value.item() for name, value in terms.items()} == {"gradient_penalty": pytest.approx(40.0)}


def test_is_the_batch_mean_of_per_sample_penalties() -> None:
    # D(x) = |x|² / 2 has gradient x, so with real = fake the penalty is the mean of (|x| - 1)².
    x = torch.tensor([[3.0, 4.0], [0.0, 2.0], [1.0, 0.0]])
    penalty = gradient_penalty(lambda x: 0.5 * x.square().sum(1), [x], [x])
    assert penalty.item() == pytest.approx((16 + 1 + 0) / 3)


def test_joint_critic_counts_every_input() -> None:
    def critic(x: Tensor, z: Tensor) -> Tensor:
        return 3 * x.flatten(1)[:, 0] + 4 * z[:, 1]

    x, z = torch.randn(6, 1, 4, 4), torch.randn(6, 3)
    assert torch.allclose(gradient_norm(critic, [x, z]), torch.full((6,), 5.0))
    assert gradient_penalty(critic, [x, z], [-x, -z]).item() == pytest.approx(16.0)


def test_one_coefficient_per_sample_is_shared_by_all_inputs() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    def critic(x: Tensor, z: Tensor) -> Tensor:
        seen.append((x.detach(), z.detach()))
        return x.flatten(1).sum(1) + z.sum(1)

    ones = [torch.ones(64, 1, 4, 4), torch.ones(64, 3)]
    gradient_penalty(critic, ones, [torch.zeros_like(part) for part in ones])
    ((x, z),) = seen
    share = z[:, 0]
    assert torch.equal(x, share[:, None, None, None].expand_as(x))
    assert torch.equal(z, share[:, None].expand_as(z))
    assert share.unique().numel() == 64
    assert 0 <= float(share.min()) < 0.2 and 0.8 < float(share.max()) <= 1


def test_trains_the_critic_and_nothing_else() -> None:
    critic = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))
    real, fake = torch.randn(6, 4, requires_grad=True), torch.randn(6, 4, requires_grad=True)
    gradient_penalty(critic, [real], [fake]).backward()
    assert real.grad is None and fake.grad is None
    gradients = {name: value.grad for name, value in critic.named_parameters()}
    # The last bias does not enter the gradient of the output.
    assert gradients.pop("2.bias") is None
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in gradients.values())


def test_flat_critic_gives_finite_gradients() -> None:
    critic = nn.Linear(4, 1)
    nn.init.zeros_(critic.weight)
    penalty = gradient_penalty(lambda x: critic(x).squeeze(1), [torch.randn(6, 4)], [torch.randn(6, 4)])
    penalty.backward()
    assert penalty.item() == 1.0
    assert critic.weight.grad is not None and critic.weight.grad.isfinite().all()


def test_runs_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(1, 4, 3), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(4 * 36, 1), nn.Flatten(0))
    real, fake = torch.randn(5, 1, 8, 8), torch.randn(5, 1, 8, 8)

    def penalty_and_gradients(autocast: bool) -> list[Tensor]:
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            assert critic(real).dtype == (torch.bfloat16 if autocast else torch.float32)
            penalty = gradient_penalty(critic, [real], [fake])
        weights = [parameter for name, parameter in critic.named_parameters() if name.endswith("weight")]
        return [penalty, *torch.autograd.grad(penalty, weights)]

    for plain, cast in zip(penalty_and_gradients(False), penalty_and_gradients(True), strict=True):
        assert cast.dtype == torch.float32
        assert torch.equal(plain, cast)


def test_half_precision_samples_are_taken_in_float32() -> None:
    critic = LinearCritic(4, 3.0)
    penalty = gradient_penalty(critic, [torch.randn(6, 4)], [torch.randn(6, 4, dtype=torch.bfloat16)])
    assert penalty.dtype == torch.float32
    assert penalty.item() == pytest.approx(4.0, abs=1e-5)


# The pulling-away term.

E1, E2 = [1.0, 0.0], [0.0, 1.0]


@pytest.mark.parametrize(
    ("codes", "squared", "plain"),
    [
        ([E1, E1], 1.0, 1.0),
        ([[3.0, -4.0]] * 5, 1.0, 1.0),
        (torch.eye(6).tolist(), 0.0, 0.0),
        ([E1, E1, E2, E2], 1 / 3, 1 / 3),
        ([E1, [0.5, 0.75**0.5]], 0.25, 0.5),  # 60 degrees
        ([E1, [-1.0, 0.0]], 1.0, -1.0),
    ],
)
def test_pulling_away(codes: list[list[float]], squared: float, plain: float) -> None:
    rows = torch.tensor(codes)
    for scale in (1.0, 1e-3, 1e3):  # only directions count
        assert pulling_away(scale * rows).item() == pytest.approx(squared, abs=1e-4)
        assert pulling_away(scale * rows, squared=False).item() == pytest.approx(plain, abs=1e-4)


def test_pulling_away_of_unrelated_codes() -> None:
    rows = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))
    assert pulling_away(rows).item() == pytest.approx(1 / 256, rel=0.1)


def test_pulling_away_turns_codes_apart() -> None:
    rows = torch.tensor([[1.0, 0.1], [1.0, -0.1]], requires_grad=True)
    pulling_away(rows).backward()
    assert rows.grad is not None
    moved = rows.detach() - 0.1 * rows.grad
    assert pulling_away(moved) < pulling_away(rows)


def test_pulling_away_of_zero_codes_is_finite() -> None:
    rows = torch.zeros(3, 4, requires_grad=True)
    value = pulling_away(rows)
    value.backward()
    assert value.item() == 0.0
    assert rows.grad is not None and rows.grad.isfinite().all()


def test_pulling_away_runs_in_float32_under_autocast() -> None:
    rows = torch.randn(8, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        cast = pulling_away(rows)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, pulling_away(rows))
    assert pulling_away(rows.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(1, 4), (4,), (2, 3, 4)])
def test_pulling_away_needs_codes_to_compare(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least two codes"):
        pulling_away(torch.ones(shape))
