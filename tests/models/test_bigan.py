"""BiGAN's networks, losses and scores, on stand-ins simple enough to compute by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from inspect_gan.config import make_config
from inspect_gan.detector import Batch, Phase
from inspect_gan.models import bigan as module
from inspect_gan.models import networks
from inspect_gan.models.bigan import BiGAN, GaussianCode

X = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
N = 1024
MEAN, TOP = X.mean((1, 2, 3)), X.amax((1, 2, 3))
# Reconstruction by the stand-ins: a patch full of the mean, whose code is (mean, mean).
ERROR = X - MEAN[:, None, None, None]
WEIGHTS = torch.tensor([1.0, 2.0, 3.0])


def bigan(objective: str | None = None, tricks: dict[str, Any] | None = None, **settings: Any) -> BiGAN:
    """In eval mode, so that neither dropout nor batch statistics blur a comparison; weights of a size that lets a
    signal through narrow networks."""
    torch.manual_seed(0)
    values: dict[str, Any] = {"detector": {"name": "bigan", "nz": 2, "width": 2, **settings}, "tricks": tricks or {}}
    detector = make_config(values | ({"objective": objective} if objective else {})).build(1)
    assert isinstance(detector, BiGAN)
    return detector.apply(networks.init_xavier).eval()


def phases(detector: BiGAN) -> tuple[Phase, Phase]:
    (stage,) = detector.stages()
    discriminator, both = stage.phases
    return discriminator, both


# Networks.


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_published_parameter_counts() -> None:
    assert count(module.encoder(1, 32, 256, 64)) == 1_706_432
    assert count(module.encoder(1, 32, 256, 64, stochastic=True)) == 1_706_432 + 4096 * 256 + 256
    assert count(module.critic(1, 32, 256, 64)) == 9_178_817


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_shapes(size: int, channels: int) -> None:
    x, z = torch.randn(3, channels, size, size), torch.randn(3, 6)
    for stochastic in (False, True):
        assert module.encoder(channels, size, 6, 4, stochastic=stochastic)(x).shape == (3, 6)
    out, features = module.critic(channels, size, 6, 4).outputs(x, z)
    assert out.shape == (3,)
    assert features.shape == (3, 16 * 4)


def test_pair_body_joins_its_branches() -> None:
    body = networks.PairBody(nn.Flatten(), nn.Linear(2, 3), nn.Linear(7, 1))
    x, z = torch.randn(5, 1, 2, 2), torch.randn(5, 2)
    assert torch.equal(body(x, z), body.joint(torch.cat([x.flatten(1), body.z_net(z)], 1)))


def test_gaussian_code_has_its_moments_in_training_and_is_the_mean_otherwise() -> None:
    mean, deviation = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    moments = torch.cat([mean, 2 * deviation.log()]).expand(40_000, 4)
    torch.manual_seed(0)
    drawn = GaussianCode()(moments)
    assert torch.allclose(drawn.mean(0), mean, atol=0.05)
    assert torch.allclose(drawn.std(0), deviation, rtol=0.02)
    assert torch.equal(GaussianCode().eval()(moments), mean.expand(40_000, 2))


@pytest.mark.parametrize(("log_variance", "deviation"), [(100.0, math.exp(2.5)), (-100.0, math.exp(-5))])
def test_gaussian_code_cuts_log_variances(log_variance: float, deviation: float) -> None:
    drawn = GaussianCode()(torch.tensor([0.0, log_variance]).expand(10_000, 2))
    assert drawn.std().item() == pytest.approx(deviation, rel=0.05)


def test_stochastic_encoder_scores_with_its_mean() -> None:
    detector = bigan(stochastic_encoder=True)
    assert torch.equal(detector.encoder(X), detector.encoder(X))
    detector.train()
    assert not torch.equal(detector.encoder(X), detector.encoder(X))


# Losses.


def pair_outputs(detector: BiGAN) -> tuple[Tensor, Tensor]:
    """D(x, E(x)) and D(G(z), z) for the z that the losses draw after `manual_seed(1)`."""
    torch.manual_seed(1)
    z = torch.randn(5, 2)
    return detector.discriminator(X, detector.encoder(X)), detector.discriminator(detector.generator(z), z)


def losses(phase: Phase) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return phase.loss(Batch(X))


def test_nonsaturating_losses() -> None:
    detector = bigan()
    discriminator, both = phases(detector)
    real, fake = pair_outputs(detector)
    assert torch.allclose(losses(discriminator)["total"], softplus(-real).mean() + softplus(fake).mean())
    of_both = losses(both)
    assert torch.allclose(of_both["generator"], softplus(-fake).mean())
    assert torch.allclose(of_both["encoder"], softplus(real).mean())
    assert torch.allclose(of_both["total"], of_both["generator"] + of_both["encoder"])


def test_wasserstein_encoder_lowers_the_critic_on_real_pairs() -> None:
    detector = bigan("wgan")
    real, fake = pair_outputs(detector)
    of_both = losses(phases(detector)[1])
    assert torch.allclose(of_both["encoder"], real.mean())
    assert torch.allclose(of_both["generator"], -fake.mean())


def test_generator_and_encoder_step_together() -> None:
    discriminator, both = phases(bigan())
    assert discriminator.trains == ("discriminator",)
    assert both.trains == ("generator", "encoder")


def test_feature_matching_is_a_norm_and_trains_the_generator_only() -> None:
    gradients = {}
    for w_fm in (0.0, 0.4):
        detector = bigan(w_fm=w_fm)
        of_both = losses(phases(detector)[1])
        of_both["total"].backward()
        for name in ("encoder", "generator"):
            weight = getattr(detector, name).parameters()
            gradients[name, w_fm] = torch.cat([p.grad.flatten() for p in weight])
    assert torch.allclose(gradients["encoder", 0.4], gradients["encoder", 0.0], rtol=1e-4, atol=1e-8)
    assert gradients["encoder", 0.0].abs().max() > 1e-4
    change = gradients["generator", 0.4] - gradients["generator", 0.0]
    assert change.abs().max() > 0.1 * gradients["generator", 0.0].abs().max()
    torch.manual_seed(1)
    z = torch.randn(5, 2)
    difference = detector.features(X) - detector.discriminator.features(detector.generator(z), z)
    assert torch.allclose(of_both["feature_matching"], 0.4 * difference.norm(dim=1).mean())


def test_generator_and_encoder_deceive_a_frozen_discriminator() -> None:
    detector = bigan(width=4)
    _, both = phases(detector)
    before = pair_outputs(detector)
    parameters = [p for name in both.trains for p in getattr(detector, name).parameters()]
    optimiser = torch.optim.Adam(parameters, lr=1e-3)
    for _ in range(10):
        optimiser.zero_grad()
        losses(both)["total"].backward()
        optimiser.step()
    after = pair_outputs(detector)
    assert after[0].mean() < before[0].mean()
    assert after[1].mean() > before[1].mean()


class LinearPair(nn.Module):
    """D(x, z) = 2 x_0 + x_1 + 2 z_0: a gradient of norm 3, of which the part in x has norm √5."""

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return 2 * x.flatten(1)[:, 0] + x.flatten(1)[:, 1] + 2 * z[:, 0]


def test_gradient_penalty_counts_both_halves_of_the_pair() -> None:
    detector = bigan("wgan_gp")
    detector.discriminator = LinearPair()  # type: ignore[assignment]
    assert losses(phases(detector)[0])["gradient_penalty"].item() == pytest.approx(10 * (3 - 1) ** 2)


@pytest.mark.parametrize("stochastic", [False, True])
def test_penalty_distribution_joins_the_generated_pairs(stochastic: bool) -> None:
    detector = bigan(penalty="normal", stochastic_encoder=stochastic)
    for phase in phases(detector):
        terms = losses(phase)
        others = sum(value for name, value in terms.items() if name not in ("total", "penalty", "penalty_real"))
        assert terms["penalty"] > 0
        assert torch.allclose(terms["total"], others + terms["penalty"])


class Recorder(nn.Module):
    """Passes its input to a network and remembers it."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return self.network(x)


