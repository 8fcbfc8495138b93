"""Results at another rate from their maps are those of an inspection at that rate."""

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from inspect_gan.allowance import allowing
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import write_png
from inspect_gan.inspection import inspect_images
from inspect_gan.recalibration import recalibrate
from inspect_gan.reporting.tables import Inspection
from inspect_gan.scoring.regions import find_regions
from inspect_gan.scoring.units import Units, converted, write_map
from tests.brightness import SHAPE, Brightness, surface, write

NUMBERS = {"map_max", "peak", "mean"}


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Good, spoilt, broken, the held-out material itself, and two of one stem."""
    folder = tmp_path / "images"
    paths = [write(folder / f"{i}.png", i, spot) for i, spot in enumerate((0, 3, 20, 120))]
    (folder / "broken.png").write_text("no image")
    write_png(folder / "other" / "0.png", surface(100))
    return [*paths, folder / "broken.png", folder / "other" / "0.png"]


def tables(out: Path) -> list[dict[str, Any]]:
    found = []
    for name in ("results.csv", "regions.csv"):
        with (out / name).open(encoding="utf-8", newline="") as file:
            found += list(csv.DictReader(file))
    return found


def assert_alike(out: Path, fresh: Path) -> None:
    """Everything is equal, but for roundings of values of the map."""
    assert sorted(p.relative_to(out) for p in out.rglob("*")) == sorted(p.relative_to(fresh) for p in fresh.rglob("*"))
    mine, theirs = (json.loads((each / "results.json").read_text()) for each in (out, fresh))
    assert (mine["header"], mine["counts"]) == (theirs["header"], theirs["counts"])
    for one, other in zip(tables(out), tables(fresh), strict=True):
        assert {k: v for k, v in one.items() if k not in NUMBERS} == {
            k: v for k, v in other.items() if k not in NUMBERS
        }
        for name in NUMBERS & one.keys():
            assert one[name] == other[name] == "" or float(one[name]) == pytest.approx(float(other[name]), rel=2e-6)
    for path in fresh.glob("m*/*"):
        if path.suffix == ".png":
            assert (out / path.relative_to(fresh)).read_bytes() == path.read_bytes()
        else:
            map = tifffile.imread(out / path.relative_to(fresh))
            np.testing.assert_allclose(map, tifffile.imread(path), rtol=2e-6)
    for path in fresh.glob("overlays/*"):
        pictures = [cv2.imread(str(each)).astype(int) for each in (path, out / path.relative_to(fresh))]
        assert np.abs(pictures[0] - pictures[1]).max() <= 1


@pytest.mark.parametrize("lift", [0.0, -0.5])
@pytest.mark.parametrize("rates", [(0.1, 0.02), (0.02, 0.3), (0.1, 0.02, 0.3, 0.1)])
def test_equals_a_fresh_inspection(rates: tuple[float, ...], lift: float, images: list[Path], tmp_path: Path) -> None:
    inspector = Brightness(lift=lift)
    counts = inspect_images(inspector, images, tmp_path / "fresh", target_fpr=rates[-1], min_area=3, um_per_px=0.5)
    inspect_images(inspector, images, tmp_path / "out", target_fpr=rates[0])
    for rate in rates[1:]:
        found = recalibrate(inspector, tmp_path / "out", target_fpr=rate, min_area=3, um_per_px=0.5)
    assert found == counts and counts["ERROR"] == 1 and counts["NG"] > 0
    assert_alike(tmp_path / "out", tmp_path / "fresh")


def test_what_is_not_given_stays_as_it_was(images: list[Path], tmp_path: Path) -> None:
    inspector = Brightness()
    inspect_images(inspector, images, tmp_path / "out", target_fpr=0.05, min_area=4, um_per_px=0.5)
    before = (tmp_path / "out" / "results.csv").read_bytes(), (tmp_path / "out" / "report.html").read_bytes()
    inspector.predictor.score_maps = None  # type: ignore[assignment, method-assign]
    inspector.calibration = lambda *_: Brightness().calibration(target_fpr=0.05)  # type: ignore[method-assign]
    recalibrate(inspector, tmp_path / "out")
    assert ((tmp_path / "out" / "results.csv").read_bytes(), (tmp_path / "out" / "report.html").read_bytes()) == before


class Killed(BaseException):
    pass


def test_a_killed_one_goes_on_and_converts_no_map_twice(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped between any two files that it writes, then started again, or with yet another rate and then again."""
    inspector, images = Brightness(), images[2:5]
    inspect_images(inspector, images, tmp_path / "first", target_fpr=0.1)
    inspect_images(inspector, images, tmp_path / "fresh", target_fpr=0.02)
    real, left = os.replace, [0]

    def replace(source: Path, target: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        real(source, target)

    monkeypatch.setattr("os.replace", replace)
    out, stopped = tmp_path / "out", 0
    for number in range(0, 60, 3):
        shutil.copytree(tmp_path / "first", out)
        left[0] = number
        try:
            recalibrate(inspector, out, target_fpr=0.02)
        except Killed:
            stopped += 1
        whole, left[0] = left[0] >= 0, 10**6
        if number % 2:
            recalibrate(inspector, out, target_fpr=0.3)
        recalibrate(inspector, out, target_fpr=0.02)
        assert_alike(out, tmp_path / "fresh")
        shutil.rmtree(out)
        if whole:
            break
    assert whole and stopped > 4


def test_while_it_is_under_way_no_report_tells_of_other_maps(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspector, out = Brightness(), tmp_path / "out"
    inspect_images(inspector, images, out, target_fpr=0.1)

    def look(line: str) -> None:
        assert not (out / "results.json").exists() and not (out / "report.html").exists()
        assert len((out / "results.csv").read_text().splitlines()) == 1 + int(line[1])

    recalibrate(inspector, out, target_fpr=0.02, progress=look)


def test_overlays_of_images_that_went_are_drawn_on_the_picture_of_the_viewer(
    images: list[Path], tmp_path: Path
) -> None:
    inspector, out = Brightness(), tmp_path / "out"
    inspect_images(inspector, images, out, target_fpr=0.1)
    inspect_images(inspector, images, tmp_path / "fresh", target_fpr=0.02)
    images[1].unlink()
    write(images[2], 9)  # another one by now
    images[3].unlink()
    (out / "views" / "3.jpg").unlink()
    recalibrate(inspector, out, target_fpr=0.02)
    for name in ("1.png", "2.png"):
        one, other = (cv2.imread(str(each / "overlays" / name)).astype(int) for each in (out, tmp_path / "fresh"))
        assert np.abs(one - other).mean() < 3
        mask = (out / "masks" / name).read_bytes()
        assert mask == (tmp_path / "fresh" / "masks" / name).read_bytes()
    row = tables(out)[3]
    assert (row["verdict"], row["overlay"]) == ("NG", "")
    assert not (out / "overlays" / "3.png").exists()


def test_a_folder_that_moved_is_judged_where_it_is(images: list[Path], tmp_path: Path) -> None:
    inspector = Brightness()
    inspect_images(inspector, images, tmp_path / "out", target_fpr=0.1)
    inspect_images(inspector, images, tmp_path / "fresh", target_fpr=0.02)
    (tmp_path / "out").rename(tmp_path / "moved")
    recalibrate(inspector, tmp_path / "moved", target_fpr=0.02)
    assert not (tmp_path / "out").exists()
    assert_alike(tmp_path / "moved", tmp_path / "fresh")


def test_a_map_that_is_lost_is_a_row_with_an_error(images: list[Path], tmp_path: Path) -> None:
    inspector, out = Brightness(), tmp_path / "out"
    inspect_images(inspector, images, out, target_fpr=0.1)
    (out / "maps" / "3.tiff").unlink()
    with pytest.raises(InspectGanError, match=r"3\.tiff is no readable map.*--strict"):
        recalibrate(inspector, out, target_fpr=0.02, strict=True)
    found = recalibrate(inspector, out, target_fpr=0.02)
    assert found["ERROR"] == 2
    assert "inspect the image again" in tables(out)[3]["error"]
    assert not (out / "masks" / "3.png").exists() and not (out / "overlays" / "3.png").exists()


def test_other_results_are_refused_and_stay(images: list[Path], tmp_path: Path) -> None:
    inspector, out = Brightness(), tmp_path / "out"

    def refused(message: str, inspector: Brightness = inspector, **options: Any) -> None:
        with pytest.raises(InspectGanError, match=message):
            recalibrate(inspector, out, **{"target_fpr": 0.02, **options})

    refused("holds no results")
    assert not out.exists()
    inspect_images(inspector, images, out, target_fpr=0.1)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    refused("with another run.*threshold", Brightness(held_out=7))
    refused("--score light, not dark", score="dark")
    refused("--stride 8, not 4", stride=4)
    refused("held-out normal patches", target_fpr=1e-5)
    refused("rate of 0 is not between 0 and 1", target_fpr=0.0)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    (out / "finished.jsonl").write_text("{}\n")
    refused("finished.jsonl cannot be read")
    (out / "unfinished.jsonl").touch()
    refused("has not ended")


def test_a_new_inspection_forgets_one_that_was_not_judged_to_the_end(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inspector, out = Brightness(), tmp_path / "out"
    inspect_images(inspector, images, out, target_fpr=0.1)

    def stop(line: str) -> None:
        if line.startswith("[3"):
            raise Killed

    with pytest.raises(Killed):
        recalibrate(inspector, out, target_fpr=0.02, progress=stop)
    assert (out / "recalibrating.jsonl").exists()
    inspect_images(inspector, images, out, target_fpr=0.1)
    inspect_images(inspector, images, tmp_path / "fresh", target_fpr=0.02)
    recalibrate(inspector, out, target_fpr=0.02)
    assert_alike(out, tmp_path / "fresh")


def test_the_command(
    images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.tools.conftest import run

    monkeypatch.setattr("inspect_gan.inspection.open_inspector", lambda path: Brightness())
    arguments = ["defect_map", "run", "--out", tmp_path / "out"]
    assert run(capsys, *arguments, *images[:3], "--target-fpr", "0.1")[0] == 0
    code, said, _ = run(capsys, *arguments, "--recalibrate", "--target-fpr", "0.02")
    assert code == 0 and "[3/3] 2.png" in said
    assert json.loads((tmp_path / "out" / "results.json").read_text())["header"]["calibration"]["target_fpr"] == 0.02
    code, _, err = run(capsys, *arguments, "--recalibrate", images[0])
    assert code == 2 and "--recalibrate takes no images" in err
    code, _, err = run(capsys, *arguments)
    assert code == 2 and "no images to inspect" in err


def alarm(out: Path, image: str, **fields: Any) -> dict[str, Any]:
    """The worst region of an image as its report saves it."""
    row = next(row for row in tables(out) if row["image"].endswith(image) and row.get("region") == "1")
    return {
        "box": [int(row[name]) for name in ("x0", "y0", "x1", "y1")],
        "area_px": int(row["area_px"]),
        "peak_at": [int(row["peak_x"]), int(row["peak_y"])],
        "threshold": 1.0,
        **fields,
    }


def save(out: Path, **alarms: dict[str, Any]) -> Path:
    """alarms: by the stem of the image."""
    height, width = SHAPE
    images = [
        {"image": f"../images/{stem}.png", "width": width, "height": height, "false_alarms": [one]}
        for stem, one in alarms.items()
    ]
    path = out.parent / "corrections.json"
    path.write_text(json.dumps({"format": "inspect-gan-corrections-1", "run": "lamp", "images": images}))
    return path


def verdicts(out: Path) -> dict[str, str]:
    return {row["image"][len("../images/") :]: row["verdict"] for row in tables(out) if "map_max" in row}


def test_what_is_called_a_false_alarm_is_not_listed_again_and_worse_is(images: list[Path], tmp_path: Path) -> None:
    inspector, out = Brightness(lift=-0.5), tmp_path / "out"
    inspect_images(inspector, images, out, target_fpr=0.05)
    assert [verdicts(out)[f"{i}.png"] for i in (2, 3)] == ["NG", "NG"]
    before = json.loads((out / "results.json").read_text())["header"]["calibration"]
    made = alarm(out, "/2.png")
    corrections = save(out, **{"2": made})
    recalibrate(inspector, out, corrections=corrections)
    assert verdicts(out)["2.png"] == "OK" and verdicts(out)["3.png"] in ("REVIEW", "NG")
    after = json.loads((out / "results.json").read_text())["header"]["calibration"]
    assert (after["threshold"], after["interval"]) == (before["threshold"], before["interval"])
    assert (after["false_alarms"], after["area_limit"]) == (1, made["area_px"])
    assert after["peak_limit"] == pytest.approx(float(tables(out)[2]["map_max"]), rel=1e-6)
    assert all(
        one[0] == other[0] and one[1] <= other[1] for one, other in zip(before["moved"], after["moved"], strict=True)
    )
    # Where the threshold is moved down, no more is good than what was called so.
    lowest = [area for share, area in after["moved"]][:32]
    assert max(lowest) == max(made["area_px"], *(area for _, area in before["moved"][:32]))

    recalibrate(inspector, out)  # stays as it was
    assert json.loads((out / "results.json").read_text())["header"]["calibration"] == after
    with pytest.raises(InspectGanError, match=r"allow for false alarms \(1\).*--corrections again"):
        recalibrate(inspector, out, target_fpr=0.02)
    found = inspect_images(inspector, images, tmp_path / "more", like=out)
    assert verdicts(tmp_path / "more") == verdicts(out) and found["ERROR"] == 1
    assert json.loads((tmp_path / "more" / "results.json").read_text())["header"]["calibration"] == after


@pytest.mark.parametrize("told", [True, False])
def test_corrections_hold_at_another_rate(told: bool, images: list[Path], tmp_path: Path) -> None:
    """Also twice, where they tell the raw score of their threshold."""
    inspector, out = Brightness(), tmp_path / "out"
    inspect_images(inspector, images, out, target_fpr=0.05)
    made = alarm(out, "/3.png")
    if told:
        made["raw_threshold"] = inspector.calibration(target_fpr=0.05).threshold
    corrections = save(out, **{"3": made})
    recalibrate(inspector, out, target_fpr=0.3, corrections=corrections)
    calibration = json.loads((out / "results.json").read_text())["header"]["calibration"]
    own = inspector.calibration(target_fpr=0.3)
    assert calibration["area_limit"] == max(made["area_px"], own.area_limit)  # not what it grows into
    first = verdicts(out)
    if told:
        recalibrate(inspector, out, target_fpr=0.02, corrections=corrections)
        recalibrate(inspector, out, target_fpr=0.3, corrections=corrections)
        assert verdicts(out) == first
        again = json.loads((out / "results.json").read_text())["header"]["calibration"]
        assert again["peak_limit"] == pytest.approx(calibration["peak_limit"], rel=1e-6)
        assert again["area_limit"] == calibration["area_limit"]


def test_a_peak_at_another_rate_allows_for_what_a_fresh_inspection_finds(tmp_path: Path) -> None:
    """Its map is rounded twice where the fresh one is rounded once."""
    out, (before, after) = tmp_path / "out", (Brightness().calibration(target_fpr=rate) for rate in (0.05, 0.3))
    raw = (before.threshold * np.linspace(3, 4, 1000)).astype(np.float32)
    stored, fresh = before.normalise(raw), after.normalise(raw)
    higher = fresh > converted(stored, Units(before.threshold, before.origin), after)
    assert higher.any()

    def square(values: np.ndarray) -> np.ndarray:
        map = np.zeros(SHAPE, dtype=np.float32)
        map[10:20, 30:40] = values[higher][0]
        return map

    write_map(out / "maps" / "0.tiff", square(stored), before)
    image, path, (height, width) = tmp_path / "images" / "0.png", out / "maps" / "0.tiff", SHAPE
    found = [Inspection(image=image, seconds=0.0, width=width, height=height, bit_depth=8, map_max=4.0, map=path)]
    ticked = {"box": [30, 10, 40, 20], "area_px": 100, "peak_at": [30, 10], "threshold": 1.0}
    allowed = allowing(after, before, save(out, **{"0": ticked}), out, found)
    assert find_regions(square(stored), before.limits()) and not find_regions(square(fresh), allowed.limits())


def test_corrections_of_other_results_are_refused_and_nothing_is_judged(images: list[Path], tmp_path: Path) -> None:
    inspector, out = Brightness(), tmp_path / "out"
    inspect_images(inspector, images, out, target_fpr=0.05)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def refused(message: str, corrections: Path) -> None:
        with pytest.raises(InspectGanError, match=message):
            recalibrate(inspector, out, corrections=corrections)

    made = alarm(out, "/3.png")
    refused("corrects ../images/9.png, of which", save(out, **{"9": made}))
    refused("corrects ../images/broken.png, of which", save(out, broken=made))
    refused(
        "no region at 1, 2 of ../images/3.png", save(out, **{"3": {**made, "box": [0, 0, 5, 5], "peak_at": [1, 2]}})
    )
    corrections = save(out, **{"3": made})
    corrections.write_text(corrections.read_text().replace('"height": 96', '"height": 95'))
    refused("128 x 95 px there, its map 128 x 96", corrections)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_results_of_another_run_are_nothing_to_be_like(images: list[Path], tmp_path: Path) -> None:
    inspect_images(Brightness(), images[:1], tmp_path / "out", target_fpr=0.05)
    for inspector, options, message in (
        (Brightness(held_out=7), {"like": tmp_path / "out"}, "with another run.*threshold"),
        (Brightness(), {"like": tmp_path / "out", "target_fpr": 0.1}, "leave --target-fpr out"),
        (Brightness(), {"like": tmp_path}, "holds no results"),
    ):
        with pytest.raises(InspectGanError, match=message):
            inspect_images(inspector, images[:1], tmp_path / "more", **options)  # type: ignore[arg-type]
