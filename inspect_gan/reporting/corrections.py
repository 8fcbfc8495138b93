"""What a person corrected in a report: alarms that are none, and defects that were missed."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from inspect_gan.documents import read_json
from inspect_gan.errors import InspectGanError
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
