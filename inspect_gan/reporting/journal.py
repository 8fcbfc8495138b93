"""What an inspection has finished, kept on disk image by image: a killed one goes on, and memory does not grow with the
number of images."""

import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, overload

from inspect_gan.errors import writing
from inspect_gan.imaging.writing import atomic_text
from inspect_gan.reporting.tables import Inspection
from inspect_gan.scoring.regions import Region
from inspect_gan.scoring.verdict import Verdict

# Size and time of change of a file, None where there is none.
Stamp = list[int] | None


class Journal(Sequence[Inspection]):
    """The inspections of a list of images in their order, one line of JSON each; a sequence that is read from disk.

    What the file holds of an earlier inspection counts as far as it began in the same way: with the same header, the
    same images in the same order, unchanged since, and with the files that were made for them still there. A last line
    that was not written to its end is dropped.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], images: Sequence[Path]):
        """header: how the results are made; images: to be inspected. Raises InspectGanError when `path` cannot be
        written to."""
        self._starts = array("Q")
        first = json.dumps({"header": header}, sort_keys=True, default=str).encode() + b"\n"
        if not _begins_with(path, first):
            atomic_text(path, first.decode())
        with writing(path):
            self._file = path.open("r+b")
            self._file.seek(len(first))
            self._end = len(first)
            for image in images:
                line = self._file.readline()
                if not _is_valid(line, image):
                    break
                self._note(line)
            self._file.truncate(self._end)

    def add(self, found: Inspection) -> None:
        """Append the next one. Raises InspectGanError when the disk is full."""
        values = {"stamp": stamp(found.image), **asdict(found)}
        line = json.dumps(values, default=_plain).encode() + b"\n"
        with writing(self._file.name):
            self._file.seek(self._end)
            self._file.write(line)
            self._file.flush()
        self._note(line)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, number: int) -> Inspection: ...
    @overload
    def __getitem__(self, number: slice) -> list[Inspection]: ...
    def __getitem__(self, number: int | slice) -> Inspection | list[Inspection]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        self._file.seek(self._starts[number])
        return _inspection(json.loads(self._file.readline()))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _note(self, line: bytes) -> None:
        self._starts.append(self._end)
        self._end += len(line)


def stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


def _begins_with(path: Path, first: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.readline() == first
    except OSError:
        return False


def _is_valid(line: bytes, image: Path) -> bool:
    """Whether it tells the result of this image as it is now."""
    try:
        values = json.loads(line)
        found = _inspection(values)
    except (ValueError, KeyError, TypeError):
        return False
    made = (found.map, found.mask, found.overlay, found.view)
    return (
        line.endswith(b"\n")
        and found.image == image
        and values["stamp"] == stamp(image)
        and all(path is None or path.is_file() for path in made)
    )


def _inspection(values: Mapping[str, Any]) -> Inspection:
    rest: dict[str, Any] = {key: value for key, value in values.items() if key not in ("stamp", "image", "regions")}
    for name in ("map", "mask", "overlay", "view"):
        rest[name] = rest[name] and Path(rest[name])
    return Inspection(image=Path(values["image"]), regions=tuple(map(_region, values["regions"])), **rest)


def _region(values: Mapping[str, Any]) -> Region:
    tuples = {name: tuple(values[name]) for name in ("box", "centroid", "peak_at")}
    return Region(**{**values, **tuples, "verdict": Verdict(values["verdict"])})


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value.item()
