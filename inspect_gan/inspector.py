"""The front door: fit on good images, inspect others, save, load."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspect_gan import run
from inspect_gan.config import Config, load_config
from inspect_gan.datasets.samples import Sample
from inspect_gan.errors import InspectGanError
from inspect_gan.hardware import resolve_precision
from inspect_gan.imaging import Image, read
from inspect_gan.imaging.arrays import from_array
from inspect_gan.scoring.calibration import Calibration, CalibrationFile, calibrate
from inspect_gan.scoring.predict import MapSettings, Predictor
from inspect_gan.scoring.regions import Region, find_regions, mask_of
from inspect_gan.scoring.verdict import Verdict, worst

if TYPE_CHECKING:
    from inspect_gan.evaluation.protocol import Evaluation

ImageLike = str | Path | np.ndarray | Image
KEPT = (run.CONFIG, run.WEIGHTS, run.HELD_OUT, run.CALIBRATION, run.HEALTH)


@dataclass(frozen=True, eq=False)
class Result:
    """What was found in one image.

    score: highest value of the map. map: (H, W) float32 in threshold units, 1.0 = threshold. mask: (H, W) bool, the
    listed regions. regions: worst first.
    """

    verdict: Verdict
    score: float
    map: np.ndarray
    mask: np.ndarray
    regions: tuple[Region, ...]


class Inspector:
    """A trained and calibrated detector.

    Scores never depend on other images. Options not given to `inspect` are the run's own; a new combination is
    calibrated on the held-out normal regions that the run carries.
    """

    def __init__(self, folder: Path, device: str = "auto"):
        self.folder = folder
        weights = run.load_weights(folder / run.WEIGHTS)
        _, self.record = run.load_record(folder / run.CONFIG)
        self.config = weights.config
        self.preprocess = weights.preprocess
        self.predictor = Predictor(
            weights.detector, weights.preprocess, device=device, batch_size=self.config.scoring.batch_size
        )
        self._held_out = run.load_held_out(folder / run.HELD_OUT)
        self._calibrations = CalibrationFile(folder / run.CALIBRATION)

    @classmethod
    def fit(
        cls,
        images: Sequence[ImageLike] | str | Path,
        config: Config | str | Path = "ganomaly",
        *,
        out: str | Path | None = None,
        **budget: Any,
    ) -> "Inspector":
        """Train on normal images.

        images: paths, arrays (H, W[, C]) or a folder. config: a Config, a YAML file or a packaged name such as
        "ganomaly". out: where to keep the run (default: a temporary folder until `save`). budget: `minutes=` or
        `steps=`. Raises InspectGanError for unusable images or settings.
        """
        from inspect_gan.datasets import open_dataset
        from inspect_gan.training.fit import Source, fit_run, source_of

        unknown = set(budget) - {"minutes", "steps"}
        if unknown:
            raise TypeError(f"unknown budget {', '.join(sorted(unknown))}: give minutes or steps")
        settings = config if isinstance(config, Config) else load_config(config)
        training = settings.training.model_copy(update=budget)
        settings = settings.model_copy(update={"training": training})
        if isinstance(images, str | Path):
            images = [sample.image for sample in open_dataset(Path(images), settings.data.layout).train]
        sources = [
            source_of(Path(image), settings.data.page)
            if isinstance(image, str | Path)
            else Source(f"image {number}", partial(to_image, image))
            for number, image in enumerate(images)
        ]
        folder = Path(out) if out is not None else Path(tempfile.mkdtemp(prefix="inspect-gan-")) / "run"
        fit_run(sources, settings, folder)
        inspector = cls.load(folder)
        inspector.calibration()
        return inspector

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> "Inspector":
        """Open a run directory. Raises InspectGanError when it is incomplete or damaged."""
        folder = Path(path)
        if not folder.is_dir():
            raise InspectGanError(f"{folder} is not a run directory: give the folder that `train --out` wrote")
        return cls(folder, device)

    def save(self, path: str | Path) -> None:
        """Copy what inspection needs into a new or empty folder. Raises InspectGanError when it is not empty."""
        target = Path(path)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InspectGanError(f"{target} is not empty: choose another folder")
        target.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, target / name)

    def read(self, image: ImageLike) -> Image:
        """An image as the run reads it: the same page of multi-page files as in training."""
        return to_image(image, self.config.data.page)

    def map_settings(self, stride: int | None = None) -> MapSettings:
        """The run's map settings, with another stride (px of the rescaled image) if given."""
        scoring, size = self.config.scoring, self.preprocess.size
        chosen = stride or scoring.stride or max(size // 4, 1)
        if chosen > size:
            raise InspectGanError(f"stride {chosen} leaves gaps between patches of {size} px: use at most {size}")
        precision = resolve_precision(scoring.precision, self.predictor.device.type)
        return MapSettings(chosen, scoring.window, scoring.smooth * size, precision)

    def calibration(
        self, score: str | None = None, stride: int | None = None, target_fpr: float | None = None
    ) -> Calibration:
        """The calibration of a score at a stride and false-alarm rate, made on first use and kept with the run."""
        name = self.predictor.detector.score_name(score or self.config.scoring.score)
        settings = self.map_settings(stride)
        rate = target_fpr or self.config.scoring.target_fpr

        def make() -> Calibration:
            maps = [self.predictor.score_maps(image, [name], settings)[name] for image in self._held_out]
            return calibrate(maps, name, settings, rate, self.preprocess.footprint)

        return self._calibrations.get(name, settings, rate, make)

    def inspect(
        self,
        image: ImageLike,
        *,
        score: str | None = None,
        stride: int | None = None,
        target_fpr: float | None = None,
        min_area: int = 1,
        um_per_px: float | None = None,
    ) -> Result:
        """Map, mask, regions and verdict of one image.

        min_area: px, smaller regions are ignored. um_per_px: scale for areas in µm². Raises InspectGanError for
        an unreadable image, one smaller than a patch, or a target rate that the held-out material cannot support.
        """
        calibration = self.calibration(score, stride, target_fpr)
        picture = self.read(image)
        raw = self.predictor.score_maps(picture, [calibration.score], self.map_settings(stride))
        units = calibration.normalise(raw[calibration.score])
        regions = find_regions(units, calibration.limits(min_area), um_per_px)
        return Result(
            verdict=worst([region.verdict for region in regions]),
            score=float(units.max()),
            map=units,
            mask=mask_of(units, regions),
            regions=regions,
        )

    def evaluate(
        self,
        samples: Sequence[Sample],
        out: str | Path,
        *,
        stride: int | None = None,
        scores: Sequence[str] | None = None,
        exact: bool = False,
        raw: bool = False,
        progress: Callable[[str], None] = lambda line: None,
    ) -> "Evaluation":
        """Measure on samples with known truth and write tables and figures to `out`; see `evaluation.protocol`.

        scores: measure only these, the first in the place of the run's score. exact: count every score exactly instead
        of in bins. raw: keep the maps and patch scores of all scores with their labels.
        """
        from inspect_gan.evaluation.protocol import evaluate
        from inspect_gan.evaluation.writing import write_evaluation

        detector, out = self.predictor.detector, Path(out)
        names = list(dict.fromkeys(map(detector.score_name, scores or detector.score_table())))
        calibration = self.calibration(names[0] if scores else None, stride)
        evaluation = evaluate(
            self.predictor,
            calibration,
            samples,
            out,
            names=names,
            held_out=self._held_out,
            trained={entry["digest"]: entry["name"] for entry in self.record["data"]},
            load=self.read,
            exact=exact,
            raw=raw,
            progress=progress,
        )
        header: dict[str, Any] = {
            "run": self.folder.name,
            "seed": self.config.seed,
            "detector": self.config.detector,
            "objective": self.config.objective,
            "maps": asdict(calibration.maps),
        }
        write_evaluation(out, evaluation, calibration, header, self.read)
        return evaluation


def to_image(image: ImageLike, page: int | None = None) -> Image:
    """A path is read, an array is taken as `imaging.arrays.from_array` describes."""
    if isinstance(image, Image):
        return image
    return from_array(image) if isinstance(image, np.ndarray) else read(image, page=page)
