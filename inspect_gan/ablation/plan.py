"""What a sweep consists of: every combination of its axes on every data set with every seed, each a cell.

A cell is known by the hash of what determines its result: all settings, the contents of the data, the version of this
package. Names of axes, values, data sets and files are not part of it, so a cell that an earlier grid has already run
in the same folder is not run again, whatever it was called there.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import inspect_gan
from inspect_gan.ablation.data import DataFiles
from inspect_gan.ablation.folder import CELL, CELLS, baselines
from inspect_gan.ablation.grid import Grid, Level, axes_of, flat
from inspect_gan.config import (
    DEFAULT_DETECTOR,
    RECIPES,
    Config,
    make_config,
    packaged_configs,
    place_of,
    put,
    read_values,
)
from inspect_gan.detector import Detector, detectors
from inspect_gan.documents import read_json
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import atomic_text
from inspect_gan.objectives import objectives
from inspect_gan.registry import Registry

PLAN = "plan.json"
# What baselines depend on beside the data; a seed only chooses the normal images that they are fitted to.
BASELINE_SETTINGS: Any = {
    "patches": True,
    "data": {"page", "info_bar", "holdout", "holdout_fraction"},
    "scoring": {"stride", "window", "smooth", "target_fpr"},
}
# How often a run saves itself and how it reads images changes no result.
IRRELEVANT = (("training", "checkpoint_minutes"), ("data", "memory_mb"))


@dataclass(frozen=True)
class Combination:
    """One value of every axis. scores: names in the grid -> the detector's."""

    labels: Mapping[str, str]
    config: Config
    scores: Mapping[str, str]


@dataclass(frozen=True)
class NotApplicable:
    labels: Mapping[str, str]
    reason: str


@dataclass(frozen=True)
class Cell:
    """One run: a combination on a data set (by name) with a seed. baselines: name of those with the same settings."""

    id: str
    data: str
    seed: int
    labels: Mapping[str, str]
    scores: Mapping[str, str]
    baselines: str

    @property
    def title(self) -> str:
        values = [value if value not in ("on", "off") else f"{axis}={value}" for axis, value in self.labels.items()]
        return " ".join([*values, self.data, f"seed {self.seed}"])


@dataclass(frozen=True)
class Plan:
    """axes: labels of their values in order. identities: what is hashed, by id; two cells that come to the same run
    share one. data: by name."""

    axes: Mapping[str, tuple[str, ...]]
    scores: tuple[str, ...]
    cells: tuple[Cell, ...]
    not_applicable: tuple[NotApplicable, ...]
    identities: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, DataFiles]

    def detector(self, cell: Cell) -> str:
        return self.identities[cell.id]["config"]["detector"]["name"]


def make_plan(grid: Grid, lines: Mapping[str, str], data: Mapping[str, DataFiles]) -> Plan:
    """Every cell of a grid, seed by seed. lines: where the grid's keys stand.

    Combinations that no detector can run are set apart with the reason. Raises InspectGanError for settings that are
    wrong in themselves, or when nothing can be run.
    """
    found, unfit = combinations(grid, lines)
    cells: list[Cell] = []
    identities: dict[str, dict[str, Any]] = {}
    for seed, (name, files), combination in itertools.product(grid.seeds, data.items(), found):
        config = combination.config.model_copy(update={"seed": seed})
        key = cell_id(config, files.digest)
        identities[key] = identity(config, files.digest)
        beside = baselines_name(config, files.digest)
        cells.append(Cell(key, name, seed, combination.labels, combination.scores, beside))
    axes = {name: tuple(level.label for level in levels) for name, levels in axes_of(grid).items()}
    return Plan(axes, grid.scores, tuple(cells), tuple(unfit), identities, data)


def combinations(grid: Grid, lines: Mapping[str, str]) -> tuple[list[Combination], list[NotApplicable]]:
    """Combinations of the axes that can be run, and those that cannot."""
    axes = axes_of(grid)
    found: list[Combination] = []
    unfit: list[NotApplicable] = []
    for levels in itertools.product(*axes.values()):
        labels = {name: level.label for name, level in zip(axes, levels, strict=True)}
        config = _config(grid, levels, lines)
        if isinstance(config, str):
            unfit.append(NotApplicable(labels, config))
            continue
        try:
            detector = config.build(1)
            scores = {name: detector.score_name(name) for name in grid.scores if _has(detector, name)}
        except InspectGanError as error:  # every setting is right by itself, but not together
            unfit.append(NotApplicable(labels, str(error)))
            continue
        found.append(Combination(labels, config, scores))
    if not found:
        raise InspectGanError(f"no combination of the grid can be run: {unfit[0].reason}")
    for name in grid.scores:
        if not any(name in combination.scores for combination in found):
            raise InspectGanError(f"{lines.get('scores', 'scores')}: no detector of the grid has a score '{name}'")
    for one in found:
        if not one.scores:
            reason = f"{one.config.detector['name']} has none of the scores {', '.join(grid.scores)}"
            unfit.append(NotApplicable(one.labels, reason))
    return [one for one in found if one.scores], unfit


