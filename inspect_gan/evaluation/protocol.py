"""Measure a run against ground-truth masks: every score of its detector beside baselines that learn nothing."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

from inspect_gan.datasets.samples import Sample
from inspect_gan.errors import InspectGanError, printable
from inspect_gan.evaluation.baselines import Baselines
from inspect_gan.evaluation.coverage import Coverage, defect_coverage
from inspect_gan.evaluation.curves import ScoreCurve
from inspect_gan.evaluation.published import published_protocols
from inspect_gan.evaluation.tally import ScoreResult, Tally, Truth
from inspect_gan.imaging import Image, atomic_file, read_mask, write_tiff
from inspect_gan.patches.grid import Grid
from inspect_gan.patches.labels import patch_labels, patch_sums
from inspect_gan.scoring.calibration import Calibration, conformal_quantile
from inspect_gan.scoring.maps import MapSettings, Take
from inspect_gan.scoring.predict import Predictor
from inspect_gan.scoring.regions import THRESHOLD, find_regions, measure
from inspect_gan.scoring.verdict import Verdict, worst

COVERAGE_FPR = 0.05


@dataclass(frozen=True)
class ImageOutcome:
    """One test image under the run's score at its calibrated threshold.

    peak: highest value of the map. pixels: of the map; pixels_above: those above the threshold. regions_above:
    connected regions above it; listed: those of them that an inspection would list. verdict: of the inspection.
    """

    sample: Sample
    defect_pixels: int
    pixel_auroc: float
    pixel_ap: float
    peak: float
    pixels: int
    pixels_above: int
    regions_above: int
    listed: int
    verdict: Verdict

    @property
    def defective(self) -> bool:
        return self.defect_pixels > 0


@dataclass(frozen=True, eq=False)
class Evaluation:
    """score: the run's own, all but `results` refer to it; results: one per score and baseline.

    coverage: at 5 % pixel false alarms; calibrated: at the calibrated threshold, 1.0 of the maps. pixels, patches: its
    curves. protocols: figures of published protocols, by name.
    """

    score: str
    images: tuple[ImageOutcome, ...]
    results: tuple[ScoreResult, ...]
    coverage: Coverage
    calibrated: Coverage
    pixels: ScoreCurve
    patches: ScoreCurve
    protocols: Mapping[str, Any]

    @property
    def result(self) -> ScoreResult:
        """Of the run's score."""
        return next(result for result in self.results if result.score == self.score)

    @property
    def fpr_of_good_images(self) -> float:
        """Share of the pixels above the calibrated threshold in images without defects, NaN without such images. In
        others a map also exceeds it around a defect, as far as patches see the defect."""
        good = [image for image in self.images if not image.defective]
        return sum(image.pixels_above for image in good) / sum(image.pixels for image in good) if good else float("nan")

    @property
    def defect_pixels(self) -> float:
        """Share of the pixels."""
        return self.coverage.anomalous / (self.coverage.anomalous + self.coverage.normal)


