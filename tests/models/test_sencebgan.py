"""SEncEBGAN: its extra generator term, the three stages, pair discriminators, the denoiser and the scores."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from inspect_gan.config import make_config
from inspect_gan.detector import Batch, Phase
from inspect_gan.errors import InspectGanError
from inspect_gan.models.sencebgan import Denoiser, SEncEBGAN
from inspect_gan.objectives.penalties import pulling_away

X = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
NZ = 3
softplus = nn.functional.softplus


def sencebgan(tricks: dict[str, Any] | None = None, **settings: Any) -> SEncEBGAN:
    torch.manual_seed(0)
    made = make_config(
        {
            "tricks": tricks or {},
            "detector": {"name": "sencebgan", "nz": NZ, "width": 2, **settings},
            # Not every variant has the default score.
            "scoring": {"score": "img"},
        }
    ).build(1)
    assert isinstance(made, SEncEBGAN)
    return made


def phase(detector: SEncEBGAN, name: str) -> Phase:
    (wanted,) = (p for stage in detector.stages() for p in stage.phases if p.name == name)
    return wanted


def norm(difference: Tensor, p: int = 2) -> Tensor:
    return difference.flatten(1).abs().pow(p).sum(1).pow(1 / p)


def rec(detector: SEncEBGAN) -> tuple[Tensor, Tensor]:
    """E_g(x) and x'."""
    z = detector.encoder(X)
    return z, detector.generator(z)


# Stages.


def test_three_stages_in_order() -> None:
    gan, encoder_g, encoder_r = sencebgan().stages()
    assert [(p.name, p.repeats) for p in gan.phases] == [("discriminator", 1), ("generator", 3)]
    assert [p.trains for p in encoder_g.phases] == [("encoder",)]
    assert [p.trains for p in encoder_r.phases] == [("encoder_r",)]
    assert [stage.epochs for stage in (gan, encoder_g, encoder_r)] == [100, 100, 400]


def test_each_encoder_step_is_followed_by_one_of_its_pair_discriminator() -> None:
    _, encoder_g, encoder_r = sencebgan(use_dxx=True, use_dzz=True).stages()
    for stage, names in ((encoder_g, ("encoder_g", "critic_xx")), (encoder_r, ("encoder_r", "critic_zz"))):
        assert tuple(p.name for p in stage.phases) == names
        assert [(p.optimizer.lr, p.repeats) for p in stage.phases] == [(5e-5, 1), (5e-6, 1)]


def test_denoiser_replaces_the_second_encoder() -> None:
    detector = sencebgan(third="denoiser")
    assert not hasattr(detector, "encoder_r")
    stages = detector.stages()
    assert [stage.epochs for stage in stages] == [100, 400, 400]
    assert [(p.trains, p.optimizer.lr) for p in stages[2].phases] == [(("denoiser",), 1e-4)]
    with pytest.raises(InspectGanError, match="use_dzz=false"):
        sencebgan(third="denoiser", use_dzz=True)


def test_denoiser_has_no_combination_with_the_second_encoder() -> None:
    config = make_config({"detector": {"name": "sencebgan", "third": "denoiser", "width": 4}})
    detector = config.build(1)
    assert detector.score_name("default") == "comb"
    with pytest.raises(InspectGanError, match=r"'comb_img' needs the second encoder.*score=comb"):
        detector.score_name("comb_img")


@pytest.mark.parametrize("settings", [{"use_dxx": True, "use_dzz": True}, {"third": "denoiser", "use_dxx": True}])
def test_variants_train_every_network_and_score(settings: dict[str, Any]) -> None:
    detector = sencebgan(**settings)
    networks = dict(detector.named_children())
    assert {name for stage in detector.stages() for name in stage.trains} == set(networks)
    for stage in detector.stages():
        for name, network in networks.items():
            network.train(name in stage.trains)
        batch = Batch(X)
        for step in stage.phases:
            for name, network in networks.items():
                network.requires_grad_(name in step.trains)
                network.zero_grad(set_to_none=True)
            step.loss(batch)["total"].backward()
            for name, network in networks.items():
                for key, parameter in network.named_parameters():
                    assert (parameter.grad is not None) == (name in step.trains), f"{step.name}: {name}.{key}"
    detector.eval()
    scores = detector.scores(X).patch
    assert list(scores) == list(detector.score_table())
    alone = detector.scores(X[2:3]).patch
    for name, value in scores.items():
        assert value.isfinite().all() and torch.allclose(alone[name], value[2:3], rtol=1e-4, atol=1e-7), name


