"""The viewer of the report, against what the product itself says of the same maps."""

import base64
import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspect_gan.imaging import Image
from inspect_gan.reporting import viewer
from inspect_gan.reporting.html import write_report
from inspect_gan.reporting.tables import Inspection
from inspect_gan.reporting.viewer import levels, settings, thumbnail_of, write_thumbnail, write_view
from inspect_gan.scoring.calibration import MOVED
from inspect_gan.scoring.regions import Limits, find_regions

PEAK = 1.37
AREAS = [200 - 3 * place for place in range(len(MOVED))]
HEADER = {
    "run": "fibres",
    "min_area": 3,
    "calibration": {
        "threshold": 5.0,
        "origin": 2.0,
        "peak_limit": PEAK,
        "area_limit": AREAS[32],
        "moved": [[0.01, area] for area in AREAS],
    },
}
OPEN = """
    const wait = async (ready) => { while (!ready()) await new Promise((done) => setTimeout(done, 20)); };
    const at = (selector) => document.querySelector(`#viewer ${selector}`);
    const open = async (row) => {
      document.querySelectorAll("#images > tbody > tr")[row].querySelector("button.open").click();
      await wait(() => at(".note").textContent === "");
    };
    const move = (place) => {
      at("input.threshold").value = place;
      at("input.threshold").dispatchEvent(new Event("input"));
    };
    const lines = (selector) => [...document.querySelectorAll(`#viewer .regions tbody tr${selector}`)];
    const table = () => lines("").map((row) => [...row.cells].map((cell) => cell.textContent));
"""


def blobs(seed: int, shape: tuple[int, int] = (60, 90)) -> np.ndarray:
    """A map with regions of many sizes and heights."""
    noise = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.5)
    return np.exp2(smooth / smooth.std() * 1.2 - 1).astype(np.float32)


def read_view(path: Path) -> dict[str, Any]:
    found = re.fullmatch(r"inspectGanMap\((.+)\);\n", path.read_text())
    assert found is not None
    entry: dict[str, Any] = json.loads(found[1])
    png = base64.b64decode(entry["levels"].partition(",")[2])
    entry["levels"] = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    return entry


def grey(shape: tuple[int, int]) -> Image:
    return Image(np.full((*shape, 1), 0.5, np.float32), 8)


@pytest.fixture
def report(tmp_path: Path) -> Callable[..., Path]:
    def write(*maps: np.ndarray) -> Path:
        inspections = []
        for number, map in enumerate(maps):
            view = tmp_path / "report" / "views" / f"{number}.js"
            write_view(view, grey(map.shape), map, PEAK)
            regions = find_regions(map, Limits(AREAS[32], PEAK, 3))
            peak = 100.0 - number  # the order of the table
            size = dict(zip(("height", "width"), map.shape, strict=True))
            inspections.append(
                Inspection(
                    image=tmp_path / f"<{number}>.png",
                    seconds=0,
                    um_per_px=0.5,
                    um_per_px_origin="given",
                    bit_depth=8,
                    map_max=peak,
                    regions=regions,
                    view=view,
                    **size,
                )
            )
        write_report(tmp_path / "report", inspections, HEADER)
        return tmp_path / "report" / "report.html"

    return write


def test_every_threshold_on_offer_is_told_exactly(tmp_path: Path) -> None:
    map = blobs(0)
    map[0, : len(MOVED)] = MOVED  # nothing lies above itself
    map[1, : len(MOVED)] = np.nextafter(MOVED, np.float32(9))
    write_view(tmp_path / "0.js", grey(map.shape), map, PEAK)
    found, known = read_view(tmp_path / "0.js"), levels(PEAK)
    assert len(known) < 256
    assert (found["width"], found["height"], found["step"]) == (90, 60, 1)
    for value in (*MOVED, np.float32(PEAK)):
        np.testing.assert_array_equal(found["levels"] > np.searchsorted(known, value), map > value)
    picture = cv2.imread(str(tmp_path / "0.jpg"), cv2.IMREAD_UNCHANGED)
    assert picture.shape == map.shape and abs(picture.astype(int) - 128).max() <= 1


def test_an_info_bar_is_shown_below_the_picture(tmp_path: Path) -> None:
    image = dataclasses.replace(grey((60, 90)), info_bar=np.zeros((10, 90, 1), np.float32))
    write_view(tmp_path / "0.js", image, np.zeros((70, 90), np.float32), PEAK)
    found, picture = read_view(tmp_path / "0.js"), cv2.imread(str(tmp_path / "0.jpg"), cv2.IMREAD_UNCHANGED)
    assert (found["width"], found["height"]) == (90, 70)
    assert picture.shape == (70, 90) and picture[:56].min() > 100 and picture[66:].max() < 30


