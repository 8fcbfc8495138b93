"""The grid of a sweep, read from one small YAML file."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from inspect_gan.config import GRIDS, apply_overrides, read_values, validate
from inspect_gan.errors import InspectGanError
from inspect_gan.registry import did_you_mean
from inspect_gan.settings import Settings
from inspect_gan.tricks import TRICKS

# The order of columns; metrics unknown here follow.
METRICS = {
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_aupro": "pixel AUPRO",
    "patch_auroc": "patch AUROC",
    "patch_ap": "patch AP",
    "patch_precision": "patch precision",
    "patch_recall": "patch recall",
    "patch_f1": "patch F1",
    "image_auroc": "image AUROC",
    "coverage": "defects half covered",
    "coverage_from_0": "of the smallest",
}
# Columns of the tables, which no axis may be called like; nor like a metric, or a metric's details, "pixel_ap_low".
RESERVED = (
    *("cell", "data", "seed", "score", "score_name", "status", "reason", "attempts", "seconds", "peak_mb"),
    *("axis", "reference", "value", "metric", "n", "mean", "low", "high", "effect_size", "p", "p_holm"),
    *("patch_threshold", "calibrated_coverage", "calibrated_fpr", "calibrated_fpr_good"),
)


class DrawnData(Settings):
    """Synthetic nanofibres, drawn beside the cells; see `datasets.nanofibres.write_dataset`.

    normal, defective: numbers of images to train on and of images with defects. height, width: px. seed: of the images.
    """

    normal: int = Field(5, ge=1)
    defective: int = Field(6, ge=1)
    height: int = Field(700, ge=32)
    width: int = Field(1024, ge=32)
    seed: int = Field(0, ge=0)


class DataEntry(Settings):
    """A data set, its path alone or these keys.

    train: folder, data-set folder or list file of normal images. test: the same of the test images, None: the test part
    of `train`. masks: folder of their masks, None: those the data set knows. layout: how `train` lies on disk, see
    `data.layout`. draw: synthetic nanofibres in place of `train`.
    """

    train: Path | None = None
    test: Path | None = None
    masks: Path | None = None
    layout: str = "auto"
    draw: DrawnData | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"train": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> "DataEntry":
        if (self.train is None) == (self.draw is None):
            raise ValueError("give train (normal images) or draw (synthetic nanofibres)")
        return self


class Limits(Settings):
    """minutes: wall clock of one cell over all its attempts, and anew for scores that a later grid asks of it; None for
    no limit. memory_mb: peak memory of its process, None for no limit."""

    minutes: float | None = Field(None, gt=0)
    memory_mb: float | None = Field(None, gt=0)


class Grid(Settings):
    """What is varied and what is measured.

    data: data sets by name. seeds: one cell for each. recipes: cells start from the packaged recipes of their
    detectors, not from the plain configurations. base: settings of every cell (dotted keys) over the packaged
    configuration of its detector. axes: by name, either values of the setting of that name, or named sets of settings.
    tricks: each an axis off/on. scores: what is measured of every cell, "default" for the detector's published one.
    limits: of one cell.
    """

    data: dict[str, DataEntry] = Field(min_length=1)
    seeds: tuple[int, ...] = Field((0, 1, 2, 3, 4), min_length=1)
    recipes: bool = False
    base: dict[str, Any] = Field(default_factory=dict)
    axes: dict[str, Any] = Field(default_factory=dict)
    tricks: tuple[str, ...] = ()
    scores: tuple[str, ...] = Field(("default", "res_ssim"), min_length=1)
    limits: Limits = Limits()

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if min(value) < 0 or len(set(value)) < len(value):
            raise ValueError("seeds are different whole numbers from 0")
        return value

    @field_validator("axes")
    @classmethod
    def _axes(cls, value: dict[str, Any]) -> dict[str, Any]:
        details = tuple(f"{metric}_" for metric in METRICS)
        for name, levels in value.items():
            if name in (*RESERVED, *METRICS, *TRICKS) or name.startswith(details):
                raise ValueError(f"no axis may be called '{name}'")
            sets = isinstance(levels, dict) and all(isinstance(one, dict) for one in levels.values())
            values = isinstance(levels, list) and not any(isinstance(one, list | dict) for one in levels)
            if not levels or not (sets or values):
                raise ValueError(f"axis '{name}' needs a list of values, or names with the settings they stand for")
            if values and len(set(map(label, levels))) < len(levels):
                raise ValueError(f"axis '{name}' has a value twice")
        return value

    @field_validator("tricks")
    @classmethod
    def _tricks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in TRICKS:
                raise ValueError(f"unknown trick '{name}': {did_you_mean(name, TRICKS)}")
        return value


@dataclass(frozen=True)
class Level:
    """A value of an axis. settings: dotted keys. source: dotted key of the grid under which they stand.
    absent_is_fine: a detector that lacks one of the settings has this level all the same."""

    label: str
    settings: Mapping[str, Any]
    source: str
    absent_is_fine: bool = False


def label(value: Any) -> str:
    """A YAML scalar as it is written."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def load_grid(source: str | Path, overrides: Iterable[str] = ()) -> tuple[Grid, dict[str, str]]:
    """A grid from a YAML file or the name of a packaged one, and where its keys stand.

    Paths in a file are relative to it, those in overrides to the current folder. Raises InspectGanError naming the
    file, the line, the key and the nearest valid key.
    """
    path, values, lines = read_values(source, GRIDS)
    data = values.get("data")
    if isinstance(data, dict):
        values["data"] = {name: _beside(path.parent, entry) for name, entry in data.items()}
    apply_overrides(values, lines, overrides)
    if "data" not in values:
        raise InspectGanError(f"{path}: the grid names no data: add, say, `data: {{nanofibres: {{draw: {{}}}}}}`")
    grid = validate(Grid, values, "", lines)
    _check_keys(grid)
    return grid, lines


