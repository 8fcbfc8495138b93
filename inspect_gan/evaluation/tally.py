"""What is counted of one score, image after image, and the row of the table that comes of it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from inspect_gan.evaluation.bootstrap import IMAGE_BINS, bootstrap
from inspect_gan.evaluation.curves import BINS, ScoreCurve
from inspect_gan.evaluation.defects import Defects
from inspect_gan.evaluation.metrics import PrecisionRecallF1, auroc, prf_of_counts


class Estimate(NamedTuple):
    """low, high: 95 % bootstrap interval over images. error: how far binning can have moved the value. NaN where
    undefined."""

    value: float
    low: float
    high: float
    error: float


@dataclass(frozen=True)
class ScoreResult:
    """Pooled over all test images; undefined figures are NaN.

    pixel: auroc, ap, aupro. patch: auroc, ap. image_auroc: of the maps' highest values. patch_threshold: a patch above
    it counts as found in `patch_found`.
    """

    score: str
    baseline: bool
    pixel: dict[str, Estimate]
    patch: dict[str, Estimate]
    image_auroc: float
    patch_threshold: float
    patch_found: PrecisionRecallF1

    def row(self) -> dict[str, Any]:
        """The flat row of metrics.json: pixel_auroc, pixel_auroc_low, ..., patch_f1."""
        row: dict[str, Any] = {"score": self.score, "baseline": self.baseline}
        for level, estimates in (("pixel", self.pixel), ("patch", self.patch)):
            for metric, (value, *rest) in estimates.items():
                name = f"{level}_{metric}"
                row[name] = value
                row |= {f"{name}_{what}": figure for what, figure in zip(("low", "high", "error"), rest, strict=True)}
        row |= {"image_auroc": self.image_auroc, "patch_threshold": self.patch_threshold}
        return row | {f"patch_{what}": figure for what, figure in self.patch_found._asdict().items()}


class Truth:
    """The mask of an image, (H, W) bool, and what counting some rows of it needs."""

    def __init__(self, mask: np.ndarray):
        self.mask = mask
        self._shares = Defects(mask).shares_of_pixels()
        self._before = np.concatenate([[0], np.cumsum(np.count_nonzero(mask, axis=1))])  # of each row

    @property
    def defect_pixels(self) -> int:
        return len(self._shares)

    def rows(self, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        """The mask in these rows and the shares of its defect pixels, as `ScoreCurve.update` takes them."""
        return self.mask[rows], self._shares[self._before[rows.start] : self._before[rows.stop]]


class Level:
    """The curve of all images, and a coarse one of each for the bootstrap."""

    def __init__(self, limit: int | None):
        self.curve = ScoreCurve(limit)
        self._images: list[ScoreCurve] = []

    def add(self, image: ScoreCurve) -> None:
        """Add the curve of one image."""
        self.curve.merge(image)
        self._images.append(image.coarsened(IMAGE_BINS))

    def estimates(self, *metrics: str) -> dict[str, Estimate]:
        """Of "auroc", "ap" and "aupro"."""
        curve = self.curve
        known = {
            "auroc": (curve.auroc, curve.auroc_error),
            "ap": (curve.average_precision, curve.average_precision_error),
            "aupro": (curve.aupro, curve.aupro_error),
        }
        values = {name: known[name][0]() for name in metrics}
        intervals = bootstrap(self._images, values)
        return {name: Estimate(values[name], *intervals[name], known[name][1]()) for name in metrics}


class Tally:
    """Counts of one score, of some rows of an image after others. patch_threshold: from held-out normal patches. exact:
    never bin."""

    def __init__(self, score: str, baseline: bool, patch_threshold: float, exact: bool = False):
        limit = None if exact else BINS
        self.score, self.baseline, self.patch_threshold = score, baseline, patch_threshold
        self.pixels, self.patches = Level(limit), Level(limit)
        self._found = np.zeros(3, dtype=np.int64)  # hits, flagged, anomalous patches
        self._image = self.pixels.curve.empty()  # what `add` has counted since the last `end_image`
        self._peak = -np.inf
        self._peaks: list[float] = []
        self._defective: list[bool] = []

    def add(self, truth: Truth, rows: slice, values: np.ndarray) -> None:
        """Count the map, (n, W), in rows of an image."""
        self._image.update(values, *truth.rows(rows))
        self._peak = max(self._peak, float(values.max()))

    def end_image(self, truth: Truth, patches: np.ndarray, labels: np.ndarray) -> ScoreCurve:
        """Count the patches of the image whose rows were added, scores and labels (n,).

        Returns the curve of its pixels.
        """
        curve, of_patches = self._image, self.patches.curve.empty()
        of_patches.update(patches, labels)
        self.pixels.add(curve)
        self.patches.add(of_patches)
        flagged = patches > self.patch_threshold
        self._found += int((flagged & labels).sum()), int(flagged.sum()), int(labels.sum())
        self._peaks.append(self._peak)
        self._defective.append(truth.defect_pixels > 0)
        self._image, self._peak = self.pixels.curve.empty(), -np.inf
        return curve

    def result(self) -> ScoreResult:
        hits, flagged, anomalous = self._found.tolist()
        return ScoreResult(
            score=self.score,
            baseline=self.baseline,
            pixel=self.pixels.estimates("auroc", "ap", "aupro"),
            patch=self.patches.estimates("auroc", "ap"),
            image_auroc=auroc(np.array(self._defective), np.array(self._peaks)),
            patch_threshold=self.patch_threshold,
            patch_found=prf_of_counts(hits, flagged, anomalous),
        )
