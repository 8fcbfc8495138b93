"""The data sets of a sweep: their files, and a digest of what is in them."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inspect_gan.ablation.grid import DataEntry, DrawnData
from inspect_gan.datasets import open_dataset, pair_masks
from inspect_gan.datasets.made import is_complete
from inspect_gan.datasets.nanofibres import write_dataset
from inspect_gan.datasets.samples import Sample
from inspect_gan.errors import InspectGanError
from inspect_gan.run import sha256

UNDRAWN = "not drawn yet"  # how the digest begins of a data set whose synthetic images a dry run does not draw


@dataclass(frozen=True)
class DataFiles:
    """digest: of the contents of all files and their roles, whatever they are called and wherever they lie."""

    train: tuple[Path, ...]
    test: tuple[Sample, ...]
    digest: str

    def to_json(self) -> dict[str, Any]:
        return {
            "digest": self.digest,
            "train": [str(path) for path in self.train],
            "test": [
                [str(sample.image), sample.mask and str(sample.mask), sample.defective, sample.kind]
                for sample in self.test
            ],
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "DataFiles":
        samples = tuple(
            Sample(Path(image), mask and Path(mask), defective, kind) for image, mask, defective, kind in values["test"]
        )
        return cls(tuple(map(Path, values["train"])), samples, values["digest"])


def open_data(name: str, entry: DataEntry, drawings: Path, *, draw: bool = True) -> DataFiles:
    """Find the files of a data set and hash them.

    drawings: folder for synthetic images, drawn there unless they are already. draw: False leaves them undrawn.
    Raises InspectGanError without training images, without test images, or where the truth of one is unknown.
    """
    if entry.draw is not None:
        folder = drawings / _drawing(entry.draw)
        if not is_complete(folder):
            if not draw:
                return DataFiles((), (), f"{UNDRAWN}: {entry.model_dump_json()}")
            shutil.rmtree(folder, ignore_errors=True)  # what an interrupted drawing left
            write_dataset(folder, **entry.draw.model_dump())
        entry = entry.model_copy(update={"train": folder})
    assert entry.train is not None
    dataset = open_dataset(entry.train.absolute(), entry.layout)
    test = dataset.test
    if entry.test is not None:
        given = entry.test.absolute()
        test = open_dataset(given).test if entry.masks is None else pair_masks(given, entry.masks.absolute())
    elif entry.masks is not None:
        test = pair_masks(dataset.test, entry.masks.absolute())
    train = tuple(sample.image for sample in dataset.train)
    for samples, part in ((train, "training"), (test, "test")):
        if not samples:
            raise InspectGanError(f"data set '{name}' has no {part} images: {entry.train}, see data.{name}")
    for sample in test:
        if sample.mask is None and sample.defective is not False:
            raise InspectGanError(f"{sample.image} has no ground-truth mask: name their folder as data.{name}.masks")
    return DataFiles(train, test, _digest(train, test))


def _digest(train: tuple[Path, ...], test: tuple[Sample, ...]) -> str:
    learned = [sha256(path) for path in train]
    tested = [[sha256(one.image), one.mask and sha256(one.mask), one.defective, one.kind] for one in test]
    return hashlib.sha256(json.dumps([learned, tested]).encode()).hexdigest()


def _drawing(draw: DrawnData) -> str:
    return "nanofibres-" + "-".join(f"{value}" for value in draw.model_dump().values())
