"""Folders of data sets that this package makes: MVTec layout, numbered images, and a record of what is in them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inspect_gan.errors import InspectGanError
from inspect_gan.imaging.writing import atomic_text

RECORD = "defects.json"
_OWN_FILE = re.compile(
    r"(train/good|test/(good|defect|pasted)|ground_truth/(defect|pasted))/\d{3,}(_\d+)?(_mask)?\.(png|tiff)|defects\.json"
)


def begin(out: Path, about: Mapping[str, Any]) -> None:
    """Remove the files that an earlier data set of the same `about["generator"]` left in `out`, and write `about` to
    the record: a run that is interrupted leaves a folder that the next one knows to be its own.

    Raises InspectGanError for a folder that holds anything else or cannot be written.
    """
    _empty(out, about["generator"])
    atomic_text(out / RECORD, json.dumps(about))


def finish(out: Path, about: Mapping[str, Any], images: Mapping[str, Any]) -> None:
    """Complete the record: `images` has the defects of every image, by its name in `out`."""
    atomic_text(out / RECORD, json.dumps({**about, "images": images}, indent=1) + "\n")


def is_complete(out: Path) -> bool:
    """Whether the data set in `out` was written to its end."""
    return "images" in _record(out)


def _empty(out: Path, generator: str) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise InspectGanError(f"{out}: is a file, not a folder; give another folder.")
    try:
        files = []
        for path in out.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                continue
            if path.is_symlink() or not _OWN_FILE.fullmatch(path.relative_to(out).as_posix()):
                raise InspectGanError(f"{out}: already holds {path.name}; give an empty or a new folder.")
            files.append(path)
        if files and _record(out).get("generator") != generator:
            raise InspectGanError(f"{out}: already holds images of another origin; give an empty or a new folder.")
        for path in files:
            path.unlink()
    except OSError as error:
        raise InspectGanError(f"{out}: cannot be emptied ({error.strerror}); give another folder.") from error


def _record(out: Path) -> dict[str, Any]:
    """The record in `out`, empty where there is none."""
    try:
        about = json.loads((out / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}
