"""ALAD's networks, losses and scores, on stand-ins simple enough to compute by hand."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from torch.nn.utils.parametrize import is_parametrized

from inspect_gan.config import make_config
from inspect_gan.detector import Batch, Phase
from inspect_gan.models import alad as module
from inspect_gan.models import networks
from inspect_gan.models.alad import ALAD

X = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
LAYERS = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


def alad(tricks: dict[str, Any] | None = None, objective: str | None = None, **settings: Any) -> ALAD:
    torch.manual_seed(0)
    values: dict[str, Any] = {"detector": {"name": "alad", "nz": 2, "width": 2, **settings}, "tricks": tricks or {}}
    detector = make_config(values | ({"objective": objective} if objective else {})).build(1)
    assert isinstance(detector, ALAD)
    return detector


def phases(detector: ALAD) -> dict[str, Phase]:
    (stage,) = detector.stages()
    return {phase.name: phase for phase in stage.phases}


# Networks.


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("network", "wanted"),
    [
        (module.encoder(1, 32, 256, 64), 1_738_912),
        (module.critic_xz(1, 32, 256, 64, "batch", 0.2), 11_935_105),
        (networks.critic_xx(1, 32, 64, 0.2), 141_505),
        (networks.critic_zz(256, 64, 0.2), 34_945),
    ],
    ids=["E", "D_xz", "D_xx", "D_zz"],
)
def test_published_parameter_counts(network: nn.Module, wanted: int) -> None:
    assert count(network) == wanted


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "of_xx"), [(32, 2 * 4), (64, 4 * 4), (128, 8 * 4)])
def test_shapes(size: int, of_xx: int, channels: int) -> None:
    x, z = torch.randn(3, channels, size, size), torch.randn(3, 6)
    assert module.encoder(channels, size, 6, 4)(x).shape == (3, 6)
    xz = module.critic_xz(channels, size, 6, 4, "layer", 0.2, minibatch_std=True)
    xx, tall = (networks.critic_xx(channels, size, 4, 0.2, concat=way) for way in ("channel", "height"))
    cases: list[tuple[networks.Critic, tuple[Tensor, Tensor], int]] = [
        (xz, (x, z), 64),
        (xx, (x, x), 64 * of_xx),
        (tall, (x, x), 128 * of_xx),
        (networks.critic_zz(6, 4, 0.2), (z, z), 2),
    ]
    for critic, inputs, features in cases:
        out, found = critic.outputs(*inputs)
        assert out.shape == (3,)
        assert found.shape == (3, features)


def test_two_images_one_above_the_other() -> None:
    a, b = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    assert torch.equal(networks.StackHalves()(torch.cat([a, b], 1)), torch.cat([a, b], 2))


@pytest.mark.parametrize(("concat", "sees"), [("channel", True), ("height", False)])
def test_only_channels_let_a_kernel_compare_corresponding_pixels(concat: Any, sees: bool) -> None:
    torch.manual_seed(0)
    critic = networks.critic_xx(1, 32, 4, 0.0, concat=concat)
    a, b = X[:1].clone().requires_grad_(), X[:1].clone().requires_grad_()
    # The feature of the upper left cell: which pixels of either image does it depend on?
    critic.features(a, b)[0, 0].backward()
    assert a.grad is not None and b.grad is not None
    assert a.grad.any()
    assert bool(b.grad.any()) == sees


def test_encoder_reaches_the_whole_latent_space() -> None:
    torch.manual_seed(0)
    z = module.encoder(1, 32, 64, 8)(X)
    assert (z > 0).any() and (z < 0).any()
    # Neither activation nor normalisation at the end: LeakyReLU would make the negative side five times smaller.
    assert z.clamp(max=0).square().mean() > 0.3 * z.clamp(min=0).square().mean()


@pytest.mark.parametrize("on", [True, False])
def test_spectral_norm_is_on_all_layers_but_the_last_of_all_networks_but_the_generator(on: bool) -> None:
    detector = alad(spectral_norm=on) if not on else alad()
    for name, network in detector.named_children():
        layers = {key: layer for key, layer in network.named_modules() if isinstance(layer, LAYERS)}
        free = {key for key, layer in layers.items() if not is_parametrized(layer)}
        assert free == ({"head"} if on and name != "generator" else set(layers)), name


def test_dropout_of_the_presets() -> None:
    for preset, wanted in (("default", 0.2), ("thesis", 0.25)):
        detector = alad(preset=preset)
        rates = {layer.p for layer in detector.modules() if isinstance(layer, nn.Dropout)}
        assert rates == {wanted}


@pytest.mark.parametrize("objective", ["wgan", "wgan_gp"])
def test_no_batch_normalisation_in_a_wasserstein_critic(objective: str) -> None:
    def norms(detector: ALAD) -> set[type]:
        kinds = nn.BatchNorm1d | nn.BatchNorm2d | nn.GroupNorm
        return {type(layer) for layer in detector.discriminator_xz.modules() if isinstance(layer, kinds)}

    assert norms(alad()) == {nn.BatchNorm2d}
    assert norms(alad(objective=objective)) == {nn.GroupNorm}


# Losses.


class Moments(nn.Module):
    """E: mean and maximum of a patch. Keeps what it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return torch.stack([x.mean((1, 2, 3)), x.amax((1, 2, 3))], 1)


