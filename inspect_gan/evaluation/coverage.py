"""How much of each defect is found: coverage of ground-truth components at a fixed false-alarm rate.

The pair "pooled pixel ROC, coverage of each defect at 5 % false alarms" is the customary figure of merit for
defects of nanofibrous materials (Carrera et al. 2017; Napoletano et al. 2018).
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from skimage.measure import label


@dataclass(frozen=True, eq=False)
class Coverage:
    """values: (n,) share of the pixels of each defect above the threshold, in the order of the images.

    median: of the values; share_above_half: share of defects covered by half or more (both NaN without
    defects); fpr: share of normal pixels above the threshold (NaN without normal pixels).
    """

    values: np.ndarray
    median: float
    share_above_half: float
    threshold: float
    fpr: float


def defect_coverage(samples: Iterable[tuple[np.ndarray, np.ndarray]], threshold: float) -> Coverage:
    """Coverage of every connected component (8 neighbours) of the masks; detected means score > threshold.

    samples: (map, mask) of each image, (H, W) float and (H, W) bool, taken one at a time. The threshold comes
    from a first pass over the same maps, `PixelCurve.threshold_at_fpr(0.05)` by custom; so maps can stay on
    disk and be read twice. Raises ValueError when a map and its mask differ in shape.
    """
    values: list[np.ndarray] = []
    alarms = normal = 0
    for scores, mask in samples:
        if scores.shape != mask.shape:
            raise ValueError(f"map {scores.shape} against mask {mask.shape}")
        mask = mask.astype(bool)
        detected = scores.astype(np.float32) > threshold
        values.append(_component_shares(detected, mask))
        alarms += int((detected & ~mask).sum())
        normal += int((~mask).sum())
    shares = np.concatenate(values) if values else np.empty(0)
    return Coverage(
        values=shares,
        median=float(np.median(shares)) if shares.size else float("nan"),
        share_above_half=float((shares >= 0.5).mean()) if shares.size else float("nan"),
        threshold=threshold,
        fpr=alarms / normal if normal else float("nan"),
    )


def _component_shares(detected: np.ndarray, mask: np.ndarray) -> np.ndarray:
    components, count = label(mask, connectivity=2, return_num=True)
    sizes = np.bincount(components.ravel(), minlength=count + 1)[1:]
    found = np.bincount(components[detected & mask], minlength=count + 1)[1:]
    return found / sizes
