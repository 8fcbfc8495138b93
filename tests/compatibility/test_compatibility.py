"""Runs and exported files that earlier versions wrote are read and give the maps they gave then."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspect_gan.base_inspector import BaseInspector
from inspect_gan.detector import detectors
from inspect_gan.export.scorer import ExportedInspector
from inspect_gan.inspector import Inspector
from inspect_gan.run import CALIBRATION, CONFIG, WEIGHTS, load_record, load_weights, save_config, save_weights

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


def test_minutes_beside_steps_are_read_as_they_counted(tmp_path: Path) -> None:
    weights, record = load_weights(RUNS[0] / WEIGHTS), load_record(RUNS[0] / CONFIG)[1]
    training = weights.config.training.model_copy(update={"steps": 500, "minutes": 2.0})
    config = weights.config.model_copy(update={"training": training})
    save_weights(tmp_path / WEIGHTS, replace(weights, config=config))
    save_config(tmp_path / CONFIG, config, record["data"], 0.1)
    for read in (load_weights(tmp_path / WEIGHTS).config, load_record(tmp_path / CONFIG)[0]):
        assert (read.training.steps, read.training.minutes) == (None, 2.0)


@pytest.mark.parametrize("file", sorted(HERE.glob("*/*.onnx")), ids=lambda file: file.parent.name)
def test_exported_file(file: Path) -> None:
    maps = expected(file.parent / "ganomaly")
    check(ExportedInspector(file), maps["image"], {"res_ssim": maps["res_ssim"]})
