"""The results of many images as tables: results.csv, regions.csv and results.json."""

import csv
import io
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inspect_gan.imaging.writing import atomic_text
from inspect_gan.scoring.regions import Region
from inspect_gan.scoring.verdict import Verdict, worst

IMAGES_CSV = "results.csv"
REGIONS_CSV = "regions.csv"
RESULTS_JSON = "results.json"

REGION_COLUMNS = (
    *("region", "verdict", "x0", "y0", "x1", "y1", "centroid_x", "centroid_y"),
    *("area_px", "area_um2", "peak", "peak_x", "peak_y", "mean"),
)
IMAGE_COLUMNS = (
    *("image", "verdict", "map_max", "regions", "defect_area_px", "defect_area_percent"),
    *("width", "height", "bit_depth", "map", "overlay", "mask", "error"),
)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What is known of one image after inspection, or why it could not be inspected.

    image: the inspected file. width, height: px. bit_depth: of the file. map_max: highest map value, in
    threshold units. regions: as found, worst first. map, overlay, mask: files written for it, None where not
    written. error: why it failed, None otherwise. seconds: wall time spent on it. Raises ValueError for a
    record that has neither a result nor an error.
    """

    image: Path
    seconds: float
    width: int | None = None
    height: int | None = None
    bit_depth: int | None = None
    map_max: float | None = None
    regions: tuple[Region, ...] = ()
    map: Path | None = None
    overlay: Path | None = None
    mask: Path | None = None
    error: str | None = None

    def __post_init__(self) -> None:
        # Such a record would pass for a good image of which nothing is known.
        if self.error is None and None in (self.width, self.height, self.bit_depth, self.map_max):
            raise ValueError(f"{self.image}: a result without error needs a size, a bit depth and map_max")

    @property
    def verdict(self) -> Verdict:
        """ERROR for a failed image, else the verdict of the worst region, OK without regions."""
        return Verdict.ERROR if self.error is not None else worst(region.verdict for region in self.regions)

    @property
    def defect_area_px(self) -> int | None:
        """Pixels of all regions, those of the mask; None for a failed image."""
        return None if self.error is not None else sum(region.area for region in self.regions)

    @property
    def defect_area_percent(self) -> float | None:
        """Share of the image covered by its regions, 0 to 100; None for a failed image."""
        if self.defect_area_px is None or not self.width or not self.height:
            return None
        return 100 * self.defect_area_px / (self.width * self.height)


def write_results(out: Path, inspections: Sequence[Inspection], header: Mapping[str, Any]) -> None:
    """Write results.csv (per image), regions.csv (per region) and results.json (everything) to `out`.

    header: how the results were made (run, score, stride, threshold, calibration, versions, ...), for the
    JSON file. Paths are relative to `out`. The same results give the same bytes; the time spent is in
    results.json only, so that the tables of two inspections can be compared. Raises InspectGanError when
    `out` cannot be written to.
    """
    images = [_image_row(inspection, out) for inspection in inspections]
    regions = [[_region_row(region) for region in inspection.regions] for inspection in inspections]
    region_rows = [
        {"image": image["image"], **region} for image, found in zip(images, regions, strict=True) for region in found
    ]
    document = {
        "header": plain(header),
        "counts": counts(inspections),
        "images": [
            {**image, "seconds": plain(inspection.seconds), "regions": found}
            for image, inspection, found in zip(images, inspections, regions, strict=True)
        ],
    }
    atomic_text(out / IMAGES_CSV, csv_text(IMAGE_COLUMNS, images))
    atomic_text(out / REGIONS_CSV, csv_text(("image", *REGION_COLUMNS), region_rows))
    atomic_text(out / RESULTS_JSON, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def counts(inspections: Sequence[Inspection]) -> dict[str, int]:
    """Number of images per verdict, every verdict present, OK first."""
    found = Counter(inspection.verdict for inspection in inspections)
    return {verdict.value: found[verdict] for verdict in Verdict}


def relative_path(path: Path, folder: Path) -> str:
    """`path` as seen from `folder`, with forward slashes; absolute where there is no way (another drive)."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:
        return Path(path).absolute().as_posix()


def plain(value: Any) -> Any:
    """`value` as strict JSON can hold it: numbers that are not finite become null, paths and others text."""
    match value:
        case Mapping():
            return {plain(str(key)): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case np.generic():
            return plain(value.item())
        case float():
            return value if math.isfinite(value) else None
        case None | bool() | int():
            return value
        case Path():
            return plain(value.as_posix())
        case _:
            # A file name that is not valid UTF-8 arrives with surrogates, which no UTF-8 file can hold.
            return str(value).encode("utf-8", "replace").decode("utf-8")


def _image_row(inspection: Inspection, out: Path) -> dict[str, Any]:
    def link(path: Path | None) -> str | None:
        return None if path is None else plain(relative_path(path, out))

    return {
        "image": link(inspection.image),
        "verdict": inspection.verdict.value,
        "map_max": _map_value(inspection.map_max),
        "regions": None if inspection.error is not None else len(inspection.regions),
        "defect_area_px": inspection.defect_area_px,
        "defect_area_percent": _rounded(inspection.defect_area_percent),
        "width": inspection.width,
        "height": inspection.height,
        "bit_depth": inspection.bit_depth,
        "map": link(inspection.map),
        "overlay": link(inspection.overlay),
        "mask": link(inspection.mask),
        "error": None if inspection.error is None else plain(inspection.error),
    }


def _region_row(region: Region) -> dict[str, Any]:
    values = (
        *(region.label, region.verdict.value, *region.box, *(round(at, 2) for at in region.centroid)),
        *(region.area, _rounded(region.area_um2), _map_value(region.peak), *region.peak_at),
        _rounded(region.mean),
    )
    return dict(zip(REGION_COLUMNS, values, strict=True))


def _map_value(value: float | None) -> float | None:
    """The shortest decimal that is exactly this float32: rounding cannot move a value across a limit."""
    return None if value is None else plain(float(str(np.float32(value))))


def _rounded(value: float | None) -> float | None:
    return None if value is None else plain(float(f"{value:.6g}"))


def csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """A table with its columns' names; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)  # with its CRLF line ends, else a CR in a name is not quoted
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets an apostrophe in front; numbers stay numbers."""
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return "'" + value
    return value
