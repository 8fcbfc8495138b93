"""Samples of a data set, the search for image files, and the pairing of images with masks."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from inspect_gan.errors import InspectGanError, printable
from inspect_gan.imaging.reading import IMAGE_SUFFIXES

GOOD = "good"  # the kind of every normal sample
MASK_SUFFIXES = ("_mask", "_gt", "-mask", "_label")
_STEM_BYTES = 200  # file systems allow 255 for a name, and numbers and suffixes are added
_SHOWN = 5  # names listed in a message before "and n more"


@dataclass(frozen=True)
class Sample:
    """One image of a data set.

    mask: ground truth, None when there is none. defective: None when only the mask can tell.
    kind: "good", the name of the defect kind, or "" when unknown.
    """

    image: Path
    mask: Path | None
    defective: bool | None
    kind: str


@dataclass(frozen=True)
class DataSet:
    """Samples in natural order of their names ("2.png" before "10.png"), the same on every platform.

    layout: the name it was opened under.
    train: normal samples to learn from; test: the samples to judge, normal or not.
    ignored: files and hidden folders of the searched folders that are not images of the data set.
    """

    layout: str
    root: Path
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]
    ignored: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Found:
    """Image files of a folder in natural order, and the entries that were passed over."""

    images: tuple[Path, ...]
    ignored: tuple[Path, ...]


def natural_key(name: str) -> tuple[tuple[str | int, ...], str]:
    """Sort key that compares digits by value and letters without case; the name itself breaks ties."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), name


def find_images(folder: Path, *, recursive: bool) -> Found:
    """Image files (by suffix) of a folder, or also of its sub-folders.

    Hidden entries and files with other suffixes are ignored; symbolic links are followed, loops of them are
    not. Raises InspectGanError when a folder cannot be listed.
    """
    images: list[Path] = []
    ignored: list[Path] = []
    for path, is_image in _walk(folder, recursive):
        (images if is_image else ignored).append(path)
    return Found(tuple(_sorted(images, folder)), tuple(_sorted(ignored, folder)))


def require_images(folder: Path, *, recursive: bool) -> Found:
    """`find_images`, with an InspectGanError that tells what the folder holds when it holds no image."""
    found = find_images(folder, recursive=recursive)
    if not found.images:
        holds = f"{len(found.ignored)} other files ({names(found.ignored)})" if found.ignored else "no files"
        suffixes = " ".join(sorted(IMAGE_SUFFIXES))
        raise InspectGanError(f"{folder}: no images, {holds}; name a folder of images ({suffixes})")
    return found


def subfolders(folder: Path) -> list[Path]:
    """Visible sub-folders in natural order."""
    found = [path for path, is_folder in _entries(folder) if is_folder and not _is_hidden(path)]
    return _sorted(found, folder)


def pair_masks(images: Path | Sequence[Sample], masks_dir: Path) -> tuple[Sample, ...]:
    """Give every image its mask by name, never by position.

    images: samples, or a folder that is searched with its sub-folders (`defective` is then None, `kind` "").
    masks_dir: a folder of masks, searched with its sub-folders. The mask of `name.tif` is called `name`,
    `name_mask`, `name_gt`, `name-mask` or `name_label`, with any image suffix.

    Raises InspectGanError unless every image has exactly one mask and every mask exactly one image.
    """
    if isinstance(images, Path):
        images = [Sample(path, None, None, "") for path in require_images(images, recursive=True).images]
    by_stem = _by_stem(images)
    masks: dict[str, list[Path]] = {}
    orphans = []
    for mask in require_images(masks_dir, recursive=True).images:
        owner = _owner(mask, by_stem)
        if owner is None:
            orphans.append(mask)
        else:
            masks.setdefault(owner, []).append(mask)
    missing = [sample.image for stem, sample in by_stem.items() if stem not in masks]
    own = [
        sample.image
        for stem, sample in by_stem.items()
        if os.path.realpath(sample.image) in map(os.path.realpath, masks.get(stem, ()))
    ]
    rivals = [mask for several in masks.values() if len(several) > 1 for mask in several]
    faults = [
        f"{len(paths)} {what} ({names(paths)})"
        for paths, what in (
            (missing, "images without a mask"),
            (orphans, "masks without an image"),
            (rivals, "masks competing for one image"),
            (own, "images that would be their own mask"),
        )
        if paths
    ]
    if faults:
        raise InspectGanError(
            f"{masks_dir}: the masks do not pair with the {len(images)} images: {', '.join(faults)}; the "
            "mask of x.png must be called x.png, x_mask.png or x_gt.png"
        )
    return tuple(replace(sample, mask=masks[stem][0]) for stem, sample in by_stem.items())


