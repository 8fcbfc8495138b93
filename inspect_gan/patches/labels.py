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
    return patch_sums(mask != 0, grid) > defect_pixel_limit(grid.size)


def patch_sums(values: np.ndarray, grid: Grid) -> np.ndarray:
    """(len(grid),) sum of the values (H, W) in each patch, row-major; float64, or int64 of bools.

    A row of patches at a time: an image of running sums would take eight bytes per pixel.
    """
    left = np.array(grid.cols)
    rows = []
    for top in grid.rows:
        columns = values[top : top + grid.size].sum(axis=0, dtype=np.int64 if values.dtype == bool else np.float64)
        below = np.concatenate([[0], np.cumsum(columns)])
        rows.append(below[left + grid.size] - below[left])
    return np.concatenate(rows)
