"""AnoGAN: the latent search on problems with a known answer, the scores on networks simple enough to compute."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from inspect_gan.config import make_config
from inspect_gan.detector import Batch
from inspect_gan.models import anogan as module
from inspect_gan.models.anogan import AnoGAN, Criterion, SearchPlan, fixed_starts, search

X = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
N = 1024
FEATURE_WEIGHTS = torch.tensor([1.0, 2.0, 3.0])


def anogan(objective: str | None = None, tricks: dict[str, Any] | None = None, **settings: Any) -> AnoGAN:
    torch.manual_seed(0)
    values: dict[str, Any] = {"detector": {"name": "anogan", "nz": 2, "width": 2, **settings}, "tricks": tricks or {}}
    detector = make_config(values | ({"objective": objective} if objective else {})).build(1)
    assert isinstance(detector, AnoGAN)
    return detector.eval()


# The search on a linear generator with orthonormal columns: the answer is the orthogonal projection.

BASIS = torch.linalg.qr(torch.randn(64, 8, generator=torch.Generator().manual_seed(1)))[0]


def linear(z: Tensor) -> Tensor:
    return z @ BASIS.T


def euclidean(x: Tensor) -> module.Loss:
    return lambda made: (x - made).norm(dim=1)


def squared(x: Tensor) -> module.Loss:
    return lambda made: (x - made).square().sum(1)


def residuals(plan: SearchPlan, searched: Criterion = euclidean) -> Tensor:
    """Final distances over 6 random starts × 16 patches that the generator can make."""
    random = torch.Generator().manual_seed(2)
    x = linear(torch.randn(16, 8, generator=random))
    codes = [search(linear, searched, x, start, plan)[0] for start in torch.randn(6, 1, 8, generator=random)]
    return torch.cat([euclidean(x)(linear(z)) for z in codes])


@pytest.mark.parametrize(
    ("plan", "searched", "median", "furthest"),
    [
        (SearchPlan(), euclidean, 0.0030, 0.0157),
        (SearchPlan(2000, 0.01), euclidean, 0.0015, 0.0087),
        (SearchPlan(), squared, 1e-4, 0.1845),
    ],
    ids=["default", "slower", "squared"],
)
def test_searches_whose_steps_reach_far_enough_arrive(
    plan: SearchPlan, searched: Criterion, median: float, furthest: float
) -> None:
    """Bounds: what a plain search ends with over 300 starts, where it may jitter; this one keeps the best step."""
    found = residuals(plan, searched)
    assert found.median() <= median
    assert found.max() <= furthest


@pytest.mark.parametrize(
    ("searched", "median", "furthest"),
    [(euclidean, 2.7442, 5.5461), (squared, 2.8122, 5.5919)],
    ids=["norm", "squared"],
)
def test_search_of_the_thesis_does_not_arrive(searched: Criterion, median: float, furthest: float) -> None:
    """500 steps of 0.001 reach 0.5 along each of 8 axes; two standard normal codes lie 4 apart."""
    found = residuals(SearchPlan(lr=1e-3), searched)
    assert found.min() > 0.5
    assert found.median().item() == pytest.approx(median, rel=0.1)
    assert found.max().item() == pytest.approx(furthest, rel=0.1)


def test_search_reports_the_loss_at_its_code() -> None:
    x = torch.randn(3, 64, generator=torch.Generator().manual_seed(3))
    z, value = search(linear, euclidean, x, fixed_starts(1, 8), SearchPlan(50))
    assert torch.allclose(euclidean(x)(linear(z)), value)


def test_search_finds_the_projection_of_what_it_cannot_make() -> None:
    random = torch.Generator().manual_seed(4)
    z = torch.randn(3, 8, generator=random)
    off = torch.randn(3, 64, generator=random)
    off -= linear(off @ BASIS)
    x = linear(z) + 0.7 * off / off.norm(dim=1, keepdim=True)
    found, distance = search(linear, euclidean, x, fixed_starts(1, 8), SearchPlan())
    assert torch.allclose(found, z, atol=0.01)
    assert torch.allclose(distance, torch.full((3,), 0.7), atol=1e-3)


def two_wells(x: Tensor) -> module.Loss:
    """Minima near -1 (global) and +1."""
    return lambda z: ((z.square() - 1).square() + 0.3 * z).squeeze(1)


@pytest.mark.parametrize(("starts", "end"), [([2.0], 1), ([-2.0], -1), ([2.0, -2.0], -1), ([-2.0, 2.0], -1)])
def test_best_of_all_starts_counts(starts: list[float], end: int) -> None:
    z, value = search(lambda z: z, two_wells, torch.zeros(2, 1), torch.tensor(starts)[:, None], SearchPlan(300))
    assert torch.allclose(z, torch.full((2, 1), float(end)), atol=0.1)
    assert torch.allclose(value, torch.full((2,), 0.3 * end), atol=0.03)


def test_best_code_on_the_way_counts() -> None:
    """Steps this long jump over the minimum for ever; the start was better than where they end."""
    z, value = search(lambda z: z, two_wells, torch.zeros(1, 1), torch.tensor([[-1.0]]), SearchPlan(7, lr=5.0))
    assert z.item() == -1
    assert value.item() == pytest.approx(-0.3)


# Early stop.


def passes(criterion: Criterion, x: Tensor, plan: SearchPlan) -> int:
    count = 0

    def generator(z: Tensor) -> Tensor:
        nonlocal count
        count += 1
        return z

    search(generator, criterion, x, torch.zeros(1, 1), plan)
    return count


def flat_or_far(x: Tensor) -> module.Loss:
    """Constant for x = 0; else |x - z|, which falls for as long as the search goes on."""
    return lambda z: torch.where(x == 0, 0 * z + 1, (x - z).abs()).squeeze(1)


def test_search_stops_when_no_sample_improves() -> None:
    plan = SearchPlan(500, tolerance=1e-4)
    assert passes(flat_or_far, torch.zeros(3, 1), plan) == module.PATIENCE + 1
    assert passes(flat_or_far, torch.tensor([[0.0], [1000.0]]), plan) == 501
    assert passes(flat_or_far, torch.zeros(3, 1), SearchPlan(120)) == 121


def test_early_stop_is_a_samples_own() -> None:
    def falls_again_late(x: Tensor) -> module.Loss:
        """Level until |z| = 2, which 80 steps of 0.03 reach, then steep; x tells which samples reach it."""
        return lambda z: (1 - 1e-7 * z - 10 * torch.relu(z - 2) + flat_or_far(x)(z)[:, None] * (x != 0)).squeeze(1)

    plan = SearchPlan(300, lr=0.03, tolerance=1e-4)
    starts = torch.zeros(1, 1)
    alone, _ = search(lambda z: z, falls_again_late, torch.zeros(1, 1), starts, plan)
    accompanied, _ = search(lambda z: z, falls_again_late, torch.tensor([[0.0], [1000.0]]), starts, plan)
    assert alone.item() < 2 < accompanied[1].item()
    assert accompanied[0].item() == alone.item()


# Independence of the batch.


@pytest.mark.parametrize(("batch", "sizes"), [(None, {16}), (7, {7}), (18, {18})])
def test_samples_are_searched_as_many_at_a_time_as_asked_for(batch: int | None, sizes: set[int]) -> None:
    seen = set()

    def generator(z: Tensor) -> Tensor:
        seen.add(len(z))
        return linear(z)

    x = linear(torch.randn(18, 8, generator=torch.Generator().manual_seed(6)))
    codes, values = search(generator, euclidean, x, fixed_starts(1, 8), SearchPlan(30), batch)
    assert seen == sizes
    torch.testing.assert_close(codes, search(linear, euclidean, x, fixed_starts(1, 8), SearchPlan(30))[0])
    torch.testing.assert_close(values, euclidean(x)(linear(codes)))


def test_code_of_a_patch_is_the_same_alone_and_in_any_batch() -> None:
    detector = anogan(nz=64, width=4)
    x = torch.rand(18, 1, 32, 32, generator=torch.Generator().manual_seed(5)) * 2 - 1

    def codes(x: Tensor) -> Tensor:
        return search(detector.generator, detector._criterion(1, "fm", 0.1), x, fixed_starts(1, 64), SearchPlan(15))[0]

    together, order = codes(x), torch.randperm(18)
    assert torch.equal(codes(x[order]), together[order])
    for i in (0, 17):
        assert torch.equal(codes(x[i : i + 1]), together[i : i + 1])


def test_scores_are_the_same_in_inference_mode_and_leave_no_trace() -> None:
    detector = anogan(search_steps=4, s_test_steps=4)
    plain = detector.scores(X)
    with torch.inference_mode():
        inferred = detector.scores(X.clone())
    for name, value in plain.patch.items():
        assert torch.equal(inferred.patch[name], value), name
    assert all(p.grad is None and p.requires_grad for p in detector.parameters())


def test_starts_are_standard_normal_and_fixed() -> None:
    starts = fixed_starts(40, 256)
    assert starts.mean().abs() < 0.05
    assert starts.std().item() == pytest.approx(1, abs=0.05)
    torch.manual_seed(7)
    assert torch.equal(fixed_starts(40, 256), starts)


# Scores, on a generator of patches full of the first latent value and a discriminator of three pixels.


class Full(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z[:, :1, None, None].expand(-1, 1, 32, 32)


class ThreePixels(nn.Module):
    """Features: three weighted pixels. Output: 0.3 for every patch."""

    def features(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :3] * FEATURE_WEIGHTS

    def forward(self, x: Tensor) -> Tensor:
        return torch.full((len(x),), 0.3) + 0 * x.flatten(1).sum(1)

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self(x), self.features(x)


def stub(**settings: Any) -> AnoGAN:
    detector = anogan(**settings)
    detector.generator, detector.discriminator = Full(), ThreePixels()  # type: ignore[assignment]
    return detector


def test_reconstruction_minimises_the_residual() -> None:
    # The full patch nearest in the 1-norm is the median, in the 2-norm the mean.
    median, mean = X.flatten(1).median(1).values, X.mean((1, 2, 3))
    assert torch.allclose(stub(lambda_disc=0).reconstruct(X)[:, 0, 0, 0], median, atol=0.01)
    assert torch.allclose(stub(lambda_disc=0, p=2).reconstruct(X)[:, 0, 0, 0], mean, atol=0.005)


def test_reconstruction_minimises_the_feature_distance() -> None:
    """Three pixels with weights 1, 2, 3: the weighted median of 1 and 2 against 3 is any value between."""
    x_rec = stub(lambda_disc=1).reconstruct(X)
    of_pixels = [(FEATURE_WEIGHTS * (X.flatten(1)[:, :3] - v[:, None])).abs().sum(1) for v in X.flatten(1)[:, :3].T]
    least = torch.stack(of_pixels).min(0).values
    found = (FEATURE_WEIGHTS * (X - x_rec).flatten(1)[:, :3]).abs().sum(1)
    assert torch.allclose(found, least, atol=0.05)


@pytest.mark.parametrize(("preset", "weight"), [("default", 0.1), ("thesis", 0.9)])
def test_scores_are_weighted_norms(preset: str, weight: float) -> None:
    detector = stub(preset=preset, search_steps=20)
    error = X - detector.reconstruct(X)
    l1, l2 = error.abs().sum((1, 2, 3)), error.square().sum((1, 2, 3)).sqrt()
    features = (error.flatten(1)[:, :3] * FEATURE_WEIGHTS).abs().sum(1)
    scores = detector.scores(X, ["anogan_l1", "anogan_l2", "residual", "discrimination"])
    assert torch.allclose(scores.patch["anogan_l1"], (1 - weight) * l1 + weight * features)
    assert torch.allclose(scores.patch["anogan_l2"], (1 - weight) * l2 + weight * features)
    assert torch.allclose(scores.patch["residual"], l1)
    assert torch.allclose(scores.patch["discrimination"], features)
    spread = (1 - weight) * N * error.abs() + weight * features[:, None, None, None]
    assert torch.allclose(scores.maps["anogan_l1"], spread)


def test_other_norm_and_discrimination() -> None:
    detector = stub(p=2, disc="ce", search_steps=20)
    error = X - detector.reconstruct(X)
    l2, doubt = error.square().sum((1, 2, 3)).sqrt(), softplus(torch.tensor(-0.3))
    scores = detector.scores(X, ["anogan_l2", "residual", "discrimination"])
    assert torch.allclose(scores.patch["residual"], l2)
    assert torch.allclose(scores.patch["discrimination"], doubt.expand(5))
    assert torch.allclose(scores.patch["anogan_l2"], 0.9 * l2 + 0.1 * doubt)


@pytest.mark.parametrize(
    ("settings", "hce"),
    [
        ({}, 0.554355),
        ({"hce_on": "literal"}, 0.446619),
        ({"objective": "hinge"}, -0.3),
        ({"tricks": {"flip_labels": True}}, 0.854355),
    ],
    ids=["logit", "literal", "critic", "flipped"],
)
def test_s_test(settings: dict[str, Any], hce: float) -> None:
    """D says 0.3 of every patch, so J is least where ||x - G(z)||_2 is: at the mean."""
    deviation = (N * X.var((1, 2, 3), correction=0)).sqrt()
    wanted = 0.8 * (0.9 * deviation + 0.1 * hce) + 0.2 * hce
    found = stub(eta=0.2, **settings).scores(X, ["s_test"]).patch["s_test"]
    assert torch.allclose(found, wanted, rtol=1e-4)


def test_range_of_the_cross_entropy_as_printed() -> None:
    """A sigmoid inside the cross-entropy leaves it between softplus(-1) and softplus(0)."""
    out = torch.tensor([1e4, 0.0, -1e4])
    values = [0.313262, 0.474077, 0.693147]
    assert anogan(hce_on="literal").doubt(out).tolist() == pytest.approx(values, abs=1e-6)
    flipped = anogan(hce_on="literal", tricks={"flip_labels": True})
    assert flipped.doubt(out).tolist() == pytest.approx(values[::-1], abs=1e-6)
    assert anogan().doubt(torch.tensor([-4.0, 0.0, 4.0])).tolist() == pytest.approx(
        [4.018150, 0.693147, 0.018150], abs=1e-6
    )


@pytest.mark.parametrize("hce_on", ["logit", "literal"])
def test_doubt_of_a_map_is_that_of_its_patches(hce_on: str) -> None:
    detector = anogan(hce_on=hce_on).eval()
    x = torch.rand(3, 1, 32, 32) * 2 - 1
    shared = detector.score_table()["doubt"].shared
    with torch.no_grad():
        alone = shared.reduce(detector, shared.network(detector)(x))
        assert torch.allclose(alone, detector.scores(x, ["doubt"]).patch["doubt"], atol=1e-6)


def test_cosine_search_is_blind_to_contrast() -> None:
    x = X - X.mean()
    assert torch.allclose(module._cosine(x)(3 * x), torch.zeros(5), atol=1e-6)
    assert torch.allclose(module._cosine(x)(-x), torch.full((5,), 2.0))
    bright = 0.2 + torch.rand(3, 1, 32, 32)
    x_rec = stub(z_loss="cosine").reconstruct(bright)
    # Every full bright patch is as near as any other: the search has no reason to look for the right level.
    least = module._cosine(bright)(torch.ones_like(bright))
    assert torch.allclose(module._cosine(bright)(x_rec), least, atol=1e-5)
    assert (x_rec - bright).mean().abs() > 0.05


# Networks and training.


def test_published_discriminator() -> None:
    assert sum(p.numel() for p in module.critic(1, 32, 64, "batch").parameters()) == 661_697


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "n"), [(32, 16 * 16), (64, 16 * 32), (128, 16 * 32)])
def test_discriminator_ends_at_four_pixels(size: int, n: int, channels: int) -> None:
    out, features = module.critic(channels, size, 4, "batch").outputs(torch.zeros(2, channels, size, size))
    assert out.shape == (2,)
    assert features.shape == (2, n)


@pytest.mark.parametrize(
    ("objective", "batch_norm"), [("minimax", True), ("hinge", True), ("wgan", False), ("wgan_gp", False)]
)
def test_no_batch_normalisation_where_the_objective_forbids_it(objective: str, batch_norm: bool) -> None:
    layers = anogan(objective=objective).discriminator.modules()
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in layers) == batch_norm


def test_losses_are_the_objectives() -> None:
    detector = anogan()
    discriminator, generator = detector.stages()[0].phases
    torch.manual_seed(1)
    losses = discriminator.loss(Batch(X))
    torch.manual_seed(1)
    fake = detector.generator(torch.randn(5, 2))
    real_out, fake_out = detector.discriminator(X), detector.discriminator(fake)
    assert torch.allclose(losses["total"], softplus(-real_out).mean() + softplus(fake_out).mean())
    torch.manual_seed(1)
    assert torch.allclose(generator.loss(Batch(X))["total"], softplus(-fake_out).mean())


def test_feature_matching_adds_a_norm() -> None:
    detector = anogan(w_fm=0.4)
    _, generator = detector.stages()[0].phases
    torch.manual_seed(1)
    losses = generator.loss(Batch(X))
    torch.manual_seed(1)
    out, features = detector.discriminator.outputs(detector.generator(torch.randn(5, 2)))
    matching = 0.4 * (detector.features(X) - features).norm(dim=1).mean()
    assert torch.allclose(losses["feature_matching"], matching)
    assert torch.allclose(losses["total"], softplus(-out).mean() + matching)