class Stems:
    """File stems for the names of what is made of each file, numbered where two files of different folders or types
    share one, also on file systems that do not tell case or forms of accents apart. Too long ones are cut."""

    def __init__(self, taken: Iterable[str] = ()):
        self._taken = set(map(_folded, taken))

    def free(self, path: Path) -> str:
        """The stem for a file, which stays free until it is taken."""
        stem = path.stem
        while len(os.fsencode(stem)) > _STEM_BYTES:
            stem = stem[:-1]
        choices = (stem if n == 1 else f"{stem}-{n}" for n in count(1))
        return next(name for name in choices if _folded(name) not in self._taken)

    def take(self, stem: str) -> None:
        self._taken.add(_folded(stem))


def unique_stems(paths: Iterable[Path]) -> list[str]:
    """A stem of its own for each file, see `Stems`."""
    stems, chosen = Stems(), []
    for path in paths:
        chosen.append(stems.free(path))
        stems.take(chosen[-1])
    return chosen


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def names(paths: Iterable[Path]) -> str:
    """The first few file names, for a message."""
    listed = [printable(path.name) for path in paths]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more


def _walk(folder: Path, recursive: bool) -> Iterator[tuple[Path, bool]]:
    """(path, is an image) of files and hidden folders. A folder that links lead to again is searched once: links can be
    endless, or lead to one image in more ways than can be counted."""
    searched: set[str] = set()
    folders, links = [folder], list[Path]()
    while folders or links:
        # Links last, so that images are found where they lie.
        here = folders.pop() if folders else links.pop(links.index(min(links)))
        real = os.path.realpath(here)
        if real in searched:
            continue
        searched.add(real)
        for path, is_folder in _entries(here):
            if not is_folder:
                yield path, path.suffix.lower() in IMAGE_SUFFIXES and not _is_hidden(path)
            elif _is_hidden(path):
                yield path, False
            elif recursive:
                (links if path.is_symlink() else folders).append(path)


def _entries(folder: Path) -> list[tuple[Path, bool]]:
    """(path, is a folder) of everything in a folder."""
    try:
        with os.scandir(folder) as entries:
            # For a link isdir is asked, which answers no instead of failing when the link leads nowhere.
            return [
                (folder / entry.name, os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir())
                for entry in entries
            ]
    except OSError as error:
        raise InspectGanError(
            f"{folder}: cannot be listed ({error.strerror}); check the path and its permissions"
        ) from error


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.name == "__MACOSX"


def _sorted(paths: Iterable[Path], root: Path) -> list[Path]:
    return sorted(paths, key=lambda path: natural_key(path.relative_to(root).as_posix()))


def _stem(path: Path) -> str:
    """File name without suffix; accents in one form, since file systems differ in how they store them."""
    return unicodedata.normalize("NFC", path.stem)


def _by_stem(samples: Sequence[Sample]) -> dict[str, Sample]:
    counts = Counter(_stem(sample.image) for sample in samples)
    if twice := [sample.image for sample in samples if counts[_stem(sample.image)] > 1]:
        raise InspectGanError(
            f"{twice[0].parent}: {len(twice)} images share a name but for folder or suffix ({names(twice)}), "
            "so their masks cannot be told apart; rename them, or pair one folder at a time"
        )
    return {_stem(sample.image): sample for sample in samples}


def _owner(mask: Path, stems: Iterable[str]) -> str | None:
    """The image stem a mask belongs to: its own stem if an image has it, else that without a mask suffix."""
    stem = _stem(mask)
    candidates = [stem, *(stem.removesuffix(suffix) for suffix in MASK_SUFFIXES if stem.endswith(suffix))]
    return next((name for name in candidates if name in stems), None)
