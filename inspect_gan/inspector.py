"""The front door: fit on good images, inspect others, save, load."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from inspect_gan import run
from inspect_gan.base_inspector import BaseInspector, ImageLike, size_of, to_image
from inspect_gan.config import DEFAULT_RECIPE, Config, TrainingSettings, load_config, validate
from inspect_gan.datasets.samples import Sample
from inspect_gan.errors import InspectGanError
from inspect_gan.hardware import Precision, resolve_precision
from inspect_gan.imaging import atomic_file
from inspect_gan.scoring.calibration import Calibration, CalibrationFile, calibrate
from inspect_gan.scoring.maps import MapSettings
from inspect_gan.scoring.predict import Predictor

if TYPE_CHECKING:
    from inspect_gan.evaluation.protocol import Evaluation

KEPT = (run.CONFIG, run.WEIGHTS, run.HELD_OUT, run.CALIBRATION, run.HEALTH)


class Inspector(BaseInspector):
    """A trained and calibrated detector.

    Scores never depend on other images. Options not given to `inspect` are the run's own; a new combination is
    calibrated on the held-out normal regions that the run carries.
    """

    predictor: Predictor

    def __init__(self, folder: Path, device: str = "auto"):
        self.folder = folder
        weights = run.load_weights(folder / run.WEIGHTS)
        _, self.record = run.load_record(folder / run.CONFIG)
        self.config = weights.config
        self.preprocess = weights.preprocess
        self.name, self.detector_name = folder.name, self.config.detector["name"]
        self.page, self.info_bar = self.config.data.page, self.config.data.info_bar
        self.health = run.load_health(folder / run.HEALTH)
        self.predictor = Predictor(
            weights.detector,
            weights.preprocess,
            device=device,
            batch_size=self.config.scoring.batch_size,
            deterministic=self.config.training.deterministic,
        )
        self._held_out = run.load_held_out(folder / run.HELD_OUT)
        self._calibrations = CalibrationFile(folder / run.CALIBRATION, weights.digest)

    @classmethod
    def fit(
        cls,
        images: Sequence[ImageLike] | str | Path,
        config: Config | str | Path | None = None,
        *,
        out: str | Path | None = None,
        **budget: Any,
    ) -> "Inspector":
        """Train on normal images.

        images: paths, arrays (H, W[, C]) or a folder. config: a Config, a YAML file or a packaged name such as
        "ganomaly"; None: as for the command `train`, see `training.division.default_config`. out: where to keep the
        run (default: a temporary folder until `save`). budget: `minutes=` or `steps=`, in place of the
        configuration's. Raises InspectGanError for unusable images or settings.
        """
        from inspect_gan.datasets import open_dataset
        from inspect_gan.training.division import default_config
        from inspect_gan.training.fit import Source, fit_run, source_of

        unknown = set(budget) - {"minutes", "steps"}
        if unknown:
            raise TypeError(f"unknown budget {', '.join(sorted(unknown))}: give minutes or steps")
        chosen = config if isinstance(config, Config) else load_config(config or DEFAULT_RECIPE)
        if isinstance(images, str | Path):
            images = [sample.image for sample in open_dataset(Path(images), chosen.data.layout).train]
        if config is None:
            _, chosen = default_config([size_of(image) for image in images])
        training = chosen.training
        if budget:
            values = {**training.model_dump(), "steps": None, "minutes": None, **budget}
            training = validate(TrainingSettings, values, "training", {})
        settings = chosen.model_copy(update={"training": training})
        sources = [
            source_of(Path(image), settings.data)
            if isinstance(image, str | Path)
            else Source(f"image {number}", partial(to_image, image, info_bar=settings.data.info_bar))
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
        return cls(Path(path), device)

    def save(self, path: str | Path) -> None:
        """Copy what inspection needs into a new or empty folder. Raises InspectGanError when it is not empty."""
        target = Path(path)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InspectGanError(f"{target} is not empty: choose another folder")
        for name in KEPT:
            if (self.folder / name).is_file():
                with (self.folder / name).open("rb") as source, atomic_file(target / name) as copy:
                    shutil.copyfileobj(source, copy)

    def held_out_patches(self) -> np.ndarray:
        """Normal patches that were not trained on, (n, S, S, C) float32 as `Preprocess.image` makes them."""
        return run.held_out_patches(self._held_out, self.preprocess)

    def map_settings(self, stride: int | None = None, precision: Precision | None = None) -> MapSettings:
        """The run's map settings, with another stride (px of the rescaled image) or precision if given."""
        scoring, size = self.config.scoring, self.preprocess.size
        chosen = stride or scoring.stride or max(size // 4, 1)
        if chosen > size:
            raise InspectGanError(f"stride {chosen} leaves gaps between patches of {size} px: use at most {size}")
        resolved = resolve_precision(precision or scoring.precision, self.predictor.device.type)
        return MapSettings(chosen, scoring.window, scoring.smooth * size, resolved)

    def calibration(
        self,
        score: str | None = None,
        stride: int | None = None,
        target_fpr: float | None = None,
        precision: Precision | None = None,
    ) -> Calibration:
        """The calibration of a score at a stride, false-alarm rate and precision, made on first use and kept with the
        run."""
        name = self.predictor.detector.score_name(score or self.config.scoring.score)
        settings = self.map_settings(stride, precision)
        rate = self.config.scoring.target_fpr if target_fpr is None else target_fpr

        def make() -> Calibration:
            maps = [self.predictor.score_maps(image, [name], settings)[name] for image in self._held_out]
            return calibrate(maps, name, settings, rate, self.preprocess.footprint)

        return self._calibrations.get(name, settings, rate, make)

    def evaluate(
        self,
        samples: Sequence[Sample],
        out: str | Path,
        *,
        stride: int | None = None,
        scores: Sequence[str] | None = None,
        exact: bool = False,
        raw: bool = False,
        baselines: bool = True,
        figures: bool = True,
        progress: Callable[[str], None] = lambda line: None,
    ) -> "Evaluation":
        """Measure on samples with known truth and write tables and figures to `out`; see `evaluation.protocol`.

        scores: measure only these, the first in the place of the run's score. exact: count every score exactly instead
        of in bins. raw: keep the maps and patch scores of all scores with their labels. baselines: measure what learns
        nothing as well. figures: draw them.
        """
        from inspect_gan.evaluation.protocol import evaluate
        from inspect_gan.evaluation.writing import write_evaluation, write_figures

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
            baselines=baselines,
            progress=progress,
        )
        header: dict[str, Any] = {
            "run": self.name,
            "seed": self.config.seed,
            "detector": self.config.detector,
            "objective": self.config.objective,
            "maps": asdict(calibration.maps),
        }
        write_evaluation(out, evaluation, calibration, header)
        if figures:
            write_figures(out, evaluation, self.read)
        return evaluation
