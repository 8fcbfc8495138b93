"""The folder that inspections leave: what is in it, and how results come into it one by one."""

import json
import platform
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import inspect_gan
from inspect_gan.base_inspector import BaseInspector, Result
from inspect_gan.documents import read_json
from inspect_gan.errors import InspectGanError, printable
from inspect_gan.imaging import Image, make_folder, write_png
from inspect_gan.locks import locked
from inspect_gan.reporting.html import write_report
from inspect_gan.reporting.journal import Journal, Stamp
from inspect_gan.reporting.tables import RESULTS_JSON, Inspection, extend_tables, write_results, write_tables
from inspect_gan.reporting.viewer import write_thumbnail, write_view
from inspect_gan.scoring.calibration import Calibration
from inspect_gan.scoring.units import write_map

LOCK = ".lock"
FOLDERS = ("maps", "masks", "overlays", "views")  # of what is written for each image
# Journals: of an inspection that is under way and of one that is finished, of a watched folder, and of results that are
# being judged anew.
UNFINISHED = "unfinished.jsonl"
FINISHED = "finished.jsonl"
WATCHED = "watched.jsonl"
RECALIBRATING = "recalibrating.jsonl"


@contextmanager
def held(out: Path) -> Iterator[None]:
    """Inside, no other process writes to the folder, which is made if missing. Raises InspectGanError when another one
    does, or when it cannot be written to."""
    busy = f"another process inspects into {out}: wait for its end, or choose another --out"
    with locked(out / LOCK, busy):
        for folder in (out, *(out / name for name in FOLDERS)):
            make_folder(folder)
        yield


@dataclass(frozen=True)
class Job:
    """How images are judged, and the folder for what is found."""

    inspector: BaseInspector
    out: Path
    calibration: Calibration
    min_area: int
    um_per_px: float | None
    strict: bool = False

    @property
    def header(self) -> dict[str, Any]:
        """What results say about how they were made, as JSON holds it."""
        header = {
            "run": self.inspector.name,
            "detector": self.inspector.detector_name,
            "health": self.inspector.health,
            "calibration": asdict(self.calibration),
            "min_area": self.min_area,
            "um_per_px": self.um_per_px,
            "versions": {"inspect_gan": inspect_gan.__version__, "python": platform.python_version()},
        }
        found: dict[str, Any] = json.loads(json.dumps(header))
        return found

    def judge(self, image: Image) -> Result:
        """Raises InspectGanError as `BaseInspector.inspect` does."""
        return self.inspector.apply(image, self.calibration, self.min_area, self.um_per_px)

    def failed(self, image: Path, started: float, error: Exception) -> Inspection:
        """Of an image that cannot be judged. started: `time.monotonic()`. Raises InspectGanError with `strict`."""
        message = str(error) if isinstance(error, InspectGanError) else f"{image}: {type(error).__name__}: {error}"
        if self.strict:
            raise InspectGanError(f"{message}; --strict stops at the first image that cannot be inspected") from error
        return Inspection(image=image, seconds=time.monotonic() - started, error=message)

    def write(
        self, stem: str, result: Result, overlay: np.ndarray | None, picture: Image | None
    ) -> dict[str, Path | None]:
        """Write the files of one image, but for an overlay of None; picture: for the viewer, None keeps what is there.
        Returns the paths by their names in `Inspection`."""
        files = {
            "map": self.out / "maps" / f"{stem}.tiff",
            "mask": self.out / "masks" / f"{stem}.png",
            "overlay": self.out / "overlays" / f"{stem}.png",
            "view": self.out / "views" / f"{stem}.js",
        }
        write_map(files["map"], result.map, self.calibration)
        write_png(files["mask"], result.mask.astype(np.uint8) * 255)
        if overlay is not None:
            write_png(files["overlay"], overlay)
            write_thumbnail(files["view"], overlay)
        write_view(files["view"], picture, result.map, self.calibration.peak_limit)
        return {name: None if name == "overlay" and overlay is None else path for name, path in files.items()}

    def report(self, done: Sequence[Inspection]) -> None:
        """Write tables, results.json and report.html of what there is."""
        if done:
            write_results(self.out, done, self.header)
            write_report(self.out, done, self.header)

    @contextmanager
    def reported(self, journal: Journal) -> Iterator[None]:
        """The tables hold what the journal does, and the report is written in the end, however the block ends."""
        write_tables(self.out, journal)
        try:
            yield
        except BaseException:
            with suppress(InspectGanError):  # the first error says more
                self.report(journal)
            raise
        self.report(journal)

    def add(self, journal: Journal, work: Iterable[tuple[Inspection, Stamp]]) -> Iterator[Inspection]:
        """Put results, each with the stamp of its image, into journal and tables as they come, and hand them on."""
        for found, seen in work:
            journal.add(found, seen)
            extend_tables(self.out, found)
            yield found


