"""Open a folder or a list file as a data set.

With layout "auto" every layout in `layouts.LAYOUTS` is asked whether the path looks like it. A file is a
list. For a folder the answers are narrowed until one remains:

1. Structures with folder names of their own (mvtec, nanotwice, labelled) win over patches, folder and tree.
2. patches (all images, also in sub-folders, are squares of one size up to 256 px) wins over folder and tree.
3. Images both in the folder and in its sub-folders fit folder and tree: an error that names both.

Sub-folders named like masks, defective images or a test set are never trained on unless the layout is chosen by name.
"""

import os
from difflib import get_close_matches
from pathlib import Path

from inspect_gan.datasets.layouts import LAYOUTS, LIST_SUFFIXES, foreign_folder
from inspect_gan.datasets.samples import DataSet, Sample, find_images, pair_masks, require_images
from inspect_gan.errors import InspectGanError

__all__ = ["DataSet", "Sample", "detect_layout", "find_images", "open_dataset", "pair_masks"]

_UNNAMED = ("patches", "folder", "tree")  # layouts without folder names of their own


def open_dataset(path: Path | str, layout: str = "auto") -> DataSet:
    """Find the samples of a data set; no image is decoded.

    layout: a name in `LAYOUTS`, or "auto" to detect it as the module describes.

    Raises InspectGanError when the path does not exist, holds no images, fits no layout or several, or when
    its images and masks do not pair.
    """
    path = Path(path)
    if not os.path.exists(path):
        raise InspectGanError(f"{path}: no such file or folder; check the path")
    if layout != "auto" and layout not in LAYOUTS:
        close = get_close_matches(layout, LAYOUTS, n=1)
        hint = f"did you mean {close[0]}?" if close else "choose one of these"
        raise InspectGanError(f"layout {layout!r} is none of {', '.join(['auto', *LAYOUTS])}; {hint}")
    name = detect_layout(path) if layout == "auto" else layout
    if path.is_file() != (name == "list"):
        wanted = "a list file" if name == "list" else "a folder"
        raise InspectGanError(f"{path}: layout {name} needs {wanted}; name one, or choose layout auto")
    return LAYOUTS[name].read(path)


def detect_layout(path: Path) -> str:
    """The one layout an existing path has by the rules above. Raises InspectGanError for none or several."""
    if path.is_file():
        if path.suffix.lower() not in LIST_SUFFIXES:
            raise InspectGanError(f"{path}: a single file; name its folder, or a .txt or .csv list of images")
        return "list"
    fitting = [name for name, layout in LAYOUTS.items() if layout.detect(path)]
    if structured := [name for name in fitting if name not in _UNNAMED]:
        fitting = structured
    elif "patches" in fitting:
        fitting = ["patches"]
    elif not fitting:
        require_images(path, recursive=True)  # says what the folder holds instead
    if len(fitting) > 1:
        raise InspectGanError(f"{path}: fits several layouts; choose {_by_name(fitting)}")
    if fitting[0] in _UNNAMED and (foreign := foreign_folder(path)):
        folder, held = foreign
        raise InspectGanError(
            f"{path}: {folder.relative_to(path)} seems to hold {held}, which must not be trained on; name "
            f"the folder of normal images, or choose {_by_name(fitting)}"
        )
    return fitting[0]


def _by_name(layouts: list[str]) -> str:
    """How to choose one of several layouts, for a message."""
    training, elsewhere = (" or ".join(f"{key}{name}" for name in layouts) for key in ("data.layout=", "--layout "))
    return f"{training} in training, {elsewhere} elsewhere"
