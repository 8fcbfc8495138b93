import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from inspect_gan.datasets.nanofibres import KINDS, FibreStyle, render, write_dataset
from inspect_gan.datasets.nanofibres_similarity import local_mean_std, log_spectrum, similarity
from inspect_gan.errors import InspectGanError

SMALL = {"height": 48, "width": 80, "normal": 2, "good": 1, "defective": 2}


def test_the_same_seed_gives_the_same_bytes_whatever_happens_in_between():
    first = render(90, 130, 7, defects=4)
    state = np.random.get_state()[1].copy()
    render(60, 50, 8, defects=["hole", "bead"])
    np.random.default_rng(7).normal(size=5)
    again = render(90, 130, 7, defects=4)
    assert first.pixels.tobytes() == again.pixels.tobytes()
    assert first.mask.tobytes() == again.mask.tobytes()
    assert first.defects == again.defects
    assert np.array_equal(state, np.random.get_state()[1])
    assert render(90, 130, 9, defects=4).pixels.tobytes() != first.pixels.tobytes()


@pytest.mark.parametrize("size", [(33, 1027), (1027, 33), (16, 16), (257, 129)])
def test_any_size_is_rendered(size):
    image = render(*size, 1, defects=3)
    assert image.pixels.shape == image.mask.shape == size
    assert image.pixels.dtype == np.uint8
    assert image.mask.dtype == bool


def test_bit_depths_show_the_same_picture_and_use_their_range():
    deep = render(200, 300, 3, bit_depth=16).pixels
    flat = render(200, 300, 3).pixels
    assert deep.dtype == np.uint16
    assert len(np.unique(deep)) > 10_000
    assert deep.min() < 0.03 * 65535 and deep.max() > 0.97 * 65535
    assert np.abs(deep / 257 - flat).max() <= 0.51


@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_alters_its_mask_and_nothing_else(kind):
    image = render(220, 260, 5, defects=[kind] * 3)
    plain = render(220, 260, 5)
    assert not plain.mask.any() and plain.defects == []
    assert {defect.kind for defect in image.defects} == {kind}
    change = np.abs(image.pixels.astype(int) - plain.pixels.astype(int))
    near = cv2.dilate(image.mask.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    # what shows through the half-transparent edge pixels of a nearer fibre is not in the mask
    assert (change[~near] > 0).mean() < 1e-3
    assert (change[image.mask] > 8).mean() > (0.4 if kind == "bead" else 0.7)
    assert change[image.mask].mean() > 5 * change[near & ~image.mask].mean()


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_reach_from_8_px_to_a_fifth_of_the_side(kind):
    defects = [d for seed in range(4) for d in render(400, 500, seed, defects=[kind] * 4).defects]
    assert len(defects) == 16
    sides = [max(d.box[2] - d.box[0], d.box[3] - d.box[1]) for d in defects]
    assert max(sides) <= 80 and min(sides) >= 3  # nearer fibres may cover part of one
    assert max(sides) > 2 * min(sides)
    assert np.median([d.area for d in defects]) > 30


@settings(max_examples=15, deadline=None)
@given(st.integers(16, 120), st.integers(16, 120), st.integers(0, 2**32))
def test_the_list_of_defects_describes_the_mask(height, width, seed):
    image = render(height, width, seed, defects=5)
    boxed = np.zeros_like(image.mask)
    for defect in image.defects:
        x0, y0, x1, y1 = defect.box
        assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
        boxed[y0:y1, x0:x1] = True
    assert sum(defect.area for defect in image.defects) == image.mask.sum() > 0
    assert boxed[image.mask].all()


def test_nearer_fibres_cover_defects():
    # all fibres nearer than the film: of 40 films in a dense mat some must be cut by a fibre in front
    image = render(500, 500, 2, defects=["film"] * 40)
    parts = cv2.connectedComponents(image.mask.astype(np.uint8))[0] - 1
    assert parts > len(image.defects)


def test_defects_are_not_separable_by_grey_or_smoothness():
    masks, means, spreads = [], [], []
    for seed in range(6):
        image = render(450, 600, seed, defects=9)
        mean, spread = local_mean_std(image.pixels)
        masks.append(image.mask.ravel()), means.append(mean.ravel()), spreads.append(spread.ravel())
    truth, mean, spread = (np.concatenate(part) for part in (masks, means, spreads))
    assert 0.003 < truth.mean() < 0.08
    for score, bound in ((mean, 0.90), (spread, 0.90), (mean - 2 * spread, 0.93)):
        auroc = roc_auc_score(truth, score)
        assert max(auroc, 1 - auroc) <= bound


def test_deep_fibres_are_darker_and_the_mat_is_neither_empty_nor_full():
    pixels = render(300, 400, 4).pixels
    dark, middle, bright = np.percentile(pixels, [5, 50, 95])
    assert dark < 15 and 100 < middle < 170 and bright > 235


def test_style_changes_what_it_names():
    thin, thick = (render(300, 300, 1, style=FibreStyle(width=w)).pixels for w in (4, 16))
    edges = [np.abs(np.diff(pixels.astype(int))).mean() for pixels in (thin, thick)]
    assert edges[0] > 1.5 * edges[1]
    sparse = render(300, 300, 1, style=FibreStyle(density=0.5)).pixels
    assert sparse.mean() < 0.6 * render(300, 300, 1).pixels.mean()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"height": 15, "width": 80, "seed": 0}, "80x15"),
        ({"height": 80, "width": 80, "seed": -1}, "Seed -1"),
        ({"height": 80, "width": 80, "seed": 0, "bit_depth": 12}, "12 bits"),
        ({"height": 80, "width": 80, "seed": 0, "defects": -2}, "-2 defects"),
        ({"height": 80, "width": 80, "seed": 0, "defects": ["scratch"]}, '"scratch"; use one of clump, film'),
    ],
)
def test_impossible_requests_are_refused_with_the_value(arguments, words):
    with pytest.raises(InspectGanError, match=words):
        render(**arguments)


