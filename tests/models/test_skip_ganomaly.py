"""Skip-GANomaly's networks, losses term by term, the pass its two phases share, and its scores."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inspect_gan.config import make_config
from inspect_gan.detector import Batch
from inspect_gan.models import skip_ganomaly
from inspect_gan.models.skip_ganomaly import SkipGanomaly, UNet, unet_k4, unet_k5

X = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def detector(objective: str = "nonsaturating", tricks: dict[str, Any] | None = None, **settings: Any) -> SkipGanomaly:
    torch.manual_seed(0)
    values = {"detector": {"name": "skip_ganomaly", "nz": 3, "width": 2, **settings}, "objective": objective}
    made = make_config(values | ({"tricks": tricks} if tricks else {})).build(1)
    assert isinstance(made, SkipGanomaly)
    return made


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# Networks.


def test_published_parameter_counts() -> None:
    assert count(unet_k5(1, 32, 64)) == 26_020_673
    down = [(1, 64), (64, 128), (128, 256), (256, 512), (512, 512)]
    up = [(512, 512), (1024, 256), (512, 128), (256, 64), (128, 1)]
    normalised = 2 * (128 + 256 + 512) + 2 * (512 + 256 + 128 + 64)
    assert count(unet_k4(1, 32, 64)) == 16 * sum(a * b for a, b in down + up) + normalised + 1
    pyramid = 16 * (64 + 64 * 128 + 128 * 256) + 2 * (128 + 256)
    assert count(skip_ganomaly.skip_critic_k4(1, 32, 256, 64, "batch", False)) == pyramid + 4096 * 256 + 256
    pyramid = 25 * (64 + 64 * 128 + 128 * 256) + 3 * (64 + 128 + 256)
    assert count(skip_ganomaly.skip_critic_k5(1, 32, 64, "batch")) == pyramid + 4097


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("unet", [unet_k4, unet_k5])
def test_unet_narrows_to_one_pixel_and_returns_to_full_size(
    unet: Callable[[int, int, int], UNet], size: int, channels: int
) -> None:
    net = unet(channels, size, 2)
    sizes: list[int] = []
    for stage in (*net.downs, *net.ups):
        stage.register_forward_hook(lambda *args: sizes.append(args[2].shape[-1]))
    x = torch.rand(2, channels, size, size) * 2 - 1
    made = net(x)
    assert made.shape == x.shape and made.abs().max() <= 1
    halves = [size >> i for i in range(1, size.bit_length())]
    assert sizes == halves + halves[-2::-1] + [size]


@pytest.mark.parametrize("unet", [unet_k4, unet_k5])
def test_skips_carry_what_the_bottleneck_loses(unet: Callable[[int, int, int], UNet]) -> None:
    """With the bottleneck silenced, the output still depends on the patch."""
    net = unet(1, 32, 2).eval()
    net.downs[-1].register_forward_hook(lambda *args: torch.zeros_like(args[2]))
    with torch.no_grad():
        made = net(X)
    assert (made[0] - made[1]).abs().max() > 1e-4


def test_bottleneck_of_the_thesis_is_neither_normalised_nor_activated() -> None:
    assert [type(layer) for layer in unet_k5(1, 32, 2).downs[-1].modules()][1:] == [nn.Conv2d]
    codes = unet_k5(1, 32, 2).downs[-1](torch.randn(3, 16, 2, 2))
    assert codes.min() < 0 < codes.max()


@pytest.mark.parametrize("networks", ["k4", "k5"])
@pytest.mark.parametrize(("objective", "batch_norm"), [("nonsaturating", True), ("hinge", False), ("wgan_gp", False)])
def test_batch_normalisation_in_the_discriminator(objective: str, networks: str, batch_norm: bool) -> None:
    modules = detector(objective, networks=networks).discriminator.modules()
    assert any(isinstance(module, nn.BatchNorm2d) for module in modules) == batch_norm


def test_dropout_is_off_when_scoring() -> None:
    made = detector(preset="thesis")
    assert not torch.equal(made.features(X), made.features(X))
    made.eval()
    assert torch.equal(made.features(X), made.features(X))


# Losses.


def test_generator_loss() -> None:
    made = detector(w_adv=2.0, w_con=3.0, w_lat=5.0)
    losses = made.stages()[0].phases[0].loss(Batch(X))
    x_rec = made.generator(X)
    adv = 2 * nn.functional.softplus(-made.discriminator(x_rec)).mean()
    con = 3 * (X - x_rec).abs().mean()
    lat = 5 * (made.features(X) - made.features(x_rec)).square().mean()
    for name, wanted in {"adv": adv, "con": con, "lat": lat, "total": adv + con + lat}.items():
        assert torch.allclose(losses[name], wanted), name


def test_discriminator_loss() -> None:
    made = detector("lsgan")
    losses = made.stages()[0].phases[1].loss(Batch(X))
    real, fake = made.discriminator(X), made.discriminator(made.generator(X))
    wanted = 0.5 * (real - 1).square().mean() + 0.5 * fake.square().mean()
    assert torch.allclose(losses["total"], wanted)
    assert losses.keys() == {"total", "adversarial"}


def test_both_phases_use_one_pass_of_the_generator() -> None:
    made = detector()
    passes: list[Tensor] = []
    seen: list[Tensor] = []
    made.generator.register_forward_hook(lambda *args: passes.append(args[2]))
    made.discriminator.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    generator, discriminator = made.stages()[0].phases
    batch = Batch(X)
    generator.loss(batch)
    discriminator.loss(batch)
    assert len(passes) == 1
    assert any(torch.equal(x, passes[0]) for x in seen)
    assert not any(x.requires_grad for x in seen)  # the discriminator's loss does not reach the generator
    discriminator.loss(Batch(X))  # a repeat on a fresh batch needs its own pass
    assert len(passes) == 2


def test_noise_falls_on_the_reconstruction_only() -> None:
    made = detector(tricks={"input_noise": 0.5})
    seen: list[Tensor] = []
    made.discriminator.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    made.stages()[0].phases[1].loss(Batch(X))
    real, fake = seen
    assert torch.equal(real, X)
    assert (fake - made.generator(X)).std().item() == pytest.approx(0.5, rel=0.1)


@pytest.mark.parametrize(
    ("preset", "steps"),
    [
        ("default", [("generator", 2e-4), ("discriminator", 2e-4)]),
        ("thesis", [("discriminator", 5e-6), ("generator", 5e-5)]),
    ],
)
def test_order_and_rates(preset: str, steps: list[tuple[str, float]]) -> None:
    (stage,) = detector(preset=preset).stages()
    assert [(phase.name, phase.optimizer.lr) for phase in stage.phases] == steps


# Scores.


def test_scores() -> None:
    made = detector(lam=0.7).eval()
    with torch.no_grad():
        x_rec = made.generator(X)
        scores = made.scores(X, ["comb", "rec", "lat", "comb_l1", "comb_l2"])
        difference, lost = (X - x_rec).flatten(1), made.features(X) - made.features(x_rec)
    rec, lat = difference.square().mean(1), lost.square().mean(1)
    wanted = {
        "comb": 0.7 * rec + 0.3 * lat,
        "rec": rec,
        "lat": lat,
        "comb_l1": 0.7 * difference.abs().sum(1) + 0.3 * lost.square().sum(1).sqrt(),
        "comb_l2": 0.7 * difference.square().sum(1).sqrt() + 0.3 * lost.square().sum(1).sqrt(),
    }
    for name, value in wanted.items():
        assert torch.allclose(scores.patch[name], value), name
    per_pixel = 0.7 * (X - x_rec).square() + 0.3 * lat[:, None, None, None]
    assert torch.allclose(scores.maps["comb"], per_pixel, atol=1e-6)


@pytest.mark.parametrize(("preset", "score", "lam"), [("default", "comb", 0.9), ("thesis", "comb_l1", 0.2)])
def test_score_of_the_preset(preset: str, score: str, lam: float) -> None:
    config = make_config({"detector": {"name": "skip_ganomaly", "preset": preset}, "scoring": {"score": "default"}})
    assert (config.build(1).score_name("default"), config.detector["lam"]) == (score, lam)
