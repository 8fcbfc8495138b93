"""A cell's folder: what it is, how far it came, what came out. Small files, each with one writer.

cell.json      settings, data, version; written once
usage.json     what its attempts have used; by the supervisor, every few seconds
outcome.json   how the work ended; by the cell's own process, as its last act
result.json    outcome and usage together; by the supervisor. A cell with a result is finished for good, unless a later
               grid wants more scores: it is then measured again, and keeps its result until there is the new one.

Beside the cells, baselines/NAME.json holds what needs no training: measured once per data set and settings of patches
and maps, by a cell of the grid's first seed.
"""

import json
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import TypeAdapter

from inspect_gan.documents import read_json
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging import atomic_text

CELLS, BASELINES = "cells", "baselines"
CELL, USAGE, OUTCOME, RESULT, LOG, LOCK = (
    "cell.json",
    "usage.json",
    "outcome.json",
    "result.json",
    "log.txt",
    "lock",
)
RUN, EVALUATION, UNFINISHED = "run", "evaluation", "evaluation.unfinished"
# "open" is never written: it is done, but without scores that the grid at hand wants.
Status = Literal["done", "collapsed", "failed", "open"]
Metrics = dict[str, dict[str, float | None]]
T = TypeVar("T")


@dataclass(frozen=True)
class Usage:
    """Of all attempts of a cell. seconds: wall clock. peak_mb: memory of the process, 10^6 bytes."""

    attempts: int = 0
    seconds: float = 0.0
    peak_mb: float = 0.0

    def plus(self, seconds: float, peak_mb: float) -> "Usage":
        return replace(self, seconds=self.seconds + seconds, peak_mb=max(self.peak_mb, peak_mb))


@dataclass(frozen=True)
class Outcome:
    """scores: metrics of every score that was measured, also for earlier grids and before a later attempt failed."""

    status: Status
    reason: str | None = None
    scores: Metrics = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    outcome: Outcome
    usage: Usage

    def seen_by(self, wanted: Set[str]) -> "Result":
        """As it stands for a grid that wants these scores: done with all of them, whatever failed later, open without
        some of them."""
        scores = self.outcome.scores
        if wanted <= scores.keys():
            return replace(self, outcome=Outcome("done", scores=scores))
        return replace(self, outcome=replace(self.outcome, status="open")) if self.outcome.status == "done" else self


class CellFolder:
    def __init__(self, path: Path):
        self.path = path

    def identity(self) -> dict[str, Any]:
        return read_json(self.path / CELL)

    def usage(self) -> Usage:
        return self._read(USAGE, Usage) or Usage()

    def outcome(self) -> Outcome | None:
        return self._read(OUTCOME, Outcome)

    def result(self) -> Result | None:
        return self._read(RESULT, Result)

    def write_usage(self, usage: Usage) -> None:
        self._write(USAGE, asdict(usage))

    def write_outcome(self, outcome: Outcome) -> None:
        self._write(OUTCOME, asdict(outcome))

    def write_result(self, result: Result) -> None:
        self._write(RESULT, asdict(result))

    def reopen(self) -> None:
        """Let a finished cell be measured again; it goes on from what it trained and keeps its result until then."""
        (self.path / OUTCOME).unlink(missing_ok=True)

    def forget(self) -> None:
        """Let a cell that failed run again with all the time of its limits; scores that it had before stay."""
        self.reopen()
        result = self.result()
        if result is not None and result.outcome.scores:
            self.write_result(replace(result, outcome=Outcome("done", scores=result.outcome.scores)))
            return
        for name in (USAGE, RESULT):  # the result last: as long as it is there, the cell can be forgotten again
            (self.path / name).unlink(missing_ok=True)

    def _read(self, name: str, kind: type[T]) -> T | None:
        return _read(self.path / name, kind)

    def _write(self, name: str, values: Mapping[str, Any]) -> None:
        _write(self.path / name, values)


def baselines(out: Path, name: str) -> Metrics | None:
    """Those of that name in the sweep `out`; None before they are measured."""
    return _read(out / BASELINES / f"{name}.json", Metrics)


def write_baselines(out: Path, name: str, metrics: Metrics) -> None:
    _write(out / BASELINES / f"{name}.json", metrics)


def _read(path: Path, kind: type[T]) -> T | None:
    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        why = " ".join(str(error).split())
        raise InspectGanError(f"{path} is damaged ({why}): delete it, the cell runs again") from error


def _write(path: Path, values: Mapping[str, Any]) -> None:
    atomic_text(path, json.dumps(values, indent=1, allow_nan=False) + "\n")
