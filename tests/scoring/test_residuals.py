"""The residual family against closed forms and against scikit-image."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity
from torch import Tensor

from inspect_gan.scoring import residuals

Residual = Callable[[Tensor, Tensor], Tensor]

MAPS: tuple[Residual, ...] = (
    residuals.l1,
    residuals.l2,
    residuals.ssim,
    residuals.structure,
    residuals.contrast,
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("residual", MAPS)
def test_maps(residual: Residual, size: int, channels: int) -> None:
    x, x_rec = noise(3, channels, size, size), noise(3, channels, size, size, seed=1)
    found = residual(x, x_rec)
    assert found.shape == (3, 1, size, size)
    assert found.dtype == torch.float32
    assert found.min() >= 0
    assert found.mean() > 0
    assert residual(x, x).abs().max() < 1e-5
    # One channel after the other and averaged, one patch after the other.
    alone = [residual(x[1:2, c : c + 1], x_rec[1:2, c : c + 1]) for c in range(channels)]
    assert torch.allclose(found[1:2], torch.stack(alone).mean(0), atol=1e-6)


def test_absolute_and_squared_difference() -> None:
    x, x_rec = torch.tensor([0.5, -1.0, 0.25]), torch.tensor([-0.5, -1.0, 0.75])
    grey = [v.view(1, 1, 1, 3) for v in (x, x_rec)]
    assert residuals.l1(*grey).flatten().tolist() == [1.0, 0.0, 0.5]
    assert residuals.l2(*grey).flatten().tolist() == [1.0, 0.0, 0.25]
    colour = [v.view(1, 3, 1, 1) for v in (x, x_rec)]
    assert residuals.l1(*colour).item() == pytest.approx(0.5)
    assert residuals.l2(*colour).item() == pytest.approx(1.25 / 3)
    assert residuals.mse(*(v.view(1, 3) for v in (x, x_rec))).tolist() == pytest.approx([1.25 / 3])


def test_distance_is_a_sum_per_sample() -> None:
    a, b = torch.tensor([[[3.0], [-4.0]], [[1.0], [1.0]]]), torch.tensor([[[0.0], [0.0]], [[1.0], [0.0]]])
    assert residuals.distance(a, b).tolist() == [5.0, 1.0]
    assert residuals.distance(a, b, 1).tolist() == [7.0, 1.0]
    assert residuals.distance(a.bfloat16(), b.bfloat16()).dtype == torch.float32


@given(level=st.floats(-1, 1), shift=st.floats(-1, 1))
@settings(max_examples=20)
def test_flat_patches(level: float, shift: float) -> None:
    """Without structure only the luminance term of SSIM is left."""
    x, x_rec = torch.full((1, 1, 32, 32), level), torch.full((1, 1, 32, 32), shift)
    a, b = (level + 1) / 2, (shift + 1) / 2
    similarity = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    assert torch.allclose(residuals.ssim(x, x_rec), torch.tensor(1 - similarity, dtype=torch.float32), atol=2e-3)
    assert residuals.structure(x, x_rec).abs().max() < 2e-3
    # sqrt(C) = 0.03 stands for the missing contrast.
    assert residuals.contrast(x, x_rec).mean().item() == pytest.approx(abs(a - b) / 0.03, rel=1e-2, abs=1e-3)


def test_structure_does_not_see_a_grey_shift() -> None:
    x = 0.5 * noise(2, 1, 32, 32)
    assert residuals.structure(x, x + 0.4).max() < 1e-3
    assert residuals.ssim(x, x + 0.4).mean() > 0.02
    assert residuals.l1(x, x + 0.4).min() > 0.39


def test_structure_against_scaled_contrast() -> None:
    """x' = k x has correlation 1 and contrast term 2k / (1 + k²), up to the constant."""
    x = noise(2, 1, 64, 64)
    for k in (0.25, 0.5, 1.0):
        assert residuals.structure(x, k * x).mean().item() == pytest.approx(1 - 2 * k / (1 + k * k), abs=0.01)
    assert residuals.structure(x, -x).mean().item() == pytest.approx(2.0, abs=0.03)


def test_contrast_is_in_units_of_the_local_deviation() -> None:
    x = noise(2, 1, 64, 64)
    busy, calm = residuals.contrast(x, x + 0.2).mean(), residuals.contrast(0.1 * x, 0.1 * x + 0.2).mean()
    # Noise of [-1, 1] is uniform on [0, 1] as grey: variance 1/12, and 1/1200 at a tenth of the contrast.
    assert busy.item() == pytest.approx(0.1 / (1 / 12 + 9e-4) ** 0.5, rel=0.05)
    assert calm.item() == pytest.approx(0.1 / (1 / 1200 + 9e-4) ** 0.5, rel=0.05)


