"""What an inspection has finished, kept on disk image by image: a killed one goes on, and memory does not grow with the
number of images."""

import json
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import repeat
from pathlib import Path
from typing import Any, Self, overload

from inspect_gan.documents import parse_json
from inspect_gan.errors import InspectGanError, writing
from inspect_gan.imaging.writing import atomic_text
from inspect_gan.reporting.tables import Inspection
from inspect_gan.scoring.regions import Region
from inspect_gan.scoring.verdict import Verdict

# Size and time of change of a file, None where there is none.
Stamp = list[int] | None
_PATHS = ("image", "map", "mask", "overlay", "view")


class Journal(Sequence[Inspection]):
    """The inspections of images in their order, one line of JSON each; a sequence that is read from disk. Paths are
    kept relative to the folder of the file and come back absolute.

    What the file holds of an earlier inspection counts as far as it began in the same way: with the same header, the
    same images in the same order, unchanged since, and with the files that were made for them still there. What
    follows is dropped and is to be made again.
    """

    def __init__(
        self, path: Path, header: Mapping[str, Any], images: Sequence[Path] | None = None, *, whole: bool = False
    ):
        """header: how the results are made. images: to be inspected; None: whichever come, and what the file holds
        counts as it stands if the header is the same. whole: nothing may be dropped but a last line that was not
        written to its end. Raises InspectGanError when `path` cannot be written to, or is damaged where it is to be
        whole."""
        self.header = header
        self._folder = os.path.realpath(path.parent)
        self._starts = array("Q")
        first = json.dumps({"header": header}, sort_keys=True, default=str).encode() + b"\n"
        if not _begins_with(path, first):
            if whole:
                raise _damaged(path, 1)
            atomic_text(path, first.decode())
        with writing(path):
            self._file = path.open("r+b")
            self._file.seek(len(first))
            self._end = len(first)
            for image in repeat(None) if images is None else images:
                line = self._file.readline()
                if not self._is_valid(line, image):
                    if whole and line.endswith(b"\n"):
                        self._file.close()
                        raise _damaged(path, len(self) + 2)
                    break
                self._note(line)
            self._file.truncate(self._end)

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """All that a journal holds, with its header; a last line that was not written to its end is dropped. Raises
        InspectGanError when there is none or it is damaged."""
        try:
            with path.open("rb") as file:
                header = dict(parse_json(file.readline())["header"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InspectGanError(f"{path} cannot be read ({' '.join(str(error).split())})") from error
        return cls(path, header, whole=True)

    def add(self, found: Inspection, seen: Stamp) -> None:
        """Append the next one. seen: stamp of the image that was inspected. Raises InspectGanError when the disk is
        full."""
        values: dict[str, Any] = {"stamp": seen, **asdict(found)}
        for name in _PATHS:
            values[name] = values[name] and self._relative(values[name])
        line = json.dumps(values, default=lambda value: value.item()).encode() + b"\n"
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
        return self._inspection(self._values(number))

    def stamped(self) -> Iterator[tuple[Inspection, Stamp]]:
        """All of them, each with the stamp of its image."""
        for number in range(len(self)):
            values = self._values(number)
            yield self._inspection(values), values["stamp"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _values(self, number: int) -> dict[str, Any]:
        self._file.seek(self._starts[number])
        values: dict[str, Any] = json.loads(self._file.readline())
        return values

    def _note(self, line: bytes) -> None:
        self._starts.append(self._end)
        self._end += len(line)

    def _is_valid(self, line: bytes, image: Path | None) -> bool:
        """Whether it tells the result of this image as it is now; without an image, whether it tells a result."""
        try:
            values = json.loads(line)
            found = self._inspection(values)
            seen = values["stamp"]
        except (ValueError, KeyError, TypeError):
            return False
        made = (found.map, found.mask, found.overlay, found.view)
        return line.endswith(b"\n") and (
            image is None
            or (
                found.image == Path(os.path.abspath(image))
                and seen == stamp(image)
                and all(path is None or path.is_file() for path in made)
            )
        )

    def _inspection(self, values: Mapping[str, Any]) -> Inspection:
        rest: dict[str, Any] = {key: value for key, value in values.items() if key not in ("stamp", "regions")}
        for name in _PATHS:
            rest[name] = rest[name] and Path(os.path.normpath(os.path.join(self._folder, rest[name])))
        return Inspection(regions=tuple(map(_region, values["regions"])), **rest)

    def _relative(self, path: Path) -> str:
        absolute = os.path.abspath(path)
        try:
            return os.path.relpath(absolute, self._folder)
        except ValueError:  # on another drive
            return absolute


def stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns]


def _damaged(path: Path, line: int) -> InspectGanError:
    return InspectGanError(
        f"{path} is damaged in line {line}: restore the file from a copy, or inspect the images again into another "
        f"folder"
    )


def _begins_with(path: Path, first: bytes) -> bool:
    try:
        with path.open("rb") as file:
            return file.readline() == first
    except OSError:
        return False


def _region(values: Mapping[str, Any]) -> Region:
    tuples = {name: tuple(values[name]) for name in ("box", "centroid", "peak_at")}
    return Region(**{**values, **tuples, "verdict": Verdict(values["verdict"])})