@pytest.mark.parametrize("change", [{"density": 0.0}, {"width": float("nan")}, {"bundling": 1.0}])
def test_impossible_styles_are_refused_with_the_name(change):
    with pytest.raises(InspectGanError, match=next(iter(change))):
        FibreStyle(**change)


def test_a_data_set_has_the_mvtec_layout_and_lists_its_defects(tmp_path):
    write_dataset(tmp_path / "new" / "set", **SMALL, bit_depth=16, seed=3)
    root = tmp_path / "new" / "set"
    names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
    assert names == [
        "defects.json",
        "ground_truth/defect/000_mask.png",
        "ground_truth/defect/001_mask.png",
        "test/defect/000.png",
        "test/defect/001.png",
        "test/good/000.png",
        "train/good/000.png",
        "train/good/001.png",
    ]
    about = json.loads((root / "defects.json").read_text())
    assert about["images"]["train/good/001.png"] == about["images"]["test/good/000.png"] == []
    images = {}
    for name in names[3:]:
        images[name] = cv2.imread(str(root / name), cv2.IMREAD_UNCHANGED)
        assert images[name].shape == (48, 80) and images[name].dtype == np.uint16
    assert len({image.tobytes() for image in images.values()}) == 5
    for number in ("000", "001"):
        mask = cv2.imread(str(root / f"ground_truth/defect/{number}_mask.png"), cv2.IMREAD_UNCHANGED)
        assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 255}
        listed = about["images"][f"test/defect/{number}.png"]
        assert sum(defect["area"] for defect in listed) == (mask > 0).sum()
        assert all(defect["kind"] in KINDS and len(defect["box"]) == 4 for defect in listed)


def test_a_data_set_replaces_an_earlier_one_but_nothing_else(tmp_path):
    write_dataset(tmp_path, **SMALL)
    before = (tmp_path / "test/defect/001.png").read_bytes()
    write_dataset(tmp_path, **SMALL | {"defective": 1, "normal": 1})
    assert not (tmp_path / "test/defect/001.png").exists()
    assert not (tmp_path / "ground_truth/defect/001_mask.png").exists()
    write_dataset(tmp_path, **SMALL)
    assert (tmp_path / "test/defect/001.png").read_bytes() == before
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InspectGanError, match=r"notes\.txt"):
        write_dataset(tmp_path, **SMALL)
    assert (tmp_path / "test/defect/001.png").read_bytes() == before


def test_images_of_another_origin_are_never_replaced(tmp_path):
    mine = tmp_path / "train/good/000.png"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(InspectGanError, match="another origin"):
        write_dataset(tmp_path, **SMALL)
    (tmp_path / "defects.json").write_text("[1, 2]")
    with pytest.raises(InspectGanError, match="another origin"):
        write_dataset(tmp_path, **SMALL)
    assert mine.read_bytes() == b"mine"
    with pytest.raises(InspectGanError, match="is a file"):
        write_dataset(mine, **SMALL)


def test_bad_settings_leave_an_earlier_data_set_alone(tmp_path):
    write_dataset(tmp_path, **SMALL)
    for change in ({"height": 4}, {"bit_depth": 7}, {"seed": -1}, {"normal": -1}):
        with pytest.raises(InspectGanError):
            write_dataset(tmp_path, **SMALL | change)
    assert (tmp_path / "test/defect/001.png").exists()


def test_similarity_is_zero_for_the_same_images_and_measures_shifts_in_grey_levels():
    image = render(256, 256, 1).pixels
    same = similarity([image], [image])
    assert [same[k] for k in ("grey", "local_mean", "local_std", "spectrum")] == [0, 0, 0, 0]
    shifted = similarity([image.astype(np.float32)], [image.astype(np.float32) + 12])
    assert shifted["grey"] == pytest.approx(12, abs=0.01)
    assert shifted["local_mean"] == pytest.approx(12, abs=0.05)
    assert shifted["local_std"] == pytest.approx(0, abs=0.05)
    assert shifted["spectrum"] == pytest.approx(0, abs=1e-4)
    doubled = similarity([image.astype(np.float32)], [2 * image.astype(np.float32)])
    assert doubled["spectrum"] == pytest.approx(np.log10(4), abs=1e-4)


def test_the_spectrum_of_white_noise_is_flat_at_its_variance():
    noise = np.random.default_rng(0).normal(100, 7, (256, 256))
    assert log_spectrum(noise)[-6:] == pytest.approx(np.full(6, np.log10(49)), abs=0.05)
    assert similarity([noise], [noise])["slope_a"] == pytest.approx(0, abs=0.3)
    fibres = render(256, 256, 1).pixels
    assert similarity([fibres], [noise])["slope_a"] < -1.5
    with pytest.raises(ValueError, match="256 px"):
        log_spectrum(noise[:200])
