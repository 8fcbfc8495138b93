"""The one inference path."""

from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inspect_gan.config import make_config
from inspect_gan.detector import Detector, detectors
from inspect_gan.errors import InspectGanError
from inspect_gan.hardware import Resolved
from inspect_gan.imaging import Image
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.patches.grid import Grid
from inspect_gan.patches.stitch import Stitcher
from inspect_gan.scoring import dense, maps
from inspect_gan.scoring.maps import MapSettings
from inspect_gan.scoring.predict import Predictor


class Echo(Detector):
    """Reconstructs black, so that the residual |x - x'| is the grey value itself."""

    objectives: ClassVar = {"minimax": ""}

    def stages(self):
        return ()

    def reconstruct(self, x: Tensor) -> Tensor:
        return torch.full_like(x, -1)

    def discriminate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1).mean(1), x.flatten(1)

    def own_scores(self):
        return {}


def echo(**preprocess: object) -> Predictor:
    config = make_config({"objective": "minimax"})
    from inspect_gan.detector import DetectorSettings, PatchShape

    Echo.name = "echo"
    detector = Echo(PatchShape(1, 32), DetectorSettings(), config.build_objective())
    settings = Preprocess.model_validate({"size": 32, "channels": 1, **preprocess})
    return Predictor(detector, settings, device="cpu", batch_size=7)


def trained(batch_size: int, size: int = 32) -> Predictor:
    config = make_config({"detector": {"width": 4, "nz": 8}, "patches": {"size": size}})
    torch.manual_seed(0)
    detector = config.build(1).eval()
    return Predictor(detector, Preprocess(size=size, channels=1), device="cpu", batch_size=batch_size)


@pytest.mark.parametrize("shape", [(32, 32), (33, 1027), (70, 45), (100, 64)])
@pytest.mark.parametrize("window", ["uniform", "hann", "gaussian"])
@pytest.mark.parametrize("stride", [32, 16, 5])
def test_map_has_the_images_size_and_its_pixels(shape: tuple[int, int], window: str, stride: int) -> None:
    pixels = np.random.default_rng(0).random((*shape, 1), dtype=np.float32)
    maps = echo().score_maps(Image(pixels, 8), ["res_l1"], MapSettings(stride, window))  # type: ignore[arg-type]
    assert maps["res_l1"].dtype == np.float32
    np.testing.assert_allclose(maps["res_l1"], 2 * pixels[..., 0], atol=1e-5)


def test_a_bright_pixel_comes_back_at_its_place_at_stride_one() -> None:
    pixels = np.zeros((41, 53, 1), dtype=np.float32)
    pixels[17, 39] = 1
    found = echo().score_maps(Image(pixels, 8), ["res_l1"], MapSettings(1))["res_l1"]
    assert np.unravel_index(found.argmax(), found.shape) == (17, 39)
    smooth = echo().score_maps(Image(pixels, 8), ["res_l1"], MapSettings(1, smooth=3.0))["res_l1"]
    assert np.unravel_index(smooth.argmax(), smooth.shape) == (17, 39)


@pytest.mark.parametrize("scale", [0.5, 0.77, 2.0])
def test_scaled_maps_fit_the_image(scale: float) -> None:
    pixels = np.zeros((90, 131, 1), dtype=np.float32)
    pixels[40:50, 80:90] = 1
    found = echo(scale=scale).score_maps(Image(pixels, 8), ["res_l1"], MapSettings(8))["res_l1"]
    assert found.shape == (90, 131)
    rows, columns = np.nonzero(found > 1)
    assert (rows.mean(), columns.mean()) == pytest.approx((44.5, 84.5), abs=0.6)


@pytest.mark.parametrize("scale", [1.0, 0.6])
@pytest.mark.parametrize("smooth", [0.0, 2.7])
def test_a_map_in_bands_is_the_map_in_one_piece(monkeypatch: pytest.MonkeyPatch, smooth: float, scale: float) -> None:
    pixels = np.random.default_rng(0).random((150, 60, 1), dtype=np.float32)
    names, map_settings = ["res_l1", "res_ssim", "doubt"], MapSettings(8, smooth=smooth)
    image, predictor = Image(pixels, 8), echo(scale=scale)
    whole = predictor.score_maps(image, names, map_settings)
    monkeypatch.setattr("inspect_gan.scoring.maps.BAND", 20 * 60)
    rows: dict[str, list[slice]] = {name: [] for name in names}
    found: dict[str, list[np.ndarray]] = {name: [] for name in names}

    def take(name: str, where: slice, values: np.ndarray) -> None:
        rows[name].append(where)
        found[name].append(values)

    predictor.stream(image, names, map_settings, take)
    for name in names:
        assert [where.start for where in rows[name]] == [0, *(where.stop for where in rows[name][:-1])]
        assert all(
            len(values) == where.stop - where.start for values, where in zip(found[name], rows[name], strict=True)
        )
        assert len(rows[name]) == 1 if scale != 1 else len(rows[name]) > 4
        np.testing.assert_allclose(np.concatenate(found[name]), whole[name], rtol=1e-6)