def test_input_noise_reaches_the_discriminator_but_not_the_encoder() -> None:
    detector = bigan(tricks={"input_noise": 0.75})
    encoder, branch = Recorder(detector.encoder), Recorder(detector.discriminator.body.x_net)  # type: ignore[arg-type]
    detector.encoder, detector.discriminator.body.x_net = encoder, branch  # type: ignore[assignment]
    for phase in phases(detector):
        losses(phase)
    assert all(torch.equal(x, X) for x in encoder.seen) and len(encoder.seen) == 2
    for real in branch.seen[::2]:
        assert (real - X).std().item() == pytest.approx(0.75, abs=0.03)


# Scores.


class MeanAndTop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.mean((1, 2, 3)), x.amax((1, 2, 3))], 1)


class Full(nn.Module):
    """A patch full of the first latent value."""

    def forward(self, z: Tensor) -> Tensor:
        return z[:, :1, None, None].expand(-1, 1, 32, 32)


class Pair(nn.Module):
    """Features: three weighted pixels times the larger latent value. Output: the smaller one."""

    def features(self, x: Tensor, z: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] * WEIGHTS * z[:, 1:]

    def outputs(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        return z[:, 0], self.features(x, z)


def stub(**settings: Any) -> BiGAN:
    detector = bigan(**settings)
    detector.encoder, detector.generator, detector.discriminator = MeanAndTop(), Full(), Pair()  # type: ignore[assignment]
    return detector


@pytest.mark.parametrize(("preset", "w"), [("default", 0.9), ("thesis", 0.75)])
def test_scores(preset: str, w: float) -> None:
    scores = stub(preset=preset).scores(X)
    l1 = ERROR.abs().sum((1, 2, 3))
    # E(x), not E(x'), goes with the reconstruction.
    fm = (ERROR.flatten(1)[:, :3] * WEIGHTS * TOP[:, None]).abs().sum(1)
    wanted = {
        "rec_1": l1,
        "rec_2": ERROR.square().sum((1, 2, 3)).sqrt(),
        "fm": fm,
        "comb": w * l1 + (1 - w) * fm,
        "ce": softplus(-MEAN),
        "z": TOP - MEAN,
    }
    for name, value in wanted.items():
        assert torch.allclose(scores.patch[name], value, rtol=1e-4), name
    assert torch.allclose(scores.maps["rec_1"], N * ERROR.abs(), atol=1e-3)
    assert torch.allclose(scores.maps["comb"], w * N * ERROR.abs() + (1 - w) * fm[:, None, None, None], atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [({"objective": "hinge"}, -MEAN), ({"tricks": {"flip_labels": True}}, softplus(MEAN))],
    ids=["critic", "flipped"],
)
def test_score_on_the_output_is_high_for_what_is_not_real(settings: dict[str, Any], wanted: Tensor) -> None:
    assert torch.allclose(stub(**settings).scores(X, ["ce"]).patch["ce"], wanted)
