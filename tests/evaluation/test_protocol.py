"""How scores of images come about; figures and files are tested with the command."""

import numpy as np
import pytest
import torch

from inspect_gan.config import make_config
from inspect_gan.evaluation.baselines import Baselines
from inspect_gan.evaluation.protocol import AllScores
from inspect_gan.imaging import Image
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.patches.labels import patch_sums
from inspect_gan.scoring.calibration import conformal_quantile
from inspect_gan.scoring.maps import MapSettings
from inspect_gan.scoring.predict import Predictor

NAMES = ["res_l1", "code"]


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    detector = make_config({"detector": {"name": "ganomaly", "nz": 6, "width": 4}}).build(1).eval()
    return Predictor(detector, Preprocess(size=32, channels=1), device="cpu")


def noise(seed: int, shape: tuple[int, int] = (75, 90)) -> Image:
    return Image(np.random.default_rng(seed).random((*shape, 1), dtype=np.float32), 8)


@pytest.mark.parametrize("stride", [4, 16, 24])  # half a patch is a multiple of the first two
def test_patches_lie_half_a_patch_apart_at_any_stride_of_the_map(predictor: Predictor, stride: int) -> None:
    image, settings = noise(0), MapSettings(stride)
    scores = AllScores(predictor, NAMES, settings, Baselines([noise(1)], predictor.preprocess))
    maps, grid, patches = scores.maps_and_patches(image)
    assert set(maps) == set(patches) == set(scores.names)
    wanted_grid, wanted = predictor.patch_scores(image, NAMES, MapSettings(16))
    assert grid == wanted_grid
    for name in NAMES:
        np.testing.assert_allclose(patches[name], wanted[name], rtol=1e-4)
        np.testing.assert_array_equal(maps[name], predictor.score_maps(image, [name], settings)[name])
    np.testing.assert_allclose(patches["grey"], patch_sums(maps["grey"], grid) / 32**2, rtol=1e-6)


def test_patch_thresholds_come_from_held_out_patches_alone(predictor: Predictor) -> None:
    held_out = [noise(2), noise(3)]
    scores = AllScores(predictor, NAMES, MapSettings(8), Baselines(held_out, predictor.preprocess))
    thresholds = scores.patch_thresholds(held_out, samples=40, target_fpr=0.1)
    assert set(thresholds) == set(scores.names)
    for name in ("res_l1", "pca_residual"):
        values = np.concatenate([scores.maps_and_patches(image)[2][name] for image in held_out])
        assert thresholds[name] == pytest.approx(conformal_quantile(values, 0.1, 40), rel=1e-4)
        assert 0.05 < (values > thresholds[name]).mean() < 0.1
