"""Images in and out: 8-bit, 16-bit and floating-point files become float32 in [0, 1], bit depth kept."""

from inspect_gan.imaging.image import Image
from inspect_gan.imaging.reading import (
    IMAGE_SUFFIXES,
    RawImage,
    read,
    read_mask,
    read_raw,
    read_size,
    to_float,
    to_mask,
    to_samples,
)
from inspect_gan.imaging.writing import (
    atomic_bytes,
    atomic_file,
    atomic_text,
    make_folder,
    remove_unfinished,
    write_png,
    write_tiff,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "Image",
    "RawImage",
    "atomic_bytes",
    "atomic_file",
    "atomic_text",
    "make_folder",
    "read",
    "read_mask",
    "read_raw",
    "read_size",
    "remove_unfinished",
    "to_float",
    "to_mask",
    "to_samples",
    "write_png",
    "write_tiff",
]
