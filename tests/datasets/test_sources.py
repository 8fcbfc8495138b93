"""Data sources: every layout is read alike everywhere; what is ambiguous is an error, not a guess."""

from pathlib import Path

import numpy as np
import pytest

from inspect_gan.datasets import DataSet, Sample, open_dataset
from inspect_gan.datasets.layouts import LAYOUTS
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import write_png


def image(path: Path, height: int = 6, width: int = 8) -> Path:
    write_png(path, np.full((height, width), 100, np.uint8))
    return path


def names(samples: tuple[Sample, ...]) -> list[str]:
    return [sample.image.name for sample in samples]


def refused(path: Path, *words: str, layout: str = "auto") -> None:
    with pytest.raises(InspectGanError) as caught:
        open_dataset(path, layout)
    message = str(caught.value)
    assert ";" in message, "a remedy follows the finding"
    for word in words:
        assert word in message, message


def test_folder(tmp_path: Path) -> None:
    for name in ("img10.png", "img9.png", "img1.png"):
        image(tmp_path / name)
    (tmp_path / "readme.txt").touch()
    data = open_dataset(tmp_path)
    assert (data.layout, data.root) == ("folder", tmp_path)
    assert names(data.train) == ["img1.png", "img9.png", "img10.png"]
    assert data.train[0] == Sample(tmp_path / "img1.png", None, False, "good")
    assert data.test == ()
    assert data.ignored == (tmp_path / "readme.txt",)


def test_tree(tmp_path: Path) -> None:
    for name in ("day2/a.png", "day10/a.png", "day2/deep/b.png"):
        image(tmp_path / name)
    data = open_dataset(str(tmp_path))
    assert data.layout == "tree"
    assert [s.image.relative_to(tmp_path).as_posix() for s in data.train] == [
        "day2/a.png",
        "day2/deep/b.png",
        "day10/a.png",
    ]


def test_images_at_two_levels_are_ambiguous(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "more" / "b.png")
    refused(
        tmp_path, "data.layout=folder or data.layout=tree in training", "--layout folder or --layout tree elsewhere"
    )
    assert names(open_dataset(tmp_path, "folder").train) == ["a.png"]
    assert names(open_dataset(tmp_path, "tree").train) == ["a.png", "b.png"]


@pytest.mark.parametrize("folder", ["masks", "GT", "set/ground_truth/broken"])
def test_masks_are_not_trained_on_by_accident(tmp_path: Path, folder: str) -> None:
    image(tmp_path / "images" / "a.png")
    image(tmp_path / folder / "a.png")
    refused(tmp_path, "masks")
    assert len(open_dataset(tmp_path, "tree").train) == 2


@pytest.mark.parametrize("side", [6, 8], ids=["tree", "patches"])
@pytest.mark.parametrize(
    ("good", "other", "held"),
    [
        ("good", "Bad", "defective images"),
        ("good", "anomalous/deep", "defective images"),
        ("ok", "ng", "defective images"),
        ("train", "test/scratch", "test images"),
    ],
)
def test_defective_images_are_not_trained_on_by_accident(
    tmp_path: Path, good: str, other: str, held: str, side: int
) -> None:
    image(tmp_path / good / "a.png", side)
    image(tmp_path / other / "b.png", side)
    refused(tmp_path, str(Path(other)), held, "folder of normal images", "data.layout=", "--layout ")
    assert len(open_dataset(tmp_path, "tree").train) == 2
    assert names(open_dataset(tmp_path / good).train) == ["a.png"]


@pytest.mark.parametrize("where", ["", "sub/"])
def test_patches(tmp_path: Path, where: str) -> None:
    for i in range(3):
        image(tmp_path / where / f"{i}.png", 32, 32)
    data = open_dataset(tmp_path)
    assert data.layout == "patches"
    assert len(data.train) == 3
    other = "tree" if where else "folder"
    assert open_dataset(tmp_path, other).layout == other


@pytest.mark.parametrize("odd", [(32, 33), (64, 64)])
def test_one_odd_image_makes_it_a_folder(tmp_path: Path, odd: tuple[int, int]) -> None:
    image(tmp_path / "a.png", 32, 32)
    image(tmp_path / "b.png", *odd)
    assert open_dataset(tmp_path).layout == "folder"
    refused(tmp_path, "b.png", f"{odd[1]} x {odd[0]}", layout="patches")


