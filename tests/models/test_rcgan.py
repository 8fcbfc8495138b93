"""What RCGAN changes in ALAD: no D_zz, noise rejected by D_xz, its own scores."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inspect_gan.config import make_config
from inspect_gan.detector import Batch
from inspect_gan.models.rcgan import RCGAN
from inspect_gan.objectives import objectives

X = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def rcgan(tricks: dict[str, Any] | None = None, objective: str = "nonsaturating", **settings: Any) -> RCGAN:
    torch.manual_seed(0)
    detector = {"name": "rcgan", "nz": 4, "width": 2, "dropout": 0.0, **settings}
    made = make_config({"detector": detector, "objective": objective, "tricks": tricks or {}}).build(1)
    assert isinstance(made, RCGAN)
    return made


def losses(detector: RCGAN, phase: int) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return detector.stages()[0].phases[phase].loss(Batch(X))


def test_two_discriminators() -> None:
    detector = rcgan()
    assert [phase.name for phase in detector.stages()[0].phases] == [
        "discriminator_xz",
        "discriminator_xx",
        "generator_encoder",
    ]
    assert {name for name, _ in detector.named_children()} == {
        "generator",
        "encoder",
        "discriminator_xz",
        "discriminator_xx",
    }


@pytest.mark.parametrize("objective", list(RCGAN.objectives))
def test_noise_counts_as_generated_in_every_game(objective: str) -> None:
    with_noise, without = (losses(rcgan(objective=objective, penalty=name), 0) for name in ("normal", "none"))
    assert set(with_noise) - set(without) == {"penalty", "penalty_real"}
    assert with_noise["adversarial"].item() == pytest.approx(without["adversarial"].item(), abs=1e-5)
    rest = sum(value.item() for name, value in with_noise.items() if name not in ("total", "penalty_real"))
    assert with_noise["total"].item() == pytest.approx(rest, abs=1e-5)
    # The slope of a critic's loss of these samples is 1, that of the others' depends on what D says.
    critic = objectives.get(objective).kind == "critic"
    assert with_noise["penalty_real"].item() == 1 if critic else 0 < with_noise["penalty_real"].item() < 1


def test_penalty_does_not_reach_the_generator() -> None:
    detector = rcgan()
    found = losses(detector, 2)
    generator, encoder = (list(net.parameters()) for net in (detector.generator, detector.encoder))
    to_generator = torch.autograd.grad(found["penalty"], generator, retain_graph=True, allow_unused=True)
    assert all(gradient is None for gradient in to_generator)
    to_encoder = torch.autograd.grad(found["penalty"], encoder)
    assert all(gradient.abs().sum() > 0 for gradient in to_encoder)
    assert "penalty" not in losses(rcgan(penalty_to_encoder=False), 2)


def test_noise_leaves_no_trace_in_what_scores() -> None:
    """Running statistics after a step of both are those of a step without the penalty."""

    def statistics(penalty: str) -> dict[str, Tensor]:
        detector = rcgan(penalty=penalty, minibatch_std=True, spectral_norm=False)
        for phase in (0, 2):
            losses(detector, phase)
        return {key: value for key, value in detector.named_buffers() if not key.endswith("num_batches_tracked")}

    plain, penalised = statistics("none"), statistics("normal")
    assert any(key.endswith("batch_std") for key in plain) and any(key.endswith("running_var") for key in plain)
    for key, value in plain.items():
        assert torch.allclose(penalised[key], value, atol=1e-6), key


class FirstEntries(nn.Module):
    """D_xx whose output is three times, whose features are the first two entries of the second patch."""

    def features(self, a: Tensor, b: Tensor) -> Tensor:
        return b.flatten(1)[:, :2]

    def outputs(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return 3 * b.flatten(1)[:, 0], self.features(a, b)


@pytest.mark.parametrize("flipped", [False, True])
def test_scores(flipped: bool) -> None:
    detector = rcgan({"flip_labels": flipped}).eval()
    detector.discriminator_xx = FirstEntries()  # type: ignore[assignment]
    scores = detector.scores(X).patch
    assert {"features", "dxx", "features_l1", "l1", "l2", "logits"} <= set(scores)
    assert detector.default_score["default"] == "features"
    x_rec = detector.reconstruct(X)
    difference = (X - x_rec).flatten(1)[:, :2]
    assert torch.allclose(scores["features"], difference.norm(dim=1), atol=1e-6)
    assert torch.allclose(scores["features_l1"], difference.abs().sum(1), atol=1e-6)
    real = torch.sigmoid(3 * x_rec[:, 0, 0, 0])
    assert torch.allclose(scores["dxx"], real if flipped else 1 - real, atol=1e-6)


def test_confident_normal_patches_keep_their_order() -> None:
    detector = rcgan().eval()

    class Certain(FirstEntries):
        def outputs(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
            return torch.linspace(40, 20, len(a)), self.features(a, b)

    detector.discriminator_xx = Certain()  # type: ignore[assignment]
    scores = detector.scores(X, ["dxx"]).patch["dxx"]
    assert (scores.diff() > 0).all()
