"""How scores of images come about; figures and files are tested with the command."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from inspect_gan.config import make_config
from inspect_gan.datasets.samples import Sample
from inspect_gan.evaluation.baselines import Baselines
from inspect_gan.evaluation.protocol import AllScores, evaluate
from inspect_gan.imaging import Image, read, write_png, write_tiff
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.patches.labels import patch_sums
from inspect_gan.scoring.calibration import calibrate, conformal_quantile
from inspect_gan.scoring.maps import MapSettings
from inspect_gan.scoring.predict import Predictor

NAMES = ["res_l1", "code"]


def make_predictor(batch_size: int = 192) -> Predictor:
    torch.manual_seed(0)
    detector = make_config({"detector": {"name": "ganomaly", "nz": 6, "width": 4}}).build(1).eval()
    return Predictor(detector, Preprocess(size=32, channels=1), device="cpu", batch_size=batch_size)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return make_predictor()


def noise(seed: int, shape: tuple[int, int] = (75, 90)) -> Image:
    return Image(np.random.default_rng(seed).random((*shape, 1), dtype=np.float32), 8)


def patch_scores(scores: AllScores, image: Image) -> dict[str, np.ndarray]:
    grid, patches = scores.of_detector(image, lambda *rows: None)
    return patches | scores.of_baselines(image, grid)


@pytest.mark.parametrize("stride", [4, 16, 24])  # half a patch is a multiple of the first two
def test_patches_lie_half_a_patch_apart_at_any_stride_of_the_map(predictor: Predictor, stride: int) -> None:
    image, settings = noise(0), MapSettings(stride)
    scores = AllScores(predictor, NAMES, settings, Baselines([noise(1)], predictor.preprocess))
    maps: dict[str, np.ndarray] = {}

    def take(name: str, rows: slice, values: np.ndarray) -> None:
        assert (rows.start, rows.stop) == (0, 75)
        maps[name] = values

    grid, patches = scores.of_detector(image, take)
    patches |= scores.of_baselines(image, grid, take)
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
        values = np.concatenate([patch_scores(scores, image)[name] for image in held_out])
        assert thresholds[name] == pytest.approx(conformal_quantile(values, 0.1, 40), rel=1e-4)
        assert 0.05 < (values > thresholds[name]).mean() < 0.1


def test_memory_does_not_grow_with_the_number_of_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # So small that even these images fill them.
    monkeypatch.setattr("inspect_gan.evaluation.tally.BINS", 256)
    monkeypatch.setattr("inspect_gan.evaluation.baselines._BATCH", 8)
    for pixels in ("evaluation.curves.BLOCK", "scoring.maps.BAND", "scoring.regions._BLOCK", "scoring.dense.BUDGET"):
        monkeypatch.setattr(f"inspect_gan.{pixels}", 4096)
    predictor = make_predictor(batch_size=8)
    names, settings, held_out = list(predictor.detector.score_table()), MapSettings(32), [noise(4, (256, 256))]
    raw = predictor.score_maps(held_out[0], ["res_l1"], settings)["res_l1"]
    calibration = calibrate([raw], "res_l1", settings, 0.05, 32)
    peaks, heights, width = [], (256, 1280), 192
    for height in heights:
        path, mask = tmp_path / f"{height}.tif", tmp_path / f"{height}-mask.png"
        write_tiff(path, noise(height, (height, width)).pixels[..., 0])
        write_png(mask, np.zeros((height, width), dtype=np.uint8))
        samples = [Sample(path, mask, None, "")]
        tracemalloc.start()
        evaluate(predictor, calibration, samples, tmp_path, names=names, held_out=held_out, trained={}, load=read)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        peaks.append(peak)
    per_pixel = (peaks[1] - peaks[0]) / (heights[1] - heights[0]) / width
    assert len(names) > 10
    assert per_pixel < 20  # one map of each score alone would take 4 bytes times their number
