"""Judge inspected images anew at another false-alarm rate, from their maps and without the detector's networks."""

import os
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from inspect_gan.allowance import allowing
from inspect_gan.base_inspector import BaseInspector, judge
from inspect_gan.errors import InspectGanError, writing
from inspect_gan.export.scorer import ExportedInspector
from inspect_gan.imaging import Image, read
from inspect_gan.imaging.pixel_size import PixelSize, chosen
from inspect_gan.reporting.html import REPORT_HTML
from inspect_gan.reporting.journal import Journal, Stamp, stamp
from inspect_gan.reporting.pictures import overlay
from inspect_gan.reporting.tables import RESULTS_JSON, Inspection, counts
from inspect_gan.reporting.viewer import picture_of
from inspect_gan.result_folder import (
    FINISHED,
    RECALIBRATING,
    UNFINISHED,
    WATCHED,
    Job,
    held,
    inspection,
    line,
    recorded_calibration,
)
from inspect_gan.scoring.calibration import Calibration
from inspect_gan.scoring.units import converted, read_map


def recalibrate(
    inspector: BaseInspector,
    out: Path,
    *,
    score: str | None = None,
    stride: int | None = None,
    target_fpr: float | None = None,
    corrections: Path | None = None,
    min_area: int | None = None,
    um_per_px: float | None = None,
    strict: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, int]:
    """Judge the images of a result folder anew: maps, masks, overlays, views, tables and report as a fresh inspection
    would make them, see `scoring.units.converted`. With corrections, a file that the report saved, limits allow for the
    false alarms in it, see `allowance.allowing`.

    What is not given stays as it was; score and stride cannot be others. Images are read again for the overlays; where
    one has gone or changed since, the picture of the report's viewer takes its place. Rows with an error stay as they
    are. Each map tells its own units and is replaced as a whole, so that a killed process leaves none that would be
    converted twice; the same call goes on, one with another rate is right, too.

    Returns the number of images per verdict. Raises InspectGanError when `out` holds no finished results, or those of
    another run, score or stride; when another process writes there; and with `strict` for the first map that cannot
    be used, which otherwise becomes a row with its error.
    """
    _check_finished(out)
    with held(out):
        source = _check_finished(out)
        with Journal.reopen(source) as old:
            job = _job(inspector, out, old, score, stride, target_fpr, corrections, min_area, um_per_px, strict)
            if job.calibration.false_alarms:
                progress(_allowed(job.calibration))
            with Journal(out / RECALIBRATING, job.header) as done:
                if done:
                    progress(f"{len(done)} of {len(old)} images are judged already: going on")
                for name in (RESULTS_JSON, REPORT_HTML):  # what they say of the files is no longer true
                    with writing(out / name):
                        (out / name).unlink(missing_ok=True)
                with job.reported(done):
                    for found in job.add(done, _judged(job, old, len(done))):
                        progress(f"[{len(done)}/{len(old)}] {line(found)}")
                verdicts = counts(done)
        with writing(source):
            os.replace(out / RECALIBRATING, source)
    return verdicts


def _allowed(calibration: Calibration) -> str:
    return (
        f"limits allow for the false alarms that were ticked ({calibration.false_alarms}): regions are listed with "
        f"more than {calibration.area_limit} px or a peak above {calibration.peak_limit:.3g}"
    )


def _check_finished(out: Path) -> Path:
    """The journal of the results."""
    if (out / UNFINISHED).exists():
        raise InspectGanError(f"the inspection into {out} has not ended: start it again, then judge it anew")
    for name in (FINISHED, WATCHED):
        if (out / name).is_file():
            return out / name
    raise InspectGanError(f"{out} holds no results to judge anew ({FINISHED}): inspect the images again")


