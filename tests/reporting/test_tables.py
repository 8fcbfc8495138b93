import csv
import dataclasses
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest

from inspect_gan.reporting.tables import IMAGE_COLUMNS, REGION_COLUMNS, Inspection, relative_path, write_results
from inspect_gan.scoring.regions import Limits, find_regions
from inspect_gan.scoring.verdict import Verdict

FORMATS = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
HEADER = {"run": "fibres", "score": "residual", "threshold": 0.125, "calibration": {"samples": 400}}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def strict_json(path: Path) -> dict:
    def refuse(token: str) -> None:
        raise AssertionError(f"{token} is not JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.mark.parametrize(
    ("table", "columns"), [("results.csv", IMAGE_COLUMNS), ("regions.csv", ("image", *REGION_COLUMNS))]
)
def test_every_column_is_documented(table, columns):
    (text,) = re.findall(rf"^Columns of `{table}`: (.*?)\n\n", FORMATS.read_text(encoding="utf-8"), re.M | re.S)
    assert tuple(re.findall("`(.*?)`", text)) == columns


def test_tables_in_full(tmp_path, inspection):
    out = tmp_path / "report"
    write_results(out, [inspection(), inspection("good.png", regions=(), map_max=0.75)], HEADER)
    part, good = rows(out / "results.csv")
    assert part == {
        "image": "../images/part.png",
        "verdict": "NG",
        "map_max": "2.1",
        "regions": "2",
        "defect_area_px": "22",
        "defect_area_percent": "11.0",
        "defect_area_um2": "5.5",
        "defects_per_mm2": "40000.0",  # 2 on 20 x 10 px of 0.25 µm²
        "um_per_px": "0.5",
        "um_per_px_origin": "FEI metadata",
        "width": "20",
        "height": "10",
        "info_bar_px": "0",
        "bit_depth": "16",
        "map": "maps/part.png.tiff",
        "overlay": "overlays/part.png",
        "mask": "masks/part.png",
        "error": "",
    }
    assert (good["verdict"], good["regions"], good["defect_area_px"], good["map_max"]) == (
        "OK",
        "0",
        "0",
        "0.75",
    )
    first, second = rows(out / "regions.csv")
    assert first == {
        "image": "../images/part.png",
        "region": "1",
        "verdict": "NG",
        **{"x0": "2", "y0": "1", "x1": "6", "y1": "4"},
        **{"centroid_x": "3.5", "centroid_y": "2.0"},
        "area_px": "12",
        "area_um2": "3.0",
        "diameter_px": "3.90882",  # the root of 48 / pi
        "diameter_um": "1.95441",
        "peak": "2.1",
        **{"peak_x": "3", "peak_y": "2"},
        "mean": "1.73333",
    }
    assert (second["region"], second["verdict"], second["area_px"]) == ("2", "REVIEW", "10")


def test_shares_are_of_what_was_inspected(tmp_path, inspection):
    write_results(tmp_path, [inspection(height=15, info_bar_px=5)], HEADER)
    (row,) = rows(tmp_path / "results.csv")
    assert (row["height"], row["info_bar_px"], row["defect_area_percent"]) == ("15", "5", "11.0")
    assert row["defects_per_mm2"] == "40000.0"


def test_images_have_their_own_scales(tmp_path, inspection):
    bare = tuple(dataclasses.replace(region, area_um2=None) for region in inspection().regions)
    both = [inspection(), inspection(um_per_px=5.0), inspection(regions=bare, um_per_px=None, um_per_px_origin=None)]
    write_results(tmp_path, both, HEADER)
    images, regions = rows(tmp_path / "results.csv"), rows(tmp_path / "regions.csv")
    assert [row["defects_per_mm2"] for row in images] == ["40000.0", "400.0", ""]
    assert [row["defect_area_um2"] for row in images] == ["5.5", "550.0", ""]
    assert [row["um_per_px_origin"] for row in images] == ["FEI metadata", "FEI metadata", ""]
    assert {row["diameter_px"] for row in regions if row["region"] == "1"} == {"3.90882"}
    assert [row["diameter_um"] for row in regions if row["region"] == "1"] == ["1.95441", "1.95441", ""]


def test_json_says_what_the_tables_say_and_how_it_was_made(tmp_path, inspection):
    write_results(tmp_path, [inspection(), inspection("good.png", regions=())], HEADER)
    document = strict_json(tmp_path / "results.json")
    assert document["header"] == HEADER
    assert document["counts"] == {"OK": 1, "REVIEW": 0, "NG": 1, "ERROR": 0}
    for image, row in zip(document["images"], rows(tmp_path / "results.csv"), strict=True):
        assert {
            name: "" if image[name] is None else str(image[name]) for name in IMAGE_COLUMNS if name != "regions"
        } == {name: value for name, value in row.items() if name != "regions"}
        assert image["seconds"] == 0.25
    listed = [{"image": image["image"], **region} for image in document["images"] for region in image["regions"]]
    assert [{name: str(value) for name, value in one.items()} for one in listed] == rows(tmp_path / "regions.csv")


def test_failed_image_is_a_row_of_its_own_that_claims_nothing(tmp_path, inspection):
    failed = Inspection(image=tmp_path / "torn.tif", seconds=0.0, error="torn.tif: ends early,\nsend it again")
    assert failed.verdict is Verdict.ERROR
    write_results(tmp_path, [failed, inspection()], {})
    row = rows(tmp_path / "results.csv")[0]
    assert row["error"] == "torn.tif: ends early,\nsend it again"
    assert {name for name, value in row.items() if value} == {"image", "verdict", "error"}
    image = strict_json(tmp_path / "results.json")["images"][0]
    assert (image["verdict"], image["regions"], image["defect_area_percent"]) == ("ERROR", [], None)


