"""Masks from a corrected inspection."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import write_tiff
from inspect_gan.reporting.reviewed import write_masks

ALARM = {"box": [10, 5, 20, 15], "area_px": 100, "peak_at": [12, 7], "threshold": 1}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two images of 40 x 30 px, two listed regions in the first, which are one at half the threshold, and another place
    that is above that; nothing in the second. A third one could not be read."""
    folder = tmp_path / "maps"
    (folder / "masks").mkdir(parents=True)
    map = np.zeros((30, 40), np.float32)
    map[5:25, 10:35] = 0.6
    map[0:3, 0:3] = 0.7
    map[5:15, 10:20] = 1.5
    map[20:25, 30:35] = 2
    units = json.dumps({"score": "light", "threshold": 0.3, "origin": -0.1})
    for name, values in (("a", map), ("b", 0 * map)):
        cv2.imwrite(str(folder / "masks" / f"{name}.png"), (values > 1).astype(np.uint8) * 255)
        write_tiff(folder / "maps" / f"{name}.tiff", values, units)
    images = [{"image": f"../{name}.tif", "mask": f"masks/{name}.png", "map": f"maps/{name}.tiff"} for name in "ab"]
    (folder / "results.json").write_text(json.dumps({"images": [*images, {"image": "../c.tif", "mask": None}]}))
    return folder


def corrections(folder: Path, **fields: Any) -> Path:
    image = {"image": "../a.tif", "width": 40, "height": 30, "false_alarms": [], "missed": [], **fields}
    path = folder.parent / "corrections.json"
    path.write_text(json.dumps({"format": "inspect-gan-corrections-1", "run": "a", "images": [image]}))
    return path


def test_false_alarms_go_and_missed_defects_come(results: Path, tmp_path: Path) -> None:
    made = corrections(results, false_alarms=[ALARM], missed=[{"box": [0, 28, 3, 30]}])
    assert write_masks(results, made, tmp_path / "truth") == (2, 1)
    first, second = (cv2.imread(str(tmp_path / "truth" / f"{name}.png"), 0) for name in "ab")
    expected = np.zeros((30, 40), bool)
    expected[20:25, 30:35] = expected[28:, :3] = True
    np.testing.assert_array_equal(first > 0, expected)
    assert not second.any()


def test_an_alarm_that_is_not_listed_at_the_calibrated_threshold_changes_nothing(results: Path, tmp_path: Path) -> None:
    made = corrections(results, false_alarms=[{**ALARM, "box": [0, 0, 3, 3], "peak_at": [0, 0], "threshold": 0.5}])
    write_masks(results, made, tmp_path / "truth")
    for name in "ab":
        before, after = (
            cv2.imread(str(folder / f"{name}.png"), 0) for folder in (results / "masks", tmp_path / "truth")
        )
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        # The viewer reduces large maps: it knows a box and a place that may lie beside the region.
        ({"box": [9, 4, 21, 16], "peak_at": [9, 4]}, 25),
        ({"box": [10, 5, 35, 25], "peak_at": [30, 20], "threshold": 0.5}, 0),
        ({"box": [10, 5, 35, 25], "peak_at": [30, 20], "threshold": 0.9, "raw_threshold": 0.1}, 0),
        ({"threshold": 0.5, "raw_threshold": 0.3}, 25),
    ],
)
def test_an_alarm_takes_what_its_region_covers(
    results: Path, tmp_path: Path, fields: dict[str, Any], left: int
) -> None:
    write_masks(results, corrections(results, false_alarms=[{**ALARM, **fields}]), tmp_path / "truth")
    assert (cv2.imread(str(tmp_path / "truth" / "a.png"), 0) > 0).sum() == left


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"image": "../d.tif"}, r"corrects ../d.tif, which .*maps has not inspected"),
        ({"width": 41}, r"a.png has 40 x 30 px, the corrected image 41 x 30"),
        ({"missed": [{"box": [0, 0, 41, 3]}]}, r"ends at 41, 3, beyond the image"),
        ({"missed": [{"box": [3, 3, 3, 9]}]}, r"is empty"),
        ({"false_alarms": [{**ALARM, "peak_at": [12, 30]}]}, r"peak lies at 12, 30"),
        ({"false_alarms": [{**ALARM, "threshold": 1.6}]}, r"no region at 12, 7 of ../a.tif: give the corrections"),
        ({"missed": [{"box": "everywhere"}]}, r"corrections.json holds no corrections"),
    ],
)
def test_what_does_not_fit_is_refused(results: Path, tmp_path: Path, fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InspectGanError, match=complaint):
        write_masks(results, corrections(results, **fields), tmp_path / "truth")
    assert not (tmp_path / "truth").exists()


def test_a_folder_without_results_is_refused(results: Path, tmp_path: Path) -> None:
    made = corrections(results)
    (results / "results.json").unlink()
    with pytest.raises(InspectGanError, match="holds no finished inspection"):
        write_masks(results, made, tmp_path / "truth")
    with pytest.raises(InspectGanError, match=r"nothing.json holds no corrections"):
        write_masks(results, tmp_path / "nothing.json", tmp_path / "truth")