def _job(
    inspector: BaseInspector,
    out: Path,
    old: Journal,
    score: str | None,
    stride: int | None,
    target_fpr: float | None,
    corrections: Path | None,
    min_area: int | None,
    um_per_px: float | None,
    strict: bool,
) -> Job:
    before = recorded_calibration(inspector, out, old.header)
    try:
        least, scale = int(old.header["min_area"]), old.header["um_per_px"]
    except (ValueError, KeyError, TypeError) as error:
        raise InspectGanError(f"{out}: its results are damaged ({error}): inspect the images again") from error
    for option, wanted, has in (("--score", score, before.score), ("--stride", stride, before.stride)):
        if wanted not in (None, has):
            raise InspectGanError(
                f"the maps in {out} were made with {option} {has}, not {wanted}: another rate is judged from them, "
                f"another {option.removeprefix('--')} only by inspecting the images again"
            )
    rate = before.target_fpr if target_fpr is None else target_fpr
    if isinstance(inspector, ExportedInspector) and rate != before.target_fpr:
        raise InspectGanError(
            f"an exported file has the one threshold of its --target-fpr and no held-out material to find that of "
            f"{rate:g}: give the run directory that it was exported from ({inspector.name})"
        )
    calibration = inspector.calibration(before.score, before.stride, rate)
    if corrections is not None:
        calibration = allowing(calibration, before, corrections, out, old)
    elif before.false_alarms and rate == before.target_fpr:
        calibration = before
    elif before.false_alarms:
        raise InspectGanError(
            f"the limits in {out} allow for false alarms ({before.false_alarms}), which another rate changes: give "
            f"--corrections again"
        )
    return Job(inspector, out, calibration, min_area or least, um_per_px or scale, strict)


def _judged(job: Job, old: Journal, start: int) -> Iterator[tuple[Inspection, Stamp]]:
    given = old.header["um_per_px"] is not None
    for found, seen in islice(old.stamped(), start, None):
        yield (found if found.error is not None else _judge(job, found, seen, given)), seen


def _judge(job: Job, old: Inspection, seen: Stamp, given: bool) -> Inspection:
    """given: whether the scale came from the option, not from the image."""
    started = time.monotonic()
    assert old.map is not None and old.bit_depth is not None
    stem = old.map.stem
    view = job.out / "views" / f"{stem}.js"
    try:
        map, units = read_map(old.map)
        if map.shape != (old.height, old.width):
            raise InspectGanError(f"{old.map} has not the size of its image: inspect the image again")
        map = converted(map, units, job.calibration)
        image = _unchanged(job, old, seen, map.shape)
        size = _pixel_size(job, old, image, given)
        result = judge(map, job.calibration.limits(job.min_area), size)
        picture = image or _viewed(view, map.shape)
        drawn = None if picture is None else overlay(picture, map, result.regions)
    except Exception as error:  # as in an inspection, the others go on
        row = job.failed(old.image, started, error)
        _remove(old.mask, old.overlay, old.view)
        return row
    if drawn is None:
        _remove(old.overlay)
    files = job.write(stem, result, drawn, None if picture_of(view).is_file() else image)
    return inspection(old.image, started, old.bit_depth, old.info_bar_px, result, files)


def _unchanged(job: Job, old: Inspection, seen: Stamp, shape: tuple[int, ...]) -> Image | None:
    """The image, None where it has gone or is another one by now."""
    if seen is None or stamp(old.image) != seen:
        return None
    try:
        image = job.inspector.read(old.image)
    except InspectGanError:
        return None
    return image if (image.height + image.info_bar_rows, image.width) == shape else None


def _viewed(view: Path, shape: tuple[int, ...]) -> Image | None:
    """The picture of the viewer, None where there is none of this size."""
    try:
        image = read(picture_of(view), channels=1)
    except InspectGanError:
        return None
    return image if (image.height, image.width) == shape else None


def _pixel_size(job: Job, old: Inspection, image: Image | None, given: bool) -> PixelSize | None:
    if image is not None:
        return chosen(job.um_per_px, image.pixel_size)
    known = None if old.um_per_px is None else PixelSize(old.um_per_px, str(old.um_per_px_origin))
    if known is not None and job.um_per_px == known.um:
        return known
    return chosen(job.um_per_px, None if given else known)


def _remove(*paths: Path | None) -> None:
    for path in paths:
        if path is not None:
            with writing(path):
                path.unlink(missing_ok=True)