@pytest.mark.parametrize("size", [32, 128])
def test_agrees_with_scikit_image(size: int) -> None:
    x = noise(1, 1, size, size)
    x_rec = (0.7 * x + 0.3 * noise(1, 1, size, size, seed=1) + 0.1).clamp(-1, 1)
    grey = [((v + 1) / 2)[0, 0].double().numpy() for v in (x, x_rec)]
    _, wanted = structural_similarity(
        *grey,
        win_size=11,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        full=True,
    )
    found = 1 - residuals.ssim(x, x_rec)[0, 0].numpy()
    inside = slice(5, -5)  # the borders are reflected differently
    np.testing.assert_allclose(found[inside, inside], wanted[inside, inside], atol=1e-5)
    # The whole patch, against a direct blur with borders reflected about the edge pixels.
    a, b = grey
    blur = _reference_blur
    means, squares = (blur(a), blur(b)), (blur(a * a), blur(b * b), blur(a * b))
    covariance = squares[2] - means[0] * means[1]
    variances = squares[0] - means[0] ** 2 + squares[1] - means[1] ** 2
    structure = (2 * covariance + 9e-4) / (variances + 9e-4)
    np.testing.assert_allclose(residuals.structure(x, x_rec)[0, 0].numpy(), 1 - structure, atol=1e-5)


def _reference_blur(v: np.ndarray) -> np.ndarray:
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    padded = np.pad(v, 5, mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (11, 11))
    return np.einsum("ijkl,k,l->ij", windows, taps / taps.sum(), taps / taps.sum())


def test_structure_finds_a_smooth_blob_among_busy_texture() -> None:
    """A calm bright blob reproduced without its grain, among texture reproduced at half its contrast."""
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    inside = ((rows - 32) ** 2 + (columns - 32) ** 2 < 14**2)[None, None]
    x = torch.where(inside, 0.6 + 0.2 * noise(1, 1, 64, 64), 0.8 * noise(1, 1, 64, 64, seed=1))
    x_rec = torch.where(inside, 0.6, 0.5 * x)
    centre = ((rows - 32) ** 2 + (columns - 32) ** 2 < 8**2)[None, None]
    texture = ((rows - 32) ** 2 + (columns - 32) ** 2 > 20**2)[None, None]

    def contrast_of(residual: Residual) -> float:
        found = residual(x, x_rec)
        return float(found[centre].mean() - found[texture].mean())

    assert contrast_of(residuals.structure) > 0.4
    assert contrast_of(residuals.l1) < 0
    assert contrast_of(residuals.l2) < 0


@pytest.mark.parametrize("residual", [*MAPS, residuals.mse])
def test_same_under_autocast(residual: Residual) -> None:
    x, x_rec = noise(2, 1, 32, 32), noise(2, 1, 32, 32, seed=1)
    # Autocast comes first: nothing kept from a float32 call may be what makes it work.
    with torch.autocast("cpu", torch.bfloat16):
        cast = residual(x, x_rec)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, residual(x, x_rec))
    # Half-precision patches are widened before the difference is taken.
    halves = x.bfloat16(), x_rec.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(residual(*halves), residual(*(half.float() for half in halves)))


def test_gradients_flow_after_scoring_in_inference_mode() -> None:
    x, x_rec = noise(2, 1, 40, 40), noise(2, 1, 40, 40, seed=1)  # a size no other test has used before
    with torch.inference_mode():
        residuals.ssim(x, x_rec)
    x_rec.requires_grad_()
    residuals.ssim(x, x_rec).mean().backward()
    assert x_rec.grad is not None
    assert x_rec.grad.isfinite().all()
    assert x_rec.grad.any()


def test_scoring_after_an_export_still_gives_numbers() -> None:
    class Structure(torch.nn.Module):
        def forward(self, x: Tensor, x_rec: Tensor) -> Tensor:
            return residuals.structure(x, x_rec)

    x, x_rec = noise(2, 1, 48, 48), noise(2, 1, 48, 48, seed=1)  # a size no other test has used before
    exported = torch.export.export(Structure(), (x, x_rec)).module()
    eager = residuals.structure(x, x_rec)
    assert eager.mean().item() > 0
    assert torch.allclose(exported(x, x_rec), eager, atol=1e-6)
