"""The commands as a user runs them: results, one-line errors, exit codes."""

import csv
import errno
import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from inspect_gan.config import Config, TrainingSettings
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import Image
from inspect_gan.inspector import Inspector
from inspect_gan.locks import locked
from inspect_gan.reporting.pictures import overlay
from tests.tools.conftest import TINY, run

RESULT_FILES = {
    *(".lock", "finished.jsonl", "maps", "masks", "overlays", "views"),
    *("results.csv", "regions.csv", "results.json", "report.html"),
}


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "results.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_train_leaves_a_complete_run(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert {
        "config.yaml",
        "weights.safetensors",
        "state.pt",
        "stats.jsonl",
        "calibration.json",
        "tb",
    } <= names


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        (["detector.lr_g=1e38", "training.log_every=3"], "no longer a finite number; lower the learning rates"),
        (["detector.lr_d=1e-30"], "discriminator never learned"),
        (["detector.lr_g=30"], "all reconstructions are alike"),
        (
            ["--config", "rcgan", "detector.lr_d=10", "detector.spectral_norm=false", "scoring.score=dxx"],
            "score dxx is the same for all patches",
        ),
    ],
    ids=["not finite", "frozen discriminator", "collapse", "constant score"],
)
def test_unhealthy_training_ends_with_exit_code_3_and_advice(
    settings: list[str], advice: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--data", data, "--out", tmp_path / "run", "--steps", "110", "data.holdout_fraction=0.4"]
    code, out, err = run(capsys, *arguments, "scoring.target_fpr=0.05", *TINY, *settings)
    assert code == 3
    assert err.startswith("error: ")
    assert advice in err
    assert "Traceback" not in out + err


def test_defect_map_writes_everything_at_the_images_size(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = sorted((data / "test" / "defect").glob("*.png"))
    code, out, _ = run(capsys, "defect_map", trained, data / "test" / "defect", "--out", tmp_path / "maps")
    assert code == 0
    assert "report.html" in out
    rows = list(csv.DictReader((tmp_path / "maps" / "results.csv").open(encoding="utf-8")))
    assert [Path(row["image"]).name for row in rows] == [image.name for image in images]
    document = json.loads((tmp_path / "maps" / "results.json").read_text(encoding="utf-8"))
    for row, entry, image in zip(rows, document["images"], images, strict=True):
        shape = cv2.imread(str(image), cv2.IMREAD_UNCHANGED).shape[:2]
        values = tifffile.imread(tmp_path / "maps" / row["map"])
        assert (values.shape, values.dtype) == (shape, np.float32)
        mask = cv2.imread(str(tmp_path / "maps" / row["mask"]), cv2.IMREAD_UNCHANGED)
        assert mask.shape == shape
        assert (mask > 0).sum() == int(row["defect_area_px"]) == sum(r["area_px"] for r in entry["regions"])
        assert float(row["map_max"]) == pytest.approx(values.max(), rel=1e-6)
        assert (row["verdict"] == "OK") == (not entry["regions"])
    assert "<table" in (tmp_path / "maps" / "report.html").read_text(encoding="utf-8")


def test_stricter_rate_raises_the_threshold(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    thresholds = []
    for rate in (0.2, 0.05):
        run(capsys, "defect_map", trained, data / "test", "--out", tmp_path / str(rate), "--target-fpr", rate)
        document = json.loads((tmp_path / str(rate) / "results.json").read_text(encoding="utf-8"))
        thresholds.append(document["header"]["calibration"]["threshold"])
    assert thresholds[0] < thresholds[1]


def test_bad_images_are_rows_and_the_others_go_on(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    shutil.copytree(data / "test" / "defect", images)
    (images / "0text.png").write_text("this is not a picture")
    cv2.imwrite(str(images / "tiny.png"), np.zeros((10, 10), np.uint8))
    code, out, err = run(capsys, "defect_map", trained, images, "--out", tmp_path / "maps")
    assert code == 2
    assert "Traceback" not in out + err
    rows = {Path(row["image"]).name: row for row in csv.DictReader((tmp_path / "maps" / "results.csv").open())}
    assert rows["0text.png"]["verdict"] == "ERROR"
    assert "0text.png" in rows["0text.png"]["error"]
    assert "smaller than the patch" in rows["tiny.png"]["error"]
    assert sum(row["verdict"] != "ERROR" for row in rows.values()) == 2


def test_strict_stops_at_the_first_bad_image_and_goes_on_once_it_is_mended(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    shutil.copytree(data / "test" / "defect", images)
    good = sorted(images.iterdir())
    bad = images / f"{good[0].stem}a.png"  # the second in order
    bad.write_text("this is not a picture")
    arguments = ["defect_map", trained, images, "--out", tmp_path / "maps", "--strict"]
    code, out, err = run(capsys, *arguments)
    assert (code, len(err.splitlines())) == (2, 1)
    assert bad.name in err and "--strict" in err
    assert [Path(row["image"]).name for row in rows_of(tmp_path / "maps")] == [good[0].name]
    assert (tmp_path / "maps" / "report.html").is_file()
    finished = (tmp_path / "maps" / "maps" / f"{good[0].stem}.tiff").stat()
    shutil.copy(good[1], bad)
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    assert "1 of 3 images are finished already" in out
    assert len(rows_of(tmp_path / "maps")) == 3
    assert (tmp_path / "maps" / "maps" / f"{good[0].stem}.tiff").stat().st_ino == finished.st_ino
    # A finished inspection begins anew.
    assert "finished already" not in run(capsys, *arguments)[1]
    assert {path.name for path in (tmp_path / "maps").iterdir()} == RESULT_FILES


def test_whatever_is_wrong_with_one_image_the_others_are_inspected(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sorted((data / "test" / "defect").iterdir())[0].name

    def faulty(image: Image, *rest: Any) -> np.ndarray:
        if image.path is not None and image.path.name == first:
            raise ZeroDivisionError("nobody thought of that")
        return overlay(image, *rest)

    monkeypatch.setattr("inspect_gan.inspection.overlay", faulty)
    code, out, err = run(capsys, "defect_map", trained, data / "test" / "defect", "--out", tmp_path / "maps")
    assert code == 2
    assert "Traceback" not in out + err
    errors = {Path(row["image"]).name: row["error"] for row in rows_of(tmp_path / "maps") if row["error"]}
    assert errors.keys() == {first}
    assert errors[first].endswith("ZeroDivisionError: nobody thought of that")


def test_one_process_inspects_into_a_folder(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["defect_map", trained, data / "test", "--out", tmp_path / "maps"]
    with locked(tmp_path / "maps" / ".lock"):
        code, _, err = run(capsys, *arguments)
    assert code == 2
    assert "another process inspects into" in err
    assert [path.name for path in (tmp_path / "maps").iterdir()] == [".lock"]


def test_longer_training_makes_a_new_threshold(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    settings = ["data.holdout_fraction=0.4", "scoring.target_fpr=0.05", *TINY]
    train = ["train", "--data", data, "--out", out, *settings]
    assert run(capsys, *train, "--steps", "3")[0] == 0
    first = json.loads((out / "calibration.json").read_text())["calibrations"]
    assert run(capsys, *train, "--steps", "30", "--resume")[0] == 0
    second = json.loads((out / "calibration.json").read_text())["calibrations"]
    assert len(first) == len(second) == 1
    assert first[0]["threshold"] != second[0]["threshold"]
    fresh = Inspector.load(out)
    (out / "calibration.json").unlink()
    assert fresh.calibration().threshold == Inspector.load(out).calibration().threshold == second[0]["threshold"]


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--config", "mine.yaml", "--steps", "500"], (500, None)),
        (["--config", "mine.yaml", "--minutes", "3"], (None, 3.0)),
        (["--config", "mine.yaml"], (None, 20.0)),
        (["--resume", "--steps", "500"], (500, None)),
        (["--steps", "500", "training.minutes=20"], None),
    ],
)
def test_a_budget_takes_the_place_of_the_configuration_s(
    arguments: list[str],
    left: tuple[int | None, float | None] | None,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained: list[TrainingSettings] = []

    def train(sources: object, settings: Config, *rest: object, **options: object) -> None:
        trained.append(settings.training)
        raise InspectGanError("enough seen")

    monkeypatch.setattr("inspect_gan.training.fit.fit_run", train)
    monkeypatch.chdir(tmp_path)
    for file in (tmp_path / "mine.yaml", tmp_path / "run" / "config.yaml"):
        file.parent.mkdir(exist_ok=True)
        file.write_text("detector: ganomaly\ntraining: {minutes: 20}\n")
    code, _, err = run(capsys, "train", "--data", data, "--out", "run", *arguments)
    assert code == 2
    assert [(training.steps, training.minutes) for training in trained] == ([] if left is None else [left])
    assert ("enough seen" if left else "a run has one budget, and training.steps is 500") in err


def test_nothing_to_resume(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "train", "--data", data, "--out", tmp_path / "run", "--resume")
    assert code == 2
    assert "holds no run to go on with: train without --resume" in err
    (tmp_path / "file").touch()
    code, _, err = run(capsys, "train", "--data", data, "--out", tmp_path / "file")
    assert code == 2
    assert "file is a file" in err
    assert not (tmp_path / "run").exists()


def test_errors_of_the_system_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stalled(path: Path) -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))

    monkeypatch.setattr("inspect_gan.inspection.open_inspector", stalled)
    code, out, err = run(capsys, "defect_map", tmp_path, tmp_path, "--out", tmp_path / "maps")
    assert code == 2
    assert err.startswith("error: ") and "Stale file handle" in err
    assert "Traceback" not in out + err


def test_fail_on_ng(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checks = (np.indices((160, 224)).sum(0) % 2 * 255).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "checks.png"), checks)
    arguments = [
        "defect_map",
        trained,
        tmp_path / "checks.png",
        "--score",
        "res_l1",
        "--out",
        tmp_path / "maps",
    ]
    code, _, _ = run(capsys, *arguments, "--fail-on-ng")
    verdict = next(csv.DictReader((tmp_path / "maps" / "results.csv").open()))["verdict"]
    assert (code, verdict) == (1, "NG")
    assert run(capsys, *arguments)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "nowhere", "--out", "r"], "nowhere"),
        (["train", "--data", ".", "--out", "r", "training.minuts=3"], "did you mean 'minutes'"),
        (["train", "--data", ".", "--out", "r", "--config", "ganomali"], "did you mean 'ganomaly'"),
        (["train", "--data", ".", "--out", "r", "objective=ebgan2"], "unknown objective"),
        (["train", "--data", ".", "--out", "r", "patches.size=48"], "use 32"),
        (["defect_map", "nowhere", "x.png", "--out", "m"], "not a run directory"),
        (["list", "scores", "--jsn"], "--json"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert message in err
    assert "Traceback" not in out + err


def test_empty_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    code, _, err = run(capsys, "train", "--data", tmp_path / "empty", "--out", tmp_path / "run")
    assert code == 2
    assert "no images" in err
    assert not (tmp_path / "run").exists()


def test_check_data(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "train", "--data", data, "--check-data")
    assert code == 0
    assert "mvtec" in out
    broken = tmp_path / "broken"
    shutil.copytree(data, broken)
    mask = next((broken / "ground_truth" / "defect").glob("*.png"))
    cv2.imwrite(str(mask), np.full((10, 10), 255, np.uint8))
    code, out, _ = run(capsys, "train", "--data", broken, "--check-data")
    assert code == 2
    assert mask.name in out


def test_check_data_of_one_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 96, 96), np.uint8), photometric="minisblack")
    arguments = ["train", "--data", tmp_path, "--config", "ganomaly", "--check-data"]
    code, out, _ = run(capsys, *arguments)
    assert code == 2 and "data.page=N" in out
    code, out, _ = run(capsys, *arguments, "data.page=2")
    assert code == 0 and "0 problems" in out


