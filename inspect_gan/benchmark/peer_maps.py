"""The peer's GANomaly as a detector of patches: trains it and writes a map of every test image.

Usage: python peer_maps.py TRAIN TEST OUT MINUTES [SEED], with the peer's own Python: it imports nothing of inspect-gan.
TRAIN, TEST: folders of images. The network, its losses and optimisers are the peer's with its defaults, patches and
batches those of `peer`; it judges whole pictures, here patches of 32 px. A pixel of a map is the mean score of the
patches over it, 16 px apart, smoothed by a Gaussian of 8 px: what inspect-gan does with scores of patches.
Measure them with `inspect-gan evaluate --maps OUT --images ...`.
"""

# mypy: disable-error-code="import-not-found"

import os
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from peer import BATCH, SIZE, model, normalise, optimise, positions

STRIDE = 16
SMOOTH = 8.0


def main(train: str, test: str, out: str, minutes: str, seed: str = "0") -> None:
    torch.manual_seed(int(seed))
    module = model()
    images = [_pixels(path) for path in sorted(Path(train).iterdir())]
    random, steps, end = np.random.default_rng(int(seed)), 0, time.monotonic() + 60 * float(minutes)
    d_opt, g_opt = module.configure_optimizers()
    network = module.model.train()
    while time.monotonic() < end:
        optimise(module, d_opt, g_opt, normalise(_random_patches(images, random)))
        steps += 1
    print(f"{steps} steps")
    network.eval()
    Path(out).mkdir(parents=True, exist_ok=True)
    for path in sorted(Path(test).iterdir()):
        with torch.inference_mode():
            np.save(Path(out) / f"{path.stem}.npy", _map(network, _pixels(path)))


def _pixels(path: Path) -> torch.Tensor:
    """(3, H, W) in [0, 1]."""
    return torch.from_numpy(cv2.imread(str(path))).permute(2, 0, 1) / 255


def _random_patches(images: list[torch.Tensor], random: np.random.Generator) -> torch.Tensor:
    """(BATCH, 3, SIZE, SIZE)."""
    patches = []
    for number in random.integers(len(images), size=BATCH):
        image = images[number]
        top, left = random.integers(image.shape[1] - SIZE + 1), random.integers(image.shape[2] - SIZE + 1)
        patches.append(image[:, top : top + SIZE, left : left + SIZE])
    return torch.stack(patches)


def _map(network: torch.nn.Module, image: torch.Tensor) -> np.ndarray:
    """(H, W) float32."""
    height, width = image.shape[1:]
    boxes = [(top, left) for top in positions(height, STRIDE) for left in positions(width, STRIDE)]
    total, count = np.zeros((2, height, width), np.float32)
    for start in range(0, len(boxes), BATCH):
        part = boxes[start : start + BATCH]
        patches = torch.stack([image[:, top : top + SIZE, left : left + SIZE] for top, left in part])
        for (top, left), score in zip(part, network(normalise(patches)).pred_score.flatten().tolist(), strict=True):
            total[top : top + SIZE, left : left + SIZE] += score
            count[top : top + SIZE, left : left + SIZE] += 1
    return cv2.GaussianBlur(total / count, (0, 0), SMOOTH)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    main(*sys.argv[1:])