# Losses.


def test_generator_is_drawn_to_the_embeddings_of_real_patches() -> None:
    detector = sencebgan(w_vis=0.7, spectral_norm=False)
    torch.manual_seed(1)
    losses = phase(detector, "generator").loss(Batch(X))
    torch.manual_seed(1)
    made = detector.generator(torch.randn(5, NZ))
    codes = detector.features(made)
    terms = {
        "adversarial": norm(detector.discriminator.reproduce(made) - made).mean(),
        "pulling_away": 0.25 * pulling_away(codes),
        "visual": 0.7 * norm(detector.features(X) - codes).mean(),
    }
    assert losses.keys() == {"total", *terms}
    for name, value in terms.items():
        assert torch.allclose(losses[name], value), name


@pytest.mark.parametrize("feat", ["decoded", "embedding"])
def test_first_encoder(feat: str) -> None:
    detector = sencebgan(feat=feat).eval()
    losses = phase(detector, "encoder_g").loss(Batch(X))
    x_rec = rec(detector)[1]
    compared = detector.features if feat == "embedding" else detector.discriminator.reproduce
    assert torch.allclose(losses["image"], norm(X - x_rec).mean())
    assert torch.allclose(losses["feature"], 0.4 * norm(compared(X) - compared(x_rec)).mean())
    assert torch.allclose(losses["total"], losses["image"] + losses["feature"])


def test_second_encoder_finds_the_codes_again() -> None:
    detector = sencebgan().eval()
    losses = phase(detector, "encoder_r").loss(Batch(X))
    z, x_rec = rec(detector)
    assert torch.allclose(losses["total"], norm(detector.encoder_r(x_rec) - z).mean())


@pytest.mark.parametrize("objective", ["nonsaturating", "lsgan"])
def test_pair_discriminators(objective: str) -> None:
    detector = sencebgan(use_dxx=True, use_dzz=True, pair_objective=objective).eval()

    def real_loss(out: Tensor) -> Tensor:
        return (softplus(-out) if objective == "nonsaturating" else 0.5 * (out - 1).square()).mean()

    def fake_loss(out: Tensor) -> Tensor:
        return (softplus(out) if objective == "nonsaturating" else 0.5 * out.square()).mean()

    z, x_rec = rec(detector)
    z_rec = detector.encoder_r(x_rec)
    for encoder, name, a, b in (("encoder_g", "critic_xx", X, x_rec), ("encoder_r", "critic_zz", z, z_rec)):
        critic, batch = getattr(detector, name), Batch(X)
        losses = phase(detector, encoder).loss(batch)
        assert torch.allclose(losses["pair"], real_loss(critic(a, b)), rtol=1e-5), name
        assert torch.allclose(losses["total"], sum(v for k, v in losses.items() if k != "total"))  # type: ignore[arg-type]
        wanted = real_loss(critic(a, a)) + fake_loss(critic(a, b))
        assert torch.allclose(phase(detector, name).loss(batch)["total"], wanted, rtol=1e-5), name