def identity(config: Config, digest: str) -> dict[str, Any]:
    """What determines a cell's result. digest: of its data."""
    return {"version": inspect_gan.__version__, "config": config.model_dump(mode="json"), "data": digest}


def cell_id(config: Config, digest: str) -> str:
    """Short hash of a cell's identity but for settings that change no result."""
    values = identity(config, digest)
    for room, key in IRRELEVANT:
        values["config"][room].pop(key)
    return _hash(values)


def baselines_name(config: Config, digest: str) -> str:
    """Of the baselines that belong beside cells of these settings. digest: of their data."""
    return f"{digest}-{_hash(config.model_dump(mode='json', include=BASELINE_SETTINGS))}"


def write_plan(out: Path, plan: Plan) -> None:
    """Write plan.json and, of new cells, cell.json."""
    for key, values in plan.identities.items():
        path = out / CELLS / key / CELL
        if not path.is_file():
            atomic_text(path, json.dumps(values, indent=1) + "\n")
    document = {
        "axes": {name: list(labels) for name, labels in plan.axes.items()},
        "scores": list(plan.scores),
        "cells": [asdict(cell) for cell in plan.cells],
        "not_applicable": [asdict(one) for one in plan.not_applicable],
        "data": {name: files.to_json() for name, files in plan.data.items()},
    }
    atomic_text(out / PLAN, json.dumps(document, indent=1) + "\n")


def planned_data(out: Path, digest: str) -> DataFiles:
    """The data set of that digest in the plan of a sweep. Raises InspectGanError when there is none."""
    for values in read_plan(out)["data"].values():
        if values["digest"] == digest:
            return DataFiles.from_json(values)
    raise InspectGanError(f"{out / PLAN} names no data set of digest {digest}: start the sweep with its grid")


def planned_scores(out: Path, key: str) -> set[str]:
    """The detector's scores that the plan of a sweep wants of a cell."""
    return wanted_scores(planned_cells(out))[key]


def baselines_to_measure(out: Path, key: str) -> str | None:
    """Name of the baselines that a cell of the plan measures: those beside it, unless they are there. Only cells of the
    grid's first seed do, so that it makes no difference which cell is done first."""
    cells = planned_cells(out)
    names = {cell.baselines for cell in cells if cell.id == key and cell.seed == cells[0].seed}
    return next((name for name in names if baselines(out, name) is None), None)


def planned_cells(out: Path) -> list[Cell]:
    """The cells in the plan of a sweep, as `make_plan` ordered them."""
    return [Cell(**values) for values in read_plan(out)["cells"]]


def wanted_scores(cells: Iterable[Cell]) -> dict[str, set[str]]:
    """The detector's scores by cell id: one run may stand in several places of a grid."""
    wanted: dict[str, set[str]] = {}
    for cell in cells:
        wanted.setdefault(cell.id, set()).update(cell.scores.values())
    return wanted


def read_plan(out: Path) -> dict[str, Any]:
    """What `write_plan` wrote to plan.json."""
    return read_json(out / PLAN)


def _config(grid: Grid, levels: Sequence[Level], lines: Mapping[str, str]) -> Config | str:
    """The configuration of a combination, or why there is none."""
    settings: dict[str, Any] = {}
    places: dict[str, str] = {}
    for source, part in (("base", flat(grid.base)), *((level.source, level.settings) for level in levels)):
        for key, value in part.items():
            settings[key] = value
            if place := place_of(f"{source}.{key}", lines):
                places[key] = place
    name = str(settings.get("detector.name", DEFAULT_DETECTOR))
    detector = detectors.get(name)
    default = detector.default_objective.get(str(settings.get("detector.preset", "default")), "")
    objective = str(settings.get("objective.name", default))
    try:
        if objective in objectives.names():
            detector.check_objective(objective)
    except InspectGanError as error:
        return str(error)
    dispensable = {key for level in levels if level.absent_is_fine for key in level.settings}
    for registry, chosen in ((detectors, name), (objectives, objective)):
        for key in _foreign(settings, registry, chosen):
            if key not in dispensable:
                return f"{chosen} has no setting {key}"
            del settings[key]
    packaged = f"{RECIPES}/{name}" if grid.recipes else name
    values = read_values(packaged)[1] if packaged in packaged_configs() else {}
    for key, value in settings.items():
        put(values, key, value)
    return make_config(values, places)


def _foreign(settings: Mapping[str, Any], registry: Registry[Any], chosen: str) -> list[str]:
    """Keys of a detector's or an objective's settings that `chosen` lacks and another one has."""
    fields = {name: set(registry.get(name).settings_class.model_fields) for name in registry.names()}
    others = set().union(*fields.values()) - fields.get(chosen, set())
    return [key for key in settings if key.startswith(f"{registry.kind}.") and key.split(".")[1] in others]


def _hash(values: Any) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _has(detector: Detector, score: str) -> bool:
    return score == "default" or score in detector.score_table()