@pytest.mark.parametrize(("side", "layout"), [(256, "patches"), (257, "folder")])
def test_large_squares_are_images(tmp_path: Path, side: int, layout: str) -> None:
    image(tmp_path / "a.png", side, side)
    assert open_dataset(tmp_path).layout == layout


def test_a_damaged_file_does_not_stop_detection(tmp_path: Path) -> None:
    image(tmp_path / "a.png", 32, 32)
    (tmp_path / "b.png").write_text("no image")
    assert open_dataset(tmp_path).layout == "folder"
    refused(tmp_path, "b.png", "text", layout="patches")


def mvtec(root: Path) -> None:
    for name in ("train/good/000", "train/good/001", "test/good/000", "test/bent/000", "test/bent/001"):
        image(root / f"{name}.png")
    for stem in ("000", "001"):
        image(root / "ground_truth" / "bent" / f"{stem}_mask.png")


def test_mvtec(tmp_path: Path) -> None:
    mvtec(tmp_path)
    (tmp_path / "license.txt").touch()
    data = open_dataset(tmp_path)
    assert data.layout == "mvtec"
    assert data.train == tuple(
        Sample(tmp_path / "train" / "good" / f"{stem}.png", None, False, "good") for stem in ("000", "001")
    )
    assert [(s.kind, s.defective, s.mask) for s in data.test] == [
        ("bent", True, tmp_path / "ground_truth" / "bent" / "000_mask.png"),
        ("bent", True, tmp_path / "ground_truth" / "bent" / "001_mask.png"),
        ("good", False, None),
    ]
    assert data.ignored == (tmp_path / "license.txt",)


def test_mvtec_without_masks_or_tests(tmp_path: Path) -> None:
    image(tmp_path / "train" / "good" / "0.png")
    assert open_dataset(tmp_path) == DataSet(
        "mvtec", tmp_path, (Sample(tmp_path / "train" / "good" / "0.png", None, False, "good"),), ()
    )
    image(tmp_path / "test" / "bent" / "0.png")
    (sample,) = open_dataset(tmp_path).test
    assert (sample.mask, sample.defective) == (None, True)


def test_mvtec_mismatches(tmp_path: Path) -> None:
    mvtec(tmp_path)
    image(tmp_path / "test" / "glue" / "0.png")
    refused(tmp_path, "glue without masks")
    image(tmp_path / "ground_truth" / "glue" / "0_mask.png")
    image(tmp_path / "ground_truth" / "scratch" / "0_mask.png")
    refused(tmp_path, "scratch without images")
    image(tmp_path / "test" / "scratch" / "1.png")
    refused(tmp_path, "1.png", "0_mask.png")
    image(tmp_path / "train" / "bent" / "0.png")
    refused(tmp_path, "bent, good")


def nanotwice(root: Path) -> None:
    for name in (
        "Normal/ITIA1141",
        "Normal/ITIA1142",
        "Anomalous/images/ITIA1102",
        "Anomalous/images/ITIA1101",
    ):
        image(root / f"{name}.png")
    for stem in ("ITIA1101", "ITIA1102"):
        image(root / "Anomalous" / "gt" / f"{stem}_gt.png")


def test_nanotwice(tmp_path: Path) -> None:
    nanotwice(tmp_path)
    data = open_dataset(tmp_path)
    assert data.layout == "nanotwice"
    assert names(data.train) == ["ITIA1141.png", "ITIA1142.png"]
    gt = tmp_path / "Anomalous" / "gt"
    assert [(s.image.stem, s.mask, s.defective, s.kind) for s in data.test] == [
        ("ITIA1101", gt / "ITIA1101_gt.png", True, "anomalous"),
        ("ITIA1102", gt / "ITIA1102_gt.png", True, "anomalous"),
    ]
    assert open_dataset(tmp_path / "Normal").layout == "folder"
    refused(tmp_path / "Anomalous", "gt")


