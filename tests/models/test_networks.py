"""Shared blocks: published parameter counts, shapes at every patch size, initialisation."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from inspect_gan.models import networks

SIZES = (32, 64, 128)
NORMS: tuple[networks.Norm, ...] = ("batch", "layer", "none")


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        (networks.generator_dcgan(1, 32, 256, 64), 8_943_361),
        (networks.generator_dcgan(1, 64, 256, 64), 9_073_025),
        (networks.encoder_k5(1, 32, 256, 64), 2_075_776),
        (networks.encoder_k5(1, 32, 256, 64, smallest=2), 4_829_824),
    ],
    ids=["generator 32", "generator 64", "encoder to 4", "encoder to 2"],
)
def test_published_parameter_counts(module: nn.Module, wanted: int) -> None:
    assert count(module) == wanted


def test_counts_of_the_other_published_networks() -> None:
    """Layer by layer at 32 px, 1 channel, nz 256, width 64; batch normalisation counts twice its channels."""
    convs = [1 * 16 * 64, 64 * 16 * 128 + 2 * 128, 128 * 16 * 256 + 2 * 256]
    assert count(networks.encoder_k4(1, 32, 256, 64)) == sum(convs) + 4096 * 256
    assert count(networks.critic_k4(1, 32, 64, "batch")) == sum(convs) + 4096
    assert count(networks.critic_k4(1, 32, 64, "none")) == sum(convs) - 2 * (128 + 256) + 4096
    # The mirror: the 4x4 map is normalised, the last layer is not.
    mirror = [256 * 4096 + 2 * 256, 256 * 16 * 128 + 2 * 128, 128 * 16 * 64 + 2 * 64, 64 * 16 * 1]
    assert count(networks.decoder_k4(1, 32, 256, 64)) == sum(mirror)
    wide = [(1, 64), (64, 128), (128, 256)]
    k5 = sum(25 * a * b + 3 * b for a, b in wide)
    assert count(networks.critic_k5(1, 32, 64, "batch")) == k5 + 2 * 4096 + 4097
    assert count(networks.critic_k5(1, 32, 64, "none")) == k5 - 2 * (64 + 128 + 256) + 4097
    assert count(networks.encoder_k5(1, 32, 256, 64, first_norm=False)) == 2_075_776 - 2 * 64
    from_one = [(256, 256), (256, 128), (128, 64), (64, 32), (32, 16)]
    assert count(networks.decoder_k5(1, 32, 256, 64)) == sum(25 * a * b + 3 * b for a, b in from_one) + 25 * 16 + 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
def test_shapes_and_ranges(size: int, channels: int) -> None:
    x = torch.rand(2, channels, size, size) * 2 - 1
    z = 3 * torch.randn(2, 5)
    for decoder in (networks.generator_dcgan, networks.decoder_k4, networks.decoder_k5):
        made = decoder(channels, size, 5, 4)(z)
        assert made.shape == x.shape
        assert made.abs().max() <= 1
    for encoder in (
        networks.encoder_k4(channels, size, 5, 4),
        networks.encoder_k5(channels, size, 5, 4),
        networks.encoder_k5(channels, size, 5, 4, smallest=2, first_norm=False),
    ):
        assert encoder(x).shape == (2, 5)
    for norm in NORMS:
        for critic in (
            networks.critic_k4(channels, size, 4, norm),
            networks.critic_k5(channels, size, 4, norm),
        ):
            out, features = critic.eval().outputs(x)
            assert out.shape == (2,)
            assert features.shape == (2, critic.head.in_features)
            assert torch.equal(critic(x), out)
            assert torch.equal(critic.features(x), features)
            assert torch.allclose(critic.head(features).squeeze(1), out)


@pytest.mark.parametrize("kernel", [4, 5])
@pytest.mark.parametrize("size", [1, 2, 7, 32])
def test_strided_convolutions_halve_and_double_exactly(kernel: int, size: int) -> None:
    small, large = torch.randn(1, 2, size, size), torch.randn(1, 2, 2 * size, 2 * size)
    assert networks.down(2, 3, kernel)(large).shape == (1, 3, size, size)
    assert networks.up(2, 3, kernel)(small).shape == (1, 3, 2 * size, 2 * size)


def test_pyramid_is_capped_at_eight_widths() -> None:
    assert networks.pyramid(64, 5) == [64, 128, 256, 512, 512]
    assert [networks.halvings(128, 4), networks.halvings(32, 1)] == [5, 5]


@pytest.mark.parametrize("norm", ["layer", "none"])
@pytest.mark.parametrize("make", [networks.critic_k4, networks.critic_k5])
def test_critics_without_batch_normalisation_treat_samples_alone(
    make: Callable[..., networks.Critic], norm: networks.Norm
) -> None:
    critic = make(1, 32, 4, norm).train()
    x = torch.randn(4, 1, 32, 32)
    assert torch.allclose(critic(x)[:1], critic(x[:1]), atol=1e-5)


def test_initialisation() -> None:
    torch.manual_seed(0)
    critic = networks.critic_k5(1, 32, 32, "batch").apply(networks.init_normal)
    weight = critic.get_parameter("body.0.3.weight")
    assert weight.mean().abs() < 1e-3
    assert weight.std().item() == pytest.approx(0.02, rel=0.02)
    critic.apply(networks.init_xavier)
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (25 * (32 + 64))), rel=0.02)
    for name, parameter in critic.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_initialising_again_forgets_everything_learnt(norm: networks.Norm) -> None:
    critic = networks.critic_k5(1, 32, 4, norm)
    torch.manual_seed(0)
    fresh = {name: value.clone() for name, value in critic.apply(networks.init_normal).state_dict().items()}
    critic.train()(torch.randn(8, 1, 32, 32))
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.add_(1.0)
    torch.manual_seed(0)
    critic.apply(networks.init_normal)
    for name, value in critic.state_dict().items():
        assert torch.equal(value, fresh[name]), name
