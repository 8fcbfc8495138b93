"""Samples: the same order and the same pairs on every platform; names decide, positions never."""

import os
import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inspect_gan.datasets import Sample, pair_masks
from inspect_gan.datasets.samples import find_images, natural_key
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import write_png


def image(path: Path, height: int = 6, width: int = 8) -> Path:
    write_png(path, np.full((height, width), 100, np.uint8))
    return path


def test_natural_order() -> None:
    ordered = ["a1.png", "a2.png", "A10.png", "b.png", "b/2.png", "b/010.png", "b/10.png", "x007y3", "x7y12"]
    shuffled = random.Random(1).sample(ordered, len(ordered))
    assert sorted(shuffled, key=natural_key) == sorted(ordered, key=natural_key)
    by_value = sorted(["a10", "a9", "a1", "A2"], key=natural_key)
    assert by_value == ["a1", "A2", "a9", "a10"]


@given(st.lists(st.text(max_size=8), max_size=8, unique=True), st.randoms())
def test_order_does_not_depend_on_the_listing(texts: list[str], rng: random.Random) -> None:
    shuffled = list(texts)
    rng.shuffle(shuffled)
    assert sorted(shuffled, key=natural_key) == sorted(texts, key=natural_key)


def test_search_ignores_but_reports_other_files(tmp_path: Path) -> None:
    for name in ("b.png", "a.TIF", "c.jpeg", ".hidden.png", "Thumbs.db", "notes.txt", "._b.png"):
        (tmp_path / name).touch()
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "x.png").touch()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "b.png").touch()
    found = find_images(tmp_path, recursive=True)
    assert [p.name for p in found.images] == ["a.TIF", "b.png", "c.jpeg"]
    assert {p.name for p in found.ignored} == {
        ".hidden.png",
        "Thumbs.db",
        "notes.txt",
        "._b.png",
        ".git",
        "__MACOSX",
    }


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    image(elsewhere / "a.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(elsewhere)
    (root / "b.png").symlink_to(elsewhere / "a.png")
    (root / "up").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    found = find_images(root, recursive=True)
    assert [p.relative_to(root).as_posix() for p in found.images] == ["b.png", "linked/a.png"]


@pytest.mark.parametrize("suffix", ["", "_mask", "_gt", "-mask", "_label"])
def test_masks_pair_by_name_not_by_position(tmp_path: Path, suffix: str) -> None:
    for i, stem in enumerate(("a", "b", "c.d")):
        image(tmp_path / "images" / f"{stem}.tif.png")
        image(tmp_path / "masks" / f"z{9 - i}" / f"{stem}.tif{suffix}.png")
    pairs = pair_masks(tmp_path / "images", tmp_path / "masks")
    assert [(s.image.name, s.mask and s.mask.name, s.defective, s.kind) for s in pairs] == [
        (f"{stem}.tif.png", f"{stem}.tif{suffix}.png", None, "") for stem in ("a", "b", "c.d")
    ]


def test_pairing_keeps_what_samples_know(tmp_path: Path) -> None:
    sample = Sample(image(tmp_path / "images" / "a.png"), None, True, "bent")
    mask = image(tmp_path / "masks" / "a.png")
    assert pair_masks([sample], tmp_path / "masks") == (Sample(sample.image, mask, True, "bent"),)


def test_an_image_called_like_a_mask_is_not_guessed_at(tmp_path: Path) -> None:
    for stem in ("a", "a_mask"):
        image(tmp_path / "images" / f"{stem}.png")
        image(tmp_path / "masks" / f"{stem}_mask.png")
    assert "2 masks competing for one image (a_mask.png, a_mask_mask.png)" in pairing_fault(tmp_path)


def test_accents_pair_across_file_systems(tmp_path: Path) -> None:
    image(tmp_path / "images" / (unicodedata.normalize("NFC", "é") + ".png"))
    mask = image(tmp_path / "masks" / (unicodedata.normalize("NFD", "é") + "_mask.png"))
    (pair,) = pair_masks(tmp_path / "images", tmp_path / "masks")
    assert pair.mask == mask


def pairing_fault(root: Path) -> str:
    with pytest.raises(InspectGanError) as caught:
        pair_masks(root / "images", root / "masks")
    return str(caught.value)


def test_unmatched_names_are_listed_with_counts(tmp_path: Path) -> None:
    for i in range(9):
        image(tmp_path / "images" / f"i{i}.png")
    image(tmp_path / "masks" / "i8_gt.png")
    image(tmp_path / "masks" / "x.png")
    message = pairing_fault(tmp_path)
    assert "8 images without a mask (i0.png, i1.png, i2.png, i3.png, i4.png and 3 more)" in message
    assert "1 masks without an image (x.png)" in message


def test_two_masks_for_one_image(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.png")
    image(tmp_path / "masks" / "a_gt.png")
    image(tmp_path / "masks" / "a_mask.png")
    assert "2 masks competing for one image (a_gt.png, a_mask.png)" in pairing_fault(tmp_path)


def test_images_that_share_a_stem(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.png")
    image(tmp_path / "images" / "sub" / "a.png")
    image(tmp_path / "masks" / "a.png")
    assert "2 images share a name" in pairing_fault(tmp_path)


def test_images_are_not_their_own_masks(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.png")
    os.symlink(tmp_path / "images", tmp_path / "masks")
    assert "1 images that would be their own mask (a.png)" in pairing_fault(tmp_path)


def test_missing_or_empty_mask_folder(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.png")
    assert "masks: cannot be listed" in pairing_fault(tmp_path)
    (tmp_path / "masks").mkdir()
    assert "masks: no images" in pairing_fault(tmp_path)