def test_nanotwice_needs_its_folders(tmp_path: Path) -> None:
    image(tmp_path / "Normal" / "a.png")
    refused(tmp_path, "Anomalous/images", layout="nanotwice")


@pytest.mark.parametrize("upper", [False, True])
def test_labelled(tmp_path: Path, upper: bool) -> None:
    normal, anomalous, masks = (n.upper() if upper else n for n in ("normal", "anomalous", "masks"))
    image(tmp_path / normal / "n.png")
    assert open_dataset(tmp_path).layout == "labelled"
    image(tmp_path / anomalous / "a.png")
    assert open_dataset(tmp_path).test == (Sample(tmp_path / anomalous / "a.png", None, True, "anomalous"),)
    image(tmp_path / masks / "a_mask.png")
    (sample,) = open_dataset(tmp_path).test
    assert sample.mask == tmp_path / masks / "a_mask.png"
    assert names(open_dataset(tmp_path).train) == ["n.png"]


@pytest.mark.parametrize("folder", ["defects", "masks"])
def test_labelled_does_not_leave_folders_out(tmp_path: Path, folder: str) -> None:
    image(tmp_path / "normal" / "n.png")
    image(tmp_path / folder / "a.png")
    refused(tmp_path, folder)


def test_two_structures_are_ambiguous(tmp_path: Path) -> None:
    mvtec(tmp_path)
    nanotwice(tmp_path)
    refused(tmp_path, "mvtec", "nanotwice")
    assert open_dataset(tmp_path, "mvtec").layout == "mvtec"
    assert open_dataset(tmp_path, "nanotwice").layout == "nanotwice"


# Lists


def test_list(tmp_path: Path) -> None:
    for name in ("a/2.png", "a/10.png", "b, c.png", "m/x.png", "# 1.png"):
        image(tmp_path / name)
    lines = [
        "\ufeffimage, mask",
        "",
        "# a comment",
        "a/10.png",
        '"b, c.png", m/x.png',
        "a/2.png,",
        str(tmp_path / "# 1.png"),
    ]
    for suffix in (".csv", ".txt"):
        path = tmp_path / f"list{suffix}"
        path.write_text("\r\n".join(lines), encoding="utf-8")
        data = open_dataset(path)
        assert (data.layout, data.root) == ("list", tmp_path)
        assert names(data.train) == ["# 1.png", "2.png", "10.png"]
        assert data.test == (Sample(tmp_path / "b, c.png", tmp_path / "m" / "x.png", None, ""),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.png\nb.png\n", ("line 2", "b.png")),
        ("a.png\n#\na.png\n", ("line 3 repeats", "line 1")),
        ("a.png,m.png,x\n", ("line 1",)),
        (",m.png\n", ("line 1",)),
        ("a.png,a.png\n", ("line 1", "own mask")),
        ("# nothing\n\n", ("no images",)),
        ("Dear reader, " * 100, ("line 1",)),
    ],
)
def test_list_errors_name_the_line(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    image(tmp_path / "a.png")
    image(tmp_path / "m.png")
    (tmp_path / "list.txt").write_text(text)
    refused(tmp_path / "list.txt", "list.txt", *words)


def test_list_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"\xff\xfe\x00a")
    refused(tmp_path / "list.csv", "UTF-8")


# What cannot be opened


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    refused(tmp_path / "none", "no such")
    refused(tmp_path / ("x" * 300), "no such")
    refused(tmp_path, "no images, no files")
    (tmp_path / "notes.txt").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "table.xls").touch()
    refused(tmp_path, "no images, 2 other files (notes.txt, table.xls)")
    refused(image(tmp_path / "sub" / "a.png"), "single file")


def test_layout_names(tmp_path: Path) -> None:
    image(tmp_path / "a.png")
    (tmp_path / "list.txt").write_text("a.png")
    refused(tmp_path, "did you mean mvtec?", layout="mvtek")
    refused(tmp_path, "auto, list, mvtec", layout="???")
    refused(tmp_path, "list file", layout="list")
    refused(tmp_path / "list.txt", "needs a folder", layout="tree")
    assert all(layout.summary.endswith(".") for layout in LAYOUTS.values())
