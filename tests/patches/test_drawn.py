"""Defects drawn on normal patches."""

import cv2
import numpy as np
import pytest
import torch

from inspect_gan.patches.drawn import FOREIGN, draw_defects


def patches(n: int = 64, size: int = 32, channels: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, channels, size, size, generator=generator) * 2 - 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [32, 64, 128])
def test_shape_range_and_untouched_surroundings(size: int, channels: int) -> None:
    x = patches(16, size, channels)
    torch.manual_seed(0)
    drawn, opacity = draw_defects(x)
    assert drawn.shape == x.shape and opacity.shape == (16, 1, size, size)
    assert drawn.abs().max() <= 1 and opacity.min() >= 0 and opacity.max() <= 1
    clear = (opacity == 0).expand_as(x)
    assert clear.any() and torch.equal(drawn[clear], x[clear])
    assert (drawn - x).abs()[(opacity > 0.5).expand_as(x)].mean() > 0.2


def test_most_patches_get_a_visible_defect_and_none_is_covered_whole() -> None:
    torch.manual_seed(0)
    _, opacity = draw_defects(patches(400))
    covered = (opacity > 0.3).float().mean(dim=(1, 2, 3))
    assert (covered > 0).float().mean() > 0.8
    assert 0.02 < covered.mean() < 0.3


def test_spots_are_as_long_as_wanted() -> None:
    def spots(elongation: float) -> np.ndarray:
        """Length and width in px of all there are."""
        torch.manual_seed(0)
        _, opacity = draw_defects(torch.zeros(400, 1, 64, 64), elongation=elongation)
        masks = (opacity[:, 0] > 0.3).numpy().astype(np.uint8)
        outlines = [one for mask in masks for one in cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)[0]]
        sides = [cv2.minAreaRect(one)[1] for one in outlines if len(one) > 15]
        return np.sort(np.array(sides), axis=1).T

    (width, length), (long_width, long_length) = spots(2.5), spots(16.0)
    assert (length > 3 * width).mean() < 0.05  # a wobble can do so
    assert (long_length > 3 * long_width).mean() > 0.3
    assert not ((length > 16) & (width < 4)).any()
    assert ((long_length > 16) & (long_width < 4)).mean() > 0.03  # scratches


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_share_of_the_patches(share: float) -> None:
    torch.manual_seed(0)
    x = patches(800)
    drawn, opacity = draw_defects(x, share)
    left_alone = (opacity == 0).all(dim=(1, 2, 3))
    assert torch.equal(drawn[left_alone], x[left_alone])
    assert (drawn != x).any(dim=(1, 2, 3)).float().mean().item() == pytest.approx(share, abs=0.06)


def test_spots_on_colour_images_have_colours() -> None:
    torch.manual_seed(0)
    drawn, opacity = draw_defects(torch.zeros(100, 3, 32, 32))
    solid = drawn.movedim(1, -1)[opacity[:, 0] > 0.95]
    assert (solid.amax(1) - solid.amin(1)).mean() > 0.05


def test_follows_torch_s_seed() -> None:
    x = patches(8)
    torch.manual_seed(3)
    first = draw_defects(x)
    torch.manual_seed(3)
    assert all(torch.equal(a, b) for a, b in zip(first, draw_defects(x), strict=True))
    assert not torch.equal(first[0], draw_defects(x)[0])


def test_greys_of_spots_spread_over_the_whole_range() -> None:
    """A detector must not learn that defects are bright, or dark."""
    torch.manual_seed(0)
    drawn, opacity = draw_defects(torch.zeros(600, 1, 32, 32))
    values = drawn[opacity > 0.95]
    shares = torch.histc(values, 4, -1, 1) / len(values)
    assert shares.min() > 0.15


def test_the_first_patches_show_generated_content() -> None:
    torch.manual_seed(0)
    x = torch.zeros(60, 1, 32, 32)
    drawn, opacity = draw_defects(x, generated=torch.full((20, 1, 32, 32), 0.4321))
    made = (drawn - 0.4321).abs() < 1e-3
    assert made[:20][opacity[:20] > 0.999].all()
    assert made[20:][opacity[20:] > 0.999].float().mean() < 0.01


def test_some_spots_show_the_texture_of_another_patch() -> None:
    """Of patches without texture: nothing else that is drawn is as flat."""
    torch.manual_seed(0)
    drawn, opacity = draw_defects(torch.zeros(800, 1, 32, 32))
    inside = (opacity > 0.9999) & (drawn.abs() < 1)
    pairs = inside[..., 1:] & inside[..., :-1]
    flat = drawn.diff(dim=-1)[pairs].abs() < 1e-4
    assert flat.float().mean().item() == pytest.approx(FOREIGN, abs=0.06)


def test_mixed_precision_does_not_coarsen_what_is_drawn() -> None:
    x = patches(32, 64)
    torch.manual_seed(0)
    expected = draw_defects(x)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        drawn = draw_defects(x)
    assert all(torch.equal(a, b) for a, b in zip(drawn, expected, strict=True))
