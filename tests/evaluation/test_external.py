"""Maps of other tools."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from sklearn.metrics import average_precision_score, roc_auc_score

from inspect_gan.datasets import Sample
from inspect_gan.errors import InspectGanError
from inspect_gan.evaluation.external import evaluate_maps

SHAPE = (64, 96)


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Three images in two folders, two of the same name; the last one is normal and has no mask."""
    found = []
    for name, top in (("thin/0.png", 5), ("thick/0.png", 30), ("thick/1.png", None)):
        image, mask = tmp_path / "images" / name, tmp_path / "masks" / name
        for path in (image, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), np.zeros(SHAPE, np.uint8))
        if top is not None:
            pixels = np.zeros(SHAPE, np.uint8)
            pixels[top : top + 20, 10:30] = 255
            cv2.imwrite(str(mask), pixels)
        found.append(Sample(image, None if top is None else mask, top is not None, name[:5]))
    return found


def write_maps(folder: Path, samples: list[Sample], values: list[np.ndarray]) -> Path:
    for sample, map in zip(samples, values, strict=True):
        file = folder / sample.image.parent.name / f"{sample.image.stem}.tiff"
        file.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(file, map)
    return folder


def masks_of(samples: list[Sample]) -> list[np.ndarray]:
    return [np.zeros(SHAPE, bool) if one.mask is None else cv2.imread(str(one.mask), 0) > 0 for one in samples]


def test_figures_are_those_of_scikit_learn(samples: list[Sample], tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    masks = masks_of(samples)
    values = [(random.standard_normal(SHAPE) * 50 + 40 * mask).astype(np.float32) for mask in masks]
    record = evaluate_maps(write_maps(tmp_path / "maps", samples, values), samples, tmp_path / "out")
    truth, scores = np.ravel(masks), np.ravel(values)
    assert record["pixel_auroc"]["value"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-6)
    assert record["pixel_ap"]["value"] == pytest.approx(average_precision_score(truth, scores), abs=1e-6)
    # Of 3 x 5 patches each, half a patch apart, those that share more than 20 px with the square.
    assert record["patch_auroc"]["value"] > record["pixel_auroc"]["value"]
    threshold = np.quantile(scores[~truth], 0.95)
    covered = [(map[mask] > threshold).mean() for map, mask in zip(values[:2], masks[:2], strict=True)]
    assert record["coverage"]["median"] == pytest.approx(np.mean(covered), abs=0.01)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text()) == record
    assert f"| {record['pixel_auroc']['value']:.3f} [" in (tmp_path / "out" / "metrics.md").read_text()


def test_a_map_like_the_truth_is_perfect_in_any_unit(samples: list[Sample], tmp_path: Path) -> None:
    for name, scale in (("small", 1e-6), ("large", 1e6)):
        maps = write_maps(tmp_path / name, samples, [(mask * scale).astype(np.float32) for mask in masks_of(samples)])
        record = evaluate_maps(maps, samples, tmp_path / "out")
        for metric in ("pixel_auroc", "pixel_ap", "pixel_aupro", "patch_auroc"):
            assert record[metric]["value"] == pytest.approx(1)
        assert record["coverage"]["by_size"][1] == {
            "class": "200 to 799 px",
            "defects": 2,
            "median": 1.0,
            "share_above_half": 1.0,
            "missed": 0,
        }


def test_arrays_are_read_too(samples: list[Sample], tmp_path: Path) -> None:
    masks = masks_of(samples)
    write_maps(tmp_path / "tiff", samples, [mask.astype(np.float32) for mask in masks])
    for file in (tmp_path / "tiff").rglob("*.tiff"):
        array = tmp_path / "npy" / file.relative_to(tmp_path / "tiff").with_suffix(".npy")
        array.parent.mkdir(parents=True, exist_ok=True)
        np.save(array, tifffile.imread(file)[None])
    record = evaluate_maps(tmp_path / "npy", samples, tmp_path / "out")
    assert record["pixel_auroc"]["value"] == pytest.approx(1)


def test_what_is_wrong_with_a_map_is_named(samples: list[Sample], tmp_path: Path) -> None:
    maps = write_maps(tmp_path / "maps", samples, [np.zeros(SHAPE, np.float32)] * 3)
    wrong = maps / "thick" / "0.tiff"
    for value, complaint in (
        (np.zeros((64, 64), np.float32), "resize the map"),
        (np.full(SHAPE, np.nan, np.float32), "not finite"),
        (np.zeros(SHAPE, np.complex64), "as a map of floats"),
    ):
        tifffile.imwrite(wrong, value)
        with pytest.raises(InspectGanError, match=f"thick/0.tiff.*{complaint}"):
            evaluate_maps(maps, samples, tmp_path / "out")
    wrong.write_bytes(b"no map")
    with pytest.raises(InspectGanError, match=r"thick/0.tiff cannot be read"):
        evaluate_maps(maps, samples, tmp_path / "out")
    wrong.unlink()
    with pytest.raises(InspectGanError, match=r"images/thick/0.png has no map: it must be called .*thick/0.tiff"):
        evaluate_maps(maps, samples, tmp_path / "out")
    assert not (tmp_path / "out").exists()
