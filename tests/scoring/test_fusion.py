"""Combining scores of different scale."""

import math

import numpy as np
import pytest

from inspect_gan.errors import InspectGanError
from inspect_gan.patches.grid import Grid
from inspect_gan.patches.stitch import Stitcher
from inspect_gan.scoring.fusion import Spread, dire, discrimination, scale_matched_weight, zscore

RNG = np.random.default_rng(0)


def test_zscore_of_the_fitted_values_has_mean_0_and_deviation_1() -> None:
    values = RNG.gamma(2.0, 30.0, (40, 5)).astype(np.float32)
    z = zscore(values, Spread.of(values))
    assert z.shape == values.shape
    assert z.dtype == np.float32
    assert z.mean() == pytest.approx(0.0, abs=1e-6)
    assert z.std() == pytest.approx(1.0, abs=1e-6)


def test_zscore_does_not_depend_on_what_else_is_scored() -> None:
    spread = Spread.of(np.array([1.0, 3.0]))
    np.testing.assert_array_equal(zscore(np.array([2.0, 5.0, 1e6]), spread)[:2], zscore(np.array([2.0, 5.0]), spread))
    np.testing.assert_array_equal(zscore(np.array([2.0, 5.0]), spread), [0.0, 3.0])


@pytest.mark.parametrize("values", [[2.0, 2.0, 2.0], [0.0, 0.0], [1e6, 1e6 + 1e-6], [5.0], []])
def test_a_score_without_spread_is_refused(values: list[float]) -> None:
    with pytest.raises(InspectGanError, match="constant on held-out"):
        Spread.of(np.array(values))


def test_scale_matched_weight_gives_both_terms_the_same_spread() -> None:
    img, noise = RNG.normal(20.0, 3.0, 500), RNG.normal(2.0, 0.25, 500)
    weight = scale_matched_weight(img, noise)
    assert (weight * noise).std() == pytest.approx(img.std())
    assert scale_matched_weight(5 * img + 7, noise) == pytest.approx(5 * weight)
    assert scale_matched_weight(np.array([0.0, 6.0]), np.array([1.0, 5.0])) == pytest.approx(1.5)
    with pytest.raises(InspectGanError, match="constant"):
        scale_matched_weight(img, np.ones(500))


def test_discrimination_is_minus_log_probability_and_does_not_overflow() -> None:
    logit = np.array([0.0, 2.0, -2.0, 1000.0, -1000.0], dtype=np.float32)
    wanted = [math.log(2), -math.log(1 / (1 + math.exp(-2))), -math.log(1 / (1 + math.exp(2))), 0.0, 1000.0]
    np.testing.assert_allclose(discrimination(logit), wanted, rtol=1e-6)


def test_dire_by_hand() -> None:
    rec_map = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    stats = (Spread(mean=1.0, deviation=2.0), Spread(mean=math.log(2), deviation=0.5))
    score = dire(rec_map, np.array([0.0, -1000.0]), stats)
    assert score.shape == rec_map.shape
    np.testing.assert_allclose(score[0], 0.25 * (rec_map[0] - 1.0))  # a discriminator at its mean adds nothing
    np.testing.assert_allclose(score[1], 0.25 * (rec_map[1] - 1.0) + (1000 - math.log(2)), rtol=1e-6)
    np.testing.assert_allclose(dire(rec_map, np.zeros(2), stats, alpha=1.0), (rec_map - 1) / 2, atol=1e-6)
    only = dire(rec_map, np.array([0.0, -1.0]), stats, alpha=0.0)
    assert np.ptp(only[0]) == 0 and only[1, 0, 0] > only[0, 0, 0]


def test_dire_is_averaged_over_overlaps() -> None:
    grid = Grid(3, 3, 2, 1)
    maps, logits = RNG.random((len(grid), 2, 2), dtype=np.float32), RNG.normal(size=len(grid))
    stats = (Spread.of(maps), Spread.of(discrimination(logits)))
    stitcher = Stitcher(grid, "uniform")
    stitcher.add(0, dire(maps, logits, stats))
    stitched = stitcher.finalize()
    centre = [dire(maps, logits, stats)[k, 1 - i, 1 - j] for k, (i, j) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1)))]
    assert stitched[1, 1] == pytest.approx(np.mean(centre), rel=1e-5)


@pytest.mark.parametrize(
    ("maps", "logits"), [((3, 2, 2), (2,)), ((3, 2, 2), (3, 1)), ((3, 1, 2, 2), (3,)), ((3,), (3,))]
)
def test_dire_of_unequal_batches_is_refused(maps: tuple[int, ...], logits: tuple[int, ...]) -> None:
    spread = Spread(0.0, 1.0)
    with pytest.raises(ValueError, match=r"\(N, S, S\)"):
        dire(np.ones(maps), np.ones(logits), (spread, spread))
