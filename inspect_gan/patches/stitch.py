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
    per pixel of the patch. Patches may come in any batches and order, and none is kept. Where they come in the order of
    the grid and rows are taken as soon as they are ready, memory is that of a few rows of patches and 9 bytes per
    position of the grid.
    """

    def __init__(self, grid: Grid, window: Window = "uniform") -> None:
        self.grid = grid
        self._weights = window_weights(grid.size, window)
        self._window = None if window == "uniform" else np.outer(self._weights, self._weights)
        self._added = np.zeros(len(grid) + 1, dtype=bool)  # with a last one that is never added, where searches end
        self._missing = 0  # first position that was not added
        self._scores = np.zeros((len(grid.rows), len(grid.cols)))
        self._top = 0  # first row that was not taken
        self._sum = np.zeros((0, grid.width))  # of values per pixel, from that row on
        self._tops, self._lefts = np.array(grid.rows), np.array(grid.cols)
        self._row_total, self._col_total = (
            np.where(total > 0, total, np.nan)
            for total in (
                _spread(np.ones(len(self._tops)), self._tops, self._weights, grid.height),
                _spread(np.ones(len(self._lefts)), self._lefts, self._weights, grid.width),
            )
        )
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
        if start == self._missing:
            self._missing = stop + int(np.argmin(self._added[stop:]))
        if values.ndim == 1:
            self._scores.reshape(-1)[start:stop] = values
        else:
            self._add_maps(start, values)

    @property
    def ready(self) -> int:
        """How many rows `take` would return: those not taken before that no missing position reaches."""
        row = self._missing // len(self._lefts)
        return int(self._tops[row] if row < len(self._tops) else self.grid.height) - self._top

    def take(self) -> np.ndarray:
        """The next `ready` rows of the map, (n, W) float32; NaN where no patch lies (only possible without flush
        edges). They are forgotten.

        Raises InspectGanError when a value was NaN or infinite.
        """
        size, band = self.grid.size, slice(self._top, self._top + self.ready)
        above = band.start - size  # no patch that reaches into the band begins above this row
        reaching = slice(*np.searchsorted(self._tops, (above + 1, band.stop)))
        by_row = _spread(self._scores[reaching].T, self._lefts, self._weights, self.grid.width).T
        spread = _spread(by_row, self._tops[reaching] - above, self._weights, band.stop - above + size)
        total = spread[size : band.stop - above]
        of_maps = self._sum[: len(total)]
        total[: len(of_maps)] += of_maps
        if not np.isfinite(total).all():
            raise InspectGanError(
                "the detector returned NaN or infinite scores for this image: "
                "check the health report of the run and use other weights or train again"
            )
        total /= self._row_total[band, None]
        total /= self._col_total
        self._top, self._sum = band.stop, self._sum[len(of_maps) :].copy()
        return total.astype(np.float32)

    def finalize(self) -> np.ndarray:
        """All rows that were not taken, as `take` returns them; raises ValueError while positions are missing."""
        if self._missing < len(self.grid):
            missing = np.flatnonzero(~self._added[:-1])
            raise ValueError(f"{len(missing)} of {len(self.grid)} positions are missing, first {missing[0]}")
        return self.take()

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
        windows = sliding_window_view(self._sums(self.grid.rows[row]), size, axis=1, writeable=True)
        regular = max(0, min(len(maps), self._regular - col))
        left, step = col * stride, self._period * stride
        for phase in range(min(self._period, regular)):
            part = self._weighted(maps[phase : regular : self._period])
            first = left + phase * stride
            windows[:, first : first + (len(part) - 1) * step + 1 : step] += part.transpose(1, 0, 2)
        if regular < len(maps):  # the flush column
            windows[:, self.grid.cols[-1]] += self._weighted(maps[-1])

    def _sums(self, top: int) -> np.ndarray:
        """(S, W) the sums of the rows from `top` on, to be added to."""
        first = top - self._top
        stop = first + self.grid.size
        if stop > len(self._sum):
            # Twice what is needed: pages that are never touched take no memory.
            grown = np.zeros((min(2 * stop, self.grid.height - self._top), self.grid.width))
            grown[: len(self._sum)] = self._sum
            self._sum = grown
        return self._sum[first:stop]

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
