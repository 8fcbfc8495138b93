import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from inspect_gan.datasets import check_dataset, open_dataset, pasted
from inspect_gan.datasets.nanofibres import write_dataset as write_nanofibres
from inspect_gan.datasets.nanofibres_defects import SPRITES
from inspect_gan.datasets.pasted import (
    BEYOND,
    MOST_COPIES,
    OBJECTS,
    TINT,
    VISIBLE,
    Counts,
    Surface,
    paste_defects,
    write_dataset,
)
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import RawImage, read_mask, read_raw, to_float, to_samples, write_png, write_tiff

BROWN = np.array([0.55, 0.35, 0.2], np.float32)


def surface(
    height: int, width: int, mean: float | np.ndarray = 0.5, spread: float = 0.1, bit_depth: int = 8, seed: int = 0
) -> RawImage:
    """A blurred random field of the given mean, or mean colour, and standard deviation."""
    field = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((height, width)), (0, 0), 1.5)
    pixels = mean + spread * (field / max(field.std(), 1e-9))[:, :, None] * np.ones(np.size(mean))
    return RawImage(to_samples(np.clip(pixels, 0, 1).astype(np.float32), bit_depth), Path("surface"))


def write(raw: RawImage, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    (write_tiff if raw.bit_depth == 32 else write_png)(path, raw.array)


def files(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def bands(tmp_path: Path) -> Path:
    """Two good images that are divided into bands."""
    for number in range(2):
        write(surface(140, 260, seed=number), tmp_path / "good" / f"sheet {number}.png")
    return tmp_path / "good"


@settings(max_examples=100, deadline=None)
@given(st.integers(8, 130), st.integers(8, 130), st.sampled_from([8, 16, 32]), st.booleans(), st.integers(0, 2**32))
def test_the_mask_and_the_list_are_what_was_changed(height, width, bit_depth, colour, seed):
    raw = surface(height, width, BROWN if colour else 0.5, bit_depth=bit_depth)
    before = raw.array.copy()
    after, mask, defects = paste_defects(raw, np.random.default_rng(seed))
    assert np.array_equal(raw.array, before)
    assert (after.shape, after.dtype, mask.shape) == (before.shape, before.dtype, before.shape[:2])
    assert to_float(after).min() >= 0 and to_float(after).max() <= 1
    assert sum(defect.area for defect in defects) == mask.sum() > 0
    for defect in defects:
        x0, y0, x1, y1 = defect.box
        inside = mask[y0:y1, x0:x1]
        assert inside.sum() == defect.area, "objects stand alone"
        assert inside.any(0)[[0, -1]].all() and inside.any(1)[[0, -1]].all(), "boxes are tight"
    changed = np.abs(to_float(after) - to_float(before)).max(2)
    assert (changed[mask] > 0).mean() > 0.8
    near = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)
    # What a nearer part of the surface all but hides is not in the mask; of tiny images that may be a pixel or two.
    assert (changed[~near] > 0).sum() <= 2 + 2e-2 * mask.size


def test_the_generator_alone_chooses():
    raw = surface(120, 160)
    first, again, other = (paste_defects(raw, np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes() != other.tobytes()


@pytest.mark.parametrize(
    ("mean", "spread", "bit_depth"),
    [
        (0.5, 0.2, 8),
        (0.03, 0.01, 8),
        (0.97, 0.01, 8),
        (0.0, 0.0, 8),
        (1.0, 0.0, 8),
        (0.03, 0.005, 16),
        (0.4, 0.001, 32),
    ],
    ids=["plain", "dark", "bright", "black", "white", "12 bits in 16", "floats of little contrast"],
)
def test_what_counts_can_be_seen_on_any_surface(mean, spread, bit_depth):
    raw = surface(300, 300, mean, spread, bit_depth)
    contrast = Surface.of(to_float(raw.array), bit_depth).contrast
    assert contrast >= np.ptp(np.quantile(to_float(raw.array), [0.05, 0.95])) - 1e-6
    seen = []
    for seed in range(3):
        after, mask, defects = paste_defects(raw, np.random.default_rng(seed))
        assert len(defects) >= 3
        change = np.abs(to_float(after) - to_float(raw.array)).mean(2)
        for defect in defects:
            x0, y0, x1, y1 = defect.box
            seen.append(change[y0:y1, x0:x1][mask[y0:y1, x0:x1]].mean() / contrast)
    assert min(seen) > 0.8 * VISIBLE  # rounding may take some of it
    assert max(seen) < 3, "as strong as the surface's own contrast, not a flare in it"


def test_objects_are_darker_and_brighter_and_neither_is_the_rule():
    raw = surface(600, 600)
    brighter = []
    for seed in range(4):
        after, mask, defects = paste_defects(raw, np.random.default_rng(seed))
        for x0, y0, x1, y1 in (defect.box for defect in defects):
            brighter.append(after[y0:y1, x0:x1][mask[y0:y1, x0:x1]].mean() > raw.array.mean())
    assert 0.3 < np.mean(brighter) < 0.7
    assert len(brighter) > 40


def test_colours_are_those_of_the_surface_but_for_a_tint():
    low, high = BROWN - 0.1, BROWN + np.array([0.1, 0.06, 0.02])
    found = Surface(low, high, 0.2)
    rng = np.random.default_rng(0)
    colours = np.array([found.colour(rng) for _ in range(500)])
    spread = (high - low) / (high - low).mean()
    # The grey in which a colour comes nearest to the line from low to high, and how far off the line it is.
    along = ((colours - low) @ spread) / (spread @ spread)
    off = colours - low - along[:, None] * spread
    assert np.abs(off).max() < 2 * TINT * 0.2
    assert off.std() > 0.3 * TINT * 0.2
    reach = BEYOND * 0.2
    assert -reach - 0.1 < along.min() < 0 and (high - low).mean() < along.max() < (high - low).mean() + reach + 0.1
    grey = Surface(np.array([0.4]), np.array([0.6]), 0.2)
    greys = np.array([grey.colour(rng) for _ in range(500)])
    assert 0.3 <= greys.min() < 0.33 and 0.67 < greys.max() <= 0.7


def test_objects_grow_with_the_image():
    sides = {}
    for side in (100, 500):
        listed = [paste_defects(surface(side, side), np.random.default_rng(seed))[2] for seed in range(5)]
        boxes = [defect.box for defects in listed for defect in defects]
        sides[side] = [max(x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes]
        assert max(sides[side]) <= side / 5
    assert max(sides[500]) > 60
    assert min(sides[500]) < 15


def test_all_kinds_are_pasted():
    found = {
        defect.kind for seed in range(4) for defect in paste_defects(surface(400, 400), np.random.default_rng(seed))[2]
    }
    assert found == set(SPRITES)


def test_bands_of_a_few_images_are_never_in_both_parts(tmp_path):
    # Every pixel of both images has a grey of its own.
    for number in range(2):
        greys = number + 2 * np.arange(80 * 260).reshape(80, 260)
        write(RawImage(greys.astype(np.uint16), Path()), tmp_path / "good" / f"{number}.png")
    out = tmp_path / "out"
    made = write_dataset(tmp_path / "good", out)
    assert made[:2] == (2, 2)
    for number in range(2):
        whole = read_raw(tmp_path / "good" / f"{number}.png").array
        train, test = (read_raw(out / part / "good" / f"{number:03d}.png").array for part in ("train", "test"))
        assert (train.shape, test.shape) == ((80, 195, 1), (80, 65, 1))
        assert np.array_equal(np.sort(np.concatenate([train.ravel(), test.ravel()])), np.sort(whole.ravel()))


def test_of_many_images_whole_ones_are_kept(tmp_path):
    for number in range(20):
        write(surface(70, 90, seed=number), tmp_path / "good" / f"{number}.png")
    made = write_dataset(tmp_path / "good", tmp_path / "out")
    assert made[:2] == (15, 5)
    train, test = ({path.name for path in (tmp_path / "out" / p / "good").iterdir()} for p in ("train", "test"))
    assert len(train | test) == 20
    for name in train | test:
        part = "train" if name in train else "test"
        kept, source = tmp_path / "out" / part / "good" / name, tmp_path / "good" / f"{int(name[:3])}.png"
        assert np.array_equal(read_raw(kept).array, read_raw(source).array)


def test_the_data_set_is_one_to_evaluate_on(bands, tmp_path):
    out = tmp_path / "out"
    made = write_dataset(bands, out, seed=4)
    data = open_dataset(out)
    report = check_dataset(data)
    assert (data.layout, report.problems, report.warnings) == ("mvtec", [], [])
    assert Counts(len(data.train), report.kinds["good"], report.kinds["pasted"], made.objects) == made
    record = json.loads((out / "defects.json").read_text())
    assert record["sources"] == ["sheet 0.png", "sheet 1.png"]
    assert sum(map(len, record["images"].values())) == made.objects
    for sample in data.test:
        listed = record["images"][sample.image.relative_to(out).as_posix()]
        untouched = read_raw(out / "test" / "good" / f"{sample.image.stem[:3]}.png").array
        if sample.mask is None:
            assert listed == []
            continue
        mask = read_mask(sample.mask)
        assert mask.sum() == sum(defect["area"] for defect in listed) > 0
        assert (read_raw(sample.image).array != untouched)[mask].mean() > 0.8
    pictures = [read_raw(sample.image).array.tobytes() for sample in data.test]
    assert len(set(pictures)) == len(pictures), "each copy has other objects"


def test_copies_are_made_until_there_are_enough_objects(bands, tmp_path, monkeypatch):
    most = write_dataset(bands, tmp_path / "most")
    assert most.pasted == 2 * MOST_COPIES and most.objects < OBJECTS
    monkeypatch.setattr(pasted, "OBJECTS", most.objects // 2)
    made = write_dataset(bands, tmp_path / "some")
    assert 2 < made.pasted < most.pasted
    record = json.loads((tmp_path / "some" / "defects.json").read_text())
    counts = {name: len(defects) for name, defects in record["images"].items()}
    last = sum(count for name, count in counts.items() if name.endswith(f"_{made.pasted // 2 - 1}.png"))
    assert made.objects - last < most.objects // 2 <= made.objects


@pytest.mark.parametrize(("bit_depth", "suffix"), [(8, "png"), (16, "png"), (32, "tiff")])
@pytest.mark.parametrize("mean", [0.5, BROWN], ids=["grey", "colour"])
def test_files_keep_depth_and_colour(bit_depth, suffix, mean, tmp_path):
    raw = surface(100, 260, mean, bit_depth=bit_depth)
    write(raw, tmp_path / "good" / f"a.{suffix}")
    write_dataset(tmp_path / "good", tmp_path / "out")
    for name in (f"train/good/000.{suffix}", f"test/good/000.{suffix}", f"test/pasted/000_0.{suffix}"):
        part = read_raw(tmp_path / "out" / name)
        assert (part.bit_depth, part.array.shape[2]) == (bit_depth, raw.array.shape[2])


def test_images_are_read_as_in_training(tmp_path):
    """Of the second page, without the rows of a bar; 16 bits stay what they are."""
    pages = [surface(170, 260, bit_depth=16, seed=seed).array[..., 0] for seed in (3, 4)]
    (tmp_path / "good").mkdir()
    tifffile.imwrite(tmp_path / "good" / "a.tif", np.stack(pages), photometric="minisblack")
    write_dataset(tmp_path / "good", tmp_path / "out", layout="folder", page=2, info_bar=30)
    parts = [read_raw(path).array[..., 0] for path in sorted((tmp_path / "out").glob("*/good/*.png"))]
    assert all(part.shape[0] == 140 for part in parts)
    assert all(any(np.array_equal(part, pages[1][:140, x : x + part.shape[1]]) for x in range(260)) for part in parts)
    assert all(read_mask(path).shape[0] == 140 for path in (tmp_path / "out/ground_truth/pasted").iterdir())


def test_the_seed_alone_decides_and_an_earlier_data_set_is_replaced(bands, tmp_path):
    out = tmp_path / "out"
    write_dataset(bands, out, seed=1)
    first = files(out)
    write_dataset(bands, out, seed=2, size=32)
    other = files(out)
    assert other.keys() == first.keys()
    assert other["test/pasted/000_0.png"] != first["test/pasted/000_0.png"]
    write_dataset(bands, out, seed=1)
    assert files(out) == first


def test_what_is_not_its_own_is_refused_and_stays(bands, tmp_path):
    drawn = tmp_path / "drawn"
    write_nanofibres(drawn, height=32, width=48, normal=1, good=1, defective=1)
    before = files(drawn)
    with pytest.raises(InspectGanError, match="another origin"):
        write_dataset(bands, drawn)
    assert files(drawn) == before
    before = files(tmp_path)
    with pytest.raises(InspectGanError, match="holds the images to paste into"):
        write_dataset(bands, tmp_path)
    assert files(tmp_path) == before


def test_a_broken_image_leaves_an_earlier_data_set_alone(bands, tmp_path):
    write_dataset(bands, tmp_path / "out")
    before = files(tmp_path / "out")
    (bands / "sheet 2.png").write_bytes(b"no image")
    with pytest.raises(InspectGanError, match=r"sheet 2\.png"):
        write_dataset(bands, tmp_path / "out", seed=3)
    assert files(tmp_path / "out") == before


def test_images_that_cannot_be_divided_are_refused(tmp_path):
    write(surface(60, 200), tmp_path / "good" / "a.png")
    with pytest.raises(InspectGanError, match="60 x 200"):
        write_dataset(tmp_path / "good", tmp_path / "out")
    with pytest.raises(InspectGanError, match="one normal image cannot be divided"):
        write_dataset(tmp_path / "good", tmp_path / "out", size=60)
    assert not (tmp_path / "out").exists()
    assert write_dataset(tmp_path / "good", tmp_path / "out", size=40).good == 1
