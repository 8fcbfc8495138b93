"""Connected defects of a ground-truth mask, found from runs of pixels: memory follows the defects, not the image."""

from functools import cached_property

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_BLOCK = 1 << 24  # pixels looked through at a time


class Defects:
    """The components of a mask (8 neighbours), numbered by their first pixel in reading order.

    A label image costs four bytes or more per pixel of the image. Here every row's runs of defect pixels are the nodes
    of a graph, and runs that touch in neighbouring rows its edges.

    mask: (H, W) bool, True on defects.
    """

    def __init__(self, mask: np.ndarray):
        self.shape = mask.shape
        self._row, self._start, self._stop = _runs(mask)
        # One coordinate for all rows, wide enough that runs of other rows never seem to touch.
        width = mask.shape[1] + 2
        start, stop = self._row * width + self._start, self._row * width + self._stop
        first = np.searchsorted(stop, start + width, side="left")
        after = np.searchsorted(start, stop + width, side="right")
        touching = np.maximum(after - first, 0)
        upper = np.repeat(np.arange(len(start)), touching)
        lower = np.arange(len(upper)) - np.repeat(np.cumsum(touching) - touching, touching) + np.repeat(first, touching)
        edges = coo_array((np.ones(len(upper), dtype=bool), (upper, lower)), shape=(len(start), len(start)))
        found, owner = connected_components(edges, directed=False)
        order = np.argsort(np.unique(owner, return_index=True)[1])
        self._owner = np.argsort(order)[owner] if found else owner
        self.areas = np.bincount(self._owner, weights=self._lengths, minlength=found).astype(np.int64)

    def __len__(self) -> int:
        """Number of defects."""
        return len(self.areas)

    @property
    def _lengths(self) -> np.ndarray:
        return self._stop - self._start

    @cached_property
    def boxes(self) -> np.ndarray:
        """(n, 4) x0, y0, x1, y1 px, x1 and y1 exclusive."""
        height, width = self.shape
        boxes = np.tile([width, height, 0, 0], (len(self), 1))
        np.minimum.at(boxes[:, 0], self._owner, self._start)
        np.minimum.at(boxes[:, 1], self._owner, self._row)
        np.maximum.at(boxes[:, 2], self._owner, self._stop)
        np.maximum.at(boxes[:, 3], self._owner, self._row + 1)
        return boxes

    def shares_of_pixels(self) -> np.ndarray:
        """(number of defect pixels,) 1 / area of the defect of each, in the order of `values[mask]`."""
        return np.repeat(1 / self.areas[self._owner], self._lengths)

    def coverage(self, detected: np.ndarray) -> np.ndarray:
        """(n,) share of each defect's pixels that was detected. detected: bool, in the order of `values[mask]`."""
        owner = np.repeat(self._owner, self._lengths)
        return np.bincount(owner, weights=detected, minlength=len(self)) / self.areas


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, first column and column after the last of each run of True, in reading order."""
    height, width = mask.shape
    rows = max(_BLOCK // max(width, 1), 1)
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for top in range(0, height, rows):
        padded = np.pad(mask[top : top + rows].astype(bool, copy=False), ((0, 0), (1, 1)))
        row, edge = np.nonzero(padded[:, 1:] != padded[:, :-1])  # runs begin and end in turns
        found.append((row[::2] + top, edge[::2], edge[1::2]))
    row, start, stop = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return row, start, stop