def calibration_for(
    inspector: BaseInspector, score: str | None, stride: int | None, target_fpr: float | None, like: Path | None
) -> Calibration:
    """The calibration of a score, stride and rate, or the one that the results in the folder `like` were judged with,
    whose limits may allow for false alarms. Raises InspectGanError when that is not of this detector, or when both are
    asked for."""
    if like is None:
        return inspector.calibration(score, stride, target_fpr)
    for option, value in (("--score", score), ("--stride", stride), ("--target-fpr", target_fpr)):
        if value is not None:
            raise InspectGanError(f"--like takes the {option.removeprefix('--')} from {like}: leave {option} out")
    try:
        header = dict(read_json(like / RESULTS_JSON)["header"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = " ".join(str(error).split())
        raise InspectGanError(
            f"--like {like} holds no results ({why}): give the --out of defect_map or watch"
        ) from error
    return recorded_calibration(inspector, like, header)


def recorded_calibration(inspector: BaseInspector, out: Path, header: Mapping[str, Any]) -> Calibration:
    """The calibration in the header of the results in `out`. Raises InspectGanError when it is damaged, or not of this
    detector."""
    try:
        found = Calibration.read(header["calibration"])
    except (ValueError, KeyError) as error:
        why = " ".join(str(error).split())
        raise InspectGanError(f"{out}: its results are damaged ({why}): inspect the images again") from error
    mine = inspector.calibration(found.score, found.stride, found.target_fpr).threshold_alone
    if mine != found.threshold_alone:
        what = "; ".join(differences(asdict(found.threshold_alone), asdict(mine)))
        raise InspectGanError(
            f"the results in {out} were made with another run, or with this one on another machine or before it was "
            f"trained longer ({what}): give the run they were made with, or inspect the images again"
        )
    return found


def inspection(
    image: Path, started: float, bit_depth: int, info_bar_px: int, result: Result, files: Mapping[str, Path | None]
) -> Inspection:
    """The record of a result. started: `time.monotonic()`. files: as `Job.write` returns them."""
    height, width = result.map.shape
    size = result.pixel_size
    return Inspection(
        image=image,
        seconds=time.monotonic() - started,
        width=width,
        height=height,
        info_bar_px=info_bar_px,
        bit_depth=bit_depth,
        map_max=result.score,
        regions=result.regions,
        um_per_px=None if size is None else size.um,
        um_per_px_origin=None if size is None else size.origin,
        map=files["map"],
        mask=files["mask"],
        overlay=files["overlay"],
        view=files["view"],
    )


def line(found: Inspection) -> str:
    """What is said of an inspected image."""
    start = f"{printable(found.image.name)}: {found.verdict.value}"
    if found.error is not None:
        return f"{start}, {found.error}"
    bar = f", info bar: {found.info_bar_px} px not inspected" if found.info_bar_px else ""
    scale = "" if found.um_per_px is None else f", {found.um_per_px:.4g} µm/px ({found.um_per_px_origin})"
    return (
        f"{start}, {len(found.regions)} regions, {found.defect_area_percent:.2f} % of the area, "
        f"peak {found.map_max:.2f}, {found.seconds:.1f} s{scale}{bar}"
    )


def differences(recorded: Mapping[str, Any], wanted: Mapping[str, Any], name: str = "") -> list[str]:
    """Settings of a header, or of a part of it, that differ and decide about results, as "name 1, not 2"."""
    found = []
    for key in wanted:
        old, new = recorded.get(key), wanted[key]
        if key in ("versions", "moved", "run") or old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differences(old, new, f"{name}{key}.")
        else:
            found.append(f"{name}{key} {old}, not {new}")
    return found