def axes_of(grid: Grid) -> dict[str, tuple[Level, ...]]:
    """Levels of every axis, in the order of the grid, tricks last."""
    found: dict[str, tuple[Level, ...]] = {}
    for name, levels in grid.axes.items():
        if isinstance(levels, list):
            found[name] = tuple(Level(label(value), flat({name: value}), f"axes.{name}") for value in levels)
        else:
            found[name] = tuple(
                Level(str(title), flat(settings), f"axes.{name}.{title}") for title, settings in levels.items()
            )
    for name in grid.tricks:
        trick = TRICKS[name]
        found[name] = Level("off", trick.off, "tricks", absent_is_fine=True), Level("on", trick.on, "tricks")
    return found


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings under dotted keys; `objective: mim` is short for `objective.name: mim`."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}.name" if f"{prefix}{key}" in ("detector", "objective") else f"{prefix}{key}"] = value
    return found


def _beside(folder: Path, entry: Any) -> Any:
    """A data entry whose relative paths start at `folder`."""
    if isinstance(entry, str):
        return str(folder / entry)
    if not isinstance(entry, dict):
        return entry
    paths = {key: str(folder / entry[key]) for key in ("train", "test", "masks") if isinstance(entry.get(key), str)}
    return entry | paths


def _check_keys(grid: Grid) -> None:
    """Raises InspectGanError when two axes set the same key, so that one of them would do nothing."""
    owners: dict[str, str] = {}
    for name, levels in axes_of(grid).items():
        for key in dict.fromkeys(key for level in levels for key in level.settings):
            if key in owners:
                raise InspectGanError(
                    f"axes '{owners[key]}' and '{name}' both set {key}, so that one of them would do nothing: "
                    f"put them into one axis"
                )
            owners[key] = name
    if "seed" in {*owners, *flat(grid.base)}:
        raise InspectGanError("'seed' is no setting of a grid: list the seeds under seeds")
