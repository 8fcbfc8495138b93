from pathlib import Path

import cv2
import numpy as np

from inspect_gan.datasets.samples import Sample
from inspect_gan.evaluation.coverage import defect_coverage
from inspect_gan.evaluation.curves import ScoreCurve
from inspect_gan.evaluation.gallery import ROWS, WIDTH, gallery
from inspect_gan.evaluation.protocol import Evaluation, ImageOutcome, map_file
from inspect_gan.evaluation.sheets import PER_IMAGE, TILE, false_alarms, misses, sheet
from inspect_gan.imaging import read, write_tiff
from inspect_gan.reporting.pictures import heatmap
from inspect_gan.scoring.verdict import Verdict

SHAPE = (240, 300)


def evaluation_of(pairs: list[tuple[np.ndarray, np.ndarray]], folder: Path) -> Evaluation:
    """Of maps in threshold units and masks; the images are grey."""
    outcomes = []
    for number, (units, mask) in enumerate(pairs):
        image, truth = folder / f"{number}.png", folder / f"{number}_mask.png"
        cv2.imwrite(str(image), np.full(SHAPE, 128, np.uint8))
        cv2.imwrite(str(truth), mask.astype(np.uint8) * 255)
        write_tiff(map_file(folder, number), units)
        sample = Sample(image, truth, bool(mask.any()), "")
        outcomes.append(ImageOutcome(sample, int(mask.sum()), 0.5, 0.5, 1.0, units.size, 0, 0, 0, Verdict.OK))
    coverage = defect_coverage(pairs, [1.0])[0]
    return Evaluation("res_l1", tuple(outcomes), (), coverage, coverage, ScoreCurve(), ScoreCurve(), {})


def empty() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(SHAPE, dtype=np.float32), np.zeros(SHAPE, dtype=bool)


def test_false_alarms_are_the_strongest_regions_off_all_defects(tmp_path: Path) -> None:
    units, mask = empty()
    mask[10:30, 10:30] = True
    units[25:40, 25:40] = 9  # touches the defect: no false alarm
    for i, peak in enumerate((2, 5, 3, 4)):
        units[100:104, 20 * i : 20 * i + 6] = peak
    other, nothing = empty()
    other[50, 60] = 4.5
    found = false_alarms(evaluation_of([(units, mask), (other, nothing)], tmp_path), tmp_path)
    assert [(place.image, place.rank) for place in found] == [(0, 5), (1, 4.5), (0, 4), (0, 3)]
    assert sum(place.image == 0 for place in found) == PER_IMAGE
    assert found[1].box == (60, 50, 61, 51)


def test_a_false_alarm_around_a_defect_that_was_found_is_one(tmp_path: Path) -> None:
    units, mask = empty()
    units[50:90, 50:55] = units[85:90, 50:90] = 3  # an L
    mask[55:65, 70:80] = True
    units[55:65, 70:80] = 5
    found = false_alarms(evaluation_of([(units, mask)], tmp_path), tmp_path)
    assert [(place.rank, place.box) for place in found] == [(3, (50, 50, 90, 90))]


def test_misses_are_the_least_covered_defects_large_ones_first(tmp_path: Path) -> None:
    units, mask = empty()
    mask[10:20, 10:20] = mask[50:60, 50:80] = mask[100:140, 100:140] = True
    units[100:140, 100:120] = 2
    found = misses(evaluation_of([(units, mask)], tmp_path))
    assert [place.caption for place in found] == ["300 px, 0% found", "100 px, 0% found", "1600 px, 50% found"]


def test_a_tile_shows_the_place_at_its_own_resolution_with_outlines(tmp_path: Path) -> None:
    units, mask = empty()
    mask[120:130, 150:160] = True
    units[100:105, 150:155] = 2
    evaluation = evaluation_of([(units, mask)], tmp_path)
    page = sheet(misses(evaluation), evaluation, tmp_path, read)
    assert page.shape[2] == 3
    tile = page[:TILE, :TILE]
    red, green = tile[..., 0].astype(int), tile[..., 1].astype(int)
    rows, cols = np.nonzero(green > red + 50)  # the outline lies one pixel around the defect
    assert (np.ptp(rows), np.ptp(cols)) == (11, 11)
    assert abs(rows.mean() - TILE / 2) < 1.5
    rows, cols = np.nonzero(red > green + 50)
    assert (np.ptp(rows), np.ptp(cols)) == (6, 6)
    assert (tile[0, 0] == 128).all()


def test_a_defect_larger_than_a_tile_is_shown_whole_and_no_defect_is_said(tmp_path: Path) -> None:
    units, mask = empty()
    mask[5:235, 5:295] = True
    evaluation = evaluation_of([(units, mask)], tmp_path)
    page = sheet(misses(evaluation), evaluation, tmp_path, read)
    green = page[:TILE, :TILE, 1].astype(int) - page[:TILE, :TILE, 0]
    assert np.ptp(np.nonzero(green > 20)[1]) > 0.9 * TILE
    without = evaluation_of([empty()], tmp_path)
    assert np.ptp(sheet(misses(without), without, tmp_path, read)) > 150  # a word, not a blank page


def test_the_gallery_shows_image_map_and_truth_of_images_with_defects(tmp_path: Path) -> None:
    units, mask = empty()
    mask[40:80, 40:80] = True
    units[100:140, 200:240] = 2
    evaluation = evaluation_of([empty(), *[(units, mask)] * 8], tmp_path)
    page = gallery(evaluation, tmp_path, read)
    height = len(page) // ROWS
    assert len(page) == ROWS * height
    left, right = WIDTH + 6, 2 * (WIDTH + 6)
    scale = WIDTH / SHAPE[1]
    for row in (page[:height], page[-height:]):
        assert (row[: round(SHAPE[0] * scale), :WIDTH] == 128).all()
        dark, bright = row[round(10 * scale), left + 10], row[round(120 * scale), left + round(220 * scale)]
        assert (tuple(dark), tuple(bright)) == (
            tuple(heatmap(np.zeros((1, 1)))[0, 0]),
            tuple(heatmap(units[120:121, 220:221])[0, 0]),
        )
        red, green = (row[: round(SHAPE[0] * scale), right:, i].astype(int) for i in (0, 1))
        for shown, middle in ((green - red > 50, 60), (red - green > 50, 220)):
            columns = np.nonzero(shown[:, :WIDTH])[1]
            assert abs(columns.mean() - middle * scale) < 3
    alone = evaluation_of([empty()], tmp_path)
    assert len(gallery(alone, tmp_path, read)) == height
