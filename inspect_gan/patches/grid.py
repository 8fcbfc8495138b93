"""Where the patches of an image lie: integer geometry only, no pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from inspect_gan.errors import InspectGanError


@dataclass(frozen=True)
class Grid:
    """Square patches of `size` pixels, `stride` pixels apart, row by row over a `height` x `width` image.

    With `flush_edges` a last row and column are shifted inward to end exactly at the border, so that every
    pixel is covered and every patch consists of real pixels. Without, patches lie only in the area that whole
    patches tile from the top left, `size * (extent // size)` along each axis: the count of published patch
    benchmarks (`2 * (extent // size) - 1` at a stride of half a patch); pixels beyond it are not covered.

    Raises InspectGanError, without a file name (the caller knows it), when the patch does not fit in the
    image or the stride would leave gaps between patches; ValueError when `size` is not positive.
    """

    height: int
    width: int
    size: int
    stride: int
    flush_edges: bool = True

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"the patch size must be at least 1 pixel, got {self.size}")
        if min(self.height, self.width) < self.size:
            raise InspectGanError(
                f"the image has {self.height} x {self.width} pixels (height x width), less than one patch of "
                f"{self.size} x {self.size}: use larger images or train with a smaller patch size"
            )
        if not 1 <= self.stride <= self.size:
            raise InspectGanError(
                f"stride {self.stride} does not cover the image with {self.size}-pixel patches: "
                f"choose a stride from 1 to {self.size}"
            )

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """Top edges of the rows of patches, ascending."""
        return self._positions(self.height)

    @cached_property
    def cols(self) -> tuple[int, ...]:
        """Left edges of the columns of patches, ascending."""
        return self._positions(self.width)

    def __len__(self) -> int:
        return len(self.rows) * len(self.cols)

    def boxes(self) -> Iterator[tuple[int, int, int, int]]:
        """(top, left, bottom, right) of each patch in row-major order; bottom and right are exclusive."""
        for top in self.rows:
            for left in self.cols:
                yield top, left, top + self.size, left + self.size

    def _positions(self, extent: int) -> tuple[int, ...]:
        last = extent - self.size if self.flush_edges else (extent // self.size - 1) * self.size
        positions = list(range(0, last + 1, self.stride))
        if self.flush_edges and positions[-1] != last:
            positions.append(last)
        return tuple(positions)