@pytest.mark.parametrize(("shape", "expected"), [((700, 1024), (219, 320)), ((40, 50), (40, 50)), ((2, 900), (2, 320))])
def test_thumbnails_are_small(tmp_path: Path, shape: tuple[int, int], expected: tuple[int, int]) -> None:
    overlay = np.full((*shape, 3), (255, 32, 32), np.uint8)
    write_thumbnail(tmp_path / "a.b.js", overlay)
    assert thumbnail_of(tmp_path / "a.b.js") == tmp_path / "a.b.webp"
    small = cv2.imread(str(tmp_path / "a.b.webp"))
    assert abs(np.subtract(small.shape[:2], expected)).max() <= 1
    assert small[0, 0, 2] > 200 > small[0, 0, 0]  # red


def test_large_maps_are_reduced_to_maxima(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "PIXELS", 1000)
    map = np.zeros((61, 90), np.float32)
    map[60, 89] = 2
    write_view(tmp_path / "0.js", grey(map.shape), map, PEAK)
    found = read_view(tmp_path / "0.js")
    assert found["step"] == 3 and found["levels"].shape == (21, 30)
    assert np.argwhere(found["levels"]).tolist() == [[20, 29]]


def test_settings_of_calibrations_of_earlier_versions() -> None:
    found = settings({"calibration": {"threshold": 5.0, "origin": 2.0, "peak_limit": 1.0, "area_limit": 7}})
    assert found is not None
    assert found["levels"][found["thresholds"][found["calibrated"]]] == 1.0
    assert set(found["false_alarms"]) == {None} and set(found["area_limits"]) == {7}
    assert settings({}) is None


def test_regions_at_any_threshold_are_those_of_the_product(
    look: Callable[..., Any], report: Callable[..., Path]
) -> None:
    places = [0, 16, 24, 32, 48, 64]
    map = blobs(1)
    seen = look(
        report(map, blobs(2)),
        f"""
        {OPEN}
        await open(0);
        const seen = {{title: at(".title").textContent, places: {{}}}};
        for (const place of {places}) {{
          move(place);
          seen.places[place] = [at(".badge").textContent, table(), at("output.threshold").textContent];
        }}
        at("[data-do=calibrated]").click();
        seen.calibrated = table();
        at("[data-do=next]").click();
        await wait(() => at(".title").textContent.includes("1") && at(".note").textContent === "");
        seen.next = table().length;
        return seen;
        """,
    )
    assert seen["title"] == "../<0>.png"
    for place in places:
        threshold = MOVED[place]
        # Where the threshold is a power of two, units are exact; elsewhere the margins of this map are wide enough.
        scaled = map / threshold
        assert ((scaled > 1) == (map > threshold)).all()
        regions = find_regions(scaled, Limits(AREAS[place], max(PEAK / float(threshold), 1), 3))
        verdict, table, shown = seen["places"][str(place)]
        assert float(shown) == pytest.approx(threshold, rel=0.005)
        assert verdict == (regions[0].verdict.value if regions else "OK")
        listed = sorted((row[1], float(row[2])) for row in table)
        expected = sorted((region.verdict.value, region.area * 0.5**2) for region in regions)
        assert [name for name, _ in listed] == [name for name, _ in expected]
        assert [area for _, area in listed] == pytest.approx([area for _, area in expected], rel=0.005)
    assert len({len(table) for _, table, _ in seen["places"].values()}) > 3
    assert seen["calibrated"] == seen["places"]["32"][1]
    assert seen["next"] == len(find_regions(blobs(2), Limits(AREAS[32], PEAK, 3)))


