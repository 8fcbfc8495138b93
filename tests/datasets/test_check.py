"""Checking: a clean data set has no findings, and each planted fault is found and named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from inspect_gan.datasets import DataSet, Sample, check_dataset
from inspect_gan.imaging import write_png

RNG = np.random.default_rng(3)


def noise(path: Path, height: int = 6, width: int = 8, dtype: type = np.uint8) -> Path:
    write_png(path, RNG.integers(0, np.iinfo(dtype).max + 1, (height, width)).astype(dtype))
    return path


def mask_of(path: Path, values: list[int], height: int = 6, width: int = 8) -> Path:
    array = np.zeros((height, width), np.uint8)
    array.flat[: len(values)] = values
    write_png(path, array)
    return path


@pytest.fixture
def clean(tmp_path: Path) -> DataSet:
    """Two normal images to learn from; a good one and two defective ones with masks to judge."""
    train = tuple(Sample(noise(tmp_path / f"n{i}.png"), None, False, "good") for i in range(2))
    judged = tuple(
        Sample(noise(tmp_path / f"d{i}.png"), mask_of(tmp_path / f"d{i}_gt.png", [255]), True, "bent") for i in range(2)
    )
    good = Sample(noise(tmp_path / "g.png"), None, False, "good")
    return DataSet("folder", tmp_path, train, (*judged, good), (tmp_path / "notes.txt",))


def with_image(data: DataSet, path: Path) -> DataSet:
    return replace(data, test=(replace(data.test[0], image=path), *data.test[1:]))


def with_mask(data: DataSet, path: Path) -> DataSet:
    return replace(data, test=(replace(data.test[0], mask=path), *data.test[1:]))


def test_a_clean_data_set(clean: DataSet) -> None:
    report = check_dataset(clean)
    assert (report.train, report.test, report.masks) == (2, 3, 2)
    assert report.kinds == {"bent": 2, "good": 1}
    assert report.sizes == {(6, 8): 5}
    assert report.bit_depths == {8: 5}
    assert report.channels == {1: 5}
    assert report.problems == []
    assert report.warnings == []
    assert report.text().splitlines() == [
        f"data set:  {clean.root} (layout folder)",
        "training:  2 images",
        "test:      3 images, 2 masks: bent (2), good (1)",
        "sizes:     8 x 6 (5)",
        "bit depth: 8 (5)",
        "channels:  grey (5)",
        "ignored:   1 files (notes.txt)",
        "0 problems, 0 warnings",
    ]


def test_a_mask_of_another_size(clean: DataSet, tmp_path: Path) -> None:
    (problem,) = check_dataset(with_mask(clean, mask_of(tmp_path / "m.png", [255], 8, 6))).problems
    assert "m.png" in problem
    assert "6 x 8" in problem


def test_masks_that_contradict_the_label(clean: DataSet, tmp_path: Path) -> None:
    (problem,) = check_dataset(with_mask(clean, mask_of(tmp_path / "m.png", []))).problems
    assert "m.png: the mask is empty although d0.png" in problem
    marked = replace(clean.test[2], mask=mask_of(tmp_path / "m.png", [255]))
    (problem,) = check_dataset(replace(clean, test=(marked,))).problems
    assert "m.png: the mask marks a defect although g.png" in problem


@pytest.mark.parametrize("values", [[], [255]])
def test_an_unknown_label_fits_any_mask(clean: DataSet, tmp_path: Path, values: list[int]) -> None:
    sample = replace(clean.test[0], mask=mask_of(tmp_path / "m.png", values), defective=None)
    assert check_dataset(replace(clean, test=(sample,))).problems == []


def test_masks_of_many_values_or_inverted(clean: DataSet, tmp_path: Path) -> None:
    report = check_dataset(with_mask(clean, mask_of(tmp_path / "m.png", [255, 3, 200])))
    assert report.problems == []
    assert [w for w in report.warnings if "m.png" in w and "4 different values" in w] == report.warnings != []
    report = check_dataset(with_mask(clean, mask_of(tmp_path / "m.png", [255] * 47)))
    assert [w for w in report.warnings if "98%" in w and "inverted" in w] == report.warnings != []


def test_files_that_cannot_be_read(clean: DataSet, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("no image")
    for data in (
        with_image(clean, tmp_path / "bad.png"),
        with_mask(clean, tmp_path / "bad.png"),
        replace(clean, train=(*clean.train, Sample(tmp_path / "bad.png", None, False, "good"))),
    ):
        report = check_dataset(data)
        assert len(report.problems) == 1
        assert "bad.png" in report.problems[0]
        assert report.problems[0] in report.text()
        assert report.text().endswith("1 problems, 0 warnings")


def test_a_training_image_in_the_test_set_is_found_in_any_format(clean: DataSet, tmp_path: Path) -> None:
    pixels = RNG.integers(0, 256, (6, 8), dtype=np.uint8)
    write_png(tmp_path / "seen.png", pixels)
    tifffile.imwrite(tmp_path / "copy.tif", pixels)
    data = replace(clean, train=(*clean.train, Sample(tmp_path / "seen.png", None, False, "good")))
    (problem,) = check_dataset(with_image(data, tmp_path / "copy.tif")).problems
    assert "copy.tif" in problem
    assert "seen.png" in problem
    pixels[0, 0] ^= 1
    tifffile.imwrite(tmp_path / "copy.tif", pixels)
    assert check_dataset(with_image(data, tmp_path / "copy.tif")).problems == []


def test_copies_within_one_part_are_a_warning(clean: DataSet) -> None:
    report = check_dataset(replace(clean, train=(*clean.train, clean.train[0])))
    assert report.problems == []
    assert report.warnings == ["n0.png, n0.png show the same pixels"]


def test_mixed_images_are_a_warning(clean: DataSet, tmp_path: Path) -> None:
    deep = noise(tmp_path / "deep.png", dtype=np.uint16)
    write_png(tmp_path / "rgb.png", RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    extra = tuple(Sample(path, None, False, "good") for path in (deep, tmp_path / "rgb.png"))
    report = check_dataset(replace(clean, train=(*clean.train, *extra)))
    assert report.problems == []
    assert report.warnings == ["bit depths are mixed (8 (6), 16 (1))", "channels are mixed (1 (6), 3 (1))"]
    assert report.channels == {1: 6, 3: 1}


def test_missing_masks_and_training_images(clean: DataSet) -> None:
    bare = replace(clean, test=(replace(clean.test[0], mask=None), clean.test[1]))
    assert check_dataset(bare).warnings == ["1 defective images have no mask (d0.png)"]
    assert check_dataset(replace(clean, train=())).problems == ["there are no training images; add normal images"]


def test_a_mask_of_two_images_is_a_warning(clean: DataSet, tmp_path: Path) -> None:
    mask = clean.test[0].mask
    assert mask is not None
    (tmp_path / "link.png").symlink_to(mask)
    for same in (mask, tmp_path / "link.png"):
        report = check_dataset(replace(clean, test=(clean.test[0], replace(clean.test[1], mask=same))))
        assert (report.problems, report.warnings) == ([], [f"d0.png, d1.png have the same mask, {mask.name}"])


def test_long_findings_are_cut_in_the_text_only(clean: DataSet, tmp_path: Path) -> None:
    missing = tuple(Sample(tmp_path / f"gone{i}.png", None, False, "good") for i in range(50))
    report = check_dataset(replace(clean, train=missing))
    assert len(report.problems) == 50
    lines = report.text().splitlines()
    assert sum(line.startswith("problem: ") for line in lines) == 21
    assert "problem: and 30 more" in lines
    sizes = tuple(Sample(noise(tmp_path / f"s{i}.png", 5 + i), None, False, "good") for i in range(9))
    assert "and 3 more" in check_dataset(replace(clean, train=sizes, test=())).text()


def test_the_page_of_training_is_checked(tmp_path: Path) -> None:
    for number in range(2):
        stack = RNG.integers(0, 256, (3, 6, 8), dtype=np.uint8)
        tifffile.imwrite(tmp_path / f"{number}.tif", stack, photometric="minisblack")
    data = DataSet("folder", tmp_path, tuple(Sample(tmp_path / f"{i}.tif", None, False, "good") for i in range(2)), ())
    assert len(check_dataset(data).problems) == 2
    report = check_dataset(data, page=2)
    assert (report.problems, report.sizes) == ([], {(6, 8): 2})
