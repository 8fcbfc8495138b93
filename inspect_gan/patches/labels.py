"""Ground-truth labels of patches from the mask of an image."""

import numpy as np

from inspect_gan.patches.grid import Grid


def defect_pixel_limit(size: int) -> int:
    """The largest number of defect pixels of a patch that still counts as normal: floor(20 (S / 32)^2).

    20 at 32 pixels and 80 at 64, about 2 % of the patch: a rim of a defect in the corner of a patch does not
    make the patch anomalous.
    """
    return 20 * size * size // (32 * 32)


def patch_labels(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """(len(grid),) bool, row-major: True where a patch holds more than `defect_pixel_limit` defect pixels.

    mask: (H, W) bool, True on defects. Raises ValueError when it is not of the grid's size.
    """
    if mask.shape != (grid.height, grid.width):
        raise ValueError(f"mask {mask.shape} against a grid of {(grid.height, grid.width)}")
    integral = np.zeros((grid.height + 1, grid.width + 1), dtype=np.int64)
    np.cumsum(np.cumsum(mask != 0, axis=0), axis=1, out=integral[1:, 1:])
    top, left = np.array(grid.rows), np.array(grid.cols)
    below = integral[top + grid.size] - integral[top]
    counts = below[:, left + grid.size] - below[:, left]
    return (counts > defect_pixel_limit(grid.size)).ravel()
