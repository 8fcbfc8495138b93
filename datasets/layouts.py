"""The ways a data set may lie on disk: per layout one function that reads it and one that detects it.

Detectors look at names and image headers only. All of them are asked, so their order does not matter.
"""

import csv
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from inspect_gan.datasets.samples import (
    GOOD,
    DataSet,
    Found,
    Sample,
    find_images,
    natural_key,
    pair_masks,
    require_images,
    subfolders,
)
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging.reading import read_size

LIST_SUFFIXES = (".txt", ".csv")
MAX_PATCH = 256  # px; larger images are never taken for patches
# Names of sub-folders whose images are no normal material, and what these are.
FOREIGN_FOLDERS = {
    **dict.fromkeys(("mask", "masks", "gt", "ground_truth", "groundtruth", "label", "labels"), "masks"),
    **dict.fromkeys(("anomalous", "anomaly", "anomalies", "abnormal", "bad", "ng", "nok"), "defective images"),
    **dict.fromkeys(("defect", "defects", "defective"), "defective images"),
    "test": "test images",
}
ANOMALOUS = "anomalous"  # the kind of defective samples whose layout does not name it


@dataclass(frozen=True)
class Layout:
    """A named layout: `detect` says whether a path looks like it, `read` turns the path into a data set."""

    name: str
    summary: str
    detect: Callable[[Path], bool]
    read: Callable[[Path], DataSet]


LAYOUTS: dict[str, Layout] = {}

Reader = Callable[[Path], DataSet]


def layout(name: str, detect: Callable[[Path], bool]) -> Callable[[Reader], Reader]:
    """Register the decorated function as a layout; the first line of its docstring is the summary."""

    def register(read: Reader) -> Reader:
        LAYOUTS[name] = Layout(name, (read.__doc__ or "").partition("\n")[0], detect, read)
        return read

    return register


def _is_list(path: Path) -> bool:
    return path.is_file()


