"""What no learning achieves: maps that any detector has to beat before its score means anything."""

import cv2
import numpy as np

from inspect_gan.imaging import Image

SIGMA = 6.0


def baseline_maps(image: Image, sigma: float = SIGMA) -> dict[str, np.ndarray]:
    """{name: (H, W) float32} from local statistics with a Gaussian window of `sigma` px, no training.

    grey: mean grey value; smooth: minus the local standard deviation; bright_smooth: mean minus twice the deviation.
    """
    grey = image.converted(1).pixels[..., 0]
    mean = cv2.GaussianBlur(grey, (0, 0), sigma)
    variance = cv2.GaussianBlur(grey * grey, (0, 0), sigma) - mean * mean
    deviation = np.sqrt(np.maximum(variance, 0))
    return {"grey": mean, "smooth": -deviation, "bright_smooth": mean - 2 * deviation}