class AllScores:
    """Maps and patch scores of an image: of the detector's scores `names` and of the baselines, if any.

    Patches lie half a patch apart; a baseline's patch score is the mean of its map over the patch.
    """

    def __init__(self, predictor: Predictor, names: Sequence[str], settings: MapSettings, baselines: Baselines | None):
        self._predictor, self._baselines, self._settings = predictor, baselines, settings
        self._detector_names = list(names)
        self._patch_settings = replace(settings, stride=max(predictor.preprocess.size // 2, 1))

    @property
    def names(self) -> dict[str, bool]:
        """{name: is a baseline}."""
        beside = self._baselines.names if self._baselines else ()
        return dict.fromkeys(self._detector_names, False) | dict.fromkeys(beside, True)

    def of_detector(self, image: Image, take: Take) -> tuple[Grid, dict[str, np.ndarray]]:
        """The grid of the patches, {name: (len(grid),)}; the maps go to `take`, see `MapMaker.stream`."""
        fine, patches = self._predictor.stream(image, self._detector_names, self._settings, take)
        grid = replace(fine, stride=self._patch_settings.stride)
        if set(grid.rows) <= set(fine.rows) and set(grid.cols) <= set(fine.cols):
            rows, cols = np.searchsorted(fine.rows, grid.rows), np.searchsorted(fine.cols, grid.cols)
            chosen = (rows[:, None] * len(fine.cols) + cols).ravel()
            patches = {name: values[chosen] for name, values in patches.items()}
        else:
            grid, patches = self._predictor.patch_scores(image, self._detector_names, self._patch_settings)
        return grid, patches

    def of_baselines(self, image: Image, grid: Grid, take: Take | None = None) -> dict[str, np.ndarray]:
        """{name: (len(grid),)}; each map goes to `take` as a whole before the next one is made."""
        patches = {}
        for name, map in self._baselines.maps(image, self._settings) if self._baselines else ():
            patches[name] = (patch_sums(_resized(map, grid), grid) / grid.size**2).astype(np.float32)
            if take is not None:
                take(name, slice(0, len(map)), map)
            del map  # not held while the next one is made
        return patches

    def patch_thresholds(self, held_out: Sequence[Image], samples: int, target_fpr: float) -> dict[str, float]:
        """The conformal quantile of each score's patches on held-out normal images, see `scoring.calibration`."""
        parts: dict[str, list[np.ndarray]] = {name: [] for name in self.names}
        for image in held_out:
            grid, patches = self._predictor.patch_scores(image, self._detector_names, self._patch_settings)
            patches |= self.of_baselines(image, grid)
            for name, part in parts.items():
                part.append(patches[name])
        return {name: conformal_quantile(np.concatenate(part), target_fpr, samples) for name, part in parts.items()}


def evaluate(
    predictor: Predictor,
    calibration: Calibration,
    samples: Sequence[Sample],
    out: Path,
    *,
    names: Sequence[str],
    held_out: Sequence[Image],
    trained: Mapping[str, str],
    load: Callable[[Path], Image],
    exact: bool = False,
    raw: bool = False,
    baselines: bool = True,
    progress: Callable[[str], None] = lambda line: None,
) -> Evaluation:
    """Measure on samples with known truth; writes the maps of the calibration's score, and with `raw` all that was
    counted, into `out`.

    names: scores to measure, the calibration's among them. held_out: the run's normal images. trained: {hash of pixels:
    name} of the training images. load: reads an image. exact: count every score exactly instead of in bins.
    baselines: measure them too. A normal image without a mask counts as one without defects. Nothing is chosen here:
    maps come from the calibration's own settings. An info bar that `load` cuts off is left out of everything, the maps
    that are written included. Raises InspectGanError when a sample's truth is unknown, a mask does
    not fit its image, or a test image was trained on.
    """
    if not samples:
        raise InspectGanError("no images to evaluate: give a folder of test images")
    beside = Baselines(held_out, predictor.preprocess) if baselines else None
    scores = AllScores(predictor, names, calibration.maps, beside)
    thresholds = scores.patch_thresholds(held_out, calibration.samples, calibration.target_fpr)
    tallies = {name: Tally(name, baseline, thresholds[name], exact) for name, baseline in scores.names.items()}
    outcomes: list[ImageOutcome] = []
    patch_parts: list[tuple[np.ndarray, np.ndarray]] = []
    for number, sample in enumerate(samples):
        image = load(sample.image)
        if image.digest in trained:
            raise InspectGanError(
                f"{sample.image} is the training image {trained[image.digest]}: evaluate on unseen images"
            )
        truth = Truth(mask_of(sample, (image.height, image.width), image.info_bar_rows))
        # Of all maps only that of the run's score is held as a whole.
        kept = scores.names if raw else [calibration.score]
        maps = {name: np.empty(truth.mask.shape, dtype=np.float32) for name in kept}
        count = partial(_count, calibration, tallies, truth, maps)
        grid, patches = scores.of_detector(image, count)
        write_tiff(map_file(out, number), maps[calibration.score])
        labels = patch_labels(_resized(truth.mask, grid) > 0.5, grid)
        for name in names:
            curve = tallies[name].end_image(truth, patches[name], labels)
            if name == calibration.score:
                outcomes.append(_outcome(sample, truth, maps[name], curve, calibration))
        patch_parts.append((labels, patches[calibration.score]))
        if not raw:
            maps.clear()  # before the baselines need as much
        of_baselines = scores.of_baselines(image, grid, count)
        for name, values in of_baselines.items():
            tallies[name].end_image(truth, values, labels)
        if raw:
            _write_raw(out / "raw" / f"{number:04d}.npz", truth.mask, labels, maps, patches | of_baselines)
        progress(f"{number + 1} of {len(samples)}: {printable(sample.image.name)}")
    own = tallies[calibration.score]
    at_fpr, calibrated = defect_coverage(
        stored_maps(out, samples), [own.pixels.curve.threshold_at_fpr(COVERAGE_FPR), THRESHOLD]
    )
    labels, values = (np.concatenate(parts) for parts in zip(*patch_parts, strict=True))
    return Evaluation(
        score=calibration.score,
        images=tuple(outcomes),
        results=tuple(tally.result() for tally in tallies.values()),
        coverage=at_fpr,
        calibrated=calibrated,
        pixels=own.pixels.curve,
        patches=own.patches.curve,
        protocols=published_protocols(labels, values, own.patches.curve, own.pixels.curve),
    )


def mask_of(sample: Sample, shape: tuple[int, int], info_bar: int = 0) -> np.ndarray:
    """The truth of a picture of this size, (H, W) bool. info_bar: rows that the file of the image, and so of the mask,
    has below the picture; they are left out. Raises InspectGanError where the truth is unknown."""
    if sample.mask is not None:
        return read_mask(sample.mask, (shape[0] + info_bar, shape[1]))[: shape[0]]
    if sample.defective is False:
        return np.zeros(shape, dtype=bool)
    raise InspectGanError(f"{sample.image} has no ground-truth mask: name the folder of masks with --masks")


def map_file(out: Path, number: int) -> Path:
    """Where the map of an image lies, in threshold units."""
    return out / "maps" / f"{number:04d}.tiff"


def stored_maps(out: Path, samples: Sequence[Sample]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The maps of an evaluation, read back from disk so that they never lie in memory together, and their masks."""
    for number, sample in enumerate(samples):
        values = tifffile.imread(map_file(out, number))
        # The mask fits the image, as was seen when the map was made, and may go on below it with an info bar.
        yield values, np.zeros(values.shape, bool) if sample.mask is None else read_mask(sample.mask)[: len(values)]


def _count(
    calibration: Calibration,
    tallies: Mapping[str, Tally],
    truth: Truth,
    maps: Mapping[str, np.ndarray],
    name: str,
    rows: slice,
    values: np.ndarray,
) -> None:
    """Count rows of a raw map, the run's score in threshold units, and put them into the map of that name, if any."""
    if name == calibration.score:
        values = calibration.normalise(values)
    tallies[name].add(truth, rows, values)
    if name in maps:
        maps[name][rows] = values


def _resized(values: np.ndarray, grid: Grid) -> np.ndarray:
    """A map or mask (H, W) at the size of the rescaled image; what is resized becomes float32."""
    if values.shape == (grid.height, grid.width):
        return values
    return cv2.resize(values.astype(np.float32, copy=False), (grid.width, grid.height), interpolation=cv2.INTER_AREA)


def _outcome(
    sample: Sample, truth: Truth, units: np.ndarray, curve: ScoreCurve, calibration: Calibration
) -> ImageOutcome:
    regions = find_regions(units, calibration.limits())
    return ImageOutcome(
        sample=sample,
        defect_pixels=truth.defect_pixels,
        pixel_auroc=curve.auroc(),
        pixel_ap=curve.average_precision(),
        peak=float(units.max()),
        pixels=units.size,
        pixels_above=int((units > THRESHOLD).sum()),
        regions_above=len(measure(units)),
        listed=len(regions),
        verdict=worst([region.verdict for region in regions]),
    )


def _write_raw(
    path: Path,
    mask: np.ndarray,
    labels: np.ndarray,
    maps: Mapping[str, np.ndarray],
    patches: Mapping[str, np.ndarray],
) -> None:
    arrays: dict[str, Any] = {f"map/{name}": values for name, values in maps.items()}
    arrays |= {f"patch/{name}": values for name, values in patches.items()}
    with atomic_file(path) as file:
        np.savez(file, mask=mask, patch_labels=labels, **arrays)
