"""Makes the files that later versions must be able to read: `python tests/compatibility/make.py [DETECTOR ...]`, once
per format, of all detectors unless some are named.

Those of earlier formats are never made again: they prove that what was written long ago still gives the same maps.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

from inspect_gan.config import load_config
from inspect_gan.datasets.nanofibres import render
from inspect_gan.detector import detectors
from inspect_gan.export.write import export_scorer
from inspect_gan.inspector import Inspector
from inspect_gan.run import FORMAT

SETTINGS = (
    *("detector.width=2", "detector.nz=4", "training.batch_size=4", "training.steps=6"),
    *("scoring.stride=16", "scoring.precision=32-true", "scoring.target_fpr=0.2"),
)


def main() -> None:
    out = Path(__file__).parent / FORMAT
    out.mkdir()
    good = [render(160, 160, seed).pixels for seed in range(2)]
    image = render(64, 48, 2, defects=["clump"]).pixels
    for name in sys.argv[1:] or detectors.names():
        own = ["detector.search_steps=3"] if name == "anogan" else []
        with tempfile.TemporaryDirectory() as folder:
            inspector = Inspector.fit(good, load_config(name, [*SETTINGS, *own]), out=Path(folder) / "run")
            maps = {score: inspector.inspect(image, score=score).map for score in ("res_ssim", "default")}
            inspector.save(out / name)
        np.savez_compressed(out / name / "expected.npz", image=image, **maps)
    export_scorer(Inspector.load(out / "ganomaly"), out / "ganomaly.onnx")


if __name__ == "__main__":
    main()
