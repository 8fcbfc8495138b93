"""EncEBGAN: what it adds to EBGAN, the encoder stage and its scores."""

from typing import Any

import pytest
import torch
from torch import Tensor

from inspect_gan.config import make_config
from inspect_gan.detector import Batch
from inspect_gan.models import networks
from inspect_gan.models.encebgan import EncEBGAN

X = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def encebgan(**settings: Any) -> EncEBGAN:
    torch.manual_seed(0)
    made = make_config({"detector": {"name": "encebgan", "nz": 3, "width": 2, **settings}}).build(1)
    assert isinstance(made, EncEBGAN)
    return made


def norm(difference: Tensor) -> Tensor:
    return difference.flatten(1).square().sum(1).sqrt()


def test_published_parameter_count_of_the_encoder() -> None:
    encoder = networks.encoder_k5(1, 32, 256, 64)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 2_075_776


@pytest.mark.parametrize("feat", ["embedding", "decoded"])
def test_encoder_loss(feat: str) -> None:
    detector = encebgan(w_feat=0.7, feat=feat).eval()
    (phase,) = detector.stages()[1].phases
    losses = phase.loss(Batch(X))
    x_rec = detector.generator(detector.encoder(X))
    compared = detector.features if feat == "embedding" else detector.discriminator.reproduce
    image, feature = norm(X - x_rec).mean(), 0.7 * norm(compared(X) - compared(x_rec)).mean()
    for name, wanted in {"image": image, "feature": feature, "total": image + feature}.items():
        assert torch.allclose(losses[name], wanted), name


def test_stages() -> None:
    gan, encoder = encebgan().stages()
    assert [(phase.name, phase.repeats) for phase in gan.phases] == [("discriminator", 1), ("generator", 3)]
    assert [(phase.trains, phase.optimizer.lr) for phase in encoder.phases] == [(("encoder",), 5e-5)]
    assert (gan.epochs, encoder.epochs) == (100, 300)
    assert "encoder" not in gan.trains


def test_scores() -> None:
    detector = encebgan(w=0.3).eval()
    with torch.no_grad():
        scores = detector.scores(X, list(detector.own_scores())).patch
        z = detector.encoder(X)
        x_rec = detector.generator(z)
        decoded, decoded_rec = (detector.discriminator.reproduce(x) for x in (X, x_rec))
        e, e_rec = detector.features(X), detector.features(x_rec)
    wanted = {
        "energy": norm(X - decoded),
        "im1": norm(X - x_rec),
        "im2": norm(decoded - decoded_rec),
        "z1": norm(z - e_rec),
        "z2": norm(e - e_rec),
    }
    wanted["comb"] = 0.7 * wanted["im1"] + 0.3 * wanted["im2"]
    wanted["comb_2"] = 0.7 * wanted["z1"] + 0.3 * wanted["z2"]
    # Before they are fitted to normal patches, the matched combinations are plain sums.
    wanted["comb_matched"] = wanted["im1"] + wanted["im2"]
    wanted["comb_2_matched"] = wanted["z1"] + wanted["z2"]
    assert scores.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.allclose(scores[name], value), name


def test_matched_combinations_weigh_by_the_spread_on_normal_patches() -> None:
    detector = encebgan().eval()
    detector.fit_scores(detector.view_class(detector, X))
    scores = detector.scores(X, ["im1", "im2", "comb_matched"]).patch
    im1, im2, matched = scores.values()
    # Affine in im1 + w im2 with w = std(im1) / std(im2).
    combined = im1 + im1.std() / im2.std() * im2
    assert torch.allclose(matched * im1.std(correction=0), combined - combined.mean(), atol=1e-4)
    assert torch.allclose(detector.scores(X[2:3], ["comb_matched"]).patch["comb_matched"], matched[2:3], atol=1e-4)


def test_reconstruction_is_the_generators() -> None:
    detector = encebgan().eval()
    assert torch.equal(detector.reconstruct(X), detector.generator(detector.encoder(X)))
