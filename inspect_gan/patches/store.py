"""The normal images of a training run, in memory or, when they are too many, in one temporary file."""

import tempfile
from collections.abc import Callable, Iterable
from typing import IO, NamedTuple

import numpy as np

from inspect_gan.errors import InspectGanError

DTYPES = (np.uint8, np.uint16, np.float32)
ALIGNMENT = 64  # bytes; offsets in the file stay valid for every sample type


class PatchStore:
    """Images to crop patches from, kept in the sample type of their files (a quarter of float32 for 8 bits).

    raws: arrays (H, W, C) of uint8, uint16 or float32, or functions that load one each, taken one by one.
    When they exceed `memory_limit_mb` (MB of 10^6 bytes) they move to a file in the system's temporary
    directory (environment variable TMPDIR), which the operating system pages in as needed. The file has no
    name: nothing is left behind once the store is closed or forgotten, even by a killed process.

    Arrays are read-only. Raises InspectGanError when the images differ in the number of channels or the
    temporary directory is full, ValueError for other arrays.
    """

    def __init__(self, raws: Iterable[np.ndarray | Callable[[], np.ndarray]], memory_limit_mb: float) -> None:
        self._images: list[np.ndarray] = []
        file: IO[bytes] | None = None
        layout: list[_Place] = []
        used = 0.0
        channels = 0
        for number, raw in enumerate(raws, start=1):
            image = _checked(raw() if callable(raw) else raw)
            channels = channels or image.shape[2]
            if image.shape[2] != channels:
                raise InspectGanError(
                    f"normal image number {number} has {image.shape[2]} channel(s) and the first {channels}: "
                    "use images that are all grey or all colour"
                )
            self._images.append(image)
            used += image.nbytes / 1e6
            try:
                if file is None and used > memory_limit_mb:
                    file = tempfile.TemporaryFile()  # noqa: SIM115  closed below, once it is mapped
                while file is not None and self._images:
                    layout.append(_write(file, self._images.pop(0)))
            except OSError as error:
                raise InspectGanError(
                    f"{used:.0f} MB or more of images do not fit in {tempfile.gettempdir()} ({error}): "
                    f"point TMPDIR to a larger disk or raise the memory limit of {memory_limit_mb:g} MB"
                ) from error
        self.on_disk = file is not None
        if file is not None:
            with file:
                self._images = _mapped(file, layout)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> np.ndarray:
        """Image number `index`, (H, W, C), read-only."""
        return self._images[index]

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of each image."""
        return tuple((image.shape[0], image.shape[1]) for image in self._images)

    def close(self) -> None:
        """Forget the images, and with them the temporary file."""
        self._images.clear()


class _Place(NamedTuple):
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype
    nbytes: int


def _checked(image: np.ndarray) -> np.ndarray:
    """A contiguous read-only view of the image, a copy only where its memory is not contiguous."""
    if image.ndim != 3 or image.dtype not in DTYPES:
        raise ValueError(f"images must be (H, W, C) uint8, uint16 or float32, got {image.shape} {image.dtype}")
    view = np.ascontiguousarray(image).view()
    view.flags.writeable = False
    return view


def _write(file: IO[bytes], image: np.ndarray) -> _Place:
    offset = -(-file.tell() // ALIGNMENT) * ALIGNMENT
    file.seek(offset)
    file.write(image.data)
    return _Place(offset, image.shape, image.dtype, image.nbytes)


def _mapped(file: IO[bytes], layout: list[_Place]) -> list[np.ndarray]:
    """Read-only views of one memory map, which outlives the file object and ends with the last view."""
    file.flush()
    memory = np.memmap(file, dtype=np.uint8, mode="r")
    return [
        np.asarray(memory[place.offset : place.offset + place.nbytes]).view(place.dtype).reshape(place.shape)
        for place in layout
    ]
