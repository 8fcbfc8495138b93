"""From a decoded image to what a detector sees. Fixed at training, stored with the weights, used everywhere."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, Self

import cv2
import numpy as np
from pydantic import Field, model_validator

from inspect_gan.errors import InspectGanError
from inspect_gan.imaging.image import Image
from inspect_gan.settings import Settings

if TYPE_CHECKING:
    import torch

# Grey values outside these quantiles of the training images do not set the range.
LOW_QUANTILE, HIGH_QUANTILE = 0.001, 0.999
# With range "auto", images that fill less than this share of their bit depth are stretched.
NARROW = 0.5
MAX_SIZE = 2**10  # px of a patch
MAX_SCALE = 4.0


class Preprocess(Settings):
    """size: patch side in px of the rescaled image. channels: 1 (grey) or 3 (RGB). scale: resize factor.

    low, high: grey values, as a share of the bit depth's range, that become 0 and 1; values beyond are kept, not
    clipped. bit_depth: of the training images. scaling: "minus1_1" maps [0, 1] to [-1, 1]; "per_patch_std" gives
    every patch and channel mean 0 and variance 1.
    """

    size: int = Field(ge=1, le=MAX_SIZE)
    channels: Literal[1, 3]
    scale: float = Field(1.0, gt=0, le=MAX_SCALE)
    low: float = Field(0.0, ge=0, le=1)
    high: float = Field(1.0, ge=0, le=1)
    bit_depth: Literal[8, 16, 32] = 8
    scaling: Literal["minus1_1", "per_patch_std"] = "minus1_1"

    @model_validator(mode="after")
    def _has_a_range(self) -> Self:
        if not self.low < self.high:
            raise ValueError(f"low = {self.low:g} is not below high = {self.high:g}")
        return self

    @classmethod
    def fit(
        cls,
        images: Iterable[Image],
        *,
        size: int,
        channels: Literal["auto", 1, 3] = "auto",
        scale: float = 1.0,
        range: Literal["auto", "full", "data"] = "auto",
        scaling: Literal["minus1_1", "per_patch_std"] = "minus1_1",
    ) -> Self:
        """Settle channels and range on the training images; they are read once, in order.

        channels "auto": 3 if any image has colour, else 1. range "full": the bit depth's; "data": the 0.1 to
        99.9 % quantiles of the images; "auto": "data" where that is under half of the full range (12-bit data in
        16-bit files), else "full". Raises InspectGanError for mixed bit depths with a data range.
        """
        low, high, colour = 1.0, 0.0, 1
        depths: dict[int, Image] = {}
        for image in images:
            ends = np.quantile(image.pixels, [LOW_QUANTILE, HIGH_QUANTILE])
            low, high = min(low, float(ends[0])), max(high, float(ends[1]))
            colour = max(colour, image.channels)
            depths.setdefault(image.bit_depth, image)
        if not depths:
            raise InspectGanError("no training images")
        stretch = range == "data" or (range == "auto" and high - low < NARROW)
        if stretch and len(depths) > 1:
            found = ", ".join(f"{image.path or 'an array'} has {depth} bits" for depth, image in depths.items())
            raise InspectGanError(f"training images differ in bit depth ({found}): convert them to one depth")
        if stretch and high <= low:
            raise InspectGanError(f"all training images have the one grey value {low:.4g}: nothing to learn")
        return cls(
            size=size,
            channels=3 if (colour if channels == "auto" else channels) == 3 else 1,
            scale=scale,
            low=low if stretch else 0.0,
            high=high if stretch else 1.0,
            bit_depth=max(depths),
            scaling=scaling,
        )

    @property
    def footprint(self) -> int:
        """Patch side in px of the original image."""
        return int(np.ceil(self.size / self.scale))

    def rescaled_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) of the image a detector sees."""
        return max(round(height * self.scale), 1), max(round(width * self.scale), 1)

    def image(self, image: Image) -> np.ndarray:
        """(h, w, C) float32 with the training range mapped to [0, 1], rescaled.

        Raises InspectGanError when the image is smaller than a patch, or of another bit depth than training where
        the range was taken from the training images.
        """
        name = image.path or "the image"
        if min(self.rescaled_size(image.height, image.width)) < self.size:
            raise InspectGanError(
                f"{name} is {image.height}×{image.width} px, smaller than the patch of "
                f"{self.footprint} px: use a larger image or train with a smaller patches.size"
            )
        if self.high - self.low < 1 and image.bit_depth != self.bit_depth:
            raise InspectGanError(
                f"{name} has {image.bit_depth} bits, the training images had {self.bit_depth} and did not fill their "
                f"range: convert it to {self.bit_depth} bits, or train with patches.range=full"
            )
        pixels = image.converted(self.channels).pixels
        if self.scale != 1:
            height, width = self.rescaled_size(image.height, image.width)
            how = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR
            pixels = cv2.resize(pixels, (width, height), interpolation=how).reshape(height, width, -1)
        pixels = np.subtract(pixels, self.low, dtype=np.float32, order="C")
        pixels /= self.high - self.low
        return pixels

    def tensor(self, patches: "np.ndarray | torch.Tensor") -> "torch.Tensor":
        """(n, S, S, C) cut from `image`'s result -> (n, C, S, S) float32 as detectors take it, on the same device."""
        import torch

        x = torch.as_tensor(patches).permute(0, 3, 1, 2)
        if self.scaling == "minus1_1":
            return (x * 2).sub_(1).contiguous(memory_format=torch.channels_last)
        mean = x.mean(dim=(2, 3), keepdim=True)
        # A flat patch has no deviation to divide by; 1 / sqrt(n) is that of a single lit pixel.
        std = x.std(dim=(2, 3), keepdim=True, correction=0).clamp_min(1 / self.size)
        return ((x - mean) / std).contiguous(memory_format=torch.channels_last)
