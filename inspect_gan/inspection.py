"""Inspect many images and leave a result folder: maps, masks, overlays, tables, report."""

import time
from collections.abc import Callable, Iterator, Sequence, Set
from itertools import islice
from pathlib import Path

from inspect_gan.base_inspector import BaseInspector
from inspect_gan.datasets.samples import find_images, require_images, unique_stems
from inspect_gan.errors import InspectGanError
from inspect_gan.export.scorer import PROGRAM_SUFFIX, SUFFIX, ExportedInspector
from inspect_gan.reporting.journal import Journal, Stamp, stamp
from inspect_gan.reporting.pictures import overlay
from inspect_gan.reporting.tables import Inspection, counts
from inspect_gan.result_folder import (
    FINISHED,
    FOLDERS,
    RECALIBRATING,
    UNFINISHED,
    WATCHED,
    Job,
    calibration_for,
    held,
    inspection,
    line,
)


def open_inspector(path: Path) -> BaseInspector:
    """Of a run directory, or of a file that `export` wrote: then torch is not imported.

    Raises InspectGanError when it is neither, incomplete or damaged.
    """
    if path.suffix.lower() == SUFFIX:
        return ExportedInspector(path)
    if path.suffix.lower() == PROGRAM_SUFFIX:
        raise InspectGanError(f"{path} is for programs of your own: give the run directory, or export it to *{SUFFIX}")
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
    like: Path | None = None,
    min_area: int = 1,
    um_per_px: float | None = None,
    strict: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, int]:
    """Inspect images one after the other and write everything into `out`.

    maps/<stem>.tiff (float32, threshold units), masks/<stem>.png, overlays/<stem>.png, views/<stem>.js, .jpg and
    .webp (for the report), results.csv, regions.csv, results.json, report.html. An image that cannot be inspected
    becomes a row with its error and the others go on, with `strict` it ends the inspection. results.csv and regions.csv
    grow image by image; an interrupted or killed inspection goes on after the last finished image when it is started
    again in the same way. like: folder of results to take score, stride, rate and limits from, also limits that allow
    for false alarms. Other options as in `Inspector.inspect`. Memory does not grow with the number of images.

    Returns the number of images per verdict. Raises InspectGanError when another process inspects into `out`, when it
    cannot be written to, and for the first bad image with `strict`.
    """
    if not paths:
        raise InspectGanError("no images to inspect: name images or a folder of images")
    if (out / WATCHED).exists():
        raise InspectGanError(f"{out} holds what `watch` found: choose another --out")
    with held(out):
        job = Job(
            inspector, out, calibration_for(inspector, score, stride, target_fpr, like), min_area, um_per_px, strict
        )
        (out / RECALIBRATING).unlink(missing_ok=True)  # what it says of maps will not be true any more
        with Journal(out / UNFINISHED, job.header, paths) as done:
            if done:
                progress(f"{len(done)} of {len(paths)} images are finished already: going on")
            rest = islice(zip(paths, unique_stems(paths), strict=True), len(done), None)
            with job.reported(done):
                for found in job.add(done, _inspected(job, rest)):
                    progress(f"[{len(done)}/{len(paths)}] {line(found)}")
            verdicts = counts(done)
        (out / UNFINISHED).replace(out / FINISHED)
    return verdicts


def _inspected(job: Job, named: Iterator[tuple[Path, str]]) -> Iterator[tuple[Inspection, Stamp]]:
    for path, stem in named:
        seen = stamp(path)
        yield inspect_file(job, path, stem), seen


def inspect_file(job: Job, path: Path, stem: str) -> Inspection:
    """Inspect one image and write its files, which are called `stem`."""
    started = time.monotonic()
    try:
        image = job.inspector.read(path)
        result = job.judge(image)
        picture = overlay(image, result.map, result.regions)
    except Exception as error:  # whatever is wrong with one image of ten thousand, the others are to be inspected
        return job.failed(path, started, error)
    files = job.write(stem, result, picture, image)
    return inspection(path, started, image.bit_depth, image.info_bar_rows, result, files)


def collect_images(paths: Sequence[Path], out: Path) -> list[Path]:
    """Files as they are named, folders by the images in them (in their sub-folders where they hold none themselves)
    without those that an inspection into `out` writes.

    Raises InspectGanError for a folder without images.
    """
    made = {(out / name).resolve() for name in FOLDERS}
    collected: list[Path] = []
    for path in paths:
        if path.is_dir():
            here = find_images(path, recursive=False).images or require_images(path, recursive=True).images
            results = {folder for folder in {image.parent for image in here} if _lies_in(folder, made)}
            collected += [image for image in here if image.parent not in results]
        else:
            collected.append(path)
    return collected


def _lies_in(folder: Path, folders: Set[Path]) -> bool:
    folder = folder.resolve()
    return not folders.isdisjoint((folder, *folder.parents))
