"""Measuring runs and maps, as a user does it."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from inspect_gan.datasets import open_dataset
from inspect_gan.evaluation.figures import FIGURES
from inspect_gan.imaging import write_png
from inspect_gan.tools.cli import main
from tests.tools.conftest import run


@pytest.fixture(scope="module")
def evaluated(trained: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation") / "ev"
    with pytest.raises(SystemExit) as stop:
        main(["evaluate", str(trained), "--images", str(data), "--out", str(out), "--stride", "16", "--raw"])
    assert stop.value.code in (0, None)
    return out


def test_evaluate_reports_every_score_beside_the_baselines(evaluated: Path) -> None:
    metrics = json.loads((evaluated / "metrics.json").read_text(encoding="utf-8"))
    rows = {row["score"]: row for row in metrics["results"]}
    assert {"res_structure", "res_l1", "enc_mse", "grey", "deviation", "pca_residual"} <= set(rows)
    assert {name for name, row in rows.items() if row["baseline"]} == {
        "grey",
        "deviation",
        "smooth",
        "bright_smooth",
        "pca_residual",
    }
    for row in rows.values():
        for metric in ("pixel_auroc", "pixel_ap", "pixel_aupro", "patch_auroc", "patch_ap"):
            assert 0 <= row[f"{metric}_low"] <= row[f"{metric}_high"] <= 1
            assert 0 <= row[metric] <= 1
        assert 0 <= row["image_auroc"] <= 1
    assert metrics["coverage"]["pixel_false_alarm_rate"] <= 0.05
    table = (evaluated / "metrics.md").read_text(encoding="utf-8")
    assert table.count("(no learning)") == 10
    assert "**res_ssim** (the run's)" in table
    pictures = {path.name for path in (evaluated / "figures").iterdir()}
    assert pictures == {f"{name}.png" for name in (*FIGURES, "false_alarms", "misses", "gallery")}
    assert all(cv2.imread(str(evaluated / "figures" / name)).std() > 0 for name in pictures)


def test_raw_scores_give_the_tables_with_scikit_learn(evaluated: Path) -> None:
    metrics = json.loads((evaluated / "metrics.json").read_text(encoding="utf-8"))
    parts = [np.load(path) for path in sorted((evaluated / "raw").glob("*.npz"))]
    pixels = np.concatenate([part["mask"].ravel() for part in parts])
    patches = np.concatenate([part["patch_labels"] for part in parts])
    for row in metrics["results"]:
        values = np.concatenate([part[f"map/{row['score']}"].ravel() for part in parts])
        assert row["pixel_auroc"] == pytest.approx(roc_auc_score(pixels, values), abs=1e-9)
        assert row["pixel_ap"] == pytest.approx(average_precision_score(pixels, values), abs=1e-9)
        values = np.concatenate([part[f"patch/{row['score']}"] for part in parts])
        assert row["patch_auroc"] == pytest.approx(roc_auc_score(patches, values), abs=1e-9)
        assert row["patch_ap"] == pytest.approx(average_precision_score(patches, values), abs=1e-9)
        flagged = values > row["patch_threshold"]
        assert row["patch_recall"] == pytest.approx(recall_score(patches, flagged))
        assert row["patch_f1"] == pytest.approx(f1_score(patches, flagged))


def test_evaluate_at_the_calibrated_threshold(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = tmp_path / "images", tmp_path / "masks"
    shutil.copytree(data / "test" / "defect", images)
    shutil.copytree(data / "ground_truth" / "defect", masks)
    checks = (np.indices((160, 224)).sum(0) % 2 * 255).astype(np.uint8)
    half = np.zeros_like(checks)
    half[:, :112] = 255
    for name, picture, mask in (("half", checks, half), ("normal", checks, half * 0)):
        cv2.imwrite(str(images / f"{name}.png"), picture)
        cv2.imwrite(str(masks / f"{name}.png"), mask)
    arguments = ["--images", images, "--masks", masks, "--out", tmp_path / "ev"]
    code, _, _ = run(capsys, "evaluate", trained, *arguments, "--score", "res_l1", "--score", "enc_mse", "--exact")
    assert code == 0
    metrics = json.loads((tmp_path / "ev" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["score"] == "res_l1"
    assert [row["score"] for row in metrics["results"] if not row["baseline"]] == ["res_l1", "enc_mse"]
    assert all(row["pixel_auroc_error"] == 0 for row in metrics["results"])
    # From the maps that every evaluation keeps, in threshold units.
    entries = metrics["per_image"]
    maps = {entry["image"]: tifffile.imread(tmp_path / "ev" / entry["map"]) for entry in entries}
    truth = {path.name.replace("_mask", ""): cv2.imread(str(path), 0) > 127 for path in masks.iterdir()}
    flagged = np.concatenate([maps[name].ravel() > 1 for name in sorted(maps)])
    pixels = np.concatenate([truth[name].ravel() for name in sorted(maps)])
    point = metrics["operating_point"]
    assert 0.1 < point["recall"] == pytest.approx(recall_score(pixels, flagged))
    assert point["precision"] == pytest.approx(precision_score(pixels, flagged))
    assert point["f1"] == pytest.approx(f1_score(pixels, flagged))
    assert point["fpr"] == pytest.approx(flagged[~pixels].mean())
    assert point["fpr_of_good_images"] == pytest.approx((maps["normal.png"] > 1).mean()) != point["fpr"]
    others = [maps[name].max() for name in maps if name != "normal.png"]
    assert metrics["image_level"]["auroc"] == pytest.approx(
        np.mean([(peak > maps["normal.png"].max()) + (peak == maps["normal.png"].max()) / 2 for peak in others])
    )
    above = (maps["normal.png"] > 1).astype(np.uint8)
    assert 0 < metrics["false_alarm_regions_per_normal_image"] == cv2.connectedComponents(above, connectivity=8)[0] - 1
    # Without any defect most figures are undefined, and nothing fails.
    for path in [*images.iterdir(), *masks.iterdir()]:
        if path.name != "normal.png":
            path.unlink()
    assert run(capsys, "evaluate", trained, *arguments, "--score", "res_l1")[0] == 0
    metrics = json.loads((tmp_path / "ev" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["results"][0]["pixel_auroc"] is metrics["coverage"]["median"] is None
    assert metrics["operating_point"]["fpr"] == pytest.approx((maps["normal.png"] > 1).mean())
    code, _, err = run(capsys, "evaluate", trained, *arguments, "--score", "res_11")
    assert code == 2
    assert "did you mean 'res_l1'" in err


def test_evaluate_with_separate_masks_and_its_refusals(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, masks = data / "test" / "defect", data / "ground_truth" / "defect"
    out = ["--out", tmp_path / "ev"]
    arguments = ["--images", images, "--masks", masks, "--score", "res_l1", "--stride", "32"]
    assert run(capsys, "evaluate", trained, *arguments, *out)[0] == 0
    code, _, err = run(capsys, "evaluate", trained, "--images", data / "train" / "good", "--masks", masks, *out)
    assert code == 2
    assert "mask" in err
    code, _, err = run(capsys, "evaluate", trained, "--images", images, *out)
    assert code == 2
    assert err.startswith("error: ")


def test_evaluating_on_training_images_is_refused(
    trained: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next((data / "train" / "good").glob("*.png"))
    shutil.copyfile(image, tmp_path / "renamed.png")
    (tmp_path / "masks").mkdir()
    shape = cv2.imread(str(image), 0).shape
    cv2.imwrite(str(tmp_path / "masks" / "renamed.png"), np.zeros(shape, np.uint8))
    (tmp_path / "images").mkdir()
    shutil.move(tmp_path / "renamed.png", tmp_path / "images")
    arguments = ["--images", tmp_path / "images", "--masks", tmp_path / "masks", "--out", tmp_path / "ev"]
    code, _, err = run(capsys, "evaluate", trained, *arguments)
    assert code == 2
    assert "renamed.png is the training image" in err


def test_maps_of_a_run_measured_as_those_of_another_tool(
    evaluated: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = json.loads((evaluated / "metrics.json").read_text(encoding="utf-8"))
    samples = open_dataset(data).test
    for sample, image in zip(samples, metrics["per_image"], strict=True):
        target = tmp_path / "maps" / sample.image.parent.name / f"{sample.image.stem}.tiff"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(evaluated / image["map"], target)
    arguments = ["--maps", tmp_path / "maps", "--images", data, "--out", tmp_path / "ev"]
    code, out, _ = run(capsys, "evaluate", *arguments)
    assert code == 0
    record = json.loads((tmp_path / "ev" / "metrics.json").read_text(encoding="utf-8"))
    own = next(row for row in metrics["results"] if row["score"] == metrics["score"])
    for metric in ("pixel_auroc", "pixel_ap", "pixel_aupro"):
        assert record[metric]["value"] == pytest.approx(own[metric], abs=1e-9)
        assert f"{own[metric]:.3f} [" in out
    assert record["coverage"]["by_size"] == metrics["coverage"]["by_size"]

    code, _, err = run(capsys, "evaluate", "somewhere", *arguments, "--stride", "4")
    assert code == 2
    assert "does not go with a run, --stride" in err
    code, _, err = run(capsys, "evaluate", *arguments[2:])
    assert code == 2
    assert "--maps" in err


def test_a_layout_is_chosen_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("train/good/0", "test/bent/0", "ground_truth/bent/0_mask", "normal/0"):
        write_png(tmp_path / "set" / f"{name}.png", np.full((6, 8), 255, np.uint8))
    arguments = ["evaluate", "--images", tmp_path / "set", "--out", tmp_path / "ev", "--maps", tmp_path / "none"]
    code, _, err = run(capsys, *arguments)
    assert code == 2 and "--layout mvtec or --layout labelled" in err
    code, _, err = run(capsys, *arguments, "--layout", "mvtec")
    assert code == 2 and "test/bent/0.png has no map" in err
    code, _, err = run(capsys, *arguments, "--layout", "mvtec", "--masks", tmp_path / "set")
    assert code == 2 and "does not go with --layout" in err
