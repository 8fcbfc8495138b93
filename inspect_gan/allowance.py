"""Limits that allow for what a person called false alarms in a report."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from inspect_gan.errors import InspectGanError
from inspect_gan.reporting.corrections import FalseAlarm, read_corrections
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
        if map.shape != (corrected.height, corrected.width):
            raise InspectGanError(
                f"{corrections}: {corrected.image} has {corrected.width} x {corrected.height} px there, its map "
                f"{map.shape[1]} x {map.shape[0]}: give the corrections of this very report"
            )
        for alarm in corrected.false_alarms:
            mine = _region(map, alarm, _threshold(alarm, before, calibration))
            if mine is None:
                raise InspectGanError(
                    f"{corrections}: there is no region at {alarm.peak_at[0]}, {alarm.peak_at[1]} of "
                    f"{corrected.image}: give the corrections of this very report"
                )
            areas = np.maximum(areas, mine[0])
            highest = mine[1] if map is stored else float(np.float32(mine[1] * _ROUNDED))
            peak, count = max(peak, highest), count + 1
    known = zip(calibration.moved, areas.tolist(), strict=False)  # calibrations of earlier versions lack the first
    return replace(
        calibration,
        area_limit=max(calibration.area_limit, int(areas[np.searchsorted(MOVED, THRESHOLD)])),
        peak_limit=max(calibration.peak_limit, peak),
        moved=tuple((share, max(area, own)) for (share, area), own in known),
        false_alarms=count,
    )


def _threshold(alarm: FalseAlarm, before: Calibration, calibration: Calibration) -> float:
    """At which it was called one, in units of `calibration`."""
    raw = alarm.raw_threshold
    if raw is None:
        raw = before.origin + alarm.threshold * (before.threshold - before.origin)
    return (raw - calibration.origin) / (calibration.threshold - calibration.origin)


def _region(map: np.ndarray, alarm: FalseAlarm, threshold: float) -> tuple[np.ndarray, float] | None:
    """Its px above each of MOVED, at most those above `threshold`, and its peak; None where nothing is above that.

    A large map is reduced in the viewer, so that the place of the peak is known to some px only: the nearest pixel of
    the box counts.
    """
    x0, y0, x1, y1 = alarm.box
    # Rounding to float32 must not lose a pixel that the report had above the threshold.
    lowest = np.float32(threshold * (1 - 2.0**-20))
    rows, columns = np.nonzero(map[y0:y1, x0:x1] > lowest)
    if not len(rows):
        return None
    x, y = alarm.peak_at
    nearest = np.argmin((columns + x0 - x) ** 2 + (rows + y0 - y) ** 2)
    row, column = int(rows[nearest]) + y0, int(columns[nearest]) + x0
    labels, stats = cv2.connectedComponentsWithStats((map > lowest).view(np.uint8), connectivity=8)[1:3]
    left, top, width, height, area = stats[labels[row, column]].tolist()
    here = np.s_[top : top + height, left : left + width]
    values = np.where(labels[here] == labels[row, column], map[here], -np.inf)
    peak = float(values.max())
    areas = [area if level <= lowest else largest(values > level) for level in MOVED]
    return np.array(areas), peak