class Full(nn.Module):
    """G: a patch full of the first latent value."""

    def forward(self, z: Tensor) -> Tensor:
        return z[:, :1, None, None].expand(-1, 1, 32, 32)


class Linear(nn.Module):
    """D(a, b) = wa · first entry of a + wb · first entry of b; features: the first two entries of each."""

    def __init__(self, wa: float, wb: float):
        super().__init__()
        self.weights = nn.Parameter(torch.tensor([wa, wb]))
        self.seen: list[tuple[Tensor, Tensor]] = []

    def features(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat([a.flatten(1)[:, :2], b.flatten(1)[:, :2]], 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        self.seen.append((a, b))
        return self.weights[0] * a.flatten(1)[:, 0] + self.weights[1] * b.flatten(1)[:, 0]

    def outputs(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self(a, b), self.features(a, b)


def stand_in(*args: Any, **settings: Any) -> ALAD:
    detector = alad(*args, **settings)
    detector.encoder, detector.generator = Moments(), Full()  # type: ignore[assignment]
    detector.discriminator_xz = Linear(1.0, 0.5)  # type: ignore[assignment]
    detector.discriminator_xx = Linear(2.0, -3.0)  # type: ignore[assignment]
    if detector.discriminator_zz is not None:
        detector.discriminator_zz = Linear(0.3, -1.0)  # type: ignore[assignment]
    return detector


FIRST, MEAN = X[:, 0, 0, 0], X.mean((1, 2, 3))


def latent(*seeds: int) -> Iterator[Tensor]:
    """First entries of the codes that a batch of 5 draws after each seed."""
    for seed in seeds:
        torch.manual_seed(seed)
        yield torch.randn(5, 2)[:, 0]


def losses(phase: Phase, batch: Batch, seed: int) -> dict[str, float]:
    torch.manual_seed(seed)
    return {name: value.item() for name, value in phase.loss(batch).items()}


# Raw outputs by hand: G(z) is full of z0, E(G(z)) = (z0, z0), x' is full of the mean of x.
XZ_REAL = FIRST + 0.5 * MEAN
XX_SAME, XX_REC = -FIRST, 2 * FIRST - 3 * MEAN


def xz_fake(z0: Tensor) -> Tensor:
    return 1.5 * z0


def zz(z0: Tensor) -> Tensor:
    return -0.7 * z0


def test_order_and_networks_of_the_phases() -> None:
    (stage,) = alad().stages()
    assert (stage.name, stage.epochs) == ("gan", 50)
    assert [phase.trains for phase in stage.phases] == [
        ("discriminator_xz",),
        ("discriminator_xx",),
        ("discriminator_zz",),
        ("generator", "encoder"),
    ]
    assert [phase.repeats for phase in stage.phases] == [1, 1, 1, 1]


def test_discriminator_losses() -> None:
    (z0,) = latent(1)
    stage, batch = phases(stand_in()), Batch(X)
    wanted = (softplus(-XZ_REAL) + softplus(xz_fake(z0))).mean().item()
    found = losses(stage["discriminator_xz"], batch, 1)
    assert found == {"total": pytest.approx(wanted, abs=1e-5), "adversarial": pytest.approx(wanted, abs=1e-5)}
    wanted = (softplus(-XX_SAME) + softplus(XX_REC)).mean().item()
    assert losses(stage["discriminator_xx"], batch, 2)["total"] == pytest.approx(wanted, abs=1e-5)
    # D_zz gets the same z as D_xz, whatever the random state.
    wanted = (softplus(-zz(z0)) + softplus(zz(z0))).mean().item()
    assert losses(stage["discriminator_zz"], batch, 3)["total"] == pytest.approx(wanted, abs=1e-5)


def test_generator_and_encoder_loss() -> None:
    detector = stand_in()
    stage, batch = phases(detector), Batch(X)
    losses(stage["discriminator_xz"], batch, 1)
    _, z0 = latent(1, 2)  # a fresh z, not that of the discriminators
    found = losses(stage["generator_encoder"], batch, 2)
    wanted = {
        "generator": softplus(-xz_fake(z0)).mean().item(),
        "encoder": softplus(XZ_REAL).mean().item(),
        "cycle_x": softplus(-XX_REC).mean().item(),
        "cycle_z": softplus(-zz(z0)).mean().item(),
    }
    assert found.pop("total") == pytest.approx(sum(wanted.values()), abs=1e-5)
    assert found == pytest.approx(wanted, abs=1e-5)


def test_one_backward_pass_gives_each_its_own_gradient() -> None:
    """G has no part in judging (x, E(x)), E none in judging (G(z), z): the sum of both losses trains both."""
    detector = alad(dropout=0.0)
    terms = phases(detector)["generator_encoder"].loss(Batch(X))

    def moved_by(term: str, network: nn.Module) -> bool:
        gradients = torch.autograd.grad(terms[term], list(network.parameters()), retain_graph=True, allow_unused=True)
        return any(gradient is not None for gradient in gradients)

    moved = {
        term: (moved_by(term, detector.generator), moved_by(term, detector.encoder))
        for term in terms
        if term != "total"
    }
    assert moved == {
        "generator": (True, False),
        "encoder": (False, True),
        "cycle_x": (True, True),
        "cycle_z": (True, True),
    }


def test_passes_are_shared_by_the_discriminators_of_a_batch() -> None:
    detector = stand_in()
    stage, batch = phases(detector), Batch(X)
    for name in ("discriminator_xz", "discriminator_xx", "discriminator_zz"):
        stage[name].loss(batch)
    assert isinstance(detector.encoder, Moments)
    # E(x) once, E(G(z)) once.
    assert len(detector.encoder.seen) == 2


def test_without_d_zz() -> None:
    detector = stand_in(allow_zz=False)
    assert list(phases(detector)) == ["discriminator_xz", "discriminator_xx", "generator_encoder"]
    assert set(phases(detector)["generator_encoder"].loss(Batch(X))) == {"total", "generator", "encoder", "cycle_x"}


# Objectives.


def test_objective_is_for_d_xz_unless_asked_for_all() -> None:
    (z0,) = latent(1)
    entropy = (softplus(-XX_SAME) + softplus(XX_REC)).mean().item()
    for everywhere, xx, zz_loss in (
        (False, entropy, (softplus(-zz(z0)) + softplus(zz(z0))).mean().item()),
        (True, (XX_REC - XX_SAME).mean().item(), 0.0),
    ):
        detector = stand_in(objective="wgan", objective_all=everywhere)
        stage, batch = phases(detector), Batch(X)
        wanted = (xz_fake(z0) - XZ_REAL).mean().item()
        assert losses(stage["discriminator_xz"], batch, 1)["total"] == pytest.approx(wanted, abs=1e-5)
        assert losses(stage["discriminator_xx"], batch, 2)["total"] == pytest.approx(xx, abs=1e-5)
        assert losses(stage["discriminator_zz"], batch, 3)["total"] == pytest.approx(zz_loss, abs=1e-5)
        found = losses(stage["generator_encoder"], batch, 1)
        assert found["encoder"] == pytest.approx(XZ_REAL.mean().item(), abs=1e-5)
        cycle_x = -XX_REC if everywhere else softplus(-XX_REC)
        cycle_z = -zz(z0) if everywhere else softplus(-zz(z0))
        assert found["cycle_x"] == pytest.approx(cycle_x.mean().item(), abs=1e-5)
        assert found["cycle_z"] == pytest.approx(cycle_z.mean().item(), abs=1e-5)
        repeats = [phase.repeats for phase in stage.values()]
        assert repeats == ([5, 5, 5, 1] if everywhere else [5, 1, 1, 1])


@pytest.mark.parametrize("everywhere", [True, False])
def test_weights_are_clipped_where_the_wasserstein_game_is_played(everywhere: bool) -> None:
    detector = stand_in(objective="wgan", objective_all=everywhere)
    largest = {}
    for name, phase in phases(detector).items():
        if phase.after_step is not None:
            phase.after_step({})
            largest[name] = max(p.abs().max().item() for p in getattr(detector, name).parameters())
    clipped = pytest.approx(0.01)
    assert largest == {
        "discriminator_xz": clipped,
        "discriminator_xx": clipped if everywhere else 3.0,
        "discriminator_zz": clipped if everywhere else 1.0,
    }


def test_gradient_penalty_of_the_pair_counts_the_code() -> None:
    detector = stand_in(objective="wgan_gp", objective_all=True)
    stage, batch = phases(detector), Batch(X)
    # D_xz is linear with gradient (1, 0.5), D_xx with (2, -3).
    for name, norm in (("discriminator_xz", 1.25**0.5), ("discriminator_xx", 13**0.5)):
        found = losses(stage[name], batch, 1)
        assert found["gradient_penalty"] == pytest.approx(10 * (norm - 1) ** 2, rel=1e-4)
        assert found["total"] == pytest.approx(found["adversarial"] + found["gradient_penalty"], rel=1e-5)
    plain = stand_in(objective="wgan_gp")
    assert "gradient_penalty" not in phases(plain)["discriminator_xx"].loss(Batch(X))


def test_thesis_rates() -> None:
    rates = [phase.optimizer.lr for phase in phases(alad(preset="thesis")).values()]
    assert rates == [1e-6, 1e-6, 1e-6, 5e-5]


# Tricks.


def test_input_noise_reaches_the_discriminators_only() -> None:
    detector = stand_in({"input_noise": 0.5})
    batch = Batch(X)
    for phase in phases(detector).values():
        phase.loss(batch)
    xz, xx, zz_critic = detector.discriminator_xz, detector.discriminator_xx, detector.discriminator_zz
    assert isinstance(xz, Linear) and isinstance(xx, Linear) and isinstance(zz_critic, Linear)
    assert isinstance(detector.encoder, Moments)

    def noisy(a: Tensor, clean: Tensor) -> bool:
        return (a - clean).std().item() == pytest.approx(0.5, rel=0.1)

    (real, z_enc), (fake, z) = xz.seen[:2]
    assert noisy(real, X) and noisy(fake, Full()(z))
    assert torch.equal(z_enc, Moments()(X))
    (same, same_too), (again, x_rec) = xx.seen[:2]
    # D_xx compares a noisy patch with itself, then with a clean reconstruction of the clean patch.
    assert noisy(same, X) and torch.equal(same, same_too) and torch.equal(same, again)
    assert torch.equal(x_rec, Full()(Moments()(X)))
    flat = [image for image in detector.encoder.seen if not torch.equal(image, X)]
    assert all(image.std((1, 2, 3)).max() == 0 for image in flat)  # G(z) without noise
    assert all(torch.equal(a, zz_critic.seen[0][0]) for a in zz_critic.seen[0])


def test_soft_and_exchanged_labels_leave_the_cycles_alone() -> None:
    plain, tricked = stand_in(), stand_in({"soft_labels": 0.1, "label_noise": 0.3})
    for name, softened in (("discriminator_xz", True), ("discriminator_xx", False), ("discriminator_zz", False)):
        a, b = (losses(phases(d)[name], Batch(X), 1)["total"] for d in (plain, tricked))
        assert (a != pytest.approx(b, abs=1e-4)) == softened, name


def test_swapped_roles_everywhere() -> None:
    (z0,) = latent(1)
    stage, batch = phases(stand_in({"flip_labels": True})), Batch(X)
    wanted = (softplus(XZ_REAL) + softplus(-xz_fake(z0))).mean().item()
    assert losses(stage["discriminator_xz"], batch, 1)["total"] == pytest.approx(wanted, abs=1e-5)
    wanted = (softplus(XX_SAME) + softplus(-XX_REC)).mean().item()
    assert losses(stage["discriminator_xx"], batch, 1)["total"] == pytest.approx(wanted, abs=1e-5)
    found = losses(stage["generator_encoder"], batch, 1)
    assert found["cycle_x"] == pytest.approx(softplus(XX_REC).mean().item(), abs=1e-5)
    assert found["generator"] == pytest.approx(softplus(xz_fake(z0)).mean().item(), abs=1e-5)


# Scores.

ERROR = X - MEAN[:, None, None, None]


def test_scores() -> None:
    scores = stand_in().scores(X, ["features", "l1", "l2", "logits", "res_feature"]).patch
    # Features of (x, x) and (x, x'): they differ in the two entries of the second patch.
    entries = ERROR.flatten(1)[:, :2]
    assert torch.allclose(scores["features"], entries.abs().sum(1), atol=1e-6)
    assert torch.allclose(scores["l1"], ERROR.abs().sum((1, 2, 3)), rtol=1e-5)
    assert torch.allclose(scores["l2"], ERROR.square().sum((1, 2, 3)).sqrt(), rtol=1e-5)
    assert torch.allclose(scores["logits"], softplus(-XX_REC), atol=1e-6)
    # D_xz on (x, E(x)) and (x', E(x)), mean square over its four features.
    assert torch.allclose(scores["res_feature"], entries.square().sum(1) / 4, atol=1e-6)


def test_logits_of_other_games() -> None:
    def logits(detector: ALAD) -> Tensor:
        return detector.scores(X, ["logits"]).patch["logits"]

    assert torch.allclose(logits(stand_in(objective="wgan")), softplus(-XX_REC), atol=1e-6)
    assert torch.allclose(logits(stand_in(objective="wgan", objective_all=True)), -XX_REC, atol=1e-6)
    # Swapped roles: D_xx calls equal patches 0, so the anomalous side is the positive one.
    assert torch.allclose(logits(stand_in({"flip_labels": True})), softplus(XX_REC), atol=1e-6)


def test_penalty_distribution_is_available_and_off() -> None:
    assert "penalty" not in phases(alad())["discriminator_xz"].loss(Batch(X))
    stage = phases(alad(penalty="uniform"))
    assert {"penalty", "penalty_real"} <= set(stage["discriminator_xz"].loss(Batch(X)))
    assert "penalty" in stage["generator_encoder"].loss(Batch(X))