def test_a_record_without_result_or_error_cannot_pass_for_good(tmp_path):
    with pytest.raises(ValueError, match="map_max"):
        Inspection(image=tmp_path / "a.png", seconds=0.0, width=3, height=3, bit_depth=8)


def test_nothing_inspected(tmp_path):
    write_results(tmp_path, [], {})
    assert rows(tmp_path / "results.csv") == rows(tmp_path / "regions.csv") == []
    assert (tmp_path / "results.csv").read_text().startswith("image,verdict,")
    assert (tmp_path / "regions.csv").read_text().startswith("image,region,verdict,")
    assert strict_json(tmp_path / "results.json") == {
        "header": {},
        "counts": {"OK": 0, "REVIEW": 0, "NG": 0, "ERROR": 0},
        "images": [],
    }


def test_same_results_same_bytes_whatever_the_time_spent(tmp_path, inspection):
    for name, seconds in (("a", 0.1), ("b", 0.1), ("c", 7.5)):
        write_results(tmp_path / "x" / name, [inspection(seconds=seconds, map=None, overlay=None, mask=None)], HEADER)
    files = {
        (folder, file): (tmp_path / "x" / folder / file).read_bytes()
        for folder in "abc"
        for file in ("results.csv", "regions.csv", "results.json")
    }
    for file in ("results.csv", "regions.csv"):
        assert files["a", file] == files["b", file] == files["c", file]
    assert files["a", "results.json"] == files["b", "results.json"] != files["c", "results.json"]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_file_names_cannot_become_formulas(tmp_path, inspection, start):
    name = f'{start}HYPERLINK("x";"y").png'
    write_results(tmp_path, [inspection(image=tmp_path / name, error=f"{start}1+1")], {})
    (row,) = rows(tmp_path / "results.csv")
    assert row["image"] == "'" + name
    assert row["error"] == f"'{start}1+1"
    assert all(one["image"] == "'" + name for one in rows(tmp_path / "regions.csv"))
    assert strict_json(tmp_path / "results.json")["images"][0]["image"] == name


@pytest.mark.parametrize("separator", [";", "\t", "\n"])
def test_nor_behind_what_another_spreadsheet_takes_for_a_separator(tmp_path, inspection, separator):
    write_results(tmp_path, [inspection(image=tmp_path / f"a{separator}=1+1.png")], {})
    assert rows(tmp_path / "results.csv")[0]["image"] == f"a{separator}'=1+1.png"


def test_negative_numbers_stay_numbers(tmp_path, inspection):
    write_results(tmp_path, [inspection(map_max=-0.25, regions=())], {})
    assert rows(tmp_path / "results.csv")[0]["map_max"] == "-0.25"


def test_unusual_names_survive(tmp_path, inspection):
    names = ["Faser ü,1.png", 'quo"te;.png', "two\nlines.png", "日本.png"]
    write_results(tmp_path, [inspection(image=tmp_path / name) for name in names], {})
    assert [row["image"] for row in rows(tmp_path / "results.csv")] == names
    assert [image["image"] for image in strict_json(tmp_path / "results.json")["images"]] == names


def test_names_that_are_not_utf8_do_not_stop_the_report(tmp_path, inspection):
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    write_results(tmp_path, [inspection(image=tmp_path / name, error=f"{name}: unreadable")], {"data": Path(name)})
    assert rows(tmp_path / "results.csv")[0]["image"] == "caf?.png"
    assert strict_json(tmp_path / "results.json")["header"] == {"data": "caf?.png"}


def test_json_is_strict_whatever_the_header_holds(tmp_path):
    header = {
        "limit": float("inf"),
        "nan": np.float32("nan"),
        "numpy": [np.float64(0.5), np.int64(3), np.bool_(True)],
        "interval": (0.1, float("-inf")),
        "path": Path("runs/a"),
        "verdict": Verdict.NG,
        7: None,
    }
    write_results(tmp_path, [], header)
    assert strict_json(tmp_path / "results.json")["header"] == {
        "limit": None,
        "nan": None,
        "numpy": [0.5, 3, True],
        "interval": [0.1, None],
        "path": "runs/a",
        "verdict": "NG",
        "7": None,
    }


def test_rounding_does_not_move_a_value_across_the_threshold(tmp_path, inspection):
    scores = np.zeros((10, 20), dtype=np.float32)
    scores[5, 5] = np.nextafter(np.float32(1), np.float32(2))
    regions = find_regions(scores, Limits(area=0, peak=1))
    write_results(tmp_path, [inspection(regions=regions, map_max=float(scores.max()))], {})
    for table, column in (("results.csv", "map_max"), ("regions.csv", "peak")):
        written = float(rows(tmp_path / table)[0][column])
        assert written > 1
        assert np.float32(written) == scores.max()


def test_verdict_and_areas_come_from_the_regions(inspection):
    both = inspection()
    assert [region.verdict for region in both.regions] == [Verdict.NG, Verdict.REVIEW]
    review = dataclasses.replace(both, regions=both.regions[1:])
    assert (both.verdict, review.verdict) == (Verdict.NG, Verdict.REVIEW)
    assert (both.defect_area_percent, review.defect_area_percent) == (11, 5)


def test_paths_without_a_relative_form_are_absolute(monkeypatch, tmp_path):
    def other_drive(path, start):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", other_drive)
    assert relative_path(tmp_path / "a.png", tmp_path / "out") == (tmp_path / "a.png").as_posix()
