"""EBGAN's networks, losses term by term, margin, adapter, steps and scores."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from inspect_gan.config import make_config
from inspect_gan.detector import Batch, PatchShape
from inspect_gan.errors import InspectGanError
from inspect_gan.models import networks
from inspect_gan.models.ebgan import EBGAN
from inspect_gan.objectives.penalties import pulling_away

X = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
NZ = 3


def ebgan(
    objective: str | dict[str, Any] = "ebgan",
    tricks: dict[str, Any] | None = None,
    shape: PatchShape | None = None,
    **settings: Any,
) -> EBGAN:
    shape = shape or PatchShape()
    torch.manual_seed(0)
    values: dict[str, Any] = {
        "detector": {"name": "ebgan", "nz": NZ, "width": 2, **settings},
        "objective": objective,
        "patches": {"size": shape.size},
        "tricks": tricks or {},
    }
    made = make_config(values).build(shape.channels)
    assert isinstance(made, EBGAN)
    return made


def losses(detector: EBGAN, phase: str, x: Tensor = X) -> dict[str, Tensor]:
    (wanted,) = (p for stage in detector.stages() for p in stage.phases if p.name == phase)
    torch.manual_seed(1)
    return wanted.loss(Batch(x))


def fake(detector: EBGAN) -> Tensor:
    """The patches that a phase which draws its latent codes first generates."""
    torch.manual_seed(1)
    return detector.generator(torch.randn(5, NZ))


def energy(detector: EBGAN, x: Tensor) -> Tensor:
    return (detector.discriminator.reproduce(x) - x).square().sum((1, 2, 3)).sqrt()


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


# Networks.


def test_published_parameter_counts() -> None:
    assert count(networks.generator_k5(1, 32, 256, 64)) == 1_341_889
    assert count(networks.EnergyCritic(1, 32, 256, 64, "batch")) == 3_497_793


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_shapes_and_ranges(size: int, channels: int) -> None:
    x = torch.rand(2, channels, size, size) * 2 - 1
    made = networks.generator_k5(channels, size, 5, 4)(3 * torch.randn(2, 5))
    assert made.shape == x.shape and made.abs().max() <= 1
    for norm in ("batch", "layer", "none"):
        critic = networks.EnergyCritic(channels, size, 5, 4, norm)
        reproduction = critic.reproduce(x)
        assert reproduction.shape == x.shape and reproduction.abs().max() <= 1
        out, codes = critic.energies(x)
        assert out.shape == (2,) and codes.shape == (2, 5)
        assert torch.equal(critic(x), out)
        assert torch.equal(critic.features(x), codes)
        assert torch.equal(critic.energy(x, reproduction), out)
        narrowest = [stage for stage in critic.encoder.modules() if isinstance(stage, nn.Conv2d)][-1]
        assert narrowest.out_channels == {32: 8, 64: 16, 128: 32}[size]


def test_two_energies() -> None:
    for kind, wanted in (("norm", 16.0), ("mse", 0.25)):
        critic = networks.EnergyCritic(1, 32, 3, 2, "batch", energy=kind)  # type: ignore[arg-type]
        assert critic.energy(torch.zeros(2, 1, 32, 32), torch.full((2, 1, 32, 32), 0.5)).tolist() == [wanted] * 2


def test_spectral_norm_of_the_encoder_only() -> None:
    def normalised(module: nn.Module) -> set[bool]:
        layers = (m for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear))
        return {is_parametrized(layer, "weight") for layer in layers}

    detector = ebgan()
    assert normalised(detector.discriminator.encoder) == {True}
    assert normalised(detector.discriminator.decoder) == normalised(detector.generator) == {False}
    assert normalised(ebgan(spectral_norm=False)) == {False}


@pytest.mark.parametrize(("objective", "batch_norm"), [("ebgan", True), ("nonsaturating", True), ("wgan_gp", False)])
def test_batch_normalisation_in_the_discriminator(objective: str, batch_norm: bool) -> None:
    modules = ebgan(objective).discriminator.modules()
    assert any(isinstance(module, nn.BatchNorm2d) for module in modules) == batch_norm


# Losses.


@pytest.mark.parametrize("squared", [True, False])
def test_generator_loss(squared: bool) -> None:
    detector = ebgan(w_pt=0.5, pt_squared=squared)
    got = losses(detector, "generator")
    made = fake(detector)
    adversarial = energy(detector, made).mean()
    pulling = 0.5 * pulling_away(detector.features(made), squared=squared)
    wanted = {"adversarial": adversarial, "pulling_away": pulling, "total": adversarial + pulling}
    assert got.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.allclose(got[name], value), name


@pytest.mark.parametrize("hinge_on", ["sample", "batch"])
def test_discriminator_loss(hinge_on: str) -> None:
    detector = ebgan({"name": "ebgan", "hinge_on": hinge_on, "margin": 3.0}, spectral_norm=False)
    real, made = energy(detector, X), energy(detector, fake(detector))
    margin = made.sort().values[1:3].mean().item()  # so that some hinges are active and some are not
    detector.objective.margin = margin  # type: ignore[attr-defined]
    got = losses(detector, "discriminator")
    hinge = (margin - made).clamp_min(0).mean() if hinge_on == "sample" else (margin - made.mean()).clamp_min(0)
    assert torch.allclose(got["adversarial"], real.mean() + hinge, rtol=1e-5)
    assert torch.equal(got["total"], got["adversarial"])
    assert got["hinge_active"].item() == pytest.approx(0.4)


def test_loss_on_mean_square_energies() -> None:
    detector = ebgan(energy="mse", spectral_norm=False)
    wanted = energy(detector, fake(detector)).square().mean() / 1024
    assert torch.allclose(losses(detector, "generator")["adversarial"], wanted)


# The margin.


@pytest.mark.parametrize(
    ("energy", "shape", "margin"),
    [
        ("norm", PatchShape(), 20.0),
        ("norm", PatchShape(1, 64), 40.0),
        ("norm", PatchShape(3, 32), 20.0 * 3**0.5),
        ("mse", PatchShape(), 0.625**2),
    ],
)
def test_margin_is_the_published_one_for_patches_of_unit_variance(
    energy: str, shape: PatchShape, margin: float
) -> None:
    detector = ebgan(energy=energy, shape=shape)
    # ±1 with equal shares, on any grey level
    x = (torch.arange(shape.size) % 2 * 2.0 - 1).expand(4, shape.channels, shape.size, -1) + torch.rand(4, 1, 1, 1)
    losses(detector, "discriminator", x)
    assert float(detector.objective.margin) == pytest.approx(margin, rel=1e-4)  # type: ignore[attr-defined]
    losses(detector, "discriminator", 0.5 * x)  # the mean contrast is now three quarters
    scale = 0.75 if energy == "norm" else 0.75**2
    assert float(detector.objective.margin) == pytest.approx(scale * margin, rel=1e-4)  # type: ignore[attr-defined]


def test_margin_of_the_user_stays() -> None:
    detector = ebgan({"name": "ebgan", "margin": 7.0})
    losses(detector, "discriminator")
    assert detector.objective.margin == 7.0  # type: ignore[attr-defined]


def test_margin_survives_a_restart() -> None:
    trained, restored = ebgan(), ebgan()
    for scale in (0.1, 0.4, 1.0):
        losses(trained, "discriminator", scale * X)
    restored.load_state_dict(trained.state_dict())
    for detector in (trained, restored):
        losses(detector, "discriminator", 0.3 * X)
    assert torch.equal(trained.objective.margin, restored.objective.margin)  # type: ignore[attr-defined]


# Other objectives.


def test_adapter_turns_energies_into_logits() -> None:
    detector = ebgan("nonsaturating", spectral_norm=False)
    got = losses(detector, "discriminator")
    real, made = energy(detector, X), energy(detector, fake(detector))
    both = torch.cat([real, made])
    real_out, fake_out = ((both.mean() - part) / both.std(correction=0) for part in (real, made))
    softplus = nn.functional.softplus
    assert torch.allclose(got["adversarial"], softplus(-real_out).mean() + softplus(fake_out).mean(), rtol=1e-4)
    assert "hinge_active" not in got
    # The generator is judged by the statistics of the discriminator's step.
    again = losses(detector, "generator")["adversarial"]
    assert torch.allclose(again, softplus(-fake_out).mean(), rtol=1e-4)


def test_margin_objective_needs_no_adapter() -> None:
    assert ebgan().discriminator.adapter is None
    assert ebgan("mim").discriminator.adapter is not None


def test_gradient_penalty_sees_the_adapted_output() -> None:
    detector = ebgan({"name": "wgan_gp", "gp_weight": 10.0})
    plain = losses(detector, "discriminator")["gradient_penalty"].item()
    adapter = detector.discriminator.adapter
    assert adapter is not None
    with torch.no_grad():
        adapter.deviation.value.mul_(1e6)  # outputs, and so their slopes, all but vanish
        adapter.deviation.batches.fill_(1e9)
    assert losses(detector, "discriminator")["gradient_penalty"].item() == pytest.approx(10.0, abs=1e-2) != plain


# Steps.


@pytest.mark.parametrize(
    ("objective", "settings", "steps"),
    [
        ("ebgan", {}, [("generator", 3), ("discriminator", 1)]),
        ("ebgan", {"first": "discriminator"}, [("discriminator", 1), ("generator", 3)]),
        ("ebgan", {"g_steps": 1}, [("generator", 1), ("discriminator", 1)]),
        ("ebgan", {"critic_steps": 5}, [("generator", 1), ("discriminator", 5)]),
        ("wgan_gp", {}, [("generator", 1), ("discriminator", 5)]),
        ("wgan_gp", {"g_steps": 2}, [("generator", 2), ("discriminator", 5)]),
    ],
)
def test_steps(objective: str, settings: dict[str, Any], steps: list[tuple[str, int]]) -> None:
    (stage,) = ebgan(objective, **settings).stages()
    assert [(phase.name, phase.repeats) for phase in stage.phases] == steps


@pytest.mark.parametrize(
    ("objective", "settings", "rates"),
    [
        ("ebgan", {}, {"generator": 1e-5, "discriminator": 5e-6}),
        ("hinge", {}, {"generator": 1e-5, "discriminator": 5e-6}),
        ("wgan_gp", {}, {"generator": 1e-4, "discriminator": 1e-4}),
        ("ebgan", {"lr_d": 1e-3}, {"generator": 1e-5, "discriminator": 1e-3}),
    ],
)
def test_learning_rates(objective: str, settings: dict[str, Any], rates: dict[str, float]) -> None:
    (stage,) = ebgan(objective, **settings).stages()
    assert {phase.name: phase.optimizer.lr for phase in stage.phases} == rates


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"tricks": {"flip_labels": True}}, "flip_labels=false"), ({"minibatch_std": True}, "minibatch_std=false")],
)
def test_tricks_without_a_meaning_for_energies(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(InspectGanError, match=words):
        ebgan(**wrong)


# Scores.


def test_scores() -> None:
    detector = ebgan().eval()
    with torch.no_grad():
        scores = detector.scores(X, ["energy", "im1", "im2", "z1", "z2", "res_l2"])
        decoded, codes = detector.discriminator.reproduce(X), detector.features(X)
        made = detector.generator(codes)
        codes_lost = codes - detector.features(made)
        decoded_made = detector.discriminator.reproduce(made)

    def norm(difference: Tensor) -> Tensor:
        return difference.flatten(1).square().sum(1).sqrt()

    wanted = {
        "energy": norm(X - decoded),
        "im1": norm(X - made),
        "im2": norm(X - decoded_made),
        "z1": codes_lost.abs().sum(1),
        "z2": norm(codes_lost),
    }
    for name, value in wanted.items():
        assert torch.allclose(scores.patch[name], value), name
    # What D reproduces is the detector's reconstruction: the residual maps show where the energy comes from.
    assert torch.allclose(scores.maps["res_l2"].sum((1, 2, 3)).sqrt(), scores.patch["energy"], rtol=1e-5)


@pytest.mark.parametrize(("preset", "score"), [("default", "energy"), ("thesis", "im1")])
def test_score_of_the_preset(preset: str, score: str) -> None:
    config = make_config({"detector": {"name": "ebgan", "preset": preset}, "scoring": {"score": "default"}})
    assert config.build(1).score_name("default") == score