@pytest.mark.parametrize("band", [1, 9, 50])
@pytest.mark.parametrize("sigma", [0.3, 2.0, 9.0])
def test_smoothing_in_bands_leaves_no_seams(sigma: float, band: int) -> None:
    map = np.random.default_rng(0).random((61, 45), dtype=np.float32)
    smoothing = maps._Smoothing(sigma, len(map))
    found = np.concatenate([smoothing.add(map[top : top + band]) for top in range(0, len(map), band)])
    wanted = cv2.GaussianBlur(map, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_scores_do_not_depend_on_batch_size_or_other_images() -> None:
    rng = np.random.default_rng(0)
    image = Image(rng.random((70, 90, 1), dtype=np.float32), 8)
    other = Image(rng.random((70, 90, 1), dtype=np.float32), 8)
    names = list(trained(1).detector.score_table())
    alone = trained(1).score_maps(image, names, MapSettings(16))
    predictor = trained(256)
    predictor.score_maps(other, names, MapSettings(16))
    after = predictor.score_maps(image, names, MapSettings(16))
    for name in names:
        np.testing.assert_allclose(after[name], alone[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", detectors.names())
def test_a_patch_has_one_score(name: str) -> None:
    """Whatever the number of threads, the stride, the batch; and to three hundredths in half precision."""
    own = {"search_steps": 2} if name == "anogan" else {}
    torch.manual_seed(0)
    detector = make_config({"detector": {"name": name, "nz": 6, "width": 4, **own}}).build(1).eval()
    image = Image(np.random.default_rng(0).random((80, 64, 1), dtype=np.float32), 8)
    names = ["res_ssim", "res_l1", detector.score_name("default")]

    def patches(stride: int, batch: int, precision: Resolved = "32-true") -> dict[str, np.ndarray]:
        predictor = Predictor(detector, Preprocess(size=32, channels=1), device="cpu", batch_size=batch)
        grid, scores = predictor.patch_scores(image, names, MapSettings(stride, precision=precision))
        common = [row % 16 == 0 and col % 16 == 0 for row, col, _, _ in grid.boxes()]
        return {score: values[common] for score, values in scores.items()}

    wanted = patches(16, 7)
    try:
        torch.set_num_threads(3)
        again = patches(8, 64)
    finally:
        torch.set_num_threads(1)
    half = patches(16, 7, "bf16-mixed")
    for score, values in wanted.items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(again[score], values, rtol=0, atol=1e-5 * scale, err_msg=score)
        np.testing.assert_allclose(half[score], values, rtol=0, atol=0.03 * scale, err_msg=score)


def test_patch_scores_agree_with_maps_of_one_patch() -> None:
    image = Image(np.random.default_rng(0).random((32, 32, 1), dtype=np.float32), 8)
    predictor = trained(4)
    names = ["res_l2", "res_structure", "enc_mse"]
    maps = predictor.score_maps(image, names, MapSettings(32, "uniform"))
    grid, scores = predictor.patch_scores(image, names, MapSettings(16))
    assert len(grid) == 1
    for name in names:
        assert maps[name].mean() == pytest.approx(scores[name][0], rel=1e-5)


def test_small_images_and_unknown_scores_are_refused() -> None:
    small = Image(np.zeros((31, 500, 1), dtype=np.float32), 8)
    with pytest.raises(InspectGanError, match="31×500 px, smaller than the patch of 32 px"):
        echo().score_maps(small, ["res_l1"], MapSettings(8))
    image = Image(np.zeros((40, 40, 1), dtype=np.float32), 8)
    with pytest.raises(InspectGanError, match=r"no score 'res_l3': did you mean 'res_l\d'"):
        echo().score_maps(image, ["res_l3"], MapSettings(8))


def test_colour_is_taken_as_luma_by_a_grey_detector() -> None:
    grey = np.random.default_rng(0).random((40, 40, 1), dtype=np.float32)
    colour = Image(np.repeat(grey, 3, axis=2), 8)
    a = echo().score_maps(colour, ["res_l1"], MapSettings(8))["res_l1"]
    np.testing.assert_allclose(a, 2 * grey[..., 0], atol=1e-5)


@pytest.mark.parametrize("name", ["ganomaly", "fanogan", "alad", "skip_ganomaly"])
@pytest.mark.parametrize("stride", [3, 8])
def test_shared_work_gives_the_scores_of_single_patches(name: str, stride: int) -> None:
    torch.manual_seed(0)
    detector = make_config({"detector": {"name": name, "nz": 6, "width": 4}}).build(1).eval()
    random = np.random.default_rng(0)
    pixels = random.random((67, 75, 1)).astype(np.float32)
    detector.fit_scores(detector.view_class(detector, torch.from_numpy(random.random((8, 1, 32, 32))).float() * 2 - 1))
    predictor = Predictor(detector, Preprocess(size=32, channels=1), device="cpu", batch_size=7)
    names = [score for score in ("code", "doubt") if score in detector.score_table()]
    settings = MapSettings(stride, "uniform")
    maps, _, patches = predictor.maps_and_patches(Image(pixels, 8), [*names, "res_l1"], settings)
    grid, scores = predictor.patch_scores(Image(pixels, 8), [*names, "res_l1"], settings)
    for score, wanted in scores.items():
        np.testing.assert_allclose(patches[score], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    for score in names:
        stitcher = Stitcher(grid, "uniform")
        stitcher.add(0, scores[score])
        wanted = stitcher.finalize()
        assert np.abs(maps[score] - wanted).max() <= 1e-5 * np.abs(wanted).max(), score


def test_every_strip_of_a_map_is_scored_in_the_wanted_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = make_config({"detector": {"name": "ganomaly", "nz": 6, "width": 4}}).build(1).eval()
    predictor = Predictor(detector, Preprocess(size=32, channels=1), device="cpu")
    image = Image(np.random.default_rng(0).random((150, 64, 1)).astype(np.float32), 8)
    monkeypatch.setattr(dense, "BUDGET", 20_000)
    convolve, seen = torch.nn.functional.conv2d, []

    def record(*inputs: Any) -> torch.Tensor:
        seen.append(convolve(*inputs))
        return seen[-1]

    monkeypatch.setattr(dense.F, "conv2d", record)
    for precision, wanted in (("bf16-mixed", torch.bfloat16), ("32-true", torch.float32)):
        seen.clear()
        predictor.score_maps(image, ["code"], MapSettings(4, precision=precision))  # type: ignore[arg-type]
        assert {made.dtype for made in seen} == {wanted}
    network = dense.DenseNetwork(predictor.detector.encoder, 32)  # type: ignore[arg-type]
    assert len(list(network.strips(torch.zeros(1, 150, 64), Grid(150, 64, 32, 4)))) > 1


def starve(monkeypatch: pytest.MonkeyPatch, limit: int) -> list[int]:
    """Let convolutions of more than so many numbers run out of memory; the sizes of those that did."""
    refused: list[int] = []
    convolve = nn.Conv2d.forward
    dense_convolve = F.conv2d

    def check(x: Tensor) -> None:
        if x.numel() > limit:
            refused.append(x.numel())
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    def forward(self: nn.Conv2d, x: Tensor) -> Tensor:
        check(x)
        return convolve(self, x)

    def functional(x: Tensor, *rest: Any) -> Tensor:
        check(x)
        return dense_convolve(x, *rest)

    monkeypatch.setattr(nn.Conv2d, "forward", forward)
    monkeypatch.setattr(dense.F, "conv2d", functional)
    return refused


@pytest.mark.parametrize(
    ("score", "limit"), [("res_l1", 12 * 32 * 32), ("enc_mse", 12 * 32 * 32)], ids=["batches", "shared work"]
)
def test_want_of_memory_halves_the_work_and_changes_no_map(
    score: str, limit: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    image = Image(np.random.default_rng(0).random((150, 130, 1), dtype=np.float32), 32)
    settings = MapSettings(4)
    wanted, _, patches = trained(64).maps_and_patches(image, [score], settings)
    refused = starve(monkeypatch, limit)
    predictor = trained(64)
    found, _, again = predictor.maps_and_patches(image, [score], settings)
    np.testing.assert_allclose(found[score], wanted[score], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(again[score], patches[score], rtol=1e-4, atol=1e-6)
    assert "not enough memory on cpu (CUDA out of memory" in caplog.text
    n = len(refused)
    assert 1 <= n == len(caplog.records)
    predictor.score_maps(image, [score], settings)  # what was learned is kept
    assert len(refused) == n


def test_an_image_for_which_no_batch_is_small_enough_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    starve(monkeypatch, 32 * 32 - 1)
    image = Image(np.zeros((40, 40, 1), dtype=np.float32), 32)
    for score in ("res_l1", "enc_mse"):
        with pytest.raises(InspectGanError, match="not enough memory on cpu for this image"):
            trained(8).score_maps(image, [score], MapSettings(8))


def test_other_errors_are_not_taken_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(nn.Conv2d, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        trained(8).score_maps(Image(np.zeros((40, 40, 1), dtype=np.float32), 32), ["res_l1"], MapSettings(8))
