"""Limits that allow for what a person called false alarms in a report."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from inspect_gan.errors import InspectGanError
from inspect_gan.reporting.corrections import alarm_regions, read_corrections
from inspect_gan.reporting.tables import Inspection, plain, relative_path
from inspect_gan.scoring.calibration import MOVED, Calibration
from inspect_gan.scoring.regions import THRESHOLD, largest
from inspect_gan.scoring.units import ROUNDING, converted, read_map

# A peak in other units than those of its map, as a limit: a fresh inspection may find it some roundings higher. Farther
# than what counts as the limit itself, or conversions would raise the map to it, and the limit with each of them.
_ROUNDED = 1 + 2 * ROUNDING


def allowing(
    calibration: Calibration, before: Calibration, corrections: Path, out: Path, found: Iterable[Inspection]
) -> Calibration:
    """`calibration` with the limits that good material would have set if the false alarms had been part of it; the
    threshold and its promise stay, they come from held-out material alone.

    Each alarm counts with its size as it was called one: at a lower threshold, where it would grow into its
    surroundings, it counts no larger. before: calibration of the report, in whose units thresholds are that do not tell
    their raw score. corrections: the file that the report saved. out: folder of the results, found: what it holds.
    Raises InspectGanError where the corrections are not of these results.
    """
    maps = {plain(relative_path(one.image, out)): one.map for one in found if one.map is not None}
    areas, peak, count = np.zeros(len(MOVED), dtype=np.int64), 1.0, 0
    for corrected in read_corrections(corrections).images:
        if corrected.image not in maps:
            raise InspectGanError(
                f"{corrections} corrects {corrected.image}, of which {out} holds no map: give the corrections of its "
                f"own report"
            )
        if not corrected.false_alarms:
            continue
        stored, units = read_map(maps[corrected.image])
        map = converted(stored, units, calibration)
        for here, inside in alarm_regions(corrections, corrected, map, calibration, before):
            values = np.where(inside, map[here], -np.inf)
            areas = np.maximum(areas, _areas(values))
            highest = float(values.max())
            if map is not stored:
                highest = float(np.float32(highest * _ROUNDED))
            peak, count = max(peak, highest), count + 1
    known = zip(calibration.moved, areas.tolist(), strict=False)  # calibrations of earlier versions lack the first
    return replace(
        calibration,
        area_limit=max(calibration.area_limit, int(areas[np.searchsorted(MOVED, THRESHOLD)])),
        peak_limit=max(calibration.peak_limit, peak),
        moved=tuple((share, max(area, own)) for (share, area), own in known),
        false_alarms=count,
    )


def _areas(values: np.ndarray) -> np.ndarray:
    """px of the largest part of a region above each of MOVED. values: (h, w), -inf outside of it."""
    inside = values > -np.inf
    area, lowest = int(inside.sum()), values.min(where=inside, initial=np.inf)
    return np.array([area if level < lowest else largest(values > level) for level in MOVED])
