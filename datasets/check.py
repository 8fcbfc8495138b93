"""What a data set really holds: decode every file, count, and find what would spoil training or judgement."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from inspect_gan.datasets.samples import DataSet, Sample, names
from inspect_gan.errors import InspectGanError
from inspect_gan.imaging.reading import RawImage, read_raw, to_mask

T = TypeVar("T")

_LINES = 20  # problems or warnings printed before "and n more"
_COUNTS = 6  # sizes or kinds printed before "and n more"


@dataclass
class Report:
    """Findings of `check_dataset`.

    train, test, masks: numbers of files. kinds: test images by kind. sizes: readable images by (height,
    width) px. bit_depths, channels: readable images by each. problems: what makes the data set unusable as it
    is. warnings: what is legal but often a mistake.
    """

    layout: str
    root: Path
    train: int
    test: int
    masks: int
    kinds: Counter[str]
    ignored: tuple[Path, ...]
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    bit_depths: Counter[int] = field(default_factory=Counter)
    channels: Counter[int] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The report as plain lines for a terminal."""
        kinds = f": {_counts(self.kinds, lambda kind: kind or 'unknown')}" if self.test else ""
        lines = [
            f"data set:  {self.root} (layout {self.layout})",
            f"training:  {self.train} images",
            f"test:      {self.test} images, {self.masks} masks{kinds}",
            f"sizes:     {_counts(self.sizes, lambda size: f'{size[1]} x {size[0]}')}",
            f"bit depth: {_counts(self.bit_depths, str)}",
            f"channels:  {_counts(self.channels, lambda c: 'grey' if c == 1 else 'RGB')}",
            f"ignored:   {len(self.ignored)} files" + (f" ({names(self.ignored)})" if self.ignored else ""),
        ]
        for title, entries in (("warning", self.warnings), ("problem", self.problems)):
            lines += [f"{title}: {entry}" for entry in entries[:_LINES]]
            if len(entries) > _LINES:
                lines.append(f"{title}: and {len(entries) - _LINES} more")
        return "\n".join([*lines, f"{len(self.problems)} problems, {len(self.warnings)} warnings"])


def check_dataset(dataset: DataSet, page: int | None = None) -> Report:
    """Decode every image and mask of a data set and compare them. page: of multi-page images, counted from 1.

    Problems: no training images; files that cannot be read; masks of another size, coloured, empty although
    the image is defective, or marked although it is good; an image with the same pixels in training and test.
    Warnings: masks with more than two values, or over half the image; the same pixels twice within training
    or test; mixed bit depths or channels; defective images without a mask where others have one; a mask of several
    images. Images are compared by their pixels, so a copy in another file format is found.
    """
    masks = [sample for sample in dataset.test if sample.mask]
    report = Report(
        layout=dataset.layout,
        root=dataset.root,
        train=len(dataset.train),
        test=len(dataset.test),
        masks=len(masks),
        kinds=Counter(sample.kind for sample in dataset.test),
        ignored=dataset.ignored,
    )
    if not dataset.train:
        report.problems.append("there are no training images; add normal images")
    train = _check_samples(report, dataset.train, page)
    test = _check_samples(report, dataset.test, page)
    for digest in train.keys() & test.keys():
        report.problems.append(
            f"{test[digest][0]} shows the same pixels as the training image {train[digest][0]}; remove one "
            "of them, or the evaluation judges what was learnt"
        )
    report.problems.sort()
    for part in (train, test):
        report.warnings += [f"{names(copies)} show the same pixels" for copies in part.values() if len(copies) > 1]
    bare = [sample.image for sample in dataset.test if sample.defective and not sample.mask]
    if masks and bare:
        report.warnings.append(f"{len(bare)} defective images have no mask ({names(bare)})")
    owners: dict[str, list[Path]] = {}
    for sample in dataset.test:
        if sample.mask:
            owners.setdefault(os.path.realpath(sample.mask), []).append(sample.image)
    report.warnings += [
        f"{names(images)} have the same mask, {names([Path(mask)])}" for mask, images in owners.items() if images[1:]
    ]
    for what, counts in (("bit depths", report.bit_depths), ("channels", report.channels)):
        if len(counts) > 1:
            report.warnings.append(f"{what} are mixed ({_counts(counts, str)})")
    return report


def _check_samples(report: Report, samples: Iterable[Sample], page: int | None) -> dict[bytes, list[Path]]:
    """Read samples into the report's counts and findings; returns the images by digest of their pixels."""
    digests: dict[bytes, list[Path]] = {}
    for sample in samples:
        shape = None
        try:
            raw = read_raw(sample.image, page)
        except InspectGanError as error:
            report.problems.append(str(error))
        else:
            height, width, channels = raw.array.shape
            shape = height, width
            report.sizes[shape] += 1
            report.bit_depths[raw.bit_depth] += 1
            report.channels[channels] += 1
            digests.setdefault(_digest(raw), []).append(sample.image)
        if sample.mask:
            _check_mask(report, sample, sample.mask, shape)
    return digests


def _check_mask(report: Report, sample: Sample, path: Path, shape: tuple[int, int] | None) -> None:
    try:
        raw = read_raw(path)
        mask = to_mask(raw, shape)
    except InspectGanError as error:
        report.problems.append(str(error))
        return
    if sample.defective and not mask.any():
        report.problems.append(f"{path}: the mask is empty although {sample.image.name} counts as defective")
    if sample.defective is False and mask.any():
        report.problems.append(f"{path}: the mask marks a defect although {sample.image.name} counts as good")
    if mask.mean() > 0.5:
        report.warnings.append(f"{path}: the mask marks {mask.mean():.0%} of the image; is it inverted?")
    if len(values := np.unique(raw.array)) > 2:
        report.warnings.append(
            f"{path}: the mask has {len(values)} different values; those above half range count as defective"
        )


def _digest(raw: RawImage) -> bytes:
    header = f"{raw.array.dtype.str}{raw.array.shape}".encode()
    return hashlib.blake2b(header + raw.array.tobytes(), digest_size=16).digest()


def _counts(counts: Counter[T], name: Callable[[T], str]) -> str:
    """ "512 x 512 (40), 256 x 256 (2)", most frequent first."""
    listed = [f"{name(value)} ({count})" for value, count in counts.most_common(_COUNTS)]
    more = [f"and {len(counts) - _COUNTS} more"] if len(counts) > _COUNTS else []
    return ", ".join(listed + more) or "none"
