"""f-AnoGAN's encoder losses and scores against values by hand, on networks simple enough to compute."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inspect_gan.config import make_config
from inspect_gan.detector import Batch
from inspect_gan.models.fanogan import FAnoGAN

X = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
MEAN, TOP = X.mean((1, 2, 3)), X.amax((1, 2, 3))
# Reconstruction: a patch full of the mean.
ERROR = X - MEAN[:, None, None, None]
FEATURE_WEIGHTS = torch.tensor([1.0, 2.0, 3.0])
FEATURE_ERROR = ERROR.flatten(1)[:, :3] * FEATURE_WEIGHTS


class MeanAndTop(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([x.mean((1, 2, 3)), x.amax((1, 2, 3))], 1)


class Full(nn.Module):
    """A patch full of the first latent value."""

    def forward(self, z: Tensor) -> Tensor:
        return z[:, :1, None, None].expand(-1, 1, 32, 32)


class ThreePixels(nn.Module):
    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1).sum(1), x.flatten(1)[:, :3] * FEATURE_WEIGHTS


def fanogan(**settings: Any) -> FAnoGAN:
    torch.manual_seed(0)
    detector = make_config({"detector": {"name": "fanogan", "nz": 2, "width": 2, **settings}}).build(1)
    assert isinstance(detector, FAnoGAN)
    return detector


def stub(**settings: Any) -> FAnoGAN:
    detector = fanogan(**settings)
    detector.encoder, detector.generator, detector.discriminator = MeanAndTop(), Full(), ThreePixels()  # type: ignore[assignment]
    return detector


def encoder_losses(detector: FAnoGAN) -> dict[str, float]:
    (phase,) = detector.stages()[1].phases
    torch.manual_seed(1)
    return {name: value.item() for name, value in phase.loss(Batch(X)).items()}


def test_izi_is_the_image_distance() -> None:
    assert encoder_losses(stub(encoder_loss="izi")) == {"total": pytest.approx(ERROR.square().mean().item())}


def test_izi_f_adds_the_feature_distance() -> None:
    image, feature = ERROR.square().mean().item(), FEATURE_ERROR.square().mean().item()
    losses = encoder_losses(stub(kappa=0.4))
    assert losses == {
        "total": pytest.approx(image + 0.4 * feature),
        "image": pytest.approx(image),
        "feature": pytest.approx(feature),
    }


def test_ziz_is_the_latent_distance() -> None:
    torch.manual_seed(1)
    z = torch.randn(5, 2)
    # E(G(z)) = (z0, z0)
    wanted = 0.5 * (z[:, 0] - z[:, 1]).square().mean().item()
    assert encoder_losses(stub(encoder_loss="ziz")) == {"total": pytest.approx(wanted)}


def test_norm_in_place_of_the_mean_square() -> None:
    image = (ERROR.flatten(1).norm(dim=1) / 1024).mean().item()
    feature = (FEATURE_ERROR.norm(dim=1) / 3).mean().item()
    assert encoder_losses(stub(squared=False, kappa=2.0))["total"] == pytest.approx(image + 2 * feature)


def test_scores() -> None:
    scores = stub(kappa=0.4).scores(X, ["izi_f", "img", "z"])
    image, feature = ERROR.square().mean((1, 2, 3)), FEATURE_ERROR.square().mean(1)
    assert torch.allclose(scores.patch["img"], image)
    assert torch.allclose(scores.patch["izi_f"], image + 0.4 * feature)
    assert torch.allclose(scores.maps["izi_f"], ERROR.square() + 0.4 * feature[:, None, None, None], atol=1e-6)
    # E(x') = (mean, mean)
    assert torch.allclose(scores.patch["z"], 0.5 * (TOP - MEAN).square())


def test_gan_losses_are_the_objectives() -> None:
    detector = fanogan()
    discriminator, generator = detector.stages()[0].phases
    torch.manual_seed(1)
    losses = discriminator.loss(Batch(X))
    torch.manual_seed(1)
    fake = detector.generator(torch.randn(5, 2))
    wanted = detector.discriminator(fake).mean() - detector.discriminator(X).mean()
    assert torch.allclose(losses["adversarial"], wanted, atol=1e-6)
    assert losses["gradient_penalty"] > 0
    assert torch.allclose(losses["total"], losses["adversarial"] + losses["gradient_penalty"])
    torch.manual_seed(1)
    assert torch.allclose(generator.loss(Batch(X))["total"], -detector.discriminator(fake).mean(), atol=1e-6)


def test_encoder_comes_last_and_trains_alone() -> None:
    gan, encoder = fanogan().stages()
    assert [phase.trains for phase in gan.phases] == [("discriminator",), ("generator",)]
    assert [phase.trains for phase in encoder.phases] == [("encoder",)]


def test_wgan_clips_the_discriminator_only() -> None:
    detector = fanogan(preset="thesis")  # its objective is wgan
    discriminator, generator = detector.stages()[0].phases
    assert generator.after_step is None
    assert discriminator.after_step is not None
    discriminator.after_step({"total": 0.0})
    largest = {name: max(p.abs().max().item() for p in net.parameters()) for name, net in detector.named_children()}
    assert largest["discriminator"] == 1.0  # the gain of the layer normalisations
    assert detector.discriminator.head.weight.abs().max() <= 0.01
    assert largest["encoder"] > 0.01 and detector.generator.get_parameter("0.weight").abs().max() > 0.01


def test_bounded_encoder() -> None:
    for enc_out, bounded in (("tanh", True), ("linear", False)):
        z = fanogan(enc_out=enc_out).encoder(50 * X)
        assert bool((z.abs() <= 1).all()) == bounded
