"""What a person corrected in a report: alarms that are none, and defects that were missed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

import cv2
import numpy as np
from pydantic import Field, ValidationError, model_validator

from inspect_gan.documents import read_json
from inspect_gan.errors import InspectGanError
from inspect_gan.scoring.calibration import Calibration
from inspect_gan.scoring.units import Units
from inspect_gan.settings import Settings

Px = Annotated[int, Field(ge=0, le=2**30)]


class Box(Settings):
    """box: x0, y0, x1, y1 px of the image, x1 and y1 exclusive."""

    box: tuple[Px, Px, Px, Px]

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        x0, y0, x1, y1 = self.box
        if not (x0 < x1 and y0 < y1):
            raise ValueError(f"the box {list(self.box)} is empty")
        return self


class FalseAlarm(Box):
    """A region that was listed at a threshold (threshold units), with its area and the place of its peak, x, y px.

    raw_threshold: the threshold as a raw score, None in files of earlier versions.
    """

    area_px: Px
    peak_at: tuple[Px, Px]
    threshold: Annotated[float, Field(gt=0)]
    raw_threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None


class ImageCorrections(Settings):
    """image: its path in results.csv. width, height: px."""

    image: str
    width: Px
    height: Px
    false_alarms: tuple[FalseAlarm, ...] = ()
    missed: tuple[Box, ...] = ()

    @model_validator(mode="after")
    def _within(self) -> Self:
        for _, _, x1, y1 in (one.box for one in (*self.false_alarms, *self.missed)):
            if x1 > self.width or y1 > self.height:
                raise ValueError(f"a box ends at {x1}, {y1}, beyond the image of {self.width} x {self.height} px")
        for x, y in (alarm.peak_at for alarm in self.false_alarms):
            if x >= self.width or y >= self.height:
                raise ValueError(f"a peak lies at {x}, {y}, beyond the image of {self.width} x {self.height} px")
        return self


class Corrections(Settings):
    """The file that the report saves."""

    format: Literal["inspect-gan-corrections-1"]
    run: str | None = None
    images: tuple[ImageCorrections, ...]


def read_corrections(path: Path) -> Corrections:
    """Raises InspectGanError for a file that is missing or is not what a report saves."""
    try:
        return Corrections.model_validate(read_json(path))
    except (OSError, ValueError) as error:
        what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        why = " ".join(str(what).split())
        raise InspectGanError(f"{path} holds no corrections ({why}): give the file that the report saved") from error


def alarm_regions(
    corrections: Path, made: ImageCorrections, map: np.ndarray, units: Units | Calibration, before: Units | Calibration
) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]:
    """Of each false alarm of an image the region that was called one, at the threshold at which it was: rows and
    columns of its box, and its pixels there, (h, w) bool.

    corrections: the file. map: (H, W) float32, in `units`. before: units of the thresholds that do not tell their raw
    score. Raises InspectGanError where the map is of another size, or not above the threshold there.
    """
    if map.shape != (made.height, made.width):
        raise InspectGanError(
            f"{corrections}: {made.image} has {made.width} x {made.height} px there, its map "
            f"{map.shape[1]} x {map.shape[0]}: give the corrections of this very report"
        )
    for alarm in made.false_alarms:
        region = _region(map, alarm, _threshold(alarm, units, before))
        if region is None:
            raise InspectGanError(
                f"{corrections}: there is no region at {alarm.peak_at[0]}, {alarm.peak_at[1]} of {made.image}: give "
                "the corrections of this very report"
            )
        yield region


def _threshold(alarm: FalseAlarm, units: Units | Calibration, before: Units | Calibration) -> float:
    """At which it was called one, in `units`."""
    raw = alarm.raw_threshold
    if raw is None:
        raw = before.origin + alarm.threshold * (before.threshold - before.origin)
    return (raw - units.origin) / (units.threshold - units.origin)


def _region(map: np.ndarray, alarm: FalseAlarm, threshold: float) -> tuple[tuple[slice, slice], np.ndarray] | None:
    """Its box and pixels; None where nothing is above the threshold.

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
    left, top, width, height, _ = stats[labels[row, column]].tolist()
    here = np.s_[top : top + height, left : left + width]
    return here, labels[here] == labels[row, column]
