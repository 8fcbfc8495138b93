import numpy as np
import pytest
from sklearn.decomposition import PCA

from inspect_gan.evaluation.baselines import COMPONENTS, SIGMA, Baselines
from inspect_gan.imaging import Image
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.patches.grid import Grid
from inspect_gan.patches.stitch import iterate_patches
from inspect_gan.scoring.maps import MapSettings

SIZE = 16


def texture(seed: int, shape: tuple[int, int] = (80, 96)) -> Image:
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(shape)
    waves = 0.5 + 0.3 * np.sin(rows / 2 + rng.uniform(0, 6)) * np.cos(columns / 3 + rng.uniform(0, 6))
    return Image((waves + rng.normal(0, 0.02, shape)).clip(0, 1).astype(np.float32)[..., None], 8)


@pytest.fixture(scope="module")
def baselines() -> Baselines:
    return Baselines([texture(1), texture(2)], Preprocess(size=SIZE, channels=1))


def test_local_statistics_of_a_step(baselines: Baselines) -> None:
    pixels = np.zeros((80, 120, 1), dtype=np.float32)
    pixels[:, 60:] = 1
    maps = dict(baselines.maps(Image(pixels, 8), MapSettings(8)))
    assert set(maps) == set(baselines.names)
    far = int(4 * SIGMA) + 1
    np.testing.assert_allclose(maps["grey"][:, : 60 - far], 0, atol=1e-6)
    np.testing.assert_allclose(maps["grey"][:, 60 + far :], 1, atol=1e-6)
    # Beside the step half of the window is 0 and half 1: mean 1/2, deviation 1/2.
    np.testing.assert_allclose(maps["grey"][40, 59:61], 0.5, atol=0.04)
    np.testing.assert_allclose(maps["deviation"][40, 59:61], 0.5, atol=0.01)
    np.testing.assert_array_equal(maps["smooth"], -maps["deviation"])
    np.testing.assert_allclose(maps["bright_smooth"], maps["grey"] - 2 * maps["deviation"], atol=1e-6)


def test_pca_residual_equals_scikit_learn(baselines: Baselines) -> None:
    held_out = [texture(1), texture(2)]
    fitted = [
        part.reshape(len(part), -1)
        for image in held_out
        for _, part in iterate_patches(image.pixels, Grid(80, 96, SIZE, SIZE // 2), 64)
    ]
    pca = PCA(COMPONENTS, svd_solver="full").fit(np.concatenate(fitted))
    image = texture(3)
    map = dict(baselines.maps(image, MapSettings(SIZE, "uniform")))["pca_residual"]
    # Patches side by side do not overlap, so the map shows each one's own residual.
    for top, left, bottom, right in Grid(80, 96, SIZE, SIZE).boxes():
        patch = image.pixels[top:bottom, left:right, 0].reshape(1, -1)
        residual = patch - pca.inverse_transform(pca.transform(patch))
        np.testing.assert_allclose(map[top:bottom, left:right].ravel(), residual[0] ** 2, atol=1e-4)


def test_pca_finds_what_normal_patches_never_show(baselines: Baselines) -> None:
    image = texture(4)
    image.pixels[30:50, 40:60] = 0.5
    map = dict(baselines.maps(image, MapSettings(4, smooth=2)))["pca_residual"]
    assert map.shape == (80, 96)
    inside = map[35:45, 45:55].mean()
    assert inside > 3 * map[:20].mean()


def test_colour_images_and_another_scale_give_maps_of_the_images_size() -> None:
    rng = np.random.default_rng(0)
    colour = [Image(rng.random((80, 90, 3), dtype=np.float32), 8) for _ in range(2)]
    baselines = Baselines(colour, Preprocess(size=SIZE, channels=3, scale=0.5))
    maps = dict(baselines.maps(colour[0], MapSettings(8)))
    assert {map.shape for map in maps.values()} == {(80, 90)}
    assert all(map.dtype == np.float32 for map in maps.values())
