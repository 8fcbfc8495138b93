"""Runs and exported files that earlier versions wrote are read and give the maps they gave then."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from inspect_gan.base_inspector import BaseInspector
from inspect_gan.detector import detectors
from inspect_gan.export.scorer import ExportedInspector
from inspect_gan.inspector import Inspector
from inspect_gan.run import CALIBRATION

HERE = Path(__file__).parent
RUNS = sorted(path.parent for path in HERE.glob("*/*/weights.safetensors"))
TOLERANCE = 1e-4  # of a threshold: arithmetic differs a little between processors and versions of torch


def expected(run: Path) -> dict[str, np.ndarray]:
    with np.load(run / "expected.npz") as archive:
        return dict(archive)


def check(inspector: BaseInspector, image: np.ndarray, maps: dict[str, np.ndarray]) -> None:
    for score, map in maps.items():
        np.testing.assert_allclose(inspector.inspect(image, score=score).map, map, rtol=0, atol=TOLERANCE)


def test_there_is_a_run_of_every_detector() -> None:
    assert {run.name for run in RUNS} == set(detectors.names())


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.parent.name}-{run.name}")
def test_runs(run: Path) -> None:
    maps = expected(run)
    check(Inspector.load(run), maps.pop("image"), maps)


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run.parent.name}-{run.name}")
def test_calibration_is_the_same_when_made_again(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / CALIBRATION).unlink()
    maps = expected(run)
    check(Inspector.load(copy), maps.pop("image"), maps)


@pytest.mark.parametrize("file", sorted(HERE.glob("*/*.onnx")), ids=lambda file: file.parent.name)
def test_exported_file(file: Path) -> None:
    maps = expected(file.parent / "ganomaly")
    check(ExportedInspector(file), maps["image"], {"res_ssim": maps["res_ssim"]})
