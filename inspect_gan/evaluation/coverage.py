"""How much of each defect is found: coverage of ground-truth components at a threshold, by their size.

The pair "pooled pixel ROC, coverage of each defect at 5 % false alarms" is the customary figure of merit for
defects of nanofibrous materials (Carrera et al. 2017; Napoletano et al. 2018).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from inspect_gan.evaluation.defects import Defects
from inspect_gan.evaluation.metrics import PrecisionRecallF1, prf_of_counts

SIZE_EDGES = (200, 800, 3200)  # px where one size class ends and the next begins


@dataclass(frozen=True, eq=False)
class Coverage:
    """Of n defects, in the order of the images and of reading.

    values: (n,) share of a defect's pixels above the threshold. areas: (n,) px. boxes: (n, 4) x0, y0, x1, y1 px,
    x1 and y1 exclusive. images: (n,) numbers of the images. hits, alarms: defect and normal pixels above the threshold,
    of `anomalous` and `normal` ones.
    """

    threshold: float
    values: np.ndarray
    areas: np.ndarray
    boxes: np.ndarray
    images: np.ndarray
    hits: int
    alarms: int
    anomalous: int
    normal: int

    @property
    def fpr(self) -> float:
        """Share of normal pixels above the threshold, NaN without normal pixels."""
        return self.alarms / self.normal if self.normal else float("nan")

    @property
    def pixels(self) -> PrecisionRecallF1:
        """Of defect pixels, at the threshold."""
        return prf_of_counts(self.hits, self.hits + self.alarms, self.anomalous)

    @property
    def median(self) -> float:
        """Of the values, NaN without defects."""
        return _summary(self.values)["median"]

    @property
    def share_above_half(self) -> float:
        """Share of defects covered by half or more, NaN without defects."""
        return _summary(self.values)["share_above_half"]

    @property
    def missed(self) -> int:
        """Number of defects of which no pixel lies above the threshold."""
        return _summary(self.values)["missed"]

    def summary(self) -> dict[str, Any]:
        """Number of defects, median, share_above_half, missed."""
        return _summary(self.values)

    def by_size(self) -> list[dict[str, Any]]:
        """The summary of each size class with its name, "below 200 px" first."""
        between = [f"{low} to {high - 1} px" for low, high in pairwise(SIZE_EDGES)]
        names = [f"below {SIZE_EDGES[0]} px", *between, f"from {SIZE_EDGES[-1]} px"]
        numbers = np.searchsorted(SIZE_EDGES, self.areas, side="right")
        return [{"class": name, **_summary(self.values[numbers == i])} for i, name in enumerate(names)]


def defect_coverage(
    samples: Iterable[tuple[np.ndarray, np.ndarray]], thresholds: Sequence[float]
) -> tuple[Coverage, ...]:
    """Coverage at each threshold of every connected component (8 neighbours); detected means score > threshold.

    samples: (map, mask) of each image, (H, W) float and (H, W) bool, taken one at a time. A threshold at a
    false-alarm rate comes from a first pass over the same maps, `ScoreCurve.threshold_at_fpr(0.05)` by custom; so maps
    can stay on disk and be read twice. Raises ValueError when a map and its mask differ in shape.
    """
    values: list[list[np.ndarray]] = [[] for _ in thresholds]
    above = np.zeros((len(thresholds), 2), dtype=np.int64)  # defect pixels, all pixels
    areas, boxes, images = [np.empty(0, dtype=np.int64)], [np.empty((0, 4), dtype=np.int64)], []
    anomalous = pixels = 0
    for number, (scores, mask) in enumerate(samples):
        if scores.shape != mask.shape:
            raise ValueError(f"map {scores.shape} against mask {mask.shape}")
        mask = mask.astype(bool, copy=False)
        defects, of_defects = Defects(mask), scores[mask].astype(np.float32, copy=False)
        areas.append(defects.areas)
        boxes.append(defects.boxes)
        images.append(np.full(len(defects), number))
        for index, threshold in enumerate(thresholds):
            detected = of_defects > threshold
            values[index].append(defects.coverage(detected))
            # Row by row, so that the comparison needs no second image.
            everywhere = sum(int(np.count_nonzero(row.astype(np.float32, copy=False) > threshold)) for row in scores)
            above[index] += int(detected.sum()), everywhere
        anomalous += len(of_defects)
        pixels += mask.size
    return tuple(
        Coverage(
            threshold=threshold,
            values=np.concatenate(shares) if shares else np.empty(0),
            areas=np.concatenate(areas),
            boxes=np.concatenate(boxes),
            images=np.concatenate(images) if images else np.empty(0, dtype=np.int64),
            hits=int(hits),
            alarms=int(everywhere - hits),
            anomalous=anomalous,
            normal=pixels - anomalous,
        )
        for threshold, shares, (hits, everywhere) in zip(thresholds, values, above, strict=True)
    )


def _summary(values: np.ndarray) -> dict[str, Any]:
    return {
        "defects": len(values),
        "median": float(np.median(values)) if values.size else float("nan"),
        "share_above_half": float((values >= 0.5).mean()) if values.size else float("nan"),
        "missed": int((values == 0).sum()),
    }
