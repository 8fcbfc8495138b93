"""Inspect many images and leave a result folder: maps, masks, overlays, tables, report."""

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

import inspect_gan
from inspect_gan.base_inspector import BaseInspector
from inspect_gan.datasets.samples import find_images, require_images
from inspect_gan.errors import InspectGanError
from inspect_gan.export.scorer import SUFFIX, ExportedInspector
from inspect_gan.imaging import write_png, write_tiff
from inspect_gan.reporting.html import write_report
from inspect_gan.reporting.pictures import overlay
from inspect_gan.reporting.tables import Inspection, write_results


def open_inspector(path: Path) -> BaseInspector:
    """Of a run directory, or of a file that `export` wrote: then torch is not imported.

    Raises InspectGanError when it is neither, incomplete or damaged.
    """
    if path.suffix.lower() == SUFFIX:
        return ExportedInspector(path)
    from inspect_gan.inspector import Inspector

    return Inspector.load(path)


def inspect_images(
    inspector: BaseInspector,
    paths: Sequence[Path],
    out: Path,
    *,
    score: str | None = None,
    stride: int | None = None,
    target_fpr: float | None = None,
    min_area: int = 1,
    um_per_px: float | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> list[Inspection]:
    """Inspect images one after the other and write everything into `out`.

    maps/<stem>.tiff (float32, threshold units), masks/<stem>.png, overlays/<stem>.png, results.csv, regions.csv,
    results.json, report.html. An image that cannot be inspected becomes a row with its error; the others go on.
    Tables and report are written even when the run is interrupted, for the images that are done. Options as in
    `Inspector.inspect`.
    """
    if not paths:
        raise InspectGanError("no images to inspect: name images or a folder of images")
    calibration = inspector.calibration(score, stride, target_fpr)
    header: dict[str, Any] = {
        "run": inspector.name,
        "detector": inspector.detector_name,
        "calibration": asdict(calibration),
        "min_area": min_area,
        "um_per_px": um_per_px,
        "versions": {"inspect_gan": inspect_gan.__version__, "python": platform.python_version()},
    }
    for folder in ("maps", "masks", "overlays"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    done: list[Inspection] = []
    try:
        for path, stem in zip(paths, _unique_stems(paths), strict=True):
            started = time.monotonic()
            try:
                image = inspector.read(path)
                result = inspector.inspect(
                    image,
                    score=score,
                    stride=stride,
                    target_fpr=target_fpr,
                    min_area=min_area,
                    um_per_px=um_per_px,
                )
            except InspectGanError as error:
                found = Inspection(image=path, seconds=time.monotonic() - started, error=str(error))
            else:
                map_file = out / "maps" / f"{stem}.tiff"
                mask_file = out / "masks" / f"{stem}.png"
                overlay_file = out / "overlays" / f"{stem}.png"
                write_tiff(map_file, result.map)
                write_png(mask_file, result.mask.astype(np.uint8) * 255)
                write_png(overlay_file, overlay(image, result.map, result.regions))
                found = Inspection(
                    image=path,
                    seconds=time.monotonic() - started,
                    width=image.width,
                    height=image.height,
                    bit_depth=image.bit_depth,
                    map_max=result.score,
                    regions=result.regions,
                    map=map_file,
                    mask=mask_file,
                    overlay=overlay_file,
                )
            done.append(found)
            progress(_line(found, len(done), len(paths)))
    finally:
        if done:
            write_results(out, done, header)
            write_report(out, done, header)
    return done


def collect_images(paths: Sequence[Path]) -> list[Path]:
    """Files as they are named, folders by the images in them (in their sub-folders where they hold none themselves).

    Raises InspectGanError for a folder without images.
    """
    collected: list[Path] = []
    for path in paths:
        if path.is_dir():
            here = find_images(path, recursive=False).images
            collected += here or require_images(path, recursive=True).images
        else:
            collected.append(path)
    return collected


def _unique_stems(paths: Sequence[Path]) -> list[str]:
    """File stems, numbered where two images of different folders or types share one."""
    taken: set[str] = set()
    stems = []
    for path in paths:
        names = (path.stem if n == 1 else f"{path.stem}-{n}" for n in count(1))
        stems.append(next(name for name in names if name.casefold() not in taken))
        taken.add(stems[-1].casefold())
    return stems


def _line(found: Inspection, number: int, total: int) -> str:
    start = f"[{number}/{total}] {found.image.name}: {found.verdict.value}"
    if found.error is not None:
        return f"{start}, {found.error}"
    return (
        f"{start}, {len(found.regions)} regions, {found.defect_area_percent:.2f} % of the area, "
        f"peak {found.map_max:.2f}, {found.seconds:.1f} s"
    )
