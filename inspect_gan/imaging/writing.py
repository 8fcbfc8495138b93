"""Write files whole or not at all, and the image formats the reports use."""

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import tifffile

from inspect_gan.errors import InspectGanError, writing
from inspect_gan.locks import lock

_UNFINISHED = re.compile(r"\.[0-9a-f]{32}\.tmp")


@contextmanager
def atomic_file(path: Path | str) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends well and leaves no trace otherwise.

    The data go to a file with a unique name in the same folder, are flushed to the disk, and are renamed.
    Missing parent folders are made.

    Raises InspectGanError when the folder cannot be written to or the disk is full; the old file then stays.
    """
    path = Path(path)
    beside = path.with_name(f".{uuid.uuid4().hex}.tmp")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("xb") as file:
                with suppress(OSError):  # tells `remove_unfinished` that this process lives
                    lock(file)
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:  # an interrupted write must not leave its half behind either
            beside.unlink(missing_ok=True)
            raise


def remove_unfinished(folder: Path) -> None:
    """Delete what killed processes left of `atomic_file` in a folder; files that are being written stay."""
    for path in folder.glob(".*.tmp"):
        if _UNFINISHED.fullmatch(path.name):
            # A folder that cannot be written to will be reported by whoever writes to it.
            with suppress(OSError), path.open("ab") as file:
                lock(file)
                path.unlink()


def make_folder(path: Path) -> None:
    """Make a folder to write to, with the folders above it, and clear it of what killed processes left.

    Raises InspectGanError where it cannot be made.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    remove_unfinished(path)


def atomic_bytes(path: Path | str, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all; see `atomic_file`."""
    with atomic_file(path) as file:
        file.write(data)


def atomic_text(path: Path | str, text: str) -> None:
    """Write `text` to `path` as UTF-8, line ends unchanged, whole or not at all; see `atomic_file`."""
    atomic_bytes(path, text.encode("utf-8"))


def write_png(path: Path | str, array: np.ndarray) -> None:
    """Write (H, W) or (H, W, 1) grey or (H, W, 3) RGB samples, uint8 or uint16, as a PNG of that depth.

    Raises InspectGanError when the file cannot be written, ValueError for an array of another kind.
    """
    grey = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.dtype not in (np.uint8, np.uint16) or not (grey.ndim == 2 or grey.shape[2:] == (3,)) or not grey.size:
        raise ValueError(f"expected uint8 or uint16 of (H, W) or (H, W, 3), not {array.dtype} of {array.shape}")
    ok, encoded = cv2.imencode(".png", grey if grey.ndim == 2 else np.ascontiguousarray(grey[..., ::-1]))
    if not ok:
        raise InspectGanError(f"{path}: {array.shape[1]} x {array.shape[0]} pixels do not fit a PNG; write a TIFF")
    atomic_bytes(path, encoded.tobytes())


def write_tiff(path: Path | str, array: np.ndarray, description: str | None = None) -> None:
    """Write a map or an image, (H, W) or (H, W, 1) grey or (H, W, 3) RGB float32, unchanged (NaN and values past 1
    included) as a TIFF. description: kept in the tag of that name, ASCII.

    Not compressed: to deflate a map takes 0.2 s or more per megapixel and saves an eighth of it.

    Raises InspectGanError when the file cannot be written, ValueError for an array of another kind.
    """
    grey = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.dtype != np.float32 or not (grey.ndim == 2 or grey.shape[2:] == (3,)) or not grey.size:
        raise ValueError(f"expected float32 of (H, W) or (H, W, 3), not {array.dtype} of {array.shape}")
    photometric = "minisblack" if grey.ndim == 2 else "rgb"
    with atomic_file(path) as file:
        tifffile.imwrite(
            file, grey, photometric=photometric, metadata=None, description=description, software="inspect-gan"
        )
