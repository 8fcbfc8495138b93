"""Write a trained and calibrated detector as one ONNX file."""

import contextlib
import copy
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inspect_gan.detector import Detector
from inspect_gan.errors import InspectGanError
from inspect_gan.export.scorer import INPUT, METADATA, SUFFIX, describe, open_session, run_session
from inspect_gan.imaging import atomic_bytes, make_folder
from inspect_gan.imaging.preprocess import Preprocess
from inspect_gan.inspector import Inspector

# Largest difference between the exported and the trained network's scores of normal patches, relative to the largest
# score. Rounding of float32 makes some 1e-7 of it, some 1e-4 in structural similarity, which divides small variances; a
# wrongly exported operation far more.
TOLERANCE = 1e-3


def export_onnx(
    inspector: Inspector,
    out: Path,
    *,
    score: str | None = None,
    stride: int | None = None,
    target_fpr: float | None = None,
) -> float:
    """Write preprocessing, score and threshold as one file; what is not given is the run's own.

    The graph takes patches (n, S, S, C) float32 as `Preprocess.image` makes them, for any n, and gives the score, (n,)
    or per pixel (n, S, S); it computes in float32, the threshold is measured in float32 too. Returns the largest
    relative difference between its scores of the run's held-out patches and the detector's. Raises InspectGanError,
    and leaves no file, when that passes TOLERANCE, for a detector that optimises at inference, and without the packages
    that export needs.
    """
    if out.suffix.lower() != SUFFIX:
        raise InspectGanError(f"{out} must end in {SUFFIX}")
    detector, preprocess = inspector.predictor.detector, inspector.predictor.preprocess
    if detector.searches:
        raise InspectGanError(
            f"{inspector.name} is a {inspector.detector_name}: it searches the latent code of every patch by gradient "
            f"descent, which no exported graph can do. Inspect with the run directory, or train a detector that has an "
            f"encoder, such as fanogan"
        )
    calibration = inspector.calibration(score, stride, target_fpr, precision="32-true")
    scorer = PatchScorer(copy.deepcopy(detector), preprocess, calibration.score).cpu().eval()
    patches = inspector.held_out_patches()
    model = _traced(scorer, torch.from_numpy(patches[:2]))
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, describe(inspector, calibration)
    content = model.SerializeToString()
    difference = _difference(scorer, content, patches, calibration.score)
    if not difference <= TOLERANCE:
        raise InspectGanError(
            f"the exported graph scores held-out patches differently from the detector: by {difference:.2g} of the "
            f"largest score, {TOLERANCE:g} is allowed. {out} was not written; use the run directory instead"
        )
    make_folder(out.parent)
    atomic_bytes(out, content)
    return difference


class PatchScorer(nn.Module):
    """(n, S, S, C) -> (n,), or (n, S, S) for a score with a value per pixel."""

    def __init__(self, detector: Detector, preprocess: Preprocess, score: str):
        super().__init__()
        self.detector = detector
        self._preprocess = preprocess
        self._score = score

    def forward(self, patches: Tensor) -> Tensor:
        scores = self.detector.scores(self._preprocess.tensor(patches), [self._score])
        if self._score in scores.maps:
            return scores.maps[self._score].squeeze(1)
        return scores.patch[self._score]


def _traced(scorer: PatchScorer, example: Tensor) -> Any:
    """The graph as an `onnx.ModelProto`."""
    try:
        import onnx  # noqa: F401  what the exporter needs
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InspectGanError(f"export needs the package {error.name}: pip install 'inspect-gan[export]'") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            scorer,
            (example,),
            input_names=[INPUT],
            output_names=[scorer._score],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _difference(scorer: PatchScorer, content: bytes, patches: np.ndarray, score: str) -> float:
    exported = run_session(open_session(content), patches, [score])[score]
    with torch.inference_mode():
        wanted = scorer(torch.from_numpy(patches)).numpy()
    return float(np.abs(exported - wanted).max() / np.abs(wanted).max())
