"""Cut an image into the patches of a grid, and put the scores of patches together to a map of the image."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from inspect_gan.errors import InspectGanError
from inspect_gan.patches.grid import Grid

Window = Literal["uniform", "hann", "gaussian"]
MIN_WEIGHT = 1e-3
# Rows of the map that are finished together: only so many are held in float64 once more.
BAND = 256


def iterate_patches(pixels: np.ndarray, grid: Grid, batch: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (start, patches) until every position of the grid was visited, in row-major order.

    pixels: (H, W, C); patches: (n, S, S, C) float32, contiguous, n = `batch` except in the last step, cut
    from the positions start .. start + n - 1. Only one batch exists at a time. Raises ValueError when the
    image is not of the grid's size.
    """
    if pixels.ndim != 3 or pixels.shape[:2] != (grid.height, grid.width):
        raise ValueError(f"pixels {pixels.shape} against a grid of {(grid.height, grid.width)} and channels")
    windows = sliding_window_view(pixels, (grid.size, grid.size), axis=(0, 1)).transpose(0, 1, 3, 4, 2)
    tops, lefts = np.array(grid.rows), np.array(grid.cols)
    for start in range(0, len(grid), batch):
        row, col = np.divmod(np.arange(start, min(start + batch, len(grid))), len(lefts))
        yield start, np.ascontiguousarray(windows[tops[row], lefts[col]], dtype=np.float32)


def window_weights(size: int, window: Window) -> np.ndarray:
    """(S,) float64 weights along one axis of a patch, in [0.001, 1]; a pixel's weight is row times column.

    `hann` is sampled at pixel centres; `gaussian` has a standard deviation of S / 8. The lower bound keeps a
    weight on pixels that only the rim of one patch covers, such as the corners of the image.
    """
    centre = np.arange(size) + 0.5
    if window == "uniform":
        return np.ones(size)
    if window == "hann":
        weights = np.sin(np.pi * centre / size) ** 2
    elif window == "gaussian":
        weights = np.exp(-0.5 * ((centre - size / 2) / (size / 8)) ** 2)
    else:
        raise ValueError(f"unknown window {window!r}: choose uniform, hann or gaussian")
    return np.maximum(weights, MIN_WEIGHT)


class Stitcher:
    """Weighted mean, at every pixel, of the values of all patches that cover it.

    map(p) = sum_k w(p - corner_k) v_k(p) / sum_k w(p - corner_k), where v_k is one number per patch or one
    per pixel of the patch. Memory is that of the map, with values per pixel also that of their float64 sums, whatever
    the stride: patches may come in any batches and order, and none is kept.
    """

    def __init__(self, grid: Grid, window: Window = "uniform") -> None:
        self.grid = grid
        self._weights = window_weights(grid.size, window)
        self._window = None if window == "uniform" else np.outer(self._weights, self._weights)
        self._added = np.zeros(len(grid), dtype=bool)
        self._scores = np.zeros((len(grid.rows), len(grid.cols)))
        self._sum = np.zeros((grid.height, grid.width))
        # Patches k, k + period, k + 2 * period, ... of a row of patches do not overlap.
        self._period = -(-grid.size // grid.stride)
        # All columns lie one stride apart, except a last one that was shifted inward.
        self._regular = len(grid.cols) - (grid.cols[-1] % grid.stride != 0)

    def add(self, start: int, values: np.ndarray) -> None:
        """Add values of the grid positions start .. start + n - 1 (row-major).

        values: (n,) one score per patch, or (n, S, S) one per pixel; any float or integer type. Raises
        ValueError for other shapes, positions outside the grid, and positions that were added before.
        """
        size = self.grid.size
        if values.ndim not in (1, 3) or values.shape[1:] not in ((), (size, size)):
            raise ValueError(f"values must be (n,) or (n, {size}, {size}), got {values.shape}")
        stop = start + len(values)
        if start < 0 or stop > len(self.grid):
            raise ValueError(f"positions {start}..{stop - 1} are not all in the grid of {len(self.grid)}")
        if self._added[start:stop].any():
            raise ValueError(f"some of the positions {start}..{stop - 1} were added before")
        self._added[start:stop] = True
        if values.ndim == 1:
            self._scores.reshape(-1)[start:stop] = values
        else:
            self._add_maps(start, values)

    def finalize(self) -> np.ndarray:
        """The map, (H, W) float32; NaN where no patch lies (only possible without flush edges).

        Raises ValueError while positions are missing, InspectGanError when a value was NaN or infinite.
        """
        if not self._added.all():
            missing = np.flatnonzero(~self._added)
            raise ValueError(f"{len(missing)} of {len(self.grid)} positions are missing, first {missing[0]}")
        grid, weights = self.grid, self._weights
        tops = np.array(grid.rows)
        by_row = _spread(self._scores.T, np.array(grid.cols), weights, grid.width).T
        row_total = _spread(np.ones(len(tops)), tops, weights, grid.height)
        col_total = _spread(np.ones(len(grid.cols)), np.array(grid.cols), weights, grid.width)
        totals = [np.where(total > 0, total, np.nan) for total in (row_total, col_total)]
        result = np.empty((grid.height, grid.width), dtype=np.float32)
        for start in range(0, grid.height, BAND):
            band = slice(start, min(start + BAND, grid.height))
            above = start - grid.size  # no patch that reaches into the band begins above this row
            reaching = slice(*np.searchsorted(tops, (above + 1, band.stop)))
            spread = _spread(by_row[reaching], tops[reaching] - above, weights, band.stop - above + grid.size)
            total = self._sum[band] + spread[grid.size : band.stop - above]
            if not np.isfinite(total).all():
                raise InspectGanError(
                    "the detector returned NaN or infinite scores for this image: "
                    "check the health report of the run and use other weights or train again"
                )
            result[band] = total / totals[0][band, None] / totals[1]
        return result

    def _add_maps(self, start: int, values: np.ndarray) -> None:
        """Split the run of positions at the ends of grid rows."""
        cols = len(self.grid.cols)
        stop = start + len(values)
        edges = [start, *range((start // cols + 1) * cols, stop, cols), stop]
        for first, last in pairwise(edges):
            self._add_run(first // cols, first % cols, values[first - start : last - start])

    def _add_run(self, row: int, col: int, maps: np.ndarray) -> None:
        """Add maps (n, S, S) at consecutive columns of one row of patches."""
        size, stride = self.grid.size, self.grid.stride
        top = self.grid.rows[row]
        windows = sliding_window_view(self._sum[top : top + size], size, axis=1, writeable=True)
        regular = max(0, min(len(maps), self._regular - col))
        left, step = col * stride, self._period * stride
        for phase in range(min(self._period, regular)):
            part = self._weighted(maps[phase : regular : self._period])
            first = left + phase * stride
            windows[:, first : first + (len(part) - 1) * step + 1 : step] += part.transpose(1, 0, 2)
        if regular < len(maps):  # the flush column
            windows[:, self.grid.cols[-1]] += self._weighted(maps[-1])

    def _weighted(self, maps: np.ndarray) -> np.ndarray:
        return maps if self._window is None else maps * self._window


def _spread(values: np.ndarray, positions: np.ndarray, weights: np.ndarray, extent: int) -> np.ndarray:
    """Place weights * values[k] at positions[k] along the first axis, adding where they overlap.

    values: (n, ...); returns (extent, ...) float64.
    """
    spread = np.zeros((extent, *values.shape[1:]))
    for offset, weight in enumerate(weights):
        spread[positions + offset] += weight * values
    return spread