def test_corrections_are_kept_and_saved(look: Callable[..., Any], report: Callable[..., Path]) -> None:
    map = np.zeros((60, 90), np.float32)
    map[10:30, 20:40] = 3
    map[15, 25] = 4
    page = report(map)
    seen = look(
        page,
        f"""
        {OPEN}
        let saved = null;
        window.URL.createObjectURL = (blob) => {{ saved = blob; return "#"; }};
        await open(0);
        at(".regions input").click();
        at("input.marking").click();
        const stage = at(".stage"), box = stage.getBoundingClientRect();
        const scale = Math.min(box.width / 90, box.height / 60);
        const drag = (type, x, y) => stage.dispatchEvent(new PointerEvent(type, {{
          pointerId: 1,
          clientX: box.left + box.width / 2 + (x - 45) * scale,
          clientY: box.top + box.height / 2 + (y - 30) * scale,
        }}));
        stage.setPointerCapture = () => {{}};
        drag("pointerdown", 70, 50);
        drag("pointermove", 60, 45);
        drag("pointerup", 50, 40);
        const seen = {{crossed: lines(".wrong").length, missed: at(".missed").textContent}};
        move(30);
        seen.stays = lines(".wrong").length;
        at("[data-do=save]").click();
        seen.saved = JSON.parse(await saved.text());
        return seen;
        """,
    )
    assert (seen["crossed"], seen["stays"]) == (1, 1)
    assert "x 50–70, y 40–50" in seen["missed"]
    mark = {"box": [20, 10, 40, 30], "area_px": 400, "peak_at": [25, 15], "threshold": 1, "raw_threshold": 5}
    assert seen["saved"] == {
        "format": "inspect-gan-corrections-1",
        "run": "fibres",
        "images": [
            {
                "image": "../<0>.png",
                "width": 90,
                "height": 60,
                "false_alarms": [mark],
                "missed": [{"box": [50, 40, 70, 50]}],
            }
        ],
    }


def test_a_click_on_a_region_chooses_it_and_keys_move(look: Callable[..., Any], report: Callable[..., Path]) -> None:
    map = np.zeros((60, 90), np.float32)
    map[10:30, 20:40] = 3
    seen = look(
        report(map),
        f"""
        {OPEN}
        await open(0);
        const press = (key) => {{
          at(".stage").dispatchEvent(new KeyboardEvent("keydown", {{ key, bubbles: true, cancelable: true }}));
        }};
        const moved = () => at(".layers").style.transform;
        const seen = {{fitted: moved()}};
        press("+");
        seen.closer = moved();
        press("0");
        seen.again = moved();
        press("ArrowLeft");
        seen.panned = moved();
        at(".regions tbody tr").click();
        seen.chosen = lines(".chosen").length;
        const layer = at(".outline"), pixel = layer.getContext("2d").getImageData(20, 10, 1, 1).data;
        seen.outline = [...pixel];
        press("]");
        seen.threshold = at("output.threshold").textContent;
        press("c");
        seen.calibrated = at("output.threshold").textContent;
        const heat = at(".heat").getContext("2d").getImageData(0, 20, 90, 1).data;
        seen.heat = [heat[4 * 30 + 3], heat[4 * 80 + 3]];
        return seen;
        """,
    )
    assert seen["fitted"] == seen["again"] != seen["closer"]
    assert seen["panned"] != seen["again"]
    assert seen["chosen"] == 1
    assert seen["outline"] == [0, 200, 255, 255]
    assert (seen["threshold"], seen["calibrated"]) == ("1.04", "1")
    assert seen["heat"] == [255, 0]


@pytest.mark.parametrize("dark", [False, True])
def test_what_a_person_sees(shoot: Callable[..., np.ndarray], report: Callable[..., Path], dark: bool) -> None:
    """A screenshot: the region in the colour of its map and outlined, all else grey, on a page as light as asked."""
    map = np.zeros((60, 90), np.float32)
    map[10:30, 20:40] = 3
    seen = shoot(
        report(map),
        f"""
        {OPEN}
        await open(0);
        at("input.opacity").value = 100;
        at("input.opacity").dispatchEvent(new Event("input"));
        """,
        f"blink-settings=preferredColorScheme={0 if dark else 1}",
    ).astype(int)
    assert (seen[2, -200:].mean() < 60) == dark
    left = seen[100:850, :800]
    yellow = (left[..., 0] > 200) & (left[..., 1] > 180) & (left[..., 2] < 100)  # the last colour of viridis
    red = (left[..., 0] > 200) & (left[..., 1] < 120) & (left[..., 2] < 120)
    grey = np.ptp(left, axis=2) < 12
    rows, cols = np.nonzero(yellow)
    assert 0.8 < np.ptp(rows) / np.ptp(cols) < 1.25 and yellow.sum() > 0.8 * np.ptp(rows) * np.ptp(cols)
    assert red.sum() > 50 and abs(np.nonzero(red)[0].mean() - rows.mean()) < 20
    assert (yellow | red | grey).mean() > 0.95
