"""The normal images of a training run, in memory or, when they are too many, in one temporary file."""

import tempfile
from collections.abc import Callable, Iterable
from typing import IO

import numpy as np

from inspect_gan.errors import InspectGanError


class PatchStore:
    """Preprocessed images to crop patches from, one behind the other in `pixels`, (N, C) float32.

    images: arrays (H, W, C) of float32, or functions that load one each, taken one by one. When they exceed
    `memory_limit_mb` (MB of 10^6 bytes) they move to a file in the system's temporary directory (environment
    variable TMPDIR), which the operating system pages in as needed. The file has no name: nothing is left behind
    once `pixels` is forgotten, even by a killed process.

    sizes: (height, width) of each image; on_disk: whether they are in the file. Raises InspectGanError when the
    images differ in the number of channels or the temporary directory is full, ValueError for other arrays or none.
    """

    def __init__(self, images: Iterable[np.ndarray | Callable[[], np.ndarray]], memory_limit_mb: float) -> None:
        self.sizes: list[tuple[int, int]] = []
        memory = bytearray()  # grows in place: joining arrays at the end would hold them twice
        file: IO[bytes] | None = None
        used = 0.0
        channels = 0
        for number, given in enumerate(images, start=1):
            image = given() if callable(given) else given
            if image.ndim != 3 or image.dtype != np.float32:
                raise ValueError(f"images must be (H, W, C) float32, got {image.shape} {image.dtype}")
            channels = channels or image.shape[2]
            if image.shape[2] != channels:
                raise InspectGanError(
                    f"normal image number {number} has {image.shape[2]} channel(s) and the first {channels}: "
                    "use images that are all grey or all colour"
                )
            self.sizes.append((image.shape[0], image.shape[1]))
            memory += np.ascontiguousarray(image).data
            used += image.nbytes / 1e6
            if used <= memory_limit_mb:
                continue
            try:
                file = file or tempfile.TemporaryFile()  # noqa: SIM115  closed below, once it is mapped
                file.write(memory)
            except OSError as error:
                raise InspectGanError(
                    f"{used:.0f} MB or more of images do not fit in {tempfile.gettempdir()} ({error}): "
                    f"point TMPDIR to a larger disk or raise the memory limit of {memory_limit_mb:g} MB"
                ) from error
            memory.clear()
        if not self.sizes:
            raise ValueError("no images to crop patches from")
        self.on_disk = file is not None
        pixels = np.frombuffer(memory, dtype=np.float32) if file is None else _mapped(file)
        self.pixels = pixels.reshape(-1, channels)


def _mapped(file: IO[bytes]) -> np.ndarray:
    """A memory map of the file, which outlives the file object."""
    with file:
        file.flush()
        # Copy on write: torch takes no read-only arrays, and nobody writes.
        return np.asarray(np.memmap(file, dtype=np.float32, mode="c"))
