"""The report a person opens: one HTML page that needs no network and no server."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from inspect_gan.imaging.writing import atomic_file
from inspect_gan.reporting import viewer
from inspect_gan.reporting.pictures import SCALE_TOP, colours
from inspect_gan.reporting.tables import (
    IMAGES_CSV,
    REGIONS_CSV,
    RESULTS_JSON,
    Inspection,
    counts,
    plain,
    relative_path,
)

REPORT_HTML = "report.html"
REGIONS_SHOWN = 20  # per image; all of them are in the tables

# Header entries worth a line in the summary; they may stand in the header or in its "calibration" entry.
FACTS = {
    "run": "Run",
    "detector": "Detector",
    "health": "Health of its training",
    "score": "Score",
    "threshold": "Threshold (raw score; 1.0 in maps)",
    "target_fpr": "Target false-alarm rate",
    "interval": "95 % interval of the false-alarm rate",
    "samples": "Held-out normal samples behind the threshold",
    "area_limit": "Largest region in held-out good material (px)",
    "peak_limit": "Highest map value in held-out good material",
    "false_alarms": "Regions called false alarms that these two allow for",
}


def templates(folder: Path) -> Environment:
    """For the pages in a folder: all text is escaped, an unknown name is an error."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_report(out: Path, inspections: Sequence[Inspection], header: Mapping[str, Any]) -> None:
    """Write report.html to `out`: summary, a sortable table of the images with their regions, settings.

    header: as for `tables.write_results`, beside whose files the report lies. Links are relative to `out`.
    Raises InspectGanError when `out` cannot be written to.
    """
    environment = templates(Path(__file__).parent)
    environment.filters["number"] = _number
    page = environment.get_template("report.html").generate(
        facts=_facts(header),
        settings=[line for line in _flat(plain(header)) if line[0] != "calibration.moved"],
        viewer=plain(viewer.settings(header)),
        counts=counts(inspections),
        total=len(inspections),
        images=(_view(inspections[number], out) for number in _worst_first(inspections)),
        regions_shown=REGIONS_SHOWN,
        scale=["#" + bytes(colour).hex() for colour in colours()[::15]],
        scale_top=SCALE_TOP,
        tables=(IMAGES_CSV, REGIONS_CSV, RESULTS_JSON),
    )
    with atomic_file(out / REPORT_HTML) as file:
        for part in page:
            file.write(part.encode())


def _worst_first(inspections: Sequence[Inspection]) -> list[int]:
    """Their places in the sequence."""
    keys = [(one.verdict.severity, one.map_max or 0.0) for one in inspections]
    return sorted(range(len(keys)), key=keys.__getitem__, reverse=True)


def _view(inspection: Inspection, out: Path) -> dict[str, Any]:
    """What the template needs to know of one image."""
    view = inspection.view
    path = plain(relative_path(inspection.image, out))
    folder, _, name = path.rpartition("/")
    files = (("map", inspection.map), ("mask", inspection.mask), ("image", inspection.image))
    return {
        "inspection": inspection,
        "error": None if inspection.error is None else plain(inspection.error),
        "path": path,
        "name": name,
        "folder": folder,
        "overlay": None if inspection.overlay is None else _link(inspection.overlay, out),
        "view": None if view is None else _link(view, out),
        "picture": None if view is None else _link(viewer.picture_of(view), out),
        "thumbnail": None if inspection.overlay is None else _link(_thumbnail(inspection.overlay, view), out),
        "size": _size(inspection),
        "files": [(label, _link(file, out)) for label, file in files if file is not None],
    }


def _thumbnail(overlay: Path, view: Path | None) -> Path:
    small = None if view is None else viewer.thumbnail_of(view)
    return small if small is not None and small.is_file() else overlay


def _size(inspection: Inspection) -> tuple[int, int]:
    """Width and height in px of the picture in the table; lazy loading needs to know them."""
    if not inspection.width or not inspection.height:
        return viewer.THUMBNAIL
    return viewer.thumbnail_size(inspection.width, inspection.height)


def _link(path: Path, out: Path) -> str:
    """URL of a file, relative to the report where possible."""
    relative = relative_path(path, out)
    # fsencode: the bytes of the name on disk, also where they are not valid UTF-8
    return Path(relative).as_uri() if os.path.isabs(relative) else quote(os.fsencode(relative))


def _facts(header: Mapping[str, Any]) -> list[tuple[str, Any]]:
    known = {**plain(header.get("calibration") or {}), **plain(header)}
    known["false_alarms"] = known.get("false_alarms") or None  # mostly there are none
    return [(label, known[name]) for name, label in FACTS.items() if known.get(name) is not None]


def _flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """Nested settings as (dotted name, value), in their order."""
    if not isinstance(value, dict):
        return [(name, value)]
    return [line for key, item in value.items() for line in _flat(item, f"{name}.{key}" if name else key)]


def _number(value: Any) -> str:
    """Numbers with four significant digits, intervals, a dash for what is not known, all else as it is."""
    if value is None:
        return "-"
    if isinstance(value, list):
        return " to ".join(_number(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