def test_patch_files(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, _ = run(capsys, "prepare", "patches", data / "train" / "good", "--out", tmp_path / "p", "--size", "32")
    assert code == 0
    assert len(list((tmp_path / "p").glob("*.png"))) == 3 * 5 * 7
    arguments = ["train", "--data", tmp_path / "p", "--out", tmp_path / "run", "--steps", "3"]
    assert run(capsys, *arguments, "data.holdout_fraction=0.4", "scoring.target_fpr=0.05", *TINY)[0] == 0


def test_a_data_set_of_good_images_alone(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inspect_gan.datasets.pasted.OBJECTS", 5)  # one copy of each part is quick to evaluate
    out = tmp_path / "pasted"
    code, text, _ = run(capsys, "prepare", "pasted", "--images", data, "--out", out, "--size", "32", "--seed", "5")
    assert code == 0
    assert "3 images to train on; 3 unseen parts, 3 copies of them with" in text
    arguments = ["train", "--data", out, "--config", "ganomaly", "--out", tmp_path / "run", "--steps", "3"]
    assert run(capsys, *arguments, "data.holdout_fraction=0.4", "scoring.target_fpr=0.05", *TINY)[0] == 0
    arguments = ["evaluate", tmp_path / "run", "--images", out, "--out", tmp_path / "ev", "--score", "res_l1"]
    assert run(capsys, *arguments, "--stride", "32")[0] == 0
    metrics = json.loads((tmp_path / "ev" / "metrics.json").read_text(encoding="utf-8"))
    assert 0 <= metrics["image_level"]["auroc"] <= 1
    assert 0 < metrics["results"][0]["pixel_auroc"] < 1
    code, _, err = run(capsys, "prepare", "pasted", "--images", tmp_path / "none", "--out", tmp_path / "other")
    assert (code, (tmp_path / "other").exists()) == (2, False)
    assert "no such file or folder" in err


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list", "detectors", "--json")
    assert code == 0
    assert {"ganomaly", "fanogan"} <= set(json.loads(out))
    assert "ganomaly.res_structure" in run(capsys, "list", "scores")[1]
    for kind in ("objectives", "datasets", "configs", "grids"):
        assert run(capsys, "list", kind)[1].strip()