def test_pair_discriminators_are_spectrally_normalised() -> None:
    detector = sencebgan(use_dxx=True, use_dzz=True)
    for critic in (detector.critic_xx, detector.critic_zz):
        layers = [m for m in critic.body.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        assert len(layers) == 2 and all(is_parametrized(layer, "weight") for layer in layers)


def test_tricks_act_on_the_first_stage_only() -> None:
    detector = sencebgan(tricks={"input_noise": 0.5}, use_dxx=True)
    seen: dict[str, list[Tensor]] = {"discriminator": [], "critic_xx": []}
    for name, inputs in seen.items():
        body = detector.discriminator.encoder if name == "discriminator" else detector.critic_xx.body
        body.register_forward_pre_hook(lambda _, args, inputs=inputs: inputs.append(args[0]))
    phase(detector, "discriminator").loss(Batch(X))
    assert (seen["discriminator"][0] - X).std().item() == pytest.approx(0.5, rel=0.1)
    batch = Batch(X)
    for name in ("encoder_g", "critic_xx"):
        phase(detector, name).loss(batch)
    assert all(torch.equal(x, X) for x in seen["critic_xx"])


# The denoiser.


def test_denoiser_sees_noise_in_training_only() -> None:
    detector = sencebgan(third="denoiser").eval()
    seen: list[Tensor] = []
    detector.denoiser.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = X.repeat(40, 1, 1, 1)
    losses = phase(detector, "denoiser").loss(Batch(x))
    with torch.no_grad():
        x_rec = detector.reconstruct(x)
        noise = seen[0] - x_rec
        assert noise.std().item() == pytest.approx(1.0, rel=0.02) and abs(noise.mean().item()) < 0.02
        assert torch.allclose(losses["total"], norm(seen[0] + detector.denoiser(seen[0]) - x).mean())
        seen.clear()
        detector.scores(X, ["pipe_1"])
    assert torch.allclose(seen[0], rec(detector)[1], atol=1e-6)


def test_denoiser_is_twenty_layers_that_all_add_to_the_result() -> None:
    denoiser = Denoiser(channels=3, width=64)
    assert len(denoiser.layers) == 20
    by_hand = 27 * 63 + 63 + 19 * (567 * 63 + 63)  # the layers, each of 63 channels
    by_hand += 27 * 3 + 3 + 20 * (567 * 3 + 3)  # what the input and each layer add
    assert sum(parameter.numel() for parameter in denoiser.parameters()) == by_hand
    y = torch.randn(2, 3, 32, 32)
    assert denoiser(y).shape == y.shape
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.zero_()
        for k, layer in enumerate([*denoiser.layers, denoiser.last]):
            layer.bias[-3:] = 2.0**-k
    assert torch.allclose(denoiser(y), torch.full_like(y, 2 - 2.0**-20))


# Scores.


def test_scores() -> None:
    detector = sencebgan(w1=0.7, w2=0.3, use_dxx=True, use_dzz=True).eval()
    with torch.no_grad():
        scores = detector.scores(X, list(detector.own_scores())).patch
        z, x_rec = rec(detector)
        z_rec = detector.encoder_r(x_rec)
        decoded, decoded_rec = (detector.discriminator.reproduce(x) for x in (X, x_rec))
        e, e_rec = detector.features(X), detector.features(x_rec)
        f_xx, f_zz = detector.critic_xx.features, detector.critic_zz.features
        wanted = {
            "energy": norm(X - decoded),
            "img": norm(X - x_rec),
            "img_dec": norm(decoded - decoded_rec),
            "noise": norm(z - z_rec),
            "noise_disc": norm(z - e_rec),
            "emb": norm(e - e_rec),
            "dxx": norm(f_xx(X, X) - f_xx(X, x_rec), 1),
            "dzz": norm(f_zz(z, z) - f_zz(z, z_rec), 1),
        }
    wanted["comb_img"] = wanted["img"] + 0.7 * wanted["noise"]
    wanted["comb_noise"] = 0.7 * wanted["noise_disc"] + 0.3 * wanted["emb"]
    wanted["comb_img_matched"] = wanted["img"] + wanted["noise"]
    wanted["comb_noise_matched"] = wanted["noise_disc"] + wanted["emb"]
    assert scores.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.allclose(scores[name], value, rtol=1e-4), name


def test_scores_of_the_denoiser() -> None:
    detector = sencebgan(third="denoiser").eval()
    with torch.no_grad():
        scores = detector.scores(X, list(detector.own_scores())).patch
        x_rec = rec(detector)[1]
        mask = detector.denoiser(x_rec)
        e, e_rec = detector.features(X), detector.features(x_rec)
    wanted = {
        "pipe_1": norm(X - x_rec - mask, 1),
        "pipe_2": norm(X - x_rec - mask),
        "mask_1": norm(X - mask, 1),
        "mask_2": norm(X - mask),
        "im1": norm(X - x_rec, 1),
        "im2": norm(e - e_rec, 1),
    }
    wanted["comb"] = 0.75 * wanted["im1"] + 0.25 * wanted["im2"]
    assert {"noise", "comb_img", "dzz"}.isdisjoint(scores)
    for name, value in wanted.items():
        assert torch.allclose(scores[name], value, rtol=1e-4), name
