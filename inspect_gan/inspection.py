"""Inspect many images and leave a result folder: maps, masks, overlays, tables, report."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import inspect_gan
from inspect_gan.base_inspector import BaseInspector, Result
from inspect_gan.datasets.samples import find_images, require_images, unique_stems
from inspect_gan.errors import InspectGanError, printable
from inspect_gan.export.scorer import SUFFIX, ExportedInspector
from inspect_gan.imaging import Image, make_folder, write_png, write_tiff
from inspect_gan.locks import locked
from inspect_gan.reporting.html import write_report
from inspect_gan.reporting.journal import Journal
from inspect_gan.reporting.pictures import overlay
from inspect_gan.reporting.tables import Inspection, counts, extend_tables, write_results, write_tables
from inspect_gan.reporting.viewer import write_view

LOCK = ".lock"
JOURNAL = "unfinished.jsonl"  # there while an inspection is not finished


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
    strict: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, int]:
    """Inspect images one after the other and write everything into `out`.

    maps/<stem>.tiff (float32, threshold units), masks/<stem>.png, overlays/<stem>.png, views/<stem>.js and .jpg (for
    the viewer of the report), results.csv, regions.csv, results.json, report.html. An image that cannot be inspected
    becomes a row with its error and the others go on, with `strict` it ends the inspection. results.csv and regions.csv
    grow image by image; an interrupted or killed inspection goes on after the last finished image when it is started
    again in the same way. Other options as in `Inspector.inspect`. Memory does not grow with the number of images.

    Returns the number of images per verdict. Raises InspectGanError when another process inspects into `out`, when it
    cannot be written to, and for the first bad image with `strict`.
    """
    if not paths:
        raise InspectGanError("no images to inspect: name images or a folder of images")
    busy = f"another process inspects into {out}: wait for its end, or choose another --out"
    with locked(out / LOCK, busy):
        for folder in (out, *(out / name for name in ("maps", "masks", "overlays", "views"))):
            make_folder(folder)
        options: dict[str, Any] = {"score": score, "stride": stride, "target_fpr": target_fpr}
        calibration = inspector.calibration(**options)
        header: dict[str, Any] = {
            "run": inspector.name,
            "detector": inspector.detector_name,
            "health": inspector.health,
            "calibration": asdict(calibration),
            "min_area": min_area,
            "um_per_px": um_per_px,
            "versions": {"inspect_gan": inspect_gan.__version__, "python": platform.python_version()},
        }

        def judge(image: Image) -> Result:
            return inspector.inspect(image, **options, min_area=min_area, um_per_px=um_per_px)

        with Journal(out / JOURNAL, header, paths) as done:
            if done:
                progress(f"{len(done)} of {len(paths)} images are finished already: going on")
            write_tables(out, done)
            try:
                for path, stem in islice(zip(paths, unique_stems(paths), strict=True), len(done), None):
                    found = _inspect(inspector, path, stem, out, judge, calibration.peak_limit, strict)
                    done.add(found)
                    extend_tables(out, found)
                    progress(_line(found, len(done), len(paths)))
            except BaseException:
                with suppress(InspectGanError):  # the first error says more
                    _report(out, done, header)
                raise
            _report(out, done, header)
            verdicts = counts(done)
        (out / JOURNAL).unlink(missing_ok=True)
    return verdicts


def _inspect(
    inspector: BaseInspector,
    path: Path,
    stem: str,
    out: Path,
    judge: Callable[[Image], Result],
    peak_limit: float,
    strict: bool,
) -> Inspection:
    """Inspect one image and write its files."""
    started = time.monotonic()
    try:
        image = inspector.read(path)
        result = judge(image)
        picture = overlay(image, result.map, result.regions)
    except Exception as error:  # whatever is wrong with one image of ten thousand, the others are to be inspected
        message = str(error) if isinstance(error, InspectGanError) else f"{path}: {type(error).__name__}: {error}"
        if strict:
            raise InspectGanError(f"{message}; --strict stops at the first image that cannot be inspected") from error
        return Inspection(image=path, seconds=time.monotonic() - started, error=message)
    map_file = out / "maps" / f"{stem}.tiff"
    mask_file = out / "masks" / f"{stem}.png"
    overlay_file = out / "overlays" / f"{stem}.png"
    view_file = out / "views" / f"{stem}.js"
    write_tiff(map_file, result.map)
    write_png(mask_file, result.mask.astype(np.uint8) * 255)
    write_png(overlay_file, picture)
    write_view(view_file, image, result.map, peak_limit)
    return Inspection(
        image=path,
        seconds=time.monotonic() - started,
        width=image.width,
        height=image.height + image.info_bar_rows,
        bit_depth=image.bit_depth,
        info_bar_px=image.info_bar_rows,
        map_max=result.score,
        regions=result.regions,
        um_per_px=None if result.pixel_size is None else result.pixel_size.um,
        um_per_px_origin=None if result.pixel_size is None else result.pixel_size.origin,
        map=map_file,
        mask=mask_file,
        overlay=overlay_file,
        view=view_file,
    )


def _report(out: Path, done: Sequence[Inspection], header: Mapping[str, Any]) -> None:
    if done:
        write_results(out, done, header)
        write_report(out, done, header)


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


def _line(found: Inspection, number: int, total: int) -> str:
    start = f"[{number}/{total}] {printable(found.image.name)}: {found.verdict.value}"
    if found.error is not None:
        return f"{start}, {found.error}"
    bar = f", info bar: {found.info_bar_px} px not inspected" if found.info_bar_px else ""
    scale = "" if found.um_per_px is None else f", {found.um_per_px:.4g} µm/px ({found.um_per_px_origin})"
    return (
        f"{start}, {len(found.regions)} regions, {found.defect_area_percent:.2f} % of the area, "
        f"peak {found.map_max:.2f}, {found.seconds:.1f} s{scale}{bar}"
    )
