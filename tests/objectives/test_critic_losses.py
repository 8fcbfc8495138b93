"""Losses of discriminators of patches and of pixels, with penalty samples."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inspect_gan.objectives import Game, TrickSettings, objectives, penalties
from inspect_gan.objectives.base import gradient_norm
from inspect_gan.objectives.penalties import PenaltySettings, critic_losses

REAL, FAKE = torch.zeros(8, 1, 32, 32), torch.full((8, 1, 32, 32), 0.5)


class Recorder(nn.Module):
    """D with one output for everything, for every pixel or patch; keeps what it was shown."""

    def __init__(self, output: float, pixels: bool):
        super().__init__()
        self.output, self.pixels = nn.Parameter(torch.tensor(output)), pixels
        self.seen: list[tuple[Tensor, ...]] = []

    def forward(self, *inputs: Tensor) -> Tensor:
        self.seen.append(inputs)
        x = inputs[0]
        return self.output.expand(len(x), 1, *x.shape[2:]) if self.pixels else self.output.expand(len(x))


class Plane(nn.Module):
    """D(x, z) = 2 x + the sum of z, for every pixel."""

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return 2 * x + z.sum(1)[:, None, None, None]


def shown(n: int) -> list[Tensor]:
    """What a generator makes."""
    return [FAKE[:n]]


def game(name: str = "nonsaturating", **tricks: Any) -> Game:
    objective = objectives.get(name)
    return Game(objective(objective.settings_class()), TrickSettings(**tricks))


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


@pytest.mark.parametrize("flip", [False, True])
def test_pixels_to_reject_and_to_accept(flip: bool) -> None:
    out = torch.tensor([2.0, -1.0, 0.5, 3.0]).view(1, 1, 2, 2)
    rejected = torch.tensor([True, False, True, False]).view(1, 1, 2, 2)
    plain = [softplus(2.0), softplus(1.0), softplus(0.5), softplus(-3.0)]
    swapped = [softplus(-2.0), softplus(-1.0), softplus(-0.5), softplus(3.0)]
    expected = sum(swapped if flip else plain) / 4
    assert game(flip_labels=flip).d_pixels(out, rejected).item() == pytest.approx(expected, rel=1e-6)


def test_drawn_penalty_of_pixels_is_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    opacity = torch.zeros(8, 1, 32, 32)
    opacity[..., :8] = 0.9  # drawn: a quarter
    opacity[..., 8:16] = 0.1  # hardly to be seen
    monkeypatch.setattr(
        penalties, "draw_defects", lambda x, generated, elongation: (x - generated.sum() + elongation, opacity)
    )
    critic = Recorder(1.0, pixels=True)
    settings = PenaltySettings(penalty="drawn", critic="pixels", drawn_elongation=16)
    losses = critic_losses(game(), critic, REAL, shown, settings)
    ((seen,),) = critic.seen
    assert torch.equal(seen, REAL - FAKE[:2].sum() + 16)  # a quarter of eight
    expected = 0.25 * softplus(1.0) + 0.75 * softplus(-1.0)
    assert losses["adversarial"].item() == pytest.approx(expected, rel=1e-6)
    assert losses["total"].item() == losses["adversarial"].item()
    assert losses["penalty_real"].item() == pytest.approx(1 / (1 + math.exp(-1.0)), rel=1e-6)


def test_drawn_penalty_of_pairs_shows_the_codes_of_what_was_drawn() -> None:
    critic, encoder = Recorder(1.0, pixels=True), nn.Sequential(nn.Flatten(), nn.Linear(1024, 3))
    settings = PenaltySettings(penalty="drawn", critic="pixels")

    def code() -> Tensor:
        raise AssertionError("D is shown no patch without drawn defects")

    critic_losses(game(), critic, REAL, shown, settings, encoder, code)
    ((x, z),) = critic.seen
    assert not torch.equal(x, REAL) and torch.equal(z, encoder(x))


@pytest.mark.parametrize("noisy", [("real", "generated"), ("generated",), ()])
def test_input_noise_comes_last_and_does_not_tell_what_was_drawn(noisy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opacity = torch.zeros(8, 1, 32, 32)
    opacity[..., :16] = 1.0
    drawn = opacity * 0.3
    monkeypatch.setattr(penalties, "draw_defects", lambda x, generated, elongation: (drawn, opacity))
    critic, encoder = Recorder(1.0, pixels=True), Recorder(0.0, pixels=False)
    settings = PenaltySettings(penalty="drawn", critic="pixels")
    critic_losses(game(input_noise=2.0), critic, REAL, shown, settings, encoder, lambda: REAL, noisy=noisy)
    ((x, _),) = critic.seen
    noise = (x - drawn)[..., :16], (x - drawn)[..., 16:]
    for part in noise:
        assert part.std().item() == pytest.approx(2.0 if "real" in noisy else 0.0, rel=0.05)
    assert torch.equal(encoder.seen[0][0], drawn)


@pytest.mark.parametrize("noisy", [("real", "generated"), ("generated",), ()])
def test_input_noise_of_patches_is_added_once(noisy: Any) -> None:
    critic, settings = Recorder(1.0, pixels=False), PenaltySettings(penalty="drawn")
    critic_losses(game(input_noise=2.0), critic, REAL, shown, settings, noisy=noisy)
    real, fake, drawn = (x for (x,) in critic.seen)
    assert (real - REAL).std().item() == pytest.approx(2.0 if "real" in noisy else 0.0, rel=0.05)
    assert (fake - FAKE).std().item() == pytest.approx(2.0 if "generated" in noisy else 0.0, rel=0.05)
    # Most of a patch stays as it was.
    assert drawn.median(-1).values.std().item() < 1.0
    assert (drawn.std().item() > 1.9) == bool(noisy) and drawn.std().item() < 2.3


def test_targets_of_pixels_are_softened_as_those_of_patches() -> None:
    out, rejected = torch.full((1, 1, 200, 200), 2.0), torch.ones(1, 1, 200, 200, dtype=torch.bool)
    soft = game(soft_labels=0.2)
    torch.manual_seed(0)
    # Targets of 0.1 on average: 0.9 of the loss towards 0, 0.1 of that towards 1.
    expected = 0.9 * softplus(2.0) + 0.1 * softplus(-2.0)
    assert soft.d_pixels(out, rejected).item() == pytest.approx(expected, rel=2e-3)
    assert soft.d_penalty(out).item() == pytest.approx(expected, rel=2e-3)


def test_slope_of_pixels_with_drawn_defects_is_that_between_real_and_generated_pairs() -> None:
    played = game("wgan_gp")
    losses = critic_losses(
        played,
        Plane(),
        REAL,
        lambda n: [FAKE[:n], torch.ones(n, 3)],
        PenaltySettings(penalty="drawn", critic="pixels"),
        nn.Sequential(nn.Flatten(), nn.Linear(1024, 3)),
        lambda: torch.zeros(8, 3),
    )
    slope = math.sqrt(3 + 1024 * (2 / 1024) ** 2)
    expected = played.objective.settings.gp_weight * (slope - 1) ** 2
    assert losses["gradient_penalty"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("pixels", [False, True])
def test_without_a_penalty_the_objective_s_terms(pixels: bool) -> None:
    settings = PenaltySettings(critic="pixels" if pixels else "patch")
    losses = critic_losses(game(), Recorder(1.0, pixels), REAL, shown, settings, weight=0.5)
    assert set(losses) == {"total", "adversarial"}
    assert losses["total"].item() == pytest.approx(0.5 * (softplus(-1.0) + softplus(1.0)), rel=1e-6)


def test_patches_that_were_drawn_on_are_generated_ones() -> None:
    critic = Recorder(1.0, pixels=False)
    losses = critic_losses(game(), critic, REAL, shown, PenaltySettings(penalty="drawn", pen_w=3.0))
    assert losses["penalty"].item() == pytest.approx(3 * softplus(1.0), rel=1e-6)
    assert (critic.seen[-1][0] != 0).any() and len(critic.seen[-1][0]) == len(REAL)


@pytest.mark.parametrize("name", ["minimax", "nonsaturating", "lsgan", "wgan", "hinge", "mim"])
def test_losses_of_pixels_are_those_of_as_many_patches(name: str) -> None:
    out = torch.linspace(-2, 2, 32).view(2, 1, 4, 4)
    played = game(name)
    for loss in (played.d_real, played.d_fake, played.g_loss, played.e_loss):
        assert loss(out).item() == pytest.approx(loss(out.flatten()).item(), rel=1e-6)
    assert played.doubt(out).shape == out.shape


def test_slope_of_a_discriminator_of_pixels_is_that_of_their_mean() -> None:
    x = torch.randn(3, 1, 4, 4)
    assert gradient_norm(lambda x: 5 * x, [x]).tolist() == pytest.approx([5 / 4] * 3)  # 16 slopes of 5/16
