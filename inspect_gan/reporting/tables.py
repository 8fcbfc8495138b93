"""The results of many images as tables: results.csv, regions.csv and results.json."""

import csv
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inspect_gan.errors import writing
from inspect_gan.imaging.writing import atomic_file
from inspect_gan.scoring.regions import Region
from inspect_gan.scoring.verdict import Verdict, worst

IMAGES_CSV = "results.csv"
REGIONS_CSV = "regions.csv"
# Where a formula may begin: at the start of a text, and behind what some spreadsheets take for the end of a cell,
# quoted or not.
FORMULA = re.compile(r"(?:^|(?<=[;\t\r\n]))(?=[=+\-@\t\r\n])")
RESULTS_JSON = "results.json"

REGION_COLUMNS = (
    *("region", "verdict", "x0", "y0", "x1", "y1", "centroid_x", "centroid_y"),
    *("area_px", "area_um2", "diameter_px", "diameter_um", "peak", "peak_x", "peak_y", "mean"),
)
IMAGE_COLUMNS = (
    *("image", "verdict", "map_max", "regions", "defect_area_px", "defect_area_percent"),
    *("defect_area_um2", "defects_per_mm2", "um_per_px", "um_per_px_origin"),
    *("width", "height", "info_bar_px", "bit_depth", "map", "overlay", "mask", "error"),
)
_REGIONS_CSV_COLUMNS = ("image", *REGION_COLUMNS)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What is known of one image after inspection, or why it could not be inspected.

    image: the inspected file. width, height: px, of which info_bar_px rows at the bottom were not inspected. bit_depth:
    of the file. map_max: highest map value, in
    threshold units. regions: as found, worst first. um_per_px: side of a pixel in µm, None when no scale is known;
    um_per_px_origin: what says so. map, overlay, mask, view: files written for it, None where not
    written. error: why it failed, None otherwise. seconds: wall time spent on it. Raises ValueError for a
    record that has neither a result nor an error.
    """

    image: Path
    seconds: float
    width: int | None = None
    height: int | None = None
    info_bar_px: int = 0
    bit_depth: int | None = None
    map_max: float | None = None
    regions: tuple[Region, ...] = ()
    um_per_px: float | None = None
    um_per_px_origin: str | None = None
    map: Path | None = None
    overlay: Path | None = None
    mask: Path | None = None
    view: Path | None = None
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
    def inspected_px(self) -> int:
        """Pixels that were looked at; 0 for a failed image."""
        if self.error is not None or not self.width or not self.height:
            return 0
        return self.width * (self.height - self.info_bar_px)

    @property
    def defect_area_px(self) -> int | None:
        """Pixels of all regions, those of the mask; None for a failed image."""
        return None if self.error is not None else sum(region.area for region in self.regions)

    @property
    def defect_area_percent(self) -> float | None:
        """Share of what was inspected that its regions cover, 0 to 100; None for a failed image."""
        if self.defect_area_px is None or not self.inspected_px:
            return None
        return 100 * self.defect_area_px / self.inspected_px

    @property
    def defect_area_um2(self) -> float | None:
        """None for a failed image and without a scale, as the density."""
        if self.defect_area_px is None or self.um_per_px is None:
            return None
        return self.defect_area_px * self.um_per_px**2

    @property
    def defects_per_mm2(self) -> float | None:
        """Regions per square millimetre of what was inspected."""
        if self.um_per_px is None or not self.inspected_px:
            return None
        return len(self.regions) / (self.inspected_px * (self.um_per_px / 1000) ** 2)


def write_results(out: Path, inspections: Sequence[Inspection], header: Mapping[str, Any]) -> None:
    """Write results.csv (per image), regions.csv (per region) and results.json (everything) to `out`.

    header: how the results were made (run, score, stride, threshold, calibration, versions, ...), for the
    JSON file. Paths are relative to `out`. The same results give the same bytes; the time spent is in
    results.json only, so that the tables of two inspections can be compared. Inspections are taken one by one, several
    times over. Raises InspectGanError when `out` cannot be written to.
    """
    write_tables(out, inspections)
    with atomic_file(out / RESULTS_JSON) as file:
        for part in _document(out, inspections, header):
            file.write(part.encode())


def write_tables(out: Path, inspections: Iterable[Inspection]) -> None:
    """Write results.csv and regions.csv."""
    with atomic_file(out / IMAGES_CSV) as images, atomic_file(out / REGIONS_CSV) as regions:
        images.write(csv_text(IMAGE_COLUMNS, ()).encode())
        regions.write(csv_text(_REGIONS_CSV_COLUMNS, ()).encode())
        for inspection in inspections:
            image_text, regions_text = _csv_lines(inspection, out)
            images.write(image_text.encode())
            regions.write(regions_text.encode())


def extend_tables(out: Path, inspection: Inspection) -> None:
    """Append an inspection to results.csv and regions.csv."""
    for name, text in zip((IMAGES_CSV, REGIONS_CSV), _csv_lines(inspection, out), strict=True):
        with writing(out / name), (out / name).open("ab") as file:
            file.write(text.encode())


def _csv_lines(inspection: Inspection, out: Path) -> tuple[str, str]:
    """Of results.csv and of regions.csv."""
    image = _image_row(inspection, out)
    regions = [{"image": image["image"], **_region_row(region)} for region in inspection.regions]
    return (
        csv_text(IMAGE_COLUMNS, [image], header=False),
        csv_text(_REGIONS_CSV_COLUMNS, regions, header=False),
    )


def _document(out: Path, inspections: Sequence[Inspection], header: Mapping[str, Any]) -> Iterator[str]:
    """results.json in parts; a line per image."""
    yield f'{{"header": {_json(plain(header), indent=1)},\n"counts": {_json(counts(inspections))},\n"images": ['
    for number, inspection in enumerate(inspections):
        entry = {
            **_image_row(inspection, out),
            "seconds": plain(inspection.seconds),
            "regions": [_region_row(region) for region in inspection.regions],
        }
        yield f"{',' if number else ''}\n{_json(entry)}"
    yield "\n]}\n"


def _json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)


def counts(inspections: Iterable[Inspection]) -> dict[str, int]:
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
        "defect_area_um2": _rounded(inspection.defect_area_um2),
        "defects_per_mm2": _rounded(inspection.defects_per_mm2),
        "um_per_px": _rounded(inspection.um_per_px),
        "um_per_px_origin": inspection.um_per_px_origin,
        "width": inspection.width,
        "height": inspection.height,
        "info_bar_px": None if inspection.error is not None else inspection.info_bar_px,
        "bit_depth": inspection.bit_depth,
        "map": link(inspection.map),
        "overlay": link(inspection.overlay),
        "mask": link(inspection.mask),
        "error": None if inspection.error is None else plain(inspection.error),
    }


def _region_row(region: Region) -> dict[str, Any]:
    values = (
        *(region.label, region.verdict.value, *region.box, *(round(at, 2) for at in region.centroid)),
        *(region.area, _rounded(region.area_um2), _rounded(region.diameter), _rounded(region.diameter_um)),
        *(_map_value(region.peak), *region.peak_at, _rounded(region.mean)),
    )
    return dict(zip(REGION_COLUMNS, values, strict=True))


def _map_value(value: float | None) -> float | None:
    """The shortest decimal that is exactly this float32: rounding cannot move a value across a limit."""
    return None if value is None else plain(float(str(np.float32(value))))


def _rounded(value: float | None) -> float | None:
    return None if value is None else plain(float(f"{value:.6g}"))


def csv_text(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, header: bool = True) -> str:
    """A table, with its columns' names unless `header` is off; None is an empty cell."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)  # with its CRLF line ends, else a CR in a name is not quoted
    if header:
        writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would run as a formula gets an apostrophe in front; numbers stay numbers."""
    return FORMULA.sub("'", value) if isinstance(value, str) else value
