"""Inspect images as they arrive in a folder."""

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspect_gan.base_inspector import BaseInspector
from inspect_gan.datasets.samples import Stems, find_images
from inspect_gan.errors import InspectGanError, printable
from inspect_gan.inspection import inspect_file
from inspect_gan.reporting.journal import Journal, Stamp, stamp
from inspect_gan.reporting.tables import Inspection
from inspect_gan.result_folder import (
    FINISHED,
    RECALIBRATING,
    UNFINISHED,
    WATCHED,
    Job,
    calibration_for,
    differences,
    held,
    line,
)
from inspect_gan.scoring.verdict import Verdict
from inspect_gan.signals import on_stop_request

PATIENCE = 10  # intervals for which a file that cannot be inspected must stay as it is before it counts as bad


def watch_folder(
    inspector: BaseInspector,
    folder: Path,
    out: Path,
    *,
    score: str | None = None,
    stride: int | None = None,
    target_fpr: float | None = None,
    like: Path | None = None,
    min_area: int = 1,
    um_per_px: float | None = None,
    interval: float = 2.0,
    once: bool = False,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, int]:
    """Inspect the images of a folder, and those that arrive there, until SIGINT or SIGTERM; with `once` those that are
    there. The result folder is that of `inspection.inspect_images`.

    A file is taken when its size and time of change have been the same for `interval` seconds, and have not changed
    while it was inspected. One that cannot be inspected is tried again until it has been the same for `PATIENCE`
    intervals, and becomes a row with its error then. A file is known by path, size and time of change: one that is
    replaced is inspected again, with a row and files of its own. What a former call has inspected into `out` is not
    done again, however that call ended. Sub-folders are not looked at.

    Returns the number of images per verdict of this call. Raises InspectGanError when the folder is not there, when
    `out` holds other results, or those of another run or of other options, and when it cannot be written to.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise InspectGanError(f"{folder} is not a folder: name the one that images arrive in")
    found = dict.fromkeys((verdict.value for verdict in Verdict), 0)
    with held(out), on_stop_request(_stop):
        job = Job(inspector, out, calibration_for(inspector, score, stride, target_fpr, like), min_area, um_per_px)
        with _journal(job) as journal:
            arrivals = _Arrivals(folder, journal, interval, once, progress)
            with job.reported(journal):
                job.report(journal)  # a killed call may have inspected more than it told
                progress(f"{folder}: {len(journal)} images are inspected already; Ctrl-C ends")
                try:
                    while arrivals.look():
                        news = False
                        for one in job.add(journal, arrivals.inspected(job)):
                            progress(line(one))
                            found[one.verdict] += 1
                            news = True
                        if news:
                            job.report(journal)
                        time.sleep(interval)
                except KeyboardInterrupt:
                    progress("stopped; what is inspected is kept, and the same command goes on")
    return found


def _stop(number: int, frame: Any) -> None:
    signal.signal(number, signal.SIG_DFL)  # asked again, it ends at once
    raise KeyboardInterrupt


def _journal(job: Job) -> Journal:
    """What was inspected into the folder before, in the same way."""
    for name, what in (
        (RECALIBRATING, "results that are not yet judged anew to the end: start that again, or"),
        (UNFINISHED, "an inspection by `defect_map`:"),
        (FINISHED, "an inspection by `defect_map`:"),
    ):
        if (job.out / name).exists():
            raise InspectGanError(f"{job.out} holds {what} choose another --out")
    if not (job.out / WATCHED).exists():
        return Journal(job.out / WATCHED, job.header)
    journal = Journal.reopen(job.out / WATCHED)
    if different := differences(journal.header, job.header):
        raise InspectGanError(
            f"{job.out} holds results that were made otherwise ({'; '.join(different)}): choose another --out"
        )
    return journal


@dataclass
class _Waiting:
    """A file that is not inspected yet. first, since: when it was first seen, and first as it is now."""

    seen: Stamp
    first: float
    since: float


class _Arrivals:
    """The files of a folder that are to be inspected."""

    def __init__(
        self, folder: Path, journal: Journal, interval: float, once: bool, progress: Callable[[str], None]
    ) -> None:
        self._folder, self._interval, self._once, self._progress = folder, interval, once, progress
        self._done: set[tuple[Path, str]] = set()
        self._stems = Stems()
        for found, seen in journal.stamped():
            self._done.add((found.image, str(seen)))
            if found.map is not None:
                self._stems.take(found.map.stem)
        self._waiting: dict[Path, _Waiting] = {}
        self._there: set[Path] | None = None  # at the first look, all that counts with `once`
        self._missing = False

    def look(self) -> bool:
        """See what is there now; whether there is, or may come, anything to inspect."""
        try:
            images = find_images(self._folder, recursive=False).images
        except InspectGanError as error:
            if self._once:
                raise
            if not self._missing:
                self._progress(f"{error}; it is tried again until it is back")
            self._missing = True
            return True
        self._missing = False
        now = time.monotonic()
        before, self._waiting = self._waiting, {}
        if self._there is None:
            self._there = set(images)
        for path in images:
            seen = stamp(path)
            if seen is None or (path, str(seen)) in self._done or (self._once and path not in self._there):
                continue
            known = before.get(path, _Waiting(seen, now, now))
            self._waiting[path] = known if known.seen == seen else _Waiting(seen, known.first, now)
        if not self._once:
            return True
        long = 2 * PATIENCE * self._interval
        if any(one.since < now or now - one.first < long for one in self._waiting.values()):
            return True
        for path in self._waiting:
            self._progress(f"{printable(path.name)} is still changing: left for the next time")
        return False

    def inspected(self, job: Job) -> Iterator[tuple[Inspection, Stamp]]:
        """Of the files that have stayed the same for long enough, in the order in which they were changed."""
        now = time.monotonic()
        ready = [(one.seen, path, one) for path, one in self._waiting.items() if now - one.since >= self._interval]
        for _, path, one in sorted(ready, key=lambda each: (each[0] or [])[::-1]):
            stem = self._stems.free(path)
            found = inspect_file(job, path, stem)
            if stamp(path) != one.seen:
                continue
            if found.error is not None and now - one.since < PATIENCE * self._interval:
                continue  # what cannot be read may not be whole yet
            del self._waiting[path]
            self._done.add((path, str(one.seen)))
            if found.map is not None:
                self._stems.take(stem)
            yield found, one.seen
