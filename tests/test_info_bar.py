"""A run with data.info_bar knows nothing of the bars: it trains, inspects and measures as if they were not there."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile

from inspect_gan.base_inspector import size_of
from inspect_gan.config import load_config
from inspect_gan.datasets.samples import Sample
from inspect_gan.export.scorer import describe
from inspect_gan.imaging import write_png
from inspect_gan.inspection import inspect_images
from inspect_gan.inspector import Inspector

TINY = ("detector.width=4", "detector.nz=8", "training.batch_size=8", "training.precision=32-true")
ROWS = 36
Bars = tuple[Path, Inspector, Inspector]


def texture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((120, 320))
    waves = 0.5 + 0.3 * np.sin(rows / 2 + rng.uniform(0, 6)) * np.cos(columns / 3 + rng.uniform(0, 6))
    return (np.clip(waves + rng.normal(0, 0.03, waves.shape), 0, 1) * 255).astype(np.uint8)


def with_bar(picture: np.ndarray) -> np.ndarray:
    bar = np.zeros((ROWS, picture.shape[1]), np.uint8)
    cv2.putText(bar, "HV 5.00 kV  WD 4.6 mm", (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
    return np.vstack([picture, bar])


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Bars:
    """A folder with an image and its mask, in barred/ with and in bare/ without bars; a run trained on each kind."""
    folder = tmp_path_factory.mktemp("bars")
    spoilt = texture(9)
    spoilt[40:70, 100:130] = 250
    mask = np.zeros_like(spoilt)
    mask[40:70, 100:130] = 255
    runs = []
    for kind, draw in (("barred", with_bar), ("bare", lambda picture: picture)):
        write_png(folder / kind / "image.png", draw(spoilt))
        truth = np.full_like(draw(mask), 255)  # what is marked in a bar counts for nothing
        truth[:120] = mask
        write_png(folder / kind / "mask.png", truth)
        write_png(folder / kind / "good.png", draw(texture(3)))
        config = load_config(
            "ganomaly", [*TINY, "data.holdout_fraction=0.4", "scoring.target_fpr=0.05", "scoring.score=res_l1"]
        )
        auto = config.data.model_copy(update={"info_bar": "auto" if kind == "barred" else "none"})
        images = [folder / kind / "good.png", *(draw(texture(seed)) for seed in range(3))]
        runs.append(
            Inspector.fit(images, config.model_copy(update={"data": auto}), steps=30, out=folder / kind / "run")
        )
    return folder, runs[0], runs[1]


def test_the_map_is_that_of_the_picture_and_zero_below(bars: Bars) -> None:
    folder, barred, bare = bars
    ours, wanted = barred.inspect(folder / "barred" / "image.png"), bare.inspect(folder / "bare" / "image.png")
    assert ours.map.shape == ours.mask.shape == (120 + ROWS, 320)
    np.testing.assert_array_equal(ours.map[:120], wanted.map)
    np.testing.assert_array_equal(ours.mask[:120], wanted.mask)
    assert not ours.map[120:].any()
    assert not ours.mask[120:].any()
    assert ours.regions == wanted.regions != ()
    assert (ours.score, ours.verdict) == (wanted.score, wanted.verdict)


def test_arrays_are_cut_like_files(bars: Bars) -> None:
    folder, barred, _ = bars
    array = cv2.imread(str(folder / "barred" / "image.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(barred.inspect(array).map, barred.inspect(folder / "barred" / "image.png").map)
    np.testing.assert_array_equal(barred.inspect(barred.read(array)).map, barred.inspect(array).map)


def test_the_tables_count_what_was_inspected(bars: Bars, tmp_path: Path) -> None:
    folder, barred, bare = bars
    rows, lines = {}, []
    for kind, inspector in (("barred", barred), ("bare", bare)):
        image = folder / kind / "image.png"
        inspect_images(inspector, [image], tmp_path / kind, um_per_px=0.5, progress=lines.append)
        (rows[kind],) = csv.DictReader((tmp_path / kind / "results.csv").open(encoding="utf-8"))
    for name in ("map_max", "regions", "defect_area_px", "defect_area_percent", "defect_area_um2", "defects_per_mm2"):
        assert rows["barred"][name] == rows["bare"][name]
    density = int(rows["bare"]["regions"]) / (120 * 320 * 0.25e-6)
    assert float(rows["barred"]["defects_per_mm2"]) == pytest.approx(density, rel=1e-5)
    assert [(row["height"], row["info_bar_px"]) for row in rows.values()] == [
        (str(120 + ROWS), str(ROWS)),
        ("120", "0"),
    ]
    drawn = cv2.imread(str(tmp_path / "barred" / "overlays" / "image.png"), cv2.IMREAD_GRAYSCALE)
    np.testing.assert_array_equal(drawn[120:], with_bar(texture(0))[120:])
    assert tifffile.imread(tmp_path / "barred" / "maps" / "image.tiff").shape == drawn.shape
    (picture,) = (tmp_path / "barred").rglob("*.jpg")
    assert cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE).shape == drawn.shape
    (view,) = picture.parent.glob(f"{picture.stem}*.js")
    assert f'"height": {120 + ROWS},' in view.read_text(encoding="utf-8")
    assert f"info bar: {ROWS} px not inspected" in lines[0]
    assert f"info bar: {ROWS} px not inspected" in (tmp_path / "barred" / "report.html").read_text(encoding="utf-8")
    assert "info bar" not in lines[1]


def test_an_evaluation_leaves_the_bar_out(bars: Bars, tmp_path: Path) -> None:
    folder, barred, bare = bars
    metrics = {}
    for kind, inspector in (("barred", barred), ("bare", bare)):
        sample = Sample(folder / kind / "image.png", folder / kind / "mask.png", True, None)
        inspector.evaluate([sample], tmp_path / kind, stride=16, scores=["res_l1"], baselines=False)
        metrics[kind] = json.loads((tmp_path / kind / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["barred"]["results"] == metrics["bare"]["results"]
    assert metrics["barred"]["coverage"] == metrics["bare"]["coverage"]


def test_an_export_carries_the_setting(bars: Bars) -> None:
    for inspector, setting in zip(bars[1:], ("auto", "none"), strict=True):
        assert json.loads(describe(inspector, inspector.calibration()))["info_bar"] == setting


def test_size_is_that_of_what_is_read(bars: Bars) -> None:
    path = bars[0] / "barred" / "image.png"
    assert size_of(path) == (120 + ROWS, 320)
    assert size_of(path, info_bar="auto") == (120, 320)
    assert size_of(path, info_bar=50) == size_of(with_bar(texture(0)), info_bar=50) == (70 + ROWS, 320)


def test_the_run_keeps_the_setting(bars: Bars) -> None:
    _, barred, bare = bars
    again = Inspector.load(barred.folder)
    assert (again.info_bar, bare.info_bar) == ("auto", "none")
    assert [entry["height"] for entry in again.record["data"]] == [120] * 4
    assert [entry["digest"] for entry in again.record["data"]] == [entry["digest"] for entry in bare.record["data"]]