@layout("list", _is_list)
def read_list(path: Path) -> DataSet:
    """A .txt or .csv file: one image path per line and, for a test image, its mask after a comma.

    Paths are relative to the list's folder. Lines that start with # and a header line "image" or "image,mask"
    are skipped; a path with a comma in it stands in double quotes. Images without a mask are for training.
    """
    train: list[Sample] = []
    test: list[Sample] = []
    lines: dict[Path, int] = {}
    for line, cells in _rows(path):
        image, mask = (_listed_file(path, line, cell) for cell in [*cells, ""][:2])
        if len(cells) > 2 or image is None:
            raise InspectGanError(
                f"{path}: line {line} is {','.join(cells)!r}; write an image path and, if there is one, its "
                "mask's path after a comma"
            )
        if image == mask:
            raise InspectGanError(f"{path}: line {line} gives {image} as its own mask; correct the mask's path")
        if image in lines:
            raise InspectGanError(f"{path}: line {line} repeats {image} of line {lines[image]}; remove one")
        lines[image] = line
        if mask is None:
            train.append(Sample(image, None, False, GOOD))
        else:
            test.append(Sample(image, mask, None, ""))
    if not lines:
        raise InspectGanError(f"{path}: lists no images; write one image path per line")
    return DataSet("list", path.parent, _in_order(train), _in_order(test))


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, cells) of the lines that name files."""
    rows = []
    try:
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
            if line.strip() and not line.lstrip().startswith("#"):
                cells = [cell.strip() for cell in next(csv.reader([line], skipinitialspace=True))]
                rows.append((number, cells))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InspectGanError(f"{path}: not a readable list ({error}); save it as UTF-8 text") from error
    if rows and [cell.lower() for cell in rows[0][1]] in (["image"], ["image", "mask"]):
        del rows[0]
    return rows


def _listed_file(path: Path, line: int, cell: str) -> Path | None:
    if not cell:
        return None
    file = path.parent / cell
    if not os.path.isfile(file):  # unlike Path.is_file, says no to names that no file can have
        raise InspectGanError(f"{path}: line {line} names {cell[:200]}, which is no file; correct the path")
    return file


def _is_mvtec(path: Path) -> bool:
    return (path / "train" / GOOD).is_dir()


@layout("mvtec", _is_mvtec)
def read_mvtec(path: Path) -> DataSet:
    """MVTec AD: train/good, test/<kind>, and ground_truth/<kind>/<stem>_mask.png where there are masks."""
    training, tests, truths = (_kinds(path / name) for name in ("train", "test", "ground_truth"))
    if set(training) != {GOOD}:
        raise InspectGanError(
            f"{path / 'train'}: holds {', '.join(training) or 'no folder'}; keep only good images, in good"
        )
    stray = set(truths) - set(tests)
    bare = set(tests) - set(truths) - {GOOD} if truths else set()
    if stray or bare:
        raise InspectGanError(
            f"{path / 'ground_truth'}: does not match test: {', '.join(sorted(stray)) or 'none'} without "
            f"images, {', '.join(sorted(bare)) or 'none'} without masks; complete it, or remove ground_truth"
        )
    found = [require_images(training[GOOD], recursive=False)]
    test: list[Sample] = []
    for kind, folder in tests.items():
        found.append(require_images(folder, recursive=False))
        test += _judged(found[-1], truths.get(kind), kind)
    return _structured("mvtec", path, found, test)


def _is_nanotwice(path: Path) -> bool:
    anomalous = _child(path, ANOMALOUS)
    return _child(path, "normal") is not None and _child(anomalous, "images") is not None


@layout("nanotwice", _is_nanotwice)
def read_nanotwice(path: Path) -> DataSet:
    """NanoTWICE: Normal/*.tif, Anomalous/images/*.tif and Anomalous/gt/<stem>_gt.png."""
    normal, anomalous = _child(path, "normal"), _child(path, ANOMALOUS)
    images = _child(anomalous, "images")
    if normal is None or images is None:
        raise InspectGanError(f"{path}: not a NanoTWICE folder; name the one with Normal and Anomalous/images")
    found = [require_images(folder, recursive=False) for folder in (normal, images)]
    return _structured("nanotwice", path, found, _judged(found[1], _child(anomalous, "gt"), ANOMALOUS))


def _is_labelled(path: Path) -> bool:
    return _child(path, "normal") is not None and not _is_nanotwice(path)


@layout("labelled", _is_labelled)
def read_labelled(path: Path) -> DataSet:
    """normal/, optional anomalous/, and optional masks/ (one for each anomalous image, by name)."""
    normal, anomalous, masks = (_child(path, name) for name in ("normal", ANOMALOUS, "masks"))
    if normal is None:
        raise InspectGanError(f"{path}: no folder normal; put the normal images there, or choose another layout")
    known = {normal, anomalous, masks if anomalous else None}
    for folder in subfolders(path):
        if folder not in known and find_images(folder, recursive=True).images:
            raise InspectGanError(
                f"{path}: the folder {folder.name} beside normal would be left out; call it anomalous, move "
                "it, or choose another layout"
            )
    found = [require_images(folder, recursive=True) for folder in (normal, anomalous) if folder]
    return _structured("labelled", path, found, _judged(found[1], masks, ANOMALOUS) if anomalous else [])


def _is_patches(path: Path) -> bool:
    images = find_images(path, recursive=True).images
    try:
        return bool(images) and _patch_fault(images) is None
    except InspectGanError:  # a damaged file is reported when it is read
        return False


@layout("patches", _is_patches)
def read_patches(path: Path) -> DataSet:
    """Small images, also in sub-folders: all are squares of one size up to 256 px. Patches are cut from them, too."""
    found = require_images(path, recursive=True)
    if fault := _patch_fault(found.images):
        raise InspectGanError(f"{fault}; cut all patches to one size, or open the folder as folder or tree")
    return _plain("patches", path, found)


def _patch_fault(images: Iterable[Path]) -> str | None:
    """What keeps the images from being patches; stops at the first one that does not fit."""
    side = None
    for image in images:
        height, width = read_size(image)
        side = side or height
        if height != width or height != side or height > MAX_PATCH:
            return f"{image}: {width} x {height} pixels where equal squares up to {MAX_PATCH} px are expected"
    return None


def _is_folder(path: Path) -> bool:
    return bool(find_images(path, recursive=False).images)


@layout("folder", _is_folder)
def read_folder(path: Path) -> DataSet:
    """A folder of normal images; sub-folders are not searched."""
    return _plain("folder", path, require_images(path, recursive=False))


def _is_tree(path: Path) -> bool:
    return any(find_images(folder, recursive=True).images for folder in subfolders(path))


@layout("tree", _is_tree)
def read_tree(path: Path) -> DataSet:
    """A folder of normal images, and all its sub-folders."""
    return _plain("tree", path, require_images(path, recursive=True))


def foreign_folder(path: Path) -> tuple[Path, str] | None:
    """A folder below `path` that holds images and is named like those of no normal material, and what it seems to hold;
    None where there is none."""
    for folder in dict.fromkeys(image.parent for image in find_images(path, recursive=True).images):
        for part in folder.relative_to(path).parts:
            if held := FOREIGN_FOLDERS.get(part.casefold()):
                return folder, held
    return None


def _kinds(folder: Path) -> dict[str, Path]:
    """Sub-folders by name; none when the folder does not exist."""
    return {child.name: child for child in subfolders(folder)} if folder.is_dir() else {}


def _child(folder: Path | None, name: str) -> Path | None:
    """The sub-folder of that name in whatever case, if there is one."""
    children = subfolders(folder) if folder else []
    return next((child for child in children if child.name.casefold() == name), None)


def _good(found: Found) -> tuple[Sample, ...]:
    return tuple(Sample(image, None, False, GOOD) for image in found.images)


def _judged(found: Found, masks: Path | None, kind: str) -> list[Sample]:
    """Test samples of one kind, with their masks if there is a folder of them."""
    samples = [Sample(image, None, kind != GOOD, kind) for image in found.images]
    return list(pair_masks(samples, masks)) if masks else samples


def _plain(name: str, root: Path, found: Found) -> DataSet:
    return DataSet(name, root, _good(found), (), found.ignored)


def _structured(name: str, root: Path, found: list[Found], test: list[Sample]) -> DataSet:
    """A data set of several folders, normal images in the first of them; files beside them are ignored."""
    beside = find_images(root, recursive=False)
    ignored = [path for part in found for path in part.ignored]
    return DataSet(name, root, _good(found[0]), tuple(test), (*beside.images, *beside.ignored, *ignored))


def _in_order(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    return tuple(sorted(samples, key=lambda sample: natural_key(sample.image.as_posix())))
