"""A finished inspection to report on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inspect_gan.reporting.tables import Inspection
from inspect_gan.scoring.regions import Limits, find_regions


@pytest.fixture
def inspection(tmp_path: Path) -> Callable[..., Inspection]:
    """Builds an inspection of a 20 x 10 image with one NG and one REVIEW region; fields can be replaced."""

    def build(name: str = "part.png", **fields: Any) -> Inspection:
        scores = np.zeros((10, 20), dtype=np.float32)
        scores[1:4, 2:6] = 1.7
        scores[2, 3] = 2.1
        scores[7:9, 10:15] = 1.1
        given: dict[str, Any] = {
            "image": tmp_path / "images" / name,
            "seconds": 0.25,
            "width": 20,
            "height": 10,
            "bit_depth": 16,
            "map_max": float(scores.max()),
            "regions": find_regions(scores, Limits(area=5, peak=1.5), um_per_px=0.5),
            "um_per_px": 0.5,
            "um_per_px_origin": "FEI metadata",
            "map": tmp_path / "report" / "maps" / f"{name}.tiff",
            "overlay": tmp_path / "report" / "overlays" / name,
            "mask": tmp_path / "report" / "masks" / name,
        }
        return Inspection(**{**given, **fields})

    return build
