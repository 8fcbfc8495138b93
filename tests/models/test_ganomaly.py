"""GANomaly's losses term by term, the pass its two phases share, and the re-initialised discriminator."""

from typing import Any

import pytest
import torch
from torch import Tensor

from inspect_gan.config import make_config
from inspect_gan.detector import Batch
from inspect_gan.models.ganomaly import Ganomaly

X = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def ganomaly(objective: str = "nonsaturating", **settings: Any) -> Ganomaly:
    torch.manual_seed(0)
    values = {"detector": {"name": "ganomaly", "nz": 3, "width": 2, **settings}, "objective": objective}
    detector = make_config(values).build(1)
    assert isinstance(detector, Ganomaly)
    return detector


def parts(detector: Ganomaly) -> tuple[Tensor, Tensor, Tensor]:
    """x', h, h'."""
    h = detector.encoder(X)
    x_rec = detector.decoder(h)
    return x_rec, h, detector.encoder_rec(x_rec)


def test_generator_loss() -> None:
    detector = ganomaly(w_adv=2.0, w_con=3.0, w_enc=5.0)
    losses = detector.stages()[0].phases[0].loss(Batch(X))
    x_rec, h, h_rec = parts(detector)
    adv = (detector.features(X) - detector.features(x_rec)).square().mean()
    con, enc = (X - x_rec).abs().mean(), (h - h_rec).square().mean()
    for name, wanted in {"adv": adv, "con": con, "enc": enc, "total": 2 * adv + 3 * con + 5 * enc}.items():
        assert torch.allclose(losses[name], wanted), name


def test_generator_loss_of_the_thesis() -> None:
    detector = ganomaly(adv_mode="objective", reductions="norm")
    losses = detector.stages()[0].phases[0].loss(Batch(X))
    x_rec, h, h_rec = parts(detector)
    adv = torch.nn.functional.softplus(-detector.discriminator(x_rec)).mean()
    con = (X - x_rec).abs().sum((1, 2, 3)).mean()
    enc = (h - h_rec).square().sum(1).sqrt().mean()
    for name, wanted in {"adv": adv, "con": con, "enc": enc, "total": adv + 50 * con + enc}.items():
        assert torch.allclose(losses[name], wanted), name


def test_discriminator_loss_is_half_the_objectives() -> None:
    detector = ganomaly()
    losses = detector.stages()[0].phases[1].loss(Batch(X))
    real, fake = detector.discriminator(X), detector.discriminator(parts(detector)[0])
    wanted = 0.5 * torch.nn.functional.softplus(-real).mean() + 0.5 * torch.nn.functional.softplus(fake).mean()
    assert torch.allclose(losses["total"], wanted)
    assert losses.keys() == {"total", "adversarial"}


def test_both_phases_use_one_pass_of_the_decoder() -> None:
    detector = ganomaly()
    made: list[Tensor] = []
    seen: list[Tensor] = []
    detector.decoder.register_forward_hook(lambda *args: made.append(args[2]))
    detector.discriminator.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    generator, discriminator = detector.stages()[0].phases
    batch = Batch(X)
    generator.loss(batch)
    discriminator.loss(batch)
    assert len(made) == 1
    assert any(torch.equal(x, made[0]) for x in seen)
    assert not any(x.requires_grad for x in seen)  # the discriminator's loss does not reach the generator
    # A repeat on a fresh batch needs its own pass.
    discriminator.loss(Batch(X))
    assert len(made) == 2


@pytest.mark.parametrize(("first", "order"), [("generator", 0), ("discriminator", 1)])
def test_order_of_the_phases(first: str, order: int) -> None:
    (stage,) = ganomaly(first=first).stages()
    assert [phase.name for phase in stage.phases].index("generator") == order
    (generator,) = (phase for phase in stage.phases if phase.name == "generator")
    assert generator.trains == ("encoder", "decoder", "encoder_rec")


@pytest.mark.parametrize(
    ("objective", "reinit", "loss", "afresh"),
    [
        ("nonsaturating", True, 0.9e-5, True),
        ("minimax", True, 0.0, True),
        ("lsgan", True, 1e-6, True),
        ("nonsaturating", True, 1.1e-5, False),
        ("nonsaturating", False, 0.0, False),
        ("hinge", True, 0.0, False),
        ("wgan_gp", True, -3.0, False),
    ],
)
def test_a_discriminator_that_has_won_starts_afresh(objective: str, reinit: bool, loss: float, afresh: bool) -> None:
    detector = ganomaly(objective, reinit_d=reinit)
    (phase,) = (phase for phase in detector.stages()[0].phases if phase.name == "discriminator")
    with torch.no_grad():
        for parameter in detector.parameters():
            parameter.fill_(7.0)
    assert phase.after_step is not None
    phase.after_step({"total": loss, "adversarial": loss})
    untouched = [bool((p == 7.0).all()) for p in detector.discriminator.parameters()]
    assert not any(untouched) if afresh else all(untouched)
    assert all(bool((p == 7.0).all()) for net in (detector.encoder, detector.decoder) for p in net.parameters())


def test_scores() -> None:
    detector = ganomaly().eval()
    with torch.no_grad():
        x_rec, h, h_rec = parts(detector)
        scores = detector.scores(X, ["enc_mse", "enc_l1", "enc_l2", "rec_l1"]).patch
    assert torch.allclose(scores["enc_mse"], (h - h_rec).square().sum(1) / 3)
    assert torch.allclose(scores["enc_l1"], (h - h_rec).abs().sum(1))
    assert torch.allclose(scores["enc_l2"], (h - h_rec).square().sum(1).sqrt())
    assert torch.allclose(scores["rec_l1"], (X - x_rec).abs().sum((1, 2, 3)))


@pytest.mark.parametrize("networks", ["k4", "k4_valid", "k5"])
@pytest.mark.parametrize(("objective", "batch_norm"), [("nonsaturating", True), ("wgan", False), ("wgan_gp", False)])
def test_batch_normalisation_in_the_discriminator(objective: str, networks: str, batch_norm: bool) -> None:
    modules = ganomaly(objective, networks=networks).discriminator.modules()
    assert any(isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d) for module in modules) == batch_norm


@pytest.mark.parametrize("size", [32, 64, 128])
def test_networks_without_padding_learn_at_every_size(size: int) -> None:
    values = {"detector": {"name": "ganomaly", "nz": 3, "width": 2, "networks": "k4_valid"}, "patches": {"size": size}}
    detector = make_config(values).build(1)
    x = torch.rand(3, 1, size, size) * 2 - 1
    for phase in detector.stages()[0].phases:
        phase.loss(Batch(x))["total"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in detector.parameters())
    for network in (detector.encoder, detector.discriminator.body):
        convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
        assert {conv.padding for conv in convolutions} == {(0, 0)}
    assert detector.features(x).shape == (3, 4 * convolutions[-1].out_channels)
